//! Why a header cannot be read, opened or written.

use crate::crypto::CryptoError;

use super::share::ShareError;

/// Error of the `keys` module. No variant reveals more about a secret than that it is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// No slot that was tried opens with this secret. A damaged slot looks the same.
    #[error("wrong secret")]
    WrongSecret,
    /// The bytes violate the format, or fail authentication with the root key.
    #[error("the vault header is damaged: {0}")]
    Damaged(&'static str),
    /// The header was written by a later version, or uses something that this version does not know.
    #[error("the vault header needs a newer version: {0}")]
    TooNew(&'static str),
    /// A slot's key derivation costs less than the floor. It opens only with explicit permission.
    #[error("the slot's key derivation is weaker than the minimum")]
    WeakKdf,
    /// A slot's key derivation costs more than the ceiling, or needs more memory than there is.
    #[error("the slot's key derivation costs too much: {0}")]
    KdfTooCostly(&'static str),
    /// The header has no slot for this type of secret.
    #[error("the vault header has no slot of this type")]
    NoSlotOfType,
    /// The header only has slots of reserved types, which this version cannot open.
    #[error("slot type {0} is reserved and cannot be opened by this version")]
    ReservedSlot(u8),
    /// A key file must be 32 to 65536 bytes long.
    #[error("a key file must have 32 to 65536 bytes")]
    KeyFileSize,
    /// Only a hybrid slot can be sealed again without its secret.
    #[error("this slot cannot be sealed again without its secret")]
    SecretNeeded,
    /// A share does not match, or shares are missing.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// The content to be written violates a limit of the format.
    #[error("the header cannot be written: {0}")]
    Limit(&'static str),
    /// The random source, memory or a cryptographic primitive failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// Errors of reading unauthenticated header bytes.
pub(crate) fn parsing(error: CryptoError) -> HeaderError {
    match error {
        CryptoError::Malformed(what) => HeaderError::Damaged(what),
        CryptoError::Unsupported(what) => HeaderError::TooNew(what),
        other => HeaderError::Crypto(other),
    }
}
