//! From nothing to a vault, and from a sealed one to an open one and back.

pub(super) mod gate;
pub mod init;
pub(super) mod secret;
pub(super) mod shares;
pub(super) mod status;
pub(super) mod unseal;
