//! The order in which every request is handled, and what the audit log learns about it.

mod admit;
pub(super) mod audited;
mod barred;
mod change;
mod guarded;
pub(super) mod handle;
mod long;
pub(super) mod mark;
mod read;
pub(super) mod route;
pub(super) mod waiting;
