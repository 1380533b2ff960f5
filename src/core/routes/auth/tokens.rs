//! `auth/token`: creating, looking up, renewing and revoking tokens.

use crate::api::reply::{Reply, ReplyStatus};
use crate::auth::token::{AccessorBody, CreateBody, RenewBody, TokenBody, lookup_json};
use crate::barrier::Tx;

use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::identities::tokens::{child, end, end_alone, presented_token, prolong};
use crate::core::pipeline::route::{Change, Inquiry};
use crate::core::request::keys_of;
use crate::core::state::tokens;

/// Largest number of records removed by one `tidy`, because other changes wait for it.
const MAX_TIDIED: usize = 10_000;

pub(super) fn create(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let body = CreateBody::parse(change.body)?;
    child(tx, change, &body, "auth/token/create")
}

pub(super) fn create_orphan(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let body = CreateBody::parse(change.body)?;
    child(tx, change, &CreateBody { no_parent: true, ..body }, "auth/token/create-orphan")
}

fn unknown_accessor() -> VaultError {
    VaultError::BadRequest("invalid accessor".to_owned())
}

pub(super) fn lookup_self(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let token = presented_token(inquiry.subject)?;
    Ok(Reply::data(lookup_json(&token.record, inquiry.caller.token.as_deref(), inquiry.now_ms)))
}

pub(super) fn lookup(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let TokenBody { token: text } = TokenBody::parse(inquiry.body)?;
    let tokens = &inquiry.snapshot.tokens;
    let found = tokens.by_text(&text).filter(|found| tokens.is_alive(&found.record, inquiry.now_ms));
    let found = found.ok_or(VaultError::Forbidden)?;
    Ok(Reply::data(lookup_json(&found.record, Some(&text), inquiry.now_ms)))
}

pub(super) fn lookup_accessor(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let AccessorBody { accessor } = AccessorBody::parse(inquiry.body)?;
    let tokens = &inquiry.snapshot.tokens;
    let found = tokens.by_accessor(&accessor).filter(|found| tokens.is_alive(&found.record, inquiry.now_ms));
    Ok(Reply::data(lookup_json(&found.ok_or_else(unknown_accessor)?.record, None, inquiry.now_ms)))
}

pub(super) fn accessors(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let tokens = &inquiry.snapshot.tokens;
    inquiry.looks_at(tokens.len())?;
    keys_of(inquiry.body, &tokens.accessors(inquiry.now_ms))
}

pub(super) fn renew_self(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let body = RenewBody::of_self(change.body)?;
    let token = presented_token(change.subject)?.clone();
    prolong(tx, change, &token, change.caller.token.as_deref(), body.increment_s)
}

pub(super) fn renew(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let body = RenewBody::of_token(change.body)?;
    let text = body.token.ok_or(VaultError::Internal)?;
    let token = change.snapshot.tokens.by_text(&text).ok_or(VaultError::Forbidden)?;
    prolong(tx, change, &token, Some(&text), body.increment_s)
}

pub(super) fn renew_accessor(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let body = RenewBody::of_accessor(change.body)?;
    let accessor = body.accessor.ok_or(VaultError::Internal)?;
    let token = change.snapshot.tokens.by_accessor(&accessor).ok_or_else(unknown_accessor)?;
    prolong(tx, change, &token, None, body.increment_s)
}

pub(super) fn revoke_self(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    end(tx, change, presented_token(change.subject)?)
}

pub(super) fn revoke(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let TokenBody { token } = TokenBody::parse(change.body)?;
    match change.snapshot.tokens.by_text(&token) {
        Some(token) => end(tx, change, &token),
        // As in Vault: the token is gone, which is what the caller wanted.
        None => Ok(Done::of(Reply::none())),
    }
}

pub(super) fn revoke_accessor(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let AccessorBody { accessor } = AccessorBody::parse(change.body)?;
    let token = change.snapshot.tokens.by_accessor(&accessor).ok_or_else(unknown_accessor)?;
    end(tx, change, &token)
}

/// Revokes a token but not its children, which have no parent from then on.
pub(super) fn revoke_orphan(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let TokenBody { token } = TokenBody::parse(change.body)?;
    let known = &change.snapshot.tokens;
    // Unlike for `revoke`, and as in Vault, this is an error: the caller cares about the children of this very token.
    let token = known.by_text(&token).filter(|token| known.is_alive(&token.record, change.now_ms));
    let token = token.ok_or_else(|| VaultError::BadRequest("token to revoke not found".to_owned()))?;
    end_alone(tx, change, &token)
}

/// Removes the records of expired tokens. They are invalid already; this frees space.
pub(super) fn tidy(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let (ended, all) = change.snapshot.tokens.ended(MAX_TIDIED, change.now_ms);
    let touched = tokens::remove(tx, &ended)?;
    let mut reply = Reply { status: ReplyStatus::Accepted, ..Reply::none() };
    if all > ended.len() {
        reply.warnings.push(format!("{} expired tokens are left: run tidy again", all - ended.len()));
    }
    Ok(Done::touching(reply, touched))
}
