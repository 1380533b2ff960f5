//! Shared fixtures: the daemon as a process, a server inside the test, raw TLS connections.

pub mod postgres;
pub mod process;
pub mod raw;
pub mod server;
