//! A batch of changes, with the conditions under which it is applied.

use super::error::StoreError;
use super::record::{CommitSeq, MAX_KEY_BYTES};

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Writes `value` under `key` and replaces any earlier value.
    Put {
        /// The key.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
    },
    /// Removes `key`. Removing a key that does not exist is not an error.
    Delete {
        /// The key.
        key: Vec<u8>,
    },
}

impl Op {
    /// The key that this changes.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn key(&self) -> &[u8] {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// Required state of a key before the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// Nothing is stored there.
    Absent,
    /// This commit wrote it last.
    Revision(CommitSeq),
    /// Anything.
    #[cfg(any(test, feature = "testing"))]
    Any,
}

impl Expect {
    /// Whether a key satisfies this. `found` is the commit that wrote it last.
    #[must_use]
    pub fn holds(self, found: Option<CommitSeq>) -> bool {
        match self {
            Self::Absent => found.is_none(),
            Self::Revision(revision) => found == Some(revision),
            #[cfg(any(test, feature = "testing"))]
            Self::Any => true,
        }
    }
}

/// A condition on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precondition {
    /// The key.
    pub key: Vec<u8>,
    /// What must be true of it.
    pub expect: Expect,
}

/// Changes that are applied together and in order, if every precondition holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The changes. If two change the same key, the later one wins.
    pub ops: Vec<Op>,
    /// Checked against the state before the batch.
    pub preconditions: Vec<Precondition>,
}

impl Batch {
    /// Adds a write.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> &mut Self {
        self.ops.push(Op::Put { key: key.into(), value: value.into() });
        self
    }

    /// Adds a removal.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) -> &mut Self {
        self.ops.push(Op::Delete { key: key.into() });
        self
    }

    /// Adds a condition.
    pub fn require(&mut self, key: impl Into<Vec<u8>>, expect: Expect) -> &mut Self {
        self.preconditions.push(Precondition { key: key.into(), expect });
        self
    }

    /// Rejects new keys longer than [`MAX_KEY_BYTES`] before anything is written. One that somebody put into the store can
    /// be removed.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let long = |op: &Op| matches!(op, Op::Put { key, .. } if key.len() > MAX_KEY_BYTES);
        match self.ops.iter().any(long) {
            true => Err(StoreError::Unavailable("a key is longer than 1,024 bytes".into())),
            false => Ok(()),
        }
    }
}
