//! The state on which decisions are made: mounts, policies and identities, parsed, immutable, and replaced as a whole.
//!
//! A reader loads one `Arc` and sees one state. When a group that changed any of these records is published, the
//! committer makes the next snapshot before it answers the callers of that group. So a change is in force for every
//! request that starts after its reply. A snapshot shares everything unchanged with the one before, including the
//! compiled policies of identities (`compiled.rs`). So one change costs the same at ten identities and at 100,000.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::api::secret::SecretText;
use crate::api::spiffe::SpiffeId;
use crate::auth::token::TokenId;
use crate::barrier::{Barrier, EntryValue, MountId, View};
use crate::limits::Table;
use crate::pki::{AuthorityId, BACKDATE_MS, Trust, key_fingerprint};
use crate::policy::Policy;

use super::authorities::Authorities;
use super::barred::Barred;
use super::compiled::{Compiled, Grants, Parsed};
use super::identity::{self, DEFAULT_POLICY, GroupRecord, IDENTITIES, IdentityRecord, LISTENER, POLICIES};
use super::ledger::{self, Fingerprint, Ledger};
use super::limits;
use super::listener_roots::{ListenerRoots, Pin, Told};
use super::mount::{Mount, MountTable};
use super::outside_crls::OutsideCrls;
use super::roles::Roles;
use super::sharded::Sharded;
use super::strings::Strings;
use super::tokens::Tokens;
use crate::core::caller::{Caller, Origin};
use crate::core::error::VaultError;
use crate::core::ports::Settings;
use crate::core::state::subject::Subject;

/// Something that a committed change has made stale.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::core) enum Touch {
    /// One policy, by name.
    Policy(String),
    /// One identity, by SPIFFE path.
    Identity(String),
    /// One certificate of our own authorities.
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
    /// One enrolment string, by id.
    Enrolment(String),
    /// The limits.
    Limits,
    /// One secret, by full path. No decision depends on it, but clients may be waiting for it.
    Secret(String),
}

/// The parts of a snapshot.
#[derive(Clone)]
struct Facts {
    mounts: Arc<MountTable>,
    grants: Grants,
    identities: Sharded<Arc<IdentityRecord>>,
    authorities: Authorities,
    limits: Arc<Table>,
    /// Shared by all snapshots: revocations are never undone, and the rest is only for lists.
    ledger: Arc<Ledger>,
    roles: Arc<Roles>,
    lists: Arc<OutsideCrls>,
    /// Shared by all snapshots, like the ledger: a revoked token is gone for all of them.
    tokens: Arc<Tokens>,
    /// Shared by all snapshots: it only tells where to look, and the records decide.
    strings: Arc<Strings>,
    /// Shared by all snapshots: nothing is decided by it; it is only passed on to clients.
    listening: Arc<ListenerRoots>,
}

/// One consistent state of everything that decisions depend on.
pub(in crate::core) struct Snapshot {
    pub mounts: Arc<MountTable>,
    pub authorities: Authorities,
    pub ledger: Arc<Ledger>,
    pub roles: Arc<Roles>,
    pub lists: Arc<OutsideCrls>,
    pub tokens: Arc<Tokens>,
    pub strings: Arc<Strings>,
    pub limits: Arc<Table>,
    facts: Facts,
    shared: Shared,
    stranger: Arc<Subject>,
}

/// Everything else that the snapshots of an open vault share.
#[derive(Clone, Default)]
struct Shared {
    compiled: Arc<Compiled>,
    /// An identity that was found to be an administrator. This is proved again at each use.
    administrator: Arc<Mutex<Option<String>>>,
}

