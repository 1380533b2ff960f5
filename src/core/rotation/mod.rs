//! Rotation: every key of the vault and every value with a policy, changed while the vault serves.
//!
//! Two threads do what takes long: the keeper derives keys and seals records anew, the rotator talks to targets outside.
//! Both only prepare; what changes is changed by the committer, one commit together with its audit entry per transition.
//! Both read how far they are from the records themselves, so a kill needs no repair: the next unseal goes on.

mod keeper;
pub(super) mod record;
mod rekey;
mod sets;
pub(super) mod slots;
pub(super) mod terms;
pub(super) mod value;
mod worker;

pub(super) use keeper::{Desk, Keeper, Order};
pub(super) use rekey::Compromised;
pub(super) use value::{Phase, Rotator, ValueErrand, ValueOrder, ValueRow};
pub(super) use worker::Errand;
