//! Work that grows with the stored data: lists of large folders, and reports.
//!
//! The threads that serve connections only do short work. Requests that may read more than a few records ([`FEW`]) run
//! here, on separate threads and on at most half of the processors, so that other reads continue. A caller waits for a
//! slot without holding any part of the open vault. The request is decided again at its turn, and once more when the
//! work is done, before anything is answered. If the caller goes away or the vault closes, the work stops at the next
//! record. Everything that was read is charged in any case.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::audited::Facts;
use super::read::{OwedLine, answered, audit, run as run_now};
use super::route::Guard;
use crate::api::reply::Reply;
use crate::api::request::Operation;
use crate::barrier::Tally;
use crate::core::decide::identify::identify;
use crate::core::decide::target::{Question, Target};
use crate::core::error::VaultError;
use crate::core::state::limits;
use crate::core::state::snapshot::Snapshot;
use crate::core::state::subject::Subject;
use crate::core::vault::{Live, Vault};
use crate::engine::FEW;
use crate::limits::Bill;

/// Stops the work when its request is dropped.
struct Asker(Arc<Tally>);

impl Drop for Asker {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// Whether a request that changes nothing belongs here. Decided from the index, without opening a record.
pub(super) fn is_long(live: &Live, facts: &Facts, target: &Target) -> bool {
    match target {
        Target::Mount { mount, .. } => mount.engine.is_long(&live.barrier.view(mount.id), &facts.inner),
        Target::Sys(route) => route.grows_with.iter().any(|mount| live.barrier.view(*mount).has_more_entries(FEW)),
        Target::Nowhere(_) => false,
    }
}

/// Returns the error when the identity still owes for records that earlier requests read. A `LIST` was checked for this
/// when it was charged. A report with `GET`, short or long, is charged as a read, and must not be a way around that.
pub(super) fn owes(facts: &Facts, target: &Target, bill: Option<&Bill>) -> Option<VaultError> {
    let reports = matches!(target, Target::Sys(route) if !route.grows_with.is_empty());
    let bill = bill.filter(|_| reports && facts.inner.operation != Operation::List)?;
    let wait_ms = bill.may_look().err()?;
    let path = facts.full.as_str().to_owned();
    Some(VaultError::RateLimited { path, retry_after_s: wait_ms.div_ceil(1_000) })
}

/// Waits for a slot, then decides once more, runs and audits.
pub(super) async fn run(
    vault: &Vault,
    facts: Arc<Facts>,
    target: Target,
    bill: Option<Bill>,
) -> Result<Reply, VaultError> {
    let Some(turn) = vault.places.enter(facts.caller.identity.uri(), facts.caller.is_outsider()) else {
        let path = facts.full.as_str().to_owned();
        return answered(vault, &facts, Err(VaultError::RateLimited { path, retry_after_s: 1 }));
    };
    let line = OwedLine::of(vault, &facts);
    let place = turn.come().await.ok_or(VaultError::Internal)?;
    let tally = Arc::new(Tally::new(&vault.live().ok_or(VaultError::Sealed)?.closing));
    let asker = Asker(Arc::clone(&tally));
    let me = vault.me.upgrade().ok_or(VaultError::Sealed)?;
    line.hand_over();
    let shared = Arc::clone(&facts);
    let done = tokio::task::spawn_blocking(move || {
        let _place = place;
        work(&me, &shared, &target, &tally, bill)
    });
    let result = match done.await {
        Ok(result) => result,
        Err(_) => answered(vault, &facts, Err(VaultError::Internal)),
    };
    drop(asker);
    result
}

fn work(
    vault: &Vault,
    facts: &Facts,
    target: &Target,
    tally: &Tally,
    mut bill: Option<Bill>,
) -> Result<Reply, VaultError> {
    let live = vault.live().ok_or(VaultError::Sealed)?;
    let (snapshot, subject, settled) = settle(vault, &live, facts, target);
    let result = settled.and_then(|()| run_now(vault, &live, &snapshot, &subject, facts, target, tally).0);
    // The work may have taken seconds. An identity or a token that was revoked meanwhile gets no result.
    let result = result.and_then(|reply| settle(vault, &live, facts, target).2.map(|()| reply));
    let closing = live.closing.load(Ordering::SeqCst);
    let result = if result.is_err() && closing { Err(VaultError::Sealed) } else { result };
    if let Some(bill) = &mut bill {
        bill.looked_at(tally.looked_at());
    }
    limits::settle(bill, result.as_ref().ok());
    audit(vault, &live, facts, &result)?;
    result
}

/// Decides on the current state, which it returns together with the caller's rights.
fn settle(
    vault: &Vault,
    live: &Live,
    facts: &Facts,
    target: &Target,
) -> (Arc<Snapshot>, Arc<Subject>, Result<(), VaultError>) {
    let snapshot = live.snapshot.load_full();
    let subject = identify(&snapshot, &vault.settings, &facts.caller, vault.ports.clock.now_ms());
    let (operation, path, body) = (facts.inner.operation, &facts.full, &facts.inner.body);
    let question = Question { subject: &subject, operation, path, body, wrap_ttl: None };
    let settled = match target {
        Target::Mount { mount, .. } => question.settle(target, Some(&live.barrier.view(mount.id))),
        Target::Sys(route) if route.guard == Guard::Open => Ok(()),
        _ => question.settle(target, None),
    };
    (snapshot, subject, settled)
}
