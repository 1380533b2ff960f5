//! The order of every request. [`enter`] is the promise:
//!
//! sealed? -> canonical path -> identify -> within limits? -> decide -> audit the request -> run -> audit the reply -> answer
//!
//! Denials and failures are audited too. When the audit log does not take an entry, nothing is returned. A read writes
//! request and reply as one audit line before it answers; a mutation goes to the committer, which makes the request
//! entry durable before it runs anything (`committer.rs`).

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::api::path::Path;
use crate::barrier::{Tally, Tx};
use crate::crypto::random::Random;
use crate::engine;
use crate::limits::Bill;

use super::audited::Facts;
use super::route::{Change, Effect, Inquiry, Route, Run};
use super::{long, waiting};
use crate::core::commit::committer::{Done, Job, Work};
use crate::core::decide::approvals::{self, Gate};
use crate::core::decide::canonical;
use crate::core::decide::subject::Subject;
use crate::core::decide::target::{Question, Target, Verdict};
use crate::core::error::VaultError;
use crate::core::lifecycle::unseal;
use crate::core::live::poll::Poll;
use crate::core::live::sightings::Sightings;
use crate::core::request::{Operation, Reply, Request};
use crate::core::rotation::{Errand, Order, ValueErrand};
use crate::core::routes::TABLES;
use crate::core::state::limits::{self, Asked, Refused};
use crate::core::state::snapshot::{Snapshot, Touch};
use crate::core::state::tokens::{self, Held};
use crate::core::vault::{Live, Vault};
use crate::core::{Caller, Origin, Settings};

pub(in crate::core) async fn handle(vault: &Vault, caller: &Caller, request: Request) -> Result<Reply, VaultError> {
    let (mut bill, remark) = (None, remark(&request));
    let mut step = enter(vault, caller, request, false, &mut bill)?;
    if let Step::Spending(answer, request) = step {
        answer.await.unwrap_or(Err(VaultError::Sealed))?;
        step = enter(vault, caller, *request, true, &mut bill)?;
    }
    let mut reply = match step {
        Step::Answered(reply) => reply,
        // A dropped answer means that the committer stopped before it took the job: nothing was done.
        Step::Waiting(answer) => answer.await.unwrap_or(Err(VaultError::Sealed))?,
        Step::Polling(facts, poll) => waiting::wait(vault, facts, poll).await?,
        Step::Long(facts, target) => long::run(vault, facts, target, bill.take()).await?,
        Step::Guarded(permit, facts, route) => {
            permit.await.unwrap_or(Err(VaultError::Sealed))?;
            match permitted(vault, facts, route)? {
                Step::Answered(reply) => reply,
                Step::Waiting(answer) => answer.await.unwrap_or(Err(VaultError::Sealed))?,
                Step::Polling(..) | Step::Long(..) | Step::Guarded(..) | Step::Spending(..) => {
                    return Err(VaultError::Internal);
                }
            }
        }
        Step::Spending(..) => return Err(VaultError::Internal),
    };
    reply.warnings.extend(remark.map(str::to_owned));
    limits::settle(bill, Some(&reply));
    Ok(reply)
}

