//! Accepting a loss: the declared step from a vault that refuses to open into a new epoch (amendment M13).
//!
//! Only a store that is complete and consistent is accepted as it is: its records are exactly those that its sealed state
//! counts, so it is the vault at one point in time. A mixture from different points in time is not accepted, because a
//! deleted policy could come back with it. `salvage` finds what can be kept of such a store; it moves to the new epoch in
//! the same way.

use crate::crypto::hash::MacKey;
use crate::keys::{Header, HeaderKeys, Keyring, Opened, Unlock};

use super::salvage::{Damage, Rules};
use crate::barrier::error::BarrierError;
use crate::barrier::index::Index;
use crate::barrier::lifecycle::heads::scan;
use crate::barrier::lifecycle::matching::{Accepted, Fit, StoredState, accept, check_anchor};
use crate::barrier::open::{Barrier, Parts, Writer};
use crate::barrier::state::sum;
use crate::barrier::status::AuditHead;
use crate::barrier::terms::ring::{Epoch, HeaderChange};
use crate::barrier::tx::Tx;
use crate::store::sidecar::SidecarError;

/// One mismatch that can be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// There is no anchor, or it is blank. This looks the same after a rollback and after the loss of that file.
    AnchorMissing,
    /// The anchor has nothing that can be verified.
    AnchorDamaged,
    /// The system cannot read the anchor file, for another reason than missing permissions.
    AnchorUnreadable,
    /// A slot of the anchor was emptied. It may have named a later state.
    AnchorEmptied,
    /// The anchor belongs to another history, or to another state of the same generation.
    AnchorOther,
    /// The store is older than the anchor.
    OlderThanAnchor {
        /// Acknowledged generations that are missing; 0 when the anchor belongs to a later epoch.
        generations: u64,
    },
    /// The store is older than the header.
    OlderThanHeader,
    /// The header has begun the next epoch directly above this state: an earlier attempt was interrupted, or somebody
    /// restored the store and the anchor from before it.
    Unfinished,
}

/// A vault that was read. Nothing has been written.
pub struct Loss {
    parts: Parts,
    header: Header,
    lock: HeaderKeys,
    keyring: Keyring,
    stored: StoredState,
    slot: String,
    index: Index,
    damage: Option<Damage>,
    opened_records: u64,
    misfits: Vec<Misfit>,
    /// The highest epoch in header, state or anchor.
    newest_epoch: u32,
    /// Whether the anchor file must be created again.
    make_anchor: bool,
    /// Slots of the anchor that are blank.
    blank: [bool; 2],
}

impl Loss {
    /// Reads header, state, anchor and the head of every record, and writes nothing.
    ///
    /// # Errors
    /// The errors of [`Barrier::unseal`], except for what a [`Misfit`] describes. [`BarrierError::SetHash`],
    /// [`BarrierError::StateDamaged`], [`BarrierError::StateMissing`] and [`BarrierError::TermDestroyed`] mean that the
    /// store is not complete.
    pub fn examine(parts: Parts, unlock: &Unlock<'_>) -> Result<Self, BarrierError> {
        Self::read(parts, unlock, None)
    }

    /// Like [`Loss::examine`], for a store with damaged records: opens every record and reports what is wrong in
    /// [`Loss::damage`]. Header and state must be intact.
    ///
    /// # Errors
    /// As [`Loss::examine`], except errors about damaged records; [`BarrierError::Store`] when the store cannot be read.
    pub fn inspect(parts: Parts, unlock: &Unlock<'_>, rules: Rules) -> Result<Self, BarrierError> {
        Self::read(parts, unlock, Some(rules))
    }

