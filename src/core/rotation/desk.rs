//! What both rotation threads share. They prepare changes, and the committer makes them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use tokio::sync::oneshot;

use crate::api::reply::Reply;
use crate::audit::{Broker, LogKey};
use crate::barrier::{Barrier, Group, MountId, Tx};
use crate::crypto::random::Random;

use crate::core::commit::change::Done;
use crate::core::commit::committer::{Committer, Job, Work};
use crate::core::error::VaultError;
use crate::core::pipeline::audited::Facts;
use crate::core::state::snapshot::Snapshot;
use crate::core::{Clock, Settings};

/// The parts of the vault that a rotation thread uses.
pub(in crate::core) struct Desk {
    pub barrier: Arc<Barrier>,
    pub audit: Arc<Broker>,
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub committer: Arc<Committer>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub settings: Arc<Settings>,
    pub stopping: Arc<AtomicBool>,
}

/// Result of an order.
pub(in crate::core) struct Outcome {
    pub result: Result<Reply, VaultError>,
    /// Whether the committer has written the audit entries.
    pub audited: bool,
}

impl Outcome {
    /// The result of an order that was rejected before anything was submitted.
    pub(in crate::core) fn refused(error: VaultError) -> Self {
        Self { result: Err(error), audited: false }
    }
}

impl Desk {
    /// Submits work on records for `facts` and waits until it is durable.
    ///
    /// # Errors
    /// The error of the work; [`VaultError::Sealed`] when the vault closes.
    pub(in crate::core) fn records(
        &self,
        facts: &Arc<Facts>,
        work: impl FnOnce(&mut Tx<'_>, u64) -> Result<Reply, VaultError> + Send + 'static,
    ) -> Result<Reply, VaultError> {
        self.submit(facts, Work::Records(Box::new(move |tx, _, now_ms| Ok(Done::of(work(tx, now_ms)?)))))
    }

    /// As [`Desk::records`], with the snapshot on which the work decides.
    ///
    /// # Errors
    /// As [`Desk::records`].
    pub(in crate::core) fn decided(
        &self,
        facts: &Arc<Facts>,
        work: impl FnOnce(&mut Tx<'_>, &Snapshot, u64) -> Result<Done, VaultError> + Send + 'static,
    ) -> Result<Reply, VaultError> {
        self.submit(facts, Work::Records(Box::new(work)))
    }

    /// As [`Desk::records`], in a separate commit.
    ///
    /// # Errors
    /// As [`Desk::records`].
    pub(in crate::core) fn alone(
        &self,
        facts: &Arc<Facts>,
        work: impl FnOnce(&mut Group<'_>, u64) -> Result<Reply, VaultError> + Send + 'static,
    ) -> Result<Reply, VaultError> {
        self.alone_touching(facts, move |group, now_ms| Ok(Done::of(work(group, now_ms)?)))
    }

    /// As [`Desk::alone`], for work that changes records on which decisions depend.
    ///
    /// # Errors
    /// As [`Desk::records`].
    pub(in crate::core) fn alone_touching(
        &self,
        facts: &Arc<Facts>,
        work: impl FnOnce(&mut Group<'_>, u64) -> Result<Done, VaultError> + Send + 'static,
    ) -> Result<Reply, VaultError> {
        self.submit(facts, Work::Alone(Box::new(work)))
    }

    fn submit(&self, facts: &Arc<Facts>, work: Work) -> Result<Reply, VaultError> {
        let (sender, answer) = oneshot::channel();
        self.committer.submit(Job { facts: Arc::clone(facts), work, answer: sender })?;
        answer.blocking_recv().unwrap_or(Err(VaultError::Sealed))
    }

    /// Signs everything in the audit log so far.
    pub(in crate::core) fn checkpoint(&self) -> Result<(), VaultError> {
        self.audit.checkpoint(self.clock.now_ms()).map_err(|_| VaultError::AuditUnavailable)
    }

    /// Switches the audit log to the active audit key.
    pub(in crate::core) fn follow_audit_key(&self) -> Result<(), VaultError> {
        let Some(key) = self.barrier.audit_keys().pop() else { return Ok(()) };
        let key = LogKey { id: key.id, mac: key.mac, sign: key.sign };
        self.audit.switch_key(self.clock.now_ms(), key).map_err(|_| VaultError::AuditUnavailable)
    }

    /// Facts of something that the vault does by itself. `rule` is shown in the audit log.
    pub(in crate::core) fn by_vault(&self, path: &str, rule: String) -> Result<Arc<Facts>, VaultError> {
        Facts::by_vault(&self.settings.trust_domain, path, rule, self.clock.now_ms(), &*self.random).map(Arc::new)
    }

    /// Every mount that holds records.
    pub(in crate::core) fn mounts(&self) -> Vec<MountId> {
        let snapshot = self.snapshot.load();
        MountId::builtins().chain(snapshot.mounts.ids()).collect()
    }

    /// Writes one audit line with request and outcome. If the log rejects it, the outcome must not be sent.
    pub(in crate::core) fn log(&self, facts: &Facts, result: Result<Reply, VaultError>) -> Result<Reply, VaultError> {
        match facts.exchange(&self.audit, self.barrier.mark().2, &result) {
            Ok(()) => result,
            Err(error) => {
                tracing::error!(%error, "the audit log did not accept an entry");
                Err(VaultError::AuditUnavailable)
            }
        }
    }
}
