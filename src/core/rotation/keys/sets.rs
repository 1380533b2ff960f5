//! Share sets are replaced in two steps: the new set is made and printed beside the old one, and the old one goes when
//! enough of the new shares were typed in. Until then both open.
//!
//! The new set's label names the slot that it replaces, so the header alone says how far the change is: a kill needs no
//! repair. A header holds such a set only together with the slot that it replaces.

use crate::keys::{Header, Slot};

use super::slots::{bad, named};
use crate::core::error::VaultError;

/// Start of the label of a set that was not typed in yet; the number of the slot that it replaces follows.
const WAITING: &str = "new set for slot ";

/// Whether a label is one that only this module gives.
pub(in crate::core::rotation) fn is_reserved(label: &str) -> bool {
    label.starts_with(WAITING)
}

/// Number of the slot that `slot` is the new set for.
pub(in crate::core::rotation) fn replaces(slot: &Slot) -> Option<u8> {
    slot.label().strip_prefix(WAITING)?.parse().ok()
}

/// The new set for `old`, not typed in yet.
pub(in crate::core::rotation) fn waiting_for<'h>(header: &'h Header, old: &Slot) -> Option<&'h Slot> {
    header.slots.iter().find(|slot| replaces(slot) == Some(old.id()))
}

/// Label of a new set for `old`.
///
/// # Errors
/// [`VaultError::BadRequest`] while `old` has a new set, or is one.
pub(in crate::core::rotation) fn label(header: &Header, old: &Slot) -> Result<String, VaultError> {
    let waiting = if is_reserved(old.label()) { Some(old) } else { waiting_for(header, old) };
    match waiting {
        None => Ok(format!("{WAITING}{}", old.id())),
        Some(new) => bad(format!(
            "{} was made and not typed in yet: type its shares in, or remove that slot and begin again",
            named(new)
        )),
    }
}

/// The slots after the shares of `new` were typed in, `new` among them under the name of the slot that it replaces, and
/// that slot.
///
/// # Errors
/// [`VaultError::BadRequest`] when `new` replaces nothing.
pub(in crate::core::rotation) fn confirmed<'h>(
    header: &'h Header,
    new: &Slot,
) -> Result<(Vec<Slot>, Slot, &'h Slot), VaultError> {
    let old = replaces(new).and_then(|id| header.slots.iter().find(|slot| slot.id() == id));
    let Some(old) = old else { return bad(format!("{} is not a new set that replaces another", named(new))) };
    let fresh = new.labelled(old.label());
    let kept = header.slots.iter().filter(|slot| slot.id() != old.id());
    let slots = kept.map(|slot| if slot.id() == new.id() { fresh.clone() } else { slot.clone() }).collect();
    Ok((slots, fresh, old))
}

/// Gives new sets whose old one is not among `slots` any more its name: their shares were shown, which is the proof.
pub(in crate::core::rotation) fn settle_names(header: &Header, slots: &mut [Slot]) {
    let stays: Vec<u8> = slots.iter().map(Slot::id).collect();
    for slot in slots {
        let gone = replaces(slot).filter(|id| !stays.contains(id));
        if let Some(old) = gone.and_then(|id| header.slots.iter().find(|old| old.id() == id)) {
            *slot = slot.labelled(old.label());
        }
    }
}
