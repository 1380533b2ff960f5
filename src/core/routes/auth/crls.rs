//! `auth/cert/crls`: revocation lists of outside PKIs. An operator uploads them; the vault contacts no server.

use crate::api::reply::Reply;
use crate::auth::cert::{ListView, RoleError, list_body};
use crate::auth::role_name;
use crate::barrier::{MountId, Tx};
use crate::pki::outside::RevocationList;

use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::pipeline::route::{Change, Inquiry};
use crate::core::request::{data, keys_of};
use crate::core::state::outside_crls;
use crate::core::state::snapshot::Touch;

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

/// Stores a list, or replaces it with a newer one. Certificates on the list are rejected from the reply on.
pub(super) fn write(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let name = named(&change.tail)?;
    let der = list_body(change.body)?;
    let list = RevocationList::read(&der).map_err(RoleError::from)?;
    outside_crls::put(tx, &name, &list, &der)?;
    let mut reply = Reply::none();
    if list.next_update_s.is_some_and(|next| change.now_ms / 1_000 > next) {
        reply.warnings.push("the list has expired: it is in effect, but get a newer one from its issuer".to_owned());
    }
    Ok(Done { restricts: true, ..Done::touching(reply, vec![Touch::List(name)]) })
}

pub(super) fn delete(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let name = named(&change.tail)?;
    outside_crls::remove(tx, &name)?;
    Ok(Done::touching(Reply::none(), vec![Touch::List(name)]))
}
