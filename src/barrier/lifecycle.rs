//! Creates the first state of a vault, and opens vaults: checks which header, state and anchor belong together.

use std::ops::ControlFlow;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};

use crate::crypto::envelope::{self, Context, Kind};
use crate::crypto::hash::{MacKey, SetHash};
use crate::keys::{Header, HeaderError, HeaderKeys, Keyring, Opened, TermState, Unlock, WeakKdf};
use crate::store::CommitSeq;

use super::anchor::{self, Found, Mark};
use super::error::{BarrierError, STATE_OLDER};
use super::index::{Index, Stamp};
use super::names::{Names, StoreKey};
use super::open::{Barrier, Parts, Writer};
use super::published::Published;
use super::state::{ANCHORED, StateRecord, TermUse, sum};
use super::status::AuditHead;
use super::terms::ring::Ring;

/// What opening found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Generation that is served.
    pub generation: u64,
    /// Number of stored records, without the state.
    pub records: u64,
    /// The start completed a header write that a crash had interrupted.
    pub header_rolled_forward: bool,
    /// One copy of the header was missing, damaged or older, and was written again.
    pub header_repaired: bool,
    /// Generations between the anchor and the store. After a crash it is 1; more is an alarm. It is also more than 1
    /// when an earlier start found this and nothing has been committed since, because that start may have ended before
    /// it told anybody.
    pub anchor_behind: u64,
    /// One anchor slot was neither blank nor good: torn by a crash, or damaged.
    pub anchor_torn: bool,
    /// One slot was neither blank nor good, or holds what belongs in the other, and no crash explains it: after a torn
    /// write, the store is one generation ahead of the other slot, and only the first state of an epoch stands in both. The
    /// damaged slot may have named a newer generation, so this is an alarm.
    pub anchor_damaged: bool,
}

/// The stored state record, opened.
pub(super) struct StoredState {
    pub state: StateRecord,
    pub iks_id: u32,
    pub commitment: [u8; 32],
    pub revision: CommitSeq,
}

impl Barrier {
    /// Writes the first state of a new vault: both header copies, generation 1, the anchor. On `Ok`, it is complete and
    /// durable.
    ///
    /// # Errors
    /// [`BarrierError::NotEmpty`] when the store has content; [`BarrierError::Store`], [`BarrierError::Sidecar`],
    /// [`BarrierError::Fatal`], [`BarrierError::Full`] from writing. After an error there is no usable vault.
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
    /// missing, older or altered. Then nothing has been written, except by a failed roll-forward, which the next start
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

        // Write both copies again, also when only one of them was missing or older.
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
        // This comes before any new commit: the next generation must not begin while this one is not anchored.
        anchor_now(&parts, &header, &keyring, &stored, anchor.blank)?;
        let mut state = stored.state;
        (state.epoch, state.incarnation) = (header.epoch, header.incarnation);
        // The header names a newer integrity set than the state, so the sum must be made again with that set.
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

    pub(super) fn assemble(parts: Parts, opened: (Header, HeaderKeys, Keyring), index: Index, writer: Writer) -> Self {
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
            fatal: false.into(),
        }
    }

    /// Commits a state without changes and anchors it. Afterwards, both files agree, and a full disk was noticed before
    /// anything is written that cannot be undone.
    ///
    /// # Errors
    /// Those of [`super::Group::store`] and [`super::Durable::anchor`].
    pub fn roll(&self, now_ms: u64) -> Result<(), BarrierError> {
        self.roll_to(self.audit_head(), now_ms)
    }

    /// Like [`Barrier::roll`]. From then on, the state vouches for `audit`.
    ///
    /// # Errors
    /// Those of [`Barrier::roll`].
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
    /// Those of [`Barrier::roll`].
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

pub(super) struct Accepted {
    bytes: Vec<u8>,
    pub opened: Opened,
    pub stored: StoredState,
    /// The header is one ahead of the state.
    successor: bool,
    /// The error that [`Fit::Exact`] would return.
    pub misfit: Option<BarrierError>,
    /// Label of the slot that opened.
    pub slot: String,
}

/// How header and state must belong together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// The state names this header, or the one directly before it.
    Exact,
    /// The state may be any older one: an operator is asked to accept that.
    OlderState,
}

