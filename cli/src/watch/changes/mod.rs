//! Waits for changed values: asks the vault what changed, reads the secrets again, and reports only a different
//! environment. While the vault is away the program is not disturbed. The vault is asked again with growing pauses.

use std::sync::Arc;
use std::time::Duration;

use strongroom::exec::ChildEnv;

use crate::exit::{Code, Failure};

/// Source of the values.
pub trait Changes {
    /// Waits for a hint that a secret may have changed. Returns `true` on a hint, or `false` if there was none for a
    /// while. The first call, and the first after [`reconnect`](Self::reconnect), returns `true` at once, because
    /// earlier changes are unknown.
    ///
    /// # Errors
    /// The vault does not answer, or does not support this question.
    fn wait(&mut self) -> Result<bool, Failure>;

    /// The environment with the current values.
    ///
    /// # Errors
    /// The vault does not answer, a value does not exist or may not be read, or the program cannot be given it.
    fn environment(&mut self) -> Result<ChildEnv, Failure>;

    /// Starts again after a failure, with a new connection and the certificate that is on disk by then.
    fn reconnect(&mut self);
}

/// First and longest pause after failures.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Pauses that double up to half a minute. Each is shortened at random by up to a half, so that not all clients return
/// in the same instant when a vault comes back.
pub struct Backoff<R> {
    next: Duration,
    random: R,
}

impl<R: FnMut() -> u8> Backoff<R> {
    /// Starts with the shortest pause. `random` returns bytes.
    pub fn new(random: R) -> Self {
        Self { next: PAUSES.0, random }
    }

    /// The pause before the next attempt.
    pub fn pause(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(PAUSES.1);
        whole - whole / 2 * u32::from((self.random)()) / u32::from(u8::MAX)
    }

    /// Resets the pauses after a success.
    pub fn reset(&mut self) {
        self.next = PAUSES.0;
    }
}

/// Why the values cannot be read.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    /// The vault is away, sealed or failing. The reason may change between attempts and is not reported again.
    Away,
    /// It answers with a refusal.
    Refused(String),
}

/// The loop that turns hints into environments.
pub struct Watcher<C, R, S> {
    changes: C,
    backoff: Backoff<R>,
    latest: Arc<ChildEnv>,
    /// What the user was told. Each problem is reported once, until it is over.
    told: Option<Trouble>,
    told_of_polling: bool,
    say: S,
}

impl<C: Changes, R: FnMut() -> u8, S: FnMut(&str)> Watcher<C, R, S> {
    /// `first` is the environment that the program was started with, `random` returns bytes, and `say` tells the user.
    pub fn new(changes: C, first: Arc<ChildEnv>, random: R, say: S) -> Self {
        let backoff = Backoff::new(random);
        Self { changes, backoff, latest: first, told: None, told_of_polling: false, say }
    }

    /// Waits until there may be a change, and checks. Returns the new environment if it differs. `sleep` is called
    /// after failures.
    pub fn step(&mut self, mut sleep: impl FnMut(Duration)) -> Option<Arc<ChildEnv>> {
        let heard = self.changes.wait();
        match &heard {
            // Values that are gone can come back without a reported change, for example through another policy.
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
                    // The hint was used up without reading the values: start again, which reads them in any case.
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
