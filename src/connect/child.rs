//! Runs one program under a time limit that the program cannot extend.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use zeroize::Zeroizing;

use crate::wiped::Buffer;

/// Bytes kept of each output. The rest is read and dropped.
pub(super) const OUTPUT_CAP: usize = 16 * 1024;
/// How often to check whether the program has ended, while its pipes are silent.
const TICK: Duration = Duration::from_millis(20);
/// How long to wait for a killed program before it is left to the system.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// What to run.
pub(super) struct Program<'a> {
    /// Absolute path of the program, then its arguments.
    pub(super) argv: &'a [String],
    /// All variables of its environment.
    pub(super) environment: &'a [(&'static str, &'a str)],
    /// User and group to run as; `None` means our own.
    pub(super) owner: Option<(u32, u32)>,
    /// Data for its standard input.
    pub(super) input: &'a [u8],
    /// Time after which it is killed.
    pub(super) limit: Duration,
    /// Set by another thread to kill the program earlier.
    pub(super) stop: &'a AtomicBool,
}

/// How the program ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Code(i32),
    Signal(i32),
    TimedOut,
    /// Killed because [`Program::stop`] was set.
    Stopped,
}

/// One captured output.
pub(super) struct Output {
    pub(super) bytes: Buffer,
    /// Whether there was more output than [`OUTPUT_CAP`].
    pub(super) cut: bool,
}

/// The result of a run.
pub(super) struct Finished {
    pub(super) ending: Ending,
    pub(super) stdout: Output,
    pub(super) stderr: Output,
}

/// Runs `program` in its own process group and waits for its end, but not for the end of its pipes. So a child in the
/// background delays nobody; it is killed with the group. Returns at most [`LAST_WAIT`] after the limit.
///
/// # Errors
/// The kind of the error when the program cannot be started.
pub(super) fn run(program: &Program<'_>) -> Result<Finished, ErrorKind> {
    let (path, arguments) = program.argv.split_first().ok_or(ErrorKind::InvalidInput)?;
    let mut command = Command::new(path);
    command
        .args(arguments)
        .env_clear()
        .envs(program.environment.iter().copied())
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    if let Some((uid, gid)) = program.owner {
        // The standard library also drops the supplementary groups of root here.
        command.uid(uid).gid(gid);
    }
    if program.stop.load(Ordering::SeqCst) {
        let nothing = || Output { bytes: Buffer::new(), cut: false };
        return Ok(Finished { ending: Ending::Stopped, stdout: nothing(), stderr: nothing() });
    }
    let mut child = command.spawn().map_err(|error| error.kind())?;
    let outcome = converse(&mut child, program);
    let gone = end(&mut child);
    let (stdout, stderr, cut) = outcome;
    let ending = match (cut, gone) {
        (Some(cut), _) => cut,
        (None, Some(status)) => match (status.code(), status.signal()) {
            (Some(code), _) => Ending::Code(code),
            (None, Some(signal)) => Ending::Signal(signal),
            (None, None) => Ending::TimedOut,
        },
        (None, None) => Ending::TimedOut,
    };
    Ok(Finished { ending, stdout, stderr })
}

/// Writes the input and collects the outputs until the program ends. The third result says why the program has to be
/// killed instead.
fn converse(child: &mut Child, program: &Program<'_>) -> (Output, Output, Option<Ending>) {
    let mut input = child.stdin.take();
    let mut rest = program.input;
    let mut stdout = Reader::new(child.stdout.take());
    let mut stderr = Reader::new(child.stderr.take());
    if let Some(pipe) = &input {
        unblock(pipe);
    }
    let deadline = now().checked_add(program.limit);
    let cut = loop {
        if program.stop.load(Ordering::SeqCst) {
            break Some(Ending::Stopped);
        }
        let left = deadline.map_or(Duration::ZERO, |deadline| deadline.saturating_duration_since(now()));
        if left.is_zero() {
            break Some(Ending::TimedOut);
        }
        wait_for(input.as_ref(), &stdout, &stderr, left.min(TICK));
        if let Some(pipe) = &mut input {
            match pipe.write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                // The program does not read its input. That is allowed.
                Err(_) => rest = &[],
            }
            if rest.is_empty() {
                input = None;
            }
        }
        // The order matters: whatever was written before the end is read after the end was detected.
        let ended = has_ended(child);
        stdout.drain();
        stderr.drain();
        if ended {
            break None;
        }
    };
    (stdout.output, stderr.output, cut)
}

/// Sleeps until a pipe is ready, but at most for `time`.
fn wait_for<I: AsFd, P: AsFd, Q: AsFd>(input: Option<&I>, stdout: &Reader<P>, stderr: &Reader<Q>, time: Duration) {
    let mut pipes = Vec::with_capacity(3);
    pipes.extend(input.map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
    pipes.extend(stdout.pipe.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
    pipes.extend(stderr.pipe.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
    let time = Timespec { tv_sec: 0, tv_nsec: i64::from(time.subsec_nanos()) };
    // After an interrupted or failed wait the pipes are only checked earlier.
    let _ready = poll(&mut pipes, Some(&time));
}

/// Whether the program has ended. It is not reaped, so its process group keeps its number.
fn has_ended(child: &Child) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::Pid(Pid::from_child(child)), options), Ok(Some(_)))
}

/// Kills the rest of the group and reaps the program.
fn end(child: &mut Child) -> Option<std::process::ExitStatus> {
    let _all_gone = kill_process_group(Pid::from_child(child), Signal::KILL);
    let deadline = now().checked_add(LAST_WAIT)?;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if now() < deadline => std::thread::sleep(Duration::from_millis(2)),
            // The program is in an uninterruptible sleep in the kernel, for which nobody can wait.
            Ok(None) | Err(_) => return None,
        }
    }
}

/// One output pipe.
struct Reader<P> {
    pipe: Option<P>,
    output: Output,
}

impl<P: Read + AsFd> Reader<P> {
    fn new(pipe: Option<P>) -> Self {
        if let Some(pipe) = &pipe {
            unblock(pipe);
        }
        Self { pipe, output: Output { bytes: Buffer::new(), cut: false } }
    }

    /// Reads what is available, in limited portions, so that a flood of output cannot delay the time limit.
    fn drain(&mut self) {
        let mut portion = Zeroizing::new([0; 4096]);
        for _ in 0..32 {
            let Some(pipe) = &mut self.pipe else { return };
            match pipe.read(&mut portion[..]) {
                Ok(0) => self.pipe = None,
                Ok(length) => {
                    let read = portion.get(..length).unwrap_or_default();
                    let room = OUTPUT_CAP.saturating_sub(self.output.bytes.len());
                    self.output.bytes.put(read.get(..room.min(length)).unwrap_or_default());
                    self.output.cut |= length > room;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.pipe = None,
            }
        }
    }
}

/// Makes our end of a pipe non-blocking. The other end has its own flags.
fn unblock(pipe: &impl AsFd) {
    let flags = fcntl_getfl(pipe).unwrap_or(OFlags::empty());
    let set = fcntl_setfl(pipe, flags | OFlags::NONBLOCK);
    debug_assert!(set.is_ok(), "a pipe takes O_NONBLOCK");
}

#[allow(clippy::disallowed_methods)] // the time limit of a real process runs in real time
fn now() -> Instant {
    Instant::now()
}
