//! `sys/strongroom/identities`: the registered identities, their policies, and how to stop them.

use crate::api::fields::{FieldError, Fields};
use crate::api::reply::Reply;
use crate::barrier::{MountId, Tx};

use super::{Change, Inquiry, data, keys_of};
use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::identities::{groups, register, revocation, view};
use crate::core::state::administrators::require_administrator;
use crate::core::state::identity::Disabled;
use crate::core::state::snapshot::Touch;

/// Longest reason, in bytes.
const MAX_REASON: usize = 512;

/// Names directly below a folder. Folders end in a slash.
pub(super) fn list(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    inquiry.looks_at(inquiry.snapshot.identity_count())?;
    keys_of(inquiry.body, &view::names_in(inquiry.snapshot, &inquiry.tail))
}

/// All identities with one line each, for operators.
pub(super) fn report(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    data(&view::report(inquiry)?)
}

pub(super) fn read(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    data(&view::identity(inquiry, &inquiry.tail)?)
}

/// Registers or changes an identity: `{policies?, certificate_ttl?, grace?}`. Absent fields stay unchanged.
pub(super) fn write(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    register::check_path(&change.tail, &change.settings.trust_domain)?;
    let fields = change.body.only(&["policies", "certificate_ttl", "grace"])?;
    let warnings = register::write(tx, change, fields)?;
    finish(tx, change, warnings, vec![Touch::Identity(change.tail.clone())])
}

pub(super) fn delete(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let touched = register::remove(tx, change)?;
    restrict(tx, change, touched)
}

/// Rejects all requests of an identity from now on: `{reason?}`.
pub(super) fn disable(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let disabled = Disabled::by_operator(change.now_ms, reason(change.body.only(&["reason"])?)?);
    let touch = register::edit(tx, &change.tail, |record| {
        record.disabled.get_or_insert(disabled);
    })?;
    restrict(tx, change, vec![touch])
}

/// Enables a disabled or frozen identity. Its certificates are valid as before, and so is any copy of them. Revoke the
/// certificates of a frozen identity before you enable it.
pub(super) fn enable(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    change.body.only(&[])?;
    let touch = register::edit(tx, &change.tail, |record| record.disabled = None)?;
    restrict(tx, change, vec![touch])
}

/// Revokes one certificate, or all of an identity with its tokens and open enrolment strings: `{certificate?,
/// reason?}`. The identity stays registered and can enrol again.
pub(super) fn revoke(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let fields = change.body.only(&["certificate", "reason"])?;
    let reason = reason(fields)?;
    let Some(named) = fields.text("certificate")? else {
        let touched = revocation::all(tx, change)?;
        return restrict(tx, change, touched);
    };
    let touch = revocation::one(tx, change, &named, reason)?;
    Ok(Done { restricts: true, ..Done::touching(Reply::none(), vec![touch]) })
}

fn reason(fields: Fields<'_>) -> Result<String, FieldError> {
    Ok(fields.text_within("reason", MAX_REASON)?.unwrap_or_default())
}

/// Names of the groups.
pub(super) fn list_groups(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    keys_of(inquiry.body, &inquiry.snapshot.groups().keys().cloned().collect::<Vec<_>>())
}

pub(super) fn read_group(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    data(inquiry.snapshot.groups().get(&inquiry.tail).ok_or(VaultError::NotFound)?)
}

/// `{policies, members}`: members are identity paths, or folders with `/*`.
pub(super) fn write_group(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let fields = change.body.only(&["policies", "members"])?;
    let warnings = groups::write(tx, &change.tail, fields, &change.settings.trust_domain)?;
    finish(tx, change, warnings, vec![Touch::Groups])
}

pub(super) fn delete_group(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    tx.remove_entry(MountId::GROUPS, &change.tail)?;
    finish(tx, change, Vec::new(), vec![Touch::Groups])
}

/// Ends a change of who is admitted.
fn restrict(tx: &mut Tx<'_>, change: &Change<'_>, touched: Vec<Touch>) -> Result<Done, VaultError> {
    Ok(Done { restricts: true, ..finish(tx, change, Vec::new(), touched)? })
}

/// Ends a change of rights.
fn finish(
    tx: &mut Tx<'_>,
    change: &Change<'_>,
    warnings: Vec<String>,
    touched: Vec<Touch>,
) -> Result<Done, VaultError> {
    require_administrator(tx, change.snapshot, change.caller.identity.path())?;
    Ok(Done::touching(Reply { warnings, ..Reply::none() }, touched))
}
