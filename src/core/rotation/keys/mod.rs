//! The keeper: changes slots, root key and data keys while the vault serves.

pub(super) mod keeper;
pub(in crate::core) mod record;
pub(super) mod rekey;
mod sets;
pub(in crate::core) mod slots;
pub(in crate::core) mod terms;
pub(super) mod worker;

pub(in crate::core) use keeper::{Desk, Keeper, Order};
pub(in crate::core) use rekey::Compromised;
pub(in crate::core) use worker::Errand;
