//! `strongroomd server`: opens a vault's data folder, unseals it if the configuration says how, serves it, and seals it
//! at the end.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use super::admin::{self, SocketFile};
use super::args::ServerArgs;
use super::certificates::{Certificates, ServerFiles};
use super::config::{Config, ConfigError, UnsealSource};
use super::input::{self, InputError};
use super::layout::{self, LayoutError};
use super::targets;
use super::{EXIT_NOT_DURABLE, init, log, memory, migrate, notify};
use crate::api::secret::SecretText;
use crate::audit::{FileDevice, PathMode, SyncMode};
use crate::core::{IdentityPattern, Opener, Ports, Settings, SystemClock, UnsealKey, Vault, VaultError};
use crate::crypto::password::Params;
use crate::crypto::random::SystemRandom;
use crate::http;
use crate::http::enroll;
use crate::os::{self, KeyMemory};
use crate::store::sidecar::{DirLock, DiskAnchor, DiskHeader};
use crate::store::{self, StoreError};

/// Why the daemon did not start, or why it stopped.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The configuration is unusable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data folder is unusable.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Another daemon runs on the data folder.
    #[error("{0} is in use by another process; stop it, or use its address")]
    Locked(PathBuf),
    /// The store cannot be opened.
    #[error("opening the store in {path}: {source}")]
    Store {
        /// Its folder.
        path: PathBuf,
        /// The storage engine's error.
        #[source]
        source: StoreError,
    },
    /// The secret for the unattended unseal could not be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The address is in use, or it does not belong to this machine.
    #[error("listening on {address}: {source}; is another daemon running there?")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The error of the system call.
        #[source]
        source: std::io::Error,
    },
    /// The certificates or the listener failed.
    #[error(transparent)]
    Http(#[from] http::ServeError),
    /// The runtime or a signal handler could not be started.
    #[error("starting: {0}")]
    System(#[from] std::io::Error),
}

/// Runs the command: exit code 0 after SIGTERM or SIGINT, [`EXIT_NOT_DURABLE`] after a failed sync.
///
/// Any [`AppError`] that occurs before the daemon starts to serve.
pub fn run(args: &ServerArgs, key_memory: KeyMemory) -> Result<ExitCode, AppError> {
    let path = migrate::config_path(args.config.as_deref(), args.data.as_deref());
    let config = Config::load(&path)?;
    if log::start(&config.log_level, config.log_json).is_err() {
        return Err(
            ConfigError::Value { key: "log.level", problem: "must be a filter such as info or debug".into() }.into()
        );
    }
    if args.check {
        check(&config)?;
        println!("{} is in order", path.display());
        return Ok(ExitCode::SUCCESS);
    }
    if os::is_root() {
        tracing::warn!("running as root: the daemon needs no privileges; run it as a separate user");
    }
    tracing::info!("{}", key_memory.describe());
    let app = App::open(config)?;
    app.unseal_unattended()?;
    let listener = app.listen()?;
    let runtime = runtime()?;
    let code = runtime.block_on(app.serve(listener, Stop::Signals))?;
    Ok(code)
}

/// A runtime for the listener and its connections.
///
/// The system cannot create threads or file descriptors.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("strongroomd").build()
}

/// When [`App::serve`] stops.
pub enum Stop {
    /// At SIGTERM or SIGINT. SIGHUP reopens the audit file and reads the server's certificate again.
    Signals,
    /// When the value becomes true. `dev` uses this.
    Told(watch::Receiver<bool>),
}

/// An open data folder with its vault, locked against a second daemon.
pub struct App {
    /// The settings that it was opened with.
    pub config: Config,
    /// The vault. It stays sealed until it is unsealed.
    pub vault: Arc<Vault>,
    not_durable: Arc<AtomicBool>,
    fatal: watch::Receiver<bool>,
    _lock: DirLock,
}

