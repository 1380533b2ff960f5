//! What can go wrong while sealing, opening and parsing. No variant carries a secret.

/// Error of the `crypto` module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// The random source of the operating system failed; nothing was sealed.
    #[error("the random source failed")]
    Random,
    /// Bytes do not follow the format; the text names the field.
    #[error("malformed data: {0}")]
    Malformed(&'static str),
    /// A format, suite or kind that this version does not know.
    #[error("unsupported {0}")]
    Unsupported(&'static str),
    /// The clear head of a record differs from what the caller expects at this place.
    #[error("the record belongs elsewhere: {0} differs")]
    Context(&'static str),
    /// The commitment does not match: another key, or another context.
    #[error("wrong key or context")]
    WrongKey,
    /// The commitment matches but the authentication tag does not: the record is damaged.
    #[error("authentication failed")]
    Damaged,
    /// The body does not fit the largest padding bucket.
    #[error("the body is larger than the limit")]
    TooLarge,
    /// Argon2 parameters outside what the function is defined for or above the ceilings.
    #[error("password parameters out of range: {0}")]
    Parameters(&'static str),
    /// The memory that a computation needs cannot be had.
    #[error("not enough memory")]
    Memory,
    /// A passphrase is empty, too long, or holds a code point without an assigned meaning.
    #[error("passphrase refused: {0}")]
    Passphrase(&'static str),
}
