//! Approving or rejecting a request that waits.

use crate::api::hex::hex;
use crate::barrier::{MountId, Tx};

use super::record::{self, Pending, Voice};
use crate::core::error::VaultError;
use crate::core::pipeline::route::Change;
use crate::core::state::guarded::ApprovalRules;
use crate::core::state::identity;

/// Records the caller's approval or rejection of the request `id`. `verb` is `approve` or `reject`.
///
/// # Errors
/// [`VaultError::NotFound`] for a request or a verb that is unknown; [`VaultError::Forbidden`] for a caller who may not
/// decide; [`VaultError::BadRequest`] without rules, for a request that has ended, and for an approval of one's own
/// request; the errors of the barrier.
pub(in crate::core) fn give(tx: &mut Tx<'_>, change: &Change<'_>, id: &str, verb: &str) -> Result<(), VaultError> {
    let rules = change.settings.approvals.as_deref().ok_or_else(|| bad("approvals are not configured"))?;
    let mut record = record::read(&tx.view(MountId::APPROVALS), id)?.ok_or(VaultError::NotFound)?;
    may_decide(tx, change, rules, &record, verb)?;
    if !record.is_open(change.now_ms) {
        return Err(bad("the request was already rejected or used, or has expired"));
    }
    let caller = change.caller.identity.path();
    let voice =
        Voice { identity: caller.to_owned(), certificate: hex(&change.caller.fingerprint), at_ms: change.now_ms };
    match verb {
        "approve" if record.asker == caller => {
            return Err(bad("this is your own request: another operator must approve it"));
        }
        // An approver may repeat this with another certificate after the first was revoked. It counts only once.
        "approve" => {
            record.approvals.retain(|voice| voice.identity != caller);
            record.approvals.push(voice);
        }
        "reject" => record.rejected = Some(voice),
        _ => return Err(VaultError::NotFound),
    }
    record::put(tx, id, &record)
}

/// Approvers decide, and the requester may withdraw the request.
fn may_decide(
    tx: &Tx<'_>,
    change: &Change<'_>,
    rules: &ApprovalRules,
    record: &Pending,
    verb: &str,
) -> Result<(), VaultError> {
    let caller = change.caller.identity.path();
    // A caller without a record has a certificate of an outside PKI, whose policies come from a role.
    let registered = identity::read(&tx.view(identity::IDENTITIES), caller)?.is_some_and(|it| it.disabled.is_none());
    let withdraws = record.asker == caller && verb == "reject";
    if registered && (rules.names(&change.caller.identity) || withdraws) { Ok(()) } else { Err(VaultError::Forbidden) }
}

fn bad(text: &str) -> VaultError {
    VaultError::BadRequest(text.to_owned())
}
