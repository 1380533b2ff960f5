//! Signals as events: they are blocked and read from a descriptor (signalfd(2)), so nothing runs in a handler, and each
//! comes with its origin.
//!
//! The program shares the process group with its supervisor. What the terminal sends (Ctrl-C, Ctrl-\, Ctrl-Z, hang-up,
//! a new window size) reaches both; what a process sends to the supervisor alone does not. The origin tells them apart:
//! the kernel's own signals have a positive `si_code` (sigaction(2)), those of `kill` have zero or less. What came with this
//! process is left alone, and the program inherits it: a disposition of "ignore" (`nohup`), and signals that were blocked.

use std::fmt;
use std::io;
use std::num::ParseIntError;
use std::str::FromStr;
use std::sync::mpsc::Sender;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal as Name, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::process::Signal;

/// Every signal that is taken off the ordinary way, by name as `--on-change signal=NAME` has it.
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
    // Blocked, it lets a process in the background take the terminal back, and write to it (tcsetpgrp(3)).
    ("TTOU", Name::SIGTTOU),
    ("CHLD", Name::SIGCHLD),
];

/// Signals that make sense as "your values have changed".
const FOR_CHANGES: &[&str] = &["HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "WINCH"];

/// A signal that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Which.
    pub signal: Signal,
    /// A process sent it to this process; otherwise the kernel did, to the whole group.
    pub directed: bool,
}

/// Reads `HUP`, `hup` or `SIGHUP`.
///
/// # Errors
/// Not a signal that a program could take for news; the text lists those.
pub fn parse(text: &str) -> Result<Signal, String> {
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let known = TAKEN.iter().find(|(known, _)| *known == name && FOR_CHANGES.contains(known));
    known
        .and_then(|(_, signal)| Signal::from_named_raw(*signal as i32))
        .ok_or_else(|| format!("not one of {}", FOR_CHANGES.join(", ")))
}

/// Those of the taken signals that were blocked before this process took them: its program gets them blocked, as it would
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

/// The signals as `/proc/PID/status` writes them.
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

/// Blocks the signals in this thread and all that it starts from now on, and hands them to `deliver` from a thread of
/// their own. That thread ends when nobody listens any more. Returns which of them were blocked already.
///
/// # Errors
/// The system refuses a descriptor or a thread.
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

/// Lets the signals through again but for `inherited`, in a process that [`deliver`]'s started: a program inherits what is
/// blocked.
///
/// # Errors
/// The system refuses.
pub fn let_through(inherited: Inherited) -> io::Result<()> {
    let free: SigSet = taken().iter().filter(|signal| !inherited.holds(*signal)).collect();
    Ok(free.thread_unblock()?)
}

/// Stops this process as Ctrl-Z does, and returns when it is continued. Nothing happens where no shell could continue it:
/// the kernel ignores the signal in an orphaned process group (setpgid(2)).
pub fn stop_self() {
    let mut set = SigSet::empty();
    set.add(Name::SIGTSTP);
    // Sent to this thread alone, the signal cannot be read from the descriptor of the other. Sent before it is let in, it
    // makes one stop together with one from the terminal that has not been read yet.
    if raise(Name::SIGTSTP).is_ok() && set.thread_unblock().is_ok() {
        let _ = set.thread_block();
    }
}

/// Ends this process by `number`, as the program was ended, so that whoever waits sees the same. Returns if the signal is
/// ignored or blocked otherwise, or this is the first process of a container.
pub fn end_self(number: i32) {
    let Ok(name) = Name::try_from(number) else { return };
    let mut set = SigSet::empty();
    set.add(name);
    if set.thread_unblock().is_ok() {
        // The runtime's handler of SEGV and BUS takes the first of them for a possible stack overflow, and removes itself.
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
