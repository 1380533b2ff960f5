//! From an incoming request to a decision: sealed? canonical path, identify, within limits? decide.

use std::sync::Arc;

use crate::api::path::Path;
use crate::api::request::Operation;
use crate::engine;
use crate::limits::Bill;

use super::audited::Facts;
use crate::core::decide::canonical;
use crate::core::decide::identify::identify;
use crate::core::decide::target::{Question, Target, Verdict};
use crate::core::error::VaultError;
use crate::core::lifecycle::status;
use crate::core::request::Request;
use crate::core::routes::TABLES;
use crate::core::state::limits::{self, Asked, Refused};
use crate::core::state::snapshot::Snapshot;
use crate::core::state::subject::Subject;
use crate::core::vault::{Live, Vault};
use crate::core::{Caller, Origin};

/// A request with the state at the time of its processing. Holds the open vault, so it must never live across an await.
pub(super) struct Visit {
    pub live: Arc<Live>,
    pub snapshot: Arc<Snapshot>,
    pub subject: Arc<Subject>,
    /// Without its token on routes where only the certificate counts.
    pub caller: Caller,
    pub target: Target,
    /// In canonical form.
    pub request: Request,
    pub now_ms: u64,
}

/// A request with its decision.
pub(super) struct Decided {
    pub live: Arc<Live>,
    pub snapshot: Arc<Snapshot>,
    pub subject: Arc<Subject>,
    pub target: Target,
    pub facts: Facts,
    /// `Ok` means to continue.
    pub outcome: Result<(), VaultError>,
}

/// Checks that the vault is unsealed, and finds the canonical path, the target and the identity.
///
/// # Errors
/// [`VaultError::Sealed`] while sealed.
pub(super) fn admit(vault: &Vault, caller: &Caller, request: Request) -> Result<Visit, VaultError> {
    let live = vault.live().ok_or(VaultError::Sealed)?;
    let request = canonical(request);
    let now_ms = vault.ports.clock.now_ms();
    let snapshot = live.snapshot.load_full();
    let target = Target::of(&TABLES, &snapshot, request.operation, &request.path);
    let mut caller = caller.clone();
    if target.logs_in() {
        caller.token = None;
    }
    let subject = identify(&snapshot, &vault.settings, &caller, now_ms);
    // There is no end of certificates from outside PKIs. The audit log says who they are.
    if subject.known && !matches!(caller.origin, Origin::Outside(_)) {
        live.sightings.saw(&caller, now_ms);
    }
    Ok(Visit { live, snapshot, subject, caller, target, request, now_ms })
}

/// Charges the identity. Returns the bill, which is settled when the answer is known, or the decision on a request over
/// a limit that gets a line in the audit log.
///
/// # Errors
/// [`VaultError::RateLimited`] for a request over a limit without such a line (`state/limits` says why).
pub(super) fn charge(visit: &Visit) -> Result<Result<Option<Bill>, Verdict>, VaultError> {
    let Visit { caller, request, now_ms, .. } = visit;
    let (operation, path) = (request.operation, &request.path);
    let asked = Asked { caller, admitted: visit.subject.barred.is_none(), operation, path, now_ms: *now_ms };
    match limits::admit(&visit.live.accounts, &visit.snapshot.limits, &asked) {
        Ok(bill) => Ok(Ok(bill)),
        Err(over) if over.rule.is_none() => Err(over.outcome),
        Err(Refused { rule, outcome }) => Ok(Err(Verdict { decision: "limit", rule, outcome: Err(outcome) })),
    }
}

/// Compares the mark that the client has seen with the vault's own. Returns `Some` if the vault was rolled back since.
/// This comes before anything that the request may change, including a token's uses: each write after a rollback raises
/// the generation, until it no longer shows that there was one.
///
/// A caller who is not admitted, or has no identity or role here, is not believed: the log would show its claim in
/// place of the reason for the denial, and nothing would be done for it anyway.
///
/// Generations only rise while a vault is open, so what is found here holds until the request has run.
pub(super) fn history(visit: &Visit) -> Option<Verdict> {
    let seen = visit.request.seen.as_ref().filter(|_| visit.subject.known)?;
    let now = status::rolled_back(&visit.live, &visit.caller, seen, visit.now_ms)?;
    let rule = format!("seen epoch {} generation {}", seen.epoch, seen.generation);
    Some(Verdict { decision: "history", rule: Some(rule), outcome: Err(VaultError::RolledBack { now }) })
}

/// Decides, unless `ended` has the verdict of a limit or of the vault's history, and collects what the audit log may
/// learn.
pub(super) fn decide(visit: Visit, ended: Option<Verdict>) -> Decided {
    let Visit { live, snapshot, subject, caller, mut target, request, now_ms } = visit;
    let Request { operation, path, body, wrap_ttl, if_none_match, seen: _ } = request;
    let mount_kind = target.kind();
    let verdict = match ended {
        Some(verdict) => verdict,
        None => Question { subject: &subject, operation, path: &path, body: &body, wrap_ttl }.decide(&mut target),
    };
    let facts = Facts {
        caller,
        inner: engine::Request { operation, path: relative(&target, &path), body, if_none_match },
        full: path,
        mount_kind,
        policies: Arc::clone(&subject.policies),
        decision: verdict.decision,
        rule: with_token(verdict.rule.or_else(|| subject.barred.map(|why| why.word().to_owned())), &subject),
        time_ms: now_ms,
        secret_body: matches!(target, Target::Sys(route) if route.secret_body),
    };
    Decided { live, snapshot, subject, target, facts, outcome: verdict.outcome }
}

/// The rule for the audit log, with the accessor of the token that was presented.
fn with_token(rule: Option<String>, subject: &Subject) -> Option<String> {
    let Some(token) = &subject.token else { return rule };
    let accessor = &token.record.accessor;
    Some(rule.map_or_else(|| format!("token:{accessor}"), |rule| format!("{rule} token:{accessor}")))
}

/// The one form of the path, for policies, routing and the log.
fn canonical(request: Request) -> Request {
    let path = canonical::canonical(request.operation, request.path);
    let path = canonical::in_lower_case(&TABLES, &path).unwrap_or(path);
    Request { path, ..request }
}

/// The warning for a caller that changes a policy by a name with capitals, as in Vault.
pub(super) fn remark(request: &Request) -> Option<&'static str> {
    if !matches!(request.operation, Operation::Write | Operation::Delete) || !request.path.starts_with_segment("sys") {
        return None;
    }
    let path = canonical::canonical(request.operation, request.path.clone());
    canonical::in_lower_case(&TABLES, &path).map(|_| "policy name was converted to lower case")
}

fn relative(target: &Target, path: &Path) -> Path {
    match target {
        Target::Mount { relative, .. } => relative.clone(),
        _ => path.clone(),
    }
}
