//! Certificates: the vault's CA, issuing, reading identities. No I/O.
//!
//! An identity is one SPIFFE id in the only URI name of a certificate; common names are never read. The
//! certificate authority lives inside the vault and speaks for exactly one trust domain.
//!
//! The authority carries no URI name constraint: rustls-webpki does not implement that form and refuses every
//! leaf below such an authority (`tests.rs` keeps the proof). [`peer::inspect`] compares the trust domain instead.

mod authority;
mod crl;
mod csr;
mod error;
mod issue;
pub mod outside;
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
