//! Verifies signatures by the keys of certificates over messages that are not certificates.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ED25519, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
    RSA_PSS_2048_8192_SHA512, UnparsedPublicKey, VerificationAlgorithm,
};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519,
};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Whether `signature` was made over `message` by the key of `certificate` (DER) with a TLS SignatureScheme (RFC 8446
/// section 4.2.3). Returns `false` in every other case and never panics.
#[must_use]
pub fn verify_signature(certificate: &[u8], scheme: u16, message: &[u8], signature: &[u8]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return false };
    let spki = certificate.public_key();
    let is_ec = |curve| {
        spki.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
            && spki
                .algorithm
                .parameters
                .as_ref()
                .and_then(|found| found.as_oid().ok())
                .is_some_and(|found| found == curve)
    };
    let is_rsa = spki.algorithm.algorithm == OID_PKCS1_RSAENCRYPTION;
    let (fits, algorithm): (bool, &'static dyn VerificationAlgorithm) = match scheme {
        0x0403 => (is_ec(OID_EC_P256), &ECDSA_P256_SHA256_ASN1),
        0x0503 => (is_ec(OID_NIST_EC_P384), &ECDSA_P384_SHA384_ASN1),
        0x0807 => (spki.algorithm.algorithm == OID_SIG_ED25519, &ED25519),
        0x0804 => (is_rsa, &RSA_PSS_2048_8192_SHA256),
        0x0805 => (is_rsa, &RSA_PSS_2048_8192_SHA384),
        0x0806 => (is_rsa, &RSA_PSS_2048_8192_SHA512),
        _ => return false,
    };
    fits && UnparsedPublicKey::new(algorithm, &spki.subject_public_key.data).verify(message, signature).is_ok()
}
