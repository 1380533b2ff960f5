//! A store that fails or lies on demand, around a real one. Tests use it to prove that the layers above notice.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Batch, CommitSeq, HEAD_BYTES, Store, StoreError, Stored, Visit};

/// How a commit fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// [`StoreError::Sync`], nothing applied.
    Before,
    /// [`StoreError::Sync`], though everything was applied.
    After,
    /// [`StoreError::Full`], nothing applied. [`Store::admits`] says so before the commit.
    Full,
}

/// What a read of a key returns instead of the truth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lie {
    /// An earlier value of the key.
    Old(Stored),
    /// Nothing.
    Absent,
    /// The stored bytes with one bit of the last byte flipped. An empty value reads as one zero byte.
    Altered,
}

#[derive(Default)]
struct Faults {
    commits: u64,
    failures: BTreeMap<u64, Failure>,
    lies: BTreeMap<Vec<u8>, Lie>,
}

/// A wrapper that follows a plan of failures and lies.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    plan: Mutex<Faults>,
}

impl FaultyStore {
    /// Passes everything through to `inner` until told otherwise.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>) -> Self {
        Self { inner, plan: Mutex::default() }
    }

    /// Makes the `n`-th commit from now fail; 1 is the next one.
    pub fn fail_commit(&self, n: u64, failure: Failure) {
        let mut plan = self.plan.lock();
        let at = plan.commits.saturating_add(n);
        plan.failures.insert(at, failure);
    }

    /// From now on, reads of `key` return this lie, whatever is stored.
    pub fn lie(&self, key: impl Into<Vec<u8>>, lie: Lie) {
        self.plan.lock().lies.insert(key.into(), lie);
    }

    /// Tells the truth again.
    pub fn stop_lying(&self) {
        self.plan.lock().lies.clear();
    }

    fn lie_about(&self, key: &[u8]) -> Option<Lie> {
        self.plan.lock().lies.get(key).cloned()
    }
}

/// What is returned for a value that is really `truth`.
fn tell(lie: Option<Lie>, truth: &[u8]) -> Option<Vec<u8>> {
    match lie {
        None => Some(truth.to_vec()),
        Some(Lie::Absent) => None,
        Some(Lie::Old(old)) => Some(old.value),
        Some(Lie::Altered) => {
            let mut value = truth.to_vec();
            match value.last_mut() {
                Some(last) => *last ^= 1,
                None => value.push(0),
            }
            Some(value)
        }
    }
}

impl Store for FaultyStore {
    fn engine(&self) -> &'static str {
        self.inner.engine()
    }

    fn get(&self, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        let Some(truth) = self.inner.get(key)? else { return Ok(None) };
        let lie = self.lie_about(key);
        let revision = match &lie {
            Some(Lie::Old(old)) => old.revision,
            _ => truth.revision,
        };
        Ok(tell(lie, &truth.value).map(|value| Stored { value, revision }))
    }

    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.inner.scan(prefix, &mut |key, truth| match tell(self.lie_about(key), truth) {
            Some(value) => visit(key, &value),
            None => ControlFlow::Continue(()),
        })
    }

    fn scan_heads(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        let lying = !self.plan.lock().lies.is_empty();
        if !lying {
            return self.inner.scan_heads(prefix, visit);
        }
        // A lie concerns the whole value, so its head is taken from the lie.
        self.scan(prefix, &mut |key, value| visit(key, value.get(..HEAD_BYTES).unwrap_or(value)))
    }

    fn commit(&self, batch: &Batch) -> Result<CommitSeq, StoreError> {
        let failure = {
            let mut plan = self.plan.lock();
            plan.commits += 1;
            let now = plan.commits;
            plan.failures.remove(&now)
        };
        let planned = || StoreError::Sync("planned failure".into());
        match failure {
            None => self.inner.commit(batch),
            Some(Failure::Before) => Err(planned()),
            Some(Failure::Full) => Err(StoreError::Full),
            Some(Failure::After) => {
                self.inner.commit(batch)?;
                Err(planned())
            }
        }
    }

    fn admits(&self, batch: &Batch) -> Result<(), StoreError> {
        let next = {
            let plan = self.plan.lock();
            plan.failures.get(&plan.commits.saturating_add(1)).copied()
        };
        if next == Some(Failure::Full) { Err(StoreError::Full) } else { self.inner.admits(batch) }
    }

    fn sequence(&self) -> Result<CommitSeq, StoreError> {
        self.inner.sequence()
    }
}

#[cfg(test)]
mod tests {
    use super::super::MemoryStore;
    use super::*;

    fn with(value: &[u8]) -> (FaultyStore, Stored) {
        let store = FaultyStore::new(Arc::new(MemoryStore::default()));
        let mut batch = Batch::default();
        store.commit(batch.put("k", value)).expect("no failure is planned");
        let stored = store.get(b"k").expect("reads").expect("present");
        (store, stored)
    }

    #[test]
    fn the_planned_commit_fails_and_only_that_one() {
        for (failure, applied) in [(Failure::Before, false), (Failure::After, true), (Failure::Full, false)] {
            let (store, _) = with(b"one");
            store.fail_commit(2, failure);
            let mut batch = Batch::default();
            batch.put("other", "1");
            store.commit(&batch).expect("the second is planned to fail");
            let outcome = store.commit(Batch::default().put("k", "two"));
            assert!(matches!(
                (failure, outcome),
                (Failure::Full, Err(StoreError::Full)) | (_, Err(StoreError::Sync(_)))
            ));
            let now = store.get(b"k").expect("reads").expect("present").value;
            assert_eq!(now == b"two", applied, "{failure:?}");
            store.commit(&batch).expect("the plan is done");
        }
    }

    #[test]
    fn reads_lie_as_told() {
        let (store, old) = with(b"one");
        store.commit(Batch::default().put("k", "two")).expect("commits");
        store.lie("k", Lie::Old(old.clone()));
        assert_eq!(store.get(b"k").expect("reads"), Some(old));
        store.lie("k", Lie::Altered);
        assert_eq!(store.get(b"k").expect("reads").expect("present").value, b"twn");
        store.lie("k", Lie::Absent);
        assert_eq!(store.get(b"k").expect("reads"), None);
        let mut seen = 0;
        let mut count = |_: &[u8], _: &[u8]| {
            seen += 1;
            ControlFlow::Continue(())
        };
        store.scan_heads(b"", &mut count).expect("scans");
        store.stop_lying();
        store.scan_heads(b"", &mut count).expect("scans");
        assert_eq!(seen, 1);
    }
}