impl Snapshot {
    /// Reads everything. Called once per unseal.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] when the initialisation of the vault was never completed; [`VaultError::Integrity`]
    /// when a record cannot be parsed.
    pub(in crate::core) fn load(barrier: &Barrier, listening: &Arc<ListenerRoots>) -> Result<Self, VaultError> {
        let mut mounts = Vec::new();
        let view = barrier.view(MountId::MOUNTS);
        for key in view.entries()? {
            let entry = view.entry(&key)?.ok_or(VaultError::Integrity)?;
            mounts.push(Arc::new(Mount::from_record(&key, entry.value.reveal())?));
        }
        let mut policies = BTreeMap::new();
        barrier.view(POLICIES).each_entry(|name, entry| {
            policies.insert(name.to_owned(), parse_policy(name, &entry));
            Ok::<(), VaultError>(())
        })?;
        let mut identities = Sharded::default();
        barrier.view(IDENTITIES).each_entry(|name, entry| {
            identities.set(name, Some(Arc::new(identity::decode(&entry)?)));
            Ok::<(), VaultError>(())
        })?;
        // `init` writes both in its only transaction, and nothing removes them. Without them, that transaction never
        // happened or its records are lost. The two have opposite remedies, so they must not be confused.
        if (mounts.is_empty() || !policies.contains_key(DEFAULT_POLICY)) && barrier.record_count() > 0 {
            tracing::error!(
                "the mount table or the policy `default` is missing although there are records: put the data folder back \
                 from a backup; do not remove it"
            );
            return Err(VaultError::Integrity);
        }
        if mounts.is_empty() || !policies.contains_key(DEFAULT_POLICY) {
            return Err(VaultError::Unavailable(
                "the initialisation was interrupted: remove the data folder and run `strongroomd init` again",
            ));
        }
        let facts = Facts {
            mounts: Arc::new(MountTable::new(mounts)),
            grants: Grants::new(policies, identity::groups(&barrier.view(MountId::GROUPS))?),
            identities,
            authorities: Authorities::load(&barrier.view(MountId::CA))?,
            limits: Arc::new(limits::table(&barrier.view(MountId::LIMITS), &Table::default())?),
            ledger: Arc::new(Ledger::load(&barrier.view(MountId::CERTIFICATES))?),
            roles: Arc::new(Roles::load(&barrier.view(MountId::CERT_ROLES))?),
            lists: Arc::new(OutsideCrls::load(&barrier.view(MountId::CERT_ROLES))?),
            tokens: Arc::new(Tokens::load(&barrier.view(MountId::TOKENS))?),
            strings: Arc::new(Strings::load(&barrier.view(MountId::ENROLMENTS))?),
            listening: Arc::clone(listening),
        };
        Ok(Self::build(facts, Shared::default()))
    }

    /// Makes the snapshot after a published group. Reads only what the group changed.
    ///
    /// # Errors
    /// [`VaultError::Integrity`] when a record cannot be read back.
    pub(in crate::core) fn after(&self, barrier: &Barrier, touched: &[Touch]) -> Result<Self, VaultError> {
        let mut facts = self.facts.clone();
        // A group may contain 256 changes of one record or folder. Each record is read once, in its current state.
        for touch in touched.iter().collect::<BTreeSet<_>>() {
            match touch {
                Touch::Policy(name) => facts.grants.set_policy(name, read_policy(&barrier.view(POLICIES), name)?),
                Touch::Identity(name) => {
                    facts.identities.set(name, identity::read(&barrier.view(IDENTITIES), name)?.map(Arc::new));
                    self.shared.compiled.forget(name);
                }
                Touch::Certificate(fingerprint) => {
                    facts.ledger.reread(&barrier.view(MountId::CERTIFICATES), fingerprint)?;
                }
                Touch::Authorities => facts.authorities = Authorities::load(&barrier.view(MountId::CA))?,
                Touch::Groups => facts.grants.set_groups(identity::groups(&barrier.view(MountId::GROUPS))?),
                Touch::Roles => facts.roles = Arc::new(Roles::load(&barrier.view(MountId::CERT_ROLES))?),
                Touch::List(name) => {
                    Arc::make_mut(&mut facts.lists).reread(&barrier.view(MountId::CERT_ROLES), name)?;
                }
                Touch::Token(id) => facts.tokens.reread(&barrier.view(MountId::TOKENS), *id)?,
                Touch::Tokens => facts.tokens = Arc::new(Tokens::load(&barrier.view(MountId::TOKENS))?),
                Touch::Enrolment(id) => facts.strings.reread(&barrier.view(MountId::ENROLMENTS), id)?,
                Touch::Limits => {
                    facts.limits = Arc::new(limits::table(&barrier.view(MountId::LIMITS), &facts.limits)?);
                }
                Touch::Secret(_) => {}
            }
        }
        Ok(Self::build(facts, self.shared.clone()))
    }

