//! Orders and reads that others had to approve. They do not run inside a commit, so their approval is used up first, in a
//! separate commit; then they are decided once more and run.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::api::reply::Reply;
use crate::barrier::{BarrierError, Tally};

use super::audited::Facts;
use super::change::{self, Answer};
use super::read::{audit, inquiry};
use super::route::{Route, Run};
use crate::core::decide::classes;
use crate::core::decide::identify::identify;
use crate::core::decide::target::{Question, Target};
use crate::core::error::VaultError;
use crate::core::vault::Vault;

/// The route of a request whose approval must be used up before it runs; `None` for all others.
pub(super) fn comes_before(vault: &Vault, target: &Target, facts: &Facts) -> Option<&'static Route> {
    let Target::Sys(route) = target else { return None };
    classes::comes_before(&vault.settings, route, &facts.inner.body).map(|_| *route)
}

/// The result of an approved request.
enum Permitted {
    Answered(Reply),
    Waiting(Answer),
}

/// Where the outcome goes. Closed when the caller has gone away.
pub(super) type Asker = oneshot::Sender<Result<Reply, VaultError>>;

/// Waits until the approval is used up, executes the request, and sends the outcome of [`crate::core::Vault::handle`].
pub(super) async fn run(vault: &Vault, permit: Answer, facts: Arc<Facts>, route: &'static Route, asker: Asker) {
    let outcome = match permit.await.unwrap_or(Err(VaultError::Sealed)) {
        Ok(_) => permitted(vault, facts, route, &asker),
        Err(error) => Err(error),
    };
    let outcome = match outcome {
        Ok(Permitted::Answered(reply)) => Ok(reply),
        Ok(Permitted::Waiting(answer)) => answer.await.unwrap_or(Err(VaultError::Sealed)),
        Err(error) => Err(error),
    };
    // An order was executed even if nobody waits for its outcome; the audit log has it.
    let _ = asker.send(outcome);
}

/// Executes an order or a read, decided once more. Synchronous, as it holds the open vault.
fn permitted(vault: &Vault, facts: Arc<Facts>, route: &'static Route, asker: &Asker) -> Result<Permitted, VaultError> {
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
        Ok(Ok(order)) => return change::keep(vault, &live, facts, Ok(order)).map(Permitted::Waiting),
        // Nobody gets it, and the line must not say that somebody did.
        Ok(Err(_)) if asker.is_closed() => Err(VaultError::from(BarrierError::Abandoned)),
        Ok(Err(reply)) => Ok(reply),
        Err(error) => Err(error),
    };
    audit(vault, &live, &facts, &result)?;
    result.map(Permitted::Answered)
}
