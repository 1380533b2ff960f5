//! Key slots: adding, changing, removing and testing them, and replacing the root key itself.
//!
//! A change requires a secret that opens a slot, because the root key is not kept while the vault is open. Every change
//! is one header, written copy by copy. Until the first copy has been read back, the second one is still the old
//! header. So after a kill the vault opens with the old secrets or the new ones, and never with neither.

use std::sync::Arc;

use serde::Serialize;
use zeroize::Zeroizing;

use crate::api::hex::hex;
use crate::api::reply::Reply;
use crate::api::rotation::SlotInfo;
use crate::barrier::HeaderChange;
use crate::crypto::envelope::Suite;
use crate::crypto::recovery::RecoveryCode;
use crate::crypto::secret::SecretBytes;
use crate::keys::header::MAX_TRIES;
use crate::keys::share::{Share, ShareError};
use crate::keys::slot::HYBRID;
use crate::keys::{Header, HeaderError, NewSlot, RootKey, Slot, Unlock, WeakKdf};

use super::cost;
use super::record::{Kind, Progress, Run};
use super::sets;
use crate::core::error::VaultError;
use crate::core::pipeline::audited::Facts;
use crate::core::rotation::desk::{Desk, Outcome};
use crate::core::rotation::orders::{Key, Making, Secret, SlotOrder};

/// Smallest number of different bytes in a key file. Hexadecimal text has sixteen.
const LEAST_DIFFERENT: usize = 8;

/// What was generated here and is shown only once.
#[derive(Default)]
struct Made {
    recovery_code: Option<SecretBytes>,
    shares: Vec<SecretBytes>,
}

/// Executes an order.
pub(in crate::core) fn perform(desk: &Desk, facts: &Arc<Facts>, order: SlotOrder) -> Outcome {
    let prepared = match order {
        SlotOrder::Test(key) => return Outcome { result: test(desk, &key), audited: false },
        SlotOrder::Add { unlock, label, making } => add(desk, &unlock, &label, making),
        SlotOrder::Change { unlock, making } => change(desk, &unlock, making),
        SlotOrder::Confirm(key) => confirm(desk, &key),
        SlotOrder::Remove { unlock, slot } => remove(desk, &unlock, &slot),
        SlotOrder::Upgrade(key) => upgrade(desk, &key),
        SlotOrder::Rekey { keep, drop_absent, compromised, deep } => {
            return super::rekey::rekey(desk, facts, &keep, drop_absent, compromised, deep);
        }
    };
    match prepared {
        Ok(prepared) => Outcome { result: commit(desk, facts, prepared), audited: true },
        Err(error) => Outcome::refused(error),
    }
}

/// A prepared change of slots, ready to be written.
struct Prepared {
    base: u64,
    slots: Vec<Slot>,
    /// The new slot.
    fresh: Option<Slot>,
    target: String,
    step: String,
    made: Made,
}

fn commit(desk: &Desk, facts: &Arc<Facts>, prepared: Prepared) -> Result<Reply, VaultError> {
    let random = Arc::clone(&desk.random);
    desk.alone(facts, move |group, now_ms| {
        let Prepared { base, slots, fresh, target, step, made } = prepared;
        let expected = slots.clone();
        group.change_header(HeaderChange {
            base: Some(base),
            slots: Some(slots),
            // The new slot was opened with its key when it was created. The same bytes on disk open too.
            check: Some(Box::new(move |header| header.slots == expected)),
            ..HeaderChange::default()
        })?;
        group.run(|tx| {
            let mut run = Run::new(&*random, Kind::Slot, target, Progress::Done, now_ms)?;
            run.note(step, "written, read back and compared; the old header is gone");
            run.advance(Progress::Done, now_ms);
            run.put(tx)
        })?;
        reply(fresh.as_ref(), &made)
    })
}

fn test(desk: &Desk, key: &Key) -> Result<Reply, VaultError> {
    let header = desk.barrier.header();
    let (slot, _) = open(&header, key)?;
    reply(Some(slot), &Made::default())
}

fn add(desk: &Desk, unlock: &Key, label: &str, making: Making) -> Result<Prepared, VaultError> {
    let header = desk.barrier.header();
    if label.is_empty() || header.slots.iter().any(|slot| slot.label() == label) {
        return bad("field \"label\" must be a label that no other slot has");
    }
    if sets::is_reserved(label) {
        return bad("field \"label\": this prefix is reserved for new share sets that have not been confirmed yet");
    }
    let (opened, root) = open(&header, unlock)?;
    let (slot, made) = make(desk, &header, (opened, &root), (free_id(&header)?, label), making)?;
    Ok(further(&header, slot, "add", made))
}