enum Step {
    Answered(Reply),
    Waiting(oneshot::Receiver<Result<Reply, VaultError>>),
    /// Until something changes; decided already, and decided again when it wakes.
    Polling(Arc<Facts>, Poll),
    /// When it is its turn; decided already, and decided again then.
    Long(Arc<Facts>, Target),
    /// Until a use of the token is taken away for good; then the request is looked at again.
    Spending(oneshot::Receiver<Result<Reply, VaultError>>, Box<Request>),
    /// Until the approval of the request is used up; then it is done.
    Guarded(oneshot::Receiver<Result<Reply, VaultError>>, Arc<Facts>, &'static Route),
}

/// Everything up to the answer of a read, or up to the queue for a mutation. Synchronous, so that the `Arc<Live>` is
/// gone before anything awaits. `spent`: the request has been charged already, and so has its token of limited use.
fn enter(
    vault: &Vault,
    caller: &Caller,
    request: Request,
    spent: bool,
    bill: &mut Option<Bill>,
) -> Result<Step, VaultError> {
    let live = vault.live().ok_or(VaultError::Sealed)?; // sealed?
    let Request { operation, path, body, wrap_ttl, if_none_match } = canonical(request); // canonical path
    let now_ms = vault.ports.clock.now_ms();
    let snapshot = live.snapshot.load_full();
    let mut target = Target::of(&TABLES, &snapshot, operation, &path);
    let bare = target.logs_in().then(|| Caller { token: None, ..caller.clone() });
    let caller = bare.as_ref().unwrap_or(caller);
    let admitted = snapshot.admits(&vault.settings, caller, now_ms); // identify
    let subject = identify(&snapshot, &vault.settings, caller, now_ms);
    // Certificates of outside PKIs come and go without end: who they are is in the audit log.
    if subject.known && !matches!(caller.origin, Origin::Outside(_)) {
        live.sightings.saw(caller, now_ms);
    }
    let asked = Asked { caller, admitted: admitted.is_ok(), operation, path: &path, now_ms };
    let over = match (!spent).then(|| limits::admit(&live.accounts, &snapshot.limits, &asked)) {
        None => None,
        Some(Ok(charged)) => {
            *bill = charged; // within limits?
            None
        }
        Some(Err(over)) if over.rule.is_none() => return Err(over.outcome), // see `limits.rs` why without an audit line
        Some(Err(over)) => Some(over),
    };
    let limited = subject.token.as_ref().filter(|token| !spent && token.record.uses_left.is_some());
    if let Some(token) = limited.filter(|_| over.is_none()) {
        let answer = spend(vault, &live, caller, token, now_ms)?;
        return Ok(Step::Spending(answer, Box::new(Request { operation, path, body, wrap_ttl, if_none_match })));
    }
    let kind = target.kind();
    let question = Question { subject: &subject, operation, path: &path, body: &body, wrap_ttl };
    let verdict = match over {
        Some(Refused { rule, outcome }) => Verdict { decision: "limit", rule, outcome: Err(outcome) },
        None => question.decide(&mut target), // decide
    };
    let facts = Facts {
        caller: caller.clone(),
        inner: engine::Request { operation, path: relative(&target, &path), body, if_none_match },
        full: path,
        mount_kind: kind,
        policies: Arc::clone(&subject.policies),
        decision: verdict.decision,
        rule: with_token(verdict.rule.or(admitted.err().map(str::to_owned)), &subject),
        time_ms: now_ms,
        secret_body: matches!(target, Target::Sys(route) if route.secret_body),
    };
    if let Err(error) = verdict.outcome {
        let refused = Err(error);
        audit(vault, &live, &facts, &refused)?;
        return refused.map(Step::Answered);
    }
    let guarded = match &target {
        Target::Sys(route) if approvals::comes_before(&vault.settings, route, &facts.inner.body).is_some() => {
            Some(*route)
        }
        _ => None,
    };
    if let Target::Sys(Route { run: Run::Order(order), .. }) = &target {
        let order = order(&inquiry(vault, &live, &snapshot, &subject, &facts, &target, &Tally::default()));
        if guarded.is_none() || order.is_err() {
            return keep(vault, &live, Arc::new(facts), order).map(Step::Waiting);
        }
    }
    if let Some(route) = guarded {
        let facts = Arc::new(facts);
        let permit = submit(vault, &live, Arc::clone(&facts), target)?;
        return Ok(Step::Guarded(permit, facts, route));
    }
    if let Target::Sys(Route { run: Run::Poll(parse), .. }) = &target {
        return match parse(&inquiry(vault, &live, &snapshot, &subject, &facts, &target, &Tally::default())) {
            Ok(poll) => Ok(Step::Polling(Arc::new(facts), poll)),
            Err(error) => {
                let refused = Err(error);
                audit(vault, &live, &facts, &refused)?;
                refused.map(Step::Answered)
            }
        };
    }
    if target.mutates() {
        return submit(vault, &live, Arc::new(facts), target).map(Step::Waiting); // (same order there)
    }
    if long::is_long(&live, &facts, &target) {
        return Ok(Step::Long(Arc::new(facts), target)); // (same order there)
    }
    let tally = Tally::new(&live.closing);
    let (result, effect) = run(vault, &live, &snapshot, &subject, &facts, &target, &tally); // run
    if let Some(bill) = bill {
        bill.looked_at(tally.looked_at());
    }
    audit(vault, &live, &facts, &result)?; // audit both
    let reply = result?;
    if effect == Effect::Seal {
        live.audit.sync().map_err(|error| vault.audit_failed(&error))?;
        drop(live);
        unseal::close(vault, Some(&caller.identity));
    }
    Ok(Step::Answered(reply)) // answer
}

/// Takes a use away from a token before the request is looked at, as one change of its own: also a refused request
/// counts.
fn spend(
    vault: &Vault,
    live: &Live,
    caller: &Caller,
    token: &Held,
    now_ms: u64,
) -> Result<oneshot::Receiver<Result<Reply, VaultError>>, VaultError> {
    let full = Path::parse("auth/token/use").map_err(|_| VaultError::Internal)?;
    let facts = Arc::new(Facts {
        caller: caller.clone(),
        inner: engine::Request {
            operation: Operation::Write,
            path: full.clone(),
            body: engine::Body::empty(),
            if_none_match: None,
        },
        full,
        mount_kind: Some("token"),
        policies: Arc::from([]),
        decision: "own",
        rule: Some(format!("token:{}", token.record.accessor)),
        time_ms: now_ms,
        secret_body: false,
    });
    let id = token.id;
    let work = move |tx: &mut Tx<'_>, snapshot: &Snapshot, now_ms: u64| {
        Ok(Done::touching(Reply::none(), tokens::spend(tx, &snapshot.tokens, id, now_ms)?))
    };
    let (sender, answer) = oneshot::channel();
    let job = Job { facts: Arc::clone(&facts), work: Work::Records(Box::new(work)), answer: sender };
    taken(vault, live, &facts, live.committer.submit(job), answer)
}

