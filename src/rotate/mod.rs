//! Rotation of secret values, the part that only computes: what a new value looks like, when the next one is due,
//! what an operator may ask for, and which version carries which label. No I/O, no clock, no store.
//!
//! A [`policy::Policy`] stands beside one key of one path. It names a [`generate::Generator`] and perhaps a
//! [`schedule::Schedule`]; [`labels::Labels`] says which of the key's versions is current.

pub mod generate;
pub mod labels;
pub mod policy;
pub mod schedule;
mod span;

/// Whether `name` may name a configured target: 1 to 64 of `a-z`, `0-9`, `-` and `_`, not beginning with a sign.
#[must_use]
pub fn is_target_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() <= 64
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(byte))
}
