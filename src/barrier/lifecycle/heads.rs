//! The heads of all records, read at the start and compared with the sealed state.

use std::ops::ControlFlow;

use super::matching::StoredState;
use crate::barrier::error::BarrierError;
use crate::barrier::index::{Index, Stamp};
use crate::barrier::names::StoreKey;
use crate::barrier::open::Parts;
use crate::barrier::state::{StateRecord, TermUse, sum};
use crate::crypto::envelope::Kind;
use crate::crypto::hash::MacKey;
use crate::keys::{Header, Keyring, TermState};

/// Reads the head of every record, and compares the sum and the counts with the state.
pub(in crate::barrier) fn scan(
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
    // Reported first, because it explains the differences below.
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
pub(in crate::barrier) fn counts_fit(index: &Index, state: &StateRecord) -> Result<bool, BarrierError> {
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
pub(in crate::barrier) fn stamp_of(
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
