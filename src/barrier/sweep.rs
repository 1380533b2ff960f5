//! Opening every record once, to find those that cannot be used: for `verify`, and before a damaged store is salvaged.
//!
//! A sweep goes down the tree from the mounts, because a record opens only together with the path that it is bound to, and
//! then looks for records of the index that nothing led to. It goes on after a bad record. Readers and writers may go on
//! meanwhile: what they change while it runs is as good as verified, since it was sealed by this process.

use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;
use std::ops::Bound;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::crypto::hash::MacKey;
use crate::store::StoreError;

use super::error::BarrierError;
use super::names::{Id, MountId, StoreKey, bound};
use super::node::{Node, decode_entry};
use super::open::Barrier;
use super::summing::RunningSum;
use super::view::View;

/// Keys that are taken from the index under one lock.
const AT_ONCE: usize = 512;
/// Records that are summed under one lock: writers wait for as long.
const SUMMED_AT_ONCE: usize = 64;

/// Reads an entry of the mount table: the mount that it names. `None` when it cannot be understood.
pub type MountOf = fn(&str, &[u8]) -> Option<MountId>;

/// What a bad record is in the vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A name in a folder: a secret, a folder, or both. Which name is not known.
    Name,
    /// The content of this version of a secret.
    Version(u64),
    /// An entry of a mount. Under which key is not known.
    Entry,
    /// A record that nothing leads to, so that it cannot be opened.
    Stray,
}

/// A record that cannot be used. Holds a path of the vault: it belongs in no log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// The mount, if it is known.
    pub mount: Option<MountId>,
    /// The secret of a version; the folder of a name; else empty.
    pub path: String,
    /// What it is.
    pub part: Part,
    /// What is wrong with it.
    pub why: &'static str,
    /// Further records that could be opened through this one only.
    pub behind: u64,
    /// Key in the store.
    pub key: Vec<u8>,
}

/// A sweep under way.
pub struct Sweep {
    mount_of: MountOf,
    mounts: VecDeque<MountId>,
    levels: Vec<Level>,
    versions: Option<Versions>,
    /// Where the search for strays goes on; `None` before it begins.
    strays: Option<Bound<StoreKey>>,
    /// Records that something led to, each as eight bytes of a hash under a key of this set alone: somebody who can write
    /// the store cannot choose a key that has the same.
    met: HashSet<u64>,
    /// Records of names that do not open. What they lead to is looked at after the walk, because a row that was only added
    /// can name a folder that is sound.
    unopened: VecDeque<(StoreKey, Bad)>,
    /// Mounts that the mount table names, with the key of the entry.
    named: Vec<(MountId, String)>,
    /// Generation at the start.
    began: u64,
    records: u64,
    bytes: u64,
    /// Bad records, those behind them not counted.
    failed: u64,
    bad: Vec<Bad>,
    /// At most this many bad records are described.
    described: usize,
    /// The set hash, summed anew with the search for strays.
    sum: Arc<Mutex<RunningSum>>,
    /// What a salvage needs to know besides.
    pub(super) ledger: Option<Ledger>,
}

/// What is to be changed in a store that is salvaged.
pub(super) struct Ledger {
    /// Entries of built-in mounts that are kept also when only values can be kept.
    pub carries: fn(MountId, &str) -> bool,
    /// Records that cannot be kept.
    pub lost: Vec<StoreKey>,
    /// Folders whose number of children is wrong, and the right one.
    pub counts: Vec<(MountId, String, u32)>,
    /// Entries that are not carried when only values can be kept.
    pub left_out: Vec<StoreKey>,
}

