//! What goes on at this moment and is in memory only: open connections, recent changes, who was seen when, shares typed so
//! far, delays after failures.

pub(super) mod crl_cache;
pub(super) mod feed;
pub(super) mod gate;
pub(super) mod places;
pub(super) mod poll;
pub(super) mod sessions;
pub(super) mod shares;
pub(super) mod sightings;
