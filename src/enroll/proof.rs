//! Knowledge of the string's secret, proved without sending it.
//!
//! The proof is a MAC over the exporter of the TLS connection (RFC 5705, RFC 9266) and the certificate request: it is
//! worth nothing on another connection, so nobody in between can use it, and for no other key.

use zeroize::Zeroizing;

use crate::crypto::hash::{equal, hmac_sha256, sha256};

/// Label of the exporter, RFC 9266 section 4; empty context, 32 bytes.
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

const KEY_INFO: &[u8] = b"strongroom enroll v1";
const GRACE: &[u8] = b"strongroom grace renewal v1";

/// What the vault keeps instead of the secret: HKDF-SHA-256 (RFC 5869) with an empty salt, one block.
#[must_use]
pub fn proof_key(secret: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let extracted = Zeroizing::new(hmac_sha256(&[0; 32], &[secret]));
    Zeroizing::new(hmac_sha256(extracted.as_slice(), &[KEY_INFO, &[1]]))
}

/// The proof for a connection and a request in DER.
#[must_use]
pub fn proof(key: &[u8; 32], exporter: &[u8; 32], csr_der: &[u8]) -> [u8; 32] {
    hmac_sha256(key, &[b"enroll", exporter, &sha256(&[csr_der])])
}

/// Whether `given` is that proof; constant time.
#[must_use]
pub fn proof_fits(key: &[u8; 32], exporter: &[u8; 32], csr_der: &[u8], given: &[u8; 32]) -> bool {
    equal(&proof(key, exporter, csr_der), given)
}

/// What the key of an expired certificate signs to get the next one.
#[must_use]
pub fn grace_message(exporter: &[u8; 32], csr_der: &[u8]) -> Vec<u8> {
    [GRACE, exporter, &sha256(&[csr_der])].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_fits_one_key_connection_and_request() {
        let key = proof_key(&[7; 32]);
        let given = proof(&key, &[1; 32], b"request");
        assert!(proof_fits(&key, &[1; 32], b"request", &given));
        assert!(!proof_fits(&key, &[2; 32], b"request", &given), "another connection");
        assert!(!proof_fits(&key, &[1; 32], b"requesT", &given), "another request");
        assert!(!proof_fits(&proof_key(&[8; 32]), &[1; 32], b"request", &given), "another secret");
    }

    #[test]
    fn the_key_is_hkdf() {
        // RFC 5869: Extract with a salt of HashLen zeros, Expand to one block; computed independently with Python's hmac.
        let hex: String = proof_key(&[7; 32]).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "3eb6a7637a0d48855ab4b7dff432886b01c15ed158e0919ea4247acf6f083456");
    }
}
