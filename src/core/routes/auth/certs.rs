//! `auth/cert`: roles, and the login by certificate.

use crate::api::reply::Reply;
use crate::auth::cert::LoginBody;
use crate::auth::role_name;
use crate::barrier::{MountId, Tx};

use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::identities::login::token;
use crate::core::identities::tokens::give;
use crate::core::pipeline::route::{Change, Inquiry};
use crate::core::request::{data, keys_of};
use crate::core::state::authorities::Authorities;
use crate::core::state::roles;
use crate::core::state::snapshot::Touch;

/// The role that a request names, in canonical form.
fn named(tail: &str) -> Result<String, VaultError> {
    role_name(tail).map_err(|error| VaultError::BadRequest(error.to_string()))
}

pub(super) fn list(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    keys_of(inquiry.body, &inquiry.snapshot.roles.names())
}

pub(super) fn read(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let role = roles::read(&inquiry.live.barrier.view(MountId::CERT_ROLES), &named(&inquiry.tail)?)?;
    data(&role.ok_or(VaultError::NotFound)?.view())
}

/// Writes a role. Absent fields stay unchanged.
pub(super) fn write(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let name = named(&change.tail)?;
    let authorities = Authorities::load(&tx.view(MountId::CA))?;
    let own: Vec<&[u8]> = authorities.0.iter().map(|facts| facts.der.as_slice()).collect();
    let warnings = roles::write(tx, &name, change.body, &own)?;
    let reply = Reply { warnings, ..Reply::none() };
    Ok(Done { restricts: true, ..Done::touching(reply, vec![Touch::Roles]) })
}

pub(super) fn delete(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    // As for all routes, deleting something that does not exist is not an error.
    tx.remove_entry(MountId::CERT_ROLES, &named(&change.tail)?)?;
    Ok(Done { restricts: true, ..Done::touching(Reply::none(), vec![Touch::Roles]) })
}

/// Issues a token for the certificate of the connection: `{name?}`.
pub(super) fn login(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let wanted = LoginBody::parse(change.body)?.name;
    give(tx, change, token(change, wanted.as_deref())?)
}
