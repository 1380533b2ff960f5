//! The decision: who asks, for what, and whether that is allowed. Pure over the state.

pub(super) mod approvals;
pub(super) mod canonical;
pub(super) mod target;
