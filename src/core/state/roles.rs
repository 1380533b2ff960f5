//! Roles of `auth/cert`: which certificates of outside PKIs are admitted.
//!
//! The record is in built-in mount 12 under the name of the role. A peer with an outside certificate has the policies
//! of the role that admits it, on every request and without a login. Finding that role requires signature checks, so
//! each connection remembers the result until any role or revocation list changes, for at most a minute.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::api::hex::hex;
use crate::api::request::Body;
use crate::auth::cert::{Kind, Role, RoleRecord, find, proved_anchors};
use crate::barrier::{MountId, Tx, View};
use crate::crypto::hash::sha256;
use crate::pki::Trust;
use crate::pki::outside::{CertificateName, OutsideFacts};

use super::identity::{POLICIES, warn_of_missing};
use super::outside_crls::{self, OutsideCrls};
use crate::core::caller::Caller;
use crate::core::error::VaultError;

/// Largest number of roles.
pub(in crate::core) const MAX_ROLES: usize = 1_024;
/// Largest number of certificates in all roles together. The listener sends each client the names of all authorities.
pub(in crate::core) const MAX_CERTIFICATES: usize = 256;
/// How long a proof is reused, in milliseconds, because the authorities and intermediates may expire too.
const PROOF_MS: u64 = 60_000;

/// A peer with a certificate of an outside PKI, for the time of its connection.
pub struct Outside {
    facts: OutsideFacts,
    /// The names by which a revocation list refers to its certificate and to those that it sent along.
    names: Vec<Option<CertificateName>>,
    known: Mutex<Known>,
}

/// Which role admits the peer, as determined earlier.
#[derive(Default)]
struct Known {
    /// The roles and lists that were used. Different ones make the result invalid.
    roles: Weak<Roles>,
    lists: Weak<OutsideCrls>,
    at_ms: u64,
    /// Whether a list names the peer, its chain or an authority of a role.
    touched: bool,
    /// Whether the peer was rejected for that reason.
    barred: Option<bool>,
    /// Result by the requested role, if any.
    answers: BTreeMap<Option<String>, Option<String>>,
}

impl Outside {
    /// Creates a peer about which nothing is proved yet.
    #[must_use]
    pub(in crate::core) fn new(facts: OutsideFacts) -> Self {
        let ders = std::iter::once(&facts.der).chain(&facts.chain);
        let names = ders.map(|der| CertificateName::of(der)).collect();
        Self { facts, names, known: Mutex::default() }
    }

    /// Whether its own certificate is on one of `lists`.
    fn is_on(&self, lists: &OutsideCrls) -> bool {
        lists.has(self.names.first().and_then(Option::as_ref))
    }

    /// The facts of the certificate.
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

/// All roles by name, and all names, including those of roles that cannot be parsed.
#[derive(Debug, Default)]
pub(in crate::core) struct Roles(BTreeMap<String, Role>, BTreeSet<String>);

impl Roles {
    /// Reads all roles. A role that this program cannot parse admits nobody, and can be overwritten or deleted.
    ///
    /// # Errors
    /// The errors of the barrier when a record cannot be read or written.
    pub(in crate::core) fn load(view: &View<'_>) -> Result<Self, VaultError> {
        let (mut all, mut names) = (BTreeMap::new(), BTreeSet::new());
        for name in view.entries()?.into_iter().filter(|key| outside_crls::is_role(key)) {
            let entry = view.entry(&name)?.ok_or(VaultError::Integrity)?;
            names.insert(name.clone());
            match RoleRecord::decode(entry.value.reveal()).and_then(|record| Role::load(&name, record)) {
                Ok(role) => {
                    all.insert(name, role);
                }
                Err(error) => {
                    tracing::error!(role = name, %error, "a stored role cannot be read, so it admits nobody; write it again or delete it")
                }
            }
        }
        Ok(Self(all, names))
    }

    /// All names, sorted, including those of roles that cannot be parsed.
    pub(in crate::core) fn names(&self) -> Vec<String> {
        self.1.iter().cloned().collect()
    }

