//! Rotating the data key and values, and what expires.

pub mod expiry;
pub mod rotate;
pub mod rotation;
pub mod value;
