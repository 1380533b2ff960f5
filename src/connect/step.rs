//! One step at a target: its input, its results, and the operations of every kind of target.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use thiserror::Error;

use crate::api::secret::SecretText;

/// A login with its password, or a value.
pub struct Credential {
    /// The login; empty if there is none.
    pub user: String,
    /// The password or value.
    pub secret: SecretText,
}

/// Input of a step.
pub struct Step<'a> {
    /// The idempotency key: the id of the rotation, which is the same in every repetition.
    pub id: &'a str,
    /// Path of the secret.
    pub path: &'a str,
    /// Key in the secret.
    pub key: &'a str,
    /// The new credential, which readers do not get yet.
    pub staged: Option<&'a Credential>,
    /// The credential that readers get.
    pub current: Option<&'a Credential>,
    /// The credential before that, perhaps still in its grace period.
    pub previous: Option<&'a Credential>,
}

/// The result of a probe. The candidates are tried in this order, and the first one that works is returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Live {
    /// The staged credential works: the change took effect.
    Staged,
    /// The current credential works: the change did not take effect.
    Current,
    /// The previous credential works: the target was set back, for example by restoring an old snapshot.
    Previous,
    /// None of them works.
    Nothing,
}

/// Why a step failed. No text contains a value; each ends with the next thing to try.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// The target is down, busy or too slow. It is unknown whether the step took effect: probe, then repeat.
    #[error("{0}")]
    Retry(String),
    /// The target rejected the step, or the configuration is wrong. Repeating it does not help.
    #[error("{0}")]
    Permanent(String),
}

/// One kind of target. Every method blocks, but not longer than the time limits of the target.
pub trait Connector: Send + Sync {
    /// The name of the kind in the configuration and the audit log: `postgres`, `hook`.
    fn kind(&self) -> &'static str;

    /// Whether the old value stays valid after [`Self::apply`], so that no reader ever holds an invalid one.
    fn overlap(&self) -> bool;

    /// Makes calls end soon after `stop` is set, as if the target had not answered. Whatever they started outside is
    /// ended. Returns `false` if calls end only by their own time limits.
    fn stop_with(&mut self, _stop: &Arc<AtomicBool>) -> bool {
        false
    }

    /// Returns the login of the next credential: the other one of a pair, the same one of a single role, empty for
    /// hooks.
    ///
    /// # Errors
    /// [`ConnectError::Permanent`] when the target is misconfigured, so that there is no such login.
    fn next_user(&self, current: Option<&str>) -> Result<String, ConnectError>;

    /// Generates a new value without telling anybody. `step` holds no credential. May be repeated: each value that was
    /// not stored is dropped.
    ///
    /// # Errors
    /// [`ConnectError`]; `Permanent` if the target does not generate values.
    fn generate(&self, _step: &Step<'_>) -> Result<SecretText, ConnectError> {
        Err(permanent(format!(
            "a target of type {} does not generate values; use a hook with a generate command",
            self.kind()
        )))
    }

    /// Makes the staged credential valid. May be repeated.
    ///
    /// # Errors
    /// [`ConnectError`] when the credential was not shown to be valid. After `Retry` it is unknown whether the step
    /// took effect, until [`Self::probe`] finds out.
    fn apply(&self, step: &Step<'_>) -> Result<(), ConnectError>;

    /// Checks the staged credential by using it.
    ///
    /// # Errors
    /// [`ConnectError::Permanent`] when the target rejects it, [`ConnectError::Retry`] when the target does not answer.
    fn verify(&self, step: &Step<'_>) -> Result<(), ConnectError>;

    /// Finds out which credential works. Changes nothing.
    ///
    /// # Errors
    /// [`ConnectError`] when the target gave no clear answer. Never guesses.
    fn probe(&self, step: &Step<'_>) -> Result<Live, ConnectError>;

    /// Goes back, so that the current credential works. May be repeated, and may be called when nothing was applied.
    ///
    /// # Errors
    /// [`ConnectError`] when it could not be shown that the current credential works.
    fn revert(&self, step: &Step<'_>) -> Result<(), ConnectError>;

    /// Invalidates the previous credential after its grace period. May be repeated. Returns what it left valid, as a
    /// text for people, or `None` if there is nothing to report.
    ///
    /// # Errors
    /// [`ConnectError`] when the target rejects the step or does not answer. The previous credential may then still be
    /// valid.
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
