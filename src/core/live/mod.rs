//! State that exists only in memory: open connections, recent changes, and when each identity was last seen.

pub(super) mod crl_cache;
pub(super) mod damage;
pub(super) mod feed;
pub(super) mod gate;
pub(super) mod places;
pub(super) mod poll;
pub(super) mod rollbacks;
pub(super) mod seldom;
pub(super) mod sessions;
pub(super) mod shares;
pub(super) mod sightings;
pub(super) mod verifier;
