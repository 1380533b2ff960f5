//! Computes the set hash over the published index again while writers work: it adds the records in the order of their
//! keys, and each published group updates the part that was summed already.

use std::sync::Weak;

use parking_lot::Mutex;

use crate::crypto::hash::{MacKey, SetHash};

use crate::barrier::index::Stamp;
use crate::barrier::names::StoreKey;
use crate::barrier::state::leaf;

/// A sum in progress. Changed only under the lock of the index.
pub(super) struct RunningSum {
    set: MacKey,
    /// Id of the integrity set that the key belongs to.
    pub set_id: u32,
    pub sum: SetHash,
    /// Last key that is in the sum.
    done: Option<StoreKey>,
    /// Whether all keys are in the sum.
    pub whole: bool,
}

impl RunningSum {
    pub(super) fn new(set: MacKey, set_id: u32) -> Self {
        Self { set, set_id, sum: SetHash::empty(), done: None, whole: false }
    }

    /// Adds the next record in the order of the keys.
    pub(super) fn add(&mut self, key: &StoreKey, stamp: &Stamp) {
        self.sum.add(leaf(&self.set, key, stamp));
        self.done = Some(*key);
    }

    fn changed(&mut self, key: &StoreKey, before: Option<&Stamp>, after: Option<&Stamp>) {
        if !self.whole && self.done.is_none_or(|done| *key > done) {
            return;
        }
        if let Some(before) = before {
            self.sum.sub(leaf(&self.set, key, before));
        }
        if let Some(after) = after {
            self.sum.add(leaf(&self.set, key, after));
        }
    }
}

/// All sums in progress.
#[derive(Default)]
pub(in crate::barrier) struct Sums(Vec<Weak<Mutex<RunningSum>>>);

impl Sums {
    pub(super) fn enter(&mut self, sum: Weak<Mutex<RunningSum>>) {
        self.0.push(sum);
    }

    /// Updates all sums after a group has changed a record.
    pub(in crate::barrier) fn tell(&mut self, key: &StoreKey, before: Option<&Stamp>, after: Option<&Stamp>) {
        self.0.retain(|sum| {
            let Some(sum) = sum.upgrade() else { return false };
            sum.lock().changed(key, before, after);
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::barrier::index::Index;
    use crate::barrier::state::sum;
    use crate::crypto::Key;

    fn key(n: u64) -> StoreKey {
        StoreKey::value(&[1; 16], n)
    }

    fn stamp(n: u8) -> Stamp {
        Stamp { head: [n; 28], commitment: [n; 32] }
    }

    /// Changes any of five records while the sum has reached any of them.
    #[test]
    fn a_change_before_at_or_after_the_last_summed_key_gives_the_sum_of_what_there_is_now() {
        let set = || MacKey::new(&Key::fill_with(|out| out.fill(3)));
        for reached in 0..=5 {
            for changed in 0..5 {
                for after in [Some(stamp(9)), None] {
                    let mut index: Index = (0..5).map(|n| (key(n), stamp(1))).collect();
                    let running = Arc::new(Mutex::new(RunningSum::new(set(), 1)));
                    let mut sums = Sums::default();
                    sums.enter(Arc::downgrade(&running));
                    index.range(..key(reached)).for_each(|(key, stamp)| running.lock().add(key, stamp));
                    running.lock().whole = reached == 5;
                    let before = match after {
                        Some(after) => index.insert(key(changed), after),
                        None => index.remove(&key(changed)),
                    };
                    sums.tell(&key(changed), before.as_ref(), after.as_ref());
                    // A record that is new, behind all others.
                    index.insert(key(7), stamp(7));
                    sums.tell(&key(7), None, Some(&stamp(7)));
                    let whole = reached == 5;
                    let rest = index.range(key(reached)..).filter(|_| !whole);
                    rest.for_each(|(key, stamp)| running.lock().add(key, stamp));
                    assert!(running.lock().sum.ct_eq(&sum(&set(), &index)), "reached {reached}, changed {changed}");
                }
            }
        }
    }
}
