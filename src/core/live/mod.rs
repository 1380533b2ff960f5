//! What goes on at this moment and is in memory only: open connections, recent changes, who was seen when.

pub(super) mod events;
pub(super) mod feed;
pub(super) mod sessions;
pub(super) mod sightings;
