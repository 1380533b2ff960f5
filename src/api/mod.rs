//! Types of the protocol: serde only; no I/O, no clock.
//!
//! Everything that requests and replies contain, for the daemon and the client: the only path type, identities, bounded
//! JSON, durations, times, and the bodies of Vault's v1 protocol.

pub mod approvals;
pub mod duration;
pub mod enroll;
pub mod error;
pub mod fields;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
pub mod hex;
pub mod identities;
pub mod json;
pub mod kv;
pub mod mark;
pub mod page;
pub mod path;
pub mod reply;
pub mod request;
pub mod rotation;
pub mod secret;
pub mod spiffe;
pub mod sys;
pub mod time;
