//! Signals as events. They are blocked and read from a descriptor (signalfd(2)), so nothing runs in a handler, and each
//! has an origin.
//!
//! The program shares the process group with its supervisor. Signals from the terminal (Ctrl-C, Ctrl-\, Ctrl-Z,
//! hang-up, a new window size) reach both. A signal that a process sends to the supervisor alone reaches only the
//! supervisor. The origin distinguishes them: the kernel's own signals have a positive `si_code` (sigaction(2)), those
//! of `kill` have zero or less. Inherited settings stay, and the program inherits them too: an "ignore" disposition
//! (`nohup`), and blocked signals.

use std::fmt;
use std::io;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::mpsc::Sender;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal as Name, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::Signal;

/// All signals that are handled as events, by their name in `--on-change signal=NAME`.
const TAKEN: &[(&str, Name)] = &[
    ("HUP", Name::SIGHUP),
    ("INT", Name::SIGINT),
    ("QUIT", Name::SIGQUIT),
    ("TERM", Name::SIGTERM),
    ("USR1", Name::SIGUSR1),
    ("USR2", Name::SIGUSR2),
    ("WINCH", Name::SIGWINCH),
    ("CONT", Name::SIGCONT),
    ("TSTP", Name::SIGTSTP),
    // While it is blocked, a process in the background may take the terminal back and write to it (tcsetpgrp(3)).
    ("TTOU", Name::SIGTTOU),
    ("CHLD", Name::SIGCHLD),
];

/// Signals that can mean "your values have changed".
const FOR_CHANGES: &[&str] = &["HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH"];

/// A signal that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// The signal.
    pub signal: Signal,
    /// Whether a process sent it to this process. Otherwise the kernel sent it to the whole group.
    pub directed: bool,
}

/// Parses `HUP`, `hup` or `SIGHUP`.
///
/// # Errors
/// The signal cannot announce a change. The text lists those that can.
pub fn parse(text: &str) -> Result<Signal, String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let known = TAKEN.iter().find(|(known, _)| *known == name && FOR_CHANGES.contains(known));
    known
        .and_then(|(_, signal)| Signal::from_named_raw(*signal as i32))
        .ok_or_else(|| format!("not one of {}", FOR_CHANGES.join(", ")))
}

/// The handled signals that were blocked before this process blocked them. Its program gets them blocked, as it would
/// without a supervisor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Inherited(u64);

impl Inherited {
    fn of(before: &SigSet) -> Self {
        let kept = TAKEN.iter().filter(|(_, signal)| before.contains(*signal));
        Self(kept.fold(0, |bits, (_, signal)| bits | 1 << (*signal as i32 - 1)))
    }

    fn holds(self, signal: Name) -> bool {
        self.0 & 1 << (signal as i32 - 1) != 0
    }
}

/// The signals in the format of `/proc/PID/status`.
impl fmt::Display for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Inherited {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

/// Blocks the signals in this thread and in all threads that it starts later, and passes them to `deliver` from a
/// thread of their own. That thread ends when nobody listens any more. Returns which signals were blocked already.
///
/// # Errors
/// The system cannot provide a descriptor or a thread.
pub fn deliver<E: Send + 'static>(
    to: Sender<E>,
    event: impl Fn(Received) -> E + Send + 'static,
) -> io::Result<Inherited> {
    let set = taken();
    let before = set.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let descriptor = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)?;
    let listen = move || {
        loop {
            let info = match descriptor.read_signal() {
                Ok(Some(info)) => info,
                Ok(None) | Err(Errno::EINTR) => continue,
                Err(_) => return,
            };
            let number = i32::try_from(info.ssi_signo).ok();
            let Some(signal) = number.and_then(Signal::from_named_raw) else { continue };
            if to.send(event(Received { signal, directed: info.ssi_code <= 0 })).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen)?;
    Ok(Inherited::of(&before))
}

fn taken() -> SigSet {
    TAKEN.iter().map(|(_, signal)| *signal).collect()
}

/// Unblocks the signals except `inherited`, in a process that was started by one with [`deliver`]. A program inherits
/// blocked signals.
///
/// # Errors
/// The system call fails.
pub fn let_through(inherited: Inherited) -> io::Result<()> {
    let free: SigSet = taken().iter().filter(|signal| !inherited.holds(*signal)).collect();
    Ok(free.thread_unblock()?)
}

/// Stops this process as Ctrl-Z does, and returns when it is continued. Does nothing if no shell could continue it: the
/// kernel ignores the signal in an orphaned process group (setpgid(2)).
pub fn stop_self() {
    let mut set = SigSet::empty();
    set.add(Name::SIGTSTP);
    // Sent to this thread alone, so that the other thread's descriptor does not read it. Sent before it is unblocked,
    // so that it causes one stop together with one from the terminal that was not read yet.
    if raise(Name::SIGTSTP).is_ok() && set.thread_unblock().is_ok() {
        let _ = set.thread_block();
    }
}

/// Ends this process by signal `number`, as the program ended, so that the parent sees the same. Returns if the signal
/// is ignored or blocked elsewhere, or if this is the first process of a container.
pub fn end_self(number: i32) {
    let Ok(name) = Name::try_from(number) else { return };
    let mut set = SigSet::empty();
    set.add(name);
    if set.thread_unblock().is_ok() {
        // The runtime's handler takes the first SEGV or BUS for a possible stack overflow, and then removes itself.
        for _ in 0..2 {
            let _ = raise(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_blocked_before_travels_as_text() {
        let before: SigSet = [Name::SIGINT, Name::SIGTERM, Name::SIGALRM, Name::SIGCHLD].into_iter().collect();
        let inherited = Inherited::of(&before);
        assert_eq!(inherited.to_string(), "0000000000014002", "SIGALRM is not taken, so it need not be remembered");
        assert_eq!(inherited.to_string().parse(), Ok(inherited));
        assert!(inherited.holds(Name::SIGTERM) && !inherited.holds(Name::SIGHUP) && !inherited.holds(Name::SIGALRM));
        assert!("".parse::<Inherited>().is_err() && "x".parse::<Inherited>().is_err());
    }

    #[test]
    fn reads_names_of_signals() {
        for text in ["HUP", "hup", "SIGHUP", "sighup"] {
            assert_eq!(parse(text), Ok(Signal::HUP), "{text}");
        }
        assert_eq!(parse("USR2"), Ok(Signal::USR2));
        for text in ["", "SIG", "KILL", "STOP", "CHLD", "1", "SIGSIGHUP", "HUP "] {
            assert!(parse(text).unwrap_err().contains("HUP, INT"), "{text}");
        }
    }
}