/// Returns the header with one more slot.
fn further(header: &Header, slot: Slot, verb: &str, made: Made) -> Prepared {
    let mut slots = header.slots.clone();
    slots.push(slot.clone());
    let (target, step) = (named(&slot), format!("{verb} {}", slot.type_name()));
    Prepared { base: header.seq, slots, target, step, fresh: Some(slot), made }
}

fn change(desk: &Desk, unlock: &Key, making: Making) -> Result<Prepared, VaultError> {
    let header = desk.barrier.header();
    let (old, root) = open(&header, unlock)?;
    let kind = match &making {
        Making::Sent(secret) => secret.unlock().slot_type(),
        Making::RecoveryCode => crate::keys::slot::RECOVERY,
        Making::Shares { .. } => crate::keys::slot::SHARES,
    };
    if kind != old.slot_type() {
        return bad("a slot cannot change its type: add a slot of the other type, test it, then remove this one");
    }
    if matches!(making, Making::Shares { .. }) {
        // Printed shares may be lost or misprinted, so the old set stays until the new shares were entered.
        let label = sets::label(&header, old)?;
        let (slot, made) = make(desk, &header, (old, &root), (free_id(&header)?, &label), making)?;
        return Ok(further(&header, slot, "create a new set of", made));
    }
    let (slot, made) = make(desk, &header, (old, &root), (old.id(), old.label()), making)?;
    let slots = replaced(&header, &slot);
    let step = format!("change {}", slot.type_name());
    Ok(Prepared { base: header.seq, slots, target: named(&slot), step, fresh: Some(slot), made })
}

/// Removes the old set, because the given shares open the vault with the new set alone.
fn confirm(desk: &Desk, key: &Key) -> Result<Prepared, VaultError> {
    let header = desk.barrier.header();
    let (new, _) = open(&header, key)?;
    let (slots, slot, gone) = sets::confirmed(&header, new)?;
    guard(&slots)?;
    let (target, step) = (named(&slot), format!("shares entered; remove {}", named(gone)));
    Ok(Prepared { base: header.seq, slots, target, step, fresh: Some(slot), made: Made::default() })
}

fn remove(desk: &Desk, unlock: &Key, slot: &str) -> Result<Prepared, VaultError> {
    let header = desk.barrier.header();
    let gone = find(&header, slot)?;
    if let Some(new) = sets::waiting_for(&header, gone) {
        return bad(format!(
            "its new set, {}, has not been confirmed yet: enter its shares, or remove the new set",
            named(new)
        ));
    }
    let (stays, _) = open(&header, unlock)?;
    if stays.id() == gone.id() {
        return bad("give a secret of a slot that stays, so that somebody can still open the vault");
    }
    let slots: Vec<Slot> = header.slots.iter().filter(|slot| slot.id() != gone.id()).cloned().collect();
    guard(&slots)?;
    let (target, step) = (named(gone), format!("remove {}", gone.type_name()));
    Ok(Prepared { base: header.seq, slots, fresh: None, target, step, made: Made::default() })
}

/// Seals the slot that the secret opens again, if its cost is lower than [`cost::of_each`].
///
/// # Errors
/// [`VaultError::NotFound`] when no slot has to be raised, or there is not enough memory for it.
fn upgrade(desk: &Desk, key: &Key) -> Result<Prepared, VaultError> {
    let header = desk.barrier.header();
    let wanted = cost::of_each(desk, &header);
    let unlock = key.secret.unlock();
    // The unseal tried these, so it opened one of them.
    let tried = header.slots.iter().filter(|slot| unlock.fits(slot.slot_type())).take(MAX_TRIES);
    let below: Vec<&Slot> = tried.filter(|slot| slot.cost().is_some_and(|cost| !cost.as_dear_as(&wanted))).collect();
    if below.is_empty() {
        return Err(VaultError::NotFound);
    }
    if !wanted.fits(desk.settings.memory) {
        // Nobody asked for this derivation, so it must not be the one that ends the daemon.
        tracing::warn!(
            memory_mib = wanted.m_kib / 1024,
            "passphrase slots that are cheaper to guess than others were not raised: it takes more than half of the memory \
             that the vault may use; see strongroom slot list"
        );
        return Err(VaultError::NotFound);
    }
    for old in below {
        // Only the cheap slots are tried. If the secret opens another one, there is nothing to raise.
        let root = match header.open_slot(Some(old), &unlock, WeakKdf::Refuse, None) {
            Ok((_, root)) => root,
            Err(HeaderError::WrongSecret | HeaderError::WeakKdf) => continue,
            Err(error) => return Err(refused(error)),
        };
        header.verify(root.header_keys()).map_err(|_| VaultError::Integrity)?;
        // A passphrase also opens hybrid slots. Such a slot stays hybrid, or the next rekey could not keep it without its
        // holder.
        let secret = match unlock {
            Unlock::Passphrase(passphrase) if old.slot_type() == HYBRID => Unlock::Hybrid(passphrase),
            _ => unlock,
        };
        let new = NewSlot { label: old.label(), secret, params: wanted };
        let slot = seal(desk, &header, &root, &new, old.id())?;
        let slots = replaced(&header, &slot);
        let step = "raise the cost of the key derivation".to_owned();
        let target = named(&slot);
        return Ok(Prepared { base: header.seq, slots, target, step, fresh: None, made: Made::default() });
    }
    Err(VaultError::NotFound)
}

