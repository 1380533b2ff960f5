//! Why the certificate of a caller is not admitted.

use crate::api::error::Reason;
use crate::core::error::VaultError;

/// The first reason that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) enum Barred {
    CertificateExpired,
    CertificateNotYetValid,
    ForeignTrustDomain,
    AuthorityNotTrusted,
    CertificateOnRevocationList,
    CertificateRevoked,
    /// All certificates of the identity were revoked that were issued before some time.
    CertificateOlderThanAllowed,
    IdentityFrozen,
    IdentityDisabled,
}

impl Barred {
    /// The word for the audit log and the operator's log.
    pub(in crate::core) fn word(self) -> &'static str {
        match self {
            Self::CertificateExpired => "certificate-expired",
            Self::CertificateNotYetValid => "certificate-not-yet-valid",
            Self::ForeignTrustDomain => "foreign-trust-domain",
            Self::AuthorityNotTrusted => "authority-not-trusted",
            Self::CertificateOnRevocationList => "certificate-on-revocation-list",
            Self::CertificateRevoked => "certificate-revoked",
            Self::CertificateOlderThanAllowed => "certificate-older-than-allowed",
            Self::IdentityFrozen => "identity-frozen",
            Self::IdentityDisabled => "identity-disabled",
        }
    }

    /// The error for the caller. Every caller has proved the key of its certificate in TLS, so it may know why that
    /// certificate is not admitted. Of two reasons it learns nothing: no client can do anything about them.
    pub(in crate::core) fn denial(self) -> VaultError {
        match self {
            Self::IdentityFrozen => VaultError::NotAdmitted(Reason::Frozen),
            Self::IdentityDisabled => VaultError::NotAdmitted(Reason::Disabled),
            Self::CertificateRevoked | Self::CertificateOlderThanAllowed | Self::CertificateOnRevocationList => {
                VaultError::NotAdmitted(Reason::Revoked)
            }
            Self::AuthorityNotTrusted => VaultError::NotAdmitted(Reason::AuthorityEnded),
            Self::CertificateExpired => VaultError::NotAdmitted(Reason::CertificateExpired),
            Self::CertificateNotYetValid | Self::ForeignTrustDomain => VaultError::Forbidden,
        }
    }
}
