//! Requests that change something. They are passed to the committer, the keeper or the rotator, which audit them.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::api::path::Path;
use crate::api::reply::Reply;
use crate::barrier::Tx;
use crate::crypto::random::Random;

use super::admit::Visit;
use super::audited::Facts;
use super::read::audit;
use super::route::{Change, Run};
use crate::core::Settings;
use crate::core::approvals::guard::Gate;
use crate::core::commit::change::Done;
use crate::core::commit::committer::{Job, Work};
use crate::core::decide::classes;
use crate::core::decide::identify::identify;
use crate::core::decide::target::{Question, Target};
use crate::core::error::VaultError;
use crate::core::live::sightings::Sightings;
use crate::core::rotation::{Errand, Order, ValueErrand};
use crate::core::state::snapshot::{Snapshot, Touch};
use crate::core::state::tokens;
use crate::core::vault::{Live, Vault};

/// Receives the outcome. A dropped sender means that nothing was done.
pub(super) type Answer = oneshot::Receiver<Result<Reply, VaultError>>;

/// Takes one use from a token before the request is processed, as a separate change, so that a rejected request counts
/// too. `None` if the caller presents no token with limited uses.
pub(super) fn spend(vault: &Vault, visit: &Visit) -> Result<Option<Answer>, VaultError> {
    let Visit { live, subject, caller, now_ms, .. } = visit;
    let Some(token) = subject.token.as_ref().filter(|token| token.record.uses_left.is_some()) else {
        return Ok(None);
    };
    let full = Path::parse("auth/token/use").map_err(|_| VaultError::Internal)?;
    let rule = format!("token:{}", token.record.accessor);
    let facts = Arc::new(Facts::for_caller(caller.clone(), full, "token", rule, *now_ms));
    let id = token.id;
    let work = move |tx: &mut Tx<'_>, snapshot: &Snapshot, now_ms: u64| {
        Ok(Done::touching(Reply::none(), tokens::spend(tx, &snapshot.tokens, id, now_ms)?))
    };
    let (sender, answer) = oneshot::channel();
    let job = Job { facts: Arc::clone(&facts), work: Work::Records(Box::new(work)), answer: sender };
    taken(vault, live, &facts, live.committer.submit(job), answer).map(Some)
}

/// Passes an order to the keeper or the rotator, which audit it.
pub(super) fn keep(
    vault: &Vault,
    live: &Live,
    facts: Arc<Facts>,
    order: Result<Order, VaultError>,
) -> Result<Answer, VaultError> {
    let (sender, answer) = oneshot::channel();
    let submitted = order.and_then(|order| match order {
        Order::Value(order) => live.rotator.submit(ValueErrand { facts: Arc::clone(&facts), order, answer: sender }),
        order => live.keeper.submit(Errand { facts: Arc::clone(&facts), order, answer: sender }),
    });
    taken(vault, live, &facts, submitted, answer)
}

/// Returns the receiver of a job's outcome. A rejected job is audited with its error.
fn taken(
    vault: &Vault,
    live: &Live,
    facts: &Facts,
    submitted: Result<(), VaultError>,
    answer: Answer,
) -> Result<Answer, VaultError> {
    match submitted {
        Ok(()) => Ok(answer),
        Err(error) => {
            let refused = Err(error);
            audit(vault, live, facts, &refused)?;
            refused.map(|_: Reply| answer)
        }
    }
}

/// Passes a mutation to the committer.
pub(super) fn submit(vault: &Vault, live: &Live, facts: Arc<Facts>, target: Target) -> Result<Answer, VaultError> {
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

/// What a change uses in addition to the records.
struct Around<'a> {
    settings: &'a Settings,
    snapshot: &'a Snapshot,
    sightings: &'a Sightings,
    random: &'a Arc<dyn Random>,
    now_ms: u64,
}

/// Runs in the committer's group: decides again, then changes.
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
                _ if classes::comes_before(settings, route, body).is_some() => Ok(Done::of(Reply::none())),
                _ => Err(VaultError::Internal),
            })
        }
        Target::Nowhere(_) => Err(VaultError::Internal),
    }
}
