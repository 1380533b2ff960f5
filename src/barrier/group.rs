//! One group commit: run closures, seal and store, write the anchor, publish.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use parking_lot::MutexGuard;

use crate::crypto::SecretBytes;
use crate::crypto::envelope::{self, Context, Kind};
use crate::store::{Batch, Expect, StoreError};

use super::anchor::Mark;
use super::error::BarrierError;
use super::index::{Shadow, Stamp};
use super::names::StoreKey;
use super::open::{Barrier, Writer};
use super::overlay::{Change, Overlay, Pending};
use super::state::{StateRecord, leaf, sum};
use super::status::AuditHead;
use super::terms::ring::{NextHeader, Ring};
use super::tx::Tx;

/// A group of changes. It holds the writer's lock, so there is only one at a time. If it is dropped before
/// [`Group::store`], it has no effect.
pub struct Group<'b> {
    pub(super) barrier: &'b Barrier,
    pub(super) writer: MutexGuard<'b, Writer>,
    pub(super) overlay: Overlay,
    pub(super) next: Option<NextHeader<'b>>,
    pub(super) outcomes: Vec<u8>,
    /// Keys that leave the store although no index holds them.
    pub(super) drops: Vec<Vec<u8>>,
    /// Commitment of the stored state, if the anchor file is blank and must be written for that state before the commit.
    pub(super) unanchored: Option<[u8; 32]>,
}

/// A group that is durable in the store. It must be anchored and then published. If it is dropped before that, the
/// barrier accepts no more writes, because the next group must not begin before this one's anchor is durable.
pub struct Durable<'b> {
    barrier: &'b Barrier,
    writer: MutexGuard<'b, Writer>,
    changes: Vec<(StoreKey, Option<Stamp>)>,
    state_commitment: [u8; 32],
    /// Slot of the anchor, and the integrity set that tags it, after they were written.
    anchored: OnceLock<(usize, u32)>,
    published: bool,
}

impl<'b> Group<'b> {
    /// Runs `f` on top of the changes so far.
    ///
    /// # Errors
    /// The error of `f`. Only its own changes are undone then.
    pub fn run<T, E>(&mut self, f: impl FnOnce(&mut Tx<'_>) -> Result<T, E>) -> Result<T, E> {
        self.overlay.savepoint();
        let result = f(&mut Tx { barrier: self.barrier, overlay: &mut self.overlay });
        if result.is_err() {
            self.overlay.rollback();
        }
        result
    }

    /// Undoes everything, including the header.
    pub fn clear(&mut self) {
        (self.overlay, self.next) = (Overlay::default(), None);
    }

    /// Keeps `outcomes` in the state record, together with the audit head that is passed to [`Group::store`]. They say
    /// what the audit log must still record about this group if the process ends first. At most 600 KiB.
    /// [`Barrier::audit_outcomes`] returns it until a group with another audit head is stored.
    pub fn remember(&mut self, outcomes: Vec<u8>) {
        self.outcomes = outcomes;
    }

    /// Whether nothing has changed, so that nothing needs to be stored.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.overlay.is_empty() && self.next.is_none()
    }

