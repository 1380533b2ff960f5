//! The changes of a group before it is stored. They can be undone back to any earlier point.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::crypto::envelope::Kind;
use crate::crypto::{Key, SecretBytes};

use super::index::Shadow;
use super::names::StoreKey;

/// A record that is sealed when the group closes, because its generation is not known earlier.
pub(super) struct Pending {
    pub kind: Kind,
    /// Bound path: mount id, then path.
    pub path: Vec<u8>,
    pub body: SecretBytes,
    /// Key and number of a version; `None` for records under the term.
    pub version: Option<(u64, Key)>,
}

/// One change.
pub(super) enum Change {
    Put(Pending),
    Delete,
}

impl Change {
    fn bytes(&self) -> usize {
        match self {
            Self::Put(pending) => pending.body.len(),
            Self::Delete => 0,
        }
    }
}

/// All changes so far, and what is needed to undo them.
#[derive(Default)]
pub(super) struct Overlay {
    changes: BTreeMap<StoreKey, Change>,
    undo: Vec<(StoreKey, Option<Change>)>,
    /// Stored bytes of what is overwritten or deleted. Readers need them between the engine commit and publishing.
    old: Shadow,
    /// Bytes of the bodies in `changes` and of the records in `old`.
    bytes: usize,
}

impl Overlay {
    /// Number of bytes that the group holds in memory: new bodies, and old ones that readers may still need. The sealed
    /// records are made when the group closes and take about as much as the bodies again.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Replaces the change of `key` with `change` (or with nothing) and returns the old one.
    fn exchange(&mut self, key: StoreKey, change: Option<Change>) -> Option<Change> {
        self.bytes = self.bytes.saturating_add(change.as_ref().map_or(0, Change::bytes));
        let before = match change {
            Some(change) => self.changes.insert(key, change),
            None => self.changes.remove(&key),
        };
        self.bytes = self.bytes.saturating_sub(before.as_ref().map_or(0, Change::bytes));
        before
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    pub(super) fn get(&self, key: &StoreKey) -> Option<&Change> {
        self.changes.get(key)
    }

    pub(super) fn set(&mut self, key: StoreKey, change: Change) {
        let before = self.exchange(key, Some(change));
        self.undo.push((key, before));
    }

    /// Undoes a change although its closure continues: the record was made in this group and never stored.
    pub(super) fn forget(&mut self, key: StoreKey) {
        if let Some(before) = self.exchange(key, None) {
            self.undo.push((key, Some(before)));
        }
    }

    pub(super) fn range(&self, first: StoreKey, last: StoreKey) -> impl Iterator<Item = (&StoreKey, &Change)> {
        self.changes.range(first..=last)
    }

    pub(super) fn changes(&self) -> impl Iterator<Item = (&StoreKey, &Change)> {
        self.changes.iter()
    }

    /// Starts a closure: later changes can be undone with [`Overlay::rollback`].
    pub(super) fn savepoint(&mut self) {
        self.undo.clear();
    }

    /// Undoes everything since the last savepoint.
    pub(super) fn rollback(&mut self) {
        self.rollback_to(0);
    }

    /// Number of changes since the last savepoint.
    pub(super) fn steps(&self) -> usize {
        self.undo.len()
    }

    /// Undoes all but the first `steps` changes since the last savepoint.
    pub(super) fn rollback_to(&mut self, steps: usize) {
        drop(self.set_aside(steps));
    }

    /// Keys of what was changed after the first `steps` changes since the last savepoint. Some may occur twice.
    pub(super) fn changed_after(&self, steps: usize) -> impl Iterator<Item = &StoreKey> {
        self.undo.iter().skip(steps).map(|(key, _)| key)
    }

    /// As [`Overlay::rollback_to`], but returns the changes for [`Overlay::put_back`].
    pub(super) fn set_aside(&mut self, steps: usize) -> Vec<(StoreKey, Option<Change>)> {
        let mut aside = Vec::new();
        while self.undo.len() > steps
            && let Some((key, before)) = self.undo.pop()
        {
            aside.push((key, self.exchange(key, before)));
        }
        aside
    }

    /// Makes again the changes that the last [`Overlay::set_aside`] returned.
    pub(super) fn put_back(&mut self, aside: Vec<(StoreKey, Option<Change>)>) {
        for (key, change) in aside.into_iter().rev() {
            let before = self.exchange(key, change);
            self.undo.push((key, before));
        }
    }

    pub(super) fn keep_old(&mut self, key: StoreKey, bytes: Arc<Vec<u8>>) {
        self.bytes = self.bytes.saturating_add(bytes.len());
        if let Some(before) = self.old.insert(key, bytes) {
            self.bytes = self.bytes.saturating_sub(before.len());
        }
    }

    /// Whether the stored bytes of a record are already kept.
    pub(super) fn keeps_old(&self, key: &StoreKey) -> bool {
        self.old.contains_key(key)
    }

    /// Takes the stored bytes, for the readers.
    pub(super) fn take_old(&mut self) -> Shadow {
        self.bytes = self.changes.values().map(Change::bytes).sum();
        std::mem::take(&mut self.old)
    }
}
