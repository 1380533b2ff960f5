//! The holder's side of issuing: a key generated where it is used, the signing request for it, and reading the answer.

use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ED25519};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::authority::Pair;
use super::error::PkiError;
use super::issue::{BACKDATE_MS, pem_key};
use super::peer::MAX_CERT_BYTES;
use crate::api::secret::SecretText;
use crate::crypto::hash::sha256;

/// Kinds of key that can be generated here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyType {
    /// ECDSA on P-256 (FIPS 186-5).
    #[default]
    P256,
    /// Ed25519 (RFC 8032).
    Ed25519,
}

/// A new private key and the request to certify it, both in PEM. The key is wiped on drop.
pub struct Request {
    /// The private key in PKCS#8.
    pub key_pem: SecretText,
    /// The signing request in PKCS#10, which is public.
    pub csr_pem: String,
}

/// Generates a key with the operating system's random source, and a request for it.
///
/// The request names nobody, because the server decides who the holder is.
///
/// # Errors
/// [`PkiError::Make`] when the library fails.
pub fn request(kind: KeyType) -> Result<Request, PkiError> {
    let algorithm = match kind {
        KeyType::P256 => &PKCS_ECDSA_P256_SHA256,
        KeyType::Ed25519 => &PKCS_ED25519,
    };
    let pair = Pair::of(KeyPair::generate_for(algorithm).map_err(|_| PkiError::Make)?);
    Ok(Request { key_pem: pem_key(&pair), csr_pem: csr_of(&pair)? })
}

/// Makes a request for an existing key, in PEM.
///
/// # Errors
/// [`PkiError::Damaged`] when the text is not a private key in PEM of a kind that can sign; [`PkiError::Make`] when the
/// library fails.
pub fn request_for(key_pem: &SecretText) -> Result<String, PkiError> {
    let der = PrivateKeyDer::from_pem_slice(key_pem.reveal().as_bytes()).map_err(|_| PkiError::Damaged("key"))?;
    csr_of(&Pair::of(KeyPair::try_from(&der).map_err(|_| PkiError::Damaged("key"))?))
}

fn csr_of(pair: &Pair) -> Result<String, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let csr = params.serialize_request(pair.key()).map_err(|_| PkiError::Make)?;
    csr.pem().map_err(|_| PkiError::Make)
}

/// What the holder of a certificate wants to know about it. Nothing here is proved: see
/// [`peer::inspect`](super::peer::inspect) for what a server may believe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The only URI name, as written in the certificate; `None` when there is none or more than one name.
    pub identity: Option<String>,
    /// SHA-256 of the certificate in DER.
    pub fingerprint: [u8; 32],
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub key_fingerprint: [u8; 32],
    /// Kind of the key; `None` for one that cannot be generated here.
    pub key_type: Option<KeyType>,
    /// Valid from, Unix milliseconds.
    pub not_before_ms: u64,
    /// Valid until, Unix milliseconds.
    pub not_after_ms: u64,
}

impl Leaf {
    /// Time of issue in Unix milliseconds. Certificates are backdated by [`BACKDATE_MS`] so that clocks which are
    /// behind accept them. That time does not count as life.
    #[must_use]
    pub fn issued_ms(&self) -> u64 {
        self.not_before_ms.saturating_add(BACKDATE_MS).min(self.not_after_ms)
    }
}

/// Parses the first certificate of a chain in PEM. Any bytes give facts or an error.
///
/// # Errors
/// [`PkiError::Damaged`] when there is no certificate, or it is larger than [`MAX_CERT_BYTES`] or malformed.
pub fn leaf(chain_pem: &[u8]) -> Result<Leaf, PkiError> {
    let damaged = PkiError::Damaged("certificate");
    let Ok(der) = CertificateDer::from_pem_slice(chain_pem) else { return Err(damaged) };
    match X509Certificate::from_der(&der) {
        Ok(([], parsed)) if der.len() <= MAX_CERT_BYTES => read_leaf(&der, &parsed).ok_or(damaged),
        _ => Err(damaged),
    }
}