    /// Number of bytes that the group holds in memory: the new contents, and the old ones that readers may still need.
    /// Storing it takes about as much again for the sealed records.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.overlay.bytes()
    }

    /// Returns the generation that the group has or would have.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.writer.state.generation.saturating_add(1)
    }

    /// Seals everything and makes it durable, together with the new state, in one engine transaction. Readers do not
    /// see it yet. After a crash from here on, the next start finds the whole group. A new header in the group is
    /// written before the transaction. If the process is killed in between, the next start has the old header or the
    /// new one, and no other change of the group.
    ///
    /// [`BarrierError::Full`]: nothing has changed, and the next group may continue. With a new header, this is detected
    /// before the header is written; if the disk fills up after that, the error is fatal. [`BarrierError::Crypto`]:
    /// nothing has changed. [`BarrierError::Fatal`]: it is unknown what is on disk, and no further group is accepted.
    pub fn store(mut self, audit: AuditHead, now_ms: u64) -> Result<Durable<'b>, BarrierError> {
        let barrier = self.barrier;
        if barrier.fatal.load(Ordering::SeqCst) {
            return Err(BarrierError::Fatal("an earlier group was not completed"));
        }
        let mut state = self.writer.state.clone();
        state.generation = state.generation.checked_add(1).ok_or(BarrierError::Fatal("no generations are left"))?;
        if state.audit != audit {
            state.outcomes = std::mem::take(&mut self.outcomes);
        }
        state.audit = audit;
        state.last_ms = state.last_ms.max(now_ms);
        let next = self.next.take();
        let current = barrier.ring.load_full();
        let ring = next.as_ref().map_or(&*current, |next| &next.ring);
        (state.header_seq, state.header_mac) = (ring.header.seq, ring.header.mac);
        (state.epoch, state.incarnation) = (ring.header.epoch, ring.header.incarnation);
        state.term(ring.keyring.active_term().id);
        // Drop counters of terms that are no longer in the keyring.
        state.terms.retain(|used| used.live > 0 || ring.keyring.term(used.term).is_some());
        if next.as_ref().is_some_and(|next| next.new_set) {
            state.set_hash = sum(&ring.set, &barrier.published.read().index);
        }

        // Seal the records first, because the state that is sealed next sums over them.
        let mut batch = Batch::default();
        let changes = self.seal(ring, &mut state, &mut batch)?;
        for key in std::mem::take(&mut self.drops) {
            if StoreKey::parse(&key).is_none_or(|key| self.overlay.get(&key).is_none()) {
                batch.delete(key.as_slice());
            }
        }
        let record = barrier.seal_state(ring, &state)?;
        let state_commitment = envelope::commitment(&record)?;
        let place = StoreKey::state();
        batch.require(place.as_bytes(), self.writer.revision.map_or(Expect::Absent, Expect::Revision));
        batch.put(place.as_bytes(), record);

        // The header comes before the transaction: a state must never name a header that is not on disk.
        let with_header = next.is_some();
        if let Some(next) = next {
            // A header cannot be taken back, so a full disk must show before it is written.
            barrier.store.admits(&batch).map_err(|error| match error {
                StoreError::Full => BarrierError::Full,
                error => barrier.unread(error),
            })?;
            barrier.write_header(next)?;
            // The header has begun an epoch, so a start with this anchor refuses until the commit. After it, a half-written
            // slot of the new state stands beside a good one: the epoch has begun, and its loss needs no second note.
            if let Some(commitment) = self.unanchored {
                barrier.write_anchor(&self.writer.state, &commitment, [false; 2])?;
            }
        }
        barrier.published.write().shadow = self.overlay.take_old();
        match barrier.store.commit(&batch) {
            Ok(revision) => {
                self.writer.state = state;
                self.writer.revision = Some(revision);
            }
            Err(StoreError::Full) if !with_header => {
                barrier.published.write().shadow = Shadow::new();
                return Err(BarrierError::Full);
            }
            // The shadow stays, so that readers still see what was published.
            Err(_) => return Err(barrier.fail("the store could not make a commit durable")),
        }
        let anchored = OnceLock::new();
        Ok(Durable { barrier, writer: self.writer, changes, state_commitment, anchored, published: false })
    }

    /// Seals all changes into `batch` and updates the sums of `state`.
    fn seal(
        &self,
        ring: &Ring,
        state: &mut StateRecord,
        batch: &mut Batch,
    ) -> Result<Vec<(StoreKey, Option<Stamp>)>, BarrierError> {
        let barrier = self.barrier;
        let mut changes = Vec::new();
        for (key, change) in self.overlay.changes() {
            let before = barrier.published.read().index.get(key).copied();
            let after = match change {
                Change::Put(pending) => {
                    let revision = match before {
                        Some(stamp) => stamp.head()?.version.checked_add(1),
                        None => Some(1),
                    };
                    let revision = revision.ok_or(BarrierError::Versions("no revisions are left"))?;
                    let record = barrier.seal_record(ring, key, pending, (revision, state.generation))?;
                    let stamp = Stamp::of(&record)?;
                    batch.put(key.as_bytes(), record);
                    Some(stamp)
                }
                Change::Delete => {
                    batch.delete(key.as_bytes());
                    None
                }
            };
            // Remove the old record from the sums, then add the new one.
            if let Some(stamp) = &before {
                state.set_hash.sub(leaf(&ring.set, key, stamp));
                state.record_count = state.record_count.saturating_sub(1);
                let term = stamp.head()?.term;
                if term != 0 {
                    let used = state.term(term);
                    used.live = used.live.saturating_sub(1);
                }
            }
            if let Some(stamp) = &after {
                state.set_hash.add(leaf(&ring.set, key, stamp));
                state.record_count = state.record_count.saturating_add(1);
                let term = stamp.head()?.term;
                if term != 0 {
                    let used = state.term(term);
                    used.live = used.live.saturating_add(1);
                    used.seals = used.seals.saturating_add(1);
                }
            }
            changes.push((*key, after));
        }
        Ok(changes)
    }
}

