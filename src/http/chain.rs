//! Checks a server certificate before it replaces one that works.

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::ServeError;

const fn bad(problem: &'static str) -> ServeError {
    ServeError::Tls(problem)
}

/// Checks that the next certificate signed each certificate of `chain` (leaf first), and that the leaf is for a server.
///
/// # Errors
/// [`ServeError::Tls`] with the reason when the chain cannot be used.
pub(super) fn check(chain: &[CertificateDer<'_>]) -> Result<(), ServeError> {
    let parsed = chain.iter().map(|der| parse(der)).collect::<Result<Vec<_>, _>>()?;
    let leaf = parsed.first().ok_or(bad("the server certificate is not PEM"))?;
    if leaf.is_ca() {
        return Err(bad("the server certificate is an authority's: the server's own comes first in the file"));
    }
    let usage = leaf.extended_key_usage().map_err(|_| bad("the server certificate is malformed"))?;
    if usage.is_some_and(|usage| !usage.value.server_auth && !usage.value.any) {
        return Err(bad("the server certificate is not for servers"));
    }
    for (below, above) in parsed.iter().zip(parsed.iter().skip(1)) {
        if !signed_by(below, above) {
            return Err(bad("the server certificate's chain is out of order or incomplete"));
        }
    }
    Ok(())
}

/// Checks the dates of every certificate of `chain`.
///
/// # Errors
/// [`ServeError::Tls`] when one of them is not valid at `now_ms`, Unix milliseconds.
pub(super) fn check_dates(chain: &[CertificateDer<'_>], now_ms: u64) -> Result<(), ServeError> {
    let now = i64::try_from(now_ms / 1000).map_err(|_| bad("the clock is wrong"))?;
    for der in chain {
        let validity = parse(der)?.validity().clone();
        if now < validity.not_before.timestamp() {
            return Err(bad("the server certificate is not valid yet"));
        }
        if now > validity.not_after.timestamp() {
            return Err(bad("the server certificate has expired"));
        }
    }
    Ok(())
}

/// Finds the first of `anchors` (DER) to which `chain` (leaf first) leads. Returns the index of the certificate that the
/// anchor signed, and the anchor itself. The shortest path counts, as it does for clients.
pub(super) fn meets<'a>(
    chain: &[CertificateDer<'_>],
    anchors: impl Iterator<Item = &'a [u8]> + Clone,
) -> Option<(usize, &'a [u8])> {
    chain.iter().enumerate().find_map(|(index, der)| {
        let below = parse(der).ok()?;
        let anchor = anchors.clone().find(|anchor| parse(anchor).is_ok_and(|above| signed_by(&below, &above)))?;
        Some((index, anchor))
    })
}

/// Whether a certificate belongs to an authority, and whether it is self-signed.
///
/// # Errors
/// [`ServeError::Tls`] when it cannot be read.
pub(super) fn is_authority(der: &[u8]) -> Result<(bool, bool), ServeError> {
    let parsed = parse(der)?;
    Ok((parsed.is_ca(), signed_by(&parsed, &parsed)))
}

fn signed_by(below: &X509Certificate<'_>, above: &X509Certificate<'_>) -> bool {
    above.is_ca()
        && below.issuer().as_raw() == above.subject().as_raw()
        && below.verify_signature(Some(above.public_key())).is_ok()
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, ServeError> {
    match X509Certificate::from_der(der) {
        Ok(([], parsed)) => Ok(parsed),
        _ => Err(bad("the server certificate is malformed")),
    }
}
