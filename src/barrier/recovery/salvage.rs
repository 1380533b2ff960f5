//! Decides what can be kept of a store whose records are damaged, missing, unexpected or not those of its sealed state.
//!
//! What is kept depends on whether the remaining records can be proved to be the last state. If the set hash still
//! matches the heads of the records, all heads are intact (or one record was only added). Then the records that open are
//! exactly those of the last state, and all of them are kept. If it does not match, the store may be any mixture of
//! authentic records from different points in time, and a deleted policy could be among them. Then only the contents of
//! mounts are kept, and nothing that grants access (amendment M13). The same applies when a record that controls access
//! is itself lost, because without it a caller might gain rights.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use crate::crypto::hash::MacKey;
use crate::keys::{Header, Keyring, TermState};

use super::findings::{Bad, Ledger, MountNames, Part};
use super::sweep::{MountOf, Sweep};
use crate::barrier::error::BarrierError;
use crate::barrier::index::{Index, Stamp};
use crate::barrier::lifecycle::heads::{counts_fit, stamp_of};
use crate::barrier::lifecycle::matching::StoredState;
use crate::barrier::names::{MountId, StoreKey};
use crate::barrier::open::{Barrier, Parts};
use crate::barrier::state::{StateRecord, leaf, sum};
use crate::barrier::tx::Tx;

/// What the caller of a salvage must know about entries.
#[derive(Clone, Copy)]
pub struct Rules {
    /// Reads the mount table.
    pub mount_of: MountOf,
    /// Whether an entry of a built-in mount is kept even when only values can be kept. Such entries grant no access.
    pub carries: fn(MountId, &str) -> bool,
    /// Whether the entries of a mount control access. If one of them is lost, only values are kept.
    pub gives_rights: fn(MountId) -> bool,
}

/// What a salvage keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// Everything except the bad records: the others are exactly those of the last state.
    Rest,
    /// Only the contents of mounts and the entries in [`Rules::carries`].
    Values,
}

/// Damage found in the records. Contains paths of the vault, so it must not be logged.
pub struct Damage {
    /// The bad records, in the order in which they were found.
    pub bad: Vec<Bad>,
    /// Number of records that were examined.
    pub records: u64,
    /// What can be kept.
    pub keeps: Keeps,
    /// Whether the heads of the records match the set hash of the state, apart from one record that was added.
    pub proved: bool,
    /// The mounts that the mount table names.
    pub named: MountNames,
    /// Why the store cannot be salvaged; `None` if it can.
    refusal: Option<&'static str>,
    ledger: Ledger,
    /// Keys of stored records that are not indexed: those that do not belong to this vault, or not to this state.
    foreign: Vec<Vec<u8>>,
}

/// The record heads that can be read.
struct Heads {
    index: Index,
    foreign: Vec<Bad>,
    proved: bool,
}

impl Damage {
    /// Examines every record, and returns the damage with the index. `passing` makes a temporary barrier over that index,
    /// which is only read from.
    ///
    /// # Errors
    /// [`BarrierError::Store`] when the store cannot be read at all.
    pub(super) fn find(
        parts: &Parts,
        (header, keyring, stored): (&Header, &Keyring, &StoredState),
        rules: Rules,
        passing: impl FnOnce(Index) -> Barrier,
    ) -> Result<(Self, Index), BarrierError> {
        let Heads { index, foreign, proved } = read_heads(parts, header, keyring, stored)?;
        let barrier = passing(index);
        let mut sweep = Sweep::new(&barrier, rules.mount_of, usize::MAX);
        let Rules { carries, gives_rights, .. } = rules;
        sweep.found.ledger = Some(Ledger { carries, lost: Vec::new(), counts: Vec::new(), left_out: Vec::new() });
        while sweep.step(&barrier)? {}
        let records = sweep.records();
        let (mut bad, ledger, named) = sweep.found();
        let ledger = ledger.ok_or(BarrierError::Fatal("the sweep has no ledger"))?;
        let missed: HashSet<Vec<u8>> = bad.iter().map(|bad| bad.key.clone()).collect();
        let rights = bad.iter().any(|bad| bad.mount.is_some_and(gives_rights));
        let keeps = if proved && !rights { Keeps::Rest } else { Keeps::Values };
        let index = barrier.published.into_inner().index;
        // The records of a mount can only be reached through its entry. Without it, all of its secrets would be removed.
        let mount_lost =
            named.is_empty() || bad.iter().any(|bad| bad.mount == Some(MountId::MOUNTS) && bad.part == Part::Entry);
        let exposed = |stamp: &Stamp| {
            let term = stamp.head().ok().and_then(|head| keyring.term(head.term));
            term.is_some_and(|term| term.state == TermState::Compromised)
        };
        let refusal = if mount_lost {
            Some("the entry of a mount is damaged, so every secret of the mount would be lost")
        } else if keeps == Keeps::Values && index.values().any(exposed) {
            Some("records use a compromised data key, so an attacker may have written them")
        } else {
            None
        };
        let keys = foreign.iter().map(|bad| bad.key.clone()).collect();
        // A record that the tree lists and the index lacks is already described by its path.
        bad.extend(foreign.into_iter().filter(|foreign| !missed.contains(&foreign.key)));
        let damage = Self { bad, records, keeps, proved, refusal, named, ledger, foreign: keys };
        Ok((damage, index))
    }

