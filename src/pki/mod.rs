//! Certificates: the vault's CA, issuing, and reading identities. No I/O.
//!
//! An identity is the one SPIFFE id in the only URI name of a certificate. Common names are never used. The certificate
//! authority lives inside the vault and certifies exactly one trust domain.
//!
//! The authority carries no URI name constraint, because rustls-webpki does not implement that form and rejects every
//! leaf below such an authority (`tests.rs` proves it). [`peer::inspect`] compares the trust domain instead.

mod authority;
mod crl;
mod csr;
mod error;
mod issue;
#[cfg(feature = "server")]
pub(crate) mod outside;
pub mod peer;
mod request;
#[cfg(feature = "server")]
mod signature;
mod trust;

#[cfg(test)]
mod tests;

pub use authority::{AUTHORITY_LIFE_S, Authority};
pub use crl::Revocation;
pub use csr::{Csr, MAX_CSR_BYTES, csr_der, read_csr};
pub use error::PkiError;
pub use issue::{BACKDATE_MS, Bundle, SERVER_LIFE_S};
pub use request::{KeyType, Leaf, Request, leaf, request, request_for};
#[cfg(feature = "server")]
pub use signature::verify_signature;
pub use trust::{
    Anchor, AuthorityId, ServerFacts, Trust, bundle_id, bundle_id_of, key_fingerprint, not_after_ms, pem, server_facts,
    subject_of,
};