    /// Returns a role by name.
    pub(in crate::core) fn get(&self, name: &str) -> Option<&Role> {
        self.0.get(name)
    }

    /// All roles.
    pub(in crate::core) fn iter(&self) -> impl Iterator<Item = &Role> {
        self.0.values()
    }

    /// Number of roles and of their certificates, without the role `name`.
    pub(in crate::core) fn size_without(&self, name: &str) -> (usize, usize) {
        let others = || self.iter().filter(|role| role.name != name);
        (others().count(), others().map(|role| role.certificates().count()).sum())
    }

    /// Adds to `trust` what the listener must accept for the roles.
    pub(in crate::core) fn add_to(&self, trust: &mut Trust) {
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

    /// Returns the role that admits `caller`, a peer with the certificate `outside`, at its current address. With
    /// `wanted`, only the role of that name. No role admits a certificate that is on a list, or that cannot be proved
    /// without one that is.
    pub(in crate::core) fn admitting(
        self: &Arc<Self>,
        lists: &Arc<OutsideCrls>,
        outside: &Outside,
        caller: &Caller,
        wanted: Option<&str>,
        now_ms: u64,
    ) -> Option<&Role> {
        // Stores only names of existing roles, so that nobody can fill the memory of a connection with others.
        if wanted.is_some_and(|name| self.get(name).is_none()) {
            return None;
        }
        let key = wanted.map(str::to_owned);
        let mut known = outside.known.lock();
        known.renew(self, lists, outside, now_ms);
        let counting = known.touched.then_some(&**lists);
        let prove = || self.prove(counting, outside, caller, wanted, now_ms);
        let answer = known.answers.entry(key).or_insert_with(prove);
        answer.as_deref().and_then(|name| self.get(name))
    }

    /// Whether the peer's connection may stay open: no role and no list has changed since its last lookup, or a role
    /// admits it. Changes of anything else must not wait for proofs.
    pub(in crate::core) fn keeps(
        self: &Arc<Self>,
        lists: &Arc<OutsideCrls>,
        outside: &Outside,
        caller: &Caller,
        now_ms: u64,
    ) -> bool {
        let same = {
            let known = outside.known.lock();
            // Without a result there was no lookup. Another query alone may have updated the facts.
            known.is_of(self, lists) && !known.answers.is_empty()
        };
        same || self.admitting(lists, outside, caller, None, now_ms).is_some()
    }

    /// Whether `caller` is rejected because of a revocation list: it is on one, or a role would admit it if there were
    /// none.
    pub(in crate::core) fn bars(
        self: &Arc<Self>,
        lists: &Arc<OutsideCrls>,
        outside: &Outside,
        caller: &Caller,
        now_ms: u64,
    ) -> bool {
        if lists.is_empty() {
            return false;
        }
        let mut known = outside.known.lock();
        known.renew(self, lists, outside, now_ms);
        if !known.touched {
            return false;
        }
        *known.barred.get_or_insert_with(|| {
            let prove = |lists| self.prove(lists, outside, caller, None, now_ms);
            outside.is_on(lists) || (prove(Some(lists)).is_none() && prove(None).is_some())
        })
    }

    /// Returns the name of the role that admits the peer. Certificates on one of `lists` are ignored.
    fn prove(
        &self,
        lists: Option<&OutsideCrls>,
        outside: &Outside,
        caller: &Caller,
        wanted: Option<&str>,
        now_ms: u64,
    ) -> Option<String> {
        let address = caller.address();
        // A role for another network does not apply to this peer.
        let here = || self.iter().filter(|role| role.admits_from(address));
        let Some(lists) = lists else {
            let anchors = proved_anchors(&outside.facts, here(), wanted, now_ms);
            return find(&outside.facts, &anchors, here(), wanted, now_ms).map(|role| role.name.clone());
        };
        if outside.is_on(lists) {
            return None;
        }
        let facts = lists.purge(&outside.facts);
        let mut anchors = proved_anchors(&facts, here(), wanted, now_ms);
        anchors.retain(|anchor| !lists.has(CertificateName::of(anchor).as_ref()));
        find(&facts, &anchors, here(), wanted, now_ms).map(|role| role.name.clone())
    }
}

impl Known {
    /// Whether the result is based on these roles and lists.
    fn is_of(&self, roles: &Arc<Roles>, lists: &Arc<OutsideCrls>) -> bool {
        std::ptr::eq(self.roles.as_ptr(), Arc::as_ptr(roles)) && std::ptr::eq(self.lists.as_ptr(), Arc::as_ptr(lists))
    }

