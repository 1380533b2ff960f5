//! Time under the control of a test.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::core::Clock;

/// A clock that moves only when told.
pub struct FixedClock(AtomicU64);

impl FixedClock {
    /// Stands at `now_ms`.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        Self(AtomicU64::new(now_ms))
    }

    /// Moves forward.
    pub fn advance(&self, by_ms: u64) {
        self.0.fetch_add(by_ms, Ordering::SeqCst);
    }

    /// Moves back, as when somebody corrects the time.
    pub fn set_back(&self, by_ms: u64) {
        self.0.fetch_sub(by_ms, Ordering::SeqCst);
    }
}

impl Clock for FixedClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}
