//! What clients need to verify a listener whose certificate is of an outside PKI: roots that go into their bundle, and
//! the pin of enrolment strings.
//!
//! The daemon says it ([`crate::core::Vault::set_listener`]), at start and whenever its files change; nothing of it decides who
//! a client is. The bundle's id covers these roots, so a change of them makes every host fetch the bundle. It must not
//! look as if nobody had the vault's own authorities any more: the sets of roots that were named before are remembered,
//! and a bundle of the own authorities with any of them is as good for a rotation as today's.
//!
//! Record in built-in mount 6: `listener-roots`, JSON.

use std::collections::HashSet;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::barrier::{MountId, Tx, View};
use crate::crypto::hash::sha256;
use crate::pki;

use super::authorities::Authorities;
use super::mount::hex;
use crate::core::error::VaultError;

/// Sets of roots that are remembered, the oldest forgotten first.
const MAX_SETS: usize = 8;
const RECORD: &str = "listener-roots";

/// What clients need to verify the listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    /// Roots of an outside PKI, DER, that vouch for the listener and for nobody else.
    pub roots: Vec<Vec<u8>>,
    /// What enrolment strings pin.
    pub pin: Pin,
}

/// The key that the enrolment listener's chain leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pin {
    /// That of the authority that signs: the vault looks after the listener's certificate itself.
    #[default]
    Signing,
    /// SHA-256 of the SubjectPublicKeyInfo of a root, or of an authority of ours that signed a certificate by hand.
    Key([u8; 32]),
    /// Nobody said which root the listener's certificate comes from.
    Unknown,
}

/// Digests of the roots of one moment, sorted.
type Set = Vec<[u8; 32]>;

/// The listener as it is now, and the roots that it had before. Outlives a seal.
#[derive(Default)]
pub(in crate::core) struct ListenerRoots(RwLock<KnownRoots>);

#[derive(Default)]
struct KnownRoots {
    now: Listener,
    /// Sets that were named so far, with today's, the oldest first. None is empty.
    sets: Vec<Set>,
    /// How many of them, in this order, are on record.
    saved: Vec<Set>,
}

/// What clients are told to trust.
pub(in crate::core) struct Told {
    /// All of it, PEM, the authority that signs first.
    pub pem: String,
    /// What of it vouches for the listener alone, PEM.
    pub server_pem: String,
    /// The name of all of it.
    pub id: [u8; 16],
}

/// On-disk form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// Format, 1.
    v: u8,
    /// SHA-256 of each certificate, hexadecimal; one list for each set of roots.
    sets: Vec<Vec<String>>,
}

impl ListenerRoots {
    /// The daemon has looked at its files.
    pub(in crate::core) fn set(&self, listener: Listener) {
        let mut state = self.0.write();
        state.add(set_of(&listener.roots));
        state.now = listener;
    }

    /// Remembers what is on record.
    ///
    /// # Errors
    /// [`VaultError::Integrity`] for a record that cannot be understood.
    pub(in crate::core) fn load(&self, view: &View<'_>) -> Result<(), VaultError> {
        let Some(entry) = view.entry(RECORD)? else { return Ok(()) };
        let record: Record = serde_json::from_slice(entry.value.reveal()).map_err(|_| VaultError::Integrity)?;
        let digest = |text: &String| super::ledger::parse_fingerprint(text).ok_or(VaultError::Integrity);
        let set = |set: &Vec<String>| set.iter().map(digest).collect::<Result<Set, _>>();
        let saved = record.sets.iter().map(set).collect::<Result<Vec<_>, _>>()?;
        if record.v != 1 {
            return Err(VaultError::Integrity);
        }
        let mut state = self.0.write();
        let known = std::mem::replace(&mut state.sets, saved.clone());
        known.into_iter().for_each(|set| state.add(set));
        state.saved = saved;
        Ok(())
    }

    /// What is to be written down, if it is not yet.
    pub(in crate::core) fn unsaved(&self) -> Option<Unsaved> {
        let state = self.0.read();
        (state.saved != state.sets).then(|| Unsaved(state.sets.clone()))
    }

    /// It was written down.
    pub(in crate::core) fn saved(&self, written: Unsaved) {
        self.0.write().saved = written.0;
    }

    /// What enrolment strings pin now.
    pub(in crate::core) fn pin(&self) -> Pin {
        self.0.read().now.pin
    }

    /// What clients shall trust now.
    pub(in crate::core) fn bundle(&self, authorities: &Authorities) -> Told {
        let mut pem = authorities.bundle_pem();
        let own: Vec<&[u8]> = authorities.bundle().map(|facts| facts.der.as_slice()).collect();
        let state = self.0.read();
        let roots: Vec<&[u8]> = state.now.roots.iter().map(Vec::as_slice).filter(|der| !own.contains(der)).collect();
        let server_pem: String = roots.iter().map(|der| pki::pem(der)).collect();
        pem.push_str(&server_pem);
        Told { pem, server_pem, id: pki::bundle_id(own.into_iter().chain(roots)) }
    }

    /// Names, in hexadecimal, of the bundles that hold every authority of today's, whichever roots stand beside them.
    pub(in crate::core) fn complete(&self, authorities: &Authorities) -> HashSet<String> {
        let own: Set = authorities.bundle().map(|facts| sha256(&[&facts.der])).collect();
        let state = self.0.read();
        // A host from before there were such roots has the authorities alone.
        let sets = state.sets.iter().map(Vec::as_slice).chain([&[][..]]);
        sets.map(|roots| hex(&pki::bundle_id_of([&own, roots].concat()))).collect()
    }
}

impl KnownRoots {
    /// Puts a set last.
    fn add(&mut self, set: Set) {
        if set.is_empty() || self.sets.last() == Some(&set) {
            return;
        }
        self.sets.retain(|known| *known != set);
        self.sets.push(set);
        let over = self.sets.len().saturating_sub(MAX_SETS);
        self.sets.drain(..over);
    }
}

/// Sets of roots that are not on record.
pub(in crate::core) struct Unsaved(Vec<Set>);

impl Unsaved {
    /// Writes them down.
    ///
    /// # Errors
    /// Those of the barrier.
    pub(in crate::core) fn write(&self, tx: &mut Tx<'_>) -> Result<(), VaultError> {
        let sets = self.0.iter().map(|set| set.iter().map(|digest| hex(digest)).collect()).collect();
        let bytes = serde_json::to_vec(&Record { v: 1, sets }).map_err(|_| VaultError::Internal)?;
        tx.put_entry(MountId::CA, RECORD, &bytes, 0)?;
        Ok(())
    }
}

fn set_of(roots: &[Vec<u8>]) -> Set {
    let mut set: Set = roots.iter().map(|der| sha256(&[der])).collect();
    set.sort_unstable();
    set.dedup();
    set
}
