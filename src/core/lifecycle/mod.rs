//! From nothing to a vault, and from a sealed one to an open one.

pub mod init;
pub(super) mod shares;
pub(super) mod unseal;
