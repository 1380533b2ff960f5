//! The two ciphers of format v1, detached and in place. Each key seals exactly once.

use aes_gcm::Aes256Gcm;
use aes_gcm::aead::{AeadInOut, KeyInit};
use chacha20poly1305::ChaCha20Poly1305;

use super::CryptoError;

/// Bytes of a nonce.
pub const NONCE_LEN: usize = 12;
/// Bytes of an authentication tag.
pub const TAG_LEN: usize = 16;

/// Cipher suite of a record, with the number that is stored in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Suite {
    /// 0x01: HKDF-SHA-256 per record, commitment, AES-256-GCM.
    Aes256Gcm = 1,
    /// 0x02: the same with ChaCha20-Poly1305 (RFC 8439).
    ChaCha20Poly1305 = 2,
}

impl Suite {
    /// The number in the format.
    pub fn byte(self) -> u8 {
        match self {
            Self::Aes256Gcm => 1,
            Self::ChaCha20Poly1305 => 2,
        }
    }
}

impl TryFrom<u8> for Suite {
    type Error = CryptoError;

    fn try_from(byte: u8) -> Result<Self, CryptoError> {
        match byte {
            1 => Ok(Self::Aes256Gcm),
            2 => Ok(Self::ChaCha20Poly1305),
            _ => Err(CryptoError::Unsupported("suite")),
        }
    }
}

/// Encrypts `buffer` in place and returns the tag.
///
/// # Errors
/// [`CryptoError::TooLarge`] when the cipher rejects the length (far above every limit of the format).
pub fn seal_in_place(
    suite: Suite,
    key: &[u8; 32],
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    buffer: &mut [u8],
) -> Result<[u8; TAG_LEN], CryptoError> {
    let tag = match suite {
        Suite::Aes256Gcm => Aes256Gcm::new(key.into()).encrypt_inout_detached(nonce.into(), aad, buffer.into()),
        Suite::ChaCha20Poly1305 => {
            ChaCha20Poly1305::new(key.into()).encrypt_inout_detached(nonce.into(), aad, buffer.into())
        }
    };
    tag.map(Into::into).map_err(|_| CryptoError::TooLarge)
}

/// Verifies `tag` and decrypts `buffer` in place.
///
/// # Errors
/// [`CryptoError::Damaged`] when the tag does not verify. Then drop `buffer` without reading it.
pub fn open_in_place(
    suite: Suite,
    key: &[u8; 32],
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    buffer: &mut [u8],
    tag: &[u8; TAG_LEN],
) -> Result<(), CryptoError> {
    let opened = match suite {
        Suite::Aes256Gcm => {
            Aes256Gcm::new(key.into()).decrypt_inout_detached(nonce.into(), aad, buffer.into(), tag.into())
        }
        Suite::ChaCha20Poly1305 => {
            ChaCha20Poly1305::new(key.into()).decrypt_inout_detached(nonce.into(), aad, buffer.into(), tag.into())
        }
    };
    opened.map_err(|_| CryptoError::Damaged)
}
