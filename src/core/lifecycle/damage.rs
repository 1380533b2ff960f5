//! Describes damaged records, and salvages a vault that has some.
//!
//! `barrier::Damage` decides what a salvage removes, and why. This module decides which entries control access, and what a
//! vault gets when only its secrets are kept: a new authority and one operator.

use std::sync::Arc;

use super::init::{InitPorts, grant_first};
use super::losses::{AuditCheck, Examined, LossError};
use crate::api::secret::SecretText;
use crate::api::spiffe::SpiffeId;
use crate::api::sys::{AcceptedLoss, BadRecord};
use crate::barrier::{Damage, Keeps, MountId, Part, Rules, Tx};
use crate::core::error::VaultError;
use crate::core::ports::AuditOpener;
use crate::core::state::bad_records::{self, mount_of, shown};
use crate::crypto::random::Random;
use crate::pki::{AUTHORITY_LIFE_S, Authority};

/// How a salvage treats entries.
const RULES: Rules = Rules { mount_of, carries, gives_rights };

/// Whether an entry is kept even when only secrets can be kept: the mount table, notes of losses, and key rotations.
/// Without the record of a rotation that answered a compromised slot, the next start would have to answer it again.
fn carries(mount: MountId, key: &str) -> bool {
    match mount {
        MountId::MOUNTS | MountId::MISC => true,
        MountId::ROTATION => key.starts_with("run/"),
        _ => false,
    }
}

/// Whether the entries of a mount control access. If one of them is lost, such as a policy that denies or the revocation
/// of a certificate, a caller may gain rights. The loss of any other entry only takes rights away.
fn gives_rights(mount: MountId) -> bool {
    [MountId::POLICIES, MountId::IDENTITIES, MountId::CA, MountId::CERTIFICATES, MountId::CERT_ROLES, MountId::GROUPS]
        .contains(&mount)
}

/// The operator who administers a vault when only its secrets are kept.
pub struct FirstOperator {
    /// The identity; gets the policy `admin`.
    pub identity: SpiffeId,
    /// Validity of its certificates, seconds.
    pub life_s: u64,
    /// Randomness for the new authority.
    pub random: Arc<dyn Random>,
}

/// Like [`super::losses::examine`], for a store with damaged records: opens every record.
///
/// # Errors
/// The errors of [`super::losses::examine`], except errors about damaged records.
pub fn inspect(
    ports: InitPorts,
    text: Option<&SecretText>,
    file: Option<&[u8]>,
    check: AuditCheck<'_>,
) -> Result<Examined, LossError> {
    Examined::read(ports, text, file, check, Some(RULES))
}

