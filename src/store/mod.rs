//! The engines behind the barrier. They store untrusted bytes and know nothing about secrets.
//!
//! An engine promises three things and no more: a batch is applied whole or not at all, an acknowledged batch survives
//! a crash and a power cut, and a key reads as it was last written. The barrier above decides whether what the engine
//! returns is *true*: it authenticates every record and the state of the whole store. An engine that loses, alters or
//! rolls back data is therefore caught, and an engine can be chosen for durability and speed alone.

pub(crate) mod batch;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod durable;
mod engine;
pub(crate) mod error;
#[cfg(any(test, feature = "testing"))]
pub mod faulty;
pub(crate) mod fs;
mod guard;
#[cfg(test)]
mod journal;
mod memory;
pub mod migrate;
mod record;
mod redb;
pub mod sidecar;
mod sled;
mod space;

use std::path::Path;
use std::sync::Arc;

pub use batch::{Batch, Expect, Op};
pub use engine::{Store, Visit};
pub use error::StoreError;
use guard::Guarded;
pub use guard::in_engine;
pub use memory::MemoryStore;
#[cfg(any(test, feature = "testing"))]
pub use record::MAX_KEY_BYTES;
pub use record::{CommitSeq, HEAD_BYTES, Stored};
pub use sled::WARNING as SLED_WARNING;

/// Opens the engine named `engine` in `dir`. With `create`, a missing store is created; without it, a missing store is
/// an error.
///
/// # Errors
/// [`StoreError::Unavailable`] for an unknown engine or a missing store; [`StoreError::Locked`] when another process
/// has it open; [`StoreError::Corrupt`] when the engine cannot read its files, also when it panics over them.
pub fn open(engine: &str, dir: &Path, create: bool) -> Result<Arc<dyn Store>, StoreError> {
    match engine {
        "redb" => Guarded::open("redb", || redb::RedbStore::open(dir, create)),
        "sled" => Guarded::open("sled", || sled::SledStore::open(dir, create)),
        "memory" => Ok(Arc::new(MemoryStore::default())),
        _ => Err(StoreError::Unavailable("unknown engine: choose redb or sled".into())),
    }
}
