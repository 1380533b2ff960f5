//! What the vault needs from outside, as traits and values.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

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

/// The clocks.
pub trait Clock: Send + Sync {
    /// The wall clock: milliseconds since 1970-01-01 UTC.
    fn now_ms(&self) -> u64;

    /// Time since some fixed moment, to measure how long something took. It never goes back, and does not change when
    /// somebody sets the wall clock.
    fn steady(&self) -> Duration;
}

/// The clocks of the machine.
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)] // the one place where the core's time comes from
    fn now_ms(&self) -> u64 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |elapsed| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }

    #[allow(clippy::disallowed_methods)] // as above
    fn steady(&self) -> Duration {
        static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
        ORIGIN.elapsed()
    }
}

/// Opens the audit device after an unseal. Gets the keys of the log, the last entry that the durable state refers to,
/// and the time. Returns the device, positioned at its end, and the point from which its chain continues
/// ([`crate::audit::FileDevice::opener`] for a file). Called once per unseal.
pub type AuditOpener =
    Box<dyn Fn(&AuditKeys, AuditHead, u64) -> Result<(Box<dyn Device>, Resume), AuditError> + Send + Sync>;

/// Called once when the state on disk is no longer known (a failed sync). The vault has sealed itself. The process must
/// end and start again, which brings it to the durable state. The hook must not block and must not call the vault.
pub type FatalHook = Box<dyn Fn(&'static str) + Send + Sync>;

/// Everything outside memory that the vault uses.
pub struct Ports {
    /// Encrypted records.
    pub store: Arc<dyn Store>,
    /// The two copies of the vault header.
    pub header: Arc<dyn HeaderFiles>,
    /// The anchor file.
    pub anchor: Arc<dyn AnchorFile>,
    /// Random source.
    pub random: Arc<dyn Random>,
    /// Clock.
    pub clock: Arc<dyn Clock>,
    /// Audit device.
    pub audit: AuditOpener,
    /// Called when the process must end.
    pub on_fatal: FatalHook,
}

impl Ports {
    /// The part of the ports that the barrier uses.
    pub(super) fn parts(&self) -> Parts {
        Parts {
            store: Arc::clone(&self.store),
            header: Arc::clone(&self.header),
            anchor: Arc::clone(&self.anchor),
            random: Arc::clone(&self.random),
        }
    }
}

/// Values from the configuration.
#[derive(Clone)]
pub struct Settings {
    /// SPIFFE trust domain of this vault.
    pub trust_domain: String,
    /// Who may unseal over the network. If empty, only [`super::caller::Opener::Local`].
    pub unseal_identities: Vec<IdentityPattern>,
    /// Version text for seal-status and health.
    pub version: String,
    /// Cluster name for health.
    pub cluster_name: String,
    /// Address in the reply of `sys/leader`, `https://host:port`.
    pub address: String,
    /// Longest lifetime of a certificate issued through the API, in seconds.
    pub max_certificate_life_s: u64,
    /// Authorities of clients that the configuration file names, in addition to the vault's own.
    pub named_authorities: Vec<AuthorityId>,
    /// Addresses for enrolment, `host:port`, which go into the strings. Empty without such a listener.
    pub enroll_addresses: Vec<String>,
    /// Largest number of enrolment strings on record that one identity may have created.
    pub max_strings_each: usize,
    /// How the audit log writes paths.
    pub audit_paths: PathMode,
    /// When the audit entries of reads are made durable.
    pub audit_sync: SyncMode,
    /// Least cost of passphrase slots; `None` if only the other slots decide.
    pub kdf: Option<Params>,
    /// Memory that this process may use, in bytes; `None` if the system does not say.
    pub memory: Option<u64>,
    /// Records per second that a throttled rotation of the data key re-encrypts.
    pub rewrap_per_second: u64,
    /// How often the rotations check the clock.
    pub tick: Duration,
    /// Operations that several operators must approve, if any.
    pub approvals: Option<Arc<ApprovalRules>>,
    /// Where rotated values can be applied, by name.
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
            max_strings_each: 10_000,
            audit_paths: PathMode::default(),
            audit_sync: SyncMode::default(),
            kdf: None,
            memory: None,
            rewrap_per_second: 2_000,
            tick: Duration::from_secs(1),
            approvals: None,
            targets: BTreeMap::new(),
        }
    }
}
