//! Censuses that must learn which keys the published groups change.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::barrier::index::Stamp;
use crate::barrier::names::StoreKey;

/// Largest number of keys that are noted.
pub(super) const MAX_CHANGED: usize = 1 << 18;

/// Keys that published groups have changed since a census began.
#[derive(Default)]
pub(super) struct Changed {
    pub keys: BTreeSet<StoreKey>,
    /// Whether there were more changes than can be noted.
    pub overflown: bool,
}

/// Every census that must learn which keys are changed.
#[derive(Default)]
pub(in crate::barrier) struct Watches(Vec<Weak<Mutex<Changed>>>);

impl Watches {
    /// Also reports changes to `changed`, as long as something else holds it.
    pub(super) fn add(&mut self, changed: &Arc<Mutex<Changed>>) {
        self.0.push(Arc::downgrade(changed));
    }

    /// Reports changes to them. Called under the lock under which the index is changed.
    pub(in crate::barrier) fn tell(&mut self, changes: &[(StoreKey, Option<Stamp>)]) {
        self.0.retain(|watch| {
            let Some(watch) = watch.upgrade() else { return false };
            let mut changed = watch.lock();
            if changed.keys.len().saturating_add(changes.len()) > MAX_CHANGED {
                (changed.keys, changed.overflown) = (BTreeSet::new(), true);
            } else {
                changed.keys.extend(changes.iter().map(|(key, _)| *key));
            }
            true
        });
    }
}
