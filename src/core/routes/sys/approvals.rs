//! `sys/strongroom/approvals`: requests that wait for other operators, and their decisions.

use std::collections::BTreeMap;

use crate::api::approvals::{Approval, Approvals, Voice};
use crate::api::hex::hex;
use crate::api::reply::Reply;
use crate::api::time::rfc3339_nano;
use crate::barrier::{MountId, Tx};

use super::{Change, Inquiry, data};
use crate::core::approvals::record::{self, Pending};
use crate::core::approvals::voices::agreeing;
use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::state::identity;

/// All requests on record.
pub(super) fn list(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let mut records = record::all(&inquiry.view(MountId::APPROVALS))?;
    records.sort_by(|(a, x), (b, y)| y.asked_ms.cmp(&x.asked_ms).then_with(|| a.cmp(b)));
    let mut listing = Approvals { keys: Vec::new(), key_info: BTreeMap::new() };
    for (id, record) in records {
        listing.key_info.insert(id.clone(), shown(inquiry, &id, &record)?);
        listing.keys.push(id);
    }
    Ok(Reply { lists_keys: true, ..data(&listing)? })
}

/// Returns one request.
pub(super) fn read(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let record = record::read(&inquiry.live.barrier.view(MountId::APPROVALS), &inquiry.tail)?;
    data(&shown(inquiry, &inquiry.tail, &record.ok_or(VaultError::NotFound)?)?)
}

/// `approvals/<id>/<approve|reject>`.
pub(super) fn decide(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    change.body.only(&[])?;
    let (id, verb) = change.tail.split_once('/').ok_or(VaultError::NotFound)?;
    let rules = change.settings.approvals.as_deref().ok_or_else(|| bad("approvals are not configured"))?;
    let mut record = record::read(&tx.view(MountId::APPROVALS), id)?.ok_or(VaultError::NotFound)?;
    let caller = change.caller.identity.path();
    let asked = record.asker == caller;
    // A caller without a record has a certificate of an outside PKI, whose policies come from a role and not from its
    // own record.
    let registered = identity::read(&tx.view(identity::IDENTITIES), caller)?.is_some_and(|it| it.disabled.is_none());
    if !registered || !(rules.names(&change.caller.identity) || (asked && verb == "reject")) {
        return Err(VaultError::Forbidden);
    }
    if !record.is_open(change.now_ms) {
        return Err(bad("the request was rejected, used, or has expired"));
    }
    let voice = record::Voice {
        identity: caller.to_owned(),
        certificate: hex(&change.caller.fingerprint),
        at_ms: change.now_ms,
    };
    match verb {
        "approve" if asked => return Err(bad("this is your own request: another operator must approve it")),
        // An approver may repeat this with another certificate after the first was revoked. It counts only once.
        "approve" => {
            record.approvals.retain(|voice| voice.identity != caller);
            record.approvals.push(voice);
        }
        "reject" => record.rejected = Some(voice),
        _ => return Err(VaultError::NotFound),
    }
    record::put(tx, id, &record)?;
    Ok(Done::of(Reply::none()))
}

fn shown(inquiry: &Inquiry<'_>, id: &str, record: &Pending) -> Result<Approval, VaultError> {
    let voice = |voice: &record::Voice| Voice { identity: voice.identity.clone(), at: rfc3339_nano(voice.at_ms) };
    let snapshot = inquiry.snapshot;
    let standing = |path: &str| Ok(snapshot.identity(path).map(|record| (**record).clone()));
    let (required, agree) = match inquiry.settings.approvals.as_deref() {
        Some(rules) => (rules.required(), agreeing(rules, inquiry.settings, snapshot, id, record, standing)?),
        None => (0, 0),
    };
    let missing = required.saturating_sub(agree);
    let state = match record {
        Pending { used: Some(_), .. } => "used",
        Pending { rejected: Some(_), .. } => "rejected",
        _ if !record.is_open(inquiry.now_ms) => "expired",
        _ if missing == 0 => "approved",
        _ => "open",
    };
    Ok(Approval {
        id: id.to_owned(),
        state: state.to_owned(),
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

fn bad(text: &str) -> VaultError {
    VaultError::BadRequest(text.to_owned())
}
