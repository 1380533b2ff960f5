//! The record of a key rotation: one entry in the built-in mount of rotations, written in the same commit as the change
//! that it describes. A killed run is continued from its entry and from the state of the records themselves.

use serde::{Deserialize, Serialize};

use crate::api::hex::hex;
use crate::barrier::{MountId, Tx, View};
use crate::crypto::random::Random;

use crate::core::error::VaultError;

/// Folder of the entries.
const RUNS: &str = "run/";
/// Number of ended runs that are kept. The oldest are removed first.
const KEPT: usize = 100;

/// What a run changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::core) enum Kind {
    /// The key that seals records.
    DataKey,
    /// Key slots, with the same root key.
    Slot,
    /// The root key and the integrity set.
    Rekey,
    /// Everything that the holder of a compromised slot may have obtained.
    Compromised,
}

/// Progress of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::core) enum Progress {
    /// Both integrity sets are in the keyring.
    Settling,
    /// Records are re-encrypted with the active term.
    Draining,
    /// Values are re-encrypted with new keys.
    Deepening,
    /// Every record is opened once, to prove that the old term is not needed.
    Proving,
    /// The proof is complete. The old key is still in the keyring.
    Drained,
    /// An operator has to act. `error` says why.
    NeedsOperator,
    /// Ended successfully.
    Done,
    /// Ended by an operator.
    Aborted,
}

impl Progress {
    /// Whether nothing more will happen.
    pub(in crate::core) fn ended(self) -> bool {
        matches!(self, Self::Done | Self::Aborted)
    }
}

/// Proof that a term is not needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::core) struct Proof {
    /// The term.
    pub term: u32,
    /// Generation of the scan.
    pub generation: u64,
    /// Records whose heads were compared.
    pub records: u64,
    /// Records that were opened.
    pub opened: u64,
}

/// One completed step, described for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::core) struct StepNote {
    /// The step.
    pub step: String,
    /// Its result.
    pub result: String,
}

/// One rotation as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::core) struct Run {
    /// Format, 1.
    pub format: u8,
    /// Identifier, which is also the idempotency key of effects outside the vault.
    pub id: String,
    pub kind: Kind,
    /// What is rotated, for people: `term 3`, `slot 1 (olga)`.
    pub target: String,
    pub state: Progress,
    /// Whether it waits for `resume`.
    pub paused: bool,
    /// Whether it runs as fast as possible instead of throttled.
    pub full_speed: bool,
    /// Terms to destroy.
    pub terms: Vec<u32>,
    /// Values sealed before this generation get new keys.
    pub values_before: Option<u64>,
    /// Number of records at the start.
    pub total: u64,
    /// Number of finished records.
    pub done: u64,
    pub started_ms: u64,
    pub updated_ms: u64,
    pub finished_ms: Option<u64>,
    pub error: Option<String>,
    pub proofs: Vec<Proof>,
    pub steps: Vec<StepNote>,
}

impl Run {
    /// Makes a new run.
    ///
    /// # Errors
    /// [`VaultError::Internal`] when the random source fails.
    pub(in crate::core) fn new(
        random: &dyn Random,
        kind: Kind,
        target: String,
        state: Progress,
        now_ms: u64,
    ) -> Result<Self, VaultError> {
        Ok(Self {
            format: 1,
            id: fresh_id(random, now_ms)?,
            kind,
            target,
            state,
            paused: false,
            full_speed: false,
            terms: Vec::new(),
            values_before: None,
            total: 0,
            done: 0,
            started_ms: now_ms,
            updated_ms: now_ms,
            finished_ms: None,
            error: None,
            proofs: Vec::new(),
            steps: Vec::new(),
        })
    }

    /// Moves on to `state`.
    pub(in crate::core) fn advance(&mut self, state: Progress, now_ms: u64) {
        (self.state, self.updated_ms, self.error) = (state, now_ms, None);
        if state.ended() {
            self.finished_ms = Some(now_ms);
        }
    }

    /// Records a step.
    pub(in crate::core) fn note(&mut self, step: impl Into<String>, result: impl Into<String>) {
        self.steps.push(StepNote { step: step.into(), result: result.into() });
    }

    /// Writes the entry. The first entry of a run also removes the oldest ended run.
    ///
    /// # Errors
    /// The errors of the barrier when a record cannot be read or written.
    pub(in crate::core) fn put(&self, tx: &mut Tx<'_>) -> Result<(), VaultError> {
        let bytes = serde_json::to_vec(self).map_err(|_| VaultError::Internal)?;
        let key = format!("{RUNS}{}", self.id);
        let is_new = tx.view(MountId::ROTATION).entry(&key)?.is_none();
        tx.put_entry(MountId::ROTATION, &key, &bytes, 0)?;
        if is_new {
            let ended: Vec<Self> = all(&tx.view(MountId::ROTATION))?;
            let ended: Vec<&Self> = ended.iter().filter(|run| run.state.ended()).collect();
            for run in ended.iter().take(ended.len().saturating_sub(KEPT)) {
                tx.remove_entry(MountId::ROTATION, &format!("{RUNS}{}", run.id))?;
            }
        }
        Ok(())
    }
}

/// Identifier of a rotation. Identifiers sort by time, so lists and pruning need not read the content.
///
/// # Errors
/// [`VaultError::Internal`] when the random source fails.
pub(in crate::core) fn fresh_id(random: &dyn Random, now_ms: u64) -> Result<String, VaultError> {
    let mut id = [0; 8];
    random.fill(&mut id).map_err(|_| VaultError::Internal)?;
    Ok(format!("{now_ms:013}-{}", hex(&id)))
}

/// All runs, oldest first.
///
/// # Errors
/// [`VaultError::Integrity`] when one cannot be parsed.
pub(in crate::core) fn all(view: &View<'_>) -> Result<Vec<Run>, VaultError> {
    let mut runs = Vec::new();
    for key in view.entries()?.iter().filter(|key| key.starts_with(RUNS)) {
        // An entry may disappear between the list and this read.
        if let Some(entry) = view.entry(key)? {
            runs.push(serde_json::from_slice(entry.value.reveal()).map_err(|_| VaultError::Integrity)?);
        }
    }
    Ok(runs)
}

/// One run.
///
/// # Errors
/// [`VaultError::NotFound`] when there is none; [`VaultError::Integrity`] when it cannot be parsed.
pub(in crate::core) fn one(view: &View<'_>, id: &str) -> Result<Run, VaultError> {
    let entry = view.entry(&format!("{RUNS}{id}"))?.ok_or(VaultError::NotFound)?;
    serde_json::from_slice(entry.value.reveal()).map_err(|_| VaultError::Integrity)
}
