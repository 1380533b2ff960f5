//! `sys/quotas`: limits on requests, as objects.

use serde::Serialize;

use crate::api::reply::Reply;
use crate::barrier::{MountId, Tx};
use crate::limits::Quota;

use super::{Change, Inquiry, data, keys_of};
use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::state::limits::body::{self, FIELDS, FIELDS_OF_DEFAULT};
use crate::core::state::limits::view::{DefaultShown, QuotaShown};
use crate::core::state::limits::{self, DEFAULT};
use crate::core::state::snapshot::Touch;

#[derive(Serialize)]
struct Config {
    enable_rate_limit_audit_logging: bool,
    enable_rate_limit_response_headers: bool,
    rate_limit_exempt_paths: [&'static str; 5],
    reserved_paths: [&'static str; 2],
}

/// Settings that are the same for all quotas and cannot be changed.
pub(super) fn config(_: &Inquiry<'_>) -> Result<Reply, VaultError> {
    data(&Config {
        enable_rate_limit_audit_logging: true,
        enable_rate_limit_response_headers: false,
        rate_limit_exempt_paths: ["sys/health", "sys/init", "sys/leader", "sys/seal-status", "sys/unseal"],
        reserved_paths: ["sys/quotas/*", "sys/seal"],
    })
}

pub(super) fn list(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    keys_of(inquiry.body, &inquiry.view(MountId::LIMITS).entries()?)
}

pub(super) fn read(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let view = inquiry.live.barrier.view(MountId::LIMITS);
    if inquiry.tail == DEFAULT {
        return data(&DefaultShown::of(limits::read_default(&view)?));
    }
    let stored = limits::read(&view, &inquiry.tail)?.ok_or(VaultError::NotFound)?;
    data(&QuotaShown::of(&stored)?)
}

/// Creates or replaces a quota. Absent fields get their default values, as in Vault.
pub(super) fn write(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    Quota::check_name(&change.tail)?;
    if change.tail == DEFAULT {
        let defaults = body::defaults(change.body.only(&FIELDS_OF_DEFAULT)?)?;
        limits::put_default(tx, defaults)?;
    } else {
        let quota = body::quota(change.body.only(&FIELDS)?, &change.tail, &change.snapshot.mounts)?;
        limits::put(tx, &quota)?;
    }
    Ok(Done::touching(Reply::none(), vec![Touch::Limits]))
}

/// As in Vault, deleting something that does not exist is not an error. Without `default` the built-in limits apply.
pub(super) fn delete(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    tx.remove_entry(MountId::LIMITS, &change.tail)?;
    Ok(Done::touching(Reply::none(), vec![Touch::Limits]))
}
