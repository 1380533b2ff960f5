//! Pure cryptography: record format, key derivation, Argon2id. No I/O, clock, async or serde.
//!
//! `docs/format.md` specifies every byte that this module writes.

#[cfg(feature = "server")]
pub mod aead;
#[cfg(feature = "enroll")]
pub(crate) mod base32;
#[cfg(feature = "server")]
pub mod codec;
#[cfg(feature = "enroll")]
pub mod derive;
#[cfg(feature = "server")]
pub mod envelope;
pub(crate) mod error;
pub mod hash;
#[cfg(feature = "server")]
pub(crate) mod hybrid;
#[cfg(feature = "server")]
pub mod password;
pub mod random;
#[cfg(feature = "server")]
pub mod recovery;
pub mod secret;
#[cfg(feature = "server")]
pub(crate) mod shamir;
pub mod sign;
#[cfg(feature = "server")]
pub(crate) mod wrap;

pub use error::CryptoError;
pub use random::Random;
pub use secret::{Key, SecretBytes};

#[cfg(test)]
#[cfg(feature = "server")]
mod tests;
#[cfg(test)]
#[cfg(feature = "server")]
mod wycheproof;
