//! The single integration binary; one module per subject.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::type_complexity, missing_docs)]
mod admin;
mod audit;
mod badinput;
mod barrier;
mod certificates;
mod cli;
mod connect;
mod crash;
mod daemon;
mod dev;
mod enroll;
mod flood;
mod formats;
mod kv;
mod layers;
mod policy;
mod rotation;
mod rotation_cli;
mod sessions;
mod slots;
mod store;
mod support;
mod tls;
mod trust;
mod watch;
mod wire;
