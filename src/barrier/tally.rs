//! Counts the cost of a request that reads many records, and can stop it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::error::BarrierError;

/// Counts the records that are read for one request, and stops the work when nobody waits for the reply any more.
///
/// A [`View`](super::View) itself counts what it opens for a listing ([`View::counted`](super::View::counted)).
#[derive(Default)]
pub struct Tally {
    looked_at: AtomicU64,
    abandoned: AtomicBool,
    /// Set for all tallies at once when the vault closes.
    closing: Arc<AtomicBool>,
}

impl Tally {
    /// Creates a tally that also stops when `closing` is set.
    #[must_use]
    pub fn new(closing: &Arc<AtomicBool>) -> Self {
        Self { closing: Arc::clone(closing), ..Self::default() }
    }

    /// Called when nobody waits any more. The work stops at the next record.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    /// Number of records read so far.
    #[must_use]
    pub fn looked_at(&self) -> u64 {
        self.looked_at.load(Ordering::Relaxed)
    }

    /// Counts records that are about to be read.
    ///
    /// # Errors
    /// [`BarrierError::Abandoned`] when the work must stop.
    pub fn look_at(&self, records: u64) -> Result<(), BarrierError> {
        self.looked_at.fetch_add(records, Ordering::Relaxed);
        if self.abandoned.load(Ordering::Relaxed) || self.closing.load(Ordering::Relaxed) {
            return Err(BarrierError::Abandoned);
        }
        Ok(())
    }
}
