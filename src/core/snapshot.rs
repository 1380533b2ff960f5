//! What decisions are made on: mounts, policies and identities, parsed, immutable, swapped as a whole.
//!
//! A reader loads one `Arc` and sees one state. The committer makes the next snapshot after a group that touched one
//! of the three built-in mounts is published, and before it answers the callers of that group; so a change is in force
//! for every request that starts after its reply. The compiled policies of an identity are cached in the snapshot
//! itself: a cache that is thrown away with the facts it was made from cannot be stale.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::api::spiffe::SpiffeId;
use crate::barrier::{Barrier, MountId, View};
use crate::policy::{Acl, Policy};

use super::caller::Caller;
use super::error::VaultError;
use super::identity::{DEFAULT_POLICY, IDENTITIES, IdentityRecord, POLICIES};
use super::mount::{Mount, MountTable};
use super::ports::Settings;

/// Something that a committed change made stale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Touch {
    /// One policy, by name.
    Policy(String),
    /// One identity, by SPIFFE path.
    Identity(String),
    /// One secret, by full path. Nothing is decided on it; clients may be waiting for it.
    Secret(String),
}

/// A policy as stored; `None` when this program cannot read its text.
type Parsed = Option<Arc<Policy>>;

/// One consistent state of everything that decides.
pub(super) struct Snapshot {
    pub mounts: Arc<MountTable>,
    policies: Arc<BTreeMap<String, Parsed>>,
    identities: Arc<HashMap<String, Arc<[String]>>>,
    subjects: RwLock<HashMap<String, Arc<Subject>>>,
    stranger: Arc<Subject>,
}

/// An identity as the policy sees it.
pub(super) struct Subject {
    /// Names of its policies, `default` included; empty for a stranger.
    pub policies: Arc<[String]>,
    /// Their union, compiled.
    pub acl: Acl,
}

impl Snapshot {
    /// Reads everything. Called once per unseal.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] when the vault was never completely initialised; [`VaultError::Integrity`] when a
    /// record cannot be understood.
    pub(super) fn load(barrier: &Barrier) -> Result<Self, VaultError> {
        let mut mounts = Vec::new();
        let view = barrier.view(MountId::MOUNTS);
        for key in view.entries()? {
            let entry = view.entry(&key)?.ok_or(VaultError::Integrity)?;
            mounts.push(Arc::new(Mount::from_record(&key, entry.value.reveal())?));
        }
        let mut policies = BTreeMap::new();
        let view = barrier.view(POLICIES);
        for name in view.entries()? {
            let policy = read_policy(&view, &name)?.ok_or(VaultError::Integrity)?;
            policies.insert(name, policy);
        }
        let mut identities = HashMap::new();
        let view = barrier.view(IDENTITIES);
        for name in view.entries()? {
            let record = read_identity(&view, &name)?.ok_or(VaultError::Integrity)?;
            identities.insert(name, record);
        }
        if mounts.is_empty() || !policies.contains_key(DEFAULT_POLICY) {
            return Err(VaultError::Unavailable(
                "initialisation was interrupted: remove the data directory and initialise again",
            ));
        }
        Ok(Self::build(Arc::new(MountTable::new(mounts)), Arc::new(policies), Arc::new(identities)))
    }

    /// The snapshot after a published group. Reads only what the group touched.
    ///
    /// # Errors
    /// [`VaultError::Integrity`] when a record cannot be read back.
    pub(super) fn after(&self, barrier: &Barrier, touched: &[Touch]) -> Result<Self, VaultError> {
        let mut policies = Arc::clone(&self.policies);
        let mut identities = Arc::clone(&self.identities);
        for touch in touched {
            match touch {
                Touch::Policy(name) => {
                    let map = Arc::make_mut(&mut policies);
                    match read_policy(&barrier.view(POLICIES), name)? {
                        Some(policy) => map.insert(name.clone(), policy),
                        None => map.remove(name),
                    };
                }
                Touch::Secret(_) => {}
                Touch::Identity(name) => {
                    let map = Arc::make_mut(&mut identities);
                    match read_identity(&barrier.view(IDENTITIES), name)? {
                        Some(record) => map.insert(name.clone(), record),
                        None => map.remove(name),
                    };
                }
            }
        }
        Ok(Self::build(Arc::clone(&self.mounts), policies, identities))
    }

    fn build(
        mounts: Arc<MountTable>,
        policies: Arc<BTreeMap<String, Parsed>>,
        identities: Arc<HashMap<String, Arc<[String]>>>,
    ) -> Self {
        let stranger = Arc::new(Subject { policies: Arc::from([]), acl: Acl::merge([]) });
        Self { mounts, policies, identities, subjects: RwLock::default(), stranger }
    }

    /// Policies of the holder of `identity`. The trust domain was checked with the certificate; the map is keyed by
    /// path. Strangers are not cached: an attacker with many certificates must not fill the memory.
    pub(super) fn subject(&self, identity: &SpiffeId) -> Arc<Subject> {
        if let Some(subject) = self.subjects.read().get(identity.path()) {
            return Arc::clone(subject);
        }
        let Some(names) = self.identities.get(identity.path()) else { return self.stranger() };
        let subject = Arc::new(self.compile(names));
        self.subjects.write().insert(identity.path().to_owned(), Arc::clone(&subject));
        subject
    }

    /// Whether the certificate of `caller` counts at all.
    ///
    /// # Errors
    /// Why not, for the audit log.
    pub(super) fn admits(&self, settings: &Settings, caller: &Caller, now_ms: u64) -> Result<(), &'static str> {
        // TLS looked at the dates when the connection began; it may have outlived them.
        if caller.not_after_ms <= now_ms {
            return Err("certificate-expired");
        }
        if caller.not_before_ms > now_ms {
            return Err("certificate-not-yet-valid");
        }
        if caller.identity.trust_domain() != settings.trust_domain {
            return Err("foreign-trust-domain");
        }
        Ok(())
    }

    /// Somebody without any right.
    pub(super) fn stranger(&self) -> Arc<Subject> {
        Arc::clone(&self.stranger)
    }

    fn compile(&self, names: &[String]) -> Subject {
        let mut all: Vec<String> = names.to_vec();
        all.push(DEFAULT_POLICY.to_owned());
        all.sort();
        all.dedup();
        let known: Vec<&Parsed> = all.iter().filter_map(|name| self.policies.get(name)).collect();
        // A text that cannot be read may hold a deny. Leaving it out would grant more, so its holders get nothing.
        let acl = if known.iter().any(|policy| policy.is_none()) {
            Acl::merge([])
        } else {
            Acl::merge(known.into_iter().flatten().map(Arc::as_ref))
        };
        Subject { policies: Arc::from(all), acl }
    }
}

fn read_policy(view: &View<'_>, name: &str) -> Result<Option<Parsed>, VaultError> {
    let Some(entry) = view.entry(name)? else { return Ok(None) };
    let parsed = std::str::from_utf8(entry.value.reveal()).ok().and_then(|text| Policy::parse(text).ok());
    if parsed.is_none() {
        tracing::error!(policy = name, "a stored policy cannot be read; identities that have it are refused");
    }
    Ok(Some(parsed.map(Arc::new)))
}

fn read_identity(view: &View<'_>, name: &str) -> Result<Option<Arc<[String]>>, VaultError> {
    let Some(entry) = view.entry(name)? else { return Ok(None) };
    let record: IdentityRecord = serde_json::from_slice(entry.value.reveal()).map_err(|_| VaultError::Integrity)?;
    Ok(Some(Arc::from(record.policies)))
}
