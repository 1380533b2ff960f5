//! Strongroom: a secrets vault. Encrypted at rest, served over mutual TLS.
//!
//! ```text
//! cli -> client -> api
//! daemon -> http -> core -> policy, audit, engine -> barrier::View;  core -> barrier -> keys -> crypto
//!                                                                        barrier -> store (trait)
//! ```
//!
//! `docs/ARCHITECTURE.md` is the map; `tests/it/layers.rs` fails on an arrow that it does not allow.
#![forbid(unsafe_op_in_unsafe_fn)]

#[cfg(feature = "client")]
pub mod api;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "client")]
pub mod dotenv;
#[cfg(feature = "client")]
pub mod exec;
#[cfg(feature = "client")]
pub mod wiped;

#[cfg(feature = "verify")]
pub mod audit;
#[cfg(feature = "server")]
pub(crate) mod auth;
#[cfg(feature = "verify")]
pub mod crypto;
#[cfg(feature = "server")]
pub mod daemon;
#[cfg(feature = "enroll")]
pub mod enroll;
#[cfg(feature = "server")]
pub(crate) mod limits;
#[cfg(feature = "verify")]
pub mod os;
#[cfg(feature = "enroll")]
pub mod pki;
#[cfg(feature = "server")]
pub(crate) mod rotate;
// The daemon's inside. Nothing outside this library uses it but our own tests and benches, which turn `testing` on. Without
// it the compiler finds dead code.
#[cfg(all(feature = "server", not(feature = "testing")))]
pub(crate) mod barrier;
#[cfg(feature = "testing")]
pub mod barrier;
#[cfg(all(feature = "server", not(feature = "testing")))]
pub(crate) mod connect;
#[cfg(feature = "testing")]
pub mod connect;
#[cfg(all(feature = "server", not(feature = "testing")))]
pub(crate) mod core;
#[cfg(feature = "testing")]
pub mod core;
#[cfg(all(feature = "server", not(feature = "testing")))]
pub(crate) mod engine;
#[cfg(feature = "testing")]
pub mod engine;
#[cfg(all(feature = "server", not(feature = "testing")))]
pub(crate) mod http;
#[cfg(feature = "testing")]
pub mod http;
#[cfg(all(feature = "server", not(feature = "testing")))]
pub(crate) mod keys;
#[cfg(feature = "testing")]
pub mod keys;
#[cfg(all(feature = "server", not(feature = "testing")))]
pub(crate) mod policy;
#[cfg(feature = "testing")]
pub mod policy;
#[cfg(all(feature = "server", not(feature = "testing")))]
pub(crate) mod store;
#[cfg(feature = "testing")]
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