    fn read(parts: Parts, unlock: &Unlock<'_>, rules: Option<Rules>) -> Result<Self, BarrierError> {
        let copies = parts.header.read()?;
        let Accepted { opened, stored, misfit, slot, .. } = accept(&parts, &copies, unlock, Fit::OlderState)?;
        let Opened { header, keyring, root } = opened;
        let lock = root.into_header_keys();
        let mut opened_records = 0;
        let (index, damage) = match rules {
            None => (scan(&parts, &header, &keyring, &stored)?, None),
            Some(rules) => {
                let opened = (header.clone(), lock.duplicate(), keyring.duplicate());
                let writer = Writer::new(stored.state.clone(), Some(stored.revision));
                let passing = |index| Barrier::assemble(parts.again(), opened, index, writer);
                let (damage, index) = Damage::find(&parts, (&header, &keyring, &stored), rules, passing)?;
                opened_records = damage.records;
                (index, Some(damage).filter(|damage| !damage.is_none()))
            }
        };
        let mut misfits: Vec<Misfit> = match misfit {
            None => Vec::new(),
            Some(BarrierError::Unfinished) => vec![Misfit::Unfinished],
            // The check of the anchor below reports this too.
            Some(BarrierError::Missing { .. }) => Vec::new(),
            Some(_) => vec![Misfit::OlderThanHeader],
        };
        let anchor = parts.anchor.read();
        let unreadable = anchor.as_ref().is_err_and(SidecarError::is_loss);
        match check_anchor(&parts, &header, &keyring, &stored) {
            Ok(_) => {}
            Err(BarrierError::Sidecar(_)) if unreadable => misfits.push(Misfit::AnchorUnreadable),
            Err(BarrierError::AnchorMissing) => misfits.push(Misfit::AnchorMissing),
            Err(BarrierError::AnchorDamaged) => misfits.push(Misfit::AnchorDamaged),
            Err(BarrierError::AnchorEmptied) => misfits.push(Misfit::AnchorEmptied),
            Err(BarrierError::AnchorOther) => misfits.push(Misfit::AnchorOther),
            Err(BarrierError::Missing { generations }) => misfits.push(Misfit::OlderThanAnchor { generations }),
            Err(error) => return Err(error),
        }
        let spoilt = [Misfit::AnchorMissing, Misfit::AnchorDamaged, Misfit::AnchorUnreadable, Misfit::AnchorEmptied];
        let make_anchor = misfits.iter().any(|misfit| spoilt.contains(misfit));
        let found = if unreadable { None } else { anchor? };
        let found = crate::barrier::anchor::read(&found.unwrap_or_default(), &header.vault_id, &keyring);
        let blank = if make_anchor { [true; 2] } else { found.blank };
        let anchored = found.best.map_or(0, |slot| slot.mark.epoch);
        let newest_epoch = header.epoch.max(stored.state.epoch).max(anchored);
        Ok(Self {
            parts,
            header,
            lock,
            keyring,
            stored,
            slot,
            index,
            damage,
            opened_records,
            misfits,
            newest_epoch,
            make_anchor,
            blank,
        })
    }

