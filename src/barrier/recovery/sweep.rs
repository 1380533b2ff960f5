//! Opens every record once to find damaged ones: for `verify`, and before a damaged store is salvaged.
//!
//! A sweep walks the tree from the mounts, because opening a record needs the path that it is bound to. Then it looks for
//! unreachable records in the index. It continues after a bad record. Readers and writers may work while it runs: records
//! that change meanwhile need no check, because this process has just sealed them.

use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::crypto::hash::MacKey;

use super::findings::{Bad, Findings, Ledger, MountNames};
use super::summing::RunningSum;
use crate::barrier::error::BarrierError;
use crate::barrier::names::{Id, MountId, StoreKey, bound, child_path};
use crate::barrier::node::{Node, decode_entry};
use crate::barrier::open::Barrier;
use crate::barrier::view::View;

/// Number of keys to read from the index under one lock.
const AT_ONCE: usize = 512;
/// Number of records to sum under one lock. Writers wait that long.
const SUMMED_AT_ONCE: usize = 64;

/// Returns the mount of an entry of the mount table. `None` when the entry cannot be decoded.
pub type MountOf = fn(&str, &[u8]) -> Option<MountId>;

/// A sweep in progress.
pub struct Sweep {
    mount_of: MountOf,
    mounts: VecDeque<MountId>,
    levels: Vec<Level>,
    versions: Option<Versions>,
    /// Where the search for strays continues; `None` before it begins.
    strays: Option<Bound<StoreKey>>,
    /// Records that were reached, each as an eight-byte hash under a random key of this set: an attacker who can write to
    /// the store cannot choose a record key with the same hash.
    met: HashSet<u64>,
    /// Mounts in the mount table, with the key of the entry.
    named: MountNames,
    /// Generation when the sweep started.
    began: u64,
    records: u64,
    bytes: u64,
    /// The set hash, computed again during the search for strays.
    sum: Arc<Mutex<RunningSum>>,
    pub(super) found: Findings,
}

/// A range of the index that is still to be examined: the children of a folder, or the entries of a mount.
struct Level {
    mount: MountId,
    folder: String,
    parent: Id,
    next: Bound<StoreKey>,
    last: StoreKey,
    keys: VecDeque<StoreKey>,
    /// Number of intact children.
    good: u32,
    /// Number of children according to the record of the folder.
    counted: Option<u32>,
}

/// A secret whose versions are still to be opened.
struct Versions {
    mount: MountId,
    path: String,
    id: Id,
    node: Node,
    left: VecDeque<u64>,
}

impl Sweep {
    /// Creates a sweep over all mounts, built-in ones first. It counts all bad records, and describes at most `described`.
    #[must_use]
    pub fn new(barrier: &Barrier, mount_of: MountOf, described: usize) -> Self {
        let sum = {
            let ring = barrier.ring.load();
            let newest = ring.keyring.newest_integrity();
            Arc::new(Mutex::new(RunningSum::new(MacKey::new(&newest.set), newest.id)))
        };
        barrier.published.write().sums.enter(Arc::downgrade(&sum));
        Self {
            sum,
            mount_of,
            mounts: MountId::builtins().collect(),
            levels: Vec::new(),
            versions: None,
            strays: None,
            met: HashSet::new(),
            named: MountNames::default(),
            began: barrier.published.read().generation,
            records: 0,
            bytes: 0,
            found: Findings::new(described),
        }
    }

    /// Examines the next record. Returns `false` at the end.
    ///
    /// # Errors
    /// Errors that do not concern a single record: [`BarrierError::Store`] when the store is not available. A bad record is
    /// not an error. One that cannot be read or opened stops writes, as it does for every reader. One that nothing refers to
    /// does not: nobody got a wrong record.
    pub fn step(&mut self, barrier: &Barrier) -> Result<bool, BarrierError> {
        if let Some(mut versions) = self.versions.take()
            && let Some(version) = versions.left.pop_front()
        {
            self.version(barrier, &versions, version)?;
            self.versions = Some(versions);
            return Ok(true);
        }
        if let Some(level) = self.levels.last_mut() {
            match level.next(barrier) {
                Some(key) => self.record(barrier, key)?,
                None => self.leave(),
            }
            return Ok(true);
        }
        if let Some(mount) = self.mounts.pop_front() {
            let root = barrier.names.root(&mount);
            self.levels.push(Level::new(mount, String::new(), root, StoreKey::nodes_of(&root)));
            self.levels.push(Level::new(mount, String::new(), root, StoreKey::entries_of(&root)));
            return Ok(true);
        }
        if let Some((key, mut bad)) = self.found.unopened.pop_front() {
            bad.behind = self.behind(barrier, key.last_id());
            self.found.describe(key, bad);
            return Ok(true);
        }
        Ok(self.look_for_strays(barrier))
    }

