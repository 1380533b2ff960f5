//! A vault with a spy at every port, and what survives it.

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use zeroize::Zeroizing;

use crate::api::json::Limits;
use crate::api::path::Path;
use crate::api::reply::Reply;
use crate::api::request::{Body, Operation};
use crate::api::secret::SecretText;
use crate::api::spiffe::SpiffeId;
use crate::audit::{Device, FileDevice};
use crate::core::lifecycle::init::{InitOutcome, InitPlan, InitPorts, initialise};
use crate::core::{
    Caller, Clock, FixedClock, IdentityPattern, Opener, Origin, Ports, Request, Settings, UnsealKey, Vault, VaultError,
};
use crate::crypto::envelope::Suite;
use crate::crypto::password::WRITE_FLOOR;
use crate::crypto::random::SeededRandom;
use crate::store::MemoryStore;
use crate::store::sidecar::{AnchorFile, HeaderFiles, MemAnchor, MemHeader};

pub(super) use super::spy::{Fault, Spy};
use super::spy::{SpyAnchor, SpyDevice, SpyHeader, SpyStore};

pub(super) const START_MS: u64 = 1_750_000_000_000;
pub(super) const PASSPHRASE: &str = "correct horse battery staple";
pub(super) const KEY_FILE: &[u8] = &[0x5a; 64];
pub(super) const DOMAIN: &str = "example.org";

/// What survives the end of a process.
pub(super) struct Disk {
    pub store: Arc<MemoryStore>,
    header: Arc<MemHeader>,
    anchor: Arc<MemAnchor>,
    dir: tempfile::TempDir,
}

impl Disk {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory for the audit log");
        Self { store: Arc::default(), header: Arc::default(), anchor: Arc::default(), dir }
    }

    /// Damages the content of at most `most` records whose key begins with `letter`.
    pub(super) fn spoil(&self, letter: u8, most: usize) {
        self.store.tamper(|records| {
            for (_, record) in records.iter_mut().filter(|(key, _)| key.first() == Some(&letter)).take(most) {
                record.value.last_mut().into_iter().for_each(|last| *last ^= 1);
            }
        });
    }

    /// The bytes of the anchor.
    pub(super) fn anchor(&self) -> Option<Vec<u8>> {
        self.anchor.read().expect("memory")
    }

    /// Puts other bytes in the place of the anchor.
    pub(super) fn set_anchor(&mut self, bytes: Option<Vec<u8>>) {
        self.anchor = Arc::new(MemAnchor::with(bytes));
    }

    /// How many records there are.
    pub(super) fn records(&self) -> usize {
        let mut count = 0;
        self.store.tamper(|records| count = records.len());
        count
    }

    /// Shows key and value of each record, and the bytes of header and anchor under an empty key.
    pub(super) fn raw(&self, mut each: impl FnMut(&[u8], &[u8])) {
        self.store.tamper(|records| records.iter().for_each(|(key, stored)| each(key, &stored.value)));
        for copy in self.header.read().expect("memory").into_iter().flatten() {
            each(b"", &copy);
        }
        each(b"", &self.anchor.read().expect("memory").unwrap_or_default());
    }

    /// The same disk, seen from elsewhere.
    pub(super) fn watcher(&self) -> impl Fn() -> Self + Send + Sync + 'static {
        let (store, header, anchor) = (Arc::clone(&self.store), Arc::clone(&self.header), Arc::clone(&self.anchor));
        let log = self.log_path();
        move || {
            let dir = tempfile::tempdir().expect("a directory for the audit log");
            if log.exists() {
                std::fs::copy(&log, dir.path().join("audit.log")).expect("the log is readable");
            }
            Self {
                store: Arc::new(store.copy()),
                header: Arc::new(MemHeader::with(header.read().expect("memory"))),
                anchor: Arc::new(MemAnchor::with(anchor.read().expect("memory"))),
                dir,
            }
        }
    }

    /// The audit log as it stands.
    pub(super) fn log_text(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Puts another audit log in its place.
    pub(super) fn put_log(&self, text: &str) {
        std::fs::write(self.log_path(), text).expect("the log is writable");
    }

    /// The files, for work on them while no vault runs.
    pub(super) fn ports(&self) -> InitPorts {
        InitPorts {
            store: self.store.clone(),
            header: self.header.clone(),
            anchor: self.anchor.clone(),
            random: Arc::new(SeededRandom::new(17)),
        }
    }

    pub(super) fn log_path(&self) -> PathBuf {
        self.dir.path().join("audit.log")
    }

    pub(super) fn initialise(&self) -> Result<InitOutcome, VaultError> {
        let ports = InitPorts { random: Arc::new(SeededRandom::new(7)), ..self.ports() };
        let plan = InitPlan {
            passphrase: Some(&SecretText::new(PASSPHRASE.to_owned())),
            key_file: Some(KEY_FILE),
            params: WRITE_FLOOR,
            trust_domain: DOMAIN,
            operator: SpiffeId::new(DOMAIN, "ops/olga").expect("valid"),
            server_names: vec!["localhost".to_owned()],
            suite: Suite::Aes256Gcm,
            server_life_s: 86_400,
            operator_life_s: 86_400,
        };
        initialise(ports, &plan, START_MS)
    }
}

/// A vault on a disk.
pub(super) struct Rig {
    pub disk: Disk,
    pub spy: Arc<Spy>,
    pub clock: Arc<FixedClock>,
    pub vault: Arc<Vault>,
    pub fatal: Arc<Mutex<Vec<&'static str>>>,
    requests: AtomicU64,
}

impl Rig {
    /// Initialised and unsealed.
    pub(super) fn new() -> Self {
        let disk = Disk::new();
        disk.initialise().expect("initialises");
        let rig = Self::sealed(disk);
        rig.unseal().expect("unseals");
        rig.spy.clear();
        rig
    }

