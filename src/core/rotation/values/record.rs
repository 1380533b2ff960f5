//! What is kept of one rotating value: an entry for one key of one secret, with its policy, its labels, and, while a
//! rotation is under way, the candidate. The candidate is durable before anything outside hears of it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::api::secret::SecretText;
use crate::barrier::{MountId, Tx, View};
use crate::connect::Credential;
use crate::crypto::hash::sha256;
use crate::rotate::labels::{Labels, Previous};
use crate::rotate::policy::Policy;

use crate::core::error::VaultError;
use crate::core::state::mount::hex;

/// Folder of the entries.
const FOLDER: &str = "value/";

/// How far the rotation of a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::core) enum Phase {
    /// Nothing is under way.
    Idle,
    /// A command is asked for a value; nothing is stored of it yet, and no target has been touched by it.
    Generating,
    /// A candidate is stored; nothing outside has been touched.
    Staged,
    /// The target may or may not have the candidate.
    Applying,
    /// The target has the candidate.
    Applied,
    /// The candidate has been used for real.
    Verified,
    /// The candidate is current; the value before it is in its grace.
    Promoted,
    /// Back to the value of before.
    RollingBack,
    /// Somebody has to look; `error` says at what.
    NeedsOperator,
}

impl Phase {
    /// The word for people and for the audit log.
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

/// A value that is to become current.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::core) struct Candidate {
    /// Login that it belongs to; empty without one.
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
    /// Layout; 1.
    pub format: u8,
    /// Goes up with every commit: who works on an older one has lost a race.
    pub revision: u64,
    /// Full path of the secret, with its mount.
    pub path: String,
    /// Key within the secret.
    pub key: String,
    pub policy: Policy,
    /// `None` before the first rotation.
    pub labels: Option<Labels>,
    pub phase: Phase,
    pub paused: bool,
    /// Identifier of the rotation under way or of the last one; the idempotency key of effects outside.
    pub run: String,
    pub candidate: Option<Candidate>,
    /// The target refused the candidate.
    pub refused: bool,
    /// Tries of the present step.
    pub attempts: u32,
    /// Candidates of this rotation, with the one that is being made; 0 without a rotation under way.
    pub candidates: u32,
    /// Not tried again before.
    pub not_before_ms: u64,
    /// When the current value became current; 0 before the first rotation.
    pub rotated_ms: u64,
    /// When the schedule asks for the next one.
    pub next_ms: Option<u64>,
    /// Why it does not go on or why the last one failed, with the next thing to try.
    pub error: Option<String>,
    /// Reminders of the expiry date that were given, in days.
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

    /// Spreads schedules: the same for the same key, different for others.
    pub(in crate::core) fn seed(path: &str, key: &str) -> u64 {
        let hash = sha256(&[path.as_bytes(), &[0], key.as_bytes()]);
        hash.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    /// The version before the current one, until its grace is over.
    pub(in crate::core) fn previous(&self) -> Option<Previous> {
        self.labels.as_ref().and_then(Labels::previous)
    }

    /// When the schedule asks for a rotation after one at `last_ms`.
    pub(in crate::core) fn due_after(policy: &Policy, path: &str, key: &str, last_ms: u64) -> Option<u64> {
        policy.schedule.as_ref().and_then(|schedule| schedule.next_after(last_ms, Self::seed(path, key)))
    }

    /// The key of the secret that holds the public half.
    pub(in crate::core) fn public_key(&self) -> String {
        format!("{}_PUBLIC", self.key)
    }

    /// A rotation is under way and has no candidate yet.
    pub(in crate::core) fn awaits_value(&self) -> bool {
        matches!(self.phase, Phase::Generating | Phase::NeedsOperator)
            && self.candidate.is_none()
            && self.candidates > 0
    }

    /// The candidate as connectors take it.
    pub(in crate::core) fn staged(&self) -> Option<Credential> {
        let candidate = self.candidate.as_ref()?;
        Some(Credential { user: candidate.user.clone(), secret: SecretText::from(candidate.value.reveal()) })
    }

    /// Writes the entry.
    ///
    /// # Errors
    /// Those of the barrier.
    pub(in crate::core) fn put(&self, tx: &mut Tx<'_>) -> Result<(), VaultError> {
        let bytes = zeroize::Zeroizing::new(serde_json::to_vec(self).map_err(|_| VaultError::Internal)?);
        Ok(tx.put_entry(MountId::ROTATION, &self.own_key(), &bytes, 0)?)
    }
}

/// One entry.
///
/// # Errors
/// [`VaultError::Integrity`] when it cannot be understood.
pub(in crate::core) fn find(view: &View<'_>, path: &str, key: &str) -> Result<Option<ValueRow>, VaultError> {
    let Some(entry) = view.entry(&ValueRow::entry_key(path, key))? else { return Ok(None) };
    serde_json::from_slice(entry.value.reveal()).map(Some).map_err(|_| VaultError::Integrity)
}

/// All entries, by path and key.
///
/// # Errors
/// [`VaultError::Integrity`] when one cannot be understood.
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

/// The one place where a candidate is written: into the body of a sealed entry.
fn sealed<S: Serializer>(value: &SecretText, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.reveal())
}

fn opened<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretText, D::Error> {
    SecretText::deserialize(deserializer)
}