/// Returns the slot that a secret opens, and the root key. The header's MAC is verified with it.
pub(in crate::core::rotation) fn open<'h>(header: &'h Header, key: &Key) -> Result<(&'h Slot, RootKey), VaultError> {
    let named = key.slot.as_deref().map(|name| find(header, name)).transpose()?;
    let opened = header.open_slot(named, &key.secret.unlock(), WeakKdf::Refuse, None);
    let (slot, root) = opened.map_err(refused)?;
    header.verify(root.header_keys()).map_err(|_| VaultError::Integrity)?;
    Ok((slot, root))
}

/// Finds a slot by number or label.
pub(in crate::core::rotation) fn find<'h>(header: &'h Header, name: &str) -> Result<&'h Slot, VaultError> {
    let number: Option<u8> = name.parse().ok();
    let by_number = header.slots.iter().find(|slot| Some(slot.id()) == number);
    by_number.or_else(|| header.slots.iter().find(|slot| slot.label() == name)).ok_or_else(|| {
        VaultError::BadRequest("no slot has this number or label: see `strongroom slot list`".to_owned())
    })
}

/// Checks what must hold for the slots of every header.
pub(in crate::core::rotation) fn guard(slots: &[Slot]) -> Result<(), VaultError> {
    if slots.is_empty() {
        return bad("the last slot cannot be removed: without it nobody could open the vault");
    }
    if slots.iter().all(Slot::is_recovery) {
        return bad("the last slot that is not for recovery cannot be removed: add a passphrase or a key file first");
    }
    Ok(())
}

fn make(
    desk: &Desk,
    header: &Header,
    (opened, root): (&Slot, &RootKey),
    (id, label): (u8, &str),
    making: Making,
) -> Result<(Slot, Made), VaultError> {
    let (secret, made) = match making {
        Making::Sent(secret) => {
            refuse_weak(&secret)?;
            (secret, Made::default())
        }
        Making::RecoveryCode => {
            let code = RecoveryCode::generate(&*desk.random).map_err(|_| VaultError::Internal)?;
            let printed = code.render();
            (Secret::Recovery(code), Made { recovery_code: Some(printed), ..Made::default() })
        }
        Making::Shares { threshold, total } => {
            let shares = Share::create(&header.vault_id, threshold, total, &*desk.random);
            let shares = shares.map_err(|_| {
                VaultError::BadRequest(
                    "there must be 2 to 32 shares, and a threshold from 2 to their number".to_owned(),
                )
            })?;
            let printed = shares.iter().map(Share::render).collect();
            (Secret::Shares(shares), Made { shares: printed, ..Made::default() })
        }
    };
    let params = cost::of_new(desk, header, opened, &secret)?;
    let new = NewSlot { label, secret: secret.unlock(), params };
    Ok((seal(desk, header, root, &new, id)?, made))
}

fn seal(desk: &Desk, header: &Header, root: &RootKey, new: &NewSlot<'_>, id: u8) -> Result<Slot, VaultError> {
    let suite = header.slots.first().map_or(Suite::Aes256Gcm, Slot::suite);
    let bound = (&header.vault_id, header.flags, suite);
    Slot::seal(new, id, bound, root, &*desk.random, WeakKdf::Refuse).map_err(refused)
}