    fn build(facts: Facts, shared: Shared) -> Self {
        let stranger = Arc::new(Subject::stranger());
        Self {
            mounts: Arc::clone(&facts.mounts),
            authorities: facts.authorities.clone(),
            ledger: Arc::clone(&facts.ledger),
            roles: Arc::clone(&facts.roles),
            lists: Arc::clone(&facts.lists),
            tokens: Arc::clone(&facts.tokens),
            strings: Arc::clone(&facts.strings),
            limits: Arc::clone(&facts.limits),
            facts,
            shared,
            stranger,
        }
    }

    /// Returns this state with other authorities, for a change that creates authorities and issues certificates with
    /// them at once.
    pub(in crate::core) fn with_authorities(&self, authorities: Authorities) -> Self {
        Self::build(Facts { authorities, ..self.facts.clone() }, self.shared.clone())
    }

    /// Serial numbers of the certificates of `authority` that have not expired but were revoked, and since when.
    pub(in crate::core) fn revoked_by(&self, authority: AuthorityId, now_ms: u64) -> Vec<(String, u64)> {
        let since = |facts: &ledger::Facts| {
            if let Some(revoked) = &facts.revoked {
                return Some(revoked.at_ms);
            }
            let record = self.facts.identities.get(&facts.identity)?;
            let disabled = record.disabled.as_ref().map(|disabled| disabled.at_ms);
            disabled.or(facts.is_outlived(record).then_some(record.not_before_ms))
        };
        let mut revoked = Vec::new();
        self.ledger.visit(|facts| {
            if facts.authority == authority
                && facts.not_after_ms > now_ms
                && let Some(since_ms) = since(facts)
            {
                revoked.push((facts.serial.clone(), since_ms.min(now_ms)));
            }
        });
        revoked
    }

    /// Paths of all holders of a valid certificate, of one authority or of any: not expired, renewed or revoked, of an
    /// accepted authority, and of an identity that is registered and not disabled. The listener is `server`.
    pub(in crate::core) fn holders(&self, authority: Option<AuthorityId>, now_ms: u64) -> BTreeSet<String> {
        let pin = self.pin();
        // A certificate that the listener had before it got one from an outside PKI does not delay anything.
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
        let mut holders = BTreeSet::new();
        self.ledger.visit(|facts| {
            if facts.is_living(now_ms) && !holders.contains(&facts.identity) && counts(facts) {
                holders.insert(facts.identity.clone());
            }
        });
        holders
    }

    /// As [`Snapshot::holders`] for any authority, without the listener.
    pub(in crate::core) fn clients(&self, now_ms: u64) -> BTreeSet<String> {
        let mut holders = self.holders(None, now_ms);
        holders.remove(LISTENER);
        holders
    }

    /// The record of the identity with this path.
    pub(in crate::core) fn identity(&self, path: &str) -> Option<&Arc<IdentityRecord>> {
        self.facts.identities.get(path)
    }

    /// All registered identities with their records, unordered.
    pub(in crate::core) fn identities(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<IdentityRecord>)> {
        self.facts.identities.iter()
    }

    /// Number of registered identities.
    pub(in crate::core) fn identity_count(&self) -> usize {
        self.facts.identities.len()
    }

    /// All groups by name.
    pub(in crate::core) fn groups(&self) -> &BTreeMap<String, GroupRecord> {
        self.facts.grants.groups()
    }

