//! Requests that change nothing. They run on the published state, and one audit line records request and outcome.

use crate::api::reply::Reply;
use crate::barrier::{BarrierError, Tally};

use super::audited::Facts;
use super::route::{Effect, Inquiry, Run};
use crate::core::decide::target::Target;
use crate::core::error::VaultError;
use crate::core::routes::TABLES;
use crate::core::state::snapshot::Snapshot;
use crate::core::state::subject::Subject;
use crate::core::vault::{Live, Vault};

/// Writes one line with request and outcome. If the log rejects it, the outcome must not be sent.
pub(super) fn audit(
    vault: &Vault,
    live: &Live,
    facts: &Facts,
    result: &Result<Reply, VaultError>,
) -> Result<(), VaultError> {
    facts.exchange(&live.audit, live.barrier.mark().2, result).map_err(|error| vault.audit_failed(&error))
}

/// As [`audit`], for a reply that took long: the vault may have closed in the meantime.
pub(super) fn answered(vault: &Vault, facts: &Facts, result: Result<Reply, VaultError>) -> Result<Reply, VaultError> {
    let live = vault.live().ok_or(VaultError::Sealed)?;
    audit(vault, &live, facts, &result)?;
    result
}

/// Runs a request that does not mutate, on the published state.
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

/// The audit line of a request that was decided and waits for its reply. If the caller goes away, and the waiting future
/// is dropped, the line is written all the same.
pub(super) struct OwedLine<'a> {
    vault: &'a Vault,
    facts: &'a Facts,
    owed: bool,
}

impl<'a> OwedLine<'a> {
    pub(super) fn of(vault: &'a Vault, facts: &'a Facts) -> Self {
        Self { vault, facts, owed: true }
    }

    /// Writes the line, as [`answered`].
    pub(super) fn write(mut self, result: Result<Reply, VaultError>) -> Result<Reply, VaultError> {
        self.owed = false;
        answered(self.vault, self.facts, result)
    }

    /// Leaves the line to other code.
    pub(super) fn hand_over(mut self) {
        self.owed = false;
    }
}

impl Drop for OwedLine<'_> {
    fn drop(&mut self) {
        if self.owed {
            // There is no caller to tell if the log rejects it; the operator's log says so.
            let _ = answered(self.vault, self.facts, Err(VaultError::from(BarrierError::Abandoned)));
        }
    }
}

/// The arguments of a reading handler.
pub(super) fn inquiry<'a>(
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
