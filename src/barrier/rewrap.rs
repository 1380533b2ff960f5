//! Sealing records anew, so that an old term can be destroyed. That nothing needs it any more is proved in `drained`.
//!
//! Which records remain is read off the index (a term number in the clear head of each), never off a note of how far a
//! run came: a run that is killed is continued by starting it again. The walk goes down the tree from the mounts, for
//! a record opens only together with the path that it is bound to.

use std::collections::VecDeque;

use crate::crypto::Key;
use crate::crypto::envelope::Kind;

use super::error::BarrierError;
use super::index::Stamp;
use super::names::{Id, MountId, StoreKey, bound};
use super::node::Node;
use super::open::Barrier;
use super::overlay::Pending;
use super::tx::Tx;

/// Index entries looked at under one lock.
const CHUNK: usize = 256;

/// What a walk is to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Nodes and entries under a term other than the active one.
    Records,
    /// Secrets with a version whose content was sealed before this generation.
    Values {
        /// The first generation that need not be sealed anew.
        before: u64,
    },
    /// Nothing; every node and entry is opened on the way.
    Check,
}

/// Something to be sealed anew.
pub enum Stale {
    /// A node or an entry.
    Record(Place),
    /// The versions of a secret.
    Values(Secret),
}

/// What came of a find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resealed {
    /// Records that were sealed anew.
    pub records: u64,
    /// Nothing of the find is left. Otherwise the group had no more room, and the rest belongs in the next one.
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

/// A walk over all records of some mounts. Records that appear behind it are under the active term already.
pub struct Walk {
    depth: Depth,
    mounts: VecDeque<MountId>,
    levels: Vec<Level>,
    seen: u64,
}

/// A range of the index that is still to be looked at.
struct Level {
    mount: MountId,
    folder: String,
    next: Option<StoreKey>,
    last: StoreKey,
}

/// One record of a level.
struct Step {
    key: StoreKey,
    stamp: Stamp,
    has_children: bool,
}

impl Walk {
    /// A walk from the roots of `mounts`.
    #[must_use]
    pub fn new(depth: Depth, mounts: impl IntoIterator<Item = MountId>) -> Self {
        Self { depth, mounts: mounts.into_iter().collect(), levels: Vec::new(), seen: 0 }
    }

    /// Records passed so far.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The next finds, at least `limit` unless the walk ends. Empty means that it has ended.
    ///
    /// # Errors
    /// Errors of reading; a record that does not open stops writes.
    pub fn next(&mut self, barrier: &Barrier, limit: usize) -> Result<Vec<Stale>, BarrierError> {
        let mut found = Vec::new();
        while found.len() < limit && self.chunk(barrier, &mut found)? {}
        Ok(found)
    }

    /// Goes on by a few hundred records; `false` at the end. For walks that only open.
    ///
    /// # Errors
    /// As [`Walk::next`].
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
        step: Step,
        found: &mut Vec<Stale>,
    ) -> Result<(), BarrierError> {
        let Step { key, stamp, has_children } = step;
        let is_node = key.letter() == b'd';
        let path = if is_node { bound(&mount, folder) } else { bound(&mount, "") };
        let open = has_children || self.depth == Depth::Check || (is_node && self.depth != Depth::Records);
        if open {
            // A record can go away between the look at the index and now.
            let Some(body) = barrier.body(&key, &path)? else { return Ok(()) };
            if is_node {
                let decoded = Node::decode(body.reveal());
                let (name, node) = decoded.map_err(|_| barrier.degrade("a record cannot be understood"))?;
                let full = if folder.is_empty() { name } else { format!("{folder}/{name}") };
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

    /// The next records of the level, at most [`CHUNK`]; empty at its end.
    fn steps(&mut self, barrier: &Barrier) -> Vec<Step> {
        let Some(first) = self.next else { return Vec::new() };
        let published = barrier.published.read();
        let has_children = |id: &Id| {
            let (first, last) = StoreKey::nodes_of(id);
            published.index.range(first..=last).next().is_some()
        };
        let mut range = published.index.range(first..=self.last);
        let steps: Vec<Step> = range
            .by_ref()
            .take(CHUNK)
            .map(|(key, stamp)| {
                let has_children = key.letter() == b'd' && has_children(&key.last_id());
                Step { key: *key, stamp: *stamp, has_children }
            })
            .collect();
        self.next = range.next().map(|(key, _)| *key);
        steps
    }
}

impl Tx<'_> {
    /// Seals a find anew, unless it has been already or is gone. Stops before the record that comes after the group has
    /// reached `room` bytes ([`super::Group::bytes`]): in an empty group at least one record is sealed, and a group goes beyond
    /// `room` by one record at most. A secret whose versions do not fit is left with some of them under new keys, which
    /// is sound: the node names the key of each.
    ///
    /// # Errors
    /// Errors of reading; [`BarrierError::Degraded`] or [`BarrierError::Fatal`] when writes are stopped.
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
        self.overlay.set(*key, super::overlay::Change::Put(Pending { kind, path: path.clone(), body, version: None }));
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

    /// Opens every node and entry of `mounts` once. Together with [`super::Group::prove_drained`] this is the proof of
    /// amendment M4: a record that is under a newer term can never come under an older one again, for the committer
    /// seals under the active term only; so opening may go on beside writers, and only the count needs one generation.
    /// Returns how many were opened.
    ///
    /// # Errors
    /// Errors of reading; a record that does not open stops writes.
    pub fn open_all(&self, mounts: impl IntoIterator<Item = MountId>) -> Result<u64, BarrierError> {
        let mut walk = Walk::new(Depth::Check, mounts);
        walk.next(self, usize::MAX)?;
        Ok(walk.seen())
    }
}
