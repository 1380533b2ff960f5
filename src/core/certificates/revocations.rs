//! Revocation lists for peers without a certificate, and the numbers of all lists.
//!
//! Making one opens the authority's key, goes through every living certificate and signs. A stranger may ask as often as
//! his handshakes allow, so what he gets is up to a minute old.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustls_pki_types::CertificateRevocationListDer;
use rustls_pki_types::pem::PemObject as _;

use crate::pki::AuthorityId;

use crate::core::Vault;
use crate::core::error::VaultError;
use crate::core::routes::sys::ca::list_of;

/// For how long a list is given out again, milliseconds.
const FRESH_MS: u64 = 60_000;

/// What is kept while the vault is open.
#[derive(Default)]
pub(in crate::core) struct Revocations {
    /// The last number given to a list.
    number: AtomicU64,
    /// When it was made, and the list, DER.
    lists: Mutex<HashMap<AuthorityId, (u64, Vec<u8>)>>,
}

impl Revocations {
    /// The number of the next list: the time, so that it grows over a restart as well, and always more than the one before
    /// (RFC 5280 section 5.2.3), also when two are made in one millisecond or the clock goes back.
    pub(in crate::core) fn number(&self, now_ms: u64) -> u64 {
        let next = |last: u64| now_ms.max(last.saturating_add(1));
        let last = self.number.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |last| Some(next(last)));
        next(last.unwrap_or_else(|last| last))
    }
}

/// The list of one authority that is accepted, or of the one that signs, DER (RFC 5280 section 5).
///
/// # Errors
/// [`VaultError::Sealed`]; [`VaultError::NotFound`] for an authority that is unknown or not accepted; those of [`list_of`].
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
    // Held while one is made: those who ask meanwhile get the same.
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
