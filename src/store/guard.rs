//! A store whose engine may panic. Both engines panic over damaged pages, also while they serve and not only when they
//! open. A damaged disk must lead to an error with a name, not to the end of a thread that holds locks.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::{Batch, CommitSeq, Store, StoreError, Stored, Visit};

thread_local! {
    /// Whether this thread is inside an engine.
    static IN_ENGINE: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread is one that becomes a [`StoreError`]. A panic hook has nothing to report then.
#[must_use]
pub fn in_engine() -> bool {
    IN_ENGINE.get()
}

/// Runs `work`, which may panic.
///
/// # Errors
/// It has panicked.
fn caught<T>(work: impl FnOnce() -> T) -> std::thread::Result<T> {
    let outer = IN_ENGINE.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    IN_ENGINE.set(outer);
    result
}

/// Passes everything on, and turns a panic of the engine into an error. Dropping it also drops the engine, if nobody
/// else holds it: redb writes when it is dropped, also over damaged pages.
pub(super) struct Guarded(Option<Arc<dyn Store>>);

impl Drop for Guarded {
    fn drop(&mut self) {
        let store = self.0.take();
        if caught(|| drop(store)).is_err() {
            tracing::error!("the engine failed while it was closed; every acknowledged write was durable before that");
        }
    }
}

impl Guarded {
    /// Opens an engine and wraps it.
    ///
    /// # Errors
    /// The errors of `open`, and [`StoreError::Corrupt`] when it panics over damaged files.
    pub(super) fn open<S: Store>(
        engine: &'static str,
        open: impl FnOnce() -> Result<S, StoreError>,
    ) -> Result<Arc<dyn Store>, StoreError> {
        let store =
            caught(open).unwrap_or_else(|_| Err(StoreError::Corrupt(format!("{engine} cannot read its files"))))?;
        Ok(Arc::new(Self(Some(Arc::new(store)))))
    }

    fn store(&self) -> &dyn Store {
        self.0.as_deref().expect("taken only by drop")
    }

    // After a panic, the engine is only reached through this guard, and whatever it then returns is authenticated like
    // everything else.
    fn reading<T>(&self, read: impl FnOnce(&dyn Store) -> Result<T, StoreError>) -> Result<T, StoreError> {
        caught(|| read(self.store()))
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

    fn admits(&self, batch: &Batch) -> Result<(), StoreError> {
        self.reading(|store| store.admits(batch))
    }

    fn commit(&self, batch: &Batch) -> Result<CommitSeq, StoreError> {
        // It is unknown whether anything was applied before the panic. A failed sync means the same.
        caught(|| self.store().commit(batch))
            .unwrap_or_else(|_| Err(StoreError::Sync(format!("{} failed in a commit", self.store().engine()))))
    }

    #[cfg(any(test, feature = "testing"))]
    fn sequence(&self) -> Result<CommitSeq, StoreError> {
        self.reading(Store::sequence)
    }
}