/// A range of the index that is still to be looked at: the children of a folder, or the entries of a mount.
struct Level {
    mount: MountId,
    folder: String,
    parent: Id,
    next: Bound<StoreKey>,
    last: StoreKey,
    keys: VecDeque<StoreKey>,
    /// Children that can be used.
    good: u32,
    /// Children by the folder's own record.
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
    /// A sweep over all mounts, built-in ones first. At most `described` bad records are described; all are counted.
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
            unopened: VecDeque::new(),
            named: Vec::new(),
            began: barrier.published.read().generation,
            records: 0,
            bytes: 0,
            failed: 0,
            bad: Vec::new(),
            described,
            ledger: None,
        }
    }

    /// Goes on by one record; `false` at the end.
    ///
    /// # Errors
    /// Errors that say nothing of a record: [`BarrierError::Store`] when the store is not available. A bad record is none;
    /// it stops writes, as reading it does.
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
        if let Some((key, mut bad)) = self.unopened.pop_front() {
            bad.behind = self.behind(barrier, key.last_id());
            self.describe(key, bad);
            return Ok(true);
        }
        Ok(self.look_for_strays(barrier))
    }

    /// Records looked at so far.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Bytes of their contents.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bad records found so far.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// Those of them that are described.
    #[must_use]
    pub fn bad(&self) -> &[Bad] {
        &self.bad
    }

    /// Whether the set hash over all records is the one that the state holds. `None` before the end, and when the integrity
    /// set was replaced meanwhile. Waits for the group that is being written.
    #[must_use]
    pub fn set_hash_fits(&self, barrier: &Barrier) -> Option<bool> {
        let writer = barrier.writer.lock();
        let sum = self.sum.lock();
        let same = barrier.ring.load().keyring.newest_integrity().id == sum.set_id;
        (sum.whole && same).then(|| sum.sum.ct_eq(&writer.state.set_hash))
    }

    /// The name of a mount that the sweep came across in the mount table.
    #[must_use]
    pub fn name_of(&self, mount: MountId) -> Option<&str> {
        self.named.iter().find(|(id, _)| *id == mount).map(|(_, name)| name.as_str())
    }

    /// What a salvage goes on with: bad records, what to change, and the mounts by name.
    pub(super) fn found(self) -> (Vec<Bad>, Option<Ledger>, Vec<(MountId, String)>) {
        (self.bad, self.ledger, self.named)
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
            // It went away between the look at the index and now.
            Ok(None) => return Ok(()),
            Err(error) => return self.spoilt((mount, folder, key), error),
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
            let error = barrier.degrade("a record cannot be understood");
            return self.spoilt((mount, folder, key), error);
        }
        Ok(())
    }

    /// Goes on with the versions of a node, and then with its children.
    fn enter(&mut self, barrier: &Barrier, (mount, folder): (MountId, &str), name: &str, key: &StoreKey, node: Node) {
        if let Some(level) = self.levels.last_mut() {
            level.good = level.good.saturating_add(1);
        }
        let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
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
            self.named.push((found, name.to_owned()));
        }
        if let Some(ledger) = &mut self.ledger
            && MountId::builtins().any(|builtin| builtin == mount)
            && !(ledger.carries)(mount, name)
        {
            ledger.left_out.push(key);
        }
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
            Err(error) => self.spoilt((*mount, path.clone(), key), error),
        }
    }

    /// Takes note of a bad record and of what can be opened through it only.
    ///
    /// # Errors
    /// `error` itself, when it says nothing of the record.
    fn spoilt(
        &mut self,
        (mount, path, key): (MountId, String, StoreKey),
        error: BarrierError,
    ) -> Result<(), BarrierError> {
        let why = match error {
            BarrierError::Integrity(why) => why,
            BarrierError::Store(StoreError::Corrupt(_)) => "the store cannot read it",
            error => return Err(error),
        };
        let part = match key.letter() {
            b'd' => Part::Name,
            b'v' => Part::Version(key.version().unwrap_or_default()),
            _ => Part::Entry,
        };
        self.failed += 1;
        let bad = Bad { mount: Some(mount), path, part, why, behind: 0, key: key.as_bytes().to_vec() };
        if part == Part::Name {
            self.unopened.push_back((key, bad));
        } else {
            self.describe(key, bad);
        }
        Ok(())
    }

    /// Notes that something leads to `key`. False if it was met before.
    fn meet(&mut self, key: &StoreKey) -> bool {
        let short = self.short(key);
        self.met.insert(short)
    }

    fn short(&self, key: &StoreKey) -> u64 {
        self.met.hasher().hash_one(key.as_bytes())
    }

    fn describe(&mut self, key: StoreKey, bad: Bad) {
        if let Some(ledger) = &mut self.ledger {
            ledger.lost.push(key);
        }
        if self.bad.len() < self.described {
            self.bad.push(bad);
        }
    }

    /// All records below a node that does not open, and that nothing else led to: their names, and the keys of the versions,
    /// stand in it. Each is met once, so that rows which name each other come to an end.
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
                    if let Some(ledger) = &mut self.ledger {
                        ledger.lost.push(*key);
                    }
                }
            }
        }
        self.records += count;
        count
    }

    /// Ends a level: a folder has as many children as its record says, unless somebody writes meanwhile.
    fn leave(&mut self) {
        let Some(Level { mount, folder, good, counted, .. }) = self.levels.pop() else { return };
        if let Some(ledger) = &mut self.ledger
            && counted.is_some_and(|counted| counted != good)
        {
            ledger.counts.push((mount, folder, good));
        }
    }

    /// Records that are as old as the sweep and that nothing led to. `false` when all of the index was looked at.
    fn look_for_strays(&mut self, barrier: &Barrier) -> bool {
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
            self.failed += 1;
            let why = "nothing in the vault leads to it";
            let bytes = key.as_bytes().to_vec();
            self.describe(key, Bad { mount: None, path: String::new(), part: Part::Stray, why, behind: 0, key: bytes });
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
