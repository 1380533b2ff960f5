//! The order of every request. [`first`] keeps it:
//!
//! sealed? -> canonical path -> identify -> within limits? -> not rolled back? -> decide -> audit the request -> run -> audit the
//! reply -> answer
//!
//! Denials and failures are audited too. If the audit log does not accept an entry, nothing is returned. A read writes
//! request and reply as one audit line before it answers. A mutation goes to the committer, which runs it in memory and
//! makes the request entry durable before it stores anything (`commit/committer.rs`).

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::api::reply::Reply;
use crate::barrier::Tally;
use crate::limits::Bill;

use super::admit::{Decided, admit, charge, decide, history, remark};
use super::audited::Facts;
use super::change::Answer;
use super::read::{audit, inquiry, run};
use super::route::{Effect, Route, Run};
use super::{barred, change, guarded, long, waiting};
use crate::core::Caller;
use crate::core::decide::target::Target;
use crate::core::error::VaultError;
use crate::core::lifecycle::unseal;
use crate::core::live::poll::Poll;
use crate::core::request::Request;
use crate::core::state::barred::Barred;
use crate::core::state::limits;
use crate::core::vault::{Live, Vault};

/// Handles one request. Everything that it returns is in the audit log.
///
/// # Errors
/// As [`crate::core::Vault::handle`].
pub(in crate::core) async fn handle(vault: &Vault, caller: &Caller, request: Request) -> Result<Reply, VaultError> {
    let remark = remark(&request);
    let (step, mut bill) = match first(vault, caller, request)? {
        First::Decided(step, bill) => (step, bill),
        First::Spending(answer, request, mut bill) => {
            answer.await.unwrap_or(Err(VaultError::Sealed))?;
            (again(vault, caller, *request, bill.as_mut())?, bill)
        }
    };
    let mut reply = match step {
        Step::Answered(reply) => reply,
        // A dropped answer means that the committer stopped before it took the job, so nothing was done.
        Step::Waiting(answer) => answer.await.unwrap_or(Err(VaultError::Sealed))?,
        Step::Polling(facts, poll) => waiting::wait(vault, facts, poll).await?,
        Step::Long(facts, target) => long::run(vault, facts, target, bill.take()).await?,
        Step::Guarded(permit, facts, route) => {
            // As a task of its own: a caller that goes away between the use of the approval and the order must not lose
            // the approval.
            let me = vault.me.upgrade().ok_or(VaultError::Sealed)?;
            let (asker, answer) = oneshot::channel();
            tokio::spawn(async move { guarded::run(&me, permit, facts, route, asker).await });
            answer.await.unwrap_or(Err(VaultError::Internal))?
        }
    };
    reply.warnings.extend(remark.map(str::to_owned));
    limits::settle(bill, Some(&reply));
    Ok(reply)
}

/// What the first pass over a request leads to.
enum First {
    Decided(Step, Option<Bill>),
    /// Waits until a use of the token is taken away durably. Then the request is processed again.
    Spending(Answer, Box<Request>, Option<Bill>),
}

