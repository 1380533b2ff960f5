//! The keys of an open vault: what the next header changes, sealing records under newer keys, and the proof that an old
//! term is no longer used.

pub(super) mod drained;
pub(super) mod header;
pub(super) mod rewrap;
pub(super) mod ring;
pub(super) mod watches;
