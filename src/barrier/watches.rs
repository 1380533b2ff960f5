//! Who wants to know which keys the published groups change.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::index::Stamp;
use super::names::StoreKey;

/// Keys that are remembered at most.
pub(super) const MAX_CHANGED: usize = 1 << 18;

/// Keys that published groups have changed since a census began.
#[derive(Default)]
pub(super) struct Changed {
    pub keys: BTreeSet<StoreKey>,
    /// There were more than can be remembered.
    pub overflown: bool,
}

/// Everyone who wants to know which keys are changed.
#[derive(Default)]
pub(super) struct Watches(Vec<Weak<Mutex<Changed>>>);

impl Watches {
    /// Tells `changed` too, for as long as somebody else holds it.
    pub(super) fn add(&mut self, changed: &Arc<Mutex<Changed>>) {
        self.0.push(Arc::downgrade(changed));
    }

    /// Tells them; called under the lock under which the index is changed.
    pub(super) fn tell(&mut self, changes: &[(StoreKey, Option<Stamp>)]) {
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
