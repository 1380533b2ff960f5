//! From an index entry to an opened body. Every byte that a caller reads passes through here.

use std::sync::Arc;

use crate::crypto::envelope::{self, Context, Kind};
use crate::crypto::{CryptoError, Key, SecretBytes};

use super::error::BarrierError;
use super::index::Stamp;
use super::names::StoreKey;
use super::open::Barrier;

/// Bytes of a published record, with the stamp against which they were checked.
pub(super) struct Fetched {
    pub stamp: Stamp,
    pub bytes: Arc<Vec<u8>>,
}

impl Barrier {
    /// Returns the published record under `key`, as stored. `None` when the index has none; then the store is not
    /// asked.
    ///
    /// # Errors
    /// [`BarrierError::Integrity`] when the store's content differs from the index, and [`BarrierError::Store`] when it
    /// cannot be read. Writes stop from then on, unless the store is only not available.
    pub(super) fn fetch(&self, key: &StoreKey) -> Result<Option<Fetched>, BarrierError> {
        loop {
            let stamp = {
                let published = self.published.read();
                let Some(stamp) = published.index.get(key) else { return Ok(None) };
                if let Some(bytes) = published.shadow.get(key) {
                    return Ok(Some(Fetched { stamp: *stamp, bytes: Arc::clone(bytes) }));
                }
                *stamp
            };
            let stored = self.store.get(key.as_bytes()).map_err(|error| self.unread(error))?;
            let missing = stored.is_none();
            if let Some(stored) = stored
                && Stamp::of(&stored.value).is_ok_and(|found| found == stamp)
            {
                return Ok(Some(Fetched { stamp, bytes: Arc::new(stored.value) }));
            }
            // A group between engine commit and publishing changes the store under the index. It puts the old bytes
            // into the shadow first, and changes the index afterwards. If neither explains the difference, the store is
            // wrong.
            let published = self.published.read();
            if published.index.get(key) == Some(&stamp) && !published.shadow.contains_key(key) {
                drop(published);
                return Err(self.degrade(if missing {
                    "a record is missing"
                } else {
                    "a record is not the one that the index names"
                }));
            }
        }
    }

    /// Opens a fetched record. `version_key` is the key of a secret version, `None` for records under a term.
    ///
    /// # Errors
    /// [`CryptoError`] when it cannot be opened. The caller decides whether that is an integrity error.
    pub(super) fn open(
        &self,
        key: &StoreKey,
        path: &[u8],
        version_key: Option<&Key>,
        record: &Fetched,
    ) -> Result<SecretBytes, CryptoError> {
        let head = record.stamp.head()?;
        let ring = self.ring.load();
        let under = |term| ring.keyring.term(term).and_then(|term| term.key.live()).ok_or(CryptoError::Context("term"));
        let (kind, ikm) = match (key.letter(), version_key) {
            (b'd', None) => (Kind::Node, under(head.term)?),
            (b'e', None) => (Kind::Entry, under(head.term)?),
            (b'v', Some(version_key)) => (Kind::Value, version_key),
            _ => return Err(CryptoError::Context("kind")),
        };
        let context = Context {
            suite: head.suite,
            kind,
            term: head.term,
            version: head.version,
            generation: head.generation,
            vault_id: self.vault.as_bytes(),
            store_key: key.as_bytes(),
            path,
        };
        envelope::open(ikm, &context, &record.bytes)
    }

    /// Fetches and opens a record under a term.
    ///
    /// # Errors
    /// The errors of [`Barrier::fetch`]. A record that cannot be opened is an integrity error.
    pub(super) fn body(&self, key: &StoreKey, path: &[u8]) -> Result<Option<SecretBytes>, BarrierError> {
        loop {
            let Some(record) = self.fetch(key)? else { return Ok(None) };
            if let Ok(body) = self.open(key, path, None, &record) {
                return Ok(Some(body));
            }
            // Since it was fetched, the record may have been resealed and its old term destroyed.
            if self.published.read().index.get(key) == Some(&record.stamp) {
                return Err(self.degrade("a record does not open"));
            }
        }
    }
}
