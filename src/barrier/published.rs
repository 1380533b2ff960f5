//! What readers see, changed by a whole group at a time.

use super::index::{Index, Shadow, Stamp};
use super::names::StoreKey;
use super::state::{StateRecord, TermUse};
use super::status::AuditHead;
use super::watches::Watches;

/// Everything that readers see; replaced piece by piece under one lock.
pub(super) struct Published {
    pub index: Index,
    /// Filled before the engine commit, dropped at publish.
    pub shadow: Shadow,
    pub generation: u64,
    pub audit: AuditHead,
    pub terms: Vec<TermUse>,
    /// Told what each group changes.
    pub watches: Watches,
}

impl Published {
    /// What a state and its records look like to readers.
    pub(super) fn new(index: Index, state: &StateRecord) -> Self {
        let (generation, audit, terms) = (state.generation, state.audit, state.terms.clone());
        Self { index, shadow: Shadow::new(), generation, audit, terms, watches: Watches::default() }
    }

    /// Shows a group: all its changes at once.
    pub(super) fn apply(&mut self, changes: &[(StoreKey, Option<Stamp>)], state: &StateRecord) {
        for (key, stamp) in changes {
            match stamp {
                Some(stamp) => self.index.insert(*key, *stamp),
                None => self.index.remove(key),
            };
        }
        self.watches.tell(changes);
        self.shadow.clear();
        self.generation = state.generation;
        self.audit = state.audit;
        self.terms.clone_from(&state.terms);
    }
}
