//! Roles of `auth/cert`: which certificates of outside PKIs are somebody here.
//!
//! Record in built-in mount 12, key = name of the role. A peer with an outside certificate has the policies of the role
//! that admits it, on every request and without a login. Which one that is costs a proof over signatures, so each
//! connection remembers the answer; it is forgotten with the first change of any role, and after a minute at the latest.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::auth::cert::{Kind, Role, RoleRecord, find, proved_anchors};
use crate::barrier::{MountId, Tx, View};
use crate::crypto::hash::sha256;
use crate::pki::Trust;
use crate::pki::outside::OutsideFacts;

use super::caller::Caller;
use super::error::VaultError;
use super::mount::hex;

/// Most roles.
pub(super) const MAX_ROLES: usize = 1_024;
/// Most certificates in all roles together: the listener tells each client the names of all authorities.
pub(super) const MAX_CERTIFICATES: usize = 256;
/// How long a proof is taken for granted: the authorities and whatever is between them and the client have dates, too.
const PROOF_MS: u64 = 60_000;

/// A peer with a certificate of an outside PKI, for as long as its connection.
pub struct Outside {
    facts: OutsideFacts,
    known: Mutex<Known>,
}

/// Which role admits the peer, as it was found out.
#[derive(Default)]
struct Known {
    /// The roles that were asked, so that others are asked anew.
    roles: Weak<Roles>,
    at_ms: u64,
    /// By the role that was asked for, if any.
    answers: BTreeMap<Option<String>, Option<String>>,
}

impl Outside {
    /// Nothing is proved yet.
    #[must_use]
    pub(super) fn new(facts: OutsideFacts) -> Self {
        Self { facts, known: Mutex::default() }
    }

    /// What the certificate says.
    #[must_use]
    pub fn facts(&self) -> &OutsideFacts {
        &self.facts
    }
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outside({})", hex(&self.facts.fingerprint))
    }
}

impl PartialEq for Outside {
    fn eq(&self, other: &Self) -> bool {
        self.facts == other.facts
    }
}

impl Eq for Outside {}

/// All roles, by name.
#[derive(Debug, Default)]
pub(super) struct Roles(BTreeMap<String, Role>);

impl Roles {
    /// Reads them all. One that this program cannot read admits nobody, and can be written anew or deleted.
    ///
    /// # Errors
    /// Those of the barrier.
    pub(super) fn load(view: &View<'_>) -> Result<Self, VaultError> {
        let mut all = BTreeMap::new();
        for name in view.entries()? {
            let entry = view.entry(&name)?.ok_or(VaultError::Integrity)?;
            match RoleRecord::decode(entry.value.reveal()).and_then(|record| Role::load(&name, record)) {
                Ok(role) => {
                    all.insert(name, role);
                }
                Err(error) => tracing::error!(role = name, %error, "a stored role cannot be read; it admits nobody"),
            }
        }
        Ok(Self(all))
    }

    /// One by its name.
    pub(super) fn get(&self, name: &str) -> Option<&Role> {
        self.0.get(name)
    }

    /// Every role.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Role> {
        self.0.values()
    }

    /// How many there are, and how many certificates they name, without the role `name`.
    pub(super) fn size_without(&self, name: &str) -> (usize, usize) {
        let others = || self.iter().filter(|role| role.name != name);
        (others().count(), others().map(|role| role.certificates().count()).sum())
    }

    /// Adds to `trust` what the listener must take for the roles.
    pub(super) fn add_to(&self, trust: &mut Trust) {
        let (mut outside, mut pinned) = (BTreeSet::new(), BTreeSet::new());
        for role in self.iter() {
            match &role.kind {
                Kind::Pinned(der) => {
                    pinned.insert(sha256(&[der]));
                }
                Kind::Authorities(ders) => outside.extend(ders.iter().cloned()),
            }
        }
        trust.outside = outside.into_iter().collect();
        trust.pinned = pinned.into_iter().collect();
    }

    /// The role that admits `caller`, a peer with the certificate `outside`, where it is now; with `wanted`, only if it
    /// is the role of that name.
    pub(super) fn admitting(
        self: &Arc<Self>,
        outside: &Outside,
        caller: &Caller,
        wanted: Option<&str>,
        now_ms: u64,
    ) -> Option<&Role> {
        // Names of roles only, so that nobody fills the memory of a connection with others.
        if wanted.is_some_and(|name| self.get(name).is_none()) {
            return None;
        }
        let key = wanted.map(str::to_owned);
        let mut known = outside.known.lock();
        if !std::ptr::eq(known.roles.as_ptr(), Arc::as_ptr(self)) || now_ms.abs_diff(known.at_ms) >= PROOF_MS {
            *known = Known { roles: Arc::downgrade(self), at_ms: now_ms, answers: BTreeMap::new() };
        }
        let answer = known.answers.entry(key).or_insert_with(|| {
            let address = caller.address();
            // A role for another network is no role for this peer.
            let here = || self.iter().filter(|role| role.admits_from(address));
            let anchors = proved_anchors(&outside.facts, here(), wanted, now_ms);
            find(&outside.facts, &anchors, here(), wanted, now_ms).map(|role| role.name.clone())
        });
        answer.as_deref().and_then(|name| self.get(name))
    }
}

/// Refuses an authority of this vault, DER, that looks like one that a role names.
///
/// # Errors
/// [`VaultError::BadRequest`]; those of the barrier.
pub(super) fn refuse_authority(tx: &Tx<'_>, der: &[u8]) -> Result<(), VaultError> {
    let roles = Roles::load(&tx.view(MountId::CERT_ROLES))?;
    if roles.iter().any(|role| role.refuse_own(&[der]).is_err()) {
        return Err(VaultError::BadRequest("a role of auth/cert names an authority like this one".to_owned()));
    }
    Ok(())
}
