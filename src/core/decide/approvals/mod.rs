//! Dangerous operations that several operators must approve.
//!
//! The first time, a guarded request is not executed. It becomes a record that others can approve, in a commit of its
//! own. Once enough have approved, the requester sends it again, and the commit that makes the change also marks the
//! record as used. For an order to the keeper and for a read, the record is marked one commit earlier: after a kill in
//! between, the approval is used up and nothing was done.
//!
//! A record is bound to the requester, the verb, the path, a keyed hash of the fields, and the resulting changes of
//! power over the vault (`power.rs`). The approvers must still be allowed to approve when the request is executed. So
//! an approval does not count if its giver was disabled or had the certificate revoked in the meantime.
//!
//! Without rules in the configuration none of this applies.

mod power;
pub(in crate::core) mod record;

use std::sync::Arc;

use crate::api::hex::hex;
use crate::api::path::Path;
use crate::api::reply::Reply;
use crate::api::request::Body;
use crate::api::spiffe::SpiffeId;
use crate::barrier::{MountId, Tx};
use crate::crypto::hash::equal;
use crate::crypto::random::Random;
use crate::policy::{Ask, Capability, Decision};

use super::target::Target;
use crate::core::Settings;
use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::pipeline::audited::Facts;
use crate::core::pipeline::route::{Concern, Guard, Named, Route, Run};
use crate::core::state::guarded::{ApprovalRules, Guarded};
use crate::core::state::identity::{self, IDENTITIES, IdentityRecord, OUTSIDE};
use crate::core::state::ledger;
use crate::core::state::snapshot::Snapshot;

use power::{Power, Reach};
use record::{Pending, Used, Voice};

/// How long a record is kept after it has ended, in milliseconds.
const KEEP_MS: u64 = 7 * 86_400_000;
/// Largest number of open requests of one identity.
const MAX_OPEN: usize = 32;
/// Largest number of records, and of open ones of identities that are not approvers, who must not keep others from
/// asking.
const MAX_RECORDS: usize = 2_000;
const MAX_OPEN_OF_OTHERS: usize = 500;

/// An id for the question whether somebody may approve at all.
const ANY_ID: &str = "0000000000000000";

/// One request in front of the guard.
pub(in crate::core) struct Gate<'a> {
    pub facts: &'a Facts,
    pub settings: &'a Settings,
    pub snapshot: &'a Snapshot,
    pub random: &'a Arc<dyn Random>,
    pub now_ms: u64,
}

/// What must be checked in a request.
enum Looked {
    Nothing,
    /// The request has this class.
    Class(Guarded),
    /// Check whether it changes anybody's power, or gives somebody the name of this identity.
    Power(Option<String>),
}

/// What the record of a request must match.
struct Bound {
    class: Guarded,
    affects: Vec<String>,
    effect: String,
}

/// A record of the same request, and how many approve it.
struct Match {
    id: String,
    record: Pending,
    agree: usize,
}

/// The class of a request that does not run inside a commit, so that its approval is used up earlier. `None` for all
/// others and without rules.
pub(in crate::core) fn comes_before(settings: &Settings, route: &Route, body: &Body) -> Option<Guarded> {
    let rules = settings.approvals.as_deref()?;
    match route.run {
        Run::Write(_) => None,
        _ => fixed(route, body).iter().copied().find(|class| rules.guards(*class)),
    }
}

/// The classes that a request has in every state, the most dangerous first. One guarded class is enough.
fn fixed<'r>(route: &'r Route, body: &Body) -> &'r [Guarded] {
    match &route.concern {
        Concern::Class(class) => std::slice::from_ref(class),
        // With a compromised slot all authorities end too. A body that cannot be parsed is not an order.
        Concern::Rekey if body.object().get("compromised").is_some() => &[Guarded::CaCompromise, Guarded::SlotRemove],
        Concern::Rekey => &[Guarded::SlotRemove],
        // Whatever the field says, unless it says no: a body that is no order fails before it asks for anything.
        Concern::SlotChange if body.object().get("confirm").is_some_and(|value| value.raw() != "false") => {
            &[Guarded::SlotRemove]
        }
        Concern::SlotChange => &[],
        Concern::Nothing | Concern::AuthorityStep | Concern::Power(_) => &[],
    }
}

