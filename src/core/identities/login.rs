//! The login by certificate: a token for the identity of the connection.

use crate::api::hex::hex;
use crate::auth::token::{self, CreateBody, Creator, Issued, Limits};

use super::tokens::LOGIN;
use crate::core::Origin;
use crate::core::error::VaultError;
use crate::core::pipeline::route::Change;
use crate::core::state::roles::Outside;

/// Issues a token to the caller. For a certificate of an outside PKI, the token comes from the role that admits it, or
/// from the one that `wanted` names. For a certificate of the vault's own, it has the policies of the identity.
///
/// # Errors
/// [`VaultError::BadRequest`] when no role admits the certificate, or when a role is named with a certificate of the
/// vault's own; [`VaultError::Internal`] when the random source fails.
pub(in crate::core) fn token(change: &Change<'_>, wanted: Option<&str>) -> Result<Issued, VaultError> {
    let accessor = token::accessor(&**change.random).map_err(|_| VaultError::Internal)?;
    match &change.caller.origin {
        Origin::Outside(outside) => by_role(change, outside, wanted, accessor),
        Origin::Vault(_) | Origin::Internal if wanted.is_some() => Err(no_role()),
        Origin::Vault(_) | Origin::Internal => by_identity(change, accessor),
    }
}

fn by_role(
    change: &Change<'_>,
    outside: &Outside,
    wanted: Option<&str>,
    accessor: String,
) -> Result<Issued, VaultError> {
    let (roles, lists) = (&change.snapshot.roles, &change.snapshot.lists);
    let role = roles.admitting(lists, outside, change.caller, wanted, change.now_ms).ok_or_else(no_role)?;
    Ok(token::login(role, outside.facts(), &change.caller.identity, accessor, &Limits::default(), change.now_ms))
}

/// Issues a token to an identity of the vault. It has the identity's policies and survives the renewal of the
/// certificate.
fn by_identity(change: &Change<'_>, accessor: String) -> Result<Issued, VaultError> {
    let identity = &change.caller.identity;
    let creator = Creator { identity, policies: &change.subject.policies, sudo: false, parent: None };
    let mut issued = token::create(&CreateBody::default(), &creator, accessor, &Limits::default(), change.now_ms)?;
    let record = &mut issued.record;
    LOGIN.clone_into(&mut record.path);
    record.display_name = format!("cert-{}", identity.path());
    let meta = [("identity", identity.uri().to_owned()), ("fingerprint", hex(&change.caller.fingerprint))];
    record.meta = meta.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Ok(issued)
}

fn no_role() -> VaultError {
    VaultError::BadRequest("no role of that name admits this certificate from this network".to_owned())
}
