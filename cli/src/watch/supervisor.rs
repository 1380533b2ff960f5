//! Decides what to do when something happens to a supervised program. Pure: the caller provides events and the time,
//! and carries out the result.

use std::time::Duration;

use rustix::process::Signal;

use super::signals::Received;

/// Shortest time between two starts, or between two signals about changes.
pub const SHORTEST_BETWEEN_CHANGES: Duration = Duration::from_secs(1);

/// What to do when a value changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnChange {
    /// End the program and start it again.
    Restart,
    /// Send this signal to the program.
    Signal(Signal),
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code.
    Exited(i32),
    /// The signal with this number ended it.
    Killed(i32),
}

/// What the caller must do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Pass this signal on to the program.
    Send(Signal),
    /// Send this signal to tell the program that values have changed.
    Tell(Signal),
    /// Ask the program to end.
    Stop,
    /// Kill the program.
    Kill,
    /// Start the program with the newest values.
    Start,
    /// End, and report this.
    End(Ended),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChildState {
    Running,
    /// Asked to end. `kill_at` is `None` once it was killed. `last` means that it will not be started again.
    Stopping {
        kill_at: Option<Duration>,
        last: bool,
    },
}

/// One program. Times count from any fixed moment.
#[derive(Debug)]
pub struct Supervisor {
    on_change: OnChange,
    grace: Duration,
    state: ChildState,
    /// When values that are not in effect yet may take effect.
    due: Option<Duration>,
    /// When the program was started, or last told about a change.
    latest: Duration,
    /// Somebody asked the program to end, so a change must not restart it.
    dismissed: bool,
}

impl Supervisor {
    /// A program that was started at `now`.
    pub fn new(on_change: OnChange, grace: Duration, now: Duration) -> Self {
        Self { on_change, grace, state: ChildState::Running, due: None, latest: now, dismissed: false }
    }

    /// Values have changed.
    pub fn changed(&mut self, now: Duration) -> Option<Action> {
        // A program that is ending gets the newest values when it starts again.
        if self.state == ChildState::Running && !self.dismissed {
            self.due = Some(self.latest.saturating_add(SHORTEST_BETWEEN_CHANGES).max(now));
        }
        self.passed(now)
    }

    /// The values are again those that the program has.
    pub fn unchanged(&mut self) {
        self.due = None;
    }

    /// A signal arrived. If it came from the terminal, the program has it already.
    pub fn signal(&mut self, received: Received) -> Option<Action> {
        let Received { signal, directed } = received;
        match &mut self.state {
            // INT from a terminal often only means "stop what you are doing", and HUP from a process "read your
            // settings again". TERM is unambiguous, and so is a terminal that is gone.
            ChildState::Running => self.dismissed |= signal == Signal::TERM || signal == Signal::HUP && !directed,
            ChildState::Stopping { last, .. } => {
                // The following start reads the settings anyway. Passing the signal on would only disturb.
                if directed && [Signal::HUP, Signal::USR1, Signal::USR2, Signal::WINCH].contains(&signal) {
                    return None;
                }
                *last |= [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM].contains(&signal);
            }
        }
        if self.dismissed {
            self.due = None;
        }
        directed.then_some(Action::Send(signal))
    }

    /// The program has ended.
    pub fn ended(&mut self, how: Ended, now: Duration) -> Action {
        match self.state {
            ChildState::Stopping { last: false, .. } => {
                (self.state, self.latest, self.due) = (ChildState::Running, now, None);
                Action::Start
            }
            _ => Action::End(how),
        }
    }

    /// Time has passed.
    pub fn passed(&mut self, now: Duration) -> Option<Action> {
        match self.state {
            ChildState::Running if self.due.is_some_and(|due| due <= now) => {
                self.due = None;
                match self.on_change {
                    OnChange::Restart => {
                        let kill_at = Some(now.saturating_add(self.grace));
                        self.state = ChildState::Stopping { kill_at, last: false };
                        Some(Action::Stop)
                    }
                    OnChange::Signal(signal) => {
                        self.latest = now;
                        Some(Action::Tell(signal))
                    }
                }
            }
            ChildState::Stopping { kill_at: Some(at), last } if at <= now => {
                self.state = ChildState::Stopping { kill_at: None, last };
                Some(Action::Kill)
            }
            _ => None,
        }
    }

