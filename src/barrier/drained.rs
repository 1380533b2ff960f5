//! The proof that nothing is under a term any more, so that its key may be destroyed (amendment M4).
//!
//! A [`Census`] reads the head of every stored record once, beside readers and writers, and counts all terms. A short
//! check under the writer's lock ([`Group::prove_drained`]) then carries it over to the generation of that group. Why
//! that is a proof:
//!
//! 1. Before anything else the census has every key remembered that a published group changes.
//! 2. Then it notes the active term. The committer seals under the active term only, a term that has stopped being
//!    active never is again, and the header that replaced it was written under the writer's lock. So from this moment on
//!    nothing is sealed under any other term that exists, and the active one cannot be proved by this census.
//! 3. Each record is either found equal to the index, and counted under its term, or its key is remembered: a group in
//!    flight is in the store before it is in the index. So is a key of the index that the scan does not meet.
//! 4. Under the lock no group is in flight. What is remembered is compared once more, and must be equal now; the number
//!    of such keys is small, because most of them were compared again before, off the lock. A record that is not
//!    remembered has not been changed since it was found equal.
//! 5. So every record in the store is the one that the index names, and one under the term would have been counted by
//!    the census (if unchanged), or found by the last comparison (if changed, which 2 excludes). The counter of the state,
//!    kept by the committer itself, must be 0, too.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::keys::TermState;

use super::error::BarrierError;
use super::group::Group;
use super::index::Stamp;
use super::names::StoreKey;
use super::open::Barrier;
use super::watches::{Changed, MAX_CHANGED};

/// Records compared under one look at the index.
const PAGE: usize = 1_024;
/// Keys that may be left for the check under the lock; it reads one head for each.
const FEW: usize = 64;
/// Rounds of comparing again before the rest is left to the check under the lock, however many writers there are.
const ROUNDS: usize = 16;

/// A term that nothing refers to, as of one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// The term.
    pub term: u32,
    /// The last generation before the proof.
    pub generation: u64,
    /// Stored records: the head of each was read, and is equal to the index.
    pub records: u64,
}

/// What was found in one scan over the whole store, and what has changed since. Costs memory for each record that is
/// changed while it lives; see the head of this file for what it proves.
pub struct Census {
    /// Term that sealed when the scan began.
    active: u32,
    /// Records found equal to the index, by term. Contents of versions have none.
    under: BTreeMap<u32, u64>,
    /// To be compared again.
    suspects: BTreeSet<StoreKey>,
    changed: Arc<Mutex<Changed>>,
}

impl Barrier {
    /// Reads the head of every stored record and counts all terms. Readers and writers go on meanwhile.
    ///
    /// # Errors
    /// [`BarrierError::Integrity`] when the store holds what no vault writes; writes stop then. [`BarrierError::Store`];
    /// [`BarrierError::TooManyChanges`].
    pub fn census(&self) -> Result<Census, BarrierError> {
        let changed = Arc::default();
        self.published.write().watches.add(&changed);
        let active = self.ring.load().keyring.active_term().id;
        let mut census = Census { active, under: BTreeMap::new(), suspects: BTreeSet::new(), changed };
        census.scan(self)?;
        census.catch_up(self)?;
        Ok(census)
    }

    /// The stamp of what is stored under `key`; `None` when nothing is or it has none.
    fn stored_stamp(&self, key: &StoreKey) -> Result<Option<Stamp>, BarrierError> {
        let mut stamp = None;
        // The first key with this prefix, in the order of the keys, is the key itself or there is none.
        self.store.scan_heads(key.as_bytes(), &mut |found, head| {
            if found == key.as_bytes() {
                stamp = Stamp::of(head).ok();
            }
            ControlFlow::Break(())
        })?;
        Ok(stamp)
    }
}

impl Census {
    fn scan(&mut self, barrier: &Barrier) -> Result<(), BarrierError> {
        let (mut page, mut from, mut foreign) = (Vec::with_capacity(PAGE), Bound::Unbounded, false);
        let mut last = None;
        barrier.store.scan_heads(&[], &mut |key, head| {
            // Keys in another order would be taken for missing ones below; an engine that gives them is broken.
            let Some(key) = StoreKey::parse(key).filter(|key| last.is_none_or(|last| last < *key)) else {
                foreign = true;
                return ControlFlow::Break(());
            };
            last = Some(key);
            if key.letter() != b's' {
                page.push((key, Stamp::of(head).ok()));
            }
            if page.len() == PAGE {
                self.compare(barrier, &mut page, &mut from, Bound::Included(key));
            }
            ControlFlow::Continue(())
        })?;
        if foreign {
            return Err(barrier.degrade("the store differs from the index"));
        }
        self.compare(barrier, &mut page, &mut from, Bound::Unbounded);
        Ok(())
    }