    /// What clients must trust.
    pub(in crate::core) fn bundle(&self) -> Told {
        self.facts.listening.bundle(&self.authorities)
    }

    /// Ids, in hexadecimal, of the bundles that contain every authority that clients must trust.
    pub(in crate::core) fn complete_bundles(&self) -> HashSet<String> {
        self.facts.listening.complete(&self.authorities)
    }

    /// What enrolment strings pin.
    pub(in crate::core) fn pin(&self) -> Pin {
        self.facts.listening.pin()
    }

    /// What the listener must accept from clients.
    pub(in crate::core) fn trust(&self) -> Trust {
        let mut trust = self.authorities.trust();
        self.roles.add_to(&mut trust);
        trust
    }

    /// Policies of an admitted caller by its certificate alone, without its token: those of its identity, or of the
    /// role that admits it.
    pub(in crate::core) fn subject(&self, caller: &Caller, now_ms: u64) -> Arc<Subject> {
        self.standing(caller, None, now_ms).unwrap_or_else(|| self.stranger())
    }

    /// As [`Snapshot::subject`]. For a certificate of an outside PKI, uses the role of that name.
    fn standing(&self, caller: &Caller, role: Option<&str>, now_ms: u64) -> Option<Arc<Subject>> {
        match &caller.origin {
            Origin::Outside(outside) => {
                let role = self.roles.admitting(&self.lists, outside, caller, role, now_ms)?;
                Some(self.named(role.record.token.effective_policies().into_iter().collect()))
            }
            Origin::Vault(_) | Origin::Internal => Some(self.registered(&caller.identity)),
        }
    }

    /// As [`Snapshot::subject`], for an identity of our own. The trust domain was checked with the certificate, and the
    /// map is keyed by path. Unknown identities are not cached: an attacker with many certificates must not fill the
    /// memory.
    pub(in crate::core) fn registered(&self, identity: &SpiffeId) -> Arc<Subject> {
        match self.facts.identities.get(identity.path()) {
            Some(record) => self.shared.compiled.of_identity(&self.facts.grants, identity.path(), record),
            None => self.stranger(),
        }
    }

    /// The identities that may be administrators: first one that was found to be one earlier, then all that were when
    /// this snapshot was made. The caller must verify this with the records.
    pub(in crate::core) fn administrators(&self) -> impl Iterator<Item = String> {
        let hint = self.shared.administrator.lock().clone();
        let all = self.facts.identities.iter().filter(|(path, record)| {
            let subject = self.shared.compiled.of_identity(&self.facts.grants, path, record);
            record.disabled.is_none() && identity::is_administrator(|ask| subject.decide(ask), path)
        });
        hint.into_iter().chain(all.map(|(path, _)| path.to_string()))
    }

    /// Remembers an identity that was found to be an administrator.
    pub(in crate::core) fn note_administrator(&self, path: &str) {
        let mut noted = self.shared.administrator.lock();
        if noted.as_deref() != Some(path) {
            *noted = Some(path.to_owned());
        }
    }

    /// As [`Snapshot::subject`], with the caller's token: keeps only those policies that the token has too. A token that
    /// came from a role grants what that role grants today.
    pub(in crate::core) fn narrowed(&self, caller: &Caller, text: &SecretText, now_ms: u64) -> Subject {
        let token = match self.tokens.shown(text, caller, now_ms) {
            Ok(token) => token,
            Err(why) => return Subject::refused(why),
        };
        let Some(subject) = self.standing(caller, token.record.role.as_deref(), now_ms) else {
            return Subject::refused("token-without-role");
        };
        let both = subject.policies.iter().filter(|name| token.record.policies.contains(name));
        subject.with_token(&self.named(both.cloned().collect()), token)
    }

    fn named(&self, names: BTreeSet<String>) -> Arc<Subject> {
        self.shared.compiled.of_names(&self.facts.grants, names)
    }

