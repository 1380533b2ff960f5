//! The reference engine: a sorted map. It is durable while the process lives, which is enough for tests of the layers
//! above.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use parking_lot::RwLock;

use super::{Batch, CommitSeq, HEAD_BYTES, Op, Store, StoreError, Stored, Visit};

/// A store in memory.
#[derive(Default)]
pub struct MemoryStore(RwLock<State>);

#[derive(Default, Clone)]
struct State {
    records: BTreeMap<Vec<u8>, Stored>,
    sequence: CommitSeq,
}

impl MemoryStore {
    /// A second store with the same content: an older copy to restore later, in tests of rollback detection.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn copy(&self) -> Self {
        Self(RwLock::new(self.0.read().clone()))
    }

    /// Changes stored bytes without a commit, like a malicious or failing disk.
    #[cfg(test)]
    pub(crate) fn tamper(&self, change: impl FnOnce(&mut BTreeMap<Vec<u8>, Stored>)) {
        change(&mut self.0.write().records);
    }
}

impl Store for MemoryStore {
    fn engine(&self) -> &'static str {
        "memory"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        Ok(self.0.read().records.get(key).cloned())
    }

    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        let state = self.0.read();
        for (key, stored) in state.records.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix)) {
            if let ControlFlow::Break(()) = visit(key, &stored.value) {
                break;
            }
        }
        Ok(())
    }

    fn scan_heads(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.scan(prefix, &mut |key, value| visit(key, value.get(..HEAD_BYTES).unwrap_or(value)))
    }

    fn commit(&self, batch: &Batch) -> Result<CommitSeq, StoreError> {
        batch.check()?;
        let mut state = self.0.write();
        for condition in &batch.preconditions {
            let found = state.records.get(&condition.key).map(|stored| stored.revision);
            if !condition.expect.holds(found) {
                return Err(StoreError::Conflict);
            }
        }
        let revision = CommitSeq(state.sequence.0 + 1);
        for op in &batch.ops {
            match op {
                Op::Put { key, value } => {
                    state.records.insert(key.clone(), Stored { value: value.clone(), revision });
                }
                Op::Delete { key } => {
                    state.records.remove(key);
                }
            }
        }
        state.sequence = revision;
        Ok(revision)
    }

    #[cfg(any(test, feature = "testing"))]
    fn sequence(&self) -> Result<CommitSeq, StoreError> {
        Ok(self.0.read().sequence)
    }
}
