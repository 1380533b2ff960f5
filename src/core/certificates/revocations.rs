//! Revocation lists for peers without a certificate.
//!
//! Making a list opens the authority's key, goes through every valid certificate and signs. Strangers may ask as often
//! as their handshakes allow, so they get a list that is up to a minute old.

use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject as _;

use crate::barrier::MountId;
use crate::pki::{AuthorityId, Revocation};

use super::issue::refusal;
use crate::core::error::VaultError;
use crate::core::state::authorities::{self, AuthorityFacts};
use crate::core::state::snapshot::Snapshot;
use crate::core::vault::{Live, Vault};

/// Time until the next revocation list is due, in milliseconds.
const CRL_LIFE_MS: u64 = 3_600_000;
/// How long a list is reused, in milliseconds.
const FRESH_MS: u64 = 60_000;

/// Returns the list of an accepted authority (by default, of the one that signs) in DER (RFC 5280 section 5).
///
/// # Errors
/// [`VaultError::Sealed`] while sealed; [`VaultError::NotFound`] for an authority that is unknown or not accepted; the
/// errors of [`list_of`].
pub(in crate::core) fn list(vault: &Vault, authority: Option<AuthorityId>) -> Result<Vec<u8>, VaultError> {
    let live = vault.live().ok_or(VaultError::Sealed)?;
    let snapshot = live.snapshot.load_full();
    let facts = match authority {
        None => snapshot.authorities.active().ok_or(VaultError::Integrity)?,
        Some(id) => {
            let found = snapshot.authorities.get(id).filter(|facts| facts.record.stage.verifies());
            found.ok_or(VaultError::NotFound)?
        }
    };
    let now_ms = vault.ports.clock.now_ms();
    // Held while a list is made, so that concurrent callers get the same one.
    let mut lists = live.revocations.lists.lock();
    if let Some((_, list)) = lists.get(&facts.id).filter(|(made_ms, _)| now_ms.abs_diff(*made_ms) < FRESH_MS) {
        return Ok(list.clone());
    }
    lists.retain(|_, (made_ms, _)| now_ms.abs_diff(*made_ms) < FRESH_MS);
    let pem = list_of(&live, &snapshot, facts, now_ms)?;
    let der = CertificateRevocationListDer::from_pem_slice(pem.as_bytes()).map_err(|_| VaultError::Internal)?;
    lists.insert(facts.id, (now_ms, der.to_vec()));
    Ok(der.to_vec())
}

/// Makes the list of one authority, in PEM.
///
/// # Errors
/// [`VaultError::Integrity`] when the authority's record cannot be read; [`VaultError::Internal`] when signing fails.
pub(in crate::core) fn list_of(
    live: &Live,
    snapshot: &Snapshot,
    facts: &AuthorityFacts,
    now_ms: u64,
) -> Result<String, VaultError> {
    let revoked = snapshot.revoked_by(facts.id, now_ms);
    let revoked: Vec<Revocation> = revoked.into_iter().map(|(serial, at_ms)| Revocation { serial, at_ms }).collect();
    let authority = authorities::with_key(&live.barrier.view(MountId::CA), facts)?;
    let number = live.revocations.number(now_ms);
    authority.revocation_list(&revoked, number, now_ms, now_ms.saturating_add(CRL_LIFE_MS)).map_err(refusal)
}
