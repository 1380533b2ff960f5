//! Errors of the certificate authority.

/// Failure of the certificate authority. Carries no key material and no input text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PkiError {
    /// The trust domain is not a valid SPIFFE trust domain.
    #[error("invalid trust domain")]
    TrustDomain,
    /// There are no server names or too many, or one is neither an IP address nor a plain DNS name.
    #[error("invalid server name")]
    ServerName,
    /// The identity belongs to another trust domain.
    #[error("identity belongs to another trust domain")]
    ForeignIdentity,
    /// The life is zero, or ends after the authority itself or after the year 9999.
    #[error("invalid certificate life")]
    Life,
    /// The stored authority cannot be parsed, is not an authority, or has a key that does not match.
    #[error("authority is damaged: {0}")]
    Damaged(&'static str),
    /// The signing request is too large, malformed, or not signed by its own key.
    #[error("invalid signing request: {0}")]
    Request(&'static str),
    /// A key of this kind or size is not accepted.
    #[error("key in the signing request is too weak or of an unsupported kind")]
    WeakKey,
    /// The random source failed.
    #[error("the random source failed")]
    Random,
    /// The answer to an authority's request is not its chain to an outside root.
    #[error("the certificate chain is rejected: {0}")]
    Chain(&'static str),
    /// Making a key or a signature failed in the library.
    #[error("the certificate could not be created")]
    Make,
}
