//! The proof that no record uses a term any more, so that its key can be destroyed (amendment M4).
//!
//! A [`Census`] reads the head of every stored record once, beside readers and writers, and counts the records of each
//! term. A short check under the writer's lock ([`Group::prove_drained`]) then extends the result to the generation of
//! that group. The proof has these steps:
//!
//! 1. Before it does anything else, the census asks for a note of every key that a published group changes.
//! 2. Then it reads the active term. The committer seals only under the active term, a term that is no longer active
//!    never becomes active again, and the header that replaced it was written under the writer's lock. So from this
//!    moment on, nothing is sealed under any other existing term. This census cannot prove the active term.
//! 3. Each record is either found equal to the index and counted under its term, or its key is noted, because a group
//!    in flight is in the store before it is in the index. A key of the index that the scan does not find is noted,
//!    too.
//! 4. Under the lock no group is in flight. The noted records are compared once more and must be equal now. There are
//!    few of them, because most were compared again earlier, without the lock. A record that is not noted has not
//!    changed since it was found equal.
//! 5. So every record in the store is the one that the index names. A record under the term was either counted by the
//!    census (if unchanged) or found by the last comparison (if changed, which step 2 excludes). The committer's own
//!    counter in the state must be 0, too.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::keys::TermState;

use super::watches::{Changed, MAX_CHANGED};
use crate::barrier::error::BarrierError;
use crate::barrier::group::Group;
use crate::barrier::index::Stamp;
use crate::barrier::names::StoreKey;
use crate::barrier::open::Barrier;

/// Records that are compared under one lock of the index.
const PAGE: usize = 1_024;
/// Largest number of keys that may be left for the check under the lock. It reads one head for each.
const FEW: usize = 64;
/// Rounds of comparing again before the rest is left to the check under the lock, however many writers there are.
const ROUNDS: usize = 16;

/// A term that no record uses, as of one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// The term.
    pub term: u32,
    /// The last generation before the proof.
    pub generation: u64,
    /// Number of stored records. The head of each was read and is equal to the index.
    pub records: u64,
}

/// Result of one scan over the whole store, with a note of what has changed since. It uses memory for each record that
/// is changed while it exists. The module documentation says what it proves.
pub struct Census {
    /// Term that was active when the scan began.
    active: u32,
    /// Records that were equal to the index, by term. Contents of versions have no term.
    under: BTreeMap<u32, u64>,
    /// Keys to compare again.
    suspects: BTreeSet<StoreKey>,
    changed: Arc<Mutex<Changed>>,
}

impl Barrier {
    /// Reads the head of every stored record and counts the records of each term. Readers and writers continue
    /// meanwhile.
    ///
    /// # Errors
    /// [`BarrierError::Integrity`] when the store contains something that no vault writes; writes stop then.
    /// [`BarrierError::Store`] when it cannot be read; [`BarrierError::TooManyChanges`] when too much changes meanwhile.
    pub fn census(&self) -> Result<Census, BarrierError> {
        let changed = Arc::default();
        self.published.write().watches.add(&changed);
        let active = self.ring.load().keyring.active_term().id;
        let mut census = Census { active, under: BTreeMap::new(), suspects: BTreeSet::new(), changed };
        census.scan(self)?;
        census.catch_up(self)?;
        Ok(census)
    }

    /// Returns the stamp of the record under `key`; `None` when there is no record, or it has none.
    fn stored_stamp(&self, key: &StoreKey) -> Result<Option<Stamp>, BarrierError> {
        let mut stamp = None;
        // The first key with this prefix, in key order, is the key itself; otherwise the key does not exist.
        let scanned = self.store.scan_heads(key.as_bytes(), &mut |found, head| {
            if found == key.as_bytes() {
                stamp = Stamp::of(head).ok();
            }
            ControlFlow::Break(())
        });
        scanned.map_err(|error| self.unread(error))?;
        Ok(stamp)
    }
}

impl Census {
    fn scan(&mut self, barrier: &Barrier) -> Result<(), BarrierError> {
        let (mut page, mut from, mut foreign) = (Vec::with_capacity(PAGE), Bound::Unbounded, false);
        let mut last = None;
        let scanned = barrier.store.scan_heads(&[], &mut |key, head| {
            // Keys out of order would count as missing below. An engine that returns them like that is broken.
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
        });
        scanned.map_err(|error| barrier.unread(error))?;
        if foreign {
            return Err(barrier.degrade("the store differs from the index"));
        }
        self.compare(barrier, &mut page, &mut from, Bound::Unbounded);
        Ok(())
    }

    /// Compares `page` with the part of the index from `from` to `to`, then empties it.
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
        // The stamp was parsed as a head earlier.
        if let Ok(head) = stamp.head()
            && head.term != 0
        {
            *self.under.entry(head.term).or_default() += 1;
        }
    }

    /// Compares again what has changed since, without the writer's lock, until little is left for the check under the
    /// lock. Call it again when some time has passed.
    ///
    /// # Errors
    /// [`BarrierError::Store`] when the store cannot be read; [`BarrierError::TooManyChanges`] when too much has
    /// changed.
    pub fn catch_up(&mut self, barrier: &Barrier) -> Result<(), BarrierError> {
        for _ in 0..ROUNDS {
            self.remember()?;
            if self.suspects.len() <= FEW {
                break;
            }
            let mut left = BTreeSet::new();
            for key in &self.suspects {
                // If it changes after this, it is noted again when its group is published.
                let stored = barrier.stored_stamp(key)?;
                if barrier.published.read().index.get(key) != stored.as_ref() {
                    left.insert(*key);
                }
            }
            self.suspects = left;
        }
        Ok(())
    }

    /// Takes over the changes since the last call.
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
    /// Proves that no record uses `terms` at the generation before this group, and therefore in this group: see the
    /// module documentation. Nothing can be written meanwhile, but reads continue. It reads from the store only what
    /// has changed since the census and was not compared again yet.
    ///
    /// # Errors
    /// [`BarrierError::NotDrained`] when a record uses a term, or the term was active when the census began, or is
    /// active; [`BarrierError::Integrity`] when store and index differ, and writes stop; [`BarrierError::Store`];
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
