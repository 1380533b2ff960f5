//! Ed25519 (RFC 8032) for the checkpoints of the audit log.

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use super::Key;

/// Bytes of a public key.
pub const PUBLIC_LEN: usize = 32;
/// Bytes of a signature.
pub const SIGNATURE_LEN: usize = 64;

/// The public key of `seed`.
#[must_use]
pub fn public(seed: &Key) -> [u8; PUBLIC_LEN] {
    SigningKey::from_bytes(seed.reveal()).verifying_key().to_bytes()
}

/// Signs the concatenation of `parts` with the key of `seed`. The caller must delimit the parts.
#[must_use]
pub fn sign(seed: &Key, parts: &[&[u8]]) -> [u8; SIGNATURE_LEN] {
    SigningKey::from_bytes(seed.reveal()).sign(&parts.concat()).to_bytes()
}

/// Whether `signature` was made by `public` over the concatenation of `parts`. Small-order keys and malleable encodings
/// are rejected.
#[must_use]
pub fn verify(public: &[u8; PUBLIC_LEN], parts: &[&[u8]], signature: &[u8; SIGNATURE_LEN]) -> bool {
    VerifyingKey::from_bytes(public)
        .is_ok_and(|key| key.verify_strict(&parts.concat(), &Signature::from_bytes(signature)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, section 7.1, test 2.
    #[test]
    fn the_standard_vector_holds() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
        };
        let seed = hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let seed = Key::fill_with(|out| out.copy_from_slice(&seed));
        assert_eq!(public(&seed).to_vec(), hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"));
        let signature = sign(&seed, &[&[0x72]]);
        let want = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                    085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
        assert_eq!(signature.to_vec(), hex(want));
        assert!(verify(&public(&seed), &[&[0x72]], &signature));
        for at in 0..SIGNATURE_LEN {
            let mut bad = signature;
            bad[at] ^= 1;
            assert!(!verify(&public(&seed), &[&[0x72]], &bad));
        }
        assert!(!verify(&public(&seed), &[&[0x73]], &signature));
    }
}
