//! Losses that an operator accepts: finds out what is lost, begins the next epoch, and keeps a permanent record.
//!
//! The record is part of the commit that begins the epoch. The alarm in the audit log follows. If the process is killed in
//! between, the next unseal writes the alarm, because the state then still ends at the audit entry named in the record.

use crate::api::secret::SecretText;
use crate::api::sys::AcceptedLoss;
use crate::api::time::rfc3339_nano;
use crate::audit::{AuditError, AuditHead, AuditKeys, Broker, Note, SALVAGED};
use crate::barrier::{Barrier, BarrierError, Loss, Misfit, MountId, Parts, Rules, Tx, View};
use crate::crypto::recovery::{self, RecoveryCode};
use crate::crypto::secret::SecretBytes;
use crate::keys::share::{self, Share};

use super::damage;
use super::init::InitPorts;
use super::unseal::open_audit;
use crate::core::error::VaultError;
use crate::core::ports::{AuditOpener, Settings};
use crate::core::request::normalised;
use crate::core::rotation::orders::Secret;

/// Key prefix of the records.
const PREFIX: &str = "loss/";
/// Code of the alarm in the audit log; [`SALVAGED`] if records were removed.
const ACCEPTED: &str = "loss-accepted";

/// Why a loss was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LossError {
    /// The typed text is not a passphrase, recovery code or share.
    #[error("{0}")]
    Secret(String),
    /// Header, state or records do not allow it.
    #[error(transparent)]
    Barrier(#[from] BarrierError),
    /// The audit log cannot be read or written.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Only secrets can be kept, and no operator was named to administer the vault.
    #[error("access rights cannot be kept: name the first operator")]
    NoOperator,
    /// Another error. The epoch may have begun already.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// Checks that the audit log contains the entry that the state vouches for. Changes nothing.
pub type AuditCheck<'a> = &'a dyn Fn(&AuditKeys, AuditHead) -> Result<(), AuditError>;

/// A vault that was examined for losses. Nothing has been written.
pub struct Examined {
    pub(super) loss: Loss,
    audit: Option<AuditError>,
    /// The operator declared that the whole vault is an older copy.
    restored: bool,
}

/// Reads the whole vault with a secret that unseals it: `text` is a passphrase, a recovery code, or all shares separated by
/// spaces.
///
/// # Errors
/// [`LossError::Secret`] when the text is not a secret; [`LossError::Barrier`] for a wrong secret and for a store with
/// damaged or missing records; [`LossError::Audit`] for a log that cannot be read because permissions or a mount are
/// missing.
pub fn examine(
    ports: InitPorts,
    text: Option<&SecretText>,
    file: Option<&[u8]>,
    check: AuditCheck<'_>,
) -> Result<Examined, LossError> {
    Examined::read(ports, text, file, check, None)
}

impl Examined {
    /// Like [`examine`]. With `rules`, it opens every record and notes damaged ones.
    pub(super) fn read(
        ports: InitPorts,
        text: Option<&SecretText>,
        file: Option<&[u8]>,
        check: AuditCheck<'_>,
        rules: Option<Rules>,
    ) -> Result<Self, LossError> {
        let secret = secret(text, file)?;
        let InitPorts { store, header, anchor, random } = ports;
        let parts = Parts { store, header, anchor, random };
        let loss = match rules {
            Some(rules) => Loss::inspect(parts, &secret.unlock(), rules)?,
            None => Loss::examine(parts, &secret.unlock())?,
        };
        let mut keys = AuditKeys::none();
        for key in loss.audit_keys() {
            keys.add(key.id, &key.mac);
        }
        let head = loss.audit_head();
        let audit = match check(&keys, AuditHead { seq: head.seq, hash: head.hash }) {
            Ok(()) => None,
            Err(lost) if lost.is_loss() => Some(lost),
            Err(error) => return Err(error.into()),
        };
        Ok(Self { loss, audit, restored: false })
    }

    /// Records that the operator restored the whole vault from an older copy. The files do not show this; only clients can
    /// tell.
    pub fn declare_restored(&mut self) {
        self.restored = true;
    }

    /// Describes what is lost or does not match, one line each. Empty when nothing is lost.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.loss.misfits().iter().map(describe).collect();
        lines.extend(self.audit.iter().map(describe_audit));
        if self.restored {
            lines.push(
                "the operator declared that the whole vault was restored from an older copy; later writes are missing"
                    .to_owned(),
            );
        }
        // Every epoch except the first began with a note.
        let later_epoch = self.loss.stored().0 > 1;
        lines.extend(self.loss.damage().into_iter().flat_map(|found| damage::describe(found, later_epoch)));
        lines
    }

    /// Describes the state that is kept.
    #[must_use]
    pub fn kept(&self) -> Kept {
        let (epoch, generation) = self.loss.stored();
        Kept {
            last_write: rfc3339_nano(self.loss.last_ms()),
            epoch,
            generation,
            records: self.loss.records(),
            next_epoch: self.loss.next_epoch(),
        }
    }

    /// Accepts the loss: begins the next epoch with the record, writes the anchor, then opens the audit log through
    /// `audit`, which must accept a lost log ([`crate::audit::FileDevice::opener_after_loss`] for a file). If the process is
    /// killed at any moment, the vault either refuses to open and this can be repeated, or it opens in the new epoch with
    /// its record.
    ///
    /// # Errors
    /// Any [`LossError`] when writing fails.
    pub fn accept(self, audit: &AuditOpener, now_ms: u64) -> Result<AcceptedLoss, LossError> {
        let lines = self.lines();
        self.carry_out((lines, 0), |_| Ok(()), audit, now_ms)
    }

    /// Begins the next epoch, with a record of the `accepted` lines and with what `more` writes.
    pub(super) fn carry_out(
        self,
        (accepted, salvaged): (Vec<String>, u64),
        more: impl FnOnce(&mut Tx<'_>) -> Result<(), LossError>,
        audit: &AuditOpener,
        now_ms: u64,
    ) -> Result<AcceptedLoss, LossError> {
        let (_, generation) = self.loss.stored();
        let record = AcceptedLoss {
            time: rfc3339_nano(now_ms),
            accepted,
            slot: self.loss.slot().to_owned(),
            epoch: self.loss.next_epoch(),
            generation,
            audit_seq: self.loss.audit_head().seq,
            salvaged,
        };
        let bytes = serde_json::to_vec(&record).map_err(|_| VaultError::Internal)?;
        let key = format!("{PREFIX}{:010}", record.epoch);
        let note = |tx: &mut Tx<'_>| -> Result<(), LossError> {
            tx.put_entry(MountId::MISC, &key, &bytes, 0)?;
            more(tx)
        };
        let barrier = self.loss.accept(note, now_ms)?;
        let opened = open_audit(audit, &Settings::new(""), &barrier, now_ms);
        // What the log says about damage stays in it, in the first line of a new file as well; the next unseal reads it.
        let (broker, _) = opened.map_err(|lost| LossError::Vault(lost.error))?;
        remind(std::slice::from_ref(&record), &barrier, &broker, now_ms)?;
        Ok(record)
    }
}

