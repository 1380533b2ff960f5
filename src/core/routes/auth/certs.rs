//! `auth/cert`: roles, and the login by certificate.

use crate::api::hex::hex;
use crate::api::reply::Reply;
use crate::auth::cert::{LoginBody, Role, RoleRecord};
use crate::auth::role_name;
use crate::auth::token::{self, CreateBody, Creator, Issued, Limits};
use crate::barrier::{MountId, Tx};

use super::tokens::LOGIN;
use super::{no_random, role_refused, token_refused};
use crate::core::Origin;
use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::pipeline::route::{Change, Inquiry};
use crate::core::request::{data, keys_of};
use crate::core::state::authorities::Authorities;
use crate::core::state::identity::POLICIES;
use crate::core::state::roles::{self, MAX_CERTIFICATES, MAX_ROLES};
use crate::core::state::snapshot::Touch;

/// The role that a request names, in canonical form.
fn named(tail: &str) -> Result<String, VaultError> {
    role_name(tail).map_err(|error| VaultError::BadRequest(error.to_string()))
}

pub(super) fn list(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    keys_of(inquiry.body, &inquiry.snapshot.roles.names())
}

pub(super) fn read(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let name = named(&inquiry.tail)?;
    let entry = inquiry.live.barrier.view(MountId::CERT_ROLES).entry(&name)?.ok_or(VaultError::NotFound)?;
    let record = RoleRecord::decode(entry.value.reveal()).map_err(role_refused)?;
    data(&Role::load(&name, record).map_err(role_refused)?.view())
}

/// Writes a role. Absent fields stay unchanged.
pub(super) fn write(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let name = named(&change.tail)?;
    let existing = tx.view(MountId::CERT_ROLES).entry(&name)?;
    // A record that cannot be parsed is overwritten as a whole.
    let existing = existing.and_then(|entry| RoleRecord::decode(entry.value.reveal()).ok());
    let authorities = Authorities::load(&tx.view(MountId::CA))?;
    let own: Vec<&[u8]> = authorities.0.iter().map(|facts| facts.der.as_slice()).collect();
    let role = Role::from_body(&name, change.body, existing.as_ref(), &own).map_err(role_refused)?;
    let (others, certificates) = roles::Roles::load(&tx.view(MountId::CERT_ROLES))?.size_without(&name);
    if others >= MAX_ROLES || certificates + role.certificates().count() > MAX_CERTIFICATES {
        return Err(VaultError::BadRequest(format!(
            "at most {MAX_ROLES} roles with {MAX_CERTIFICATES} certificates in all"
        )));
    }
    let mut reply = Reply::none();
    for policy in &role.record.token.policies {
        if tx.view(POLICIES).entry(policy)?.is_none() {
            reply.warnings.push(format!("policy \"{policy}\" does not exist and grants nothing yet"));
        }
    }
    tx.put_entry(MountId::CERT_ROLES, &name, &role.record.encode(), 0)?;
    Ok(Done { restricts: true, ..Done::touching(reply, vec![Touch::Roles]) })
}

pub(super) fn delete(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    // As for all routes, deleting something that does not exist is not an error.
    tx.remove_entry(MountId::CERT_ROLES, &named(&change.tail)?)?;
    Ok(Done { restricts: true, ..Done::touching(Reply::none(), vec![Touch::Roles]) })
}

/// Issues a token for the certificate of the connection: `{name?}`.
pub(super) fn login(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let wanted = LoginBody::parse(change.body).map_err(role_refused)?.name;
    let accessor = token::accessor(&**change.random).map_err(no_random)?;
    let no_role =
        || VaultError::BadRequest("no role of that name admits this certificate from this network".to_owned());
    let issued = match &change.caller.origin {
        Origin::Outside(outside) => {
            let (roles, lists) = (&change.snapshot.roles, &change.snapshot.lists);
            let role =
                roles.admitting(lists, outside, change.caller, wanted.as_deref(), change.now_ms).ok_or_else(no_role)?;
            let (facts, identity) = (outside.facts(), &change.caller.identity);
            token::login(role, facts, identity, accessor, &Limits::default(), change.now_ms)
        }
        Origin::Vault(_) | Origin::Internal if wanted.is_some() => return Err(no_role()),
        Origin::Vault(_) | Origin::Internal => by_identity(change, accessor)?,
    };
    super::tokens::give(tx, change, issued)
}

/// The token of one of our own identities. It has the identity's policies, and survives the renewal of its certificate.
fn by_identity(change: &Change<'_>, accessor: String) -> Result<Issued, VaultError> {
    let identity = &change.caller.identity;
    let creator = Creator { identity, policies: &change.subject.policies, sudo: false, parent: None };
    let body = CreateBody::default();
    let mut issued =
        token::create(&body, &creator, accessor, &Limits::default(), change.now_ms).map_err(token_refused)?;
    let record = &mut issued.record;
    LOGIN.clone_into(&mut record.path);
    record.display_name = format!("cert-{}", identity.path());
    let meta = [("identity", identity.uri().to_owned()), ("fingerprint", hex(&change.caller.fingerprint))];
    record.meta = meta.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Ok(issued)
}