impl Gate<'_> {
    /// Runs `change`, unless others must approve it first.
    ///
    /// # Errors
    /// The errors of `change`: a request that cannot be executed is rejected as without the guard, and uses up nothing.
    /// [`VaultError::NeedsApproval`], also as [`Done::refusal`] with the record of the request;
    /// [`VaultError::ApprovalRejected`].
    pub(in crate::core) fn through(
        &self,
        tx: &mut Tx<'_>,
        target: &Target,
        change: impl FnOnce(&mut Tx<'_>) -> Result<Done, VaultError>,
    ) -> Result<Done, VaultError> {
        let Some(rules) = self.settings.approvals.as_deref() else { return change(tx) };
        let domain = &self.settings.trust_domain;
        let looked = self.concern(rules, tx, target)?;
        match looked {
            Looked::Nothing => return change(tx),
            Looked::Class(class) if !rules.guards(class) => return change(tx),
            Looked::Class(_) | Looked::Power(_) => {}
        }
        // Read before the change, which may affect those who approved it.
        let known = self.matches(rules, tx)?;
        // The change runs first in memory, because only its result shows whose power it affects. It is taken back if
        // approvals are missing.
        let point = tx.point();
        let done = change(tx)?;
        let bound = match looked {
            Looked::Nothing => return Ok(done),
            Looked::Class(class) => Bound { class, affects: Vec::new(), effect: String::new() },
            Looked::Power(named) => {
                // The earlier state is read last: only now is it known how few records can differ.
                let reach = Reach::since(tx, &point, named.as_ref())?;
                let before = tx.before(&point, |tx| Power::of(tx, rules, domain, &reach))?;
                let (affects, effect) = before.changes(&Power::of(tx, rules, domain, &reach)?);
                let named = named.filter(|path| before.holds(path) || rules.names_path(domain, path));
                if affects.is_empty() && named.is_none() {
                    return Ok(done);
                }
                let effect = if affects.is_empty() { String::new() } else { hex(&effect) };
                Bound { class: Guarded::AdminPolicy, affects, effect }
            }
        };
        let same = known.into_iter().filter(|found| found.record.effect == bound.effect);
        // An open request takes precedence over a rejected one.
        match same.min_by_key(|found| found.record.rejected.is_some()) {
            Some(found) if found.record.rejected.is_some() => Err(VaultError::ApprovalRejected { id: found.id }),
            Some(Match { id, mut record, agree }) => {
                let missing = rules.required().saturating_sub(agree);
                if missing > 0 {
                    return Err(VaultError::NeedsApproval { id, missing });
                }
                record.used = Some(Used { at_ms: self.now_ms, request: self.facts.caller.request_id.clone() });
                record::put(tx, &id, &record)?;
                Ok(done)
            }
            None => {
                tx.back_to(&point);
                let refusal = Some(self.ask(rules, tx, bound)?);
                Ok(Done { refusal, ..Done::of(Reply::none()) })
            }
        }
    }

    fn concern(&self, rules: &ApprovalRules, tx: &Tx<'_>, target: &Target) -> Result<Looked, VaultError> {
        let route: &Route = match target {
            Target::Mount { mount, .. } => {
                let destroys =
                    rules.guards(Guarded::Destroy) && mount.engine.destroys(&tx.view(mount.id), &self.facts.inner)?;
                return Ok(if destroys { Looked::Class(Guarded::Destroy) } else { Looked::Nothing });
            }
            Target::Sys(route) => route,
            Target::Nowhere(_) => return Ok(Looked::Nothing),
        };
        let classes = fixed(route, &self.facts.inner.body);
        if let Some(gravest) = classes.first() {
            let guarded = classes.iter().find(|class| rules.guards(**class));
            return Ok(Looked::Class(*guarded.unwrap_or(gravest)));
        }
        // Everybody may renew what they have, which is not power.
        if route.guard != Guard::Policy {
            return Ok(Looked::Nothing);
        }
        let (tail, body) = (route.tail(&self.facts.full), &self.facts.inner.body);
        let named = match route.concern {
            Concern::AuthorityStep => {
                let cuts = tail.ends_with("/revoke") || body.fields().flag("force")?.unwrap_or(false);
                return Ok(if cuts { Looked::Class(Guarded::CaCompromise) } else { Looked::Nothing });
            }
            Concern::Power(Named::Nobody) => None,
            Concern::Power(Named::Tail) => Some(tail),
            Concern::Power(Named::Field(name)) => body.fields().text(name)?,
            Concern::Power(Named::Outside) => Some(OUTSIDE.to_owned()),
            Concern::Nothing | Concern::Class(_) | Concern::Rekey | Concern::SlotChange => return Ok(Looked::Nothing),
        };
        let path = |text: String| SpiffeId::parse(&text).map(|identity| identity.path().to_owned()).unwrap_or(text);
        Ok(Looked::Power(named.map(path)))
    }

    /// Records of the same request that have not ended.
    fn matches(&self, rules: &ApprovalRules, tx: &Tx<'_>) -> Result<Vec<Match>, VaultError> {
        let view = tx.view(MountId::APPROVALS);
        let Some(key) = record::hash_key(&view)? else { return Ok(Vec::new()) };
        let body = hex(&record::hash(&key, &self.facts.inner.body));
        let mut found = Vec::new();
        for (id, record) in record::all(&view)? {
            if record.asker == self.facts.caller.identity.path()
                && record.ended_ms(self.now_ms).is_none()
                && record.verb == self.facts.inner.operation.as_str()
                && record.path == self.facts.full.as_str()
                && same(&record.body, &body)
            {
                let identities = tx.view(IDENTITIES);
                let agree = agreeing(rules, self.settings, self.snapshot, &id, &record, |path| {
                    identity::read(&identities, path)
                })?;
                found.push(Match { id, record, agree });
            }
        }
        Ok(found)
    }

    /// Stores the request. Returns the error that names it.
    fn ask(&self, rules: &ApprovalRules, tx: &mut Tx<'_>, bound: Bound) -> Result<VaultError, VaultError> {
        self.make_room(rules, tx)?;
        let key = record::make_hash_key(tx, self.random)?;
        let id = record::new_id(self.random)?;
        let (caller, inner) = (&self.facts.caller, &self.facts.inner);
        let record = Pending {
            v: 1,
            asker: caller.identity.path().to_owned(),
            request: caller.request_id.clone(),
            operation: bound.class.as_str().to_owned(),
            verb: inner.operation.as_str().to_owned(),
            path: self.facts.full.as_str().to_owned(),
            fields: record::field_names(&inner.body),
            body: hex(&record::hash(&key, &inner.body)),
            affects: bound.affects,
            effect: bound.effect,
            asked_ms: self.now_ms,
            expires_ms: self.now_ms.saturating_add(rules.ttl_ms()),
            approvals: Vec::new(),
            rejected: None,
            used: None,
        };
        let missing = rules.required().saturating_sub(usize::from(rules.names(&caller.identity)));
        record::put(tx, &id, &record)?;
        Ok(VaultError::NeedsApproval { id, missing })
    }

    /// Removes records that ended long ago, and rejects a request when too many are open.
    fn make_room(&self, rules: &ApprovalRules, tx: &mut Tx<'_>) -> Result<(), VaultError> {
        let asker = self.facts.caller.identity.path();
        let domain = &self.settings.trust_domain;
        let mut records = record::all(&tx.view(MountId::APPROVALS))?;
        records.sort_by_key(|(_, record)| record.asked_ms);
        let open = |record: &Pending| record.ended_ms(self.now_ms).is_none();
        let own = records.iter().filter(|(_, record)| open(record) && record.asker == asker).count();
        let others =
            records.iter().filter(|(_, record)| open(record) && !rules.names_path(domain, &record.asker)).count();
        // Callers who may not approve share a limit of their own, so that they cannot fill the places of those who may.
        if own >= MAX_OPEN || (others >= MAX_OPEN_OF_OTHERS && !rules.names(&self.facts.caller.identity)) {
            return Err(VaultError::BadRequest(
                "too many requests are waiting for approval: approve or reject some, or wait until they expire"
                    .to_owned(),
            ));
        }
        // Only requests that have ended go, the oldest first. An open one is never dropped to make room.
        let mut surplus = (records.len() + 1).saturating_sub(MAX_RECORDS);
        for (id, record) in records {
            let Some(ended_ms) = record.ended_ms(self.now_ms) else { continue };
            let old = ended_ms.saturating_add(KEEP_MS) < self.now_ms;
            if old || surplus > 0 {
                tx.remove_entry(MountId::APPROVALS, &id)?;
                surplus = surplus.saturating_sub(1);
            }
        }
        if surplus > 0 {
            return Err(VaultError::BadRequest(
                "too many requests are waiting for approval: approve or reject some first".to_owned(),
            ));
        }
        Ok(())
    }
}

