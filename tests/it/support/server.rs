//! A vault served on a free port inside the test process, over the same listener as the daemon's.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use strongroom::api::secret::SecretText;
use strongroom::api::spiffe::SpiffeId;
use strongroom::audit::FileDevice;
use strongroom::client::{Client, Settings as ClientSettings};
use strongroom::core::lifecycle::init::{InitOutcome, InitPlan, InitPorts, initialise};
use strongroom::core::{Clock, IdentityPattern, Opener, Ports, Settings, SystemClock, UnsealKey, Vault};
use strongroom::crypto::envelope::Suite;
use strongroom::crypto::password::WRITE_FLOOR;
use strongroom::crypto::random::{Random, SystemRandom};
use strongroom::http::{self, Limits, Tls};
use strongroom::pki::{Authority, Bundle};
use strongroom::store::sidecar::{AnchorFile, HeaderFiles, MemAnchor, MemHeader};
use tokio::sync::watch;

/// Trust domain of every vault of these tests.
pub const DOMAIN: &str = "example.org";
/// Key file of every vault of these tests.
pub const KEY_FILE: [u8; 32] = [9; 32];
/// The first operator.
pub const OPERATOR: &str = "ops/alice";

/// Milliseconds of the machine's clock: TLS checks certificates against it.
pub fn now_ms() -> u64 {
    SystemClock.now_ms()
}

/// An identity of the test's trust domain.
pub fn identity(path: &str) -> SpiffeId {
    SpiffeId::new(DOMAIN, path).unwrap()
}

/// A running server; stopped on drop.
pub struct Server {
    pub vault: Arc<Vault>,
    pub address: SocketAddr,
    pub ca_pem: String,
    pub operator: Bundle,
    /// Its certificates, and what it accepts.
    pub tls: Arc<Tls>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    /// Of the audit log.
    _folder: tempfile::TempDir,
}

impl Server {
    /// Unsealed, with the usual limits.
    pub fn start() -> Self {
        Self::with(Limits::default())
    }

    /// Unsealed.
    pub fn with(limits: Limits) -> Self {
        Self::sealed(limits).unsealed()
    }

    /// Unsealed, taking certificates of another authority as well.
    pub fn trusting(limits: Limits, authority: &Authority) -> Self {
        Self::build(limits, authority.cert_pem(), |_, _| {}).unsealed()
    }

    /// Sealed, with other ports or settings than the usual ones.
    pub fn altered(limits: Limits, alter: impl FnOnce(&mut Ports, &mut Settings)) -> Self {
        Self::build(limits, "", alter)
    }

    pub fn unsealed(self) -> Self {
        self.vault.unseal(Opener::Local, &UnsealKey::KeyFile(&KEY_FILE)).unwrap();
        self
    }

    /// Sealed; the operator may unseal.
    pub fn sealed(limits: Limits) -> Self {
        Self::build(limits, "", |_, _| {})
    }

    fn build(limits: Limits, more_authorities: &str, alter: impl FnOnce(&mut Ports, &mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let named = match more_authorities {
            "" => Vec::new(),
            pem => http::trust_from_pem(pem.as_bytes()).unwrap().authorities.iter().map(|anchor| anchor.id).collect(),
        };
        let (vault, made) = vault_with(folder.path(), named, alter);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let trust = http::trust_from_pem(format!("{}{more_authorities}", made.ca_pem).as_bytes()).unwrap();
        let (cert, key) = (made.server.cert_pem.as_bytes(), made.server.key_pem.reveal().as_bytes());
        let tls = Arc::new(Tls::new(cert, key, &trust).unwrap());
        let shown = Arc::clone(&tls);
        let served = Arc::clone(&vault);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            let serving = http::serve_with(listener, shown, DOMAIN.to_owned(), limits, served, stopped);
            runtime.block_on(serving).unwrap();
        });
        Self {
            vault,
            address,
            ca_pem: made.ca_pem,
            operator: made.operator,
            tls,
            stop,
            thread: Some(thread),
            _folder: folder,
        }
    }

    /// Asks the server to stop, and does not wait.
    pub fn ask_to_stop(&self) {
        let _ = self.stop.send(true);
    }

    /// A client as the first operator.
    pub fn operator(&self) -> Client {
        self.client(&self.operator)
    }

    /// A client with any certificate.
    pub fn client(&self, bundle: &Bundle) -> Client {
        let settings = ClientSettings {
            addr: format!("https://{}", self.address),
            ca_pem: self.ca_pem.clone().into_bytes(),
            cert_pem: bundle.cert_pem.clone().into_bytes(),
            key_pem: SecretText::new(bundle.key_pem.reveal().to_owned()),
            timeout: Duration::from_secs(20),
        };
        Client::connect(settings).unwrap()
    }

    /// A certificate of the vault's authority for an identity that need not be registered.
    pub fn certificate(&self, path: &str) -> Bundle {
        self.vault.issue_client(&identity(path), 3600).unwrap()
    }

    /// Registers an identity with a policy of its own and gives a client for it.
    pub fn application(&self, path: &str, policy: &str) -> Client {
        let operator = self.operator();
        let name = path.replace('/', "-");
        operator.sys().put_policy(&name, policy).unwrap();
        operator.sys().put_identity(path, &[&name]).unwrap();
        self.client(&self.certificate(path))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ask_to_stop();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "the server panicked");
        }
        self.vault.seal();
    }
}

/// A new sealed vault in memory with its audit log in `folder`, and authorities that the configuration names.
fn vault_with(
    folder: &Path,
    named: Vec<strongroom::pki::AuthorityId>,
    alter: impl FnOnce(&mut Ports, &mut Settings),
) -> (Arc<Vault>, InitOutcome) {
    let store = strongroom::store::open("memory", Path::new(""), true).unwrap();
    let header: Arc<dyn HeaderFiles> = Arc::new(MemHeader::default());
    let anchor: Arc<dyn AnchorFile> = Arc::new(MemAnchor::default());
    let random: Arc<dyn Random> = Arc::new(SystemRandom);
    let made = initialise(
        InitPorts {
            store: Arc::clone(&store),
            header: Arc::clone(&header),
            anchor: Arc::clone(&anchor),
            random: Arc::clone(&random),
        },
        &InitPlan {
            passphrase: None,
            key_file: Some(&KEY_FILE),
            params: WRITE_FLOOR,
            trust_domain: DOMAIN,
            operator: identity(OPERATOR),
            server_names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
            suite: Suite::Aes256Gcm,
            server_life_s: 3600,
            operator_life_s: 3600,
        },
        now_ms(),
    )
    .unwrap();
    let log = folder.join("audit.log");
    let mut settings = Settings::new(DOMAIN);
    settings.named_authorities = named;
    settings.unseal_identities = vec![IdentityPattern::parse(OPERATOR, DOMAIN).unwrap()];
    let mut ports = Ports {
        store,
        header,
        anchor,
        random,
        clock: Arc::new(SystemClock),
        audit: Box::new(FileDevice::opener(log)),
        on_fatal: Box::new(|why| panic!("fatal: {why}")),
    };
    alter(&mut ports, &mut settings);
    (Vault::new(ports, settings), made)
}

/// An authority of the test's own, a day old.
pub fn other_authority(domain: &str) -> Authority {
    Authority::create(domain, Arc::new(SystemRandom), now_ms() - 86_400_000, 2 * 86_400).unwrap()
}
