//! What readers see. It changes by one whole group at a time.

use super::index::{Index, Shadow, Stamp};
use super::names::StoreKey;
use super::recovery::summing::Sums;
use super::state::{StateRecord, TermUse};
use super::status::AuditHead;
use super::terms::watches::Watches;

/// Everything that readers see. Each part is replaced under one lock.
pub(super) struct Published {
    pub index: Index,
    /// Filled before the engine commit, and dropped when the group is published.
    pub shadow: Shadow,
    pub generation: u64,
    pub audit: AuditHead,
    pub terms: Vec<TermUse>,
    /// Notified of what each group changes.
    pub watches: Watches,
    /// Sums over the index that are in progress.
    pub sums: Sums,
}

impl Published {
    /// Creates what readers see of a state and its records.
    pub(super) fn new(index: Index, state: &StateRecord) -> Self {
        let (generation, audit, terms) = (state.generation, state.audit, state.terms.clone());
        let (watches, sums) = (Watches::default(), Sums::default());
        Self { index, shadow: Shadow::new(), generation, audit, terms, watches, sums }
    }

    /// Publishes a group: all its changes at once.
    pub(super) fn apply(&mut self, changes: &[(StoreKey, Option<Stamp>)], state: &StateRecord) {
        for (key, stamp) in changes {
            let before = match stamp {
                Some(stamp) => self.index.insert(*key, *stamp),
                None => self.index.remove(key),
            };
            self.sums.tell(key, before.as_ref(), stamp.as_ref());
        }
        self.watches.tell(changes);
        self.shadow.clear();
        self.generation = state.generation;
        self.audit = state.audit;
        self.terms.clone_from(&state.terms);
    }
}
