//! What can be kept of a store whose records are damaged, missing, surplus or not those that its state was sealed over.
//!
//! Everything hangs on whether the rest is proved. Where the set hash still fits the heads of the records, the damage lies
//! behind heads that are intact (or a record was only added): what opens is exactly what the last state counts, and all of
//! it is kept. Where it does not fit, any mixture of authentic records of different times may lie there, and a deleted
//! policy could be among them. Then only the contents of mounts are kept, and nothing that gives anybody rights (amendment
//! M13). So it is, too, when the record that is lost is itself of those that give or take rights: without it somebody might
//! get more than he had.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;

use crate::crypto::hash::MacKey;
use crate::keys::{Header, Keyring, TermState};

use super::error::BarrierError;
use super::index::{Index, Stamp};
use super::lifecycle::{StoredState, counts_fit, stamp_of};
use super::names::{MountId, StoreKey, parent_of};
use super::open::{Barrier, Parts};
use super::state::{StateRecord, leaf, sum};
use super::sweep::{Bad, Ledger, MountOf, Part, Sweep};
use super::tx::Tx;

/// What the caller knows of the entries.
#[derive(Clone, Copy)]
pub struct Rules {
    /// Reads the mount table.
    pub mount_of: MountOf,
    /// Entries of built-in mounts that are kept also when only values can be kept. They give nobody rights.
    pub carries: fn(MountId, &str) -> bool,
    /// Mounts whose entries give or take rights: none of them may be lost alone.
    pub gives_rights: fn(MountId) -> bool,
}

/// What a salvage keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// Everything but the bad records: the rest is what the last state counts.
    Rest,
    /// Contents of mounts and what [`Rules::carries`] says: nothing proves that the rest is of one moment.
    Values,
}

/// Damage that was found in the records. Holds paths of the vault: it belongs in no log.
pub struct Damage {
    /// The bad records, in the order in which they were found.
    pub bad: Vec<Bad>,
    /// Records that were looked at.
    pub records: u64,
    /// What can be kept.
    pub keeps: Keeps,
    /// Whether the heads of the records fit the set hash of the state, but for what was added.
    pub proved: bool,
    /// Why nothing may be salvaged, if so.
    refusal: Option<&'static str>,
    named: Vec<(MountId, String)>,
    ledger: Ledger,
    /// Keys in the store that are in no index: foreign ones, and records that cannot be this vault's.
    foreign: Vec<Vec<u8>>,
}

/// The heads of the records, as far as they can be read.
struct Heads {
    index: Index,
    foreign: Vec<Bad>,
    proved: bool,
}