/// The rule for the audit log, and the token that was shown, by its accessor.
fn with_token(rule: Option<String>, subject: &Subject) -> Option<String> {
    let Some(token) = &subject.token else { return rule };
    let accessor = &token.record.accessor;
    Some(rule.map_or_else(|| format!("token:{accessor}"), |rule| format!("{rule} token:{accessor}")))
}

/// Does what others have agreed to: an order or a read, decided once more.
fn permitted(vault: &Vault, facts: Arc<Facts>, route: &'static Route) -> Result<Step, VaultError> {
    let live = vault.live().ok_or(VaultError::Sealed)?;
    let snapshot = live.snapshot.load_full();
    let subject = identify(&snapshot, &vault.settings, &facts.caller, vault.ports.clock.now_ms());
    let target = Target::Sys(route);
    let (operation, path, body) = (facts.inner.operation, &facts.full, &facts.inner.body);
    let question = Question { subject: &subject, operation, path, body, wrap_ttl: None };
    let result = question.settle(&target, None).and_then(|()| {
        let tally = Tally::new(&live.closing);
        let inquiry = inquiry(vault, &live, &snapshot, &subject, &facts, &target, &tally);
        match &route.run {
            Run::Order(order) => order(&inquiry).map(Ok),
            Run::Read(read, _) => read(&inquiry).map(Err),
            Run::Write(_) | Run::Poll(_) => Err(VaultError::Internal),
        }
    });
    let result = match result {
        Ok(Ok(order)) => return keep(vault, &live, facts, Ok(order)).map(Step::Waiting),
        Ok(Err(reply)) => Ok(reply),
        Err(error) => Err(error),
    };
    audit(vault, &live, &facts, &result)?;
    result.map(Step::Answered)
}

