//! Roles of `auth/cert`: which certificates of outside PKIs may log in, and with which rights. Also the lists of
//! certificates that were revoked.
//!
//! A role names either one certificate, which is compared byte by byte, or authorities, to which the client's chain
//! must provably lead. A common name alone never admits anybody.

mod body;
mod find;
mod list;
mod role;
mod view;

use super::names::NameError;
use crate::api::fields::FieldError;
use crate::pki::outside::{ListError, OutsideError};

pub use body::LoginBody;
pub use find::{find, proved_anchors};
pub use list::{ListView, decode_list, encode_list, list_body};
pub use role::{Kind, Role, RoleRecord};

/// Longest `certificate` field of a role, in bytes: some dozens of certificates.
pub const MAX_PEM_BYTES: usize = 256 * 1024;
/// Largest number of certificates in one role.
pub const MAX_CERTIFICATES: usize = 32;

/// Why a role is rejected. Repeats nothing of the request, and each text can be sent with a 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoleError {
    /// A field of the body is wrong.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The name of the role or of one of its policies is wrong.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The `certificate` field holds no PEM certificate, too many, or something other than certificates.
    #[error("field \"certificate\" must hold 1 to 32 PEM certificates and nothing else")]
    Pem,
    /// One of the certificates is rejected.
    #[error("field \"certificate\": {0}")]
    Certificate(OutsideError),
    /// A client's certificate and other certificates together.
    #[error("field \"certificate\" must hold one client certificate, or certificates of authorities only")]
    Mixed,
    /// An authority has the name or the key of an authority of this vault.
    #[error("field \"certificate\" names an authority of this vault; enrol its clients instead")]
    VaultAuthority,
    /// A role with authorities and no constraint.
    #[error(
        "a role for a whole authority needs a constraint: set allowed_common_names, allowed_uri_sans, allowed_dns_sans \
         or another; \"*\" admits every certificate of the authority"
    )]
    Unconstrained,
    /// An entry of `required_extensions` has the wrong form.
    #[error("field \"required_extensions\" must hold texts such as 1.2.3.4:pattern or hex:1.2.3.4:pattern")]
    Extension,
    /// The default life is longer than the maximum.
    #[error("field \"token_ttl\" must not be greater than \"token_max_ttl\"")]
    Lifetimes,
    /// The `crl` field holds neither one PEM list nor base64.
    #[error("field \"crl\" must hold one revocation list, in PEM (X509 CRL) or DER in base64, and nothing else")]
    ListText,
    /// The revocation list is rejected.
    #[error("field \"crl\": {0}")]
    List(ListError),
    /// This program cannot read a stored record.
    #[error("stored role is damaged or of a newer version")]
    Record,
}

#[cfg(test)]
mod tests;
