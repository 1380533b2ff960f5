//! Reads one mount, either as published or with the changes of a group on top.

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::crypto::derive::label;
use crate::crypto::{CryptoError, SecretBytes};

use super::error::BarrierError;
use super::names::{Id, MAX_PATH_BYTES, MountId, StoreKey, bound, parent_of, segments};
use super::node::{Node, decode_entry, decode_value};
use super::open::Barrier;
use super::overlay::{Change, Overlay};
use super::tally::Tally;

/// Number of keys that are taken from the index under one lock.
const AT_ONCE: usize = 512;

/// A view of one mount. Paths are relative to it and have no slash at either end; `""` is its root folder.
#[derive(Clone, Copy)]
pub struct View<'a> {
    barrier: &'a Barrier,
    overlay: Option<&'a Overlay>,
    mount: MountId,
    root: Id,
    tally: Option<&'a Tally>,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// Name inside the folder.
    pub name: String,
    /// Whether there is a secret of this name.
    pub has_secret: bool,
    /// Whether there is a folder of this name.
    pub is_folder: bool,
}

/// A record of an engine that is not a secret of a tree.
pub struct EntryValue {
    /// Content.
    pub value: SecretBytes,
    /// Expiry in Unix milliseconds; 0 means none. The format has it, but nothing uses it yet.
    #[cfg_attr(not(any(test, feature = "testing")), expect(dead_code, reason = "part of the format"))]
    pub not_after_ms: u64,
}

impl Barrier {
    /// Reads the published state of one mount.
    #[must_use]
    pub fn view(&self, mount: MountId) -> View<'_> {
        View::new(self, None, mount)
    }
}

impl<'a> View<'a> {
    pub(super) fn new(barrier: &'a Barrier, overlay: Option<&'a Overlay>, mount: MountId) -> Self {
        Self { barrier, overlay, mount, root: barrier.names.root(&mount), tally: None }
    }

    /// Returns the same view, which counts what is opened for listings and stops when nobody waits for it any more.
    #[must_use]
    pub fn counted(self, tally: &'a Tally) -> Self {
        Self { tally: Some(tally), ..self }
    }

    /// Returns the node at `path`, if there is one. A path outside the format names nothing.
    ///
    /// # Errors
    /// [`BarrierError::Integrity`] when the record is not the one that the index names; [`BarrierError::Store`] when it
    /// cannot be read.
    pub fn node(&self, path: &str) -> Result<Option<Node>, BarrierError> {
        let Some((key, segment)) = self.locate(path) else { return Ok(None) };
        match self.named_node(&key, parent_of(path))? {
            Some((name, node)) if name == segment => Ok(Some(node)),
            Some(_) => Err(self.barrier.degrade("a node has another name than its place says")),
            None => Ok(None),
        }
    }

    /// Returns a short tag for the secret at `path` as its `version` (0 is the newest) would be shown. The tag changes
    /// with every change of the secret and reveals nothing about its content. It is computed from the index, and
    /// nothing is opened. `None` when there is no secret. Resealing the record also changes the tag.
    #[must_use]
    pub fn tag(&self, path: &str, version: u64) -> Option<String> {
        let (key, _) = self.locate(path)?;
        let stamp = self.barrier.published.read().index.get(&key).copied()?;
        let ring = self.barrier.ring.load();
        let mac = ring.hedge.mac(&[label::TAG, &stamp.head, &stamp.commitment, &version.to_be_bytes()]);
        mac.first_chunk::<16>().map(|tag| data_encoding::HEXLOWER.encode(tag))
    }

    /// Whether there is a secret at `path`. A node that is only a folder does not count.
    ///
    /// A record that cannot be read counts as existing, so that the request tries to read it and fails with the reason.
    #[must_use]
    pub fn exists(&self, path: &str) -> bool {
        self.node(path).map_or(true, |node| node.is_some_and(|node| node.meta.is_some()))
    }