    /// Number of records examined so far.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Size of their contents, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Number of bad records found so far, without those behind them.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.found.failed
    }

    /// The bad records that are described.
    #[must_use]
    pub fn bad(&self) -> &[Bad] {
        &self.found.bad
    }

    /// Whether the set hash over all records matches the state. `None` before the end, and if the integrity set was
    /// replaced during the sweep. Waits for the group that is being written.
    #[must_use]
    pub fn set_hash_fits(&self, barrier: &Barrier) -> Option<bool> {
        let writer = barrier.writer.lock();
        let sum = self.sum.lock();
        let same = barrier.ring.load().keyring.newest_integrity().id == sum.set_id;
        (sum.whole && same).then(|| sum.sum.ct_eq(&writer.state.set_hash))
    }

    /// The mounts that the sweep has found in the mount table.
    #[must_use]
    pub fn named(&self) -> &MountNames {
        &self.named
    }

    /// Returns what a salvage needs: the bad records, the changes, and the mounts with their names.
    pub(super) fn found(self) -> (Vec<Bad>, Option<Ledger>, MountNames) {
        (self.found.bad, self.found.ledger, self.named)
    }

    fn record(&mut self, barrier: &Barrier, key: StoreKey) -> Result<(), BarrierError> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        let (mount, folder, parent) = (level.mount, level.folder.clone(), level.parent);
        let is_node = key.letter() == b'd';
        self.meet(&key);
        self.records += 1;
        let path = if is_node { bound(&mount, &folder) } else { bound(&mount, "") };
        let body = match barrier.body(&key, &path) {
            Ok(Some(body)) => body,
            // It was deleted after its key was read from the index.
            Ok(None) => return Ok(()),
            Err(error) => return self.found.spoilt((mount, folder, key), error),
        };
        self.bytes = self.bytes.saturating_add(u64::try_from(body.len()).unwrap_or(u64::MAX));
        let understood = if is_node {
            Node::decode(body.reveal())
                .ok()
                .filter(|(name, _)| StoreKey::node(&parent, &barrier.names.child(&parent, name)) == key)
                .map(|(name, node)| self.enter(barrier, (mount, &folder), &name, &key, node))
        } else {
            decode_entry(body.reveal())
                .ok()
                .filter(|(name, ..)| StoreKey::entry(&parent, &barrier.names.entry(&parent, name)) == key)
                .map(|(name, _, value)| self.entry(mount, &name, key, value.reveal()))
        };
        if understood.is_none() {
            let error = barrier.degrade("a record cannot be decoded");
            return self.found.spoilt((mount, folder, key), error);
        }
        Ok(())
    }

    /// Continues with the versions of a node, and then with its children.
    fn enter(&mut self, barrier: &Barrier, (mount, folder): (MountId, &str), name: &str, key: &StoreKey, node: Node) {
        if let Some(level) = self.levels.last_mut() {
            level.good = level.good.saturating_add(1);
        }
        let path = child_path(folder, name);
        let id = key.last_id();
        let (first, last) = StoreKey::nodes_of(&id);
        if node.child_count > 0 || barrier.published.read().index.range(first..=last).next().is_some() {
            let level = Level::new(mount, path.clone(), id, (first, last));
            self.levels.push(Level { counted: Some(node.child_count), ..level });
        }
        let left = node.keys.keys().copied().collect();
        self.versions = Some(Versions { mount, path, id, node, left });
    }

    fn entry(&mut self, mount: MountId, name: &str, key: StoreKey, value: &[u8]) {
        if mount == MountId::MOUNTS
            && let Some(found) = (self.mount_of)(name, value)
        {
            self.mounts.push_back(found);
            self.named.add(found, name);
        }
        self.found.intact_entry(mount, name, key);
    }

    fn version(&mut self, barrier: &Barrier, versions: &Versions, version: u64) -> Result<(), BarrierError> {
        let Versions { mount, path, id, node, .. } = versions;
        let key = StoreKey::value(id, version);
        self.meet(&key);
        self.records += 1;
        match View::new(barrier, None, *mount).value(path, node, version) {
            Ok(value) => {
                let bytes = value.map_or(0, |value| value.len());
                self.bytes = self.bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
                Ok(())
            }
            Err(error) => self.found.spoilt((*mount, path.clone(), key), error),
        }
    }

    /// Notes that `key` was reached. Returns `false` if it was reached before.
    fn meet(&mut self, key: &StoreKey) -> bool {
        let short = self.short(key);
        self.met.insert(short)
    }

    fn short(&self, key: &StoreKey) -> u64 {
        self.met.hasher().hash_one(key.as_bytes())
    }

    /// Counts the records that can only be reached through a node that cannot be opened, because it contains their names
    /// and the keys of its versions. Counts each record once, so records that name each other cause no endless loop.
    fn behind(&mut self, barrier: &Barrier, node: Id) -> u64 {
        let (mut ids, mut count) = (vec![node], 0);
        while let Some(id) = ids.pop() {
            let ranges = [(StoreKey::value(&id, 0), StoreKey::value(&id, u64::MAX)), StoreKey::nodes_of(&id)];
            for (first, last) in ranges {
                let published = barrier.published.read();
                for (key, _) in published.index.range(first..=last) {
                    if !self.meet(key) {
                        continue;
                    }
                    count += 1;
                    if key.letter() == b'd' {
                        ids.push(key.last_id());
                    }
                    self.found.lost(*key);
                }
            }
        }
        self.records += count;
        count
    }

    /// Ends a level, and notes a wrong number of children.
    fn leave(&mut self) {
        let Some(Level { mount, folder, good, counted, .. }) = self.levels.pop() else { return };
        self.found.children(mount, folder, good, counted);
    }

    /// Looks for records that existed when the sweep started and were not reached. Returns `false` at the end of the index.
    fn look_for_strays(&mut self, barrier: &Barrier) -> bool {
        // A whole sum is kept up to date by each group. To start again would add every record twice.
        if self.sum.lock().whole {
            return false;
        }
        let from = self.strays.unwrap_or(Bound::Unbounded);
        let (mut last, mut found) = (None, Vec::new());
        {
            let published = barrier.published.read();
            let mut sum = self.sum.lock();
            for (key, stamp) in published.index.range((from, Bound::Unbounded)).take(SUMMED_AT_ONCE) {
                last = Some(*key);
                sum.add(key, stamp);
                let old = stamp.head().is_ok_and(|head| head.generation <= self.began);
                if old && !self.met.contains(&self.short(key)) {
                    found.push(*key);
                }
            }
            sum.whole = last.is_none();
        }
        for key in found {
            self.records += 1;
            self.found.stray(key);
        }
        self.strays = last.map(Bound::Excluded);
        last.is_some()
    }
}

impl Level {
    fn new(mount: MountId, folder: String, parent: Id, (first, last): (StoreKey, StoreKey)) -> Self {
        let (next, keys) = (Bound::Included(first), VecDeque::new());
        Self { mount, folder, parent, next, last, keys, good: 0, counted: None }
    }

    fn next(&mut self, barrier: &Barrier) -> Option<StoreKey> {
        if self.keys.is_empty() {
            let published = barrier.published.read();
            let range = published.index.range((self.next, Bound::Included(self.last)));
            self.keys = range.take(AT_ONCE).map(|(key, _)| *key).collect();
            self.next = self.keys.back().map_or(Bound::Excluded(self.last), |end| Bound::Excluded(*end));
        }
        self.keys.pop_front()
    }
}
