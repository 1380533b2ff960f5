//! Share sets are replaced in two steps: the new set is created and printed beside the old one, and the old one is
//! removed once enough of the new shares were entered. Until then both open the vault.
//!
//! The new set's label names the slot that it replaces, so the header alone records the progress and a kill needs no
//! repair. A header has such a set only together with the slot that it replaces.

use crate::keys::{Header, Slot};

use super::slots::{bad, named};
use crate::core::error::VaultError;

/// Prefix of the label of a set that has not been confirmed yet. The number of the slot that it replaces follows.
const WAITING: &str = "new set for slot ";

/// Whether only this module uses such a label.
pub(in crate::core::rotation) fn is_reserved(label: &str) -> bool {
    label.starts_with(WAITING)
}

/// Number of the slot that the new set `slot` replaces.
pub(in crate::core::rotation) fn replaces(slot: &Slot) -> Option<u8> {
    slot.label().strip_prefix(WAITING)?.parse().ok()
}

/// The new set for `old` that has not been confirmed yet.
pub(in crate::core::rotation) fn waiting_for<'h>(header: &'h Header, old: &Slot) -> Option<&'h Slot> {
    header.slots.iter().find(|slot| replaces(slot) == Some(old.id()))
}

/// Label of a new set for `old`.
///
/// # Errors
/// [`VaultError::BadRequest`] while `old` has an unconfirmed new set, or is one.
pub(in crate::core::rotation) fn label(header: &Header, old: &Slot) -> Result<String, VaultError> {
    let waiting = if is_reserved(old.label()) { Some(old) } else { waiting_for(header, old) };
    match waiting {
        None => Ok(format!("{WAITING}{}", old.id())),
        Some(new) => bad(format!(
            "the shares of {} have not been confirmed yet: enter them, or remove that slot and start again",
            named(new)
        )),
    }
}

/// Returns the slots after the shares of `new` were entered, and the slot that is replaced. `new` is among the slots
/// with the label of the slot that it replaces.
///
/// # Errors
/// [`VaultError::BadRequest`] when `new` replaces nothing.
pub(in crate::core::rotation) fn confirmed<'h>(
    header: &'h Header,
    new: &Slot,
) -> Result<(Vec<Slot>, Slot, &'h Slot), VaultError> {
    let old = replaces(new).and_then(|id| header.slots.iter().find(|slot| slot.id() == id));
    let Some(old) = old else { return bad(format!("{} is not a new set that replaces another one", named(new))) };
    let fresh = new.labelled(old.label());
    let kept = header.slots.iter().filter(|slot| slot.id() != old.id());
    let slots = kept.map(|slot| if slot.id() == new.id() { fresh.clone() } else { slot.clone() }).collect();
    Ok((slots, fresh, old))
}

/// Gives a new set the label of its old slot, once that slot is no longer in `slots`. The shares were presented, which
/// proves that they work.
pub(in crate::core::rotation) fn settle_names(header: &Header, slots: &mut [Slot]) {
    let stays: Vec<u8> = slots.iter().map(Slot::id).collect();
    for slot in slots {
        let gone = replaces(slot).filter(|id| !stays.contains(id));
        if let Some(old) = gone.and_then(|id| header.slots.iter().find(|old| old.id() == id)) {
            *slot = slot.labelled(old.label());
        }
    }
}
