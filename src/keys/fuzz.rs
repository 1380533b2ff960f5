//! What must hold for key slots and headers, whatever the bytes (feature `testing`).

pub(crate) mod header;
pub(crate) mod slot;
