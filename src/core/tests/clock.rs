//! Time under the control of a test.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::core::Clock;

/// Clocks that move only when told.
pub struct FixedClock {
    now_ms: AtomicU64,
    steady_ms: AtomicU64,
    step_ms: AtomicU64,
}

impl FixedClock {
    /// Stands at `now_ms`.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        Self { now_ms: AtomicU64::new(now_ms), steady_ms: AtomicU64::new(0), step_ms: AtomicU64::new(0) }
    }

    /// Moves forward.
    pub fn advance(&self, by_ms: u64) {
        self.now_ms.fetch_add(by_ms, Ordering::SeqCst);
        self.steady_ms.fetch_add(by_ms, Ordering::SeqCst);
    }

    /// Moves back, as when somebody corrects the time. Only the clock that can be set does.
    pub fn set_back(&self, by_ms: u64) {
        self.now_ms.fetch_sub(by_ms, Ordering::SeqCst);
    }

    /// From now on `step_ms` pass on the steady clock with each look at it.
    pub fn tick(&self, step_ms: u64) {
        self.step_ms.store(step_ms, Ordering::SeqCst);
    }
}

impl Clock for FixedClock {
    fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    fn steady(&self) -> Duration {
        Duration::from_millis(self.steady_ms.fetch_add(self.step_ms.load(Ordering::SeqCst), Ordering::SeqCst))
    }
}
