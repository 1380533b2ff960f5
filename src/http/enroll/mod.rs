//! Where machines without a certificate get their first one, and lists of revoked ones are read.
//!
//! TLS 1.3 with the server's certificate only: whoever comes is nobody, and proves with each request that it may have
//! what it asks for. The proof is bound to the connection by the exporter of RFC 9266, so that it is worth nothing to
//! one who stands between. This module knows the wire; an [`Enroller`] decides.

mod serve;
mod wire;

use std::net::SocketAddr;
use std::pin::Pin;

use serde::Serialize;

use crate::pki::AuthorityId;

pub use serve::serve;

/// The connection that a request came over.
#[derive(Clone, Copy, Debug)]
pub struct Channel {
    /// Exported keying material of the connection, label `EXPORTER-Channel-Binding`, no context (RFC 9266).
    pub exporter: [u8; 32],
    /// The peer's address.
    pub remote: SocketAddr,
}

/// `POST sys/strongroom/enroll`.
pub struct Enroll {
    /// Names the enrolment.
    pub id: [u8; 16],
    /// The certificate request, PEM, as it was sent: not looked at yet.
    pub csr: String,
    /// HMAC that proves the secret of the enrolment string.
    pub proof: [u8; 32],
    /// Where it came from.
    pub channel: Channel,
}

/// `POST sys/strongroom/enroll/renew`: for one whose certificate has run out.
pub struct GraceRenewal {
    /// The certificate that has run out, PEM, as it was sent: nothing about it has been verified.
    pub certificate: String,
    /// The certificate request, PEM, as it was sent: not looked at yet.
    pub csr: String,
    /// Signature of the old key, at most 1 KiB.
    pub proof: Vec<u8>,
    /// TLS SignatureScheme of the signature (RFC 8446 section 4.2.3).
    pub scheme: u16,
    /// Where it came from.
    pub channel: Channel,
}

/// What a machine gets.
#[derive(Clone, Debug, Serialize)]
pub struct Enrolled {
    /// Certificate chain, PEM, the machine's own first.
    pub certificate: String,
    /// The authorities to trust, PEM.
    pub ca: String,
    /// Those of them that vouch for the listener alone, PEM.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub server_ca: String,
    /// The identity in the certificate, a SPIFFE id.
    pub identity: String,
    /// End of the certificate's validity, RFC 3339.
    pub not_after: String,
    /// Where the vault serves, `host:port`.
    pub addresses: Vec<String>,
    /// Where this listener is reached, `host:port`; after a renewal.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub enroll: Vec<String>,
}

/// Why a machine gets nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnrollError {
    /// 403, the same for every reason. Its source waits longer each time.
    #[error("enrolment refused")]
    Refused,
    /// 400: what was sent cannot be read. Its source waits as after a refusal.
    #[error("{0}")]
    Malformed(&'static str),
    /// 404: no such authority, or none that is accepted.
    #[error("no such authority")]
    Unknown,
    /// 429 with `Retry-After`.
    #[error("too many requests")]
    TooMany {
        /// When to come back, seconds.
        retry_after_s: u64,
    },
    /// 503: sealed, or not ready.
    #[error("{0}")]
    Unavailable(&'static str),
}

/// A decision that takes its time.
pub type Decision<'a, T> = Pin<Box<dyn Future<Output = Result<T, EnrollError>> + Send + 'a>>;

/// Decides who gets a certificate. It is asked about every well-formed request, from anybody.
pub trait Enroller: Send + Sync + 'static {
    /// A first certificate.
    fn enroll(&self, asked: Enroll) -> Decision<'_, Enrolled>;

    /// A certificate in place of one that has run out.
    fn renew(&self, asked: GraceRenewal) -> Decision<'_, Enrolled>;

    /// The list of revoked certificates of an authority, or of the one that signs, DER (RFC 5280 section 5).
    fn revoked(&self, authority: Option<AuthorityId>) -> Decision<'_, Vec<u8>>;
}
