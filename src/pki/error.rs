//! What can go wrong while making certificates.

/// Failure of the certificate authority. Carries no key material and no input text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PkiError {
    /// The trust domain is not a valid SPIFFE trust domain.
    #[error("invalid trust domain")]
    TrustDomain,
    /// A server name is neither an IP address nor a plain DNS name, or there are none or too many.
    #[error("invalid server name")]
    ServerName,
    /// The identity belongs to another trust domain.
    #[error("identity belongs to another trust domain")]
    ForeignIdentity,
    /// The life is zero, or ends after the authority itself or after the year 9999.
    #[error("invalid certificate life")]
    Life,
    /// The stored authority cannot be read, is no authority, or its key does not fit.
    #[error("authority is damaged: {0}")]
    Damaged(&'static str),
    /// The signing request is too large, malformed, or not signed by its own key.
    #[error("invalid signing request: {0}")]
    Request(&'static str),
    /// The key in the signing request is of a kind or size that is not accepted.
    #[error("key in the signing request is too weak or of an unsupported kind")]
    WeakKey,
    /// The generator of random bytes failed.
    #[error("no random bytes")]
    Random,
    /// What an outside root's owner sent is not the chain of the authority that was asked for.
    #[error("unusable chain: {0}")]
    Chain(&'static str),
    /// Making a key or a signature failed inside the library.
    #[error("certificate could not be made")]
    Make,
}