fn read_leaf(der: &[u8], parsed: &X509Certificate<'_>) -> Option<Leaf> {
    let ms = |seconds: i64| u64::try_from(seconds).ok()?.checked_mul(1000);
    let names = parsed.subject_alternative_name().ok()?;
    let identity = match names.map(|names| names.value.general_names.as_slice()) {
        Some([GeneralName::URI(uri)]) => Some((*uri).to_owned()),
        _ => None,
    };
    let algorithm = &parsed.public_key().algorithm;
    let curve = algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    let key_type = match curve {
        Some(curve) if algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY => {
            (curve == OID_EC_P256).then_some(KeyType::P256)
        }
        _ => (algorithm.algorithm == OID_SIG_ED25519).then_some(KeyType::Ed25519),
    };
    Some(Leaf {
        key_type,
        identity,
        fingerprint: sha256(&[der]),
        key_fingerprint: sha256(&[parsed.public_key().raw]),
        not_before_ms: ms(parsed.validity().not_before.timestamp())?,
        not_after_ms: ms(parsed.validity().not_after.timestamp())?,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::api::spiffe::SpiffeId;
    use crate::crypto::random::SeededRandom;
    use x509_parser::prelude::X509CertificationRequest;

    use crate::pki::{Authority, MAX_CSR_BYTES, csr_der, read_csr};

    const NOW: u64 = 1_800_000_000_000;

    #[test]
    fn both_kinds_are_certified_and_found_again() {
        let authority = Authority::create("example.org", Arc::new(SeededRandom::new(1)), NOW, 86_400).unwrap();
        let web = SpiffeId::new("example.org", "app/web").unwrap();
        for kind in [KeyType::P256, KeyType::Ed25519] {
            let made = request(kind).unwrap();
            let pem = authority.sign_csr(&made.csr_pem, &web, NOW, 3600).unwrap();
            let leaf = leaf(pem.as_bytes()).unwrap();
            assert_eq!(leaf.identity.as_deref(), Some("spiffe://example.org/app/web"));
            assert_eq!((leaf.not_before_ms, leaf.not_after_ms), (NOW - BACKDATE_MS, NOW + 3_600_000));
            assert_eq!(leaf.key_type, Some(kind));
            assert_eq!(leaf.key_fingerprint, read_csr(&made.csr_pem).unwrap().key_fingerprint);
            let again = request_for(&made.key_pem).unwrap();
            assert_eq!(leaf.key_fingerprint, read_csr(&again).unwrap().key_fingerprint);
            assert_ne!(leaf.key_fingerprint, read_csr(&request(kind).unwrap().csr_pem).unwrap().key_fingerprint);
        }
    }

    #[test]
    fn a_request_names_nobody() {
        let der = csr_der(&request(KeyType::P256).unwrap().csr_pem).unwrap();
        let (_, csr) = X509CertificationRequest::from_der(&der).unwrap();
        let info = &csr.certification_request_info;
        assert_eq!(info.subject.iter().count(), 0);
        assert!(csr.requested_extensions().is_none_or(|mut extensions| extensions.next().is_none()));
        csr.verify_signature().unwrap();
    }

    #[test]
    fn other_texts_are_refused() {
        let key = request(KeyType::P256).unwrap();
        assert!(csr_der(key.key_pem.reveal()).is_err());
        assert!(csr_der(&" ".repeat(MAX_CSR_BYTES + 1)).is_err());
        assert!(request_for(&SecretText::from(key.csr_pem.as_str())).is_err());
        assert_eq!(leaf(key.csr_pem.as_bytes()), Err(PkiError::Damaged("certificate")));
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_at(bytes: Vec<u8>) {
            let text = String::from_utf8_lossy(&bytes);
            let pem = |label: &str| {
                use base64::Engine as _;
                let body = base64::engine::general_purpose::STANDARD.encode(&bytes);
                format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
            };
            prop_assert!(read_csr(&text).is_err());
            prop_assert!(read_csr(&pem("CERTIFICATE REQUEST")).is_err());
            prop_assert!(leaf(&bytes).is_err() && leaf(pem("CERTIFICATE").as_bytes()).is_err());
            prop_assert!(request_for(&SecretText::new(pem("PRIVATE KEY"))).is_err());
        }
    }
}
