//! Changes inside a group.

use std::collections::{BTreeMap, BTreeSet};

use crate::crypto::envelope::Kind;
use crate::crypto::{Key, SecretBytes};

use super::error::BarrierError;
use super::names::{MAX_PATH_BYTES, MountId, StoreKey, bound, parent_of, segments};
use super::node::{Node, SecretMeta, encode_entry, encode_value};
use super::open::Barrier;
use super::overlay::{Change, Overlay, Pending};
use super::view::View;

/// The changes of one closure. When the closure fails, exactly these are undone.
pub struct Tx<'a> {
    pub(super) barrier: &'a Barrier,
    pub(super) overlay: &'a mut Overlay,
}

/// A point in a closure; see [`Tx::point`].
pub struct Point(usize);

impl Tx<'_> {
    /// Reads with the changes of this group on top.
    #[must_use]
    pub fn view(&self, mount: MountId) -> View<'_> {
        View::new(self.barrier, Some(self.overlay), mount)
    }

    /// Marks a point for [`Tx::back_to`].
    #[must_use]
    pub fn point(&self) -> Point {
        Point(self.overlay.steps())
    }

    /// Undoes what this closure changed since `point`, which must be from this closure.
    pub fn back_to(&mut self, point: &Point) {
        self.overlay.rollback_to(point.0);
    }

    /// Shows `look` the state as it was at `point`. Afterwards the later changes are in place again.
    pub fn before<T>(&mut self, point: &Point, look: impl FnOnce(&Tx<'_>) -> T) -> T {
        let aside = self.overlay.set_aside(point.0);
        let seen = look(self);
        self.overlay.put_back(aside);
        seen
    }

    /// Whether this closure wrote or removed an entry since `point`. Reads no record.
    #[must_use]
    pub fn has_changed(&self, mount: MountId, point: &Point) -> bool {
        self.keys_changed(mount, point).next().is_some()
    }

    fn keys_changed(&self, mount: MountId, point: &Point) -> impl Iterator<Item = &StoreKey> {
        let view = self.view(mount);
        self.overlay.changed_after(point.0).filter(move |key| view.holds_entry(key))
    }

    /// The keys of the entries that this closure wrote or removed since `point`.
    ///
    /// # Errors
    /// The errors of [`View::node`].
    pub fn entries_changed(&mut self, mount: MountId, point: &Point) -> Result<BTreeSet<String>, BarrierError> {
        let keys: BTreeSet<StoreKey> = self.keys_changed(mount, point).copied().collect();
        // A removed entry has its name in the state before, a new one in the state now.
        let mut names = self.view(mount).names_of(&keys)?;
        names.extend(self.before(point, |tx| tx.view(mount).names_of(&keys))?);
        Ok(names)
    }

    /// Returns the node at `path` if it has a secret.
    ///
    /// # Errors
    /// The errors of [`View::node`].
    pub fn secret(&mut self, mount: MountId, path: &str) -> Result<Option<Node>, BarrierError> {
        Ok(self.view(mount).node(path)?.filter(|node| node.meta.is_some()))
    }

    /// Writes the description of a secret, and one new version with it. Creates missing folders. Versions that `meta`
    /// marks as destroyed or no longer lists lose their content and key.
    ///
    /// # Errors
    /// [`BarrierError::Path`] for an invalid path; [`BarrierError::TooLarge`] for a record beyond the limit;
    /// [`BarrierError::Versions`] when `meta` lists a live version
    /// that has no content and is not the new one, or the new version is not listed or was used before; the errors
    /// of reading a record; [`BarrierError::Degraded`] or [`BarrierError::Fatal`] when writes are stopped.
    pub fn put_secret(
        &mut self,
        mount: MountId,
        path: &str,
        meta: SecretMeta,
        new_version: Option<(u64, &[u8])>,
        now_ms: u64,
    ) -> Result<(), BarrierError> {
        self.barrier.check_writable()?;
        segments(path)?;
        let found = self.view(mount).node(path)?;
        let is_new = found.is_none();
        let mut old = found.unwrap_or_else(|| Node::folder(now_ms));
        let id = self.key_of(mount, path)?.last_id();
        let mut had: BTreeMap<u64, Key> = std::mem::take(&mut old.keys);
        if let Some((number, value)) = new_version {
            let listed = meta.versions.iter().any(|version| version.version == number && !version.destroyed);
            let used = old.meta.iter().flat_map(|old| &old.versions).any(|version| version.version == number);
            if !listed || used {
                return Err(BarrierError::Versions("the new version is not listed, or was used before"));
            }
            // A new key for each version, so that destroying the key destroys only that version.
            let key = Key::random(&*self.barrier.random)?;
            let pending = Pending {
                kind: Kind::Value,
                path: bound(&mount, path),
                body: encode_value(now_ms, value),
                version: Some((number, key.duplicate())),
            };
            self.put(StoreKey::value(&id, number), pending)?;
            had.insert(number, key);
        }
        let mut keys = BTreeMap::new();
        for version in meta.versions.iter().filter(|version| !version.destroyed) {
            let key = had.remove(&version.version).ok_or(BarrierError::Versions("a live version has no content"))?;
            keys.insert(version.version, key);
        }
        // The rest of `had` is no longer listed, or destroyed.
        for dropped in had.keys() {
            self.delete(StoreKey::value(&id, *dropped))?;
        }
        let created_ms = if old.meta.is_some() { old.created_ms } else { now_ms };
        let node = Node { created_ms, updated_ms: now_ms, meta: Some(meta), keys, child_count: old.child_count };
        self.put_node(mount, path, &node)?;
        if is_new { self.child_added(mount, parent_of(path), now_ms) } else { Ok(()) }
    }

    /// Removes a secret with all its versions, and the folders that become empty. `false` when there is no such secret.
    ///
    /// # Errors
    /// The errors of reading a record; [`BarrierError::Degraded`] or [`BarrierError::Fatal`] when writes are stopped.
    pub fn remove_secret(&mut self, mount: MountId, path: &str) -> Result<bool, BarrierError> {
        self.barrier.check_writable()?;
        let Some(mut node) = self.secret(mount, path)? else { return Ok(false) };
        let id = self.key_of(mount, path)?.last_id();
        for version in std::mem::take(&mut node.keys).keys() {
            self.delete(StoreKey::value(&id, *version))?;
        }
        node.meta = None;
        self.put_or_remove(mount, path, &node)?;
        Ok(true)
    }

    /// Writes an entry.
    ///
    /// # Errors
    /// [`BarrierError::Path`] for an empty key or one above 1,024 bytes, [`BarrierError::TooLarge`]; the errors of
    /// reading a record; [`BarrierError::Degraded`] or [`BarrierError::Fatal`] when writes are stopped.
    pub fn put_entry(
        &mut self,
        mount: MountId,
        key: &str,
        value: &[u8],
        not_after_ms: u64,
    ) -> Result<(), BarrierError> {
        self.barrier.check_writable()?;
        if key.is_empty() || key.len() > MAX_PATH_BYTES {
            return Err(BarrierError::Path("a key has 1 to 1024 bytes"));
        }
        // Opens the existing entry, because two keys with the same name must not overwrite each other.
        self.view(mount).entry(key)?;
        let place = self.view(mount).entry_key(key);
        let body = encode_entry(key, value, not_after_ms);
        self.put(place, Pending { kind: Kind::Entry, path: bound(&mount, ""), body, version: None })
    }

    /// Removes an entry. `false` when there is no such entry.
    ///
    /// # Errors
    /// The errors of reading a record; [`BarrierError::Degraded`] or [`BarrierError::Fatal`] when writes are stopped.
    pub fn remove_entry(&mut self, mount: MountId, key: &str) -> Result<bool, BarrierError> {
        self.barrier.check_writable()?;
        if self.view(mount).entry(key)?.is_none() {
            return Ok(false);
        }
        let place = self.view(mount).entry_key(key);
        self.delete(place)?;
        Ok(true)
    }

    pub(super) fn key_of(&self, mount: MountId, path: &str) -> Result<StoreKey, BarrierError> {
        self.view(mount).locate(path).map(|(key, _)| key).ok_or(BarrierError::Path("not a path"))
    }

    pub(super) fn put_node(&mut self, mount: MountId, path: &str, node: &Node) -> Result<(), BarrierError> {
        let segment = path.rsplit('/').next().unwrap_or(path);
        let body: SecretBytes = node.encode(segment)?;
        let key = self.key_of(mount, path)?;
        self.put(key, Pending { kind: Kind::Node, path: bound(&mount, parent_of(path)), body, version: None })
    }

    /// Writes a node that lost something, or removes it and continues with its parent.
    pub(super) fn put_or_remove(&mut self, mount: MountId, path: &str, node: &Node) -> Result<(), BarrierError> {
        if node.meta.is_some() || node.child_count > 0 {
            return self.put_node(mount, path, node);
        }
        let key = self.key_of(mount, path)?;
        self.delete(key)?;
        let folder = parent_of(path);
        if folder.is_empty() {
            return Ok(());
        }
        let missing = "a folder has no record";
        let mut parent = self.view(mount).node(folder)?.ok_or_else(|| self.barrier.degrade(missing))?;
        let fewer = parent.child_count.checked_sub(1);
        parent.child_count = fewer.ok_or_else(|| self.barrier.degrade("a folder has fewer children than it must"))?;
        self.put_or_remove(mount, folder, &parent)
    }

    /// Counts a new child in `folder`. Creates that folder and the folders above it if they are missing.
    fn child_added(&mut self, mount: MountId, folder: &str, now_ms: u64) -> Result<(), BarrierError> {
        if folder.is_empty() {
            return Ok(());
        }
        let found = self.view(mount).node(folder)?;
        let is_new = found.is_none();
        let mut node = found.unwrap_or_else(|| Node::folder(now_ms));
        node.child_count = node.child_count.checked_add(1).ok_or(BarrierError::TooLarge)?;
        self.put_node(mount, folder, &node)?;
        if is_new { self.child_added(mount, parent_of(folder), now_ms) } else { Ok(()) }
    }

    pub(super) fn put(&mut self, key: StoreKey, pending: Pending) -> Result<(), BarrierError> {
        pending.kind.bucket(pending.body.len())?;
        self.remember(key)?;
        self.overlay.set(key, Change::Put(pending));
        Ok(())
    }

    fn delete(&mut self, key: StoreKey) -> Result<(), BarrierError> {
        if self.remember(key)? {
            self.overlay.set(key, Change::Delete);
        } else {
            self.overlay.forget(key);
        }
        Ok(())
    }

    /// Keeps the stored bytes of a record that the group changes; `false` when it is not stored.
    fn remember(&mut self, key: StoreKey) -> Result<bool, BarrierError> {
        if self.overlay.keeps_old(&key) {
            return Ok(true);
        }
        match self.barrier.fetch(&key)? {
            Some(record) => {
                self.overlay.keep_old(key, record.bytes);
                Ok(true)
            }
            None => Ok(false),
        }
    }
}
