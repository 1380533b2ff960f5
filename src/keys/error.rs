//! Why a header cannot be read, opened or written.

use crate::crypto::CryptoError;

use super::share::ShareError;

/// Error of the `keys` module. No variant tells more about a secret than that it is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// No slot that was tried opens with this secret (a damaged slot looks the same).
    #[error("wrong secret")]
    WrongSecret,
    /// The bytes do not follow the format, or fail authentication under the root key.
    #[error("the vault header is damaged: {0}")]
    Damaged(&'static str),
    /// Written by a later version, or uses something that this one does not know.
    #[error("the vault header needs a newer version: {0}")]
    TooNew(&'static str),
    /// A slot asks for less work than the floor; opening needs an explicit permission.
    #[error("the key derivation of the slot is weaker than the floor")]
    WeakKdf,
    /// A slot asks for more work than the ceiling, or more memory than there is.
    #[error("the key derivation of the slot asks for too much: {0}")]
    KdfTooCostly(&'static str),
    /// The header has no slot of the type that the secret belongs to.
    #[error("the vault header has no slot of this type")]
    NoSlotOfType,
    /// The header has slots of reserved types only, which this version cannot open.
    #[error("slot type {0} is reserved and cannot be opened by this version")]
    ReservedSlot(u8),
    /// The header belongs to another vault.
    #[error("the header belongs to another vault")]
    Foreign,
    /// A key file is not 32 to 65536 bytes long.
    #[error("a key file holds 32 to 65536 bytes")]
    KeyFileSize,
    /// Only a hybrid slot can be sealed again without its secret.
    #[error("this slot cannot be sealed again without its secret")]
    SecretNeeded,
    /// A share does not fit, or shares are missing.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// What is to be written breaks a limit of the format.
    #[error("the header cannot be written: {0}")]
    Limit(&'static str),
    /// Random source, memory or a primitive failed.
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
