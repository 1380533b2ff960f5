//! The order of every request. [`first`] keeps it:
//!
//! sealed? -> canonical path -> identify -> within limits? -> not rolled back? -> decide -> audit the request -> run -> audit the
//! reply -> answer
//!
//! Denials and failures are audited too. If the audit log does not accept an entry, nothing is returned. A read writes
//! request and reply as one audit line before it answers. A mutation goes to the committer, which makes the request
//! entry durable before it runs anything (`commit/committer.rs`).

use std::sync::Arc;

use crate::api::reply::Reply;
use crate::barrier::Tally;
use crate::limits::Bill;

use super::admit::{Decided, Visit, admit, charge, decide, history, remark};
use super::audited::Facts;
use super::change::Answer;
use super::read::{audit, inquiry, run};
use super::route::{Effect, Route, Run};
use super::{change, guarded, long, waiting};
use crate::core::Caller;
use crate::core::decide::target::Target;
use crate::core::error::VaultError;
use crate::core::lifecycle::unseal;
use crate::core::live::poll::Poll;
use crate::core::request::Request;
use crate::core::state::limits;
use crate::core::vault::{Live, Vault};

/// Handles one request. Everything that it returns is in the audit log.
///
/// # Errors
/// As [`crate::core::Vault::handle`].
pub(in crate::core) async fn handle(vault: &Vault, caller: &Caller, request: Request) -> Result<Reply, VaultError> {
    let remark = remark(&request);
    let (mut step, mut bill) = first(vault, caller, request)?;
    if let Step::Spending(answer, request) = step {
        answer.await.unwrap_or(Err(VaultError::Sealed))?;
        (step, bill) = again(vault, caller, *request, bill)?;
    }
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
            let done = tokio::spawn(async move { guarded::run(&me, permit, facts, route).await });
            done.await.unwrap_or(Err(VaultError::Internal))?
        }
        Step::Spending(..) => return Err(VaultError::Internal),
    };
    reply.warnings.extend(remark.map(str::to_owned));
    limits::settle(bill, Some(&reply));
    Ok(reply)
}

enum Step {
    Answered(Reply),
    Waiting(Answer),
    /// Waits until something changes. Already decided, and decided again when it wakes.
    Polling(Arc<Facts>, Poll),
    /// Waits for its turn. Already decided, and decided again then.
    Long(Arc<Facts>, Target),
    /// Waits until the use of the token is durable. Then the request is processed again.
    Spending(Answer, Box<Request>),
    /// Waits until the approval of the request is used up. Then it is executed.
    Guarded(Answer, Arc<Facts>, &'static Route),
}

/// The first pass: up to the answer of a read, or up to the queue for a change. It is synchronous, like everything that
/// holds the open vault, so that nothing holds it across an await.
fn first(vault: &Vault, caller: &Caller, request: Request) -> Result<(Step, Option<Bill>), VaultError> {
    let mut visit = admit(vault, caller, request)?; // sealed? canonical path, identify
    let ended = charge(&mut visit)?.or_else(|| history(&visit)); // within limits? not rolled back?
    if ended.is_none()
        && let Some(answer) = change::spend(vault, &visit)?
    {
        return Ok((Step::Spending(answer, Box::new(visit.request)), visit.bill));
    }
    dispatch(vault, decide(visit, ended)) // decide, audit the request, run, audit the reply
}

/// The second pass of a request that was charged and whose token has lost a use.
fn again(
    vault: &Vault,
    caller: &Caller,
    request: Request,
    bill: Option<Bill>,
) -> Result<(Step, Option<Bill>), VaultError> {
    let visit = Visit { bill, ..admit(vault, caller, request)? };
    dispatch(vault, decide(visit, None))
}

/// Rejects the request, passes it to the thread that executes and audits it, or answers it.
fn dispatch(vault: &Vault, decided: Decided) -> Result<(Step, Option<Bill>), VaultError> {
    if let Err(error) = decided.outcome {
        return refuse(vault, &decided.live, &decided.facts, error);
    }
    let guarded = guarded::comes_before(vault, &decided.target, &decided.facts);
    if guarded.is_none() && !decided.target.mutates() {
        return answer(vault, decided);
    }
    let Decided { live, snapshot, subject, target, facts, bill, .. } = decided;
    let order = match &target {
        Target::Sys(Route { run: Run::Order(parse), .. }) => {
            let tally = Tally::new(&live.closing);
            Some(parse(&inquiry(vault, &live, &snapshot, &subject, &facts, &target, &tally)))
        }
        _ => None,
    };
    let facts = Arc::new(facts);
    let step = match (guarded, order) {
        // An order that cannot be parsed uses up no approval.
        (None, Some(order)) | (_, Some(order @ Err(_))) => Step::Waiting(change::keep(vault, &live, facts, order)?),
        (Some(route), _) => {
            let permit = change::submit(vault, &live, Arc::clone(&facts), target)?;
            Step::Guarded(permit, facts, route)
        }
        (None, None) => Step::Waiting(change::submit(vault, &live, facts, target)?),
    };
    Ok((step, bill))
}

/// Answers a request that changes nothing, unless it waits for a change or may take long.
fn answer(vault: &Vault, decided: Decided) -> Result<(Step, Option<Bill>), VaultError> {
    let Decided { live, snapshot, subject, target, facts, mut bill, .. } = decided;
    let tally = Tally::new(&live.closing);
    if let Target::Sys(Route { run: Run::Poll(parse), .. }) = &target {
        return match parse(&inquiry(vault, &live, &snapshot, &subject, &facts, &target, &tally)) {
            Ok(poll) => Ok((Step::Polling(Arc::new(facts), poll), bill)),
            Err(error) => refuse(vault, &live, &facts, error),
        };
    }
    if let Some(error) = long::owes(&facts, &target, bill.as_ref()) {
        return refuse(vault, &live, &facts, error);
    }
    if long::is_long(&live, &facts, &target) {
        return Ok((Step::Long(Arc::new(facts), target), bill));
    }
    let (result, effect) = run(vault, &live, &snapshot, &subject, &facts, &target, &tally);
    if let Some(bill) = &mut bill {
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
    Ok((Step::Answered(reply), bill))
}

/// Writes one audit line, then returns the error.
fn refuse<T>(vault: &Vault, live: &Live, facts: &Facts, error: VaultError) -> Result<T, VaultError> {
    let refused = Err(error);
    audit(vault, live, facts, &refused)?;
    Err(refused.err().unwrap_or(VaultError::Internal))
}