/// Counts who approves a request now: the requester, if allowed to approve, and every approver who still is.
///
/// # Errors
/// The errors of `standing`, which returns the record of an identity.
pub(in crate::core) fn agreeing(
    rules: &ApprovalRules,
    settings: &Settings,
    snapshot: &Snapshot,
    id: &str,
    record: &Pending,
    standing: impl Fn(&str) -> Result<Option<IdentityRecord>, VaultError>,
) -> Result<usize, VaultError> {
    let domain = &settings.trust_domain;
    let mut agree = usize::from(rules.names_path(domain, &record.asker));
    for voice in record.approvals.iter().filter(|voice| voice.identity != record.asker) {
        let Some(standing) = standing(&voice.identity)? else { continue };
        if counts(rules, domain, snapshot, id, voice, &standing) {
            agree += 1;
        }
    }
    Ok(agree)
}

fn counts(
    rules: &ApprovalRules,
    domain: &str,
    snapshot: &Snapshot,
    id: &str,
    voice: &Voice,
    standing: &IdentityRecord,
) -> bool {
    let Ok(identity) = SpiffeId::new(domain, &voice.identity) else { return false };
    let revoked = ledger::parse_fingerprint(&voice.certificate)
        .is_none_or(|fingerprint| snapshot.ledger.is_revoked(&fingerprint));
    rules.names(&identity)
        && standing.disabled.is_none()
        && voice.at_ms >= standing.not_before_ms
        && !revoked
        && may_approve(snapshot, &identity, id)
}

