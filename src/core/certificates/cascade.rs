//! What ends with an identity, or with all that it has so far: certificates, tokens, enrolment strings.
//!
//! Memory knows the state before the running group of changes; what an earlier change of the same group has made is read
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

/// Longest time after its end in which a certificate may be renewed, milliseconds.
const GRACE_MS: u64 = MAX_GRACE_S * 1_000;

/// Revokes by name every certificate that the identity with this path has, also those that have ended and that a renewal
/// after the end could still be asked for with: how long that is allowed stands in a record that may change.
///
/// # Errors
/// Those of the barrier; [`VaultError::Integrity`].
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

/// Removes all tokens of an identity, so that none of them comes back to life with a later certificate.
///
/// # Errors
/// Those of the barrier; [`VaultError::Integrity`].
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

/// Removes the enrolment strings of the identity with this path that could be used once more. One that is used up is kept:
/// whoever comes with it is noticed.
///
/// # Errors
/// Those of the barrier; [`VaultError::Integrity`].
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
