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
#[cfg(feature = "server")]
pub mod barrier;
#[cfg(feature = "server")]
pub mod connect;
#[cfg(feature = "server")]
pub mod core;
#[cfg(feature = "verify")]
pub mod crypto;
#[cfg(feature = "server")]
pub mod daemon;
#[cfg(feature = "server")]
pub mod engine;
#[cfg(feature = "enroll")]
pub mod enroll;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod keys;
#[cfg(feature = "server")]
pub(crate) mod limits;
#[cfg(feature = "verify")]
pub mod os;
#[cfg(feature = "enroll")]
pub mod pki;
#[cfg(feature = "server")]
pub mod policy;
#[cfg(feature = "server")]
pub(crate) mod rotate;
#[cfg(feature = "server")]
pub mod store;
#[cfg(feature = "testing")]
pub mod testing;
