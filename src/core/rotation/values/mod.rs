//! Rotation of values: a candidate is stored, applied outside, tested by using it, and only then made current.
//!
//! idle -> staged -> applying -> applied -> verified -> promoted (grace) -> idle. The other states are rolling-back and
//! needs-operator. Without a target one commit goes from idle to promoted. Every arrow is one commit with its audit
//! entry, and an effect outside happens only between two of them. After a crash in `applying` nothing is guessed: the
//! target is asked which value works.

mod bodies;
pub(in crate::core) mod effect;
mod fields;
mod machine;
pub(in crate::core) mod record;
mod rotator;
pub(in crate::core) mod view;

pub(in crate::core) use record::Phase;
pub(in crate::core) use rotator::Rotator;
