//! The only caller of the record format and the store together: reading, writing and opening of an authenticated tree.
//!
//! The store is not trusted. An index in memory, checked at the start against a sealed sum over all records, says what
//! exists; every record read must be the one that the index names. Writes come in groups: one engine transaction with
//! one state record, then the anchor, then readers see it (`docs/format.md`, "Commit order").

mod anchor;
mod drained;
mod error;
mod group;
mod index;
mod lifecycle;
mod loss;
mod names;
mod node;
mod overlay;
mod read;
mod rewrap;
mod ring;
mod state;
mod tally;
#[cfg(test)]
mod tests;
mod tx;
mod view;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};

use crate::crypto::Random;
use crate::keys::{AuditKey, TermState, VaultId};
use crate::store::sidecar::{AnchorFile, HeaderFiles};
use crate::store::{CommitSeq, Store};

pub use drained::{Census, Drained};
pub use error::BarrierError;
pub use group::{Durable, Group};
pub use lifecycle::Report;
pub use loss::{Loss, Misfit};
pub use names::{MAX_PATH_BYTES, MAX_SEGMENTS, MountId};
pub use node::{MAX_VERSIONS, Node, SecretMeta, VersionMeta};
pub use rewrap::{Depth, Resealed, Stale, Walk};
pub use ring::{HeaderChange, HeaderCheck, KeyringEdit};
pub use tally::Tally;
pub use tx::{Point, Tx};
pub use view::{Child, EntryValue, View};

use index::Published;
use names::Names;
use overlay::Overlay;
use ring::Ring;
use state::StateRecord;

/// What a barrier works on.
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

/// The last audit entry that a state vouches for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditHead {
    /// Sequence number; 0 before the first entry.
    pub seq: u64,
    /// Hash of the entry.
    pub hash: [u8; 32],
}

/// Whether the barrier takes writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Reads and writes.
    Serving,
    /// Reads only; the text says why.
    Degraded(String),
}

/// Use of one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermStatus {
    /// Number of the term.
    pub term: u32,
    /// What it may do.
    pub state: TermState,
    /// Unix time in milliseconds at which the term was made.
    pub created_ms: u64,
    /// Stored records under it.
    pub live: u64,
    /// Records sealed under it, ever.
    pub seals: u64,
}

/// Use of the term that seals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// Number of the term.
    pub term: u32,
    /// Unix time in milliseconds at which the term was made.
    pub created_ms: u64,
    /// Records sealed under it, ever.
    pub seals: u64,
}

/// What only the writer changes: the durable state, and the commit that wrote it.
struct Writer {
    state: StateRecord,
    revision: Option<CommitSeq>,
    /// Integrity set that each slot of the anchor is known to be tagged under; 0 is unknown.
    anchored_under: [u32; 2],
}

impl Writer {
    fn new(state: StateRecord, revision: Option<CommitSeq>) -> Self {
        Self { state, revision, anchored_under: [0; 2] }
    }
}

/// An open vault. Reading takes no lock for longer than one look at the index; one group writes at a time.
pub struct Barrier {
    store: Arc<dyn Store>,
    anchor: Arc<dyn AnchorFile>,
    random: Arc<dyn Random>,
    files: Arc<dyn HeaderFiles>,
    vault: VaultId,
    ring: ArcSwap<Ring>,
    names: Names,
    published: RwLock<Published>,
    writer: Mutex<Writer>,
    fault: RwLock<Option<String>>,
    fatal: AtomicBool,
}

impl Barrier {
    /// Reads the published state of one mount.
    #[must_use]
    pub fn view(&self, mount: MountId) -> View<'_> {
        View::new(self, None, mount)
    }

    /// Starts a group; waits for the one before to be published or dropped.
    #[must_use]
    pub fn begin(&self) -> Group<'_> {
        Group {
            barrier: self,
            writer: self.writer.lock(),
            overlay: Overlay::default(),
            next: None,
            outcomes: Vec::new(),
        }
    }

    /// Epoch, incarnation and generation of the published state: what clients compare to notice a rollback.
    #[must_use]
    pub fn mark(&self) -> (u32, [u8; 16], u64) {
        let ring = self.ring.load();
        (ring.header.epoch, ring.header.incarnation, self.published.read().generation)
    }

    /// Whether writes are taken.
    #[must_use]
    pub fn health(&self) -> Health {
        if self.fatal.load(Ordering::SeqCst) {
            return Health::Degraded("the state on disk is unknown".to_owned());
        }
        self.fault.read().clone().map_or(Health::Serving, Health::Degraded)
    }

    /// Stored records, the state record not counted.
    #[must_use]
    pub fn record_count(&self) -> u64 {
        u64::try_from(self.published.read().index.len()).unwrap_or(u64::MAX)
    }

    /// The vault's identifier.
    #[must_use]
    pub fn vault_id(&self) -> VaultId {
        self.vault
    }

    /// Use of the term that seals.
    #[must_use]
    pub fn key_status(&self) -> KeyStatus {
        let ring = self.ring.load();
        let term = ring.keyring.active_term();
        let published = self.published.read();
        let seals = published.terms.iter().find(|used| used.term == term.id).map_or(0, |used| used.seals);
        KeyStatus { term: term.id, created_ms: term.created_ms, seals }
    }

    /// Every term, ascending, destroyed ones included.
    #[must_use]
    pub fn terms(&self) -> Vec<TermStatus> {
        let ring = self.ring.load();
        let published = self.published.read();
        let used =
            |id| published.terms.iter().find(|used| used.term == id).map_or((0, 0), |used| (used.live, used.seals));
        let status = |term: &crate::keys::Term| {
            let (live, seals) = used(term.id);
            TermStatus { term: term.id, state: term.state, created_ms: term.created_ms, live, seals }
        };
        ring.keyring.terms.iter().map(status).collect()
    }

    /// Number of integrity sets in the keyring: two between a rekey and its end.
    #[must_use]
    pub fn integrity_sets(&self) -> usize {
        self.ring.load().keyring.integrity.len()
    }

    /// The audit keys, ascending; the last one writes.
    #[must_use]
    pub fn audit_keys(&self) -> Vec<AuditKey> {
        self.ring.load().keyring.audit.iter().map(AuditKey::duplicate).collect()
    }

    /// The audit entry that the last published state vouches for.
    #[must_use]
    pub fn audit_head(&self) -> AuditHead {
        self.published.read().audit
    }

    /// What [`Group::remember`] left in the durable state.
    #[must_use]
    pub fn audit_outcomes(&self) -> Vec<u8> {
        self.writer.lock().state.outcomes.clone()
    }

    /// Stops writes and says why; the first reason stays.
    fn degrade(&self, what: &'static str) -> BarrierError {
        self.fault.write().get_or_insert_with(|| format!("a stored record failed its integrity check: {what}"));
        BarrierError::Integrity(what)
    }

    /// # Errors
    /// [`BarrierError::Fatal`] or [`BarrierError::Degraded`] when nothing may be written any more.
    fn check_writable(&self) -> Result<(), BarrierError> {
        if self.fatal.load(Ordering::SeqCst) {
            return Err(BarrierError::Fatal("an earlier group was not completed"));
        }
        if self.fault.read().is_some() {
            return Err(BarrierError::Degraded);
        }
        Ok(())
    }

    fn fail(&self, why: &'static str) -> BarrierError {
        self.fatal.store(true, Ordering::SeqCst);
        BarrierError::Fatal(why)
    }
}