    /// Forgets results that are based on other roles or lists, or that are too old.
    fn renew(&mut self, roles: &Arc<Roles>, lists: &Arc<OutsideCrls>, outside: &Outside, now_ms: u64) {
        if self.is_of(roles, lists) && now_ms.abs_diff(self.at_ms) < PROOF_MS {
            return;
        }
        *self = Self {
            roles: Arc::downgrade(roles),
            lists: Arc::downgrade(lists),
            at_ms: now_ms,
            touched: !lists.is_empty()
                && (outside.names.iter().any(|name| lists.has(name.as_ref())) || lists.has_authority(roles)),
            barred: None,
            answers: BTreeMap::new(),
        };
    }
}

/// Reads one role; `None` when there is no role of that name.
///
/// # Errors
/// [`VaultError::Integrity`] when it cannot be parsed; the errors of the barrier.
pub(in crate::core) fn read(view: &View<'_>, name: &str) -> Result<Option<Role>, VaultError> {
    let Some(entry) = view.entry(name)? else { return Ok(None) };
    Ok(Some(Role::load(name, RoleRecord::decode(entry.value.reveal())?)?))
}

/// Creates or changes a role. Absent fields stay unchanged, and a record that cannot be parsed is overwritten as a whole.
/// `authorities` are the vault's own certificates (DER); no role may name them. Returns warnings for the caller.
///
/// # Errors
/// [`VaultError::BadRequest`] for a malformed field, for an authority of this vault, and for too many roles or
/// certificates; the errors of the barrier.
pub(in crate::core) fn write(
    tx: &mut Tx<'_>,
    name: &str,
    body: &Body,
    authorities: &[&[u8]],
) -> Result<Vec<String>, VaultError> {
    let existing = tx.view(MountId::CERT_ROLES).entry(name)?;
    let existing = existing.and_then(|entry| RoleRecord::decode(entry.value.reveal()).ok());
    let role = Role::from_body(name, body, existing.as_ref(), authorities)?;
    let (others, certificates) = Roles::load(&tx.view(MountId::CERT_ROLES))?.size_without(name);
    if others >= MAX_ROLES || certificates + role.certificates().count() > MAX_CERTIFICATES {
        return Err(VaultError::BadRequest(format!(
            "at most {MAX_ROLES} roles with {MAX_CERTIFICATES} certificates in all are allowed: delete some first"
        )));
    }
    let warnings = warn_of_missing(&tx.view(POLICIES), &role.record.token.policies)?;
    tx.put_entry(MountId::CERT_ROLES, name, &role.record.encode(), 0)?;
    Ok(warnings)
}

/// Rejects an authority of this vault, DER, that looks like one that a role names.
///
/// # Errors
/// [`VaultError::BadRequest`] when a role names an authority with this name or key; the errors of the barrier.
pub(in crate::core) fn refuse_authority(tx: &Tx<'_>, der: &[u8]) -> Result<(), VaultError> {
    let roles = Roles::load(&tx.view(MountId::CERT_ROLES))?;
    if roles.iter().any(|role| role.refuse_vault_authorities(&[der]).is_err()) {
        return Err(VaultError::BadRequest(
            "a role of auth/cert names an authority with this name or key: remove it from that role first".to_owned(),
        ));
    }
    Ok(())
}