    /// Whether no damage was found.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.bad.is_empty() && self.proved && self.ledger.counts.is_empty()
    }

    /// Why the store cannot be salvaged; `None` if it can.
    #[must_use]
    pub fn refusal(&self) -> Option<BarrierError> {
        self.refusal.map(BarrierError::NotSalvageable)
    }

    /// Number of records that will be removed.
    #[must_use]
    pub fn removes(&self) -> usize {
        self.leaving().len()
    }

    /// Returns the keys of all records that will be removed.
    pub(super) fn leaving(&self) -> Vec<Vec<u8>> {
        let left_out = if self.keeps == Keeps::Values { self.ledger.left_out.as_slice() } else { &[] };
        let known = self.ledger.lost.iter().chain(left_out).map(|key| key.as_bytes().to_vec());
        let mut keys: Vec<Vec<u8>> = known.chain(self.foreign.iter().cloned()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Removes the records of [`Damage::leaving`] from `index`, and updates the counts and the set hash in `state`. Returns
    /// their keys.
    ///
    /// # Errors
    /// [`BarrierError::Crypto`] for a malformed stamp, which does not happen for stamps that were read before.
    pub(super) fn cut(
        &self,
        index: &mut Index,
        state: &mut StateRecord,
        set: &MacKey,
    ) -> Result<Vec<Vec<u8>>, BarrierError> {
        let leaving = self.leaving();
        for key in leaving.iter().filter_map(|key| StoreKey::parse(key)) {
            index.remove(&key);
        }
        for used in &mut state.terms {
            used.live = 0;
        }
        for stamp in index.values() {
            let term = stamp.head()?.term;
            if term != 0 {
                let used = state.term(term);
                used.live = used.live.saturating_add(1);
                used.seals = used.seals.max(used.live);
            }
        }
        state.record_count = u64::try_from(index.len()).unwrap_or(u64::MAX);
        state.set_hash = sum(set, index);
        Ok(leaving)
    }

    /// Updates the tree to match the remaining records: marks versions whose content is lost as destroyed, corrects the
    /// number of children of folders, and removes empty folders.
    ///
    /// # Errors
    /// The errors of reading a record. None is expected, because the records were opened just before.
    pub(super) fn repair(&self, tx: &mut Tx<'_>) -> Result<(), BarrierError> {
        let mut versions: BTreeMap<(MountId, &str), Vec<u64>> = BTreeMap::new();
        for bad in &self.bad {
            if let (Some(mount), Part::Version(version)) = (bad.mount, bad.part) {
                versions.entry((mount, bad.path.as_str())).or_default().push(version);
            }
        }
        for ((mount, path), lost) in versions {
            let Some(mut node) = tx.secret(mount, path)? else { continue };
            node.keys.retain(|version, _| !lost.contains(version));
            for version in node.meta.iter_mut().flat_map(|meta| &mut meta.versions) {
                version.destroyed |= lost.contains(&version.version);
            }
            tx.put_node(mount, path, &node)?;
        }
        // First the folders that stay: removing an empty folder afterwards decrements the count of its parent.
        let mut going: Vec<(MountId, &str)> = Vec::new();
        for (mount, folder, good) in &self.ledger.counts {
            let Some(mut node) = tx.view(*mount).node(folder)? else { continue };
            if *good == 0 && node.meta.is_none() {
                going.push((*mount, folder.as_str()));
                continue;
            }
            node.child_count = *good;
            tx.put_node(*mount, folder, &node)?;
        }
        // None of them is inside another one, because a folder with an intact folder inside counts it.
        for (mount, folder) in going {
            let Some(mut node) = tx.view(mount).node(folder)? else { continue };
            node.child_count = 0;
            tx.put_or_remove(mount, folder, &node)?;
        }
        Ok(())
    }
}

/// Reads the head of every record. Records that do not belong to this vault are skipped.
fn read_heads(parts: &Parts, header: &Header, keyring: &Keyring, stored: &StoredState) -> Result<Heads, BarrierError> {
    let (mut index, mut foreign) = (Index::new(), Vec::new());
    let state = StoreKey::state();
    parts.store.scan_heads(&[], &mut |key, head| {
        if key == state.as_bytes() {
            return ControlFlow::Continue(());
        }
        match stamp_of(key, head, header, keyring, &stored.state) {
            Ok(Some((place, stamp))) => {
                let term = stamp.head().map_or(0, |head| head.term);
                if keyring.term(term).is_some_and(|term| term.key.live().is_none()) {
                    foreign.push(Bad::stray(key, "its key was destroyed"));
                } else {
                    index.insert(place, stamp);
                }
            }
            Ok(None) => {}
            Err(why) => foreign.push(Bad::stray(key, why)),
        }
        ControlFlow::Continue(())
    })?;
    let set = keyring.integrity(stored.iks_id).ok_or(BarrierError::StateDamaged("the header has no key for it"))?;
    let set = MacKey::new(&set.set);
    let found = sum(&set, &index);
    let mut proved = found.ct_eq(&stored.state.set_hash) && counts_fit(&index, &stored.state)?;
    if !proved {
        // A single additional record (an old one that was restored) can be told apart from all other damage: without it,
        // the sum matches.
        let surplus = index.iter().find(|(key, stamp)| {
            let mut without = found.clone();
            without.sub(leaf(&set, key, stamp));
            without.ct_eq(&stored.state.set_hash)
        });
        if let Some(key) = surplus.map(|(key, _)| *key) {
            index.remove(&key);
            foreign.push(Bad::stray(key.as_bytes(), "it was restored from an earlier state"));
            proved = counts_fit(&index, &stored.state)?;
        }
    }
    Ok(Heads { index, foreign, proved })
}
