//! Tells the operator's log about requests of callers whose certificate is not admitted. The decision and its line in
//! the audit log do not depend on this.

use crate::core::Caller;
use crate::core::state::barred::Barred;
use crate::core::vault::Vault;

/// Warns, at most once a second.
pub(super) fn warn(vault: &Vault, caller: &Caller, why: Barred, now_ms: u64) {
    if let Some(left_out) = vault.refusals.speak(now_ms) {
        tracing::warn!(
            identity = caller.identity.uri(),
            remote = caller.remote,
            why = why.word(),
            left_out,
            "request rejected: the caller's certificate is not accepted; see: strongroom identity show PATH"
        );
    }
}
