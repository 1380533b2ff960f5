//! `strongroomd`, the daemon.

use std::process::ExitCode;

use strongroom::daemon::{self, args::Arguments, log};
use strongroom::os;

/// Request and reply buffers, whoever allocates them, are overwritten when they are freed.
#[global_allocator]
static ALLOCATOR: os::WipingAllocator = os::WipingAllocator;

fn main() -> ExitCode {
    let key_memory = os::harden();
    os::let_through(&[libc::SIGTERM, libc::SIGINT, libc::SIGHUP]);
    log::quiet_panics();
    daemon::run(Arguments::of_process(), key_memory)
}
