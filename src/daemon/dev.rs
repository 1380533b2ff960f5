//! `strongroomd dev`: runs a program with secrets from a real vault on a development machine.
//!
//! Nothing is simulated. The vault is created as by `init`, and its listener requires client certificates. The
//! file is imported and read back over TLS, through the client, by two identities with their own policies. The folder
//! is deleted at the end, unless `--data` keeps it.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use zeroize::Zeroizing;

use super::app::{App, AppError, Stop, runtime};
use super::args::DevArgs;
use super::config::{Config, ConfigError};
use super::init::{self, InitError, Setup};
use super::input::{self, InputError};
use super::layout::{self, LayoutError};
use super::log;
use crate::api::path::{Path as SecretPath, PathError};
use crate::api::secret::SecretText;
use crate::api::spiffe::SpiffeId;
use crate::client::{self, Client, ClientError};
use crate::core::VaultError;
use crate::crypto::envelope::Suite;
use crate::dotenv::{self, DotenvError};
use crate::exec::{ChildEnv, ExecError, ExecPolicy};
use crate::os;

/// Why the development vault did not run the program.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The vault could not be created.
    #[error(transparent)]
    Init(#[from] InitError),
    /// The vault could not be opened or served.
    #[error(transparent)]
    App(#[from] AppError),
    /// The kept vault's configuration is unusable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The kept vault's key file is unusable.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A file could not be written or read.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The vault rejected its key file.
    #[error("unsealing the vault: {0}")]
    Vault(#[from] VaultError),
    /// `--path` is not the path of a secret.
    #[error("--path: {0}")]
    Path(#[from] PathError),
    /// The folder of `--data` was not created by `dev`.
    #[error(
        "{0} was not created by `strongroomd dev`; choose another folder, or serve it with `strongroomd server --data`"
    )]
    Foreign(PathBuf),
    /// The file to import cannot be parsed.
    #[error("{path}: {source}")]
    Dotenv {
        /// The file.
        path: PathBuf,
        /// Where and why. Never contains a value.
        #[source]
        source: DotenvError,
    },
    /// A request to the vault failed.
    #[error("{doing}: {source}")]
    Client {
        /// What failed, as in "fetching the secrets".
        doing: &'static str,
        /// The error of the vault or the network.
        #[source]
        source: ClientError,
    },
    /// The secrets cannot be passed to the program.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The program could not be started.
    #[error("starting the program: {0}")]
    Spawn(#[source] std::io::Error),
    /// There are no secrets for the program.
    #[error("secret/{0} is empty; import a file with --import")]
    Empty(SecretPath),
}

/// Runs the command. Returns the program's exit code, or 128 + n when signal n ended it.
///
/// # Errors
/// Any [`DevError`]. A temporary folder is removed in every case, unless this process is killed.
pub fn run(args: DevArgs) -> Result<ExitCode, DevError> {
    let _ = log::start("warn", false);
    let secret_path = SecretPath::parse(args.path.trim_matches('/'))?.to_leaf();
    let assignments = read_files(&args)?;
    let home = Home::choose(args.data.as_deref())?;
    let (app, listener) = home.open(&args)?;
    let address = listener.local_addr().map_err(AppError::from)?;

    let (end, ended) = watch::channel(false);
    let vault = Arc::clone(&app.vault);
    let runtime = runtime().map_err(AppError::from)?;
    let serving = runtime.spawn(async move { app.serve(listener, Stop::Told(ended)).await });
    let desk = Desk { vault, home: &home, address: format!("https://{address}"), secret_path: &secret_path };
    let outcome = desk.work(&assignments, &args.command);
    let _ = end.send(true);
    let served = runtime.block_on(serving);
    home.remove();
    let code = outcome?;
    match served {
        Ok(served) => served.map_err(DevError::from).map(|_| code),
        Err(_) => Ok(code),
    }
}

fn read_files(args: &DevArgs) -> Result<Vec<dotenv::Assignment>, DevError> {
    let mut all = Vec::new();
    for path in &args.import {
        let bytes = Zeroizing::new(layout::read(path)?);
        let options = dotenv::Options { literal: args.literal, ..dotenv::Options::default() };
        let parsed = dotenv::parse(&bytes, &options);
        all.extend(parsed.map_err(|source| DevError::Dotenv { path: path.clone(), source })?);
    }
    Ok(all)
}

/// The folder of the development vault.
struct Home {
    folder: PathBuf,
    throw_away: bool,
}

impl Home {
    fn choose(kept: Option<&Path>) -> Result<Self, DevError> {
        if let Some(folder) = kept {
            if !folder.exists() {
                layout::create_private_dir(folder)?;
            }
            layout::check_data_dir(folder)?;
            return Ok(Self { folder: folder.to_owned(), throw_away: false });
        }
        // Use this user's tmpfs if there is one, so that not even the ciphertext reaches a disk.
        let base = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_dir());
        let base = base.unwrap_or_else(std::env::temp_dir);
        let folder = base.join(format!("strongroom-dev-{}", uuid::Uuid::new_v4().simple()));
        layout::create_private_dir(&folder)?;
        Ok(Self { folder, throw_away: true })
    }

    fn data(&self) -> PathBuf {
        self.folder.join("vault")
    }

    fn key_file(&self) -> PathBuf {
        self.data().join(KEY_FILE)
    }

    fn operator(&self) -> PathBuf {
        self.folder.join("operator")
    }

    /// Creates the vault unless it exists, opens and unseals it, and binds a listening address.
    fn open(&self, args: &DevArgs) -> Result<(App, TcpListener), DevError> {
        let opened = self.open_inside(args);
        if opened.is_err() {
            self.remove();
        }
        opened
    }

    fn open_inside(&self, args: &DevArgs) -> Result<(App, TcpListener), DevError> {
        if !self.data().exists() {
            if self.operator().exists() || !is_empty_but_leftovers(&self.folder) {
                return Err(DevError::Foreign(self.folder.clone()));
            }
            init::create(&Setup {
                data: &self.data(),
                bundle: &self.operator(),
                trust_domain: "strongroom.dev",
                operator: "developer",
                listen: args.listen,
                enroll_listen: None,
                server_names: &[],
                engine: "redb",
                suite: Suite::Aes256Gcm,
                passphrase: None,
                key_file: Some((self.key_file(), Some(KEY_FILE.to_owned()))),
            })?;
        }
        let mut config = Config::load(&self.data().join(layout::CONFIG_FILE))?;
        config.listen = args.listen;
        let app = App::open(config)?;
        app.unseal_with_key_file(&input::key_file(&self.key_file())?)?;
        let listener = app.listen()?;
        Ok((app, listener))
    }

    fn remove(&self) {
        if self.throw_away
            && let Err(error) = std::fs::remove_dir_all(&self.folder)
        {
            eprintln!("strongroomd: removing {} failed: {error}; remove it yourself", self.folder.display());
        }
    }
}

/// Uses the running vault from outside, as a client.
struct Desk<'a> {
    vault: Arc<crate::core::Vault>,
    home: &'a Home,
    address: String,
    secret_path: &'a SecretPath,
}