/// A key file costs nothing to guess, so one that is not random is as good as none.
fn refuse_weak(secret: &Secret) -> Result<(), VaultError> {
    let (Secret::KeyFile(file) | Secret::Both { file, .. }) = secret else { return Ok(()) };
    let mut seen = Zeroizing::new([false; 256]);
    for byte in file.reveal() {
        seen.get_mut(usize::from(*byte)).into_iter().for_each(|seen| *seen = true);
    }
    if seen.iter().filter(|seen| **seen).count() < LEAST_DIFFERENT {
        return bad(
            "the key file has fewer than eight different bytes, so it can be guessed; create one: head -c 32 /dev/urandom > FILE",
        );
    }
    Ok(())
}

fn replaced(header: &Header, slot: &Slot) -> Vec<Slot> {
    header.slots.iter().map(|old| if old.id() == slot.id() { slot.clone() } else { old.clone() }).collect()
}

fn free_id(header: &Header) -> Result<u8, VaultError> {
    let next = header.slots.iter().map(Slot::id).max().and_then(|id| id.checked_add(1));
    let taken = |id: &u8| header.slots.iter().any(|slot| slot.id() == *id);
    let free = (header.slots.len() < crate::keys::header::MAX_SLOTS)
        .then(|| next.or_else(|| (0..=u8::MAX).find(|id| !taken(id))))
        .flatten();
    free.ok_or_else(|| VaultError::BadRequest("all slots are taken: remove one first".to_owned()))
}

pub(in crate::core::rotation) fn named(slot: &Slot) -> String {
    format!("slot {} ({})", slot.id(), slot.label())
}

/// A slot as it is shown in lists.
pub(in crate::core) fn info(slot: &Slot) -> SlotInfo {
    let (cost, set) = (slot.cost(), slot.share_set());
    SlotInfo {
        id: slot.id(),
        kind: slot.type_name().to_owned(),
        label: slot.label().to_owned(),
        recovery: slot.is_recovery(),
        survives_rekey: slot.reseals_absent(),
        memory_mib: cost.map(|cost| cost.m_kib / 1024),
        passes: cost.map(|cost| cost.t),
        threshold: set.as_ref().map(|set| set.k),
        total: set.as_ref().map(|set| set.n),
        set: set.as_ref().map(|set| hex(set.set_id.get(..4).unwrap_or_default())),
        replaces: sets::replaces(slot),
    }
}

fn reply(slot: Option<&Slot>, made: &Made) -> Result<Reply, VaultError> {
    #[derive(Serialize)]
    struct Body<'a> {
        slot: Option<SlotInfo>,
        #[serde(skip_serializing_if = "Option::is_none")]
        recovery_code: Option<&'a str>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        shares: Vec<&'a str>,
    }
    let text =
        |bytes: &'_ SecretBytes| std::str::from_utf8(bytes.reveal()).map(str::len).map_err(|_| VaultError::Internal);
    for printed in made.recovery_code.iter().chain(&made.shares) {
        text(printed)?;
    }
    let shown = |bytes| std::str::from_utf8(SecretBytes::reveal(bytes)).unwrap_or_default();
    let body = Body {
        slot: slot.map(info),
        recovery_code: made.recovery_code.as_ref().map(shown),
        shares: made.shares.iter().map(shown).collect(),
    };
    let bytes = serde_json::to_vec(&body).map_err(|_| VaultError::Internal)?;
    Ok(Reply::data(Zeroizing::new(bytes)))
}

pub(in crate::core::rotation) fn bad<T>(text: impl Into<String>) -> Result<T, VaultError> {
    Err(VaultError::BadRequest(text.into()))
}

/// What the caller is told about a slot that does not open. A wrong secret and a missing slot look the same.
pub(in crate::core::rotation) fn refused(error: HeaderError) -> VaultError {
    match error {
        HeaderError::WrongSecret | HeaderError::NoSlotOfType => VaultError::WrongKey,
        HeaderError::Share(ShareError::NotEnough { have, need }) => VaultError::SharesMissing { have, need },
        HeaderError::Share(error) => VaultError::BadRequest(error.to_string()),
        HeaderError::Limit(_) | HeaderError::KeyFileSize | HeaderError::WeakKdf | HeaderError::KdfTooCostly(_) => {
            VaultError::BadRequest(error.to_string())
        }
        HeaderError::Crypto(_) => VaultError::Internal,
        error => {
            tracing::error!(%error, "a key slot cannot be used");
            VaultError::Integrity
        }
    }
}
