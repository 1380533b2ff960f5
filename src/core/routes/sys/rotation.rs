//! `sys/rotate`, `sys/strongroom/slots`, `sys/strongroom/rotations`, `sys/strongroom/terms`: orders for the keeper, and
//! the state of its work.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::api::reply::Reply;
use crate::api::rotation::{
    NewSlotBody, RekeyBody, RotateBody, RotateConfig, RotationList, SlotChange, SlotList, SlotRemove, SlotTest,
    SlotWrite, TermInfo, TermList, UnlockBody,
};
use crate::api::secret::SecretText;
use crate::api::time::rfc3339_nano;
use crate::barrier::{MountId, Tx};
use crate::crypto::recovery::RecoveryCode;
use crate::crypto::secret::SecretBytes;
use crate::keys::TermState;
use crate::keys::share::Share;

use super::{Change, Inquiry, data};
use crate::core::certificates::schedule;
use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::lifecycle::secret::normalised;
use crate::core::rotation::keys::record;
use crate::core::rotation::keys::slots::info;
use crate::core::rotation::keys::view::{CONFIG, config, reply, shown};
use crate::core::rotation::orders::{Compromised, Key, Making, Order, Secret, SlotOrder, TermOrder};

/// Shortest passphrase for a new slot, in characters.
const MIN_PASSPHRASE: usize = 12;
/// Lowest `max_operations` that is accepted. Below it the vault would do nothing but rotate.
const MIN_OPERATIONS: u64 = 1_000;
/// Shortest interval of automatic rotation, in seconds.
const MIN_INTERVAL_S: u64 = 3_600;

fn bad<T>(text: impl Into<String>) -> Result<T, VaultError> {
    Err(VaultError::BadRequest(text.into()))
}

/// The secret in the body of `slots/test` and others.
fn key(body: UnlockBody) -> Result<Key, VaultError> {
    let UnlockBody { slot, passphrase, key_file, recovery_code, shares } = body;
    let secret = match (passphrase, key_file, recovery_code, shares) {
        (Some(text), None, None, None) => Secret::Passphrase(normalised(&text)?),
        (None, Some(file), None, None) => Secret::KeyFile(decoded(&file)?),
        (Some(text), Some(file), None, None) => Secret::Both { passphrase: normalised(&text)?, file: decoded(&file)? },
        (None, None, Some(code), None) => {
            let code = RecoveryCode::parse(code.reveal());
            Secret::Recovery(code.map_err(|error| VaultError::BadRequest(error.to_string()))?)
        }
        (None, None, None, Some(texts)) => {
            let shares: Result<Vec<Share>, _> = texts.iter().map(|text| Share::parse(text.reveal())).collect();
            Secret::Shares(shares.map_err(|error| VaultError::BadRequest(error.to_string()))?)
        }
        _ => {
            return bad(
                "give one of passphrase, key_file, passphrase with key_file, recovery_code, shares to open a slot",
            );
        }
    };
    Ok(Key { slot, secret })
}

fn decoded(text: &SecretText) -> Result<SecretBytes, VaultError> {
    let bytes = STANDARD.decode(text.reveal().trim());
    bytes.map(SecretBytes::from_vec).or_else(|_| bad("field \"key_file\" must be base64"))
}

fn making(new: NewSlotBody) -> Result<(String, Making), VaultError> {
    let NewSlotBody { kind, label, passphrase, key_file, threshold, total } = new;
    let fresh = |text: Option<SecretText>| -> Result<SecretBytes, VaultError> {
        let Some(text) = text else { return bad("field \"passphrase\" is required for this type") };
        if text.reveal().chars().count() < MIN_PASSPHRASE {
            return bad("a passphrase must have at least 12 characters");
        }
        normalised(&text)
    };
    let file = |text: Option<SecretText>| match text {
        Some(text) => decoded(&text),
        None => bad("field \"key_file\" is required for this type"),
    };
    let making = match kind.as_str() {
        "passphrase" => Making::Sent(Secret::Passphrase(fresh(passphrase)?)),
        "key-file" => Making::Sent(Secret::KeyFile(file(key_file)?)),
        "passphrase-and-key-file" => {
            Making::Sent(Secret::Both { passphrase: fresh(passphrase)?, file: file(key_file)? })
        }
        "hybrid" => Making::Sent(Secret::Hybrid(fresh(passphrase)?)),
        "recovery-code" => Making::RecoveryCode,
        "shares" => match (threshold, total) {
            (Some(threshold), Some(total)) => Making::Shares { threshold, total },
            _ => return bad("fields \"threshold\" and \"total\" are required for shares"),
        },
        _ => {
            return bad(
                "field \"type\" must be one of passphrase, key-file, passphrase-and-key-file, hybrid, recovery-code, shares",
            );
        }
    };
    Ok((label, making))
}

pub(super) fn test(inquiry: &Inquiry<'_>) -> Result<Order, VaultError> {
    let SlotTest { unlock } = SlotTest::read(inquiry.body)?;
    Ok(Order::Slot(SlotOrder::Test(key(unlock)?)))
}

pub(super) fn add(inquiry: &Inquiry<'_>) -> Result<Order, VaultError> {
    let SlotWrite { unlock, new } = SlotWrite::read(inquiry.body)?;
    let (label, making) = making(new)?;
    Ok(Order::Slot(SlotOrder::Add { unlock: key(unlock)?, label, making }))
}

