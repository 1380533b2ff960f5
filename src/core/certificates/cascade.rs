//! Ends what an identity has: certificates, tokens, enrolment strings.
//!
//! The snapshot is the state before the running group of changes. Effects of earlier changes in the same group are read
//! from the group itself.

use std::collections::BTreeSet;

use crate::api::spiffe::SpiffeId;
use crate::barrier::{MountId, Tx};

use crate::auth::token::TokenId;
use crate::core::error::VaultError;
use crate::core::state::enrolment;
use crate::core::state::identity::MAX_GRACE_S;
use crate::core::state::ledger::{self, Fingerprint, Ledger, Revoked};
use crate::core::state::snapshot::Touch;
use crate::core::state::strings::Strings;
use crate::core::state::tokens::{self, Tokens};

/// Longest time after its expiry in which a certificate may be renewed, in milliseconds.
const GRACE_MS: u64 = MAX_GRACE_S * 1_000;

/// Revokes each certificate of the identity with this path. This includes expired ones that could still be renewed,
/// because the record that limits late renewal may change.
///
/// # Errors
/// The errors of the barrier when a record cannot be read or written; [`VaultError::Integrity`] when one cannot be
/// parsed.
pub(in crate::core) fn certificates(
    tx: &mut Tx<'_>,
    ledger: &Ledger,
    path: &str,
    now_ms: u64,
    reason: &str,
) -> Result<Vec<Touch>, VaultError> {
    let mut all: BTreeSet<Fingerprint> = ledger.of(path).into_iter().map(|(fingerprint, _)| fingerprint).collect();
    let written = tx.view(MountId::CERTIFICATES).written()?;
    all.extend(written.iter().filter_map(|name| ledger::parse_fingerprint(name)));
    let mut ended = Vec::new();
    for fingerprint in all {
        let Some(mut row) = ledger::read(&tx.view(MountId::CERTIFICATES), &fingerprint)? else { continue };
        if row.identity != path || row.revoked.is_some() || row.not_after_ms.saturating_add(GRACE_MS) <= now_ms {
            continue;
        }
        row.revoked = Some(Revoked { at_ms: now_ms, reason: reason.to_owned() });
        ledger::put(tx, &fingerprint, &row)?;
        ended.push(Touch::Certificate(fingerprint));
    }
    Ok(ended)
}

/// Removes all tokens of an identity, so that none of them works again with a later certificate.
///
/// # Errors
/// The errors of the barrier when a record cannot be read or written; [`VaultError::Integrity`] when one cannot be
/// parsed.
pub(in crate::core) fn tokens(tx: &mut Tx<'_>, tokens: &Tokens, identity: &SpiffeId) -> Result<Vec<Touch>, VaultError> {
    let mut all = tokens.of(identity.uri());
    for name in tx.view(MountId::TOKENS).written()? {
        let id = ledger::parse_fingerprint(&name).map(TokenId::from_bytes).ok_or(VaultError::Integrity)?;
        let record = tokens::read(&tx.view(MountId::TOKENS), id)?;
        if record.is_some_and(|record| record.identity == identity.uri()) && !all.contains(&id) {
            all.push(id);
        }
    }
    tokens::remove(tx, &all)
}

/// Removes the enrolment strings of the identity with this path that could still be used. A string without uses left is
/// kept, so that a later attempt with it is noticed.
///
/// # Errors
/// The errors of the barrier when a record cannot be read or written; [`VaultError::Integrity`] when one cannot be
/// parsed.
pub(in crate::core) fn strings(tx: &mut Tx<'_>, strings: &Strings, path: &str) -> Result<Vec<Touch>, VaultError> {
    let mut all: BTreeSet<String> = strings.of(path).into_iter().collect();
    all.extend(tx.view(MountId::ENROLMENTS).written()?);
    let mut ended = Vec::new();
    for id in all {
        let record = enrolment::read(&tx.view(MountId::ENROLMENTS), &id)?;
        if record.is_some_and(|record| record.identity == path && !record.is_used_up()) {
            tx.remove_entry(MountId::ENROLMENTS, &id)?;
            ended.push(Touch::Enrolment(id));
        }
    }
    Ok(ended)
}
