//! The record of one rotating value: an entry for one key of one secret, with its policy, its labels and, during a
//! rotation, the candidate. The candidate is durable before anything outside gets it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::api::hex::hex;
use crate::api::secret::SecretText;
use crate::barrier::{MountId, Tx, View};
use crate::connect::Credential;
use crate::crypto::hash::sha256;
use crate::rotate::labels::{Labels, Previous};
use crate::rotate::policy::Policy;

use crate::core::error::VaultError;

/// Folder of the entries.
const FOLDER: &str = "value/";

/// Progress of the rotation of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::core) enum Phase {
    /// No rotation is running.
    Idle,
    /// A command is asked for a value. Nothing is stored yet, and no target was changed.
    Generating,
    /// A candidate is stored. Nothing outside was changed.
    Staged,
    /// The target may or may not have the candidate.
    Applying,
    /// The target has the candidate.
    Applied,
    /// The candidate was tested by using it.
    Verified,
    /// The candidate is current. The previous value is in its grace period.
    Promoted,
    /// Going back to the previous value.
    RollingBack,
    /// An operator has to act. `error` says why.
    NeedsOperator,
}

impl Phase {
    /// The name for people and for the audit log.
    pub(in crate::core) fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Generating => "generating",
            Self::Staged => "staged",
            Self::Applying => "applying",
            Self::Applied => "applied",
            Self::Verified => "verified",
            Self::Promoted => "promoted",
            Self::RollingBack => "rolling-back",
            Self::NeedsOperator => "needs-operator",
        }
    }
}

/// A value that is about to become current.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::core) struct Candidate {
    /// The login that it belongs to; empty if there is none.
    pub user: String,
    #[serde(serialize_with = "sealed", deserialize_with = "opened")]
    pub value: SecretText,
    /// Public half of a key pair, or a certificate.
    pub public: Option<String>,
}

/// One rotating key of one secret.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::core) struct ValueRow {
    /// Format, 1.
    pub format: u8,
    /// Incremented by every commit. Work on an older revision has lost a race.
    pub revision: u64,
    /// Full path of the secret with its mount.
    pub path: String,
    /// Key in the secret.
    pub key: String,
    pub policy: Policy,
    /// `None` before the first rotation.
    pub labels: Option<Labels>,
    pub phase: Phase,
    pub paused: bool,
    /// Identifier of the running rotation, or of the last one. Also the idempotency key of effects outside.
    pub run: String,
    pub candidate: Option<Candidate>,
    /// Whether the target rejected the candidate.
    pub refused: bool,
    /// Number of attempts of the current step.
    pub attempts: u32,
    /// Number of candidates in this rotation, including the one being made; 0 without a running rotation.
    pub candidates: u32,
    /// Time before which nothing is tried, in Unix milliseconds.
    pub not_before_ms: u64,
    /// When the current value became current; 0 before the first rotation.
    pub rotated_ms: u64,
    /// When the schedule requires the next rotation.
    pub next_ms: Option<u64>,
    /// Why it does not continue or why the last rotation failed, with the next thing to try.
    pub error: Option<String>,
    /// Reminders of the expiry that were given, in days.
    pub reminded: Vec<u32>,
}

impl ValueRow {
    /// Entry key of one key of one secret.
    pub(in crate::core) fn entry_key(path: &str, key: &str) -> String {
        format!("{FOLDER}{}", hex(&sha256(&[path.as_bytes(), &[0], key.as_bytes()])))
    }

    /// Its own entry key.
    pub(in crate::core) fn own_key(&self) -> String {
        Self::entry_key(&self.path, &self.key)
    }

    /// Seed that spreads schedules: always the same for one key, different for other keys.
    pub(in crate::core) fn seed(path: &str, key: &str) -> u64 {
        let hash = sha256(&[path.as_bytes(), &[0], key.as_bytes()]);
        hash.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    /// The version before the current one, until its grace period ends.
    pub(in crate::core) fn previous(&self) -> Option<Previous> {
        self.labels.as_ref().and_then(Labels::previous)
    }

    /// When the schedule requires a rotation after one at `last_ms`.
    pub(in crate::core) fn due_after(policy: &Policy, path: &str, key: &str, last_ms: u64) -> Option<u64> {
        policy.schedule.as_ref().and_then(|schedule| schedule.next_after(last_ms, Self::seed(path, key)))
    }

    /// The key of the secret that holds the public half.
    pub(in crate::core) fn public_key(&self) -> String {
        format!("{}_PUBLIC", self.key)
    }

    /// Whether a rotation is running that has no candidate yet.
    pub(in crate::core) fn awaits_value(&self) -> bool {
        matches!(self.phase, Phase::Generating | Phase::NeedsOperator)
            && self.candidate.is_none()
            && self.candidates > 0
    }

    /// The candidate in the form for connectors.
    pub(in crate::core) fn staged(&self) -> Option<Credential> {
        let candidate = self.candidate.as_ref()?;
        Some(Credential { user: candidate.user.clone(), secret: SecretText::from(candidate.value.reveal()) })
    }

    /// Writes the entry.
    ///
    /// # Errors
    /// The errors of the barrier when a record cannot be read or written.
    pub(in crate::core) fn put(&self, tx: &mut Tx<'_>) -> Result<(), VaultError> {
        let bytes = zeroize::Zeroizing::new(serde_json::to_vec(self).map_err(|_| VaultError::Internal)?);
        Ok(tx.put_entry(MountId::ROTATION, &self.own_key(), &bytes, 0)?)
    }
}

/// One entry.
///
/// # Errors
/// [`VaultError::Integrity`] when it cannot be parsed.
pub(in crate::core) fn find(view: &View<'_>, path: &str, key: &str) -> Result<Option<ValueRow>, VaultError> {
    let Some(entry) = view.entry(&ValueRow::entry_key(path, key))? else { return Ok(None) };
    serde_json::from_slice(entry.value.reveal()).map(Some).map_err(|_| VaultError::Integrity)
}

/// All entries, sorted by path and key.
///
/// # Errors
/// [`VaultError::Integrity`] when one cannot be parsed.
pub(in crate::core) fn all(view: &View<'_>) -> Result<Vec<ValueRow>, VaultError> {
    let mut rows: Vec<ValueRow> = Vec::new();
    for key in view.entries()?.iter().filter(|key| key.starts_with(FOLDER)) {
        if let Some(entry) = view.entry(key)? {
            rows.push(serde_json::from_slice(entry.value.reveal()).map_err(|_| VaultError::Integrity)?);
        }
    }
    rows.sort_by(|a, b| (&a.path, &a.key).cmp(&(&b.path, &b.key)));
    Ok(rows)
}

/// The only place where a candidate is written: into the body of a sealed entry.
fn sealed<S: Serializer>(value: &SecretText, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.reveal())
}

fn opened<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretText, D::Error> {
    SecretText::deserialize(deserializer)
}
