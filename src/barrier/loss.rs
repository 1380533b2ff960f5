//! Accepting that something is lost: the declared step from a vault that refuses to open into a new epoch (amendment M13).
//!
//! Only a store that is whole in itself is accepted: every record is one that its sealed state counts. Such a store is one
//! moment of the vault's past. A mixture of moments is not, since a deleted policy could come back with it, and is left to
//! `salvage`.

use crate::crypto::hash::MacKey;
use crate::keys::Unlock;

use super::error::BarrierError;
use super::index::Index;
use super::lifecycle::{Accepted, Fit, accept, check_anchor, scan};
use super::open::{Barrier, Parts, Writer};
use super::ring::{Epoch, HeaderChange};
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
}

/// A vault that was read and found whole in itself. Nothing has been written.
pub struct Loss {
    parts: Parts,
    accepted: Accepted,
    index: Index,
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
        let copies = parts.header.read()?;
        let accepted = accept(&parts, &copies, unlock, Fit::OlderState)?;
        let (header, keyring, stored) = (&accepted.opened.header, &accepted.opened.keyring, &accepted.stored);
        let index = scan(&parts, header, keyring, stored)?;
        let mut misfits: Vec<Misfit> = accepted.misfit.iter().map(|_| Misfit::OlderThanHeader).collect();
        match check_anchor(&parts, header, keyring, stored) {
            Ok(_) => {}
            Err(BarrierError::AnchorMissing) => misfits.push(Misfit::AnchorMissing),
            Err(BarrierError::AnchorDamaged) => misfits.push(Misfit::AnchorDamaged),
            Err(BarrierError::AnchorEmptied) => misfits.push(Misfit::AnchorEmptied),
            Err(BarrierError::AnchorOther) => misfits.push(Misfit::AnchorOther),
            Err(BarrierError::Missing { generations }) => misfits.push(Misfit::OlderThanAnchor { generations }),
            Err(error) => return Err(error),
        }
        let spoilt = [Misfit::AnchorMissing, Misfit::AnchorDamaged, Misfit::AnchorEmptied];
        let make_anchor = misfits.iter().any(|misfit| spoilt.contains(misfit));
        let found = super::anchor::read(&parts.anchor.read()?.unwrap_or_default(), &header.vault_id, keyring);
        let blank = if make_anchor { [true; 2] } else { found.blank };
        let anchored = found.best.map_or(0, |slot| slot.mark.epoch);
        let newest_epoch = header.epoch.max(stored.state.epoch).max(anchored);
        Ok(Self { parts, accepted, index, misfits, newest_epoch, make_anchor, blank })
    }

    /// What does not fit; empty when header, state and anchor agree.
    #[must_use]
    pub fn misfits(&self) -> &[Misfit] {
        &self.misfits
    }

    /// Epoch and generation of the stored state.
    #[must_use]
    pub fn stored(&self) -> (u32, u64) {
        (self.accepted.stored.state.epoch, self.accepted.stored.state.generation)
    }

    /// Number of the new epoch, if the loss is accepted.
    #[must_use]
    pub fn next_epoch(&self) -> u32 {
        self.newest_epoch.saturating_add(1)
    }

    /// Time of the last commit, Unix milliseconds.
    #[must_use]
    pub fn last_ms(&self) -> u64 {
        self.accepted.stored.state.last_ms
    }

    /// Stored records, the state not counted.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.accepted.stored.state.record_count
    }

    /// The audit entry that the stored state vouches for.
    #[must_use]
    pub fn audit_head(&self) -> AuditHead {
        self.accepted.stored.state.audit
    }

    /// The audit keys, ascending; the last one writes.
    #[must_use]
    pub fn audit_keys(&self) -> Vec<crate::keys::AuditKey> {
        self.accepted.opened.keyring.audit.iter().map(crate::keys::AuditKey::duplicate).collect()
    }

    /// Label of the slot that opened.
    #[must_use]
    pub fn slot(&self) -> &str {
        &self.accepted.slot
    }

    /// Goes over to the next epoch with a fresh incarnation: header, then one commit with the state and what `note` writes,
    /// then the anchor. The header takes no state older than the accepted one. Killed at any step, the vault refuses as
    /// before and this can be done again, or it is in the new epoch.
    ///
    /// # Errors
    /// Those of `note`, before anything was written but a blank anchor file; errors of writing.
    pub fn accept<E: From<BarrierError>>(
        self,
        note: impl FnOnce(&mut Tx<'_>) -> Result<(), E>,
        now_ms: u64,
    ) -> Result<Barrier, E> {
        let counter = self.newest_epoch.checked_add(1).ok_or(BarrierError::Fatal("no epochs are left"))?;
        let mut incarnation = [0; 16];
        self.parts.random.fill(&mut incarnation).map_err(BarrierError::from)?;
        if self.make_anchor {
            self.parts.anchor.create().map_err(BarrierError::from)?;
        }
        let floor = self.stored();
        let Accepted { opened, stored, .. } = self.accepted;
        let mut state = stored.state;
        if stored.iks_id != opened.keyring.newest_integrity().id {
            state.set_hash = sum(&MacKey::new(&opened.keyring.newest_integrity().set), &self.index);
        }
        let writer = Writer::new(state, Some(stored.revision));
        let opened = (opened.header, opened.root.into_header_keys(), opened.keyring);
        let barrier = Barrier::assemble(self.parts, opened, self.index, writer);
        let mut group = barrier.begin();
        group.run(note)?;
        group.change_header_in(HeaderChange::default(), Some(Epoch { counter, incarnation, floor }))?;
        let durable = group.store(barrier.audit_head(), now_ms)?;
        durable.anchor_filling(self.blank)?;
        durable.publish();
        Ok(barrier)
    }
}
