//! `run --watch`: stays the parent of the program, and restarts or signals it when its values change.
//!
//! Two threads send events to a third. Only the main thread starts, signals and reaps the program (`supervisor` decides
//! what to do). `signals` delivers signals from other processes, and `changes` asks the vault. In addition `renewer`
//! renews the certificate. The program stays in the process group of this process, so that the terminal treats both as
//! one job.

mod changes;
mod renewer;
mod signals;
pub mod stage;
mod supervisor;
mod vault;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{self, DumpableBehavior, Pid, Signal, WaitOptions, WaitStatus};
use rustix::termios::{tcgetpgrp, tcsetpgrp};
use strongroom::exec::{ChildEnv, ExecError};

use crate::exit::{Code, Failure};
use changes::{Changes, Watcher};
use signals::{Inherited, Received};
use supervisor::{Action, Ended, Supervisor};

pub use renewer::{Renewed, Renewer};
pub use signals::parse as parse_signal;
pub use supervisor::OnChange;
pub use vault::Vault;

/// How to run a program.
pub struct RunOptions {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// What to do on a change.
    pub on_change: OnChange,
    /// Time between asking the program to end and killing it.
    pub grace: Duration,
    /// Whether failures are written as JSON.
    pub json: bool,
    /// Renews the certificate in the meantime, if it belongs to a profile.
    pub renewer: Option<Renewer>,
}

enum Event {
    Signal(Received),
    Changed(Arc<ChildEnv>),
}

/// Runs the program until it ends by itself, and ends in the same way: with its code, or by its signal.
///
/// # Errors
/// The program cannot be started, the first time or again.
pub fn supervise<C: Changes + Send + 'static>(
    mut plan: RunOptions,
    first: ChildEnv,
    changes: C,
) -> Result<ExitCode, Failure> {
    let broken = |error: std::io::Error| Failure::new(Code::Exec(125), format!("starting to watch: {error}"), "");
    if ignores_sigchld() {
        let message = "SIGCHLD is ignored here, so the end of the program could not be seen";
        return Err(Failure::new(Code::Exec(125), message, "start strongroom without ignoring SIGCHLD"));
    }
    // This process holds a key and secrets as long as the program runs, so it allows no core dumps and no debugger of
    // the same user.
    process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| broken(error.into()))?;
    let (sender, events) = channel();
    // Signals are blocked before the program is started, so none is lost between the two.
    let inherited = signals::deliver(sender.clone(), Event::Signal).map_err(broken)?;
    let renewer = plan.renewer.take();
    let first = Arc::new(first);
    let mut run = Run::start(plan, inherited, Arc::clone(&first))?;
    let mut watcher = Watcher::new(changes, first, random_byte, |text: &str| eprintln!("strongroom: {text}"));
    let watch = move || {
        loop {
            if let Some(environment) = watcher.step(std::thread::sleep)
                && sender.send(Event::Changed(environment)).is_err()
            {
                return;
            }
        }
    };
    std::thread::Builder::new().name("changes".to_owned()).spawn(watch).map_err(broken)?;
    if let Some(mut renewer) = renewer {
        let renew = move || {
            let mut cycle = renewer::Cycle::default();
            loop {
                std::thread::sleep(cycle.step(crate::environment::now_ms(), random_byte(), &mut renewer));
            }
        };
        std::thread::Builder::new().name("renewer".to_owned()).spawn(renew).map_err(broken)?;
    }
    let ended = run.until_end(&events)?;
    drop(run);
    match ended {
        Ended::Exited(code) => Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))),
        Ended::Killed(number) => {
            signals::end_self(number);
            Ok(ExitCode::from(u8::try_from(number).map_or(u8::MAX, |number| number.saturating_add(128))))
        }
    }
}

/// The program and its state.
struct Run {
    plan: RunOptions,
    /// Signals that were blocked when this process was started.
    inherited: Inherited,
    clock: Instant,
    supervisor: Supervisor,
    program: Pid,
    /// The environment that the program was started with or told about.
    in_effect: Arc<ChildEnv>,
    newest: Arc<ChildEnv>,
}

impl Run {
    fn start(plan: RunOptions, inherited: Inherited, environment: Arc<ChildEnv>) -> Result<Self, Failure> {
        // The clock for supervising real processes.
        #[allow(clippy::disallowed_methods)]
        let clock = Instant::now();
        let program = spawn(&plan, inherited, &environment)?;
        let supervisor = Supervisor::new(plan.on_change, plan.grace, clock.elapsed());
        let in_effect = Arc::clone(&environment);
        Ok(Self { plan, inherited, clock, supervisor, program, in_effect, newest: environment })
    }

