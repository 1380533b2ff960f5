//! Rotation of values: a candidate is stored, applied outside, used for real, and only then made current.
//!
//! idle -> staged -> applying -> applied -> verified -> promoted (grace) -> idle; rolling-back and needs-operator beside.
//! Without a target one commit goes from idle to promoted. Every arrow is one commit with its audit entry; an effect
//! outside happens only between two of them. Found in `applying` after a crash, nothing is guessed: the target is asked
//! which value works.

pub(in crate::core) mod effect;
mod fields;
mod machine;
pub(in crate::core) mod record;
mod rotator;
pub(in crate::core) mod view;

pub(in crate::core) use record::Phase;
pub(in crate::core) use rotator::Rotator;
