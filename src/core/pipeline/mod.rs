//! The order in which every request is handled, and what the audit log learns of it.

pub(super) mod audited;
pub(super) mod handle;
mod long;
pub(super) mod route;
pub(super) mod waiting;