    /// Returns the content of a version of the secret `node`, which was read from `path`. `None` when there is no such
    /// version, its content is destroyed, or both have been removed meanwhile.
    ///
    /// # Errors
    /// The errors of [`View::node`].
    pub fn value(&self, path: &str, node: &Node, version: u64) -> Result<Option<SecretBytes>, BarrierError> {
        let Some((place, _)) = self.locate(path) else { return Ok(None) };
        let key = StoreKey::value(&place.last_id(), version);
        let path_bytes = bound(&self.mount, path);
        let mut fresh: Option<Node> = None;
        loop {
            let Some(version_key) = fresh.as_ref().unwrap_or(node).keys.get(&version) else { return Ok(None) };
            let outcome = match self.overlay.and_then(|overlay| overlay.get(&key)) {
                Some(Change::Put(pending)) => return self.sound(decode_value(pending.body.reveal())).map(Some),
                Some(Change::Delete) => None,
                None => {
                    let record = self.barrier.fetch(&key)?;
                    record.map(|record| self.barrier.open(&key, &path_bytes, Some(version_key), &record))
                }
            };
            if let Some(Ok(body)) = outcome {
                return self.sound(decode_value(body.reveal())).map(Some);
            }
            // The node may be older than the published state: the version may be destroyed, or the secret created again
            // with another key. It is only an integrity error if the node still says the same.
            let again = self.node(path)?;
            let same = |again: &Node| again.keys.get(&version).is_some_and(|now| now.ct_eq(version_key));
            match again {
                Some(again) if same(&again) => return Err(self.barrier.degrade("a value is missing or does not open")),
                Some(again) => fresh = Some(again),
                None => return Ok(None),
            }
        }
    }

    /// Returns what is directly in `folder`, sorted by name. Empty when there is no such folder.
    ///
    /// # Errors
    /// The errors of [`View::node`].
    pub fn children(&self, folder: &str) -> Result<Vec<Child>, BarrierError> {
        let Some(id) = self.folder_id(folder) else { return Ok(Vec::new()) };
        let (first, last) = StoreKey::nodes_of(&id);
        let mut children = Vec::new();
        self.each_key(first, last, |key| {
            // A node can disappear after its key was read from the index.
            let Some((name, node)) = self.named_node(&key, folder)? else { return Ok(()) };
            if self.barrier.names.child(&id, &name) != key.last_id() {
                return Err(self.barrier.degrade("a node has another name than its place says"));
            }
            children.push(Child { name, has_secret: node.meta.is_some(), is_folder: node.child_count > 0 });
            Ok::<(), BarrierError>(())
        })?;
        children.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(children)
    }

    /// Whether more than `few` children are directly in `folder`, according to the index.
    #[must_use]
    pub fn has_more_children(&self, folder: &str, few: usize) -> bool {
        self.folder_id(folder).is_some_and(|id| self.has_more(StoreKey::nodes_of(&id), few))
    }

    /// Whether there are more than `few` entries, according to the index.
    #[must_use]
    pub fn has_more_entries(&self, few: usize) -> bool {
        self.has_more(StoreKey::entries_of(&self.root), few)
    }

    fn has_more(&self, (first, last): (StoreKey, StoreKey), few: usize) -> bool {
        self.barrier.published.read().index.range(first..=last).nth(few).is_some()
    }

    /// Returns the entry `key`.
    ///
    /// # Errors
    /// The errors of [`View::node`].
    pub fn entry(&self, key: &str) -> Result<Option<EntryValue>, BarrierError> {
        if key.is_empty() || key.len() > MAX_PATH_BYTES {
            return Ok(None);
        }
        match self.named_entry(&self.entry_key(key))? {
            Some((name, entry)) if name == key => Ok(Some(entry)),
            Some(_) => Err(self.barrier.degrade("an entry has another name than its place says")),
            None => Ok(None),
        }
    }

    /// Returns the keys of all entries, sorted.
    ///
    /// # Errors
    /// The errors of [`View::node`].
    pub fn entries(&self) -> Result<Vec<String>, BarrierError> {
        let mut names = Vec::new();
        self.each_entry(|name, _| {
            names.push(name.to_owned());
            Ok::<(), BarrierError>(())
        })?;
        names.sort_unstable();
        Ok(names)
    }

    /// Calls `look` for every entry with its key, in no order. Each entry is opened once.
    ///
    /// # Errors
    /// The errors of [`View::node`]; the first error that `look` returns.
    pub fn each_entry<E: From<BarrierError>>(
        &self,
        mut look: impl FnMut(&str, EntryValue) -> Result<(), E>,
    ) -> Result<(), E> {
        let (first, last) = StoreKey::entries_of(&self.root);
        self.each_key(first, last, |key| {
            let Some((name, entry)) = self.named_entry(&key)? else { return Ok(()) };
            if self.entry_key(&name) != key {
                return Err(self.barrier.degrade("an entry has another name than its place says").into());
            }
            look(&name, entry)
        })
    }

