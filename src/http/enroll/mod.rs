//! The listener where machines without a certificate get their first one, and where revocation lists are read.
//!
//! TLS 1.3 with the server's certificate only: callers have no identity yet and must prove with each request that they may
//! get a certificate. The proof is bound to the connection by the exporter of RFC 9266, so it is useless to a man in the
//! middle. This module handles the protocol; the vault decides.

mod refusal;
mod serve;

pub use serve::serve;
