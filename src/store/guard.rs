//! A store whose engine may panic. Both engines panic over damaged pages, also while they serve and not only when they
//! open. A damaged disk must lead to an error with a name, not to the end of a thread that holds locks.
//!
//! Only panics of the engine become errors. A scan calls back into our own code; a panic there is a defect of ours, and
//! passes through as one.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use super::{Batch, CommitSeq, Store, StoreError, Stored, Visit};

thread_local! {
    /// Whether this thread is inside an engine.
    static IN_ENGINE: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread is one of an engine, which becomes a [`StoreError`], and so no defect to report.
#[must_use]
pub fn in_engine() -> bool {
    IN_ENGINE.get()
}

/// Runs `work`, which may panic. `engine` says whether it is the engine's.
///
/// # Errors
/// It has panicked.
fn run<T>(engine: bool, work: impl FnOnce() -> T) -> std::thread::Result<T> {
    let outer = IN_ENGINE.replace(engine);
    let result = catch_unwind(AssertUnwindSafe(work));
    IN_ENGINE.set(outer);
    result
}

/// Runs work of an engine.
///
/// # Errors
/// What it panicked with.
fn caught<T>(work: impl FnOnce() -> T) -> std::thread::Result<T> {
    run(true, work)
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

    /// As [`Guarded::reading`], with a visitor of ours. Its panic ends the scan and is passed on afterwards, so that it does not
    /// unwind the engine and is not taken for damage.
    fn visiting(
        &self,
        visit: Visit<'_>,
        read: impl FnOnce(&dyn Store, Visit<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut panic = None;
        let result = self.reading(|store| {
            read(store, &mut |key, value| {
                run(false, || visit(key, value)).unwrap_or_else(|payload| {
                    panic = Some(payload);
                    ControlFlow::Break(())
                })
            })
        });
        match panic {
            Some(payload) => resume_unwind(payload),
            None => result,
        }
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
        self.visiting(visit, |store, visit| store.scan(prefix, visit))
    }

    fn scan_heads(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.visiting(visit, |store, visit| store.scan_heads(prefix, visit))
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

#[cfg(test)]
mod tests {
    use super::super::MemoryStore;
    use super::*;

    type Scan = fn(&dyn Store, Visit<'_>) -> Result<(), StoreError>;

    /// An engine that panics over the key `bad`, as both do over damaged pages.
    struct Brittle(MemoryStore);

    impl Store for Brittle {
        fn engine(&self) -> &'static str {
            "brittle"
        }

        fn get(&self, key: &[u8]) -> Result<Option<Stored>, StoreError> {
            assert!(in_engine() && key != b"bad", "a damaged page");
            self.0.get(key)
        }

        fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
            self.0.scan(prefix, &mut |key, value| {
                assert!(in_engine() && key != b"bad", "a damaged page");
                visit(key, value)
            })
        }

        fn scan_heads(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
            self.scan(prefix, visit)
        }

        fn commit(&self, batch: &Batch) -> Result<CommitSeq, StoreError> {
            self.0.commit(batch)
        }

        fn sequence(&self) -> Result<CommitSeq, StoreError> {
            self.0.sequence()
        }
    }

    fn guarded(key: &str) -> Arc<dyn Store> {
        let store = Guarded::open("brittle", || Ok(Brittle(MemoryStore::default()))).expect("opens");
        store.commit(Batch::default().put("a", "1").put(key, "2")).expect("commits");
        store
    }

    #[test]
    fn a_panic_of_the_engine_is_damage_and_one_of_the_visitor_is_not() {
        let mut seen = 0;
        let result = guarded("bad").scan(b"", &mut |_, _| {
            assert!(!in_engine(), "this is not the engine");
            seen += 1;
            ControlFlow::Continue(())
        });
        assert!(matches!(result, Err(StoreError::Corrupt(_))), "{result:?}");
        assert_eq!((seen, in_engine()), (1, false));

        let store = guarded("b");
        let scans: [Scan; 2] = [|store, visit| store.scan(b"", visit), |store, visit| store.scan_heads(b"", visit)];
        for scan in scans {
            let ended = catch_unwind(AssertUnwindSafe(|| scan(&*store, &mut |_, _| panic!("a defect of ours"))));
            let payload = ended.expect_err("a panic stays a panic");
            assert_eq!(payload.downcast_ref(), Some(&"a defect of ours"));
            assert!(!in_engine());
        }
        assert!(matches!(guarded("bad").get(b"bad"), Err(StoreError::Corrupt(_))));
    }
}
