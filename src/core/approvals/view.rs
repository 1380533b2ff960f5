//! How a request that waits is shown, without its content.

use crate::api::approvals::{Approval, Voice};
use crate::api::time::rfc3339_nano;

use super::record::{self, Pending};
use super::voices::agreeing;
use crate::core::error::VaultError;
use crate::core::pipeline::route::Inquiry;

/// One request, with the approvals that count now.
///
/// # Errors
/// The errors of [`agreeing`].
pub(in crate::core) fn shown(inquiry: &Inquiry<'_>, id: &str, record: &Pending) -> Result<Approval, VaultError> {
    let snapshot = inquiry.snapshot;
    let standing = |path: &str| Ok(snapshot.identity(path).map(|record| (**record).clone()));
    let (required, agree) = match inquiry.settings.approvals.as_deref() {
        Some(rules) => (rules.required(), agreeing(rules, inquiry.settings, snapshot, id, record, standing)?),
        None => (0, 0),
    };
    let missing = required.saturating_sub(agree);
    Ok(Approval {
        id: id.to_owned(),
        state: state(record, missing, inquiry.now_ms).to_owned(),
        asked_by: record.asker.clone(),
        operation: record.operation.clone(),
        verb: record.verb.clone(),
        path: record.path.clone(),
        fields: record.fields.clone(),
        affects: record.affects.clone(),
        asked: rfc3339_nano(record.asked_ms),
        expires: rfc3339_nano(record.expires_ms),
        required,
        missing,
        approvals: record.approvals.iter().map(voice).collect(),
        rejected: record.rejected.as_ref().map(voice),
        used: record.used.as_ref().map(|used| rfc3339_nano(used.at_ms)),
        request: record.request.clone(),
        used_request: record.used.as_ref().map(|used| used.request.clone()),
    })
}

fn state(record: &Pending, missing: usize, now_ms: u64) -> &'static str {
    match record {
        Pending { used: Some(_), .. } => "used",
        Pending { rejected: Some(_), .. } => "rejected",
        _ if !record.is_open(now_ms) => "expired",
        _ if missing == 0 => "approved",
        _ => "open",
    }
}

fn voice(voice: &record::Voice) -> Voice {
    Voice { identity: voice.identity.clone(), at: rfc3339_nano(voice.at_ms) }
}
