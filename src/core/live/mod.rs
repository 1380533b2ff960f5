//! What goes on at this moment and is in memory only: open connections, recent changes, who was seen when.

pub(super) mod crl_cache;
pub(super) mod feed;
pub(super) mod places;
pub(super) mod poll;
pub(super) mod sessions;
pub(super) mod sightings;
