//! Creates the first state of a vault, and opens vaults. `matching` decides which header, state and anchor belong
//! together; `heads` reads what the store contains.

pub(super) mod heads;
pub(super) mod matching;

use std::ops::ControlFlow;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};

use super::anchor::Mark;
use super::error::BarrierError;
use super::index::Index;
use super::names::Names;
use super::open::{Barrier, Parts, Writer};
use super::published::Published;
use super::state::{ANCHORED, StateRecord, sum};
use super::status::AuditHead;
use super::terms::ring::Ring;
use crate::crypto::hash::{MacKey, SetHash};
use crate::keys::{Header, HeaderKeys, Keyring, Opened, Unlock};
use heads::scan;
use matching::{Accepted, Fit, StoredState, accept, check_anchor};

/// What opening found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Generation that is served.
    pub generation: u64,
    /// Number of stored records, without the state.
    pub records: u64,
    /// Whether the start completed a header write that a crash had interrupted.
    pub header_rolled_forward: bool,
    /// Whether one copy of the header was missing, damaged or older, and was rewritten.
    pub header_repaired: bool,
    /// Generations between the anchor and the store. After a crash it is 1; more is an alarm. It is also more than 1 if
    /// an earlier start found this and nothing has been committed since, because that start may have ended before it
    /// reported it.
    pub anchor_behind: u64,
    /// Whether one anchor slot was neither blank nor good: torn by a crash, or damaged.
    pub anchor_torn: bool,
    /// Whether one slot was neither blank nor good, or holds what belongs in the other, and no crash explains it: after
    /// a torn write, the store is one generation ahead of the other slot, and only the first state of an epoch stands
    /// in both. The damaged slot may have named a newer generation, so this is an alarm.
    pub anchor_damaged: bool,
}

impl Barrier {
    /// Writes the first state of a new vault: both header copies, generation 1, the anchor. On `Ok`, it is complete and
    /// durable.
    ///
    /// # Errors
    /// [`BarrierError::NotEmpty`] when the store has content; [`BarrierError::Store`], [`BarrierError::Sidecar`],
    /// [`BarrierError::Fatal`] or [`BarrierError::Full`] when writing fails. After an error there is no usable vault.
    pub fn create(parts: Parts, header_bytes: &[u8], opened: Opened, now_ms: u64) -> Result<Self, BarrierError> {
        let mut empty = true;
        parts.store.scan_heads(&[], &mut |_, _| {
            empty = false;
            ControlFlow::Break(())
        })?;
        if !empty {
            return Err(BarrierError::NotEmpty);
        }
        parts.header.write(0, header_bytes)?;
        parts.header.write(1, header_bytes)?;
        parts.anchor.create()?;
        let Opened { header, keyring, root } = opened;
        let state = StateRecord {
            epoch: header.epoch,
            incarnation: header.incarnation,
            generation: 0,
            set_hash: SetHash::empty(),
            record_count: 0,
            header_seq: header.seq,
            header_mac: header.mac,
            audit: AuditHead::default(),
            last_ms: now_ms,
            flags: ANCHORED,
            terms: Vec::new(),
            outcomes: Vec::new(),
        };
        let barrier =
            Self::assemble(parts, (header, root.into_header_keys(), keyring), Index::new(), Writer::new(state, None));
        barrier.roll(now_ms)?;
        Ok(barrier)
    }