impl App {
    /// Locks the data folder and opens the store in it. The vault is sealed afterwards.
    ///
    /// # Errors
    /// Another process uses the folder, other users can enter it, or the store cannot be opened.
    pub fn open(config: Config) -> Result<Self, AppError> {
        layout::check_data_dir(&config.data)?;
        // Before anything else is opened: the engines have locks of their own, but the header and the anchor have none.
        let lock = match DirLock::acquire(&config.data) {
            Err(StoreError::Locked) => return Err(AppError::Locked(config.data)),
            other => other.map_err(|source| AppError::Store { path: config.data.clone(), source })?,
        };
        let folder = layout::store_folder(&config.data, &config.engine);
        let open = || store::open(&config.engine, &folder, false);
        let store = notify::during(notify_socket().as_deref(), "opening the store", open)
            .map_err(|source| AppError::Store { path: folder.clone(), source })?;
        if config.engine == "sled" {
            tracing::warn!("{}", store::SLED_WARNING);
        }
        let not_durable = Arc::new(AtomicBool::new(false));
        let (tell, fatal) = watch::channel(false);
        let flag = Arc::clone(&not_durable);
        let ports = Ports {
            store,
            header: Arc::new(DiskHeader::new(&config.data)),
            anchor: Arc::new(DiskAnchor::new(&config.anchor)),
            random: Arc::new(SystemRandom),
            clock: Arc::new(SystemClock),
            audit: Box::new(FileDevice::opener(config.audit_file.clone())),
            // The vault has sealed itself. This only tells the loop that waits for the end, which then sets the exit code.
            on_fatal: Box::new(move |why| {
                tracing::error!(
                    "{why}; the daemon stops now. Check the disk, then start it again: acknowledged writes are safe"
                );
                flag.store(true, Ordering::SeqCst);
                let _ = tell.send(true);
            }),
        };
        let vault = Vault::new(ports, settings(&config)?);
        Ok(Self { config, vault, not_durable, fatal, _lock: lock })
    }

    /// Unseals the vault from the source that the configuration names, if it names one. If the vault rejects the
    /// secret, the error is logged and the vault stays sealed, so that an operator can still unseal it. A source that
    /// cannot be read is an error, because the configuration is wrong.
    ///
    /// # Errors
    /// The key file or credential cannot be read.
    pub fn unseal_unattended(&self) -> Result<(), AppError> {
        let folder = init::credentials_folder();
        let Some(source) = &self.config.unseal else {
            tracing::info!("sealed; unseal it with: strongroom unseal");
            return Ok(());
        };
        let outcome = match source {
            UnsealSource::KeyFile(path) => self.unseal_with_key_file(&input::key_file(path)?),
            UnsealSource::KeyFileCredential(name) => {
                self.unseal_with_key_file(&input::credential(folder.as_deref(), name, input::MAX_KEY_FILE_BYTES)?)
            }
            UnsealSource::PassphraseCredential(name) => {
                let text = input::passphrase_from_credential(folder.as_deref(), name)?;
                let text = SecretText::new(text.as_str().to_owned());
                self.vault.unseal(Opener::Local, &UnsealKey::Passphrase(&text)).map(drop)
            }
        };
        match outcome {
            Ok(()) => tracing::info!("unsealed"),
            Err(error) => tracing::error!(
                "unattended unseal failed: {error}; the vault stays sealed. Unseal it with: strongroom unseal"
            ),
        }
        Ok(())
    }

    /// Unseals the vault with the bytes of a key file.
    ///
    /// # Errors
    /// As [`Vault::unseal`].
    pub fn unseal_with_key_file(&self, bytes: &[u8]) -> Result<(), VaultError> {
        self.vault.unseal(Opener::Local, &UnsealKey::KeyFile(bytes)).map(drop)
    }

    /// Binds the configured address.
    ///
    /// # Errors
    /// The address is in use, or it does not belong to this machine.
    pub fn listen(&self) -> Result<TcpListener, AppError> {
        let address = self.config.listen;
        TcpListener::bind(address).map_err(|source| AppError::Listen { address, source })
    }