    /// Checks whether the certificate of `caller` is admitted at all.
    ///
    /// # Errors
    /// Why it is not.
    pub(in crate::core) fn admits(&self, settings: &Settings, caller: &Caller, now_ms: u64) -> Result<(), Barred> {
        self.admits_of(&settings.trust_domain, &settings.named_authorities, caller, now_ms)
    }

    /// Whether an open connection may stay open: its holder is admitted, and a certificate of an outside PKI has a
    /// role.
    pub(in crate::core) fn keeps(&self, settings: &Settings, caller: &Caller, now_ms: u64) -> bool {
        let role = match &caller.origin {
            Origin::Outside(outside) => self.roles.keeps(&self.lists, outside, caller, now_ms),
            Origin::Vault(_) | Origin::Internal => true,
        };
        role && self.admits(settings, caller, now_ms).is_ok()
    }

    /// As [`Snapshot::admits`], for certificates of this trust domain and of the vault's own authorities.
    ///
    /// # Errors
    /// As [`Snapshot::admits`].
    pub(in crate::core) fn admits_in(&self, trust_domain: &str, caller: &Caller, now_ms: u64) -> Result<(), Barred> {
        self.admits_of(trust_domain, &[], caller, now_ms)
    }

    fn admits_of(&self, trust_domain: &str, named: &[AuthorityId], caller: &Caller, now_ms: u64) -> Result<(), Barred> {
        // TLS checked the dates when the connection started, and the certificate may have expired since.
        if caller.not_after_ms <= now_ms {
            return Err(Barred::CertificateExpired);
        }
        if caller.not_before_ms > now_ms {
            return Err(Barred::CertificateNotYetValid);
        }
        if caller.identity.trust_domain() != trust_domain {
            return Err(Barred::ForeignTrustDomain);
        }
        if let Origin::Vault(authority) = caller.origin {
            // For an authority on record, the record decides, whatever a file says.
            let accepted = match self.authorities.get(authority) {
                Some(facts) => facts.record.stage.verifies(),
                None => named.contains(&authority),
            };
            if !accepted {
                return Err(Barred::AuthorityNotTrusted);
            }
        }
        if let Origin::Outside(outside) = &caller.origin
            && self.roles.bars(&self.lists, outside, caller, now_ms)
        {
            return Err(Barred::CertificateOnRevocationList);
        }
        // Revocation is checked by the ledger before any date, because clocks may have been changed.
        let (revoked, mark_ms) = self.ledger.standing(&caller.fingerprint);
        if revoked {
            return Err(Barred::CertificateRevoked);
        }
        if let Some(record) = self.facts.identities.get(caller.identity.path()) {
            if let Some(disabled) = &record.disabled {
                return Err(if disabled.is_frozen() { Barred::IdentityFrozen } else { Barred::IdentityDisabled });
            }
            if record.outlives(mark_ms, caller.not_before_ms.saturating_add(BACKDATE_MS)) {
                return Err(Barred::CertificateOlderThanAllowed);
            }
        }
        Ok(())
    }

    /// A subject without any rights.
    pub(in crate::core) fn stranger(&self) -> Arc<Subject> {
        Arc::clone(&self.stranger)
    }

    /// The same for a caller who is not admitted.
    pub(in crate::core) fn barred(&self, why: Barred) -> Arc<Subject> {
        Arc::new(self.stranger.barred(why))
    }
}

fn read_policy(view: &View<'_>, name: &str) -> Result<Option<Parsed>, VaultError> {
    Ok(view.entry(name)?.map(|entry| parse_policy(name, &entry)))
}

fn parse_policy(name: &str, entry: &EntryValue) -> Parsed {
    let parsed = std::str::from_utf8(entry.value.reveal()).ok().and_then(|text| Policy::parse(text).ok());
    if parsed.is_none() {
        tracing::error!(
            policy = name,
            "a stored policy cannot be read, so identities that have it are denied everything; write it again"
        );
    }
    parsed.map(Arc::new)
}