/// Finds the header copy that opens and belongs to the state. It tries the higher sequence number first.
pub(super) fn accept(
    parts: &Parts,
    copies: &[Option<Vec<u8>>; 2],
    unlock: &Unlock<'_>,
    fit: Fit,
) -> Result<Accepted, BarrierError> {
    let mut first_error = None;
    let mut parsed: Vec<(&Vec<u8>, Header)> = Vec::new();
    for bytes in copies.iter().flatten() {
        match Header::parse(bytes) {
            Ok(header) if !parsed.iter().any(|(other, _)| *other == bytes) => parsed.push((bytes, header)),
            Ok(_) => {}
            Err(error) => first_error = first_error.or(Some(BarrierError::Header(error))),
        }
    }
    parsed.sort_by_key(|(_, header)| std::cmp::Reverse(header.seq));
    let any = copies.iter().any(Option::is_some);
    let (mut refusals, mut older) = (Vec::new(), None);
    for (bytes, header) in parsed {
        match try_header(parts, bytes, &header, unlock) {
            Ok(accepted) if accepted.misfit.is_none() => return Ok(accepted),
            // Another copy may fit exactly.
            Ok(accepted) if fit == Fit::OlderState && is_older(&accepted) => {
                older.get_or_insert(accepted);
            }
            Ok(accepted) => refusals.extend(accepted.misfit),
            Err(error) => refusals.push(error),
        }
    }
    if let Some(older) = older {
        return Ok(older);
    }
    // The error of a copy that opened is more precise than the error of one that did not.
    let told = refusals.iter().position(|error| !matches!(error, BarrierError::Header(HeaderError::WrongSecret)));
    let best = if refusals.is_empty() { None } else { Some(refusals.swap_remove(told.unwrap_or(0))) };
    Err(match (best, first_error, any) {
        (Some(error), _, _) | (None, Some(error), _) => error,
        (None, None, true) => BarrierError::Header(HeaderError::Damaged("no copy can be read")),
        (None, None, false) => BarrierError::HeaderMissing,
    })
}

/// Whether the only misfit is that the state is older than the header.
fn is_older(accepted: &Accepted) -> bool {
    let (header, state) = (&accepted.opened.header, &accepted.stored.state);
    let newer_header = header.seq > state.header_seq && header.epoch >= state.epoch;
    match accepted.misfit {
        Some(BarrierError::BelowFloor | BarrierError::Unfinished | BarrierError::Missing { .. }) => true,
        Some(BarrierError::HeaderOther(_)) => newer_header,
        _ => false,
    }
}

fn try_header(parts: &Parts, bytes: &[u8], header: &Header, unlock: &Unlock<'_>) -> Result<Accepted, BarrierError> {
    let (slot, root) = header.open_slot(None, unlock, WeakKdf::Refuse, None)?;
    let slot = slot.label().to_owned();
    let opened = header.authenticate(root)?;
    let Some(stored) = read_state(parts, header, &opened.keyring)? else {
        return Err(no_state(parts, header, &opened.keyring)?);
    };
    let state = &stored.state;
    let successor = state.header_seq.checked_add(1) == Some(header.seq) && header.prev_mac == state.header_mac;
    let mut misfit = misfit(header, &opened.keyring, state, successor);
    if matches!(misfit, Some(BarrierError::Unfinished))
        && let Some(generations) = missing_epoch(parts, header, &opened.keyring, state)
    {
        misfit = Some(BarrierError::Missing { generations });
    }
    Ok(Accepted { bytes: bytes.to_vec(), opened, stored, successor, misfit, slot })
}

