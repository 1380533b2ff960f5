//! What decisions are made on: mounts, policies and identities, parsed, immutable, swapped as a whole.
//!
//! A reader loads one `Arc` and sees one state. The committer makes the next snapshot after a group that touched one
//! of the three built-in mounts is published, and before it answers the callers of that group; so a change is in force
//! for every request that starts after its reply. The compiled policies of an identity are cached in the snapshot
//! itself: a cache that is thrown away with the facts it was made from cannot be stale.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::api::secret::SecretText;
use crate::api::spiffe::SpiffeId;
use crate::auth::token::TokenId;
use crate::barrier::{Barrier, MountId, View};
use crate::limits::Table;
use crate::pki::{AuthorityId, BACKDATE_MS, Trust, key_fingerprint};
use crate::policy::{Acl, Policy};

use super::authorities::Authorities;
use super::identity::{self, DEFAULT_POLICY, GroupRecord, IDENTITIES, IdentityRecord, LISTENER, POLICIES};
use super::ledger::{self, Fingerprint, Ledger};
use super::limits;
use super::listening::{Listening, Pin, Told};
use super::lists::Lists;
use super::mount::{Mount, MountTable};
use super::roles::Roles;
use super::tokens::Tokens;
use crate::core::caller::{Caller, Origin};
use crate::core::decide::subject::Subject;
use crate::core::error::VaultError;
use crate::core::ports::Settings;

/// Most compiled sets of policies kept for roles and tokens.
const MAX_SETS: usize = 4_096;

/// Something that a committed change made stale.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::core) enum Touch {
    /// One policy, by name.
    Policy(String),
    /// One identity, by SPIFFE path.
    Identity(String),
    /// One certificate of ours.
    Certificate(Fingerprint),
    /// The authorities.
    Authorities,
    /// The groups of identities.
    Groups,
    /// The roles of `auth/cert`.
    Roles,
    /// One revocation list of `auth/cert`, by name.
    List(String),
    /// One token.
    Token(TokenId),
    /// All tokens.
    Tokens,
    /// The limits.
    Limits,
    /// One secret, by full path. Nothing is decided on it; clients may be waiting for it.
    Secret(String),
}

/// A policy as stored; `None` when this program cannot read its text.
type Parsed = Option<Arc<Policy>>;

/// What a snapshot is made from.
#[derive(Clone)]
struct Facts {
    mounts: Arc<MountTable>,
    policies: Arc<BTreeMap<String, Parsed>>,
    identities: Arc<HashMap<String, Arc<IdentityRecord>>>,
    groups: Arc<BTreeMap<String, GroupRecord>>,
    authorities: Authorities,
    limits: Arc<Table>,
    /// Shared by all snapshots: what was revoked stays so, and everything else in it is for listings.
    ledger: Arc<Ledger>,
    roles: Arc<Roles>,
    lists: Arc<Lists>,
    /// Shared by all snapshots, as the ledger: what was revoked is gone for every one of them.
    tokens: Arc<Tokens>,
    /// Shared by all snapshots: it decides nothing, it is told.
    listening: Arc<Listening>,
}

/// One consistent state of everything that decides.
pub(in crate::core) struct Snapshot {
    pub mounts: Arc<MountTable>,
    pub authorities: Authorities,
    pub ledger: Arc<Ledger>,
    pub roles: Arc<Roles>,
    pub lists: Arc<Lists>,
    pub tokens: Arc<Tokens>,
    pub limits: Arc<Table>,
    facts: Facts,
    subjects: Arc<RwLock<HashMap<String, Arc<Subject>>>>,
    /// Compiled sets of policies of roles and tokens, by their names.
    sets: Arc<RwLock<HashMap<BTreeSet<String>, Arc<Subject>>>>,
    stranger: Arc<Subject>,
}

