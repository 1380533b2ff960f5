//! The guard in front of a change: runs it in memory, and keeps it only if enough operators approve.

use std::sync::Arc;

use crate::api::hex::hex;
use crate::api::reply::Reply;
use crate::barrier::{MountId, Tx};
use crate::core::Settings;
use crate::core::commit::change::Done;
use crate::core::decide::classes::{self, Looked};
use crate::core::decide::target::Target;
use crate::core::error::VaultError;
use crate::core::pipeline::audited::Facts;
use crate::core::state::guarded::{ApprovalRules, Guarded};
use crate::core::state::identity::{self, IDENTITIES};
use crate::core::state::ledger;
use crate::core::state::snapshot::Snapshot;
use crate::crypto::hash::equal;
use crate::crypto::random::Random;

use super::power::{Power, Reach};
use super::record::{self, Pending, Used};
use super::voices::agreeing;

/// How long a record is kept after it has ended, in milliseconds.
const KEEP_MS: u64 = 7 * 86_400_000;
/// Largest number of open requests of one identity.
const MAX_OPEN: usize = 32;
/// Largest number of records, and of open records of identities that are not approvers. The latter must not keep others
/// from making requests.
const MAX_RECORDS: usize = 2_000;
const MAX_OPEN_OF_OTHERS: usize = 500;

/// One request in front of the guard.
pub(in crate::core) struct Gate<'a> {
    pub facts: &'a Facts,
    pub settings: &'a Settings,
    pub snapshot: &'a Snapshot,
    pub random: &'a Arc<dyn Random>,
    pub now_ms: u64,
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
                // The earlier state is read last, because only now is it known how few records can differ.
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

    /// What must be checked before `target` may run.
    fn concern(&self, rules: &ApprovalRules, tx: &Tx<'_>, target: &Target) -> Result<Looked, VaultError> {
        match target {
            Target::Mount { mount, .. } => {
                let destroys =
                    rules.guards(Guarded::Destroy) && mount.engine.destroys(&tx.view(mount.id), &self.facts.inner)?;
                Ok(if destroys { Looked::Class(Guarded::Destroy) } else { Looked::Nothing })
            }
            Target::Sys(route) => classes::of_route(rules, route, &self.facts.full, &self.facts.inner.body),
            Target::Nowhere(_) => Ok(Looked::Nothing),
        }
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
        // Callers who may not approve share a separate limit, so that they cannot use up the places of those who may.
        if own >= MAX_OPEN || (others >= MAX_OPEN_OF_OTHERS && !rules.names(&self.facts.caller.identity)) {
            return Err(VaultError::BadRequest(
                "too many requests are waiting for approval: approve or reject some, or wait until they expire"
                    .to_owned(),
            ));
        }
        // Only requests that have ended are removed, the oldest first. An open one is never dropped to make room.
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

/// Compares two hexadecimal hashes.
fn same(a: &str, b: &str) -> bool {
    match (ledger::parse_fingerprint(a), ledger::parse_fingerprint(b)) {
        (Some(a), Some(b)) => equal(&a, &b),
        _ => false,
    }
}
