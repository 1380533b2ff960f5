//! A store whose engine may panic. Both engines assert over damaged pages, also while serving and not only when they open;
//! a damaged disk must be an error with a name and not the end of a thread that holds locks.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::{Batch, CommitSeq, Store, StoreError, Stored, Visit};

/// Passes everything on, and turns an engine's panic into an error. Its end also ends the engine, if nobody else holds
/// it: redb writes when it is dropped, over damaged pages too.
pub(super) struct Guarded(Option<Arc<dyn Store>>);

impl Drop for Guarded {
    fn drop(&mut self) {
        let store = self.0.take();
        if catch_unwind(AssertUnwindSafe(|| drop(store))).is_err() {
            tracing::error!("the engine failed while it was closed; every acknowledged write was durable before");
        }
    }
}

impl Guarded {
    /// Runs an engine's opening and puts itself in front of what it gives.
    ///
    /// # Errors
    /// What `open` returns, and [`StoreError::Corrupt`] when it panics over damaged files.
    pub(super) fn open<S: Store>(
        engine: &'static str,
        open: impl FnOnce() -> Result<S, StoreError>,
    ) -> Result<Arc<dyn Store>, StoreError> {
        let store = catch_unwind(AssertUnwindSafe(open))
            .unwrap_or_else(|_| Err(StoreError::Corrupt(format!("{engine} cannot read its files"))))?;
        Ok(Arc::new(Self(Some(Arc::new(store)))))
    }

    fn store(&self) -> &dyn Store {
        self.0.as_deref().expect("taken only by drop")
    }

    // Nothing of the engine's is looked at after a panic but through this guard, and what it then returns is
    // authenticated like everything else.
    fn reading<T>(&self, read: impl FnOnce(&dyn Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        catch_unwind(AssertUnwindSafe(|| read(self.store())))
            .unwrap_or_else(|_| Err(StoreError::Corrupt(format!("{} cannot read its pages", self.store().engine()))))
    }
}

impl Store for Guarded {
    fn engine(&self) -> &'static str {
        self.store().engine()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        self.reading(|store| store.get(key))
    }

    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.reading(|store| store.scan(prefix, visit))
    }

    fn scan_heads(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.reading(|store| store.scan_heads(prefix, visit))
    }

    fn commit(&self, batch: &Batch) -> Result<CommitSeq, StoreError> {
        // Whether anything was applied before the panic is unknown: that is what a failed sync means.
        catch_unwind(AssertUnwindSafe(|| self.store().commit(batch)))
            .unwrap_or_else(|_| Err(StoreError::Sync(format!("{} failed in a commit", self.store().engine()))))
    }

    fn sequence(&self) -> Result<CommitSeq, StoreError> {
        self.reading(Store::sequence)
    }
}