impl Damage {
    /// Looks at every record. `barrier` is a passing one over the index that is returned with the damage; it takes no writes.
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
        sweep.ledger = Some(Ledger { carries, lost: Vec::new(), counts: Vec::new(), left_out: Vec::new() });
        while sweep.step(&barrier)? {}
        let records = sweep.records();
        let (mut bad, ledger, named) = sweep.found();
        let ledger = ledger.ok_or(BarrierError::Fatal("nothing was noted"))?;
        let missed: HashSet<Vec<u8>> = bad.iter().map(|bad| bad.key.clone()).collect();
        let rights = bad.iter().any(|bad| bad.mount.is_some_and(gives_rights));
        let keeps = if proved && !rights { Keeps::Rest } else { Keeps::Values };
        let index = barrier.published.into_inner().index;
        // Without its entry, nothing leads to the records of a mount: all of its secrets would leave.
        let mount_lost =
            named.is_empty() || bad.iter().any(|bad| bad.mount == Some(MountId::MOUNTS) && bad.part == Part::Entry);
        let exposed = |stamp: &Stamp| {
            let term = stamp.head().ok().and_then(|head| keyring.term(head.term));
            term.is_some_and(|term| term.state == TermState::Compromised)
        };
        let refusal = if mount_lost {
            Some("the entry of a mount is lost, and with it every secret of the mount would be")
        } else if keeps == Keeps::Values && index.values().any(exposed) {
            Some("records are under a data key that is compromised, and nothing proves who wrote them")
        } else {
            None
        };
        let keys = foreign.iter().map(|bad| bad.key.clone()).collect();
        // What the tree misses is described by its path already.
        bad.extend(foreign.into_iter().filter(|foreign| !missed.contains(&foreign.key)));
        let damage = Self { bad, records, keeps, proved, refusal, named, ledger, foreign: keys };
        Ok((damage, index))
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.bad.is_empty() && self.proved && self.ledger.counts.is_empty()
    }

    /// Why nothing may be salvaged, if so.
    #[must_use]
    pub fn refusal(&self) -> Option<BarrierError> {
        self.refusal.map(BarrierError::NotSalvageable)
    }

    /// The name of a mount in the mount table.
    #[must_use]
    pub fn name_of(&self, mount: MountId) -> Option<&str> {
        self.named.iter().find(|(id, _)| *id == mount).map(|(_, name)| name.as_str())
    }

    /// How many entries that are sound are not carried.
    #[must_use]
    pub fn left_out(&self) -> usize {
        if self.keeps == Keeps::Values { self.ledger.left_out.len() } else { 0 }
    }

    /// Keys of everything that leaves the store.
    pub(super) fn leaving(&self) -> Vec<Vec<u8>> {
        let left_out = if self.keeps == Keeps::Values { self.ledger.left_out.as_slice() } else { &[] };
        let known = self.ledger.lost.iter().chain(left_out).map(|key| key.as_bytes().to_vec());
        let mut keys: Vec<Vec<u8>> = known.chain(self.foreign.iter().cloned()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// Takes what leaves out of `index`, and counts the rest in `state` anew.
    ///
    /// # Errors
    /// [`BarrierError::Crypto`]; cannot happen for stamps that were read before.
    pub(super) fn cut(&self, index: &mut Index, state: &mut StateRecord, set: &MacKey) -> Result<(), BarrierError> {
        for key in self.leaving() {
            if let Some(key) = StoreKey::parse(&key) {
                index.remove(&key);
            }
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
        Ok(())
    }

    /// Makes the tree agree with what is left: versions whose content is lost count as destroyed, folders have as many
    /// children as there are, and a folder without any goes.
    ///
    /// # Errors
    /// Errors of reading; none of them is expected of records that were opened a moment ago.
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
        // Folders first that stay; those that go count themselves out of their folder.
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
        going.sort_by_key(|(_, folder)| std::cmp::Reverse(depth(folder)));
        for (mount, folder) in going {
            let Some(mut node) = tx.view(mount).node(folder)? else { continue };
            node.child_count = 0;
            tx.put_or_remove(mount, folder, &node)?;
        }
        Ok(())
    }
}

fn depth(path: &str) -> usize {
    if path.is_empty() { 0 } else { 1 + depth(parent_of(path)) }
}

/// Reads the head of every record. What has none of this vault is not indexed.
fn read_heads(parts: &Parts, header: &Header, keyring: &Keyring, stored: &StoredState) -> Result<Heads, BarrierError> {
    let (mut index, mut foreign) = (Index::new(), Vec::new());
    let stray = |key: &[u8], why| Bad {
        mount: None,
        path: String::new(),
        part: Part::Stray,
        why,
        behind: 0,
        key: key.to_vec(),
    };
    let state = StoreKey::state();
    parts.store.scan_heads(&[], &mut |key, head| {
        if key == state.as_bytes() {
            return ControlFlow::Continue(());
        }
        match stamp_of(key, head, header, keyring, &stored.state) {
            Ok(Some((place, stamp))) => {
                let term = stamp.head().map_or(0, |head| head.term);
                if keyring.term(term).is_some_and(|term| term.key.live().is_none()) {
                    foreign.push(stray(key, "its key was destroyed"));
                } else {
                    index.insert(place, stamp);
                }
            }
            Ok(None) => {}
            Err(why) => foreign.push(stray(key, why)),
        }
        ControlFlow::Continue(())
    })?;
    let set = keyring.integrity(stored.iks_id).ok_or(BarrierError::StateDamaged("the header has no key for it"))?;
    let set = MacKey::new(&set.set);
    let found = sum(&set, &index);
    let mut proved = found.ct_eq(&stored.state.set_hash) && counts_fit(&index, &stored.state)?;
    if !proved {
        // One record too many, an old one that was put back, can be told from all other damage.
        let surplus = index.iter().find(|(key, stamp)| {
            let mut without = found.clone();
            without.sub(leaf(&set, key, stamp));
            without.ct_eq(&stored.state.set_hash)
        });
        if let Some(key) = surplus.map(|(key, _)| *key) {
            index.remove(&key);
            foreign.push(stray(key.as_bytes(), "it was put back from an earlier state"));
            proved = counts_fit(&index, &stored.state)?;
        }
    }
    Ok(Heads { index, foreign, proved })
}
