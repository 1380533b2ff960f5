//! `sys/strongroom/enrollments`: one-time strings with which hosts get their first certificate.

use crate::api::page::Page;
use crate::api::reply::Reply;
use crate::barrier::{MountId, Tx};

use super::{Change, Inquiry, data};
use crate::core::certificates::strings::{self, Terms};
use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::state::identity;
use crate::core::state::snapshot::Touch;

/// Creates a string for the identity in the path: `{ttl?, uses?, cidr?, certificate_ttl?, addresses?}`.
pub(super) fn create(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let fields = change.body.only(&["ttl", "uses", "cidr", "certificate_ttl", "addresses"])?;
    let identity = identity::named(&change.tail, &change.settings.trust_domain)?;
    strings::require_enabled(tx, &identity)?;
    let terms = Terms::read(fields, change.settings)?;
    strings::create(tx, change, &identity, terms)?.done(&identity)
}

/// All strings on record, without their secrets.
pub(super) fn list(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let all = inquiry.snapshot.strings.ids();
    let listing = strings::list(inquiry, Page::of(inquiry.body)?.cut(&all))?;
    Ok(Reply { lists_keys: true, ..data(&listing)? })
}

/// Deletes a string by its id.
pub(super) fn delete(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    tx.remove_entry(MountId::ENROLMENTS, &change.tail)?;
    Ok(Done::touching(Reply::none(), vec![Touch::Enrolment(change.tail.clone())]))
}
