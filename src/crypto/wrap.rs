//! A 32-byte key wrapped under another key, as slots store it (format.md, "Header").
//!
//! The form is `salt32 ‖ commit32 ‖ nonce12 ‖ ct32 ‖ tag16`. Key and commitment are derived from the salt as in a
//! record, so one wrapping key can wrap any number of times.

use super::aead::{NONCE_LEN, Suite, TAG_LEN, open_in_place, seal_in_place};
use super::codec::{Reader, Writer};
use super::derive::record_keys;
use super::hash::{equal, sha256};
use super::{CryptoError, Key, Random};

/// Bytes of a wrapped key.
pub const WRAPPED_LEN: usize = 32 + 32 + NONCE_LEN + 32 + TAG_LEN;

/// Wraps `secret` with `kek`, bound to `aad`.
///
/// # Errors
/// [`CryptoError::Random`] when the random source fails, or an error of the cipher.
pub fn seal(
    kek: &Key,
    suite: Suite,
    aad: &[u8],
    secret: &Key,
    random: &dyn Random,
) -> Result<[u8; WRAPPED_LEN], CryptoError> {
    let mut noise = [0u8; 32 + NONCE_LEN];
    random.fill(&mut noise)?;
    let mut reader = Reader::new(&noise);
    let (salt, nonce) = (reader.array()?, reader.array()?);
    let keys = record_keys(kek, salt, suite.byte(), &sha256(&[aad]));
    let mut sealed = [0u8; 32];
    sealed.copy_from_slice(secret.reveal());
    let tag = seal_in_place(suite, &keys.encrypt, nonce, aad, &mut sealed)?;
    let mut wrapped = Writer::with_capacity(WRAPPED_LEN);
    wrapped.bytes(salt).bytes(&keys.commitment).bytes(nonce).bytes(&sealed).bytes(&tag);
    let mut out = [0; WRAPPED_LEN];
    out.copy_from_slice(wrapped.as_slice());
    Ok(out)
}

/// Unwraps a key. The commitment is compared before the cipher is used. Otherwise a ciphertext that opens with two keys
/// could reveal which of many guesses was right (partitioning oracles, Len et al., 2021).
///
/// # Errors
/// [`CryptoError::WrongKey`] when the commitment differs (another key or other associated data);
/// [`CryptoError::Damaged`] when it matches but the cipher rejects the bytes.
pub fn open(kek: &Key, suite: Suite, aad: &[u8], wrapped: &[u8; WRAPPED_LEN]) -> Result<Key, CryptoError> {
    let mut reader = Reader::new(wrapped);
    let salt = reader.array()?;
    let committed: &[u8; 32] = reader.array()?;
    let nonce = reader.array()?;
    let sealed: &[u8; 32] = reader.array()?;
    let tag = reader.array()?;
    let keys = record_keys(kek, salt, suite.byte(), &sha256(&[aad]));
    if !equal(&keys.commitment, committed) {
        return Err(CryptoError::WrongKey);
    }
    let mut opened = Ok(());
    let secret = Key::fill_with(|out| {
        out.copy_from_slice(sealed);
        opened = open_in_place(suite, &keys.encrypt, nonce, aad, out, tag);
    });
    opened.map_err(|_| CryptoError::Damaged)?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::SeededRandom;

    #[test]
    fn every_flipped_bit_is_refused_and_the_commitment_comes_first() {
        let random = SeededRandom::new(5);
        let (kek, secret) = (Key::random(&random).unwrap(), Key::random(&random).unwrap());
        for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
            let wrapped = seal(&kek, suite, b"place", &secret, &random).unwrap();
            assert!(open(&kek, suite, b"place", &wrapped).unwrap().ct_eq(&secret));
            assert_eq!(open(&secret, suite, b"place", &wrapped).err(), Some(CryptoError::WrongKey));
            assert_eq!(open(&kek, suite, b"elsewhere", &wrapped).err(), Some(CryptoError::WrongKey));
            for bit in 0..WRAPPED_LEN * 8 {
                let mut bad = wrapped;
                bad[bit / 8] ^= 1 << (bit % 8);
                // Salt and commitment, then nonce, ciphertext and tag.
                let wanted = if bit < 64 * 8 { CryptoError::WrongKey } else { CryptoError::Damaged };
                assert_eq!(open(&kek, suite, b"place", &bad).err(), Some(wanted), "bit {bit}");
            }
        }
    }
}
