//! `sys/strongroom/values`: rotation policies of values, their state, and orders for the rotator.

use crate::api::reply::Reply;
use crate::api::rotation::{ValueInfo, ValueList};
use crate::barrier::MountId;
use crate::policy::Capability;

use super::{Inquiry, data};
use crate::core::error::VaultError;
use crate::core::rotation::orders::{Order, ValueOrder};
use crate::core::rotation::values::record;
use crate::core::rotation::values::view::shown;

/// Whether the caller may read the data of a secret.
fn may_read(inquiry: &Inquiry<'_>, full: &str) -> bool {
    inquiry.subject.may(&inquiry.snapshot.mounts, full, Capability::Read)
}

/// `POST values/<path>`: `{key, policy}` stores a policy, `{key, action}` requests an action.
pub(super) fn order(inquiry: &Inquiry<'_>) -> Result<Order, VaultError> {
    let fields = inquiry.body.only(&["key", "policy", "action"])?;
    ValueOrder::read(fields, &inquiry.tail, inquiry.subject, &inquiry.snapshot.mounts).map(Order::Value)
}

/// All rotating values that the caller may read.
pub(super) fn list(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let rows = record::all(&inquiry.view(MountId::ROTATION))?;
    let seen = rows.iter().filter(|row| may_read(inquiry, &row.path));
    data(&ValueList { values: seen.map(|row| shown(row, inquiry.now_ms)).collect() })
}

/// The rotating keys of one secret.
pub(super) fn one(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    if !may_read(inquiry, &inquiry.tail) {
        return Err(VaultError::Forbidden);
    }
    let rows = record::all(&inquiry.view(MountId::ROTATION))?;
    let rows = rows.iter().filter(|row| row.path == inquiry.tail);
    let values: Vec<ValueInfo> = rows.map(|row| shown(row, inquiry.now_ms)).collect();
    if values.is_empty() {
        return Err(VaultError::NotFound);
    }
    data(&ValueList { values })
}
