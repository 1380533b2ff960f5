//! Tokens of an identity: creating, renewing and revoking them.
//!
//! The snapshot is the state before the running group of changes, so the record that decides is read again.

use crate::api::reply::Reply;
use crate::api::secret::SecretText;
use crate::auth::token::{
    CreateBody, Creator, Issued, Limits, Renewed, TokenError, TokenId, TokenRecord, accessor, auth_json, create,
    generate, renew,
};
use crate::barrier::{MountId, Tx};
use crate::policy::{Ask, Capability, Decision};

use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::pipeline::route::Change;
use crate::core::state::subject::Subject;
use crate::core::state::tokens::{self, Held};

/// Creation path of a token that a role issued.
pub(in crate::core) const LOGIN: &str = "auth/cert/login";

/// The token that the caller presents.
///
/// # Errors
/// [`VaultError::BadRequest`] when the caller presents none.
pub(in crate::core) fn presented_token(subject: &Subject) -> Result<&Held, VaultError> {
    let missing = || VaultError::BadRequest("missing client token: only the certificate was presented".to_owned());
    subject.token.as_ref().ok_or_else(missing)
}

/// Generates the text of a new token, writes its record, and returns both in the only reply that contains the text.
///
/// # Errors
/// The errors of [`tokens::Tokens::make_room`]; the errors of the barrier; [`VaultError::Internal`] when the random
/// source fails.
pub(in crate::core) fn give(tx: &mut Tx<'_>, change: &Change<'_>, issued: Issued) -> Result<Done, VaultError> {
    let Issued { record, warnings } = issued;
    change.snapshot.tokens.make_room(&record.identity, parent(change), change.now_ms)?;
    let text = generate(&**change.random).map_err(|_| VaultError::Internal)?;
    let id = TokenId::of(text.reveal()).ok_or(VaultError::Internal)?;
    let touched = tokens::put(tx, &change.snapshot.tokens, id, &record, change.now_ms)?;
    let reply = Reply { warnings, ..Reply::auth(auth_json(&record, Some(&text), change.now_ms)) };
    Ok(Done::touching(reply, touched))
}

fn parent<'a>(change: &Change<'a>) -> Option<&'a TokenRecord> {
    change.subject.token.as_ref().map(|token| &*token.record)
}

/// Creates a token with rights of the caller, as a child of the token that it presents. `path` is the requested path.
///
/// # Errors
/// [`VaultError::BadRequest`] for a malformed body; [`VaultError::Forbidden`] when the presented token has ended in this
/// group of changes; the errors of [`give`].
pub(in crate::core) fn child(
    tx: &mut Tx<'_>,
    change: &Change<'_>,
    body: &CreateBody,
    path: &str,
) -> Result<Done, VaultError> {
    let own = &change.subject.policies;
    // A token grants nothing that its identity does not have, so even `sudo` cannot create one with more.
    if body.policies.iter().flatten().any(|name| !own.contains(name)) {
        return Err(TokenError::NotSubset.into());
    }
    if let Some(token) = &change.subject.token {
        // The index shows the published state, but this request may have waited behind the revocation of its token.
        tokens::read(&tx.view(MountId::TOKENS), token.id)?.ok_or(VaultError::Forbidden)?;
    }
    let creator =
        Creator { identity: &change.caller.identity, policies: own, sudo: has_sudo(change), parent: parent(change) };
    let accessor = accessor(&**change.random).map_err(|_| VaultError::Internal)?;
    let mut issued = create(body, &creator, accessor, &Limits::default(), change.now_ms)?;
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

/// Renews a token. `text` is its text, if the caller has sent it.
///
/// # Errors
/// [`VaultError::Forbidden`] for a token that has ended; [`VaultError::BadRequest`] for one that cannot be renewed, whose
/// role has changed, or whose last use is this request; the errors of the barrier.
pub(in crate::core) fn prolong(
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
    let Renewed { record, warnings } = renew(&record, increment_s, &Limits::default(), change.now_ms)?;
    let touched = tokens::put(tx, known, token.id, &record, change.now_ms)?;
    let reply = Reply { warnings, ..Reply::auth(auth_json(&record, text, change.now_ms)) };
    Ok(Done::touching(reply, touched))
}

/// Revokes a token and all its descendants. A child that is being created in the same commit fails because its parent
/// is gone.
///
/// # Errors
/// The errors of the barrier when a record cannot be read or written.
pub(in crate::core) fn end(tx: &mut Tx<'_>, change: &Change<'_>, token: &Held) -> Result<Done, VaultError> {
    let touched = tokens::remove(tx, &change.snapshot.tokens.family(token))?;
    Ok(Done::touching(Reply::none(), touched))
}

/// Revokes a token but not its children, which have no parent from then on.
///
/// # Errors
/// The errors of the barrier when a record cannot be read or written.
pub(in crate::core) fn end_alone(tx: &mut Tx<'_>, change: &Change<'_>, token: &Held) -> Result<Done, VaultError> {
    let known = &change.snapshot.tokens;
    let mut touched = tokens::remove(tx, &[token.id])?;
    for id in known.children(&token.record.identity, &token.record.accessor) {
        // Read from the store, because it may have been used or renewed since the index was updated.
        let Some(mut child) = tokens::read(&tx.view(MountId::TOKENS), id)? else { continue };
        child.parent = None;
        touched.extend(tokens::put(tx, known, id, &child, change.now_ms)?);
    }
    Ok(Done::touching(Reply::none(), touched))
}
