//! Logins and tokens: what a role admits and what a token allows, as pure functions over records.
//!
//! No store, no clock, no network: the core supplies records and the time, and this module decides.

pub mod cert;
pub mod cidr;
pub mod glob;
mod names;
pub mod token;

pub use names::role_name;