    /// Serves until told to stop, then closes the connections and seals the vault. Returns the exit code of the
    /// process.
    ///
    /// # Errors
    /// The certificates are unusable or the listener failed. The vault is sealed in these cases too.
    pub async fn serve(mut self, listener: TcpListener, stop: Stop) -> Result<ExitCode, AppError> {
        // Port 0 asks for any free port. From here on, the configuration has the actual one.
        self.config.listen = listener.local_addr()?;
        let (end, ended) = watch::channel(false);
        let certificates = Certificates::open(&self.config, &self.vault)?;
        let reload = certificates.reload();
        let (tls, vault) = (certificates.tls(), Arc::clone(&self.vault));
        let enrolment = self.enrolment(&tls, &ended)?;
        let server =
            http::serve_with(listener, tls, self.config.trust_domain.clone(), self.limits(), vault, ended.clone());
        let waiting = self.wait_for_end(stop, &reload);
        let following = tokio::spawn(certificates.follow(self.vault.trust()));
        let (local, _socket) = self.local(&ended);
        let served = async {
            let (server, enrolment) = (tokio::spawn(server), tokio::spawn(enrolment));
            let reason = waiting.await;
            let _ = end.send(true);
            if let Ok(Err(error)) = enrolment.await {
                tracing::error!("the enrolment listener failed: {error}");
            }
            (reason, server.await)
        };
        let (reason, server) = served.await;
        following.abort();
        local.abort();
        let _ = notify::notify(notify_socket().as_deref(), "STOPPING=1");
        let vault = Arc::clone(&self.vault);
        // Sealing waits for running reads, so it must not block a thread of the runtime.
        let _ = tokio::task::spawn_blocking(move || vault.seal()).await;
        reason?;
        match server {
            Ok(outcome) => outcome?,
            Err(join) => return Err(AppError::System(std::io::Error::other(join))),
        }
        if self.not_durable.load(Ordering::SeqCst) {
            return Ok(ExitCode::from(EXIT_NOT_DURABLE));
        }
        tracing::info!("sealed and stopped");
        Ok(ExitCode::SUCCESS)
    }

    async fn wait_for_end(&self, stop: Stop, reload: &Notify) -> Result<(), AppError> {
        let mut fatal = self.fatal.clone();
        let mut told = match &stop {
            Stop::Told(receiver) => receiver.clone(),
            Stop::Signals => watch::channel(false).1,
        };
        // From here on these signals no longer kill the process, so they must be in place before anybody is told that it is
        // ready: a service manager may stop or reload it at once.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let mut every_second = tokio::time::interval(Duration::from_secs(1));
        let mut every_minute = tokio::time::interval(Duration::from_secs(60));
        let by_signal = matches!(stop, Stop::Signals);
        tracing::info!("serving on https://{}", self.config.listen);
        if !notify::notify(notify_socket().as_deref(), "READY=1") {
            tracing::warn!(
                "the service manager could not be told that the daemon is ready; it may stop the daemon at its start timeout"
            );
        }
        loop {
            tokio::select! {
                _ = fatal.wait_for(|stop| *stop) => return Ok(()),
                _ = told.wait_for(|stop| *stop), if !by_signal => return Ok(()),
                _ = terminate.recv(), if by_signal => return Ok(()),
                _ = interrupt.recv(), if by_signal => return Ok(()),
                _ = hangup.recv() => {
                    reload.notify_one();
                    match self.vault.reopen_audit() {
                        Ok(()) => tracing::info!("audit file reopened"),
                        Err(error) => tracing::error!("the audit file could not be reopened: {error}; check its folder, then send SIGHUP again"),
                    }
                }
                _ = every_second.tick() => self.sync_audit(),
                _ = every_minute.tick() => self.note_sightings(),
            }
        }
    }

    /// Runs on a separate thread, because it waits for a commit.
    fn note_sightings(&self) {
        let vault = Arc::clone(&self.vault);
        tokio::task::spawn_blocking(move || match vault.note_sightings() {
            Ok(()) | Err(VaultError::Sealed) => {}
            Err(error) => tracing::error!("saving the last-seen times failed: {error}; trying again in a minute"),
        });
    }

    fn sync_audit(&self) {
        match self.vault.sync_audit() {
            Ok(()) | Err(VaultError::Sealed) => {}
            Err(error) => tracing::error!("syncing the audit file failed: {error}"),
        }
    }

