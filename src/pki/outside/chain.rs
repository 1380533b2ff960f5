//! Proves that a client's chain ends at a certain authority.

use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{OutsideAuthority, OutsideFacts};

/// Largest number of certificates that a client may send after its own.
pub const MAX_CHAIN: usize = 8;

/// Whether rustls accepts a certificate (DER) as a root.
pub(super) fn is_root(der: &[u8]) -> bool {
    RootCertStore::empty().add(CertificateDer::from(der)).is_ok()
}

/// Whether a path from the client's certificate, through the intermediates that it sent, ends at exactly `anchor` (a
/// certificate in DER) at `now_ms` (Unix milliseconds).
///
/// The verifier of rustls checks the path with `anchor` as its only root (RFC 5280, 6.1: signatures, dates, path
/// lengths, name constraints, clientAuth). It uses only the name and key of a root, so the root's dates and CA flag are
/// checked here. Revocation lists are not checked.
#[must_use]
pub fn issued_under(facts: &OutsideFacts, anchor: &[u8], now_ms: u64) -> bool {
    let Ok(authority) = OutsideAuthority::read(anchor) else { return false };
    if !(authority.not_before_ms..=authority.not_after_ms).contains(&now_ms) {
        return false;
    }
    let mut roots = RootCertStore::empty();
    if roots.add(CertificateDer::from(anchor)).is_err() {
        return false;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(default_provider())).build();
    let Ok(verifier) = verifier else { return false };
    let between: Vec<CertificateDer<'_>> = facts.chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let now = UnixTime::since_unix_epoch(Duration::from_millis(now_ms));
    verifier.verify_client_cert(&CertificateDer::from(facts.der.as_slice()), &between, now).is_ok()
}