    /// Opens a vault and checks the whole store. On `Ok`, header, state and anchor agree on disk.
    ///
    /// # Errors
    /// [`BarrierError::Header`] for a wrong secret or a damaged header; otherwise the variant that names what is
    /// missing, older or altered. Nothing has been written then, except by a failed roll-forward, which the next start
    /// repeats.
    pub fn unseal(parts: Parts, unlock: &Unlock<'_>, now_ms: u64) -> Result<(Self, Report), BarrierError> {
        let copies = parts.header.read()?;
        let accepted = accept(&parts, &copies, unlock, Fit::Exact)?;
        let Accepted { bytes, opened, stored, successor, .. } = accepted;
        let Opened { header, keyring, root } = opened;
        let anchor = check_anchor(&parts, &header, &keyring, &stored)?;
        let index = scan(&parts, &header, &keyring, &stored)?;
        let anchored = anchor.best.as_ref().map_or(0, |slot| slot.mark.generation);
        let same_epoch = anchor.best.as_ref().is_some_and(|slot| slot.mark.epoch == stored.state.epoch);
        let behind = if same_epoch { stored.state.generation.saturating_sub(anchored) } else { 0 };
        // At a start without a fault, the slots are neighbours. See `Found::gap`.
        let behind = if anchor.gap > 1 { behind.max(anchor.gap) } else { behind };

        // Rewrite both copies, even if only one of them was missing or older.
        let differ = copies.iter().any(|copy| copy.as_deref() != Some(bytes.as_slice()));
        if successor || differ {
            parts.header.write(0, &bytes)?;
            parts.header.write(1, &bytes)?;
        }
        // An accepted loss fills a blank slot with its first state, and may be killed before its second one.
        let first_of_epoch = header.floor_epoch < stored.state.epoch
            && header.floor_generation.checked_add(1) == Some(stored.state.generation);
        let spoilt = anchor.torn || (anchor.misplaced && !first_of_epoch);
        let newest = keyring.newest_integrity().id;
        // Before any new commit, because the next generation must not begin while this one is not anchored.
        anchor_now(&parts, &header, &keyring, &stored, anchor.blank)?;
        let mut state = stored.state;
        (state.epoch, state.incarnation) = (header.epoch, header.incarnation);
        // The header names a newer integrity set than the state, so the sum must be computed again with that set.
        if stored.iks_id != newest {
            let set = MacKey::new(&keyring.newest_integrity().set);
            state.set_hash = sum(&set, &index);
        }
        let stale = stored.iks_id != newest;
        let writer = Writer::new(state, Some(stored.revision));
        let barrier = Self::assemble(parts, (header, root.into_header_keys(), keyring), index, writer);
        if successor || differ || stale {
            barrier.roll(now_ms)?;
        }
        let report = Report {
            generation: barrier.mark().2,
            records: barrier.record_count(),
            header_rolled_forward: successor,
            header_repaired: differ,
            anchor_behind: behind,
            anchor_torn: anchor.torn,
            anchor_damaged: spoilt && same_epoch && behind == 0,
        };
        Ok((barrier, report))
    }

    pub(in crate::barrier) fn assemble(
        parts: Parts,
        opened: (Header, HeaderKeys, Keyring),
        index: Index,
        writer: Writer,
    ) -> Self {
        let (header, lock, keyring) = opened;
        Self {
            store: parts.store,
            anchor: parts.anchor,
            random: parts.random,
            files: parts.header,
            vault: header.vault_id,
            names: Names::new(&keyring.name, header.vault_id),
            ring: ArcSwap::from_pointee(Ring::new(header, lock, keyring)),
            published: RwLock::new(Published::new(index, &writer.state)),
            writer: Mutex::new(writer),
            fault: RwLock::new(None),
            damage_found: 0.into(),
            fatal: false.into(),
        }
    }

    /// Commits a state without changes and anchors it. Afterwards both files agree, and a full disk has been detected
    /// before anything is written that cannot be undone.
    ///
    /// # Errors
    /// The errors of [`super::Group::store`] and [`super::Durable::anchor`].
    pub fn roll(&self, now_ms: u64) -> Result<(), BarrierError> {
        self.roll_to(self.audit_head(), now_ms)
    }

    /// Like [`Barrier::roll`]. From then on, the state vouches for `audit`.
    ///
    /// # Errors
    /// The errors of [`Barrier::roll`].
    pub fn roll_to(&self, audit: AuditHead, now_ms: u64) -> Result<(), BarrierError> {
        let durable = self.begin().store(audit, now_ms)?;
        durable.anchor()?;
        durable.publish();
        Ok(())
    }

    /// Writes states until both slots of the anchor are tagged under the newest integrity set, so that the previous one
    /// may be dropped (amendment M6).
    ///
    /// # Errors
    /// The errors of [`Barrier::roll`].
    pub fn settle_anchor(&self, now_ms: u64) -> Result<(), BarrierError> {
        for _ in 0..2 {
            let newest = self.ring.load().keyring.newest_integrity().id;
            if self.writer.lock().anchored_under == [newest; 2] {
                break;
            }
            self.roll(now_ms)?;
        }
        Ok(())
    }
}

/// Anchors the stored state and fills the `blank` slots of the file.
fn anchor_now(
    parts: &Parts,
    header: &Header,
    keyring: &Keyring,
    stored: &StoredState,
    blank: [bool; 2],
) -> Result<(), BarrierError> {
    let set = keyring.integrity(stored.iks_id).ok_or(BarrierError::StateDamaged("the header has no key for it"))?;
    let StateRecord { epoch, incarnation, generation, .. } = stored.state;
    let mark = Mark { epoch, incarnation, generation, iks_id: set.id };
    let slot = mark.encode(&header.vault_id, &MacKey::new(&set.anchor), &stored.commitment);
    for number in mark.slots_at_start(blank) {
        parts.anchor.write_slot(number, &slot)?;
    }
    Ok(())
}
