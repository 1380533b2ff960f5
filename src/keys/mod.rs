//! The key hierarchy as plain values: slots, header, keyring. No I/O.
//!
//! `docs/format.md` specifies every byte that this module writes.

pub(crate) mod error;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
pub(crate) mod header;
pub(crate) mod keyring;
pub(crate) mod root;
pub(crate) mod share;
pub(crate) mod slot;

pub use error::HeaderError;
pub use header::{Header, Opened};
pub use keyring::{AuditKey, Keyring, Term, TermState};
#[cfg(any(test, feature = "testing"))]
pub use keyring::{AuditState, IntegritySet, TermKey};
pub use root::{HeaderKeys, RootKey, VaultId};
pub use share::{Share, ShareError};
pub use slot::{NewSlot, Slot, Unlock, WeakKdf};

#[cfg(test)]
mod tests;
