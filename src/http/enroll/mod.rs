//! The listener where machines without a certificate get their first one, and where revocation lists are read.
//!
//! TLS 1.3 with the server's certificate only: whoever comes is nobody, and proves with each request that it may have
//! what it asks for. The proof is bound to the connection by the exporter of RFC 9266, so that it is worth nothing to
//! one who stands between. This module knows the wire; the vault decides.

mod refusal;
mod serve;

pub use serve::serve;
