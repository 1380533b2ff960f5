//! Roles of `auth/cert`: which certificates of outside PKIs may log in, and as what; and the lists of those that may not
//! any more.
//!
//! A role names either one certificate, compared byte by byte, or authorities, each of which must stand proved at the
//! end of the client's chain. The common name alone never admits anybody.

mod body;
mod find;
mod list;
mod role;
mod view;

use super::fields::FieldError;
use super::names::NameError;
use crate::pki::outside::{ListError, OutsideError};

pub use body::LoginBody;
pub use find::{find, proved_anchors};
pub use list::{ListView, decode_list, encode_list, list_body};
pub use role::{Kind, Role, RoleRecord, TokenSettings};
pub use view::RoleView;

/// Longest `certificate` field of a role in bytes: some dozens of certificates.
pub const MAX_PEM_BYTES: usize = 256 * 1024;
/// Most certificates of one role.
pub const MAX_CERTIFICATES: usize = 32;

/// Why a role is refused. Repeats nothing of the request; each text is fit for a 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RoleError {
    /// A field of the body.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// The role's name or one of its policies.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The `certificate` field holds no PEM certificate, too many, or something besides certificates.
    #[error("field \"certificate\" must hold 1 to 32 PEM certificates and nothing else")]
    Pem,
    /// One of the certificates is refused.
    #[error("field \"certificate\": {0}")]
    Certificate(OutsideError),
    /// A client's certificate together with other certificates.
    #[error("field \"certificate\" must hold one client certificate, or certificates of authorities only")]
    Mixed,
    /// An authority has the name or the key of an authority of this vault.
    #[error("field \"certificate\" names an authority of this vault; enrol its clients instead")]
    Own,
    /// A role with authorities and no constraint at all.
    #[error(
        "a role for a whole authority needs a constraint: set allowed_common_names, allowed_uri_sans, allowed_dns_sans \
         or another; \"*\" admits everybody whom the authority certifies"
    )]
    Unconstrained,
    /// An entry of `required_extensions` is not of the form.
    #[error("field \"required_extensions\" must hold texts such as 1.2.3.4:pattern or hex:1.2.3.4:pattern")]
    Extension,
    /// The usual life is longer than the longest.
    #[error("field \"token_ttl\" must not be greater than \"token_max_ttl\"")]
    Lifetimes,
    /// The `crl` field holds neither one PEM list nor base64.
    #[error("field \"crl\" must hold one revocation list, in PEM (X509 CRL) or DER in base64, and nothing else")]
    ListText,
    /// The revocation list is refused.
    #[error("field \"crl\": {0}")]
    List(ListError),
    /// A stored record that this program cannot read.
    #[error("stored role is damaged or of a newer version")]
    Record,
}

#[cfg(test)]
mod tests;
