//! The order in which every request is handled, and what the audit log learns about it.

mod admit;
pub(super) mod audited;
pub(super) mod barred;
mod change;
mod guarded;
pub(super) mod handle;
mod long;
mod read;
pub(super) mod route;
pub(super) mod waiting;
