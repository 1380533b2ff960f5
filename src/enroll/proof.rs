//! Proofs of possession of an enrolment string or an old key, for one TLS connection and one signing request.
//!
//! Both proofs cover keying material of the connection (RFC 9266, channel binding `tls-exporter`), so they are useless
//! on another connection. They cover the request too, so they are useless for another key.

use crate::crypto::Key;
use crate::crypto::derive::hkdf;
use crate::crypto::hash::{equal, hmac_sha256, sha256};

/// Label of the TLS exporter, used with an empty context and 32 bytes (RFC 9266 section 4.2).
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
/// Bytes of exported keying material.
pub const EXPORTER_BYTES: usize = 32;

const KEY_INFO: &[u8] = b"strongroom enroll v1";
const ENROLL: &[u8] = b"enroll";
const GRACE: &[u8] = b"strongroom grace renewal v1";

/// The key that proves an enrolment: HKDF-SHA-256 of the string's secret. The server stores this instead of the secret.
pub struct ProofKey(Key);

impl ProofKey {
    /// Derives the key from a string's secret.
    #[must_use]
    pub fn derive(secret: &Key) -> Self {
        Self(hkdf(&[], secret.reveal(), &[KEY_INFO]))
    }

    /// Takes over a stored key.
    #[must_use]
    pub fn from_key(key: Key) -> Self {
        Self(key)
    }

    /// The key, for sealing.
    #[must_use]
    pub fn reveal(&self) -> &[u8; 32] {
        self.0.reveal()
    }

    /// The proof for the signing request `csr_der` on the connection with this `exporter`.
    #[must_use]
    pub fn proof(&self, exporter: &[u8; EXPORTER_BYTES], csr_der: &[u8]) -> [u8; 32] {
        hmac_sha256(self.0.reveal(), &[ENROLL, exporter, &sha256(&[csr_der])])
    }

    /// Whether `proof` is the proof for this request on this connection. Runs in constant time.
    #[must_use]
    pub fn verify(&self, exporter: &[u8; EXPORTER_BYTES], csr_der: &[u8], proof: &[u8; 32]) -> bool {
        equal(&self.proof(exporter, csr_der), proof)
    }
}

/// The message that the old key signs to renew an expired certificate for the signing request `csr_der`.
#[must_use]
pub fn grace_message(exporter: &[u8; EXPORTER_BYTES], csr_der: &[u8]) -> Vec<u8> {
    [GRACE, exporter, &sha256(&[csr_der])].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> ProofKey {
        ProofKey::derive(&Key::fill_with(|out| *out = [byte; 32]))
    }

    fn hex(bytes: &[u8]) -> String {
        data_encoding::HEXLOWER.encode(bytes)
    }

    // Made with Python's hmac and hashlib.
    #[test]
    fn the_bytes_are_fixed() {
        assert_eq!(hex(key(3).reveal()), KEY);
        assert_eq!(hex(&key(3).proof(&[4; 32], b"csr")), PROOF);
        let message = grace_message(&[4; 32], b"csr");
        assert!(message.starts_with(b"strongroom grace renewal v1\x04\x04") && message.len() == GRACE.len() + 64);
    }

    proptest! {
        #[test]
        fn only_the_same_proof_counts(exporter: [u8; 32], csr: Vec<u8>, flip in 0_usize..256, other: [u8; 32]) {
            let proof = key(1).proof(&exporter, &csr);
            prop_assert!(key(1).verify(&exporter, &csr, &proof));
            prop_assert!(!key(2).verify(&exporter, &csr, &proof));
            prop_assert!(other == exporter || !key(1).verify(&other, &csr, &proof));
            let longer: Vec<u8> = csr.iter().copied().chain([0]).collect();
            prop_assert!(!key(1).verify(&exporter, &longer, &proof));
            let mut wrong = proof;
            wrong[flip / 8] ^= 1 << (flip % 8);
            prop_assert!(!key(1).verify(&exporter, &csr, &wrong));
        }
    }

    const KEY: &str = "76c0d5ed3bd602edea8efd088d27d6243e3da6ca6a5b71949bbad0ecccaf3566";
    const PROOF: &str = "b6eef1e27d2d9cb6e0eaac741509d86e840ddd4f15e1416070d58bfd806372c4";
}
