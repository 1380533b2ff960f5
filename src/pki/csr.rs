//! Certificate requests (PKCS#10, RFC 2986) from outside.

use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519,
};
use x509_parser::prelude::{FromDer, X509CertificationRequest};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::error::PkiError;
use crate::crypto::hash::sha256;

/// Largest accepted signing request, in bytes of PEM. An RSA-8192 request takes about 3 KiB.
pub const MAX_CSR_BYTES: usize = crate::api::enroll::MAX_CSR_BYTES;

/// A request with an acceptable key, signed by that key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csr {
    /// The whole request, DER.
    pub der: Vec<u8>,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub key_fingerprint: [u8; 32],
    /// The SubjectPublicKeyInfo, DER.
    pub(super) key: Vec<u8>,
}

/// Parses a request. Only its public key is used: subject, names, usages and every other extension are ignored.
///
/// # Errors
/// [`PkiError::Request`] if the request is larger than [`MAX_CSR_BYTES`], malformed or not signed by its own key.
/// [`PkiError::WeakKey`] unless the key is P-256, P-384, Ed25519 or RSA of 3072 to 8192 bits with an odd exponent of at
/// least 65537.
pub fn read_csr(pem: &str) -> Result<Csr, PkiError> {
    let der = csr_der(pem)?;
    let (rest, csr) = X509CertificationRequest::from_der(&der).map_err(|_| PkiError::Request("malformed"))?;
    if !rest.is_empty() {
        return Err(PkiError::Request("trailing bytes"));
    }
    let spki = &csr.certification_request_info.subject_pki;
    accept_key(spki)?;
    csr.verify_signature().map_err(|_| PkiError::Request("signature does not match its key"))?;
    let (key_fingerprint, key) = (sha256(&[spki.raw]), spki.raw.to_vec());
    Ok(Csr { der, key_fingerprint, key })
}

/// Converts a request in PEM to DER. Nothing else is checked.
///
/// # Errors
/// [`PkiError::Request`] if the text is larger than [`MAX_CSR_BYTES`] or not a request in PEM.
pub fn csr_der(pem: &str) -> Result<Vec<u8>, PkiError> {
    if pem.len() > MAX_CSR_BYTES {
        return Err(PkiError::Request("too large"));
    }
    let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes());
    der.map(|der| der.to_vec()).map_err(|_| PkiError::Request("not a certificate request in PEM"))
}

/// Accepts only certain kinds of key. The size is checked before the signature, so an oversized key costs nothing.
fn accept_key(spki: &SubjectPublicKeyInfo<'_>) -> Result<(), PkiError> {
    let kind = &spki.algorithm.algorithm;
    let good = if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = spki.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        curve.is_some_and(|curve| curve == OID_EC_P256 || curve == OID_NIST_EC_P384)
    } else if *kind == OID_SIG_ED25519 {
        spki.subject_public_key.data.len() == 32
    } else if *kind == OID_PKCS1_RSAENCRYPTION {
        match spki.parsed() {
            Ok(PublicKey::RSA(key)) => {
                let exponent = key.try_exponent().unwrap_or(0);
                (3072..=8192).contains(&modulus_bits(key.modulus)) && exponent >= 65_537 && exponent % 2 == 1
            }
            _ => false,
        }
    } else {
        false
    };
    if good { Ok(()) } else { Err(PkiError::WeakKey) }
}

/// Counts the significant bits of a big-endian number. Leading zero bytes do not make a key longer.
fn modulus_bits(modulus: &[u8]) -> usize {
    let zeros = modulus.iter().take_while(|byte| **byte == 0).count();
    let top = modulus.get(zeros).map_or(0, |byte| byte.leading_zeros() as usize);
    (modulus.len() - zeros) * 8 - top
}