    /// Returns the damage that [`Loss::inspect`] found in the records; `None` when there is none, or without `inspect`.
    #[must_use]
    pub fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// Number of records that [`Loss::inspect`] examined.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened_records
    }

    /// Calls `look` for every record that will be removed, with its key and its encrypted bytes as stored. The bytes are
    /// `None` when the store cannot read them.
    ///
    /// # Errors
    /// The first error of `look`.
    pub fn leaving<E>(&self, mut look: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), E>) -> Result<(), E> {
        for key in self.damage.iter().flat_map(Damage::leaving) {
            let stored = self.parts.store.get(&key).ok().flatten();
            look(&key, stored.as_ref().map(|stored| stored.value.as_slice()))?;
        }
        Ok(())
    }

    /// Returns the mismatches; empty when header, state and anchor agree.
    #[must_use]
    pub fn misfits(&self) -> &[Misfit] {
        &self.misfits
    }

    /// Epoch and generation of the stored state.
    #[must_use]
    pub fn stored(&self) -> (u32, u64) {
        (self.stored.state.epoch, self.stored.state.generation)
    }

    /// Number of the new epoch, if the loss is accepted.
    #[must_use]
    pub fn next_epoch(&self) -> u32 {
        self.newest_epoch.saturating_add(1)
    }

    /// Time of the last commit, in Unix milliseconds.
    #[must_use]
    pub fn last_ms(&self) -> u64 {
        self.stored.state.last_ms
    }

    /// Number of stored records, without the state.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.stored.state.record_count
    }

    /// The audit entry that the stored state vouches for.
    #[must_use]
    pub fn audit_head(&self) -> AuditHead {
        self.stored.state.audit
    }

    /// The audit keys in ascending order. The last one writes.
    #[must_use]
    pub fn audit_keys(&self) -> Vec<crate::keys::AuditKey> {
        self.keyring.audit.iter().map(crate::keys::AuditKey::duplicate).collect()
    }

    /// Label of the slot that opened.
    #[must_use]
    pub fn slot(&self) -> &str {
        &self.slot
    }

    /// Moves to the next epoch with a new incarnation: writes the header, then one commit with the state and what
    /// `note` writes, then the anchor. The header accepts no state older than the accepted one. If the process is
    /// killed at any step, the vault either refuses to open and this can be repeated, or it is in the new epoch with its
    /// note. Between header and commit the error is [`BarrierError::Unfinished`], or the one from before.
    ///
    /// # Errors
    /// The error of `note`, when nothing except a blank anchor file was written; the errors of writing.
    pub fn accept<E: From<BarrierError>>(
        self,
        note: impl FnOnce(&mut Tx<'_>) -> Result<(), E>,
        now_ms: u64,
    ) -> Result<Barrier, E> {
        if let Some(refusal) = self.damage.as_ref().and_then(Damage::refusal) {
            return Err(refusal.into());
        }
        // The order of the steps is what makes a kill at any of them safe. What can fail and writes nothing comes first.
        let counter = self.newest_epoch.checked_add(1).ok_or(BarrierError::Fatal("no epochs are left"))?;
        let mut incarnation = [0; 16];
        self.parts.random.fill(&mut incarnation).map_err(BarrierError::from)?;
        // A blank anchor is the only write before the header. A start refuses it just as it refused what was there, and a
        // repetition finds it blank and goes on. It cannot come later: the group below writes a slot into it before its
        // commit.
        if self.make_anchor {
            self.parts.anchor.create().map_err(BarrierError::from)?;
        }
        let floor = self.stored();
        let unanchored = self.make_anchor.then_some(self.stored.commitment);
        let blank = if self.make_anchor { [false; 2] } else { self.blank };
        let (mut state, mut index) = (self.stored.state, self.index);
        let newest = MacKey::new(&self.keyring.newest_integrity().set);
        // The bad records leave index, counts and sum before the barrier exists, so it never serves or counts one of them.
        // The same commit drops them from the store.
        let drops = match &self.damage {
            Some(damage) => damage.cut(&mut index, &mut state, &newest)?,
            None => Vec::new(),
        };
        // A state under the older integrity set is summed again, because the commit seals it under the newest one.
        if self.stored.iks_id != self.keyring.newest_integrity().id {
            state.set_hash = sum(&newest, &index);
        }
        let writer = Writer::new(state, Some(self.stored.revision));
        let barrier = Barrier::assemble(self.parts, (self.header, self.lock, self.keyring), index, writer);
        let mut group = barrier.begin();
        (group.drops, group.unanchored) = (drops, unanchored);
        // The tree is repaired before the note, which may write a new authority and an operator into it. Both are in memory
        // only until the group is stored, so an error still changes nothing.
        if let Some(damage) = &self.damage {
            group.run(|tx| damage.repair(tx))?;
        }
        group.run(note)?;
        group.change_header_in(HeaderChange::default(), Some(Epoch { counter, incarnation, floor }))?;
        // Header, slot of the accepted state in a blank anchor, commit. The header comes first, because a state never names a
        // header that is not on disk; a kill after it leaves [`BarrierError::Unfinished`] and not a vault without its note.
        // The audit head stays as it was: that is how a start knows that the alarm about this loss is not written yet.
        let durable = group.store(barrier.audit_head(), now_ms)?;
        // Last, because an anchor that is newer than its state would read as lost writes.
        durable.anchor_filling(blank)?;
        durable.publish();
        Ok(barrier)
    }
}