/// The one form of the path, for policies, for routing and for the log.
fn canonical(request: Request) -> Request {
    let path = canonical::canonical(request.operation, request.path);
    let path = canonical::in_lower_case(&TABLES, &path).unwrap_or(path);
    Request { path, ..request }
}

/// What somebody who changes a policy by a name in capitals is told, as in Vault.
fn remark(request: &Request) -> Option<&'static str> {
    if !matches!(request.operation, Operation::Write | Operation::Delete) || !request.path.starts_with_segment("sys") {
        return None;
    }
    let path = canonical::canonical(request.operation, request.path.clone());
    canonical::in_lower_case(&TABLES, &path).map(|_| "policy name was converted to lower case")
}

/// Whoever is not admitted is a stranger. A token makes less of an admitted caller; a bad one makes nobody of it.
pub(in crate::core) fn identify(
    snapshot: &Snapshot,
    settings: &Settings,
    caller: &Caller,
    now_ms: u64,
) -> Arc<Subject> {
    if snapshot.admits(settings, caller, now_ms).is_err() {
        return snapshot.stranger();
    }
    match caller.token.as_ref().filter(|text| !text.reveal().is_empty()) {
        None => snapshot.subject(caller, now_ms),
        Some(text) => Arc::new(snapshot.narrowed(caller, text, now_ms)),
    }
}

fn relative(target: &Target, path: &Path) -> Path {
    match target {
        Target::Mount { relative, .. } => relative.clone(),
        _ => path.clone(),
    }
}

/// One line with request and outcome; when it is not taken, the outcome must not leave.
pub(super) fn audit(
    vault: &Vault,
    live: &Live,
    facts: &Facts,
    result: &Result<Reply, VaultError>,
) -> Result<(), VaultError> {
    facts.exchange(&live.audit, live.barrier.mark().2, result).map_err(|error| vault.audit_failed(&error))
}

/// As [`audit`], for an answer that took long: the vault may have closed meanwhile.
pub(in crate::core) fn answered(
    vault: &Vault,
    facts: &Facts,
    result: Result<Reply, VaultError>,
) -> Result<Reply, VaultError> {
    let live = vault.live().ok_or(VaultError::Sealed)?;
    audit(vault, &live, facts, &result)?;
    result
}

/// Runs what does not mutate, on the published state.
pub(super) fn run(
    vault: &Vault,
    live: &Live,
    snapshot: &Snapshot,
    subject: &Subject,
    facts: &Facts,
    target: &Target,
    tally: &Tally,
) -> (Result<Reply, VaultError>, Effect) {
    match target {
        Target::Mount { mount, .. } => {
            let view = live.barrier.view(mount.id).counted(tally);
            (mount.engine.read(&view, &facts.inner, facts.time_ms).map_err(VaultError::from), Effect::None)
        }
        Target::Sys(route) => {
            let Run::Read(read, effect) = &route.run else { return (Err(VaultError::Internal), Effect::None) };
            (read(&inquiry(vault, live, snapshot, subject, facts, target, tally)), *effect)
        }
        Target::Nowhere(_) => (Err(VaultError::Internal), Effect::None),
    }
}

fn inquiry<'a>(
    vault: &'a Vault,
    live: &'a Live,
    snapshot: &'a Snapshot,
    subject: &'a Subject,
    facts: &'a Facts,
    target: &Target,
    tally: &'a Tally,
) -> Inquiry<'a> {
    let tail = match target {
        Target::Sys(route) => route.tail(&facts.full),
        _ => String::new(),
    };
    let (body, now_ms) = (&facts.inner.body, facts.time_ms);
    let caller = &facts.caller;
    Inquiry {
        tail,
        body,
        caller,
        subject,
        snapshot,
        sessions: &vault.sessions,
        settings: &vault.settings,
        live,
        tally,
        tables: &TABLES,
        now_ms,
    }
}

