//! What an engine promises. The documentation of [`super`] says why it is so little.

use std::ops::ControlFlow;

use super::batch::Batch;
use super::error::StoreError;
use super::record::{CommitSeq, Stored};

/// Called by [`Store::scan`] for each record with its key and value.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// An embedded engine: ordered keys, atomic batches, durable acknowledgement. Calls block, and any thread may make
/// them.
pub trait Store: Send + Sync + 'static {
    /// Name of the engine in the configuration.
    fn engine(&self) -> &'static str;

    /// Returns the value of `key` as the last durable commit left it.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the engine finds its files damaged, [`StoreError::Unavailable`] on a read error.
    fn get(&self, key: &[u8]) -> Result<Option<Stored>, StoreError>;

    /// Visits every record whose key starts with `prefix`, in key order, until `visit` breaks.
    ///
    /// # Errors
    /// As [`Store::get`].
    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError>;

    /// Like [`Store::scan`], but shows only the first [`HEAD_BYTES`](super::HEAD_BYTES) bytes of each value. This is what
    /// a start needs of a large store.
    ///
    /// # Errors
    /// As [`Store::get`].
    fn scan_heads(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError>;

    /// Applies `batch` in one transaction. `Ok` means that it survives a power cut.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when a precondition does not hold and [`StoreError::Full`] when the disk is full:
    /// nothing has changed. [`StoreError::Sync`]: it is unknown whether the batch was applied, and the caller must end
    /// the process.
    fn commit(&self, batch: &Batch) -> Result<CommitSeq, StoreError>;

    /// Whether [`Store::commit`] would take `batch` as far as size and room go. Writes nothing. For callers that write
    /// something else first that cannot be taken back.
    ///
    /// # Errors
    /// [`StoreError::Full`] when there is no room; [`StoreError::Unavailable`] for a key that is too long.
    fn admits(&self, batch: &Batch) -> Result<(), StoreError> {
        batch.check()
    }

    /// Number of the last commit.
    ///
    /// # Errors
    /// As [`Store::get`].
    #[cfg(any(test, feature = "testing"))]
    fn sequence(&self) -> Result<CommitSeq, StoreError>;
}
