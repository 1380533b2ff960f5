//! Untrusted bytes: the engines behind the barrier. Knows nothing of secrets.
//!
//! An engine promises three things and nothing more: a batch is applied whole or not at all, an acknowledged batch survives
//! a crash and a power cut, and a key reads as it was last written. Whether what it returns is *true* is judged above, by
//! the barrier, which authenticates every record and the state of the whole; so an engine that loses, alters or rolls back
//! data is caught, and engines can be chosen for durability and speed alone.

pub mod batch;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod durable;
pub mod error;
#[cfg(any(test, feature = "testing"))]
pub mod faulty;
pub mod fs;
mod guard;
#[cfg(any(test, feature = "testing"))]
pub mod journal;
mod memory;
pub mod migrate;
mod redb;
pub mod sidecar;
mod sled;
mod space;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

pub use batch::{Batch, Expect, Op, Precondition};
pub use error::StoreError;
use guard::Guarded;
pub use memory::MemoryStore;
pub use sled::WARNING as SLED_WARNING;

/// Number of a commit. Grows by one with every batch that was applied, from 1; 0 is the empty store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CommitSeq(pub u64);

/// A stored value and the commit that wrote it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The bytes.
    pub value: Vec<u8>,
    /// Commit that wrote them.
    pub revision: CommitSeq,
}

/// Bytes of a value that [`Store::scan_heads`] shows at most.
pub const HEAD_BYTES: usize = 92;
/// Longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;

/// What [`Store::scan`] calls for each record: key, value.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// An embedded engine: ordered keys, atomic batches, durable acknowledgement. Blocking, callable from any thread.
pub trait Store: Send + Sync + 'static {
    /// Name of the engine in the configuration.
    fn engine(&self) -> &'static str;

    /// The value of `key`, as the last durable commit left it.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the engine finds its files damaged, [`StoreError::Unavailable`] on a read error.
    fn get(&self, key: &[u8]) -> Result<Option<Stored>, StoreError>;

    /// Visits every record whose key starts with `prefix`, in the order of the keys, until `visit` breaks.
    ///
    /// # Errors
    /// As [`Store::get`].
    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError>;

    /// As [`Store::scan`], but only the first [`HEAD_BYTES`] bytes of each value: what a start needs of a large store.
    ///
    /// # Errors
    /// As [`Store::get`].
    fn scan_heads(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError>;

    /// Applies `batch` in one transaction. `Ok` means that it survives a power cut.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when a precondition does not hold and [`StoreError::Full`] when the disk is full: nothing
    /// has changed. [`StoreError::Sync`]: unknown whether it was applied; the caller must end the process.
    fn commit(&self, batch: &Batch) -> Result<CommitSeq, StoreError>;

    /// Number of the last commit.
    ///
    /// # Errors
    /// As [`Store::get`].
    fn sequence(&self) -> Result<CommitSeq, StoreError>;
}

/// Opens the engine named `engine` in `dir`; with `create` a missing store is made, without it a missing one is an error.
///
/// # Errors
/// [`StoreError::Unavailable`] for an unknown engine or a missing store, [`StoreError::Locked`] when another process has it
/// open, [`StoreError::Corrupt`] when the engine cannot read its files (also when it panics over them).
pub fn open(engine: &str, dir: &Path, create: bool) -> Result<Arc<dyn Store>, StoreError> {
    match engine {
        "redb" => Guarded::open("redb", || redb::RedbStore::open(dir, create)),
        "sled" => Guarded::open("sled", || sled::SledStore::open(dir, create)),
        "memory" => Ok(Arc::new(MemoryStore::default())),
        _ => Err(StoreError::Unavailable("unknown engine: choose redb or sled".into())),
    }
}

/// Refuses keys longer than [`MAX_KEY_BYTES`], before anything is written.
fn check(batch: &Batch) -> Result<(), StoreError> {
    match batch.ops.iter().any(|op| op.key().len() > MAX_KEY_BYTES) {
        true => Err(StoreError::Unavailable("a key is longer than 1,024 bytes".into())),
        false => Ok(()),
    }
}
