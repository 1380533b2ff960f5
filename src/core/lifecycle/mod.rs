//! Creating a vault, unsealing and sealing it, and continuing after a loss.

pub mod damage;
pub(super) mod gauges;
pub mod init;
pub(crate) mod losses;
pub(super) mod secret;
pub(super) mod status;
pub(super) mod unseal;
