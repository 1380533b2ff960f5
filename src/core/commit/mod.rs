//! The only code that writes: a thread that commits all waiting changes as one group.

pub(super) mod change;
pub(super) mod committer;
pub(in crate::core) mod outcomes;
