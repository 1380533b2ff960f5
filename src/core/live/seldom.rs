//! Keeps a line of the operator's log from being written more than once a second.

use std::sync::atomic::{AtomicU64, Ordering};

/// Pause between two lines, milliseconds.
const PAUSE_MS: u64 = 1_000;

/// Time of the last line, and number of lines suppressed since.
#[derive(Default)]
pub(in crate::core) struct Seldom {
    last_ms: AtomicU64,
    left_out: AtomicU64,
}

impl Seldom {
    /// Whether to write the line at `now_ms`, and if so, how many lines were suppressed since the last one.
    pub(in crate::core) fn speak(&self, now_ms: u64) -> Option<u64> {
        let last_ms = self.last_ms.load(Ordering::Relaxed);
        let due = last_ms == 0 || now_ms < last_ms || now_ms - last_ms >= PAUSE_MS;
        let mine = due && self.last_ms.compare_exchange(last_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !mine {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(self.left_out.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_that_counts_the_others() {
        let seldom = Seldom::default();
        let spoken: Vec<_> = [5_000, 5_000, 5_999, 6_000, 6_001, 5_500].map(|now_ms| seldom.speak(now_ms)).into();
        assert_eq!(
            spoken,
            [Some(0), None, None, Some(2), None, Some(1)],
            "a clock that was set back does not silence it"
        );
    }
}
