//! The open vault, and what it reports about itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};

use crate::crypto::Random;
use crate::keys::{AuditKey, Term, VaultId};
use crate::store::sidecar::{AnchorFile, HeaderFiles};
use crate::store::{CommitSeq, Store, StoreError};

use super::error::BarrierError;
use super::names::Names;
use super::published::Published;
use super::state::StateRecord;
#[cfg(any(test, feature = "testing"))]
use super::status::Health;
use super::status::{AuditHead, KeyStatus, TermStatus};
use super::terms::ring::Ring;

/// Files and services that a barrier works with.
pub struct Parts {
    /// Encrypted records.
    pub store: Arc<dyn Store>,
    /// The two copies of the header.
    pub header: Arc<dyn HeaderFiles>,
    /// The anchor file.
    pub anchor: Arc<dyn AnchorFile>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

impl Parts {
    /// A second handle to the same parts.
    pub(super) fn again(&self) -> Self {
        let Self { store, header, anchor, random } = self;
        Self { store: store.clone(), header: header.clone(), anchor: anchor.clone(), random: random.clone() }
    }
}

/// What only the writer changes: the durable state and the commit that wrote it.
pub(super) struct Writer {
    pub state: StateRecord,
    pub revision: Option<CommitSeq>,
    /// Integrity set with which each slot of the anchor is known to be tagged; 0 means unknown.
    pub anchored_under: [u32; 2],
}

impl Writer {
    pub(super) fn new(state: StateRecord, revision: Option<CommitSeq>) -> Self {
        Self { state, revision, anchored_under: [0; 2] }
    }
}

/// An open vault. A read holds a lock only for one lookup in the index. One group writes at a time.
pub struct Barrier {
    pub(super) store: Arc<dyn Store>,
    pub(super) anchor: Arc<dyn AnchorFile>,
    pub(super) random: Arc<dyn Random>,
    pub(super) files: Arc<dyn HeaderFiles>,
    pub(super) vault: VaultId,
    pub(super) ring: ArcSwap<Ring>,
    pub(super) names: Names,
    pub(super) published: RwLock<Published>,
    pub(super) writer: Mutex<Writer>,
    pub(super) fault: RwLock<Option<String>>,
    /// How often damage was found.
    pub(super) damage_found: AtomicU64,
    pub(super) fatal: AtomicBool,
}

impl Barrier {
    /// Epoch, incarnation and generation of the published state. Clients compare them to notice a rollback.
    #[must_use]
    pub fn mark(&self) -> (u32, [u8; 16], u64) {
        let ring = self.ring.load();
        (ring.header.epoch, ring.header.incarnation, self.published.read().generation)
    }

    /// Whether writes are accepted.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn health(&self) -> Health {
        if self.fatal.load(Ordering::SeqCst) {
            return Health::Degraded("the state on disk is unknown".to_owned());
        }
        self.fault.read().clone().map_or(Health::Serving, Health::Degraded)
    }

    /// Number of stored records, without the state record.
    #[must_use]
    pub fn record_count(&self) -> u64 {
        u64::try_from(self.published.read().index.len()).unwrap_or(u64::MAX)
    }

    /// The vault's identifier.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn vault_id(&self) -> VaultId {
        self.vault
    }

    /// Use of the active term.
    #[must_use]
    pub fn key_status(&self) -> KeyStatus {
        let ring = self.ring.load();
        let term = ring.keyring.active_term();
        let published = self.published.read();
        let seals = published.terms.iter().find(|used| used.term == term.id).map_or(0, |used| used.seals);
        KeyStatus { term: term.id, created_ms: term.created_ms, seals }
    }

    /// All terms in ascending order, including destroyed ones.
    #[must_use]
    pub fn terms(&self) -> Vec<TermStatus> {
        let ring = self.ring.load();
        let published = self.published.read();
        let used =
            |id| published.terms.iter().find(|used| used.term == id).map_or((0, 0), |used| (used.live, used.seals));
        let status = |term: &Term| {
            let (live, seals) = used(term.id);
            TermStatus { term: term.id, state: term.state, created_ms: term.created_ms, live, seals }
        };
        ring.keyring.terms.iter().map(status).collect()
    }

    /// Number of integrity sets in the keyring: two between the start and the end of a rekey.
    #[must_use]
    pub fn integrity_sets(&self) -> usize {
        self.ring.load().keyring.integrity.len()
    }

    /// The audit keys in ascending order. The last one writes.
    #[must_use]
    pub fn audit_keys(&self) -> Vec<AuditKey> {
        self.ring.load().keyring.audit.iter().map(AuditKey::duplicate).collect()
    }

    /// The audit entry that the last published state vouches for.
    #[must_use]
    pub fn audit_head(&self) -> AuditHead {
        self.published.read().audit
    }

    /// Returns what [`Group::remember`](super::Group::remember) left in the durable state.
    #[must_use]
    pub fn audit_outcomes(&self) -> Vec<u8> {
        self.writer.lock().state.outcomes.clone()
    }

    /// Whether damage was found, so that writes are stopped.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.fault.read().is_some()
    }

    /// How often damage was found since the vault was opened. Reading the same damaged record twice counts twice.
    #[must_use]
    pub fn damage_found(&self) -> u64 {
        self.damage_found.load(Ordering::SeqCst)
    }

    /// Stops writes because of a damaged record, and notes the reason, unless there is one already.
    pub(super) fn degrade(&self, what: &'static str) -> BarrierError {
        if self.stop_writes(|| format!("a stored record failed its integrity check: {what}")) {
            tracing::error!(
                "a stored record failed its integrity check ({what}). Writes are stopped until a restart; other records can \
                 still be read. Find the damaged records: strongroom verify. Restore the store from a backup, or remove \
                 them: strongroomd storage salvage"
            );
        }
        BarrierError::Integrity(what)
    }

    /// Passes on an error of the store. Stops writes if the engine has found its own files damaged: to a caller that is as
    /// bad as a damaged record, and another write over such files can spoil more of them.
    pub(super) fn unread(&self, error: StoreError) -> BarrierError {
        if let StoreError::Corrupt(_) = &error
            && self.stop_writes(|| error.to_string())
        {
            tracing::error!("{error}. Writes are stopped until a restart; records in sound pages can still be read");
        }
        BarrierError::Store(error)
    }

    /// Stops writes, and counts the finding. Returns whether this is the first reason.
    fn stop_writes(&self, why: impl FnOnce() -> String) -> bool {
        let mut fault = self.fault.write();
        let first = fault.is_none();
        fault.get_or_insert_with(why);
        self.damage_found.fetch_add(1, Ordering::SeqCst);
        first
    }

    /// Checks whether the vault accepts writes.
    ///
    /// # Errors
    /// [`BarrierError::Fatal`] or [`BarrierError::Degraded`] when nothing may be written any more.
    pub(super) fn check_writable(&self) -> Result<(), BarrierError> {
        if self.fatal.load(Ordering::SeqCst) {
            return Err(BarrierError::Fatal("an earlier group was not completed"));
        }
        if self.fault.read().is_some() {
            return Err(BarrierError::Degraded);
        }
        Ok(())
    }

    pub(super) fn fail(&self, why: &'static str) -> BarrierError {
        self.fatal.store(true, Ordering::SeqCst);
        BarrierError::Fatal(why)
    }
}