impl Snapshot {
    /// Reads everything. Called once per unseal.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] when the vault was never completely initialised; [`VaultError::Integrity`] when a
    /// record cannot be understood.
    pub(in crate::core) fn load(barrier: &Barrier, listening: &Arc<Listening>) -> Result<Self, VaultError> {
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
            let record = identity::read(&view, &name)?.ok_or(VaultError::Integrity)?;
            identities.insert(name, Arc::new(record));
        }
        if mounts.is_empty() || !policies.contains_key(DEFAULT_POLICY) {
            return Err(VaultError::Unavailable(
                "initialisation was interrupted: remove the data directory and initialise again",
            ));
        }
        Ok(Self::build(Facts {
            mounts: Arc::new(MountTable::new(mounts)),
            policies: Arc::new(policies),
            identities: Arc::new(identities),
            groups: Arc::new(identity::groups(&barrier.view(MountId::GROUPS))?),
            authorities: Authorities::load(&barrier.view(MountId::CA))?,
            limits: Arc::new(limits::table(&barrier.view(MountId::LIMITS), &Table::default())?),
            ledger: Arc::new(Ledger::load(&barrier.view(MountId::CERTIFICATES))?),
            roles: Arc::new(Roles::load(&barrier.view(MountId::CERT_ROLES))?),
            lists: Arc::new(Lists::load(&barrier.view(MountId::CERT_ROLES))?),
            tokens: Arc::new(Tokens::load(&barrier.view(MountId::TOKENS))?),
            listening: Arc::clone(listening),
        }))
    }

    /// The snapshot after a published group. Reads only what the group touched.
    ///
    /// # Errors
    /// [`VaultError::Integrity`] when a record cannot be read back.
    pub(in crate::core) fn after(&self, barrier: &Barrier, touched: &[Touch]) -> Result<Self, VaultError> {
        let mut facts = self.facts.clone();
        for touch in touched {
            match touch {
                Touch::Policy(name) => {
                    let map = Arc::make_mut(&mut facts.policies);
                    match read_policy(&barrier.view(POLICIES), name)? {
                        Some(policy) => map.insert(name.clone(), policy),
                        None => map.remove(name),
                    };
                }
                Touch::Identity(name) => {
                    let map = Arc::make_mut(&mut facts.identities);
                    match identity::read(&barrier.view(IDENTITIES), name)? {
                        Some(record) => map.insert(name.clone(), Arc::new(record)),
                        None => map.remove(name),
                    };
                }
                Touch::Certificate(fingerprint) => {
                    facts.ledger.reread(&barrier.view(MountId::CERTIFICATES), fingerprint)?;
                }
                Touch::Authorities => facts.authorities = Authorities::load(&barrier.view(MountId::CA))?,
                Touch::Groups => facts.groups = Arc::new(identity::groups(&barrier.view(MountId::GROUPS))?),
                Touch::Roles => facts.roles = Arc::new(Roles::load(&barrier.view(MountId::CERT_ROLES))?),
                Touch::List(name) => {
                    Arc::make_mut(&mut facts.lists).reread(&barrier.view(MountId::CERT_ROLES), name)?;
                }
                Touch::Token(id) => facts.tokens.reread(&barrier.view(MountId::TOKENS), *id)?,
                Touch::Tokens => facts.tokens = Arc::new(Tokens::load(&barrier.view(MountId::TOKENS))?),
                Touch::Limits => {
                    facts.limits = Arc::new(limits::table(&barrier.view(MountId::LIMITS), &facts.limits)?);
                }
                Touch::Secret(_) => {}
            }
        }
        let mut next = Self::build(facts);
        // Compiled policies know nothing of tokens and certificates, which change often.
        if touched.iter().all(|touch| matches!(touch, Touch::Token(_) | Touch::Certificate(_) | Touch::Secret(_))) {
            (next.subjects, next.sets) = (Arc::clone(&self.subjects), Arc::clone(&self.sets));
        }
        Ok(next)
    }

    fn build(facts: Facts) -> Self {
        let stranger = Arc::new(Subject::stranger());
        Self {
            mounts: Arc::clone(&facts.mounts),
            authorities: facts.authorities.clone(),
            ledger: Arc::clone(&facts.ledger),
            roles: Arc::clone(&facts.roles),
            lists: Arc::clone(&facts.lists),
            tokens: Arc::clone(&facts.tokens),
            limits: Arc::clone(&facts.limits),
            facts,
            subjects: Arc::default(),
            sets: Arc::default(),
            stranger,
        }
    }

    /// This state with other authorities; for a change that makes some and issues under them at once.
    pub(in crate::core) fn with_authorities(&self, authorities: Authorities) -> Self {
        Self::build(Facts { authorities, ..self.facts.clone() })
    }

    /// Serial numbers of the certificates of `authority` that have not ended and count for nothing, and since when.
    pub(in crate::core) fn revoked_by(&self, authority: AuthorityId, now_ms: u64) -> Vec<(String, u64)> {
        let since = |facts: &ledger::Facts| {
            if let Some(revoked) = &facts.revoked {
                return Some(revoked.at_ms);
            }
            let record = self.facts.identities.get(&facts.identity)?;
            let disabled = record.disabled.as_ref().map(|disabled| disabled.at_ms);
            disabled.or(facts.is_outlived(record).then_some(record.not_before_ms))
        };
        let living = self.ledger.issued_by(authority, now_ms).into_iter();
        living.filter_map(|facts| Some((facts.serial.clone(), since(&facts)?.min(now_ms)))).collect()
    }

    /// Paths of those who hold a certificate that counts, of one authority or of any: not ended, renewed or revoked, of an
    /// authority that is accepted, and of an identity that is registered and not disabled. The listener is `server`.
    pub(in crate::core) fn holders(&self, authority: Option<AuthorityId>, now_ms: u64) -> BTreeSet<String> {
        let pin = self.pin();
        // A certificate that the listener had before it got one of an outside PKI holds nothing up.
        let shown = |authority: AuthorityId| match pin {
            Pin::Signing => true,
            Pin::Key(key) => self.authorities.get(authority).is_some_and(|own| key_fingerprint(&own.der) == Some(key)),
            Pin::Unknown => false,
        };
        let counts = |facts: &ledger::Facts| {
            let accepted = self.authorities.get(facts.authority).is_some_and(|own| own.record.stage.verifies());
            let wanted = authority.is_none_or(|wanted| wanted == facts.authority);
            let standing = (facts.how == ledger::How::Server && shown(facts.authority))
                || self
                    .facts
                    .identities
                    .get(&facts.identity)
                    .is_some_and(|record| record.disabled.is_none() && !facts.is_outlived(record));
            accepted && wanted && standing
        };
        self.ledger.living(now_ms).into_iter().filter(counts).map(|facts| facts.identity).collect()
    }

    /// As [`Snapshot::holders`] of any authority, without the listener.
    pub(in crate::core) fn clients(&self, now_ms: u64) -> BTreeSet<String> {
        let mut holders = self.holders(None, now_ms);
        holders.remove(LISTENER);
        holders
    }

    /// What is on record of the identity with this path.
    pub(in crate::core) fn identity(&self, path: &str) -> Option<&Arc<IdentityRecord>> {
        self.facts.identities.get(path)
    }

    /// Every registered identity with its record, unordered.
    pub(in crate::core) fn identities(&self) -> impl Iterator<Item = (&String, &Arc<IdentityRecord>)> {
        self.facts.identities.iter()
    }

    /// Every group, by name.
    pub(in crate::core) fn groups(&self) -> &BTreeMap<String, GroupRecord> {
        &self.facts.groups
    }

    /// What clients shall trust.
    pub(in crate::core) fn bundle(&self) -> Told {
        self.facts.listening.bundle(&self.authorities)
    }

    /// Names, in hexadecimal, of the bundles that hold every authority that clients shall trust.
    pub(in crate::core) fn complete_bundles(&self) -> HashSet<String> {
        self.facts.listening.complete(&self.authorities)
    }

    /// What enrolment strings pin.
    pub(in crate::core) fn pin(&self) -> Pin {
        self.facts.listening.pin()
    }

    /// What the listener shall accept from clients.
    pub(in crate::core) fn trust(&self) -> Trust {
        let mut trust = self.authorities.trust();
        self.roles.add_to(&mut trust);
        trust
    }

    /// Policies of an admitted caller by its certificate, whatever token it shows: those of its identity, or of the role
    /// that admits it.
    pub(in crate::core) fn subject(&self, caller: &Caller, now_ms: u64) -> Arc<Subject> {
        self.standing(caller, None, now_ms).unwrap_or_else(|| self.stranger())
    }

    /// As [`Snapshot::subject`], by the role of that name for a certificate of an outside PKI.
    fn standing(&self, caller: &Caller, role: Option<&str>, now_ms: u64) -> Option<Arc<Subject>> {
        match &caller.origin {
            Origin::Outside(outside) => {
                let role = self.roles.admitting(&self.lists, outside, caller, role, now_ms)?;
                Some(self.set(role.record.token.effective_policies().into_iter().collect()))
            }
            Origin::Own(_) | Origin::Internal => Some(self.registered(&caller.identity)),
        }
    }

    /// As [`Snapshot::subject`], for an identity of our own. The trust domain was checked with the certificate; the map is
    /// keyed by path. Strangers are not cached: an attacker with many certificates must not fill the memory.
    pub(in crate::core) fn registered(&self, identity: &SpiffeId) -> Arc<Subject> {
        if let Some(subject) = self.subjects.read().get(identity.path()) {
            return Arc::clone(subject);
        }
        let Some(record) = self.facts.identities.get(identity.path()) else { return self.stranger() };
        let subject = Arc::new(self.compile(identity::names_of(record, &self.facts.groups, identity.path())));
        self.subjects.write().insert(identity.path().to_owned(), Arc::clone(&subject));
        subject
    }

    /// As [`Snapshot::subject`], with the token that the caller shows: it keeps those of its policies that the token
    /// has, too. A token that came from a role is worth what that role gives today.
    pub(in crate::core) fn narrowed(&self, caller: &Caller, text: &SecretText, now_ms: u64) -> Subject {
        let token = match self.tokens.shown(text, caller, now_ms) {
            Ok(token) => token,
            Err(why) => return Subject::refused(why),
        };
        let Some(subject) = self.standing(caller, token.record.role.as_deref(), now_ms) else {
            return Subject::refused("token-without-role");
        };
        let both = subject.policies.iter().filter(|name| token.record.policies.contains(name));
        subject.with_token(&self.set(both.cloned().collect()), token)
    }

    fn set(&self, names: BTreeSet<String>) -> Arc<Subject> {
        if let Some(subject) = self.sets.read().get(&names) {
            return Arc::clone(subject);
        }
        let subject = Arc::new(self.compile(names.clone()));
        let mut sets = self.sets.write();
        if sets.len() >= MAX_SETS {
            sets.clear();
        }
        sets.insert(names, Arc::clone(&subject));
        subject
    }

    /// Whether the certificate of `caller` counts at all.
    ///
    /// # Errors
    /// Why not, for the audit log.
    pub(in crate::core) fn admits(
        &self,
        settings: &Settings,
        caller: &Caller,
        now_ms: u64,
    ) -> Result<(), &'static str> {
        self.admits_of(&settings.trust_domain, &settings.named_authorities, caller, now_ms)
    }

    /// Whether an open connection may stay open: its holder is admitted, and a certificate of an outside PKI has a role.
    pub(in crate::core) fn keeps(&self, settings: &Settings, caller: &Caller, now_ms: u64) -> bool {
        let role = match &caller.origin {
            Origin::Outside(outside) => self.roles.keeps(&self.lists, outside, caller, now_ms),
            Origin::Own(_) | Origin::Internal => true,
        };
        role && self.admits(settings, caller, now_ms).is_ok()
    }

    /// As [`Snapshot::admits`], for certificates of this trust domain and of the vault's own authorities.
    ///
    /// # Errors
    /// As there.
    pub(in crate::core) fn admits_in(
        &self,
        trust_domain: &str,
        caller: &Caller,
        now_ms: u64,
    ) -> Result<(), &'static str> {
        self.admits_of(trust_domain, &[], caller, now_ms)
    }

    fn admits_of(
        &self,
        trust_domain: &str,
        named: &[AuthorityId],
        caller: &Caller,
        now_ms: u64,
    ) -> Result<(), &'static str> {
        // TLS looked at the dates when the connection began; it may have outlived them.
        if caller.not_after_ms <= now_ms {
            return Err("certificate-expired");
        }
        if caller.not_before_ms > now_ms {
            return Err("certificate-not-yet-valid");
        }
        if caller.identity.trust_domain() != trust_domain {
            return Err("foreign-trust-domain");
        }
        if let Origin::Own(authority) = caller.origin {
            // One that the vault has on record counts by its record, whatever a file says.
            let accepted = match self.authorities.get(authority) {
                Some(facts) => facts.record.stage.verifies(),
                None => named.contains(&authority),
            };
            if !accepted {
                return Err("authority-not-trusted");
            }
        }
        if let Origin::Outside(outside) = &caller.origin
            && self.roles.bars(&self.lists, outside, caller, now_ms)
        {
            return Err("certificate-on-revocation-list");
        }
        let (revoked, mark_ms) = self.ledger.standing(&caller.fingerprint);
        if revoked {
            return Err("certificate-revoked");
        }
        if let Some(record) = self.facts.identities.get(caller.identity.path()) {
            if record.disabled.is_some() {
                return Err("identity-disabled");
            }
            if record.outlives(mark_ms, caller.not_before_ms.saturating_add(BACKDATE_MS)) {
                return Err("certificate-older-than-allowed");
            }
        }
        Ok(())
    }

    /// Somebody without any right.
    pub(in crate::core) fn stranger(&self) -> Arc<Subject> {
        Arc::clone(&self.stranger)
    }

    fn compile(&self, names: BTreeSet<String>) -> Subject {
        let all: Vec<String> = names.into_iter().collect();
        let known: Vec<&Parsed> = all.iter().filter_map(|name| self.facts.policies.get(name)).collect();
        // A text that cannot be read may hold a deny. Leaving it out would grant more, so its holders get nothing.
        let acl = if known.iter().any(|policy| policy.is_none()) {
            Acl::merge([])
        } else {
            Acl::merge(known.into_iter().flatten().map(Arc::as_ref))
        };
        Subject::new(all, acl)
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
