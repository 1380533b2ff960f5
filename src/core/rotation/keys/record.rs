//! What is kept of a rotation: one entry in the built-in mount of rotations, written in the same commit as the change
//! that it speaks of. A run that is killed is continued from its entry and from what the records themselves say.

use serde::{Deserialize, Serialize};

use crate::barrier::{MountId, Tx, View};
use crate::crypto::random::Random;

use crate::core::error::VaultError;
use crate::core::state::mount::hex;

/// Folder of the entries.
const RUNS: &str = "run/";
/// Ended runs that are kept; the oldest go first.
const KEPT: usize = 100;

/// What changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::core) enum Kind {
    /// The key that seals records.
    DataKey,
    /// Key slots, with the same root key.
    Slot,
    /// The root key and the integrity set.
    Rekey,
    /// Everything that somebody with an old slot may have had.
    Compromised,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::core) enum Progress {
    /// Both integrity sets are in the keyring.
    Settling,
    /// Records are sealed anew under the active term.
    Draining,
    /// Values are sealed anew under new keys.
    Deepening,
    /// Every record is opened once, to prove that the old term is not needed.
    Proving,
    /// Proved; the old key is still in the keyring.
    Drained,
    /// Somebody has to look: `error` says at what.
    NeedsOperator,
    /// Ended well.
    Done,
    /// Ended by an operator.
    Aborted,
}

impl Progress {
    /// Nothing will happen any more.
    pub(in crate::core) fn ended(self) -> bool {
        matches!(self, Self::Done | Self::Aborted)
    }
}

/// What proved that a term is not needed.
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

/// One step that was taken, in words for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::core) struct StepNote {
    /// What.
    pub step: String,
    /// With which result.
    pub result: String,
}

/// One rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::core) struct Run {
    /// Layout; 1.
    pub format: u8,
    /// Identifier, also the idempotency key of effects outside.
    pub id: String,
    pub kind: Kind,
    /// What is rotated, for people: `term 3`, `slot 1 (olga)`.
    pub target: String,
    pub state: Progress,
    /// Waits for `resume`.
    pub paused: bool,
    /// As fast as possible, not throttled.
    pub full_speed: bool,
    /// Terms to be destroyed.
    pub terms: Vec<u32>,
    /// Values sealed before this generation get new keys.
    pub values_before: Option<u64>,
    /// Records found at the start.
    pub total: u64,
    /// Records done.
    pub done: u64,
    pub started_ms: u64,
    pub updated_ms: u64,
    pub finished_ms: Option<u64>,
    pub error: Option<String>,
    pub proofs: Vec<Proof>,
    pub steps: Vec<StepNote>,
}

impl Run {
    /// A run that starts.
    ///
    /// # Errors
    /// [`VaultError::Internal`] without randomness.
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

    /// Goes over to `state`.
    pub(in crate::core) fn advance(&mut self, state: Progress, now_ms: u64) {
        (self.state, self.updated_ms, self.error) = (state, now_ms, None);
        if state.ended() {
            self.finished_ms = Some(now_ms);
        }
    }

    /// Notes a step.
    pub(in crate::core) fn note(&mut self, step: impl Into<String>, result: impl Into<String>) {
        self.steps.push(StepNote { step: step.into(), result: result.into() });
    }

    /// Writes the entry; with the first one of a run, removes the oldest that ended.
    ///
    /// # Errors
    /// Those of the barrier.
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

/// Identifier of a rotation. Ascending by time, so that listings and pruning need no sorting by content.
///
/// # Errors
/// [`VaultError::Internal`] without randomness.
pub(in crate::core) fn fresh_id(random: &dyn Random, now_ms: u64) -> Result<String, VaultError> {
    let mut id = [0; 8];
    random.fill(&mut id).map_err(|_| VaultError::Internal)?;
    Ok(format!("{now_ms:013}-{}", hex(&id)))
}

/// All runs, oldest first.
///
/// # Errors
/// [`VaultError::Integrity`] when one cannot be understood.
pub(in crate::core) fn all(view: &View<'_>) -> Result<Vec<Run>, VaultError> {
    let mut runs = Vec::new();
    for key in view.entries()?.iter().filter(|key| key.starts_with(RUNS)) {
        // An entry can go away between the listing and now.
        if let Some(entry) = view.entry(key)? {
            runs.push(serde_json::from_slice(entry.value.reveal()).map_err(|_| VaultError::Integrity)?);
        }
    }
    Ok(runs)
}

/// One run.
///
/// # Errors
/// [`VaultError::NotFound`]; [`VaultError::Integrity`].
pub(in crate::core) fn one(view: &View<'_>, id: &str) -> Result<Run, VaultError> {
    let entry = view.entry(&format!("{RUNS}{id}"))?.ok_or(VaultError::NotFound)?;
    serde_json::from_slice(entry.value.reveal()).map_err(|_| VaultError::Integrity)
}