/// The state that is kept when a loss is accepted.
#[derive(Debug, serde::Serialize)]
pub struct Kept {
    /// Time of its last commit, RFC 3339.
    pub last_write: String,
    /// Its epoch.
    pub epoch: u32,
    /// Its generation.
    pub generation: u64,
    /// Number of stored records.
    pub records: u64,
    /// Number of the epoch that would begin.
    pub next_epoch: u32,
}

/// Returns all accepted losses, oldest first.
pub(super) fn load(view: &View<'_>) -> Result<Vec<AcceptedLoss>, VaultError> {
    let mut losses = Vec::new();
    view.each_entry(|key, entry| {
        if key.starts_with(PREFIX) {
            let record: AcceptedLoss =
                serde_json::from_slice(entry.value.reveal()).map_err(|_| VaultError::Integrity)?;
            losses.push(record);
        }
        Ok::<(), VaultError>(())
    })?;
    losses.sort_by_key(|loss| loss.epoch);
    Ok(losses)
}

/// Writes the alarm of the newest loss, unless the durable state already contains it. Returns whether it was a salvage,
/// which settles what was known about damage.
pub(super) fn remind(
    losses: &[AcceptedLoss],
    barrier: &Barrier,
    audit: &Broker,
    now_ms: u64,
) -> Result<bool, VaultError> {
    let Some(newest) = losses.last() else { return Ok(false) };
    if newest.epoch != barrier.mark().0 || newest.audit_seq != barrier.audit_head().seq {
        return Ok(false);
    }
    let code = if newest.salvaged > 0 { SALVAGED } else { ACCEPTED };
    let written = audit.note(now_ms, &Note::Alarm { code, request: None }).and_then(|()| audit.checkpoint(now_ms));
    written.map_err(|_| VaultError::AuditUnavailable)?;
    let head = audit.head();
    barrier.roll_to(crate::barrier::AuditHead { seq: head.seq, hash: head.hash }, now_ms)?;
    Ok(newest.salvaged > 0)
}