    /// A new process on the same disk.
    pub(super) fn restart(self) -> Self {
        Self::sealed(self.end())
    }

    /// The end of the process.
    pub(super) fn end(self) -> Disk {
        let Self { disk, vault, spy, .. } = self;
        drop(vault);
        // The committer thread of a vault that sealed itself ends on its own; its log must be closed before.
        while Arc::strong_count(&spy) > 1 {
            std::thread::yield_now();
        }
        disk
    }

    pub(super) fn sealed(disk: Disk) -> Self {
        Self::with(disk, |_| ())
    }

    /// As it is, with other settings.
    pub(super) fn configure(&mut self, change: impl FnOnce(&mut Settings)) {
        let disk = std::mem::replace(&mut self.disk, Disk::new());
        *self = Self::with(disk, change);
    }

    pub(super) fn with(disk: Disk, change: impl FnOnce(&mut Settings)) -> Self {
        let spy = Spy::new();
        let clock = Arc::new(FixedClock::new(START_MS + 1_000));
        let fatal = Arc::new(Mutex::new(Vec::new()));
        let (seen, path, told) = (Arc::downgrade(&spy), disk.log_path(), Arc::clone(&fatal));
        let ports = Ports {
            store: Arc::new(SpyStore(disk.store.clone(), Arc::clone(&spy))),
            header: Arc::new(SpyHeader(disk.header.clone(), Arc::clone(&spy))),
            anchor: Arc::new(SpyAnchor(Arc::clone(&disk.anchor), Arc::clone(&spy))),
            random: Arc::new(SeededRandom::new(11)),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            audit: Box::new(move |keys, expected, now_ms| {
                let (device, resume) = FileDevice::recover(&path, keys, expected, now_ms)?;
                let spy = seen.upgrade().expect("the rig lives");
                Ok((Box::new(SpyDevice(device, spy)) as Box<dyn Device>, resume))
            }),
            on_fatal: Box::new(move |why| told.lock().expect("no panic while held").push(why)),
        };
        let mut settings = Settings::new(DOMAIN);
        settings.unseal_identities = vec![IdentityPattern::parse("ops/*", DOMAIN).expect("valid")];
        settings.tick = Duration::from_millis(2);
        change(&mut settings);
        let vault = Vault::new(ports, settings);
        Self { disk, spy, clock, vault, fatal, requests: AtomicU64::new(0) }
    }

    /// With any secret.
    pub(super) fn unseal_with(&self, key: &UnsealKey<'_>) -> Result<(), VaultError> {
        self.vault.unseal(Opener::Local, key).map(|_| ())
    }

    /// With the key file, which needs no slow derivation.
    pub(super) fn unseal(&self) -> Result<(), VaultError> {
        self.vault.unseal(Opener::Local, &UnsealKey::KeyFile(KEY_FILE)).map(|_| ())
    }

    pub(super) fn caller(&self, path: &str) -> Caller {
        Caller {
            identity: Arc::new(SpiffeId::new(DOMAIN, path).expect("valid identity")),
            origin: Origin::Internal,
            fingerprint: [1; 32],
            not_before_ms: START_MS - 300_000,
            not_after_ms: START_MS + 86_400_000,
            remote: "192.0.2.1:4711".to_owned(),
            request_id: format!("request-{}", self.requests.fetch_add(1, Ordering::SeqCst)),
            bundle: None,
            token: None,
        }
    }

    pub(super) fn operator(&self) -> Caller {
        self.caller("ops/olga")
    }

    /// Asks and waits.
    pub(super) fn ask(
        &self,
        caller: &Caller,
        operation: Operation,
        path: &str,
        body: &str,
    ) -> Result<Reply, VaultError> {
        wait(self.vault.handle(caller, request(operation, path, body)))
    }

    pub(super) fn read(&self, caller: &Caller, path: &str) -> Result<serde_json::Value, VaultError> {
        self.ask(caller, Operation::Read, path, "").map(|reply| json(&reply))
    }

    pub(super) fn write(&self, caller: &Caller, path: &str, body: &str) -> Result<Reply, VaultError> {
        self.ask(caller, Operation::Write, path, body)
    }

    /// A policy and an identity that has it.
    pub(super) fn admit(&self, identity: &str, policy: &str, text: &str) -> Caller {
        let operator = self.operator();
        let body = serde_json::json!({ "policy": text }).to_string();
        self.write(&operator, &format!("sys/policies/acl/{policy}"), &body).expect("the policy is taken");
        let body = serde_json::json!({ "policies": [policy] }).to_string();
        self.write(&operator, &format!("sys/strongroom/identities/{identity}"), &body).expect("taken");
        self.caller(identity)
    }

    /// Every line of the audit log.
    pub(super) fn log(&self) -> Vec<serde_json::Value> {
        self.log_text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    pub(super) fn log_text(&self) -> String {
        std::fs::read_to_string(self.disk.log_path()).expect("the log is readable")
    }
}

pub(super) fn request(operation: Operation, path: &str, body: &str) -> Request {
    let body = Body::from_json(Zeroizing::new(body.as_bytes().to_vec()), &Limits::default()).expect("JSON");
    Request {
        operation,
        path: Path::parse(path).expect("canonical"),
        body,
        wrap_ttl: None,
        if_none_match: None,
        seen: None,
    }
}

pub(super) fn json(reply: &Reply) -> serde_json::Value {
    reply.data.as_ref().map_or(serde_json::Value::Null, |data| serde_json::from_slice(data).expect("JSON"))
}

/// Runs a future to its end on this thread.
pub(super) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime").block_on(future)
}

/// The value of a future that does not await.
pub(super) fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the future awaits"),
    }
}
