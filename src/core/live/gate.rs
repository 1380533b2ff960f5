//! Delays after failed attempts to unseal the vault.

use std::collections::HashMap;

use crate::core::error::VaultError;

/// First delay after a failure, in milliseconds. Each further failure doubles it.
const FIRST_DELAY_MS: u64 = 1_000;
/// Longest delay, in milliseconds.
const MAX_DELAY_MS: u64 = 60_000;
/// Number of openers whose failures are remembered. They are all configured identities, so there should never be more.
/// The one whose delay ends first is forgotten first.
const MAX_REMEMBERED: usize = 256;

/// Failed attempts.
#[derive(Default)]
pub(in crate::core) struct Gate {
    by_opener: HashMap<String, Failures>,
    /// Whether an attempt was rejected or failed since the last unseal. While sealed there is no key for the audit log,
    /// so this is noted after the next success.
    pub refused: bool,
}

struct Failures {
    count: u32,
    not_before_ms: u64,
}

impl Gate {
    /// Checks whether `key` may try now.
    ///
    /// # Errors
    /// [`VaultError::TooMany`] while it has to wait.
    pub(in crate::core) fn check(&self, key: &str, now_ms: u64) -> Result<(), VaultError> {
        match self.wait_s(key, now_ms) {
            0 => Ok(()),
            retry_after_s => Err(VaultError::TooMany { retry_after_s }),
        }
    }

    /// Seconds until the next attempt of `key` is accepted.
    pub(in crate::core) fn wait_s(&self, key: &str, now_ms: u64) -> u64 {
        let wait_ms = self.by_opener.get(key).map_or(0, |failures| failures.not_before_ms.saturating_sub(now_ms));
        // Nobody waits longer than the longest delay. More is left only when the clock was set back, and it could be
        // years.
        if wait_ms > MAX_DELAY_MS { 0 } else { wait_ms.div_ceil(1_000) }
    }

    /// Forgets the failures of `key`.
    pub(in crate::core) fn succeeded(&mut self, key: &str) {
        self.by_opener.remove(key);
    }

    /// Makes `key` wait, longer each time.
    pub(in crate::core) fn failed(&mut self, key: &str, now_ms: u64) {
        if self.by_opener.len() >= MAX_REMEMBERED && !self.by_opener.contains_key(key) {
            let soonest = self.by_opener.iter().min_by_key(|(_, failures)| failures.not_before_ms);
            if let Some(soonest) = soonest.map(|(key, _)| key.clone()) {
                self.by_opener.remove(&soonest);
            }
        }
        let failures = self.by_opener.entry(key.to_owned()).or_insert(Failures { count: 0, not_before_ms: 0 });
        let delay_ms = FIRST_DELAY_MS.saturating_mul(1 << failures.count.min(16)).min(MAX_DELAY_MS);
        failures.count = failures.count.saturating_add(1);
        failures.not_before_ms = now_ms.saturating_add(delay_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_and_end_at_a_minute() {
        let mut gate = Gate::default();
        let mut now_ms = 1_000_000;
        for want_s in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert!(gate.check("local", now_ms).is_ok());
            gate.failed("local", now_ms);
            match gate.check("local", now_ms) {
                Err(VaultError::TooMany { retry_after_s }) => assert_eq!(retry_after_s, want_s),
                other => panic!("expected a delay, got {other:?}"),
            }
            assert!(gate.check("other", now_ms).is_ok(), "one opener must not hold up another");
            now_ms += want_s * 1_000;
        }
    }

    #[test]
    fn a_clock_that_was_set_back_locks_nobody_out() {
        let mut gate = Gate::default();
        let far_ms = 4_000_000_000_000;
        for _ in 0..12 {
            gate.failed("local", far_ms);
        }
        assert!(gate.check("local", far_ms).is_err());
        assert!(gate.check("local", far_ms - 1).is_ok(), "longer than anybody is ever made to wait");
        let mut now_ms = 1_750_000_000_000;
        assert!(gate.check("local", now_ms).is_ok());
        // From then on it is counted by the clock as it is now, and the delay is as long as before.
        gate.failed("local", now_ms);
        assert!(matches!(gate.check("local", now_ms), Err(VaultError::TooMany { retry_after_s: 60 })));
        now_ms += MAX_DELAY_MS;
        assert!(gate.check("local", now_ms).is_ok());
    }

    #[test]
    fn the_memory_of_failures_is_bounded() {
        let mut gate = Gate::default();
        for n in 0..MAX_REMEMBERED * 2 {
            gate.failed(&n.to_string(), 0);
        }
        assert_eq!(gate.by_opener.len(), MAX_REMEMBERED);
    }
}
