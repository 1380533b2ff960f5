//! Waiting for changed values: the vault is asked what changed, the secrets are read again, and only another environment
//! for the program is news. A vault that is away is no reason to disturb the program: it is asked again, later and later.

use std::sync::Arc;
use std::time::Duration;

use strongroom::exec::ChildEnv;

use crate::exit::{Code, Failure};

/// Where values come from.
pub trait Changes {
    /// Waits for a hint that a secret may have changed: `true`, or `false` when nothing was heard for a while. The first
    /// call, and the first after [`reconnect`](Self::reconnect), answer at once with `true`: what happened before them is
    /// not known.
    ///
    /// # Errors
    /// The vault does not answer, or not this question.
    fn wait(&mut self) -> Result<bool, Failure>;

    /// The environment with the values of this moment.
    ///
    /// # Errors
    /// The vault does not answer, a value is gone or not ours to read, or the program cannot be given it.
    fn environment(&mut self) -> Result<ChildEnv, Failure>;

    /// Begins anew after a failure: another connection, with the certificate that is on disk by then.
    fn reconnect(&mut self);
}

/// First and longest pause after failures.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Pauses that double up to half a minute. Each is cut by up to a half at random, so that all clients of a vault that
/// comes back do not come back in the same instant.
pub struct Backoff<R> {
    next: Duration,
    random: R,
}

impl<R: FnMut() -> u8> Backoff<R> {
    /// From the shortest pause on; `random` gives bytes.
    pub fn new(random: R) -> Self {
        Self { next: PAUSES.0, random }
    }

    /// The pause before the next attempt.
    pub fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(PAUSES.1);
        whole - whole / 2 * u32::from((self.random)()) / u32::from(u8::MAX)
    }

    /// All is well again.
    pub fn reset(&mut self) {
        self.next = PAUSES.0;
    }
}

/// What keeps the values from being read.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    /// The vault is away, sealed or failing. Why may change from one attempt to the next and is no news.
    Away,
    /// It answers, and says no.
    Refused(String),
}

/// The loop that turns hints into environments.
pub struct Watcher<C, R, S> {
    changes: C,
    backoff: Backoff<R>,
    latest: Arc<ChildEnv>,
    /// What the user knows of; said once, until it is over.
    told: Option<Trouble>,
    told_of_polling: bool,
    say: S,
}

impl<C: Changes, R: FnMut() -> u8, S: FnMut(&str)> Watcher<C, R, S> {
    /// `first` is what the program was started with; `random` gives bytes; `say` tells the user.
    pub fn new(changes: C, first: Arc<ChildEnv>, random: R, say: S) -> Self {
        let backoff = Backoff::new(random);
        Self { changes, backoff, latest: first, told: None, told_of_polling: false, say }
    }

    /// Waits until there may be something to see, and looks. Returns another environment if there is one now. `sleep` is
    /// called after failures.
    pub fn step(&mut self, mut sleep: impl FnMut(Duration)) -> Option<Arc<ChildEnv>> {
        let heard = self.changes.wait();
        match &heard {
            // Values that are gone can come back without a change that is reported, such as by another policy.
            Ok(false) if self.told.is_none() => return None,
            Ok(_) => {}
            Err(_) => {
                sleep(self.backoff.pause());
                self.changes.reconnect();
            }
        }
        match self.changes.environment() {
            Ok(now) => {
                self.readable(heard.err());
                (!now.same_as(&self.latest)).then(|| {
                    self.latest = Arc::new(now);
                    Arc::clone(&self.latest)
                })
            }
            Err(failure) if is_away(&failure) => {
                self.trouble(Trouble::Away, &failure);
                if heard.is_ok() {
                    // The hint was used up without a look: begin anew, which looks in any case.
                    sleep(self.backoff.pause());
                    self.changes.reconnect();
                }
                None
            }
            Err(failure) => {
                self.trouble(Trouble::Refused(failure.message.clone()), &failure);
                None
            }
        }
    }

    fn trouble(&mut self, trouble: Trouble, failure: &Failure) {
        if self.told.as_ref() != Some(&trouble) {
            (self.say)(&format!("{}; the program keeps the values it has", failure.message));
            self.told = Some(trouble);
        }
    }

    fn readable(&mut self, not_heard: Option<Failure>) {
        if self.told.take().is_some() {
            (self.say)("the vault answers again");
        }
        match not_heard {
            None => self.backoff.reset(),
            Some(failure) if !is_away(&failure) && !self.told_of_polling => {
                self.told_of_polling = true;
                let seconds = PAUSES.1.as_secs();
                (self.say)(&format!(
                    "change notifications failed ({}); checking every {seconds} seconds instead",
                    failure.message
                ));
            }
            Some(_) => {}
        }
    }
}

fn is_away(failure: &Failure) -> bool {
    matches!(failure.code, Code::Unreachable | Code::Sealed | Code::Refused)
}

#[cfg(test)]
mod tests;
