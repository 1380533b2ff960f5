//! Rotation: every key of the vault and every value with a policy, changed while the vault serves.
//!
//! Two threads do what takes long: the keeper derives keys and seals records anew, the rotator talks to targets outside.
//! Both only prepare; what changes is changed by the committer, one commit together with its audit entry per transition.
//! Both read how far they are from the records themselves, so a kill needs no repair: the next unseal goes on.

pub(super) mod desk;
pub(super) mod keys;
pub(super) mod orders;
pub(super) mod values;
mod worker;

pub(super) use desk::Desk;
pub(super) use keys::{Debt, Keeper};
pub(super) use orders::{Errand, Order, ValueErrand};
pub(super) use values::{Phase, Rotator};
