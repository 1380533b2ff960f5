//! Reseals records, so that an old term can be destroyed. `drained` proves that no record uses it any more.
//!
//! The index, not a note about progress, shows which records remain: the clear head of each has a term number. So a run
//! that was killed is continued by starting it again. The walk goes down the tree from the mounts, because a record
//! can only be opened together with the path that it is bound to.

use std::collections::VecDeque;

use crate::crypto::Key;
use crate::crypto::envelope::Kind;

use crate::barrier::error::BarrierError;
use crate::barrier::index::Stamp;
use crate::barrier::names::{Id, MountId, StoreKey, bound, child_path};
use crate::barrier::node::Node;
use crate::barrier::open::Barrier;
use crate::barrier::overlay::Pending;
use crate::barrier::tx::Tx;

/// Index entries that are read under one lock.
const CHUNK: usize = 256;

/// What a walk searches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Nodes and entries under a term other than the active one.
    Records,
    /// Secrets with a version whose content was sealed before this generation.
    Values {
        /// The first generation that does not need resealing.
        before: u64,
    },
    /// Nothing. Every node and entry is opened on the way.
    Check,
}

/// Something to reseal.
pub enum Stale {
    /// A node or an entry.
    Record(Place),
    /// The versions of a secret.
    Values(Secret),
}

/// Result of resealing something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resealed {
    /// Number of records that were resealed.
    pub records: u64,
    /// Whether nothing is left to do here. Otherwise the group was full, and the rest belongs to the next group.
    pub complete: bool,
}

/// A record and the path that it is bound to.
pub struct Place {
    key: StoreKey,
    path: Vec<u8>,
}

/// A secret whose versions get new keys.
pub struct Secret {
    mount: MountId,
    path: String,
    before: u64,
}

/// A walk over all records of some mounts. Records that appear behind it already use the active term.
pub struct Walk {
    depth: Depth,
    mounts: VecDeque<MountId>,
    levels: Vec<Level>,
    seen: u64,
}

/// A range of the index that must still be read.
struct Level {
    mount: MountId,
    folder: String,
    next: Option<StoreKey>,
    last: StoreKey,
}

/// One record of a level.
struct LevelRecord {
    key: StoreKey,
    stamp: Stamp,
    has_children: bool,
}

impl Walk {
    /// Starts a walk at the roots of `mounts`.
    #[must_use]
    pub fn new(depth: Depth, mounts: impl IntoIterator<Item = MountId>) -> Self {
        Self { depth, mounts: mounts.into_iter().collect(), levels: Vec::new(), seen: 0 }
    }

    /// Number of records passed so far.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Returns the next results, at least `limit` unless the walk ends. An empty list means that it has ended.
    ///
    /// # Errors
    /// The errors of reading a record. A record that cannot be opened stops writes.
    pub fn next(&mut self, barrier: &Barrier, limit: usize) -> Result<Vec<Stale>, BarrierError> {
        let mut found = Vec::new();
        while found.len() < limit && self.chunk(barrier, &mut found)? {}
        Ok(found)
    }

    /// Continues by a few hundred records; `false` at the end. For walks that only open.
    ///
    /// # Errors
    /// The errors of [`Walk::next`].
    pub fn advance(&mut self, barrier: &Barrier) -> Result<bool, BarrierError> {
        self.chunk(barrier, &mut Vec::new())
    }

    fn chunk(&mut self, barrier: &Barrier, found: &mut Vec<Stale>) -> Result<bool, BarrierError> {
        let Some(level) = self.levels.last_mut() else {
            let Some(mount) = self.mounts.pop_front() else { return Ok(false) };
            let root = barrier.names.root(&mount);
            self.levels.push(Level::new(mount, String::new(), StoreKey::nodes_of(&root)));
            self.levels.push(Level::new(mount, String::new(), StoreKey::entries_of(&root)));
            return Ok(true);
        };
        let steps = level.steps(barrier);
        if steps.is_empty() {
            self.levels.pop();
            return Ok(true);
        }
        let (mount, folder) = (level.mount, level.folder.clone());
        self.seen = self.seen.saturating_add(u64::try_from(steps.len()).unwrap_or(u64::MAX));
        let active = barrier.ring.load().keyring.active_term().id;
        for step in steps {
            self.visit(barrier, (mount, &folder), active, step, found)?;
        }
        Ok(true)
    }

    fn visit(
        &mut self,
        barrier: &Barrier,
        (mount, folder): (MountId, &str),
        active: u32,
        step: LevelRecord,
        found: &mut Vec<Stale>,
    ) -> Result<(), BarrierError> {
        let LevelRecord { key, stamp, has_children } = step;
        let is_node = key.letter() == b'd';
        let path = if is_node { bound(&mount, folder) } else { bound(&mount, "") };
        let open = has_children || self.depth == Depth::Check || (is_node && self.depth != Depth::Records);
        if open {
            // A record can disappear after its key was read from the index.
            let Some(body) = barrier.body(&key, &path)? else { return Ok(()) };
            if is_node {
                let decoded = Node::decode(body.reveal());
                let (name, node) = decoded.map_err(|_| barrier.degrade("a record cannot be decoded"))?;
                let full = child_path(folder, &name);
                if let Depth::Values { before } = self.depth
                    && node.keys.keys().any(|version| barrier.is_older(&key.last_id(), *version, before))
                {
                    found.push(Stale::Values(Secret { mount, path: full.clone(), before }));
                }
                if has_children {
                    self.levels.push(Level::new(mount, full, StoreKey::nodes_of(&key.last_id())));
                }
            }
        }
        if self.depth == Depth::Records && stamp.head()?.term != active {
            found.push(Stale::Record(Place { key, path }));
        }
        Ok(())
    }
}

