//! Which header, state and anchor belong together (amendments M5, M6 and M13).

use crate::barrier::anchor::{self, Found};
use crate::barrier::error::{BarrierError, STATE_OLDER};
use crate::barrier::names::StoreKey;
use crate::barrier::open::Parts;
use crate::barrier::state::{StateRecord, TermUse};
use crate::crypto::envelope::{self, Context, Kind};
use crate::crypto::hash::MacKey;
use crate::keys::{Header, HeaderError, Keyring, Opened, Unlock, WeakKdf};
use crate::store::CommitSeq;

/// The stored state record, opened.
pub(in crate::barrier) struct StoredState {
    pub state: StateRecord,
    pub iks_id: u32,
    pub commitment: [u8; 32],
    pub revision: CommitSeq,
}

/// A header copy that opened, with the state beside it.
pub(in crate::barrier) struct Accepted {
    pub bytes: Vec<u8>,
    pub opened: Opened,
    pub stored: StoredState,
    /// Whether the header is one ahead of the state.
    pub successor: bool,
    /// The error that [`Fit::Exact`] would return.
    pub misfit: Option<BarrierError>,
    /// Label of the slot that opened.
    pub slot: String,
}

/// How header and state must belong together.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::barrier) enum Fit {
    /// The state names this header, or the one directly before it.
    Exact,
    /// The state may be any older one; an operator is asked to accept that.
    OlderState,
}

/// Finds the header copy that opens and belongs to the state. It tries the higher sequence number first.
pub(in crate::barrier) fn accept(
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

/// Why header and state do not belong together; `None` if they do (amendments M5 and M13).
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
pub(in crate::barrier) fn check_anchor(
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