/// What is left to do for a request that was decided.
enum Step {
    Answered(Reply),
    Waiting(Answer),
    /// Waits until something changes. Already decided, and decided again when it wakes.
    Polling(Arc<Facts>, Poll),
    /// Waits for its turn. Already decided, and decided again then.
    Long(Arc<Facts>, Target),
    /// Waits until the approval of the request is used up. Then it is executed.
    Guarded(Answer, Arc<Facts>, &'static Route),
}

/// The first pass: up to the answer of a read, or up to the queue for a change. It is synchronous, like everything that
/// holds the open vault, so that nothing holds it across an await.
fn first(vault: &Vault, caller: &Caller, request: Request) -> Result<First, VaultError> {
    let visit = admit(vault, caller, request)?; // sealed? canonical path, identify
    let (mut bill, ended) = match charge(&visit)? {
        Ok(bill) => (bill, history(&visit)), // within limits? not rolled back?
        Err(over) => (None, Some(over)),
    };
    if ended.is_none()
        && let Some(answer) = change::spend(vault, &visit)?
    {
        return Ok(First::Spending(answer, Box::new(visit.request), bill));
    }
    let step = dispatch(vault, decide(visit, ended), bill.as_mut())?; // decide, audit the request, run, audit the reply
    Ok(First::Decided(step, bill))
}

/// The second pass of a request that was charged and whose token has lost a use.
fn again(vault: &Vault, caller: &Caller, request: Request, bill: Option<&mut Bill>) -> Result<Step, VaultError> {
    let visit = admit(vault, caller, request)?;
    dispatch(vault, decide(visit, None), bill)
}

/// Rejects the request, passes it to the thread that executes and audits it, or answers it.
fn dispatch(vault: &Vault, decided: Decided, bill: Option<&mut Bill>) -> Result<Step, VaultError> {
    if let Err(error) = decided.outcome {
        return refuse(vault, &decided.live, &decided.facts, decided.subject.barred, error);
    }
    let guarded = guarded::comes_before(vault, &decided.target, &decided.facts);
    if guarded.is_none() && !decided.target.mutates() {
        return answer(vault, decided, bill);
    }
    let Decided { live, snapshot, subject, target, facts, .. } = decided;
    let order = match &target {
        Target::Sys(Route { run: Run::Order(parse), .. }) => {
            let tally = Tally::new(&live.closing);
            Some(parse(&inquiry(vault, &live, &snapshot, &subject, &facts, &target, &tally)))
        }
        _ => None,
    };
    let facts = Arc::new(facts);
    Ok(match (guarded, order) {
        // An order that cannot be parsed uses up no approval.
        (None, Some(order)) | (_, Some(order @ Err(_))) => Step::Waiting(change::keep(vault, &live, facts, order)?),
        (Some(route), _) => {
            let permit = change::submit(vault, &live, Arc::clone(&facts), target)?;
            Step::Guarded(permit, facts, route)
        }
        (None, None) => Step::Waiting(change::submit(vault, &live, facts, target)?),
    })
}

/// Answers a request that changes nothing, unless it waits for a change or may take long.
fn answer(vault: &Vault, decided: Decided, bill: Option<&mut Bill>) -> Result<Step, VaultError> {
    let Decided { live, snapshot, subject, target, facts, .. } = decided;
    let tally = Tally::new(&live.closing);
    if let Target::Sys(Route { run: Run::Poll(parse), .. }) = &target {
        return match parse(&inquiry(vault, &live, &snapshot, &subject, &facts, &target, &tally)) {
            Ok(poll) => Ok(Step::Polling(Arc::new(facts), poll)),
            Err(error) => refuse(vault, &live, &facts, None, error),
        };
    }
    if let Some(error) = long::owes(&facts, &target, bill.as_deref()) {
        return refuse(vault, &live, &facts, None, error);
    }
    if long::is_long(&live, &facts, &target) {
        return Ok(Step::Long(Arc::new(facts), target));
    }
    let (result, effect) = run(vault, &live, &snapshot, &subject, &facts, &target, &tally);
    if let Some(bill) = bill {
        bill.looked_at(tally.looked_at());
    }
    audit(vault, &live, &facts, &result)?;
    let reply = result?;
    // The seal request must be durable in the log before the vault closes, because nobody can write to it afterwards.
    if effect == Effect::Seal {
        live.audit.sync().map_err(|error| vault.audit_failed(&error))?;
        drop((live, snapshot));
        unseal::close(vault, Some(&facts.caller.identity));
    }
    Ok(Step::Answered(reply))
}

/// Writes one audit line, then returns the error. `why` is set if the caller's certificate is not admitted.
pub(super) fn refuse<T>(
    vault: &Vault,
    live: &Live,
    facts: &Facts,
    why: Option<Barred>,
    error: VaultError,
) -> Result<T, VaultError> {
    if let Some(why) = why {
        barred::warn(vault, &facts.caller, why, facts.time_ms);
    }
    let refused = Err(error);
    audit(vault, live, facts, &refused)?;
    Err(refused.err().unwrap_or(VaultError::Internal))
}