/// Whether the policies of a registered identity let it approve the request with that id.
fn may_approve(snapshot: &Snapshot, identity: &SpiffeId, id: &str) -> bool {
    let Ok(path) = Path::parse(&format!("sys/strongroom/approvals/{id}/approve")) else { return false };
    let ask = Ask { path: &path, capability: Capability::Update, sudo: false, parameters: None, wrap_ttl: None };
    matches!(snapshot.registered(identity).decide(&ask), Decision::Allow { .. })
}

/// The number of identities that could approve a future request, if they are too few for any to be executed. Then
/// nobody can add an approver either.
pub(in crate::core) fn too_few(rules: &ApprovalRules, settings: &Settings, snapshot: &Snapshot) -> Option<usize> {
    let (mut voices, mut askers) = (0, 0);
    for (path, record) in snapshot.identities() {
        let Ok(identity) = SpiffeId::new(&settings.trust_domain, path) else { continue };
        if record.disabled.is_some() || !rules.names(&identity) {
            continue;
        }
        // The requester counts even without being allowed to approve.
        match may_approve(snapshot, &identity, ANY_ID) {
            true => voices += 1,
            false => askers = 1,
        }
    }
    Some(voices + askers).filter(|agree| *agree < rules.required())
}

/// Compares two hashes in hexadecimal.
fn same(a: &str, b: &str) -> bool {
    match (ledger::parse_fingerprint(a), ledger::parse_fingerprint(b)) {
        (Some(a), Some(b)) => equal(&a, &b),
        _ => false,
    }
}
