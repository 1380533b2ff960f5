//! `sys/strongroom/approvals`: requests that wait for other operators, and their decisions.

use crate::api::approvals::Approvals;
use crate::api::reply::Reply;
use crate::barrier::{MountId, Tx};

use super::{Change, Inquiry, data};
use crate::core::approvals::view::shown;
use crate::core::approvals::{opinion, record};
use crate::core::commit::change::Done;
use crate::core::error::VaultError;

/// All requests on record.
pub(super) fn list(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let mut records = record::all(&inquiry.view(MountId::APPROVALS))?;
    records.sort_by(|(a, x), (b, y)| y.asked_ms.cmp(&x.asked_ms).then_with(|| a.cmp(b)));
    let mut listing = Approvals::default();
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
    opinion::give(tx, change, id, verb)?;
    Ok(Done::of(Reply::none()))
}
