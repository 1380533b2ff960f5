//! Ending what an identity has: one certificate, or all of them with its tokens and open enrolment strings. The identity
//! stays registered and can enrol again.

use crate::api::hex::hex;
use crate::api::spiffe::SpiffeId;
use crate::barrier::{MountId, Tx};

use super::register::edit;
use crate::core::certificates::cascade;
use crate::core::error::VaultError;
use crate::core::pipeline::route::Change;
use crate::core::state::ledger::{self, Revoked};
use crate::core::state::snapshot::Touch;

/// Revokes all certificates and tokens of the identity in the path of the request, and its open enrolment strings.
/// Returns what the snapshot must read again.
///
/// # Errors
/// [`VaultError::NotFound`] when it is not registered; the errors of the barrier; [`VaultError::Integrity`].
pub(in crate::core) fn all(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Vec<Touch>, VaultError> {
    let tokens = end_tokens(tx, change)?;
    let strings = cascade::strings(tx, &change.snapshot.strings, &change.tail)?;
    let mut touched = vec![edit(tx, &change.tail, |record| record.end_all(change.now_ms))?];
    touched.extend(tokens);
    touched.extend(strings);
    Ok(touched)
}

/// Revokes the certificate of that identity with this serial number or fingerprint, hexadecimal with or without colons.
/// One that is already revoked keeps its time and reason.
///
/// # Errors
/// [`VaultError::BadRequest`] when the identity has no such certificate; the errors of the barrier.
pub(in crate::core) fn one(
    tx: &mut Tx<'_>,
    change: &Change<'_>,
    named: &str,
    reason: String,
) -> Result<Touch, VaultError> {
    let wanted: String = named.chars().filter(|c| *c != ':').collect::<String>().to_ascii_lowercase();
    let all = change.snapshot.ledger.of(&change.tail);
    let found = all.iter().find(|(fingerprint, facts)| facts.serial == wanted || hex(fingerprint) == wanted);
    let unknown =
        || VaultError::BadRequest("the identity has no certificate with that serial or fingerprint".to_owned());
    let (fingerprint, _) = found.ok_or_else(unknown)?;
    let mut row = ledger::read(&tx.view(MountId::CERTIFICATES), fingerprint)?.ok_or_else(unknown)?;
    row.revoked.get_or_insert(Revoked { at_ms: change.now_ms, reason });
    ledger::put(tx, fingerprint, &row)?;
    Ok(Touch::Certificate(*fingerprint))
}

/// Revokes all tokens of the identity in the path of the request.
pub(super) fn end_tokens(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Vec<Touch>, VaultError> {
    let Ok(identity) = SpiffeId::new(&change.settings.trust_domain, &change.tail) else { return Ok(Vec::new()) };
    cascade::tokens(tx, &change.snapshot.tokens, &identity)
}