    /// Returns the keys of the entries that the group of this view has written so far, sorted. Readers do not see these
    /// yet. Entries that it removed again are left out.
    ///
    /// # Errors
    /// The errors of [`View::node`].
    pub fn written(&self) -> Result<Vec<String>, BarrierError> {
        let (first, last) = StoreKey::entries_of(&self.root);
        let mut names = Vec::new();
        for (_, change) in self.overlay.into_iter().flat_map(|overlay| overlay.range(first, last)) {
            if let Change::Put(pending) = change {
                names.push(self.sound(decode_entry(pending.body.reveal()))?.0);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Whether the group of this view has changed an entry.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        let (first, last) = StoreKey::entries_of(&self.root);
        self.overlay.is_some_and(|overlay| overlay.range(first, last).next().is_some())
    }

    /// Whether an entry of this mount is stored under `key`.
    pub(super) fn holds_entry(&self, key: &StoreKey) -> bool {
        let (first, last) = StoreKey::entries_of(&self.root);
        (first..=last).contains(key)
    }

    /// The keys of those entries of `stored` that there are.
    ///
    /// # Errors
    /// The errors of [`View::node`].
    pub(super) fn names_of(&self, stored: &BTreeSet<StoreKey>) -> Result<BTreeSet<String>, BarrierError> {
        let names = stored.iter().map(|key| Ok(self.named_entry(key)?.map(|(name, _)| name)));
        names.filter_map(Result::transpose).collect()
    }

    /// Returns the store key of the entry `key`.
    pub(super) fn entry_key(&self, key: &str) -> StoreKey {
        StoreKey::entry(&self.root, &self.barrier.names.entry(&self.root, key))
    }

    /// Returns the store key and the own name of the node at `path`.
    pub(super) fn locate<'p>(&self, path: &'p str) -> Option<(StoreKey, &'p str)> {
        let segments = segments(path).ok()?;
        let (last, folders) = segments.split_last()?;
        let parent = folders.iter().fold(self.root, |id, segment| self.barrier.names.child(&id, segment));
        Some((StoreKey::node(&parent, &self.barrier.names.child(&parent, last)), *last))
    }

    fn folder_id(&self, folder: &str) -> Option<Id> {
        if folder.is_empty() { Some(self.root) } else { self.locate(folder).map(|(key, _)| key.last_id()) }
    }

    /// Calls back for each key of a range. Published keys are taken from the index in small batches, so that nobody
    /// waits for a long listing. If a group is published meanwhile, some of its keys may be seen and others not.
    fn each_key<E: From<BarrierError>>(
        &self,
        first: StoreKey,
        last: StoreKey,
        mut look: impl FnMut(StoreKey) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut look = |key| {
            self.tally.map_or(Ok(()), |tally| tally.look_at(1))?;
            look(key)
        };
        if self.overlay.is_some() {
            return self.keys(first, last).into_iter().try_for_each(look);
        }
        let mut from = Bound::Included(first);
        loop {
            let batch: Vec<StoreKey> = {
                let published = self.barrier.published.read();
                published.index.range((from, Bound::Included(last))).take(AT_ONCE).map(|(key, _)| *key).collect()
            };
            let Some(end) = batch.last().copied() else { return Ok(()) };
            batch.into_iter().try_for_each(&mut look)?;
            from = Bound::Excluded(end);
        }
    }

    fn keys(&self, first: StoreKey, last: StoreKey) -> BTreeSet<StoreKey> {
        let published = self.barrier.published.read();
        let mut keys: BTreeSet<StoreKey> = published.index.range(first..=last).map(|(key, _)| *key).collect();
        drop(published);
        for (key, change) in self.overlay.into_iter().flat_map(|overlay| overlay.range(first, last)) {
            match change {
                Change::Put(_) => keys.insert(*key),
                Change::Delete => keys.remove(key),
            };
        }
        keys
    }

    fn named_node(&self, key: &StoreKey, folder: &str) -> Result<Option<(String, Node)>, BarrierError> {
        match self.overlay.and_then(|overlay| overlay.get(key)) {
            Some(Change::Put(pending)) => self.sound(Node::decode(pending.body.reveal())).map(Some),
            Some(Change::Delete) => Ok(None),
            None => match self.barrier.body(key, &bound(&self.mount, folder))? {
                Some(body) => self.sound(Node::decode(body.reveal())).map(Some),
                None => Ok(None),
            },
        }
    }

    fn named_entry(&self, key: &StoreKey) -> Result<Option<(String, EntryValue)>, BarrierError> {
        let decoded = match self.overlay.and_then(|overlay| overlay.get(key)) {
            Some(Change::Put(pending)) => decode_entry(pending.body.reveal()),
            Some(Change::Delete) => return Ok(None),
            None => match self.barrier.body(key, &self.mount.0)? {
                Some(body) => decode_entry(body.reveal()),
                None => return Ok(None),
            },
        };
        let (name, not_after_ms, value) = self.sound(decoded)?;
        Ok(Some((name, EntryValue { value, not_after_ms })))
    }

    /// An authentic body that cannot be parsed comes from a bug or a newer program.
    fn sound<T>(&self, decoded: Result<T, CryptoError>) -> Result<T, BarrierError> {
        decoded.map_err(|_| self.barrier.degrade("a record cannot be decoded"))
    }
}
