//! What the vault needs from outside, as traits and values, with fixed versions for tests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::audit::{AuditError, AuditHead, AuditKeys, Device, PathMode, Resume, SyncMode};
use crate::barrier::Parts;
use crate::connect::Target;
use crate::crypto::password::Params;
use crate::crypto::random::Random;
use crate::pki::AuthorityId;
use crate::store::Store;
use crate::store::sidecar::{AnchorFile, HeaderFiles};

use super::caller::IdentityPattern;
use crate::core::state::guarded::ApprovalRules;

/// The wall clock.
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970-01-01 UTC.
    fn now_ms(&self) -> u64;
}

/// The clock of the machine.
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one place where the core's time comes from
    fn now_ms(&self) -> u64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A clock that moves only when told. For tests and for frozen examples.
pub struct FixedClock(AtomicU64);

impl FixedClock {
    /// Stands at `now_ms`.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        Self(AtomicU64::new(now_ms))
    }

    /// Moves forward.
    pub fn advance(&self, by_ms: u64) {
        self.0.fetch_add(by_ms, Ordering::SeqCst);
    }

    /// Moves back, as when somebody corrects the time.
    pub fn set_back(&self, by_ms: u64) {
        self.0.fetch_sub(by_ms, Ordering::SeqCst);
    }
}

impl Clock for FixedClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// Opens the audit device after an unseal: gets the keys of the log, the last entry that the durable state refers to
/// and the time, gives the device, positioned at its end, and where its chain goes on ([`crate::audit::FileDevice::opener`] for a file).
/// Called once per unseal.
pub type AuditOpener =
    Box<dyn Fn(&AuditKeys, AuditHead, u64) -> Result<(Box<dyn Device>, Resume), AuditError> + Send + Sync>;

/// Told once, when the state on disk is no longer known (a failed sync). The vault has sealed itself; the process must
/// end and start anew, which rolls forward or back to the durable state. Must not block and must not call the vault.
pub type FatalHook = Box<dyn Fn(&'static str) + Send + Sync>;

/// Everything the vault touches besides memory.
pub struct Ports {
    /// Encrypted records.
    pub store: Arc<dyn Store>,
    /// The two copies of the vault header.
    pub header: Arc<dyn HeaderFiles>,
    /// The anchor file.
    pub anchor: Arc<dyn AnchorFile>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Audit device.
    pub audit: AuditOpener,
    /// What to do when the process must end.
    pub on_fatal: FatalHook,
}

impl Ports {
    /// The part of the ports that the barrier works on.
    pub(super) fn parts(&self) -> Parts {
        Parts {
            store: Arc::clone(&self.store),
            header: Arc::clone(&self.header),
            anchor: Arc::clone(&self.anchor),
            random: Arc::clone(&self.random),
        }
    }
}

/// What the configuration says.
#[derive(Clone)]
pub struct Settings {
    /// SPIFFE trust domain of this vault.
    pub trust_domain: String,
    /// Who may unseal over the network. Empty: only [`super::caller::Opener::Local`].
    pub unseal_identities: Vec<IdentityPattern>,
    /// Version text for seal-status and health.
    pub version: String,
    /// Cluster name for health.
    pub cluster_name: String,
    /// Address that `sys/leader` names, as `https://host:port`.
    pub address: String,
    /// Longest life of a certificate issued through the API, in seconds.
    pub max_certificate_life_s: u64,
    /// Authorities that the configuration file names for clients, besides the vault's own.
    pub named_authorities: Vec<AuthorityId>,
    /// Where hosts enrol, `host:port`, for the strings; empty without such a listener.
    pub enroll_addresses: Vec<String>,
    /// How the audit log writes paths.
    pub audit_paths: PathMode,
    /// When the audit entries of reads are made durable.
    pub audit_sync: SyncMode,
    /// Cost that passphrase slots are made with and raised to; `None` leaves them at the floor.
    pub kdf: Option<Params>,
    /// Records that a throttled rotation of the data key seals anew, a second.
    pub rewrap_per_second: u64,
    /// How often the rotations look at the clock.
    pub tick: Duration,
    /// Operations that several operators must agree to; `None` for none.
    pub approvals: Option<Arc<ApprovalRules>>,
    /// Targets that rotated values may be applied to, by name.
    pub targets: BTreeMap<String, Arc<dyn Target>>,
}

impl Settings {
    /// Settings of a single node with the defaults of the configuration file.
    #[must_use]
    pub fn new(trust_domain: &str) -> Self {
        Self {
            trust_domain: trust_domain.to_owned(),
            unseal_identities: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            cluster_name: "strongroom".to_owned(),
            address: String::new(),
            max_certificate_life_s: 90 * 24 * 3600,
            named_authorities: Vec::new(),
            enroll_addresses: Vec::new(),
            audit_paths: PathMode::default(),
            audit_sync: SyncMode::default(),
            kdf: None,
            rewrap_per_second: 2_000,
            tick: Duration::from_secs(1),
            approvals: None,
            targets: BTreeMap::new(),
        }
    }
}
