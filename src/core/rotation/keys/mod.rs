//! The keeper: changes slots, the root key and data keys while the vault serves.

mod bodies;
mod compromised;
pub(in crate::core) mod config;
mod cost;
mod keeper;
pub(in crate::core) mod record;
mod rekey;
mod sets;
pub(in crate::core) mod slots;
mod terms;
pub(in crate::core) mod view;

pub(in crate::core) use compromised::Debt;
pub(in crate::core) use keeper::Keeper;