impl Desk<'_> {
    fn work(&self, assignments: &[dotenv::Assignment], command: &[OsString]) -> Result<ExitCode, DevError> {
        let operator = self.operator_client()?;
        self.grant(&operator)?;
        if !assignments.is_empty() {
            let doing = "importing";
            let mut pairs = Vec::with_capacity(assignments.len());
            for assignment in assignments {
                pairs.push((assignment.key.as_str(), &assignment.value));
            }
            let patched = operator.kv("secret").put_pairs(self.secret_path, &pairs);
            patched.map_err(|source| DevError::Client { doing, source })?;
            eprintln!("strongroomd: {} keys in secret/{}", pairs.len(), self.secret_path);
        }
        if command.is_empty() {
            self.announce();
            wait_for_interrupt();
            return Ok(ExitCode::SUCCESS);
        }
        let application = self.application_client()?;
        let read = application.kv("secret").pairs(self.secret_path);
        let secrets = read.map_err(|source| DevError::Client { doing: "fetching the secrets", source })?;
        let secrets = secrets.ok_or_else(|| DevError::Empty(self.secret_path.clone()))?;
        let child = ChildEnv::build(std::env::vars_os(), &secrets, &ExecPolicy::default())?;
        for warning in child.warnings() {
            eprintln!("strongroomd: {warning}");
        }
        supervise(child.spawn(command)?)
    }

    fn operator_client(&self) -> Result<Client, DevError> {
        let folder = self.home.operator();
        let key = layout::read_private(&folder.join("key.pem"))?;
        let cert = layout::read(&folder.join("cert.pem"))?;
        self.client(&layout::read(&folder.join("ca.pem"))?, &cert, SecretText::from_utf8_lossy(key))
    }

    /// Creates a client for the application. Its certificate exists only in this process.
    fn application_client(&self) -> Result<Client, DevError> {
        let bundle = self.vault.issue_client(&self.application_identity(), APPLICATION_LIFE_S)?;
        let ca = self.vault.ca_pem()?;
        self.client(ca.as_bytes(), bundle.cert_pem.as_bytes(), bundle.key_pem)
    }

    fn application_identity(&self) -> SpiffeId {
        SpiffeId::new("strongroom.dev", "app/dev").expect("constant and legal")
    }

    fn client(&self, ca: &[u8], cert: &[u8], key: SecretText) -> Result<Client, DevError> {
        Client::connect(client::Settings {
            addr: self.address.clone(),
            ca_pem: ca.to_vec(),
            cert_pem: cert.to_vec(),
            key_pem: key,
            timeout: Duration::from_secs(30),
        })
        .map_err(|source| DevError::Client { doing: "connecting to the vault", source })
    }

    /// Allows the application to read its own path and nothing else.
    fn grant(&self, operator: &Client) -> Result<(), DevError> {
        let path = self.secret_path;
        let policy = format!(
            "path \"secret/data/{path}\" {{ capabilities = [\"read\"] }}\n\
             path \"secret/metadata/{path}\" {{ capabilities = [\"read\"] }}\n"
        );
        let failed = |doing| move |source| DevError::Client { doing, source };
        operator.sys().put_policy("dev-app", &policy).map_err(failed("writing the application's policy"))?;
        let identity = self.application_identity();
        operator.sys().put_identity(identity.path(), &["dev-app"]).map_err(failed("registering the application"))
    }

    fn announce(&self) {
        let folder = self.home.operator();
        let place = folder.display();
        println!("The vault serves on {}. Paste these lines into another terminal:\n", self.address);
        println!("export STRONGROOM_ADDR={} STRONGROOM_CACERT={place}/ca.pem", self.address);
        println!("export STRONGROOM_CLIENT_CERT={place}/cert.pem STRONGROOM_CLIENT_KEY={place}/key.pem");
        println!("strongroom get {}", self.secret_path);
        println!("\nCtrl-C ends it{}.", if self.home.throw_away { " and removes the vault" } else { "" });
    }
}

