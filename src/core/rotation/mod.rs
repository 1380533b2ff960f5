//! Rotation: every key of the vault and every value with a policy, changed while the vault serves.
//!
//! Two threads do the slow work: the keeper derives keys and re-encrypts records, and the rotator talks to targets
//! outside. Both only prepare. The committer makes each change, in one commit per transition together with its audit
//! entry. Both read their progress from the records themselves, so a kill needs no repair and the next unseal
//! continues.

pub(super) mod desk;
pub(super) mod keys;
pub(super) mod orders;
pub(super) mod values;
mod worker;

pub(super) use desk::Desk;
pub(super) use keys::{Debt, Keeper};
pub(super) use orders::{Errand, Order, ValueErrand};
pub(super) use values::{Phase, Rotator};