/// Why header and state do not belong together, if they do not (amendments M5 and M13).
fn misfit(header: &Header, keyring: &Keyring, state: &StateRecord, successor: bool) -> Option<BarrierError> {
    let same = header.seq == state.header_seq && header.mac == state.header_mac;
    // Accepting a loss makes the accepted state the floor of the header, and raises the epoch above it.
    let floor = (header.floor_epoch, header.floor_generation);
    // Each attempt raises the sequence number by one and the epoch by at least one. A header that is further ahead was in
    // service.
    let attempts = header.seq.checked_sub(state.header_seq).filter(|attempts| *attempts > 0);
    let raised = header.epoch.saturating_sub(state.epoch);
    let unfinished =
        attempts.is_some_and(|attempts| attempts <= u64::from(raised)) && floor == (state.epoch, state.generation);
    if !same && !successor {
        if unfinished {
            return Some(BarrierError::Unfinished);
        }
        // The state may still count records under a key that this header has destroyed, so that nothing can open them
        // again. That tells the operator more than two different numbers would.
        let gone =
            |used: &&TermUse| used.live > 0 && keyring.term(used.term).is_some_and(|term| term.key.live().is_none());
        if header.seq > state.header_seq
            && let Some(used) = state.terms.iter().find(gone)
        {
            return Some(BarrierError::TermDestroyed(used.term));
        }
        return Some(BarrierError::HeaderOther(match header.seq.cmp(&state.header_seq) {
            std::cmp::Ordering::Less => "the header is older than the state",
            std::cmp::Ordering::Equal => "another header of the same number",
            std::cmp::Ordering::Greater => STATE_OLDER,
        }));
    }
    // A header that has begun a new epoch is never rolled forward by a start: the note of the loss is in the state that did
    // not follow, and an epoch without its note must not exist.
    if header.epoch != state.epoch || header.incarnation != state.incarnation {
        return Some(if unfinished { BarrierError::Unfinished } else { BarrierError::HeaderOther("another epoch") });
    }
    ((state.epoch, state.generation) < floor).then_some(BarrierError::BelowFloor)
}

/// Generations that are missing when the anchor knows a later epoch than the state: the epoch of the header was in
/// service, and the store is older. `None` when the anchor knows no such epoch, or cannot be read.
fn missing_epoch(parts: &Parts, header: &Header, keyring: &Keyring, state: &StateRecord) -> Option<u64> {
    let file = parts.anchor.read().ok().flatten()?;
    let mark = anchor::read(&file, &header.vault_id, keyring).best?.mark;
    (mark.epoch > state.epoch).then(|| mark.generation.saturating_sub(state.generation))
}

/// A store without a state was emptied if an anchor names a later one, and never filled if none does.
fn no_state(parts: &Parts, header: &Header, keyring: &Keyring) -> Result<BarrierError, BarrierError> {
    let file = parts.anchor.read()?.unwrap_or_default();
    Ok(match anchor::read(&file, &header.vault_id, keyring).best {
        Some(slot) => BarrierError::Missing { generations: slot.mark.generation },
        None => BarrierError::StateMissing,
    })
}

fn read_state(parts: &Parts, header: &Header, keyring: &Keyring) -> Result<Option<StoredState>, BarrierError> {
    let place = StoreKey::state();
    let Some(stored) = parts.store.get(place.as_bytes())? else { return Ok(None) };
    let damaged = |_| BarrierError::StateDamaged("it does not open");
    let head = envelope::head(&stored.value).map_err(damaged)?;
    let set = keyring.integrity(head.term).ok_or(BarrierError::StateDamaged("the header has no key for it"))?;
    let context = Context {
        suite: head.suite,
        kind: Kind::State,
        term: head.term,
        version: head.version,
        generation: head.generation,
        vault_id: header.vault_id.as_bytes(),
        store_key: place.as_bytes(),
        path: &[],
    };
    let body = envelope::open(&set.state, &context, &stored.value).map_err(damaged)?;
    let state = StateRecord::decode(body.reveal()).map_err(|_| BarrierError::StateDamaged("it cannot be decoded"))?;
    if state.generation != head.generation || head.suite < header.min_suite {
        return Err(BarrierError::StateDamaged("its head differs from its body"));
    }
    let commitment = envelope::commitment(&stored.value).map_err(damaged)?;
    Ok(Some(StoredState { state, iks_id: set.id, commitment, revision: stored.revision }))
}

