//! Errors of sealing, opening and parsing. No variant carries a secret.

/// Error of the `crypto` module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
    /// The operating system's random source failed. Nothing was sealed.
    #[error("the random source failed")]
    Random,
    /// The bytes violate the format. The text names the field.
    #[error("malformed data: {0}")]
    Malformed(&'static str),
    /// This version does not know the format, suite or kind.
    #[error("unsupported {0}")]
    Unsupported(&'static str),
    /// The clear head of a record differs from what the caller expects here.
    #[error("the record belongs elsewhere: {0} differs")]
    Context(&'static str),
    /// The commitment does not match: the key or the context is a different one.
    #[error("wrong key or context")]
    WrongKey,
    /// The commitment matches but the authentication tag does not: the record is damaged.
    #[error("authentication failed")]
    Damaged,
    /// The body does not fit the largest padding bucket.
    #[error("the body is larger than the limit")]
    TooLarge,
    /// The Argon2 parameters are undefined or above the ceilings.
    #[error("password parameters out of range: {0}")]
    Parameters(&'static str),
    /// There is not enough memory for a computation.
    #[error("not enough memory")]
    Memory,
    /// A passphrase is empty, too long, or has an unassigned code point.
    #[error("the passphrase is rejected: {0}")]
    Passphrase(&'static str),
}
