//! What the store must contain, kept in memory. It decides what exists, what is listed and which content is accepted
//! (amendment M8).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::crypto::CryptoError;
use crate::crypto::envelope::{self, HEAD_LEN, Head, PREFIX_LEN};

use super::names::StoreKey;

/// Identifies the content of a record: its clear head and its commitment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub head: [u8; HEAD_LEN],
    pub commitment: [u8; 32],
}

impl Stamp {
    /// Takes the stamp from a record, or from its first bytes.
    ///
    /// # Errors
    /// [`CryptoError`] when the bytes do not follow the format.
    pub(super) fn of(record: &[u8]) -> Result<Self, CryptoError> {
        envelope::head(record)?;
        let head = record.first_chunk().copied().ok_or(CryptoError::Malformed("data ends too early"))?;
        if record.len() < PREFIX_LEN {
            return Err(CryptoError::Malformed("data ends too early"));
        }
        Ok(Self { head, commitment: envelope::commitment(record)? })
    }

    /// Returns the fields of the head.
    ///
    /// # Errors
    /// [`CryptoError`]. This cannot happen for a stamp made by [`Stamp::of`].
    pub(super) fn head(&self) -> Result<Head, CryptoError> {
        envelope::head(&self.head)
    }
}

/// All records of the published state.
pub(super) type Index = BTreeMap<StoreKey, Stamp>;

/// Old bytes of records that a group in flight has overwritten or deleted in the store.
pub(super) type Shadow = HashMap<StoreKey, Arc<Vec<u8>>>;
