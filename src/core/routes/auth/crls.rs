//! `auth/cert/crls`: revocation lists of outside PKIs. An operator uploads them; the vault contacts no other server.

use crate::api::reply::Reply;
use crate::auth::cert::{ListView, Role, encode_list, list_body};
use crate::auth::role_name;
use crate::barrier::{MountId, Tx};
use crate::pki::outside::{ListError, RevocationList, signed_by};
use crate::pki::subject_of;

use super::role_refused;
use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::pipeline::route::{Change, Inquiry};
use crate::core::request::{data, keys_of};
use crate::core::state::outside_crls::{self, MAX_LISTS};
use crate::core::state::roles::Roles;
use crate::core::state::snapshot::Touch;

const UNKNOWN_ISSUER: &str =
    "no role of auth/cert names the authority that issued this list: write the role with its certificate first";
const OLDER: &str = "there is a newer list of this issuer under that name: delete it first if you want to replace it";
const OTHER: &str = "the list under that name belongs to another issuer or was signed with another key: choose another name, or delete it first";
const UNREADABLE: &str = "the list under that name cannot be read: delete it first";

/// The list that a request names, in the canonical form of roles.
fn named(tail: &str) -> Result<String, VaultError> {
    role_name(tail).map_err(|_| {
        let form = "a list's name is 1 to 128 characters of [a-z0-9_.-] and does not start or end with . or -";
        VaultError::BadRequest(form.to_owned())
    })
}

pub(super) fn list(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    keys_of(inquiry.body, &inquiry.snapshot.lists.names())
}

pub(super) fn read(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let view = inquiry.live.barrier.view(MountId::CERT_ROLES);
    let (list, _) = outside_crls::read(&view, &named(&inquiry.tail)?)?.ok_or(VaultError::NotFound)?;
    data(&ListView::new(&list, inquiry.now_ms))
}

/// Stores a list, or replaces one by a newer list. Certificates on the list are rejected from the answer on.
pub(super) fn write(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let name = named(&change.tail)?;
    let der = list_body(change.body).map_err(role_refused)?;
    let list = RevocationList::read(&der).map_err(|error| role_refused(error.into()))?;
    let view = tx.view(MountId::CERT_ROLES);
    let roles = Roles::load(&view)?;
    let authority = prove(&roles, &list, &der)?;
    let names = outside_crls::names(&view)?;
    if names.iter().filter(|other| **other != name).count() >= MAX_LISTS {
        return Err(VaultError::BadRequest(format!("at most {MAX_LISTS} revocation lists: delete one")));
    }
    if names.contains(&name) {
        let old = match outside_crls::read(&view, &name) {
            Ok(old) => old.ok_or(VaultError::Integrity)?,
            Err(VaultError::Integrity) => return Err(VaultError::BadRequest(UNREADABLE.to_owned())),
            Err(other) => return Err(other),
        };
        replaces(&old, &list, authority)?;
    }
    let mut reply = Reply::none();
    if list.next_update_s.is_some_and(|next| change.now_ms / 1_000 > next) {
        reply.warnings.push("the list has expired: it is in effect, but get a newer one from its issuer".to_owned());
    }
    tx.put_entry(MountId::CERT_ROLES, &outside_crls::key_of(&name), &encode_list(&der), 0)?;
    Ok(Done { restricts: true, ..Done::touching(reply, vec![Touch::List(name)]) })
}

/// Rejects a list that is not a successor of the one that it would replace. Somebody who may upload must not be able to
/// take a certificate off a list, neither with an older list nor with one of an authority made for that purpose.
fn replaces(old: &(RevocationList, Vec<u8>), new: &RevocationList, authority: &[u8]) -> Result<(), VaultError> {
    let (old, old_der) = old;
    if old.issuer != new.issuer || signed_by(old_der, authority).is_err() {
        return Err(VaultError::BadRequest(OTHER.to_owned()));
    }
    if old.this_update_s > new.this_update_s {
        return Err(VaultError::BadRequest(OLDER.to_owned()));
    }
    Ok(())
}

pub(super) fn delete(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let name = named(&change.tail)?;
    // As for all routes, deleting something that does not exist is not an error.
    tx.remove_entry(MountId::CERT_ROLES, &outside_crls::key_of(&name))?;
    Ok(Done::touching(Reply::none(), vec![Touch::List(name)]))
}

/// Returns the authority of a role that signed the list.
fn prove<'r>(roles: &'r Roles, list: &RevocationList, der: &[u8]) -> Result<&'r [u8], VaultError> {
    let mut reason = None;
    for authority in roles.iter().flat_map(Role::certificates) {
        if subject_of(authority).as_deref() != Some(&list.issuer) {
            continue;
        }
        match signed_by(der, authority) {
            Ok(()) => return Ok(authority),
            // With two authorities of one name, the error of the one that has the key says more.
            Err(error) if reason != Some(ListError::Usage) => reason = Some(error),
            Err(_) => {}
        }
    }
    Err(reason.map_or_else(|| VaultError::BadRequest(UNKNOWN_ISSUER.to_owned()), |error| role_refused(error.into())))
}
