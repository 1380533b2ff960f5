//! What must hold for paths and for JSON from outside, whatever the input (feature `testing`).

pub(crate) mod json;
pub(crate) mod path;