    /// The enrolment listener, if one is configured.
    fn enrolment(
        &self,
        tls: &Arc<http::Tls>,
        ended: &watch::Receiver<bool>,
    ) -> Result<impl Future<Output = Result<(), http::ServeError>> + use<>, AppError> {
        let serving = match self.config.enroll_listen {
            None => None,
            Some(address) => {
                let listener = TcpListener::bind(address).map_err(|source| AppError::Listen { address, source })?;
                tracing::info!("enrolment listener on https://{}", listener.local_addr()?);
                let limits = http::Limits::enrolment();
                let vault = (Arc::clone(&self.vault), self.config.listen.port());
                Some(enroll::serve(listener, Arc::clone(tls), limits, vault, ended.clone()))
            }
        };
        Ok(async move {
            match serving {
                Some(serving) => serving.await,
                None => Ok(()),
            }
        })
    }

    /// Serves the local socket. The vault can be used without it, so a failure is only logged.
    fn local(&self, ended: &watch::Receiver<bool>) -> (JoinHandle<()>, Option<SocketFile>) {
        let (listener, file) = match admin::listen(&self.config.data) {
            Ok(both) => both,
            Err(error) => {
                tracing::error!("there is no local socket, so `strongroomd admin` does not work: {error}");
                return (tokio::spawn(async {}), None);
            }
        };
        let owner = rustix::process::geteuid().as_raw();
        let serving = http::admin::serve(listener, owner, Arc::clone(&self.vault), ended.clone());
        let task = tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!("the local socket failed, so `strongroomd admin` does not work: {error}");
            }
        });
        (task, Some(file))
    }

    fn limits(&self) -> http::Limits {
        let limits = &self.config.limits;
        http::Limits {
            connections: limits.connections,
            connections_per_identity: limits.connections_per_identity,
            handshakes_per_source: limits.handshakes_per_source,
            handshake_rate_per_source: limits.handshake_rate_per_source,
            body_bytes: limits.body_bytes,
            ..http::Limits::default()
        }
    }
}

/// What `server --check` verifies. It opens neither the store nor the listener.
fn check(config: &Config) -> Result<(), AppError> {
    layout::check_data_dir(&config.data)?;
    settings(config)?;
    let shown = ServerFiles::read(config)?;
    http::check_tls(
        &shown.certificate,
        &layout::read_private(&config.tls_key)?.into(),
        if config.tls_certificate_supplied { &shown.roots } else { &[] },
        &layout::read(&config.tls_client_ca)?,
    )?;
    if let Some(UnsealSource::KeyFile(path)) = &config.unseal {
        input::key_file(path)?;
    }
    Ok(())
}

fn settings(config: &Config) -> Result<Settings, AppError> {
    let mut settings = Settings::new(&config.trust_domain);
    for text in &config.unseal_identities {
        let pattern = IdentityPattern::parse(text, &config.trust_domain).map_err(|problem| ConfigError::Value {
            key: "unseal.identities",
            problem: format!("{text:?}: {problem}; write operator/alice or operator/*"),
        })?;
        settings.unseal_identities.push(pattern);
    }
    settings.audit_paths = if config.audit_hashed_paths { PathMode::Hashed } else { PathMode::Plain };
    settings.audit_sync = if config.audit_sync_always { SyncMode::Always } else { SyncMode::default() };
    settings.address = format!("https://{}", config.listen);
    if config.tls_client_ca_supplied {
        let named = http::trust_from_pem(&layout::read(&config.tls_client_ca)?)?;
        settings.named_authorities = named.authorities.iter().map(|anchor| anchor.id).collect();
    }
    settings.enroll_addresses = config.enroll_addresses.clone();
    settings.max_strings_each = config.limits.enrollments_per_identity;
    settings.kdf = config.kdf.map(|kdf| Params { m_kib: kdf.memory_mib.saturating_mul(1024), t: kdf.passes, p: 1 });
    settings.memory = memory::limit();
    settings.rewrap_per_second = config.rewrap_per_second;
    settings.approvals = config.approvals.clone().map(Arc::new);
    settings.targets = targets::open(&config.targets, &config.folder)?;
    Ok(settings)
}

fn notify_socket() -> Option<String> {
    std::env::var_os("NOTIFY_SOCKET").and_then(|value| value.into_string().ok())
}
