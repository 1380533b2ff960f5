//! Reports of clients that have seen a later state of the vault than the one it is in.

use std::sync::atomic::{AtomicU64, Ordering};

use super::seldom::Seldom;

/// The reports since the vault was unsealed. Any of them may be wrong, or a lie, so one must not hide the others.
#[derive(Default)]
pub(in crate::core) struct Rollbacks {
    reports: AtomicU64,
    line: Seldom,
}

impl Rollbacks {
    /// Counts a report. Returns whether to tell the operator's log at `now_ms`, and if so, how many reports it was not
    /// told of since the last one.
    pub(in crate::core) fn report(&self, now_ms: u64) -> Option<u64> {
        self.reports.fetch_add(1, Ordering::Relaxed);
        self.line.speak(now_ms)
    }

    /// Number of reports.
    pub(in crate::core) fn total(&self) -> u64 {
        self.reports.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_report_does_not_hide_the_next() {
        let rollbacks = Rollbacks::default();
        let told: Vec<_> = [5_000, 5_001, 5_002, 6_000].map(|now_ms| rollbacks.report(now_ms)).into();
        assert_eq!(told, [Some(0), None, None, Some(2)]);
        assert_eq!(rollbacks.total(), 4);
    }
}