/// Hands an order to the keeper or the rotator, which audit it.
fn keep(
    vault: &Vault,
    live: &Live,
    facts: Arc<Facts>,
    order: Result<Order, VaultError>,
) -> Result<oneshot::Receiver<Result<Reply, VaultError>>, VaultError> {
    let (sender, answer) = oneshot::channel();
    let submitted = order.and_then(|order| match order {
        Order::Value(order) => live.rotator.submit(ValueErrand { facts: Arc::clone(&facts), order, answer: sender }),
        order => live.keeper.submit(Errand { facts: Arc::clone(&facts), order, answer: sender }),
    });
    taken(vault, live, &facts, submitted, answer)
}

/// Where the answer of a job will come from. One that was not taken is audited with its refusal.
fn taken(
    vault: &Vault,
    live: &Live,
    facts: &Facts,
    submitted: Result<(), VaultError>,
    answer: oneshot::Receiver<Result<Reply, VaultError>>,
) -> Result<oneshot::Receiver<Result<Reply, VaultError>>, VaultError> {
    match submitted {
        Ok(()) => Ok(answer),
        Err(error) => {
            let refused = Err(error);
            audit(vault, live, facts, &refused)?;
            refused.map(|_: Reply| answer)
        }
    }
}

/// Hands a mutation to the committer.
fn submit(
    vault: &Vault,
    live: &Live,
    facts: Arc<Facts>,
    target: Target,
) -> Result<oneshot::Receiver<Result<Reply, VaultError>>, VaultError> {
    let shared = Arc::clone(&facts);
    let settings = Arc::clone(&vault.settings);
    let (sightings, random) = (Arc::clone(&live.sightings), Arc::clone(&vault.ports.random));
    let work = move |tx: &mut Tx<'_>, snapshot: &Snapshot, now_ms: u64| {
        mutate(
            &shared,
            &target,
            &Around { settings: &settings, snapshot, sightings: &sightings, random: &random, now_ms },
            tx,
        )
    };
    let (sender, answer) = oneshot::channel();
    let job = Job { facts: Arc::clone(&facts), work: Work::Records(Box::new(work)), answer: sender };
    taken(vault, live, &facts, live.committer.submit(job), answer)
}

/// What a change sees besides the records.
struct Around<'a> {
    settings: &'a Settings,
    snapshot: &'a Snapshot,
    sightings: &'a Sightings,
    random: &'a Arc<dyn Random>,
    now_ms: u64,
}

/// Runs inside the committer's group: decides again, then changes.
fn mutate(facts: &Facts, target: &Target, around: &Around<'_>, tx: &mut Tx<'_>) -> Result<Done, VaultError> {
    let Around { settings, snapshot, sightings, random, now_ms } = *around;
    let subject = identify(snapshot, settings, &facts.caller, now_ms);
    let question = Question {
        subject: &subject,
        operation: facts.inner.operation,
        path: &facts.full,
        body: &facts.inner.body,
        wrap_ttl: None,
    };
    let gate = Gate { facts, settings, snapshot, random, now_ms };
    match target {
        Target::Mount { mount, .. } => {
            question.settle(target, Some(&tx.view(mount.id)))?;
            gate.through(tx, target, |tx| {
                let reply = mount.engine.write(tx, mount.id, &facts.inner, now_ms)?;
                let watched = mount.engine.watched(&facts.inner.path);
                let touched = watched.map(|path| Touch::Secret(format!("{}{path}", mount.path))).into_iter().collect();
                Ok(Done::touching(reply, touched))
            })
        }
        Target::Sys(route) => {
            question.settle(target, None)?;
            let (tail, body, path) = (route.tail(&facts.full), &facts.inner.body, &facts.full);
            let (caller, subject) = (&facts.caller, &*subject);
            let change = Change { tail, body, path, caller, subject, settings, snapshot, sightings, random, now_ms };
            gate.through(tx, target, |tx| match &route.run {
                Run::Write(write) => write(tx, &change),
                // Only the approval is used up here.
                _ if approvals::comes_before(settings, route, body).is_some() => Ok(Done::of(Reply::none())),
                _ => Err(VaultError::Internal),
            })
        }
        Target::Nowhere(_) => Err(VaultError::Internal),
    }
}
