//! From nothing to a vault, from a sealed one to an open one and back, and on after a loss.

pub mod init;
pub mod losses;
pub(super) mod secret;
pub(super) mod status;
pub(super) mod unseal;
