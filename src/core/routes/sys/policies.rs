//! `sys/policies/acl` and the older `sys/policy`: policies as text, stored byte for byte.

use base64::Engine as _;
use serde::Serialize;

use crate::api::fields::Fields;
use crate::api::page::Page;
use crate::api::reply::Reply;
use crate::api::sys::PolicyReply;
use crate::barrier::Tx;
use crate::policy::Policy;

use super::{Change, Inquiry, data, keys_of};
use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::state::administrators::require_administrator;
use crate::core::state::identity::{DEFAULT_POLICY, POLICIES, ROOT_POLICY, policy_name};
use crate::core::state::snapshot::Touch;

pub(super) fn list_acl(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    keys_of(inquiry.body, &inquiry.view(POLICIES).entries()?)
}

pub(super) fn list_legacy(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    #[derive(Serialize)]
    struct Names<'a> {
        keys: &'a [String],
        policies: &'a [String],
    }
    let names = inquiry.view(POLICIES).entries()?;
    let names = Page::of(inquiry.body)?.cut(&names);
    Ok(Reply { lists_keys: true, ..data(&Names { keys: names, policies: names })? })
}

pub(super) fn read_acl(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    with_text(inquiry, |name, policy| data(&PolicyReply { name: name.to_owned(), policy: policy.to_owned() }))
}

pub(super) fn read_legacy(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    #[derive(Serialize)]
    struct Text<'a> {
        name: &'a str,
        rules: &'a str,
    }
    with_text(inquiry, |name, rules| data(&Text { name, rules }))
}

fn with_text(
    inquiry: &Inquiry<'_>,
    show: impl FnOnce(&str, &str) -> Result<Reply, VaultError>,
) -> Result<Reply, VaultError> {
    let name = policy_name(&inquiry.tail)?;
    let entry = inquiry.live.barrier.view(POLICIES).entry(&name)?.ok_or(VaultError::NotFound)?;
    show(&name, std::str::from_utf8(entry.value.reveal()).map_err(|_| VaultError::Integrity)?)
}

pub(super) fn write_acl(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let name = changeable(&change.tail)?;
    let fields = change.body.only(&["policy", "rules", "name"])?;
    let text = text_in(fields)?;
    tx.put_entry(POLICIES, &name, text.as_bytes(), 0)?;
    finish(tx, change, name, Reply::none())
}

/// The text of a policy, sent plainly or in base64, if it can be parsed.
fn text_in(fields: Fields<'_>) -> Result<String, VaultError> {
    let text = fields.text("policy")?.map_or_else(|| fields.text("rules"), |text| Ok(Some(text)))?;
    let text = text
        .filter(|text| !text.is_empty())
        .ok_or_else(|| VaultError::BadRequest("'policy' parameter not supplied or empty".to_owned()))?;
    let Err(error) = Policy::parse(&text) else { return Ok(text) };
    let decoded = decoded(&text).filter(|text| Policy::parse(text).is_ok());
    decoded.ok_or_else(|| VaultError::BadRequest(format!("failed to parse policy: {error}")))
}

pub(super) fn delete_acl(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let name = changeable(&change.tail)?;
    if name == DEFAULT_POLICY {
        return Err(VaultError::BadRequest("cannot delete \"default\" policy".to_owned()));
    }
    // As in Vault, deleting something that does not exist is not an error.
    tx.remove_entry(POLICIES, &name)?;
    finish(tx, change, name, Reply::none())
}

/// Checks the name. No policy may be called `root`, because clients expect it to be all-powerful.
fn changeable(tail: &str) -> Result<String, VaultError> {
    let name = policy_name(tail)?;
    if name == ROOT_POLICY {
        return Err(VaultError::BadRequest("cannot create, update or delete \"root\" policy".to_owned()));
    }
    Ok(name)
}

/// Decodes a text that a client has sent in base64.
fn decoded(text: &str) -> Option<String> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok()?;
    String::from_utf8(bytes).ok()
}

fn finish(tx: &mut Tx<'_>, change: &Change<'_>, name: String, reply: Reply) -> Result<Done, VaultError> {
    require_administrator(tx, change.snapshot, change.caller.identity.path())?;
    Ok(Done::touching(reply, vec![Touch::Policy(name)]))
}