    fn until_end(&mut self, events: &Receiver<Event>) -> Result<Ended, Failure> {
        loop {
            let event = match self.supervisor.wake_at() {
                None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => events.recv_timeout(at.saturating_sub(self.clock.elapsed())),
            };
            let action = match event {
                Ok(Event::Signal(Received { signal: Signal::CHILD, .. })) => match self.reap()? {
                    Some(how) => Some(self.supervisor.ended(how, self.clock.elapsed())),
                    None => None,
                },
                Ok(Event::Signal(received)) => self.supervisor.signal(received),
                Ok(Event::Changed(environment)) => self.changed(environment),
                Err(RecvTimeoutError::Timeout) => self.supervisor.passed(self.clock.elapsed()),
                Err(RecvTimeoutError::Disconnected) => return Err(gone("signals cannot be read any more")),
            };
            match action {
                Some(Action::End(how)) => return Ok(how),
                Some(action) => self.carry_out(action)?,
                None => {}
            }
        }
    }

    fn changed(&mut self, environment: Arc<ChildEnv>) -> Option<Action> {
        self.newest = environment;
        if self.newest.same_as(&self.in_effect) {
            self.supervisor.unchanged();
            return None;
        }
        self.supervisor.changed(self.clock.elapsed())
    }

    fn carry_out(&mut self, action: Action) -> Result<(), Failure> {
        match action {
            Action::Send(signal) => self.send(signal),
            Action::Tell(signal) => {
                self.in_effect = Arc::clone(&self.newest);
                self.send(signal);
            }
            Action::Stop => {
                eprintln!("strongroom: values changed; restarting the program");
                self.send(Signal::TERM);
                self.send(Signal::CONT); // a stopped program cannot end
            }
            Action::Kill => self.send(Signal::KILL),
            Action::Start => {
                self.in_effect = Arc::clone(&self.newest);
                take_back_terminal();
                self.program = spawn(&self.plan, self.inherited, &self.in_effect)?;
            }
            Action::End(_) => {}
        }
        Ok(())
    }

    /// The pid cannot belong to another process yet: only [`reap`](Self::reap) releases it. A failure means that the
    /// program has changed its user or has just ended.
    fn send(&self, signal: Signal) {
        let _ = process::kill_process(self.program, signal);
    }

    /// Collects every process that has ended: the program, and orphans too if this is the first process of a container.
    fn reap(&self) -> Result<Option<Ended>, Failure> {
        loop {
            match process::wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                Ok(None) => return Ok(None),
                Ok(Some((pid, status))) if pid == self.program => match ended(status) {
                    Some(how) => return Ok(Some(how)),
                    None => follow_stop(pid, status),
                },
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Err(error) => return Err(gone(&format!("the program cannot be waited for: {error}"))),
            }
        }
    }
}

fn spawn(plan: &RunOptions, inherited: Inherited, environment: &ChildEnv) -> Result<Pid, Failure> {
    let child = environment.spawn(&stage::tied(&plan.command, inherited, plan.json)).map_err(|error| match error {
        // Only the intermediate stage can be missing here. It reports failures of the program itself.
        ExecError::NotFound(_) | ExecError::NotExecutable(_) => {
            Failure::new(Code::Exec(125), format!("{error}"), "is /proc mounted?")
        }
        error => error.into(),
    })?;
    Ok(Pid::from_child(&child))
}

fn ended(status: WaitStatus) -> Option<Ended> {
    let killed = || status.terminating_signal().map(Ended::Killed);
    status.exit_status().map(Ended::Exited).or_else(killed)
}

/// Stops this process when the program was stopped from the keyboard, so that the shell takes the terminal back. A
/// debugger or an operator also sends SIGSTOP to a program in the background; that is followed only in the foreground.
fn follow_stop(program: Pid, status: WaitStatus) {
    let ours = process::getpgrp();
    let theirs = process::getpgid(Some(program)).unwrap_or(ours);
    let terminal = std::fs::File::open("/dev/tty").ok();
    let in_front = || terminal.as_ref().and_then(|terminal| tcgetpgrp(terminal).ok());
    let before = in_front();
    if status.stopping_signal() == Some(Signal::STOP.as_raw()) && before != Some(ours) && before != Some(theirs) {
        return;
    }
    signals::stop_self();
    // A program with its own group, such as a shell, had the terminal. The shell that continued us has given it to us.
    if let Some(terminal) = &terminal
        && theirs != ours
        && before == Some(theirs)
        && in_front() == Some(ours)
    {
        let _ = tcsetpgrp(terminal, theirs);
    }
}

/// A killed program with its own group has left the terminal to nobody, and the next one needs it.
fn take_back_terminal() {
    let Ok(terminal) = std::fs::File::open("/dev/tty") else { return };
    let ours = process::getpgrp();
    if let Ok(theirs) = tcgetpgrp(&terminal)
        && theirs != ours
        && process::test_kill_process_group(theirs) == Err(Errno::SRCH)
    {
        let _ = tcsetpgrp(terminal, ours);
    }
}

/// If SIGCHLD is ignored (inherited from the parent), the kernel reaps children itself and reports nothing.
fn ignores_sigchld() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    ignored & 1 << (Signal::CHILD.as_raw() - 1) != 0
}

fn gone(message: &str) -> Failure {
    Failure::new(Code::Exec(125), message, "")
}

/// For jitter only. Without randomness all pauses have full length.
fn random_byte() -> u8 {
    let mut byte = [0_u8; 1];
    #[allow(clippy::disallowed_methods)] // the real process, not the library
    let _ = getrandom::fill(&mut byte);
    byte[0]
}
