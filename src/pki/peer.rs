//! Identifies the peer: reads the client certificate that TLS has already verified.
//!
//! TLS proves the chain, the dates and the possession of the key. This module decides which identity the leaf names. It
//! rejects every ambiguous leaf by the rules of SPIFFE X.509-SVID sections 2 to 4, and never uses common names.

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::api::spiffe::SpiffeId;
use crate::crypto::hash::sha256;

/// Largest accepted certificate, in bytes of DER.
pub const MAX_CERT_BYTES: usize = 16 * 1024;

/// Facts of a client certificate on which decisions may rely.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The one identity that the certificate names.
    pub identity: SpiffeId,
    /// SHA-256 of the whole certificate in DER.
    pub fingerprint: [u8; 32],
    /// SHA-256 of the SubjectPublicKeyInfo. A renewal with the same key does not change it.
    pub key_fingerprint: [u8; 32],
    /// Serial number as encoded, big-endian.
    pub serial: Vec<u8>,
    /// Valid from, Unix milliseconds.
    pub not_before_ms: u64,
    /// Valid until, Unix milliseconds.
    pub not_after_ms: u64,
}

/// Why a certificate names no acceptable identity. Carries nothing from the certificate.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PeerError {
    /// The bytes are not a certificate in DER, are larger than [`MAX_CERT_BYTES`], or are followed by other bytes.
    #[error("the certificate is malformed")]
    Malformed,
    /// The certificate belongs to a certificate authority, or may sign certificates.
    #[error("the certificate belongs to an authority, not to a client")]
    Authority,
    /// The key usage lacks digitalSignature, or the extended key usage is not exactly clientAuth.
    #[error("the certificate is not for client authentication")]
    Usage,
    /// There is not exactly one URI name, or there are names of another kind.
    #[error("the certificate does not carry exactly one identity")]
    Names,
    /// The URI is not a strict SPIFFE id.
    #[error("the identity is malformed")]
    Identity,
    /// The identity belongs to another trust domain.
    #[error("the identity belongs to another trust domain")]
    ForeignDomain,
    /// The dates are before 1970 or in the wrong order.
    #[error("the certificate has invalid dates")]
    Dates,
}

/// What any certificate says about itself, whatever its purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafFacts {
    /// SHA-256 of the whole certificate in DER.
    pub fingerprint: [u8; 32],
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub key_fingerprint: [u8; 32],
    /// Serial number as encoded, big-endian.
    pub serial: Vec<u8>,
    /// Valid from, Unix milliseconds.
    pub not_before_ms: u64,
    /// Valid until, Unix milliseconds.
    pub not_after_ms: u64,
}

/// Reads the facts of a certificate without checking them. Any bytes give facts or an error.
///
/// # Errors
/// [`PeerError::Malformed`] when it is not a certificate or too long; [`PeerError::Dates`] for dates that make no
/// sense.
pub fn facts(der: &[u8]) -> Result<LeafFacts, PeerError> {
    if der.len() > MAX_CERT_BYTES {
        return Err(PeerError::Malformed);
    }
    let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| PeerError::Malformed)?;
    if !rest.is_empty() {
        return Err(PeerError::Malformed);
    }
    facts_of(der, &parsed)
}

fn facts_of(der: &[u8], parsed: &X509Certificate<'_>) -> Result<LeafFacts, PeerError> {
    let ms = |seconds: i64| u64::try_from(seconds).ok().and_then(|s| s.checked_mul(1000)).ok_or(PeerError::Dates);
    let not_before_ms = ms(parsed.validity().not_before.timestamp())?;
    let not_after_ms = ms(parsed.validity().not_after.timestamp())?;
    if not_after_ms < not_before_ms {
        return Err(PeerError::Dates);
    }
    Ok(LeafFacts {
        fingerprint: sha256(&[der]),
        key_fingerprint: sha256(&[parsed.public_key().raw]),
        serial: parsed.raw_serial().to_vec(),
        not_before_ms,
        not_after_ms,
    })
}

/// Parses the leaf certificate `der` and returns the identity that it names in `trust_domain`.
///
/// Any bytes give a [`Peer`] or an error, never a panic. Does not check the chain, the signature or the dates. TLS has
/// done so, and the caller compares `not_after_ms` at each request.
///
/// # Errors
/// The first [`PeerError`] that applies.
pub fn inspect(der: &[u8], trust_domain: &str) -> Result<Peer, PeerError> {
    if der.len() > MAX_CERT_BYTES {
        return Err(PeerError::Malformed);
    }
    let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| PeerError::Malformed)?;
    if !rest.is_empty() {
        return Err(PeerError::Malformed);
    }
    // One reader could use a second copy of an extension that another one skips (RFC 5280 section 4.2).
    parsed.extensions_map().map_err(|_| PeerError::Malformed)?;

    let constraints = parsed.basic_constraints().map_err(|_| PeerError::Malformed)?;
    if constraints.is_some_and(|found| found.value.ca) {
        return Err(PeerError::Authority);
    }
    let usage = parsed.key_usage().map_err(|_| PeerError::Malformed)?.ok_or(PeerError::Usage)?;
    if usage.value.key_cert_sign() || usage.value.crl_sign() {
        return Err(PeerError::Authority);
    }
    let extended = parsed.extended_key_usage().map_err(|_| PeerError::Malformed)?.ok_or(PeerError::Usage)?.value;
    // Exactly clientAuth: the key of a certificate for two purposes could be stolen from one and used for the other.
    let other = extended.any
        || extended.server_auth
        || extended.code_signing
        || extended.email_protection
        || extended.time_stamping
        || extended.ocsp_signing
        || !extended.other.is_empty();
    if !usage.value.digital_signature() || !extended.client_auth || other {
        return Err(PeerError::Usage);
    }

    let names = parsed.subject_alternative_name().map_err(|_| PeerError::Malformed)?.ok_or(PeerError::Names)?;
    let [GeneralName::URI(uri)] = names.value.general_names.as_slice() else {
        return Err(PeerError::Names);
    };
    let identity = SpiffeId::parse(uri).map_err(|_| PeerError::Identity)?;
    // The parser accepts no wildcards. This checks again, because a wildcard here would be fatal.
    if uri.contains('*') || identity.uri() != *uri {
        return Err(PeerError::Identity);
    }
    if identity.trust_domain() != trust_domain {
        return Err(PeerError::ForeignDomain);
    }

    let LeafFacts { fingerprint, key_fingerprint, serial, not_before_ms, not_after_ms } = facts_of(der, &parsed)?;
    Ok(Peer { identity, fingerprint, key_fingerprint, serial, not_before_ms, not_after_ms })
}
