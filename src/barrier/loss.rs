//! Accepting that something is lost: the declared step from a vault that refuses to open into a new epoch (amendment M13).
//!
//! A store is accepted as it is only when it is whole in itself: every record is one that its sealed state counts. Such a
//! store is one moment of the vault's past. A mixture of moments is not, since a deleted policy could come back with it: what
//! can be kept of one is found by `salvage`, and the step into the new epoch is the same.

use crate::crypto::hash::MacKey;
use crate::keys::{Header, HeaderKeys, Keyring, Opened, Unlock};

use super::error::BarrierError;
use super::index::Index;
use super::lifecycle::{Accepted, Fit, StoredState, accept, check_anchor, scan};
use super::open::{Barrier, Parts, Writer};
use super::ring::{Epoch, HeaderChange};
use super::salvage::{Damage, Rules};
use super::state::sum;
use super::status::AuditHead;
use super::tx::Tx;

/// One thing that does not fit, and that can be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// There is no anchor, or it is blank: a rollback cannot be told from a loss of that file.
    AnchorMissing,
    /// The anchor holds nothing that verifies.
    AnchorDamaged,
    /// The system cannot read the anchor file, and not for want of rights.
    AnchorUnreadable,
    /// A slot of the anchor was emptied: it may have named a later state.
    AnchorEmptied,
    /// The anchor vouches for another history, or another state of the same generation.
    AnchorOther,
    /// The store is older than the anchor.
    OlderThanAnchor {
        /// Acknowledged generations that are missing; 0 when the anchor belongs to a later epoch.
        generations: u64,
    },
    /// The store is older than the header.
    OlderThanHeader,
    /// The header has begun the next epoch above just this state: accepting was interrupted before, or the store and the
    /// anchor of that moment were put back.
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
    /// The highest epoch that header, state or anchor names.
    newest_epoch: u32,
    /// The anchor file is made anew.
    make_anchor: bool,
    /// Slots of the anchor that are blank.
    blank: [bool; 2],
}

impl Loss {
    /// Reads header, state, anchor and the head of every record, and writes nothing.
    ///
    /// # Errors
    /// As [`Barrier::unseal`], but for what a [`Misfit`] says. [`BarrierError::SetHash`], [`BarrierError::StateDamaged`],
    /// [`BarrierError::StateMissing`] and [`BarrierError::TermDestroyed`] say that the store is not whole.
    pub fn examine(parts: Parts, unlock: &Unlock<'_>) -> Result<Self, BarrierError> {
        Self::read(parts, unlock, None)
    }

    /// As [`Loss::examine`], for a store that need not be whole: every record is opened, and [`Loss::damage`] says what is
    /// wrong. Header and state must be sound.
    ///
    /// # Errors
    /// As there, without those that the records are the reason of; [`BarrierError::Store`] when the store cannot be read.
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
            // The anchor says so, too, and is asked below.
            Some(BarrierError::Missing { .. }) => Vec::new(),
            Some(_) => vec![Misfit::OlderThanHeader],
        };
        let unreadable = parts.anchor.read().is_err_and(|error| error.is_loss());
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
        let found = if unreadable { None } else { parts.anchor.read()? };
        let found = super::anchor::read(&found.unwrap_or_default(), &header.vault_id, &keyring);
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

    /// What is wrong with the records, if they were opened and something is.
    #[must_use]
    pub fn damage(&self) -> Option<&Damage> {
        self.damage.as_ref()
    }

    /// Records that [`Loss::inspect`] looked at.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.opened_records
    }

    /// Shows every record that leaves the store, as it lies there, sealed: key, and bytes unless the store has none that
    /// can be read.
    ///
    /// # Errors
    /// The first one that `look` gives.
    pub fn leaving<E>(&self, mut look: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), E>) -> Result<(), E> {
        for key in self.damage.iter().flat_map(Damage::leaving) {
            let stored = self.parts.store.get(&key).ok().flatten();
            look(&key, stored.as_ref().map(|stored| stored.value.as_slice()))?;
        }
        Ok(())
    }

    /// What does not fit; empty when header, state and anchor agree.
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

    /// Time of the last commit, Unix milliseconds.
    #[must_use]
    pub fn last_ms(&self) -> u64 {
        self.stored.state.last_ms
    }

    /// Stored records, the state not counted.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.stored.state.record_count
    }

    /// The audit entry that the stored state vouches for.
    #[must_use]
    pub fn audit_head(&self) -> AuditHead {
        self.stored.state.audit
    }

    /// The audit keys, ascending; the last one writes.
    #[must_use]
    pub fn audit_keys(&self) -> Vec<crate::keys::AuditKey> {
        self.keyring.audit.iter().map(crate::keys::AuditKey::duplicate).collect()
    }

    /// Label of the slot that opened.
    #[must_use]
    pub fn slot(&self) -> &str {
        &self.slot
    }

    /// Goes over to the next epoch with a fresh incarnation: header, then one commit with the state and what `note` writes,
    /// then the anchor. The header takes no state older than the accepted one. Killed at any step, the vault refuses and this
    /// can be done again, or it is in the new epoch with its note. Between header and commit it refuses with
    /// [`BarrierError::Unfinished`], or as before.
    ///
    /// # Errors
    /// Those of `note`, before anything was written but a blank anchor file; errors of writing.
    pub fn accept<E: From<BarrierError>>(
        self,
        note: impl FnOnce(&mut Tx<'_>) -> Result<(), E>,
        now_ms: u64,
    ) -> Result<Barrier, E> {
        if let Some(refusal) = self.damage.as_ref().and_then(Damage::refusal) {
            return Err(refusal.into());
        }
        let counter = self.newest_epoch.checked_add(1).ok_or(BarrierError::Fatal("no epochs are left"))?;
        let mut incarnation = [0; 16];
        self.parts.random.fill(&mut incarnation).map_err(BarrierError::from)?;
        if self.make_anchor {
            self.parts.anchor.create().map_err(BarrierError::from)?;
        }
        let floor = self.stored();
        let (mut state, mut index) = (self.stored.state, self.index);
        let newest = MacKey::new(&self.keyring.newest_integrity().set);
        let drops = match &self.damage {
            Some(damage) => {
                damage.cut(&mut index, &mut state, &newest)?;
                damage.leaving()
            }
            None => Vec::new(),
        };
        if self.stored.iks_id != self.keyring.newest_integrity().id {
            state.set_hash = sum(&newest, &index);
        }
        let writer = Writer::new(state, Some(self.stored.revision));
        let barrier = Barrier::assemble(self.parts, (self.header, self.lock, self.keyring), index, writer);
        let mut group = barrier.begin();
        group.drops = drops;
        if let Some(damage) = &self.damage {
            group.run(|tx| damage.repair(tx))?;
        }
        group.run(note)?;
        group.change_header_in(HeaderChange::default(), Some(Epoch { counter, incarnation, floor }))?;
        let durable = group.store(barrier.audit_head(), now_ms)?;
        durable.anchor_filling(self.blank)?;
        durable.publish();
        Ok(barrier)
    }
}