    /// Compares `page` with the part of the index from `from` to `to`, and empties it.
    fn compare(
        &mut self,
        barrier: &Barrier,
        page: &mut Vec<(StoreKey, Option<Stamp>)>,
        from: &mut Bound<StoreKey>,
        to: Bound<StoreKey>,
    ) {
        let published = barrier.published.read();
        let mut indexed = published.index.range((*from, to)).peekable();
        for (key, stamp) in page.drain(..) {
            while let Some((missed, _)) = indexed.next_if(|(known, _)| **known < key) {
                self.suspects.insert(*missed);
            }
            match (indexed.next_if(|(known, _)| **known == key), stamp) {
                (Some((_, known)), Some(stamp)) if *known == stamp => self.count(&stamp),
                _ => {
                    self.suspects.insert(key);
                }
            }
        }
        self.suspects.extend(indexed.map(|(missed, _)| *missed));
        if let Bound::Included(last) = to {
            *from = Bound::Excluded(last);
        }
    }

    fn count(&mut self, stamp: &Stamp) {
        // A stamp has been read as a head before.
        if let Ok(head) = stamp.head()
            && head.term != 0
        {
            *self.under.entry(head.term).or_default() += 1;
        }
    }

    /// Compares again what has changed since, off the writer's lock, until little of it is left for the check under the
    /// lock. Worth a call when some time has passed.
    ///
    /// # Errors
    /// [`BarrierError::Store`]; [`BarrierError::TooManyChanges`].
    pub fn catch_up(&mut self, barrier: &Barrier) -> Result<(), BarrierError> {
        for _ in 0..ROUNDS {
            self.remember()?;
            if self.suspects.len() <= FEW {
                break;
            }
            let mut left = BTreeSet::new();
            for key in &self.suspects {
                // Changed after this look, it is remembered again when its group is published.
                let stored = barrier.stored_stamp(key)?;
                if barrier.published.read().index.get(key) != stored.as_ref() {
                    left.insert(*key);
                }
            }
            self.suspects = left;
        }
        Ok(())
    }

    /// Takes over what has changed since the last call.
    fn remember(&mut self) -> Result<(), BarrierError> {
        let mut changed = self.changed.lock();
        self.suspects.append(&mut changed.keys);
        if changed.overflown || self.suspects.len() > MAX_CHANGED {
            return Err(BarrierError::TooManyChanges);
        }
        Ok(())
    }
}

impl Group<'_> {
    /// Proves that none of `terms` is needed at the generation before this group, and therefore in this group: see the
    /// head of this file. Nothing can be written meanwhile, reads go on; what is read from the store is only what has
    /// changed since the census and was not compared again yet.
    ///
    /// # Errors
    /// [`BarrierError::NotDrained`] when something is under a term, or it was active when the census began, or is;
    /// [`BarrierError::Integrity`] when store and index differ, and writes stop; [`BarrierError::Store`];
    /// [`BarrierError::TooManyChanges`]; [`BarrierError::Degraded`] or [`BarrierError::Fatal`] when writes are stopped.
    pub fn prove_drained(&self, census: &mut Census, terms: &[u32]) -> Result<Vec<Drained>, BarrierError> {
        let barrier = self.barrier;
        barrier.check_writable()?;
        let known = barrier.terms();
        for term in terms.iter().copied() {
            let status = known.iter().find(|status| status.term == term);
            let usable = status.filter(|status| status.state != TermState::Active && term != census.active);
            let counted = census.under.get(&term).copied().unwrap_or(0);
            let live = usable.map(|status| status.live.max(counted));
            if live != Some(0) {
                return Err(BarrierError::NotDrained { term, live: live.unwrap_or(0) });
            }
        }
        census.remember()?;
        for key in &census.suspects {
            let stored = barrier.stored_stamp(key)?;
            if barrier.published.read().index.get(key) != stored.as_ref() {
                return Err(barrier.degrade("the store differs from the index"));
            }
            let term = stored.and_then(|stamp| stamp.head().ok()).map_or(0, |head| head.term);
            if terms.contains(&term) {
                return Err(BarrierError::NotDrained { term, live: 1 });
            }
        }
        census.suspects.clear();
        let (generation, records) = (self.writer.state.generation, barrier.record_count());
        Ok(terms.iter().map(|term| Drained { term: *term, generation, records }).collect())
    }
}
