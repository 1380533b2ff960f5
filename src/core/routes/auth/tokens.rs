//! `auth/token`: creating, looking up, renewing and revoking tokens.

use crate::api::reply::{Reply, ReplyStatus};
use crate::api::secret::SecretText;
use crate::auth::token::{
    AccessorBody, CreateBody, Creator, Issued, Limits, RenewBody, Renewed, TokenBody, TokenError, TokenId, TokenRecord,
    accessor, auth_json, create as make, generate, lookup_json, renew as renewed,
};
use crate::barrier::{MountId, Tx};
use crate::policy::{Ask, Capability, Decision};

use super::{no_random, token_refused};
use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::pipeline::route::{Change, Inquiry};
use crate::core::request::keys_of;
use crate::core::state::subject::Subject;
use crate::core::state::tokens::{self, Held};

/// Largest number of records removed by one `tidy`, because other changes wait for it.
const MAX_TIDIED: usize = 10_000;
/// Creation path of a token that a role issued.
pub(super) const LOGIN: &str = "auth/cert/login";

/// Writes a new token and returns it.
pub(super) fn give(tx: &mut Tx<'_>, change: &Change<'_>, issued: Issued) -> Result<Done, VaultError> {
    let Issued { record, warnings } = issued;
    change.snapshot.tokens.make_room(&record.identity, parent(change), change.now_ms)?;
    let text = generate(&**change.random).map_err(no_random)?;
    let id = TokenId::of(text.reveal()).ok_or(VaultError::Internal)?;
    let touched = tokens::put(tx, &change.snapshot.tokens, id, &record, change.now_ms)?;
    let reply = Reply { warnings, ..Reply::auth(auth_json(&record, Some(&text), change.now_ms)) };
    Ok(Done::touching(reply, touched))
}

fn parent<'a>(change: &Change<'a>) -> Option<&'a TokenRecord> {
    change.subject.token.as_ref().map(|token| &*token.record)
}

pub(super) fn create(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let body = CreateBody::parse(change.body).map_err(token_refused)?;
    child(tx, change, body, "auth/token/create")
}

pub(super) fn create_orphan(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let body = CreateBody::parse(change.body).map_err(token_refused)?;
    child(tx, change, CreateBody { no_parent: true, ..body }, "auth/token/create-orphan")
}

fn child(tx: &mut Tx<'_>, change: &Change<'_>, body: CreateBody, path: &str) -> Result<Done, VaultError> {
    let own = &change.subject.policies;
    // A token grants nothing that its identity does not have, so not even `sudo` could create one with more.
    if body.policies.iter().flatten().any(|name| !own.contains(name)) {
        return Err(token_refused(TokenError::NotSubset));
    }
    if let Some(token) = &change.subject.token {
        // The index shows the published state, but this request may have waited behind the revocation of its token.
        tokens::read(&tx.view(MountId::TOKENS), token.id)?.ok_or(VaultError::Forbidden)?;
    }
    let creator =
        Creator { identity: &change.caller.identity, policies: own, sudo: has_sudo(change), parent: parent(change) };
    let accessor = accessor(&**change.random).map_err(no_random)?;
    let mut issued = make(&body, &creator, accessor, &Limits::default(), change.now_ms).map_err(token_refused)?;
    issued.record.policies.retain(|name| own.contains(name));
    path.clone_into(&mut issued.record.path);
    // A token grants what its role grants today, and so do its descendants.
    issued.record.role = parent(change).and_then(|parent| parent.role.clone());
    give(tx, change, issued)
}

fn has_sudo(change: &Change<'_>) -> bool {
    let ask = Ask { path: change.path, capability: Capability::Update, sudo: true, parameters: None, wrap_ttl: None };
    matches!(change.subject.decide(&ask), Decision::Allow { .. })
}

/// The token of the request.
fn presented_token(subject: &Subject) -> Result<&Held, VaultError> {
    let missing = || VaultError::BadRequest("missing client token: only the certificate was presented".to_owned());
    subject.token.as_ref().ok_or_else(missing)
}

fn unknown_accessor() -> VaultError {
    VaultError::BadRequest("invalid accessor".to_owned())
}

pub(super) fn lookup_self(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let token = presented_token(inquiry.subject)?;
    Ok(Reply::data(lookup_json(&token.record, inquiry.caller.token.as_deref(), inquiry.now_ms)))
}

pub(super) fn lookup(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let TokenBody { token: text } = TokenBody::parse(inquiry.body).map_err(token_refused)?;
    let tokens = &inquiry.snapshot.tokens;
    let found = tokens.by_text(&text).filter(|found| tokens.is_alive(&found.record, inquiry.now_ms));
    let found = found.ok_or(VaultError::Forbidden)?;
    Ok(Reply::data(lookup_json(&found.record, Some(&text), inquiry.now_ms)))
}

