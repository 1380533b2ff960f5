//! The decision: who asks, for what, and whether that is allowed. Pure over the state.

pub(super) mod canonical;
pub(super) mod classes;
pub(super) mod identify;
pub(super) mod target;