pub(super) fn change(inquiry: &Inquiry<'_>) -> Result<Order, VaultError> {
    let SlotChange { unlock, new, confirm } = SlotChange::read(inquiry.body)?;
    let unlock = key(unlock)?;
    Ok(Order::Slot(match (new, confirm) {
        (Some(new), false) => SlotOrder::Change { unlock, making: making(new)?.1 },
        (None, true) => SlotOrder::Confirm(unlock),
        _ => return bad("give either \"new\", or \"confirm\": true with the shares of a new set"),
    }))
}

pub(super) fn remove(inquiry: &Inquiry<'_>) -> Result<Order, VaultError> {
    let SlotRemove { slot, unlock } = SlotRemove::read(inquiry.body)?;
    Ok(Order::Slot(SlotOrder::Remove { unlock: key(unlock)?, slot }))
}

pub(super) fn rekey(inquiry: &Inquiry<'_>) -> Result<Order, VaultError> {
    let RekeyBody { keep, drop_absent, compromised, deep, csr } = RekeyBody::read(inquiry.body)?;
    let compromised = match (compromised, csr) {
        (Some(slot), Some(csr)) => {
            // Checked before a key is derived, because the order must not fail half-way because of it.
            crate::pki::read_csr(&csr).map_err(crate::core::certificates::issue::refusal)?;
            Some(Compromised { slot, csr })
        }
        (Some(_), None) => {
            return bad(
                "field \"csr\" is required with \"compromised\": every certificate is revoked, and your new one is issued for this request",
            );
        }
        (None, Some(_)) => return bad("field \"csr\" is only allowed with \"compromised\""),
        (None, None) => None,
    };
    let keep = keep.into_iter().map(key).collect::<Result<Vec<Key>, VaultError>>()?;
    Ok(Order::Slot(SlotOrder::Rekey { keep, drop_absent, compromised, deep }))
}

pub(super) fn rotate(inquiry: &Inquiry<'_>) -> Result<Order, VaultError> {
    let RotateBody { deep, full_speed } = RotateBody::read(inquiry.body)?;
    Ok(Order::Term(TermOrder::Rotate { deep, full_speed }))
}

/// `rotations/<id>/pause`, `resume`, `abort`.
pub(super) fn steer(inquiry: &Inquiry<'_>) -> Result<Order, VaultError> {
    let (id, verb) = inquiry.tail.split_once('/').unwrap_or((&inquiry.tail, ""));
    let id = id.to_owned();
    Ok(Order::Term(match verb {
        "pause" => TermOrder::Pause(id),
        "resume" => {
            let full_speed = inquiry.body.only(&["full_speed"])?.flag("full_speed")?;
            TermOrder::Resume { id, full_speed }
        }
        "abort" => TermOrder::Abort(id),
        _ => return Err(VaultError::NotFound),
    }))
}

/// The slots of the current header.
pub(super) fn slots(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let header = inquiry.live.barrier.header();
    data(&SlotList { slots: header.slots.iter().map(info).collect(), header: header.seq })
}

/// The terms of the keyring.
pub(super) fn terms(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let name = |state| match state {
        TermState::PreActive => "pre-active",
        TermState::Active => "active",
        TermState::DecryptOnly => "decrypt-only",
        TermState::Compromised => "compromised",
        TermState::Destroyed => "destroyed",
    };
    let terms = inquiry.live.barrier.terms().into_iter().map(|term| TermInfo {
        term: term.term,
        state: name(term.state).to_owned(),
        created: rfc3339_nano(term.created_ms),
        live: term.live,
        seals: term.seals,
    });
    data(&TermList { terms: terms.collect() })
}

/// All rotations, oldest first.
pub(super) fn list(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let runs = record::all(&inquiry.view(MountId::ROTATION))?;
    data(&RotationList { rotations: runs.iter().map(shown).collect(), certificates: schedule::rows(inquiry)? })
}

/// One rotation as it is shown.
pub(super) fn one(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    if let Some(row) = schedule::rows(inquiry)?.into_iter().find(|row| row.id == inquiry.tail) {
        return data(&row);
    }
    reply(&record::one(&inquiry.live.barrier.view(MountId::ROTATION), &inquiry.tail)?)
}

/// `GET sys/rotate/config`.
pub(super) fn read_config(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    data(&config(&inquiry.live.barrier.view(MountId::ROTATION))?)
}

/// `POST sys/rotate/config`: absent fields stay unchanged.
pub(super) fn write_config(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let fields = change.body.only(&["enabled", "max_operations", "interval"])?;
    let mut config = config(&tx.view(MountId::ROTATION))?;
    if let Some(enabled) = fields.flag("enabled")? {
        config.enabled = enabled;
    }
    let most = RotateConfig::default().max_operations;
    if let Some(number) = fields.number_in("max_operations", MIN_OPERATIONS, most)? {
        config.max_operations = number;
    }
    if let Some(interval_s) = fields.seconds("interval")? {
        if interval_s != 0 && interval_s < MIN_INTERVAL_S {
            return bad("field \"interval\" must be a duration of at least one hour, or 0 for never");
        }
        config.interval_s = interval_s;
    }
    let bytes = serde_json::to_vec(&config).map_err(|_| VaultError::Internal)?;
    tx.put_entry(MountId::ROTATION, CONFIG, &bytes, 0)?;
    Ok(Done::of(Reply::none()))
}
