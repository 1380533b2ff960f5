//! What must hold for records, the state and the anchor, whatever the bytes (feature `testing`).

pub(crate) mod anchor;
pub(crate) mod record;
pub(crate) mod state;
