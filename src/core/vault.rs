//! The data of a vault, sealed and open. Its behaviour is in the folders beside this file.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use arc_swap::{ArcSwap, ArcSwapOption};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::audit::{AuditError, Broker};
use crate::barrier::Barrier;
use crate::limits::Accounts;
use crate::pki::Trust;

use super::commit::committer::Committer;
use super::error::VaultError;
use super::live::crl_cache::Revocations;
use super::live::damage::Damage;
use super::live::feed::Feed;
use super::live::gate::Gate;
use super::live::places::Places;
use super::live::rollbacks::Rollbacks;
use super::live::seldom::Seldom;
use super::live::sessions::Sessions;
use super::live::shares::Shares;
use super::live::sightings::Sightings;
use super::live::verifier::Verifier;
use super::ports::{Ports, Settings};
use super::rotation::{Keeper, Rotator};
use super::state::listener_roots::ListenerRoots;
use super::state::snapshot::Snapshot;

/// One vault: sealed at first, serving after [`Vault::unseal`], sealed again after [`Vault::seal`] or a fatal fault.
///
/// Every method may be called from any thread. All methods except [`Vault::handle`] block as long as their I/O takes.
pub struct Vault {
    pub(super) ports: Ports,
    pub(super) settings: Arc<Settings>,
    /// Present exactly while unsealed. Nothing holds the inner `Arc` across an await, so [`Vault::seal`] can wait for
    /// the last reader.
    pub(super) live: ArcSwapOption<Live>,
    /// Recent changes. Kept after sealing, so that waiting clients do not hold any part of the open vault.
    pub(super) feed: Arc<Feed>,
    /// Open connections.
    pub(super) sessions: Arc<Sessions>,
    /// What TLS accepts. Kept while sealed.
    pub(super) trust: watch::Sender<Arc<Trust>>,
    /// What clients need to verify the listener. Kept while sealed.
    pub(super) listening: Arc<ListenerRoots>,
    /// Shares entered so far.
    pub(super) shares: Mutex<Shares>,
    /// Allows one unseal or seal at a time. Also counts failed attempts.
    pub(super) gate: Mutex<Gate>,
    /// Held during an attempt to unseal and while sealing. `gate` is held only for a moment.
    pub(super) attempt: Mutex<()>,
    /// Set when a sync failed. This process must not write again and must end.
    pub(super) dead: AtomicBool,
    /// Warnings about requests of callers who are not admitted.
    pub(super) refusals: Seldom,
    /// Slots for work that grows with the stored data.
    pub(super) places: Places,
    /// For the committer thread, which seals the vault when the disk can no longer be trusted.
    pub(super) me: Weak<Vault>,
}

/// What exists only while unsealed.
pub(super) struct Live {
    /// Set when the vault closes. No long work may be started or continued then.
    pub(super) closing: Arc<AtomicBool>,
    pub(super) barrier: Arc<Barrier>,
    pub(super) audit: Arc<Broker>,
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(super) sightings: Arc<Sightings>,
    pub(super) revocations: Revocations,
    pub(super) accounts: Accounts,
    pub(super) committer: Arc<Committer>,
    pub(super) keeper: Keeper,
    pub(super) rotator: Rotator,
    pub(super) verifier: Verifier,
    pub(super) rollbacks: Rollbacks,
    pub(super) damage: Arc<Damage>,
    /// All losses that were ever accepted, oldest first. They change only while the vault is sealed.
    pub(super) losses: Vec<crate::api::sys::AcceptedLoss>,
}

impl Vault {
    /// Tells the listener what to accept from now on.
    pub(super) fn publish_trust(&self, snapshot: &Snapshot) {
        let trust = snapshot.trust();
        self.trust.send_if_modified(|current| {
            let changed = **current != trust;
            if changed {
                *current = Arc::new(trust);
            }
            changed
        });
    }

    pub(super) fn live(&self) -> Option<Arc<Live>> {
        self.live.load_full()
    }

    /// The error for a caller when the audit log fails. An unknown state of the log ends the process, like an unknown
    /// state of the store.
    pub(super) fn audit_failed(&self, error: &AuditError) -> VaultError {
        if *error == AuditError::Sync {
            self.fatal("the audit device could not make entries durable");
        }
        VaultError::AuditUnavailable
    }

    /// Takes the vault out of service for good, without waiting, and tells the daemon. Does this only once.
    pub(super) fn fatal(&self, why: &'static str) {
        if !self.dead.swap(true, Ordering::SeqCst) {
            if let Some(live) = self.live.swap(None) {
                live.closing.store(true, Ordering::SeqCst);
            }
            self.feed.close();
            (self.ports.on_fatal)(why);
        }
    }
}
