//! The vault itself: its state, its key slots and its audit trail.

pub mod audit;
pub mod losses;
pub mod rekey;
pub mod seal;
pub mod slot;
pub mod status;
pub mod unseal;
pub mod verify;
