//! What clients need to verify a listener with a certificate of an outside PKI: roots for their bundle, and the pin for
//! enrolment strings.
//!
//! The daemon provides them ([`crate::core::Vault::set_listener`]) at start and whenever its files change. They do not
//! decide who a client is. The bundle's id covers these roots, so changing them makes every host fetch the bundle again.
//! Meanwhile it must not look as if nobody had the vault's own authorities. So earlier sets of roots are remembered:
//! for a rotation, a bundle of the vault's authorities with any of these sets counts as current.
//!
//! The record is in built-in mount 6: `listener-roots`, in JSON.

use std::collections::HashSet;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::api::hex::hex;
use crate::barrier::{MountId, Tx, View};
use crate::crypto::hash::sha256;
use crate::pki;

use super::authorities::Authorities;
use crate::core::error::VaultError;

/// Number of remembered sets of roots. The oldest is forgotten first.
const MAX_SETS: usize = 8;
const RECORD: &str = "listener-roots";

/// What clients need to verify the listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listener {
    /// Roots of an outside PKI, DER. They vouch only for the listener.
    pub roots: Vec<Vec<u8>>,
    /// What enrolment strings pin.
    pub pin: Pin,
}

/// The key at the end of the enrolment listener's chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pin {
    /// The key of the authority that signs, because the vault issues the listener's certificate itself.
    #[default]
    Signing,
    /// SHA-256 of the SubjectPublicKeyInfo of a root, or of one of our authorities that signed a certificate by hand.
    Key([u8; 32]),
    /// Unknown: no known root issued the listener's certificate.
    Unknown,
}

/// Sorted digests of the roots at one point in time.
type Set = Vec<[u8; 32]>;

/// The current listener, and its earlier roots. Kept while the vault is sealed.
#[derive(Default)]
pub(in crate::core) struct ListenerRoots(RwLock<KnownRoots>);

#[derive(Default)]
struct KnownRoots {
    now: Listener,
    /// The sets so far, oldest first, including the current one. None is empty.
    sets: Vec<Set>,
    /// The sets that are stored.
    saved: Vec<Set>,
}

/// What clients must trust.
pub(in crate::core) struct Told {
    /// All of it in PEM, with the signing authority first.
    pub pem: String,
    /// The part that only vouches for the listener, PEM.
    pub server_pem: String,
    /// The id of the whole.
    pub id: [u8; 16],
}

/// On-disk form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// Format, 1.
    v: u8,
    /// SHA-256 of each certificate in hexadecimal, one list per set of roots.
    sets: Vec<Vec<String>>,
}

impl ListenerRoots {
    /// Called when the daemon has read its files.
    pub(in crate::core) fn set(&self, listener: Listener) {
        let mut state = self.0.write();
        state.add(set_of(&listener.roots));
        state.now = listener;
    }

    /// Reads the stored sets.
    ///
    /// # Errors
    /// [`VaultError::Integrity`] for a record that cannot be parsed.
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

    /// The sets that are not stored yet, if any.
    pub(in crate::core) fn unsaved(&self) -> Option<Unsaved> {
        let state = self.0.read();
        (state.saved != state.sets).then(|| Unsaved(state.sets.clone()))
    }

    /// Called when they have been stored.
    pub(in crate::core) fn saved(&self, written: Unsaved) {
        self.0.write().saved = written.0;
    }

    /// What enrolment strings pin now.
    pub(in crate::core) fn pin(&self) -> Pin {
        self.0.read().now.pin
    }

    /// What clients must trust now.
    pub(in crate::core) fn bundle(&self, authorities: &Authorities) -> Told {
        let mut pem = authorities.bundle_pem();
        let own: Vec<&[u8]> = authorities.bundle().map(|facts| facts.der.as_slice()).collect();
        let state = self.0.read();
        let roots: Vec<&[u8]> = state.now.roots.iter().map(Vec::as_slice).filter(|der| !own.contains(der)).collect();
        let server_pem: String = roots.iter().map(|der| pki::pem(der)).collect();
        pem.push_str(&server_pem);
        Told { pem, server_pem, id: pki::bundle_id(own.into_iter().chain(roots)) }
    }

    /// Ids, in hexadecimal, of the bundles that contain all current authorities, with any of the sets of roots.
    pub(in crate::core) fn complete(&self, authorities: &Authorities) -> HashSet<String> {
        let own: Set = authorities.bundle().map(|facts| sha256(&[&facts.der])).collect();
        let state = self.0.read();
        // A host that fetched the bundle before there were such roots has only the authorities.
        let sets = state.sets.iter().map(Vec::as_slice).chain([&[][..]]);
        sets.map(|roots| hex(&pki::bundle_id_of([&own, roots].concat()))).collect()
    }
}

impl KnownRoots {
    /// Adds a set at the end.
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

/// Sets of roots that are not stored yet.
pub(in crate::core) struct Unsaved(Vec<Set>);

impl Unsaved {
    /// Stores them.
    ///
    /// # Errors
    /// The errors of the barrier when a record cannot be read or written.
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