pub(super) fn lookup_accessor(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let AccessorBody { accessor } = AccessorBody::parse(inquiry.body).map_err(token_refused)?;
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
    let body = RenewBody::of_self(change.body).map_err(token_refused)?;
    let token = presented_token(change.subject)?.clone();
    prolong(tx, change, &token, change.caller.token.as_deref(), body.increment_s)
}

pub(super) fn renew(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let body = RenewBody::of_token(change.body).map_err(token_refused)?;
    let text = body.token.ok_or(VaultError::Internal)?;
    let token = change.snapshot.tokens.by_text(&text).ok_or(VaultError::Forbidden)?;
    prolong(tx, change, &token, Some(&text), body.increment_s)
}

pub(super) fn renew_accessor(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let body = RenewBody::of_accessor(change.body).map_err(token_refused)?;
    let accessor = body.accessor.ok_or(VaultError::Internal)?;
    let token = change.snapshot.tokens.by_accessor(&accessor).ok_or_else(unknown_accessor)?;
    prolong(tx, change, &token, None, body.increment_s)
}

fn prolong(
    tx: &mut Tx<'_>,
    change: &Change<'_>,
    token: &Held,
    text: Option<&SecretText>,
    increment_s: u64,
) -> Result<Done, VaultError> {
    let known = &change.snapshot.tokens;
    let record = tokens::read(&tx.view(MountId::TOKENS), token.id)?.ok_or(VaultError::Forbidden)?;
    let begun = presented_token(change.subject).is_ok_and(|presented| presented.id == token.id);
    if record.uses_left == Some(0) && begun {
        return Err(VaultError::BadRequest("the last use of this token has started".to_owned()));
    }
    if !known.is_alive(&record, change.now_ms) {
        return Err(VaultError::Forbidden);
    }
    if let Some(name) = &record.role
        // A child may have other policies, whether it has a parent or not.
        && record.path == LOGIN
        && !change.snapshot.roles.get(name).is_some_and(|role| role.still_gives(&record.policies))
    {
        return Err(VaultError::BadRequest("the role of this token has changed: log in again".to_owned()));
    }
    let Renewed { record, warnings } =
        renewed(&record, increment_s, &Limits::default(), change.now_ms).map_err(token_refused)?;
    let touched = tokens::put(tx, known, token.id, &record, change.now_ms)?;
    let reply = Reply { warnings, ..Reply::auth(auth_json(&record, text, change.now_ms)) };
    Ok(Done::touching(reply, touched))
}

pub(super) fn revoke_self(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    end(tx, change, presented_token(change.subject)?)
}

pub(super) fn revoke(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let TokenBody { token } = TokenBody::parse(change.body).map_err(token_refused)?;
    match change.snapshot.tokens.by_text(&token) {
        Some(token) => end(tx, change, &token),
        // As in Vault: the token is gone, which is what the caller wanted.
        None => Ok(Done::of(Reply::none())),
    }
}

pub(super) fn revoke_accessor(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let AccessorBody { accessor } = AccessorBody::parse(change.body).map_err(token_refused)?;
    let token = change.snapshot.tokens.by_accessor(&accessor).ok_or_else(unknown_accessor)?;
    end(tx, change, &token)
}

/// Revokes a token and no other. Its children have no parent from now on.
pub(super) fn revoke_orphan(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let TokenBody { token } = TokenBody::parse(change.body).map_err(token_refused)?;
    let known = &change.snapshot.tokens;
    // Unlike `revoke`, and as in Vault, this is an error: the caller cares about the children of this very token.
    let token = known.by_text(&token).filter(|token| known.is_alive(&token.record, change.now_ms));
    let token = token.ok_or_else(|| VaultError::BadRequest("token to revoke not found".to_owned()))?;
    let mut touched = tokens::remove(tx, &[token.id])?;
    for id in known.children(&token.record.identity, &token.record.accessor) {
        // Read from the store, because it may have been used or renewed since the index was updated.
        let Some(mut child) = tokens::read(&tx.view(MountId::TOKENS), id)? else { continue };
        child.parent = None;
        touched.extend(tokens::put(tx, known, id, &child, change.now_ms)?);
    }
    Ok(Done::touching(Reply::none(), touched))
}

/// Removes the records of expired tokens. They are invalid already; this frees space.
pub(super) fn tidy(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let (ended, all) = change.snapshot.tokens.ended(MAX_TIDIED, change.now_ms);
    let touched = tokens::remove(tx, &ended)?;
    let mut reply = Reply { status: ReplyStatus::Accepted, ..Reply::none() };
    if all > ended.len() {
        reply.warnings.push(format!("{} tokens that are no longer valid are left: tidy again", all - ended.len()));
    }
    Ok(Done::touching(reply, touched))
}

/// Revokes a token and all its descendants. A child that is being created in the same commit fails because its parent
/// is gone.
fn end(tx: &mut Tx<'_>, change: &Change<'_>, token: &Held) -> Result<Done, VaultError> {
    let touched = tokens::remove(tx, &change.snapshot.tokens.family(token))?;
    Ok(Done::touching(Reply::none(), touched))
}
