//! Rotation of secret values, the part that only computes: how a new value is generated, when the next one is due, what
//! an operator may configure, and which version has which label. No I/O, no clock, no store.
//!
//! A [`policy::Policy`] belongs to one key of one path. It names a [`generate::Generator`] and optionally a
//! [`schedule::Schedule`]. [`labels::Labels`] says which of the key's versions is current.

pub mod generate;
pub mod labels;
pub mod policy;
pub mod schedule;
mod span;

/// Whether `name` is a valid name of a target: 1 to 64 of `a-z`, `0-9`, `-` and `_`, starting with a letter or digit.
#[must_use]
pub fn is_target_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    bytes.len() <= 64
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(byte))
}
