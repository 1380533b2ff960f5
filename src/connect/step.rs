//! One step at a target: what it works on, how it ends, and what every kind of target can do.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use thiserror::Error;

use crate::api::secret::SecretText;

/// One login or value.
pub struct Credential {
    /// The login; empty when there is none.
    pub user: String,
    /// The password or value.
    pub secret: SecretText,
}

/// What a step works on.
pub struct Step<'a> {
    /// The idempotency key: the id of the rotation, the same in every repetition.
    pub id: &'a str,
    /// Path of the secret.
    pub path: &'a str,
    /// Key within the secret.
    pub key: &'a str,
    /// The new credential, not yet handed to readers.
    pub staged: Option<&'a Credential>,
    /// The credential that readers get.
    pub current: Option<&'a Credential>,
    /// The one before it, perhaps still in its grace.
    pub previous: Option<&'a Credential>,
}

/// What a probe found working. The candidates are tried in this order; the first that works is the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live {
    /// The staged credential: the change has arrived.
    Staged,
    /// The current credential: the change has not arrived.
    Current,
    /// The previous credential: the target was set back, such as by restoring an old snapshot.
    Previous,
    /// None of them.
    Nothing,
}

/// Why a step failed. No text holds a value; each ends with the next thing to try.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// The target is down, busy or too slow. Whether the step took effect is unknown: probe, then repeat.
    #[error("{0}")]
    Retry(String),
    /// The target refused, or the configuration is wrong: repeating the same changes nothing.
    #[error("{0}")]
    Permanent(String),
}

/// One kind of target. Every method blocks, up to the time limits of the target.
pub trait Connector: Send + Sync {
    /// The name of the kind in configuration and audit: `postgres`, `hook`.
    fn kind(&self) -> &'static str;

    /// Whether the old value stays valid after [`Self::apply`], so that no reader ever holds a dead one.
    fn overlap(&self) -> bool;

    /// Calls end soon after `stop` is set, as if the target had not answered; what they started outside is ended. `false`
    /// where calls end only by their own time limits.
    fn stop_with(&mut self, _stop: &Arc<AtomicBool>) -> bool {
        false
    }

    /// The login that the next credential is for: the other of a pair, the same of a single one, empty for hooks.
    ///
    /// # Errors
    /// [`ConnectError::Permanent`] when the target is misconfigured so that no login can be named.
    fn next_user(&self, current: Option<&str>) -> Result<String, ConnectError>;

    /// Makes a new value, without telling anybody of it. `step` holds no credential. May be repeated: each value that was
    /// not stored is thrown away.
    ///
    /// # Errors
    /// [`ConnectError`]; `Permanent` where the target makes no values.
    fn generate(&self, _step: &Step<'_>) -> Result<SecretText, ConnectError> {
        Err(permanent(format!("a target of type {} makes no values; name a hook with a generate command", self.kind())))
    }

    /// Makes the staged credential valid. May be repeated.
    ///
    /// # Errors
    /// [`ConnectError`]; after `Retry` the effect is unknown until [`Self::probe`] has told.
    fn apply(&self, step: &Step<'_>) -> Result<(), ConnectError>;

    /// Uses the staged credential for real.
    ///
    /// # Errors
    /// [`ConnectError::Permanent`] when the target refuses it, [`ConnectError::Retry`] when the target does not answer.
    fn verify(&self, step: &Step<'_>) -> Result<(), ConnectError>;

    /// Finds out which credential works, changing nothing.
    ///
    /// # Errors
    /// [`ConnectError`] when the target did not decide; never a guess.
    fn probe(&self, step: &Step<'_>) -> Result<Live, ConnectError>;

    /// Goes back: afterwards the current credential works. May be repeated, and called when nothing was applied.
    ///
    /// # Errors
    /// [`ConnectError`] when the current credential could not be shown to work.
    fn revert(&self, step: &Step<'_>) -> Result<(), ConnectError>;

    /// Ends the validity of the previous credential, once its grace is over. May be repeated. Returns what it left valid,
    /// for people; `None` when nothing is to be said.
    ///
    /// # Errors
    /// [`ConnectError`]; the previous credential may then still be valid.
    fn revoke_old(&self, step: &Step<'_>) -> Result<Option<String>, ConnectError>;
}

/// Shorthand for [`ConnectError::Retry`].
pub(super) fn retry(text: impl Into<String>) -> ConnectError {
    ConnectError::Retry(text.into())
}

/// Shorthand for [`ConnectError::Permanent`].
pub(super) fn permanent(text: impl Into<String>) -> ConnectError {
    ConnectError::Permanent(text.into())
}