/// Waits for the program and passes signals on. The program shares the terminal, so it receives an interrupt typed there
/// directly. This process only has to outlive it.
fn supervise(mut child: std::process::Child) -> Result<ExitCode, DevError> {
    let pid = child.id();
    let (done, finished) = std::sync::mpsc::channel::<()>();
    let forwarder = std::thread::spawn(move || forward_signals(pid, &finished));
    let status = child.wait().map_err(DevError::Spawn);
    drop(done);
    let _ = forwarder.join();
    Ok(exit_code(status?))
}

fn forward_signals(pid: u32, finished: &std::sync::mpsc::Receiver<()>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()), signal(SignalKind::hangup()))
        else {
            return;
        };
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        loop {
            tokio::select! {
                _ = terminate.recv() => os::send_signal(pid, libc::SIGTERM),
                _ = hangup.recv() => os::send_signal(pid, libc::SIGHUP),
                _ = interrupt.recv() => {}
                _ = tick.tick() => {
                    if finished.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected) {
                        return;
                    }
                }
            }
        }
    });
}

fn wait_for_interrupt() {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        if let (Ok(mut terminate), Ok(mut interrupt)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        }
    });
}

fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Whether the folder contains only what an interrupted creation leaves behind: names that end in `.init`.
fn is_empty_but_leftovers(folder: &Path) -> bool {
    std::fs::read_dir(folder)
        .is_ok_and(|entries| entries.flatten().all(|entry| entry.file_name().to_string_lossy().ends_with(".init")))
}

const KEY_FILE: &str = "unseal.key";
const APPLICATION_LIFE_S: u64 = 3600;
