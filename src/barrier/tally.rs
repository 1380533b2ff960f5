//! What a request costs that looks at many records, and the way to stop it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::error::BarrierError;

/// Counts the records that are looked at for one request, and stops the work when nobody waits for its answer any more.
///
/// A [`View`](super::View) counts by itself what it opens for a listing ([`View::counted`](super::View::counted)).
#[derive(Default)]
pub struct Tally {
    looked_at: AtomicU64,
    abandoned: AtomicBool,
    /// Set for all at once when the vault closes.
    closing: Arc<AtomicBool>,
}

impl Tally {
    /// One that also stops when `closing` is set.
    #[must_use]
    pub fn new(closing: &Arc<AtomicBool>) -> Self {
        Self { closing: Arc::clone(closing), ..Self::default() }
    }

    /// Nobody waits any more: the work ends at the next record.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    /// How many records were looked at.
    #[must_use]
    pub fn looked_at(&self) -> u64 {
        self.looked_at.load(Ordering::Relaxed)
    }

    /// Counts records that are looked at now.
    ///
    /// # Errors
    /// [`BarrierError::Abandoned`] when the work shall stop.
    pub fn look_at(&self, records: u64) -> Result<(), BarrierError> {
        self.looked_at.fetch_add(records, Ordering::Relaxed);
        if self.abandoned.load(Ordering::Relaxed) || self.closing.load(Ordering::Relaxed) {
            return Err(BarrierError::Abandoned);
        }
        Ok(())
    }
}