impl Level {
    fn new(mount: MountId, folder: String, (first, last): (StoreKey, StoreKey)) -> Self {
        Self { mount, folder, next: Some(first), last }
    }

    /// Returns the next records of the level, at most [`CHUNK`]; empty at its end.
    fn steps(&mut self, barrier: &Barrier) -> Vec<LevelRecord> {
        let Some(first) = self.next else { return Vec::new() };
        let published = barrier.published.read();
        let has_children = |id: &Id| {
            let (first, last) = StoreKey::nodes_of(id);
            published.index.range(first..=last).next().is_some()
        };
        let mut range = published.index.range(first..=self.last);
        let steps: Vec<LevelRecord> = range
            .by_ref()
            .take(CHUNK)
            .map(|(key, stamp)| {
                let has_children = key.letter() == b'd' && has_children(&key.last_id());
                LevelRecord { key: *key, stamp: *stamp, has_children }
            })
            .collect();
        self.next = range.next().map(|(key, _)| *key);
        steps
    }
}

impl Tx<'_> {
    /// Reseals a record or a secret's versions, unless that was already done or it is gone. It stops before the
    /// next record when the group has reached `room` bytes ([`crate::barrier::Group::bytes`]). In an empty group, at least one
    /// record is sealed, and a group exceeds `room` by one record at most. A secret whose versions do not fit keeps
    /// some versions under old keys. That is safe, because the node names the key of each version.
    ///
    /// # Errors
    /// The errors of reading a record; [`BarrierError::Degraded`] or [`BarrierError::Fatal`] when writes are stopped.
    pub fn reseal(&mut self, stale: &Stale, room: usize) -> Result<Resealed, BarrierError> {
        self.barrier.check_writable()?;
        match stale {
            Stale::Record(place) => self.reseal_record(place, room),
            Stale::Values(secret) => self.reseal_values(secret, room),
        }
    }

    fn reseal_record(&mut self, Place { key, path }: &Place, room: usize) -> Result<Resealed, BarrierError> {
        if self.overlay.bytes() >= room {
            return Ok(Resealed { records: 0, complete: false });
        }
        let nothing = Resealed { records: 0, complete: true };
        if self.overlay.get(key).is_some() {
            return Ok(nothing);
        }
        let Some(record) = self.barrier.fetch(key)? else { return Ok(nothing) };
        if record.stamp.head()?.term == self.barrier.ring.load().keyring.active_term().id {
            return Ok(nothing);
        }
        let opened = self.barrier.open(key, path, None, &record);
        let body = opened.map_err(|_| self.barrier.degrade("a record does not open"))?;
        let kind = if key.letter() == b'd' { Kind::Node } else { Kind::Entry };
        self.overlay.keep_old(*key, record.bytes);
        self.overlay
            .set(*key, crate::barrier::overlay::Change::Put(Pending { kind, path: path.clone(), body, version: None }));
        Ok(Resealed { records: 1, complete: true })
    }

    /// Gives the versions of a secret new keys and seals their content under them.
    fn reseal_values(&mut self, secret: &Secret, room: usize) -> Result<Resealed, BarrierError> {
        let Secret { mount, path, before } = secret;
        let mut resealed = Resealed { records: 0, complete: true };
        let Some(mut node) = self.secret(*mount, path)? else { return Ok(resealed) };
        let id = self.key_of(*mount, path)?.last_id();
        let bound_path = bound(mount, path);
        let versions: Vec<u64> = node.keys.keys().copied().collect();
        for version in versions {
            let key = StoreKey::value(&id, version);
            if self.overlay.get(&key).is_some() || !self.barrier.is_older(&id, version, *before) {
                continue;
            }
            if self.overlay.bytes() >= room {
                resealed.complete = false;
                break;
            }
            let missing = "a value is missing or does not open";
            let record = self.barrier.fetch(&key)?.ok_or_else(|| self.barrier.degrade(missing))?;
            let opened = self.barrier.open(&key, &bound_path, node.keys.get(&version), &record);
            let body = opened.map_err(|_| self.barrier.degrade(missing))?;
            let fresh = Key::random(&*self.barrier.random)?;
            let version_key = Some((version, fresh.duplicate()));
            self.put(key, Pending { kind: Kind::Value, path: bound_path.clone(), body, version: version_key })?;
            node.keys.insert(version, fresh);
            resealed.records += 1;
        }
        if resealed.records > 0 {
            self.put_node(*mount, path, &node)?;
        }
        Ok(resealed)
    }
}

impl Barrier {
    /// Whether the content of a version was sealed before a generation.
    fn is_older(&self, node: &Id, version: u64, before: u64) -> bool {
        let published = self.published.read();
        let stamp = published.index.get(&StoreKey::value(node, version));
        stamp.and_then(|stamp| stamp.head().ok()).is_some_and(|head| head.generation < before)
    }

    /// Opens every node and entry of `mounts` once. Together with [`crate::barrier::Group::prove_drained`], this is the proof of
    /// amendment M4. A record under a newer term never returns to an older one, because the committer seals only under
    /// the active term. So opening may run beside writers, and only the count needs a single generation. Returns how
    /// many records were opened.
    ///
    /// # Errors
    /// The errors of reading a record. A record that cannot be opened stops writes.
    #[cfg(test)]
    pub(in crate::barrier) fn open_all(&self, mounts: impl IntoIterator<Item = MountId>) -> Result<u64, BarrierError> {
        let mut walk = Walk::new(Depth::Check, mounts);
        walk.next(self, usize::MAX)?;
        Ok(walk.seen())
    }
}