/// Compares the anchor with the state (amendment M6).
pub(super) fn check_anchor(
    parts: &Parts,
    header: &Header,
    keyring: &Keyring,
    stored: &StoredState,
) -> Result<Found, BarrierError> {
    let Some(file) = parts.anchor.read()? else { return Err(BarrierError::AnchorMissing) };
    let found = anchor::read(&file, &header.vault_id, keyring);
    if found.forked {
        return Err(BarrierError::AnchorOther);
    }
    let Some(slot) = &found.best else {
        return Err(if found.blank == [true; 2] { BarrierError::AnchorMissing } else { BarrierError::AnchorDamaged });
    };
    let (mark, state) = (&slot.mark, &stored.state);
    if mark.epoch == state.epoch && mark.incarnation != state.incarnation {
        return Err(BarrierError::AnchorOther);
    }
    let order = (state.epoch, state.generation).cmp(&(mark.epoch, mark.generation));
    if order.is_ge() && found.emptied() {
        return Err(BarrierError::AnchorEmptied);
    }
    match order {
        std::cmp::Ordering::Less => {
            Err(BarrierError::Missing { generations: mark.generation.saturating_sub(state.generation) })
        }
        std::cmp::Ordering::Equal => {
            let set = keyring.integrity(mark.iks_id).ok_or(BarrierError::AnchorDamaged)?;
            let vouched = slot.vouches_for(&MacKey::new(&set.anchor), &stored.commitment);
            if vouched { Ok(found) } else { Err(BarrierError::AnchorOther) }
        }
        std::cmp::Ordering::Greater => Ok(found),
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

/// Reads the head of every record, and compares the sum and the counts with the state.
pub(super) fn scan(
    parts: &Parts,
    header: &Header,
    keyring: &Keyring,
    stored: &StoredState,
) -> Result<Index, BarrierError> {
    let mut index = Index::new();
    let (mut wrong, mut destroyed) = (None, None);
    parts.store.scan_heads(&[], &mut |key, head| match stamp_of(key, head, header, keyring, &stored.state) {
        Ok(Some((key, stamp))) => {
            let term = stamp.head().map_or(0, |head| head.term);
            if keyring.term(term).is_some_and(|term| term.key.live().is_none()) {
                destroyed = Some(term);
            }
            index.insert(key, stamp);
            ControlFlow::Continue(())
        }
        Ok(None) => ControlFlow::Continue(()),
        Err(what) => {
            wrong = Some(what);
            ControlFlow::Break(())
        }
    })?;
    if let Some(what) = wrong {
        return Err(BarrierError::SetHash(what));
    }
    let set = keyring.integrity(stored.iks_id).ok_or(BarrierError::StateDamaged("the header has no key for it"))?;
    // Report this first, because it explains the differences below.
    if let Some(term) = destroyed {
        return Err(BarrierError::TermDestroyed(term));
    }
    if !sum(&MacKey::new(&set.set), &index).ct_eq(&stored.state.set_hash) {
        return Err(BarrierError::SetHash("records were altered, added or removed"));
    }
    if !counts_fit(&index, &stored.state)? {
        return Err(BarrierError::SetHash("its counts differ"));
    }
    Ok(index)
}

/// Whether the numbers of records, in all and under each term, are those in the state.
pub(super) fn counts_fit(index: &Index, state: &StateRecord) -> Result<bool, BarrierError> {
    let mut live: Vec<TermUse> = state.terms.iter().map(|used| TermUse { live: 0, ..*used }).collect();
    for stamp in index.values() {
        let term = stamp.head()?.term;
        if term == 0 {
            continue;
        }
        match live.iter_mut().find(|used| used.term == term) {
            Some(used) => used.live = used.live.saturating_add(1),
            None => return Ok(false),
        }
    }
    Ok(u64::try_from(index.len()).ok() == Some(state.record_count) && live == state.terms)
}

/// Key and stamp of one stored record; `None` for the state. Errors name what is wrong with it.
pub(super) fn stamp_of(
    key: &[u8],
    head: &[u8],
    header: &Header,
    keyring: &Keyring,
    state: &StateRecord,
) -> Result<Option<(StoreKey, Stamp)>, &'static str> {
    let key = StoreKey::parse(key).ok_or("a key outside the format")?;
    let stamp = Stamp::of(head).map_err(|_| "a record outside the format")?;
    let fields = stamp.head().map_err(|_| "a record outside the format")?;
    let kind = match key.letter() {
        b's' => return Ok(None),
        b'd' => Kind::Node,
        b'e' => Kind::Entry,
        _ => Kind::Value,
    };
    let numbered = key.version().is_none_or(|version| version == fields.version);
    if fields.kind != kind || !numbered || fields.suite < header.min_suite || fields.generation > state.generation {
        return Err("a record that does not fit its place");
    }
    if fields.term != 0 {
        let term = keyring.term(fields.term).ok_or("a record of an unknown term")?;
        if term.state == TermState::PreActive || term.suite != fields.suite {
            return Err("a record that its term did not seal");
        }
    }
    Ok(Some((key, stamp)))
}