    /// The latest time at which [`passed`](Self::passed) must be called.
    pub fn wake_at(&self) -> Option<Duration> {
        match self.state {
            ChildState::Running => self.due,
            ChildState::Stopping { kill_at, .. } => kill_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    fn restarting() -> Supervisor {
        Supervisor::new(OnChange::Restart, GRACE, ms(0))
    }

    fn to_us(signal: Signal) -> Received {
        Received { signal, directed: true }
    }

    fn from_terminal(signal: Signal) -> Received {
        Received { signal, directed: false }
    }

    #[test]
    fn a_change_ends_the_program_and_starts_it_again() {
        let mut it = restarting();
        assert_eq!(it.wake_at(), None);
        assert_eq!(it.changed(ms(5_000)), Some(Action::Stop));
        assert_eq!(it.wake_at(), Some(ms(15_000)));
        assert_eq!(it.changed(ms(5_500)), None, "the start that follows has it");
        assert_eq!(it.passed(ms(14_999)), None);
        assert_eq!(it.ended(Ended::Killed(15), ms(14_999)), Action::Start);
        assert_eq!((it.wake_at(), it.passed(ms(99_000))), (None, None));
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_once() {
        let mut it = restarting();
        it.changed(ms(5_000));
        assert_eq!(it.passed(ms(15_000)), Some(Action::Kill));
        assert_eq!((it.wake_at(), it.passed(ms(16_000))), (None, None));
        assert_eq!(it.ended(Ended::Killed(9), ms(16_000)), Action::Start);
    }

    #[test]
    fn fast_changes_wait_for_a_second_and_join() {
        let mut it = restarting();
        assert_eq!(it.changed(ms(100)), None);
        assert_eq!(it.changed(ms(200)), None);
        assert_eq!(it.wake_at(), Some(ms(1_000)));
        assert_eq!(it.passed(ms(1_000)), Some(Action::Stop));
        assert_eq!(it.ended(Ended::Exited(0), ms(1_400)), Action::Start);
        assert_eq!(it.changed(ms(1_500)), None);
        assert_eq!(it.wake_at(), Some(ms(2_400)), "a second after the start");
        it.unchanged();
        assert_eq!((it.wake_at(), it.passed(ms(9_000))), (None, None), "changed and changed back");
        assert_eq!(it.ended(Ended::Exited(4), ms(9_500)), Action::End(Ended::Exited(4)));
    }

    #[test]
    fn signal_mode_signals_and_never_restarts() {
        let mut it = Supervisor::new(OnChange::Signal(Signal::HUP), GRACE, ms(0));
        assert_eq!(it.changed(ms(5_000)), Some(Action::Tell(Signal::HUP)));
        assert_eq!(it.changed(ms(5_001)), None);
        assert_eq!(it.passed(ms(6_000)), Some(Action::Tell(Signal::HUP)));
        assert_eq!(it.ended(Ended::Exited(3), ms(6_001)), Action::End(Ended::Exited(3)));
    }

    #[test]
    fn what_ends_by_itself_stays_ended() {
        let mut it = restarting();
        it.changed(ms(100));
        assert_eq!(it.ended(Ended::Killed(11), ms(200)), Action::End(Ended::Killed(11)), "also when a change is due");
    }

    #[test]
    fn signals_are_passed_on_once() {
        let mut it = restarting();
        for signal in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::CONT, Signal::TERM] {
            assert_eq!(it.signal(to_us(signal)), Some(Action::Send(signal)), "{signal:?}");
            assert_eq!(it.signal(from_terminal(signal)), None, "{signal:?}: the program has it already");
        }
    }

    #[test]
    fn who_was_asked_to_end_is_not_brought_back() {
        for last in [to_us(Signal::TERM), from_terminal(Signal::HUP)] {
            let mut it = restarting();
            it.changed(ms(100));
            it.signal(last);
            assert_eq!((it.wake_at(), it.changed(ms(5_000))), (None, None), "{last:?}");
        }
        for last in [to_us(Signal::TERM), to_us(Signal::INT), from_terminal(Signal::INT), from_terminal(Signal::HUP)] {
            let mut it = restarting();
            it.changed(ms(5_000));
            it.signal(last);
            assert_eq!(it.wake_at(), Some(ms(15_000)), "the time of grace stays");
            assert_eq!(it.ended(Ended::Exited(7), ms(6_000)), Action::End(Ended::Exited(7)), "{last:?}");
        }
        let mut it = restarting();
        it.signal(from_terminal(Signal::INT));
        assert_eq!(it.changed(ms(5_000)), Some(Action::Stop), "an interrupted query ends no program");
        assert_eq!(it.signal(to_us(Signal::HUP)), None, "the start reads everything again");
        assert_eq!(it.ended(Ended::Exited(0), ms(5_100)), Action::Start);
    }
}