impl Durable<'_> {
    /// Writes the anchor for this group. This may run while the audit log writes its replies. `Ok` means durable.
    ///
    /// # Errors
    /// [`BarrierError::Fatal`]: the process must end. The next start finds the group in the store and anchors it.
    pub fn anchor(&self) -> Result<(), BarrierError> {
        self.anchor_filling([false; 2])
    }

    /// Like [`Durable::anchor`], for an anchor file with these blank slots: fills a blank neighbour too.
    ///
    /// # Errors
    /// As [`Durable::anchor`].
    pub(super) fn anchor_filling(&self, blank: [bool; 2]) -> Result<(), BarrierError> {
        let written = self.barrier.write_anchor(&self.writer.state, &self.state_commitment, blank)?;
        self.anchored.get_or_init(|| written);
        Ok(())
    }

    /// Shows the whole group to readers at once. Without a durable anchor, shows nothing and stops writes.
    pub fn publish(mut self) {
        if let Some((slot, set)) = self.anchored.get().copied() {
            if let Some(under) = self.writer.anchored_under.get_mut(slot) {
                *under = set;
            }
            self.barrier.published.write().apply(&self.changes, &self.writer.state);
            self.published = true;
        }
    }
}

impl Drop for Durable<'_> {
    fn drop(&mut self) {
        if !self.published {
            self.barrier.fatal.store(true, Ordering::SeqCst);
        }
    }
}

impl Barrier {
    /// Starts a group. Waits until the previous one is published or dropped.
    #[must_use]
    pub fn begin(&self) -> Group<'_> {
        Group {
            barrier: self,
            writer: self.writer.lock(),
            overlay: Overlay::default(),
            next: None,
            outcomes: Vec::new(),
            drops: Vec::new(),
            unanchored: None,
        }
    }

    fn seal_record(
        &self,
        ring: &Ring,
        key: &StoreKey,
        pending: &Pending,
        (revision, generation): (u64, u64),
    ) -> Result<Vec<u8>, BarrierError> {
        let active = ring.keyring.active_term();
        let (term, version, ikm) = match &pending.version {
            Some((number, version_key)) => (0, *number, version_key),
            None => {
                let live = active.key.live().ok_or(BarrierError::Fatal("the active term has no key"))?;
                (active.id, revision, live)
            }
        };
        let context = Context {
            suite: active.suite,
            kind: pending.kind,
            term,
            version,
            generation,
            vault_id: self.vault.as_bytes(),
            store_key: key.as_bytes(),
            path: &pending.path,
        };
        Ok(envelope::seal(ikm, &context, &ring.hedge, &*self.random, pending.body.reveal())?)
    }

    fn seal_state(&self, ring: &Ring, state: &StateRecord) -> Result<Vec<u8>, BarrierError> {
        let set = ring.keyring.newest_integrity();
        let place = StoreKey::state();
        let context = Context {
            suite: ring.keyring.active_term().suite,
            kind: Kind::State,
            term: set.id,
            version: state.generation,
            generation: state.generation,
            vault_id: self.vault.as_bytes(),
            store_key: place.as_bytes(),
            path: &[],
        };
        let body: SecretBytes = state.encode();
        Ok(envelope::seal(&set.state, &context, &ring.hedge, &*self.random, body.reveal())?)
    }

    /// Writes the anchor slot of `state`. Returns its number and the integrity set that tags it.
    fn write_anchor(
        &self,
        state: &StateRecord,
        commitment: &[u8; 32],
        blank: [bool; 2],
    ) -> Result<(usize, u32), BarrierError> {
        let ring = self.ring.load();
        let mark = Mark {
            epoch: state.epoch,
            incarnation: state.incarnation,
            generation: state.generation,
            iks_id: ring.keyring.newest_integrity().id,
        };
        let slot = mark.encode(&self.vault, &ring.anchor, commitment);
        for number in mark.slots_at_start(blank) {
            self.anchor.write_slot(number, &slot).map_err(|_| self.fail("the anchor could not be written"))?;
        }
        Ok((mark.slot(), mark.iks_id))
    }
}
