//! Tells a caller why its certificate is not accepted.
//!
//! Every caller that gets here has proved the key of its certificate in TLS, so the reason concerns only itself. The
//! decision and its line in the audit log come earlier and do not depend on this.

use crate::api::error::Reason;
use crate::core::Caller;
use crate::core::error::VaultError;
use crate::core::vault::Vault;

/// Replaces the general error of a denied request with one that gives the reason, if the caller is not admitted.
pub(in crate::core) fn explain(vault: &Vault, caller: &Caller, error: VaultError) -> VaultError {
    if !matches!(error, VaultError::Forbidden | VaultError::Preflight(_)) {
        return error;
    }
    let Some(live) = vault.live() else { return error };
    let now_ms = vault.ports.clock.now_ms();
    let Err(why) = live.snapshot.load().admits(&vault.settings, caller, now_ms) else { return error };
    if let Some(left_out) = vault.refusals.speak(now_ms) {
        tracing::warn!(
            identity = caller.identity.uri(),
            remote = caller.remote,
            why,
            left_out,
            "request rejected: the caller's certificate is not accepted; see: strongroom identity show PATH"
        );
    }
    match why {
        "identity-frozen" => VaultError::NotAdmitted(Reason::Frozen),
        "identity-disabled" => VaultError::NotAdmitted(Reason::Disabled),
        "certificate-revoked" | "certificate-older-than-allowed" | "certificate-on-revocation-list" => {
            VaultError::NotAdmitted(Reason::Revoked)
        }
        "authority-not-trusted" => VaultError::NotAdmitted(Reason::AuthorityEnded),
        "certificate-expired" => VaultError::NotAdmitted(Reason::CertificateExpired),
        _ => error,
    }
}