fn secret(text: Option<&SecretText>, file: Option<&[u8]>) -> Result<Secret, LossError> {
    let wrong = |error: &dyn std::fmt::Display| LossError::Secret(error.to_string());
    let file = file.map(|bytes| SecretBytes::from_vec(bytes.to_vec()));
    let Some(text) = text else {
        return file
            .map(Secret::KeyFile)
            .ok_or_else(|| LossError::Secret("no passphrase, recovery code, share or key file was given".into()));
    };
    let starts = |prefix: &str| {
        let start = text.reveal().trim_start().get(..prefix.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    if starts(share::PREFIX) {
        let shares: Result<Vec<Share>, _> = text.reveal().split_whitespace().map(Share::parse).collect();
        return shares.map(Secret::Shares).map_err(|error| wrong(&error));
    }
    if starts(recovery::PREFIX) {
        return RecoveryCode::parse(text.reveal()).map(Secret::Recovery).map_err(|error| wrong(&error));
    }
    let passphrase = normalised(text)?;
    Ok(match file {
        Some(file) => Secret::Both { passphrase, file },
        None => Secret::Passphrase(passphrase),
    })
}

fn describe(misfit: &Misfit) -> String {
    match misfit {
        Misfit::AnchorMissing => {
            "the anchor is gone: this may not be the newest state, so later writes may be missing".to_owned()
        }
        Misfit::AnchorDamaged => {
            "the anchor is damaged or belongs to another vault: this may not be the newest state, so later writes may be missing"
                .to_owned()
        }
        Misfit::AnchorUnreadable => {
            "the anchor cannot be read: this may not be the newest state, so later writes may be missing"
                .to_owned()
        }
        Misfit::AnchorEmptied => "a part of the anchor was emptied: the newest writes may be missing".to_owned(),
        Misfit::AnchorOther => {
            "the anchor belongs to a different history of this vault; the writes of that history are missing".to_owned()
        }
        Misfit::OlderThanAnchor { generations: 0 } => "the store is older than the last accepted loss".to_owned(),
        Misfit::OlderThanAnchor { generations } => {
            format!("the store is older than its anchor: {generations} acknowledged generations of writes are missing")
        }
        Misfit::OlderThanHeader => {
            "the store is older than the header: writes from before the last change of a key slot or term are missing"
                .to_owned()
        }
        Misfit::Unfinished => {
            "the header has begun an epoch that the store does not have: accepting a loss was interrupted, or the store and \
             the anchor were restored from an older copy and later writes are missing"
                .to_owned()
        }
    }
}

fn describe_audit(error: &AuditError) -> String {
    match error {
        AuditError::Cut { expected, found: 0 } => {
            format!("the audit log is gone: entries 1 to {expected} and possibly later ones are missing")
        }
        AuditError::Cut { expected, found } => {
            format!(
                "the audit log was cut: entries {} to {expected} and possibly later ones are missing",
                found.saturating_add(1)
            )
        }
        AuditError::Damaged { line, expected, found } => format!(
            "the audit log is damaged at line {line}: entries {} to {expected} and possibly later ones cannot be verified",
            found.saturating_add(1)
        ),
        AuditError::Replaced { seq } => {
            format!("the audit log was replaced: entry {seq} is not the one that was written")
        }
        AuditError::UnknownKey(key) => {
            format!(
                "the audit log uses key {key}, which this vault does not have: the log is newer or of another vault"
            )
        }
        AuditError::File { kind, .. } => format!("the audit log cannot be read ({kind})"),
        other => other.to_string(),
    }
}
