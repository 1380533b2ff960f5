//! The decision: who requests what, and whether that is allowed. Pure functions of the state.

pub(super) mod canonical;
pub(super) mod classes;
pub(super) mod identify;
pub(super) mod target;