impl Examined {
    /// Whether records are damaged, missing or unexpected.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.loss.damage().is_some()
    }

    /// Why the vault cannot be salvaged, so that only a backup helps; `None` if it can.
    #[must_use]
    pub fn refusal(&self) -> Option<LossError> {
        self.loss.damage().and_then(Damage::refusal).map(LossError::Barrier)
    }

    /// Whether the state that is kept may be older than header or anchor say, so that access rights are older too.
    #[must_use]
    pub fn goes_back(&self) -> bool {
        !self.loss.misfits().is_empty()
    }

    /// Whether only secrets can be kept.
    #[must_use]
    pub fn keeps_values_only(&self) -> bool {
        self.loss.damage().is_some_and(|damage| damage.keeps == Keeps::Values)
    }

    /// Number of examined records, including bad ones.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.loss.opened()
    }

    /// Returns the bad records. Their paths are only for the person who opened the vault, and must not be logged.
    #[must_use]
    pub fn bad(&self) -> Vec<BadRecord> {
        let Some(damage) = self.loss.damage() else { return Vec::new() };
        damage.bad.iter().map(|bad| shown(bad, |mount| damage.named.name_of(mount))).collect()
    }

    /// Calls `look` for every record that a salvage removes, with its key and its encrypted bytes as stored. The bytes are
    /// `None` when the store cannot read them.
    ///
    /// # Errors
    /// The first error of `look`.
    pub fn leaving<E>(&self, look: impl FnMut(&[u8], Option<&[u8]>) -> Result<(), E>) -> Result<(), E> {
        self.loss.leaving(look)
    }

    /// Salvages the vault: one commit in a new epoch removes the bad records and adds a note of each. Before the call, the
    /// records from [`Examined::leaving`] must be durable in the file `kept_in`. If the process is killed at any moment, the
    /// vault is damaged as before, or it refuses to open until this is repeated, or the salvage is complete.
    ///
    /// # Errors
    /// [`LossError::NoOperator`] without `first` when only secrets can be kept; any [`LossError`] when writing fails.
    pub fn salvage(
        self,
        kept_in: &str,
        first: Option<&FirstOperator>,
        audit: &AuditOpener,
        now_ms: u64,
    ) -> Result<AcceptedLoss, LossError> {
        let salvaged = self.loss.damage().map_or(0, Damage::removes);
        let salvaged = u64::try_from(salvaged).unwrap_or(u64::MAX);
        let mut lines = self.lines();
        lines.push(format!("removed records: {salvaged} (saved in {kept_in}, still encrypted)"));
        let first = if self.keeps_values_only() { Some(first.ok_or(LossError::NoOperator)?) } else { None };
        let founded = match first {
            Some(first) => Some((first, authority(first, now_ms)?)),
            None => None,
        };
        let parts = bad_records::entries(&self.bad(), self.loss.next_epoch())?;
        let more = |tx: &mut Tx<'_>| -> Result<(), LossError> {
            for (key, part) in &parts {
                tx.put_entry(MountId::MISC, key, part, 0)?;
            }
            if let Some((first, authority)) = &founded {
                grant_first(tx, &first.identity, first.life_s, authority, now_ms)?;
            }
            Ok(())
        };
        self.carry_out((lines, salvaged), more, audit, now_ms)
    }
}

fn authority(first: &FirstOperator, now_ms: u64) -> Result<Authority, LossError> {
    let made = Authority::create(first.identity.trust_domain(), Arc::clone(&first.random), now_ms, AUTHORITY_LIFE_S);
    made.map_err(|error| {
        tracing::error!(%error, "could not create a new authority");
        VaultError::Internal.into()
    })
}

/// Describes the damage by numbers, without names, because everybody may read `status` and the note.
pub(super) fn describe(damage: &Damage, later_epoch: bool) -> Vec<String> {
    // One line with a number for each kind. The texts are permanent: they become part of the note of the loss.
    let count = |wanted: fn(Part) -> bool| damage.bad.iter().filter(|bad| wanted(bad.part)).count();
    let kinds = [
        (count(|part| matches!(part, Part::Version(_))), "version of a secret", "versions of secrets"),
        (count(|part| part == Part::Name), "name with everything below it", "names with everything below them"),
        (count(|part| part == Part::Entry), "entry", "entries"),
        (count(|part| part == Part::Stray), "unreachable or foreign record", "unreachable or foreign records"),
    ];
    let found: Vec<String> = (kinds.into_iter().filter(|(count, ..)| *count > 0))
        .map(|(count, one, many)| format!("{count} {}", if count == 1 { one } else { many }))
        .collect();
    let mut lines = Vec::new();
    if !found.is_empty() {
        lines.push(format!("damaged, missing or unexpected: {}", found.join(", ")));
    }
    // Notes are meant to stay for ever, so losing one is said apart from other entries.
    let notes = damage.bad.iter().filter(|bad| bad.mount == Some(MountId::MISC)).count();
    if notes > 0 {
        lines.push(format!("permanent notes of earlier losses that are damaged and not kept: {notes}"));
    }
    if damage.keeps == Keeps::Values {
        // Every epoch but the first began with a note. Without the proof, one may be missing and leave no trace.
        if notes == 0 && later_epoch {
            lines.push("permanent notes of earlier losses may be missing".to_owned());
        }
        // Which of the two reasons it is decides what an operator must look for: one lost right, or old data everywhere.
        let why = if damage.proved {
            "a record that controls access is lost"
        } else {
            "the records may come from different points in time"
        };
        lines.push(format!(
            "{why}. Only secrets are kept, and some may be outdated or previously deleted. Policies, identities, groups, \
             tokens, certificates, authorities, limits and schedules are not kept"
        ));
    }
    lines
}
