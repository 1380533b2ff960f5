//! Renews the certificate while a program runs that outlives it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use strongroom::enroll::schedule::{LONGEST_PAUSE_MS, pause_ms};
use strongroom::pki::Leaf;

use crate::bundle::Folder;
use crate::connection::Connection;
use crate::environment::environment;
use crate::exit::Failure;
use crate::renewal::{self, Renewal, Terms, due_ms};

/// Longest time between two checks of the certificate: the clock may jump, and others may renew it as well.
const LONGEST_LOOK_MS: u64 = 600_000;

/// Time between two checks of the trusted authorities.
const TRUST_LOOK_MS: u64 = 3_600_000;

/// Counts certificates. A holder of a connection opens a new one when the count differs.
pub type Renewed = Arc<AtomicU64>;

/// What the renewal cycle reads and acts on.
pub trait World {
    /// The current certificate.
    ///
    /// # Errors
    /// It cannot be read.
    fn leaf(&mut self) -> Result<Leaf, Failure>;
    /// Renews it, unless somebody has done so in the meantime. Returns the current certificate.
    ///
    /// # Errors
    /// The vault rejects the renewal or does not answer, or the bundle cannot be replaced.
    fn renew(&mut self) -> Result<Leaf, Failure>;
    /// Updates the trusted authorities. Returns whether they changed. A failure waits for the next time.
    fn learn(&mut self) -> bool;
    /// Called when the certificate or the authorities have changed.
    fn replaced(&mut self);
    /// Tells the user.
    fn say(&mut self, text: &str);
}

/// When to check next, and what was seen.
#[derive(Default)]
pub struct Cycle {
    seen: Option<[u8; 32]>,
    failures: u32,
    retry_ms: u64,
    learn_ms: u64,
    /// What the user was told. Each problem is reported once, until it is over.
    told: Option<String>,
}

impl Cycle {
    /// Checks once, renews if it is time, and returns the time until the next check.
    pub fn step(&mut self, now_ms: u64, random: u8, world: &mut dyn World) -> Duration {
        let leaf = match world.leaf() {
            Ok(leaf) => leaf,
            Err(failure) => return self.failed(now_ms, 0, random, &failure, world),
        };
        self.see(&leaf, world);
        // A time further away than any set here was set by a clock that has been set back since.
        if self.retry_ms.saturating_sub(now_ms) > LONGEST_PAUSE_MS {
            self.retry_ms = 0;
        }
        if self.learn_ms.saturating_sub(now_ms) > TRUST_LOOK_MS {
            self.learn_ms = 0;
        }
        let wake = due_ms(&leaf).max(self.retry_ms);
        if now_ms < wake {
            if now_ms >= self.learn_ms {
                self.learn_ms = now_ms.saturating_add(TRUST_LOOK_MS);
                if world.learn() {
                    world.replaced();
                }
            }
            return look_in(wake - now_ms);
        }
        match world.renew() {
            Ok(leaf) => {
                self.see(&leaf, world);
                if self.told.take().is_some() {
                    world.say("the certificate was renewed");
                }
                (self.failures, self.retry_ms) = (0, 0);
                // A clock that is far off makes new certificates due at once. That must not cause requests without a
                // pause.
                look_in(due_ms(&leaf).saturating_sub(now_ms).max(pause_ms(1, 0, random)))
            }
            Err(failure) => self.failed(now_ms, leaf.not_after_ms.saturating_sub(now_ms), random, &failure, world),
        }
    }

    fn see(&mut self, leaf: &Leaf, world: &mut dyn World) {
        if self.seen.replace(leaf.fingerprint).is_some_and(|seen| seen != leaf.fingerprint) {
            (self.failures, self.retry_ms) = (0, 0);
            world.replaced();
        }
    }

    fn failed(&mut self, now_ms: u64, left_ms: u64, random: u8, failure: &Failure, world: &mut dyn World) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let pause = pause_ms(self.failures, left_ms, random);
        self.retry_ms = now_ms.saturating_add(pause);
        if self.told.as_ref() != Some(&failure.message) {
            world.say(&format!("the certificate could not be renewed: {}; trying again", failure.message));
            self.told = Some(failure.message.clone());
        }
        look_in(pause)
    }
}

fn look_in(ms: u64) -> Duration {
    Duration::from_millis(ms.min(LONGEST_LOOK_MS))
}

/// Renews the certificate of a profile.
pub struct Renewer {
    /// The profile.
    pub folder: Folder,
    /// Timeout and mount.
    pub connection: Arc<Connection>,
    /// Incremented with each new certificate.
    pub renewed: Renewed,
}

impl Renewer {
    fn run(&self) -> Result<Renewal, Failure> {
        let terms = Terms { if_due: true, reuse_key: false, key_type: None, connection: &self.connection };
        renewal::renew(&self.folder, &terms, &environment)
    }
}

impl World for Renewer {
    fn leaf(&mut self) -> Result<Leaf, Failure> {
        renewal::leaf_of(&self.folder.files()?)
    }

    fn renew(&mut self) -> Result<Leaf, Failure> {
        self.run().map(|outcome| outcome.leaf)
    }

    fn learn(&mut self) -> bool {
        self.run().is_ok_and(|outcome| outcome.trust || outcome.renewed)
    }

    fn replaced(&mut self) {
        self.renewed.fetch_add(1, Ordering::Release);
    }

    fn say(&mut self, text: &str) {
        eprintln!("strongroom: {text}");
    }
}

#[cfg(test)]
mod tests;
