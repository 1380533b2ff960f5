//! `strongroomd init`: creates a vault in a folder beside the target and renames that folder as the last step.
//!
//! After a crash at any step the target does not exist. What remains is a `.NAME.init` folder, which the next attempt
//! removes. The operator's bundle is published before the data folder, so there is never a vault without an operator.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use zeroize::Zeroizing;

use super::args::{DEFAULT_TRUST_DOMAIN, InitArgs};
use super::config::{Config, ConfigError, StarterEnroll};
use super::input::{self, InputError};
use super::layout::{self, LayoutError};
use super::memory;
use crate::api::secret::SecretText;
use crate::api::spiffe::SpiffeId;
use crate::core::lifecycle::init::{InitOutcome, InitPlan, InitPorts, initialise};
use crate::core::{Clock, SystemClock, VaultError};
use crate::crypto::envelope::Suite;
use crate::crypto::password::{self, Params};
use crate::crypto::random::{Random, SystemRandom};
use crate::enroll::is_address;
use crate::enroll::string::MAX_ADDRESSES;
use crate::pki::{Bundle, SERVER_LIFE_S};
use crate::store::StoreError;
use crate::store::sidecar::{DirLock, DiskAnchor, DiskHeader};

/// Why no vault was created. The data folder does not exist after an error.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// A file or folder with this name exists.
    #[error("{path} already exists; nothing was changed. Choose another folder, or move this one away")]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// The passphrase could not be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The trust domain or the operator's name is not allowed.
    #[error("{what} is not allowed: {problem}")]
    Name {
        /// The option.
        what: &'static str,
        /// What is allowed.
        problem: String,
    },
    /// The configuration that would be written is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file could not be written.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The store could not be created.
    #[error("creating the store: {0}")]
    Store(#[from] StoreError),
    /// The vault itself could not be created.
    #[error("creating the vault: {0}")]
    Vault(#[from] VaultError),
    /// The random source failed, or there is not enough memory for the key derivation.
    #[error("{0}; free memory or choose a smaller --kdf-time")]
    Crypto(#[from] crate::crypto::CryptoError),
}

/// What to create: `args` as checked values.
pub struct Setup<'a> {
    /// Final data folder.
    pub data: &'a Path,
    /// Final folder of the operator's bundle.
    pub bundle: &'a Path,
    /// The trust domain.
    pub trust_domain: &'a str,
    /// The operator's name below `operator/`.
    pub operator: &'a str,
    /// Address of the listener, for the configuration and the profile.
    pub listen: SocketAddr,
    /// Address of the enrolment listener, for the configuration and the profile. `None` if there is none.
    pub enroll_listen: Option<SocketAddr>,
    /// Names of the server, in addition to localhost and loopback.
    pub server_names: &'a [String],
    /// Storage engine.
    pub engine: &'a str,
    /// Cipher of new records.
    pub suite: Suite,
    /// The passphrase slot, if any.
    pub passphrase: Option<(Zeroizing<String>, Params)>,
    /// The key file slot: where to write the new key file, and its name in the configuration (`None`: not named there).
    pub key_file: Option<(PathBuf, Option<String>)>,
}

#[derive(Serialize)]
struct Summary<'a> {
    data: &'a Path,
    bundle: &'a Path,
    identity: String,
    key_file: Option<&'a Path>,
    kdf_memory_mib: u32,
    kdf_passes: u32,
}

/// Runs the command.
///
/// # Errors
/// Any [`InitError`]. The target does not exist after an error.
pub fn run(args: &InitArgs) -> Result<(), InitError> {
    // Checked before the operator is asked for a passphrase, because nothing here is ever overwritten.
    refuse_existing(&args.data)?;
    refuse_existing(&args.bundle)?;
    if let Some(path) = &args.key_file {
        refuse_existing(path)?;
    }
    let credentials = credentials_folder();
    let passphrase = match (args.passphrase_fd, &args.passphrase_credential) {
        (Some(fd), _) => input::passphrase_from_fd(fd)?,
        (None, Some(name)) => input::passphrase_from_credential(credentials.as_deref(), name)?,
        (None, None) => input::new_passphrase()?,
    };
    input::long_enough(&passphrase)?;
    // The cost of a guess depends on this machine, so it is measured here and stored with the slot.
    eprintln!("measuring Argon2id for about {} ms per guess ...", args.kdf_time);
    let params = calibrate(args.kdf_time)?;
    let suite = if args.cipher == "chacha20-poly1305" { Suite::ChaCha20Poly1305 } else { Suite::Aes256Gcm };
    eprintln!("creating the vault with {} MiB, {} passes ...", params.m_kib / 1024, params.t);
    let outcome = create(&Setup {
        data: &args.data,
        bundle: &args.bundle,
        trust_domain: &args.trust_domain,
        operator: &args.operator,
        listen: args.listen,
        enroll_listen: args.enroll_listen,
        server_names: &args.server_name,
        engine: &args.engine,
        suite,
        passphrase: Some((passphrase, params)),
        key_file: args.key_file.clone().map(|path| (path, None)),
    })?;
    let summary = Summary {
        data: &args.data,
        bundle: &args.bundle,
        identity: outcome.operator_identity.uri().to_owned(),
        key_file: args.key_file.as_deref(),
        kdf_memory_mib: params.m_kib / 1024,
        kdf_passes: params.t,
    };
    if args.json {
        println!("{}", serde_json::to_string(&summary).unwrap_or_default());
    } else {
        let (data, bundle) = (args.data.display(), args.bundle.display());
        println!("vault created in {data}\noperator {} in {bundle}\n", summary.identity);
        for remark in remarks(args) {
            println!("note: {remark}\n");
        }
        println!(
            "next:\n  strongroomd server --data {data}\n  strongroom profile add default --bundle {bundle} --move"
        );
        println!("  strongroom unseal\n\nback up all of {data}: without vault.hdr.* nobody can open the vault again");
    }
    Ok(())
}

/// Consequences of these arguments that an operator may not expect.
fn remarks(args: &InitArgs) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(name) = args.server_name.first()
        && args.listen.ip().is_loopback()
    {
        let (listen, port) = (args.listen, args.listen.port());
        let (config, bundle) = (args.data.join(layout::CONFIG_FILE), args.bundle.join("profile.toml"));
        remarks.push(format!(
            "the vault listens on {listen} only, so other machines cannot reach it as {name}. To change that, set\n  listen = \
             \"0.0.0.0:{port}\" in {}\n  addr = \"https://{name}:{port}\" in {} (and in profiles made from it)",
            config.display(),
            bundle.display()
        ));
    }
    if args.trust_domain == DEFAULT_TRUST_DOMAIN {
        remarks.push(format!(
            "the trust domain is {DEFAULT_TRUST_DOMAIN}, and it is part of every certificate. To use your own, delete this \
             vault and create it again with --trust-domain example.org"
        ));
    }
    remarks
}

/// What [`create`] created, for the caller in this process.
pub struct Created {
    /// Identity of the operator.
    pub operator_identity: SpiffeId,
}

/// Creates the vault of `plan`. After success, both folders are complete and synced.
///
/// # Errors
/// Any [`InitError`]. The data folder does not exist after an error.
pub fn create(plan: &Setup<'_>) -> Result<Created, InitError> {
    let operator_path = format!("operator/{}", plan.operator);
    let operator = SpiffeId::new(plan.trust_domain, &operator_path)
        .map_err(|error| InitError::Name { what: "--operator or --trust-domain", problem: error.to_string() })?;
    let config = configuration(plan);
    // Parse the configuration as the daemon will, so that invalid values are rejected before anything is created.
    let understood = Config::parse(&config, plan.data)?;
    let (data, bundle) = (layout::staging(plan.data), layout::staging(plan.bundle));
    for leftover in [&data, &bundle] {
        if leftover.exists() {
            std::fs::remove_dir_all(leftover).map_err(|source| LayoutError::Io {
                action: "removing the files of an interrupted init in",
                path: leftover.clone(),
                source,
            })?;
        }
        layout::create_private_dir(leftover)?;
    }
    let outcome = fill(plan, &data, &config, operator.clone())?;
    write_bundle(&bundle, &outcome, &understood, plan.server_names.first().map(String::as_str))?;
    layout::publish_dir(&bundle, plan.bundle)?;
    if plan.data.exists() {
        // The target was found empty above. Renaming over an empty folder is atomic.
        refuse_existing(plan.data)?;
    }
    layout::publish_dir(&data, plan.data)?;
    Ok(Created { operator_identity: operator })
}

/// Returns the text of the configuration.
fn configuration(plan: &Setup<'_>) -> String {
    let named = plan.key_file.as_ref().and_then(|(_, name)| name.as_deref());
    let enroll = plan.enroll_listen.map(|listen| {
        // A certificate may contain names that an address cannot.
        let named = |name: &String| at(name, listen.port());
        let addresses = plan.server_names.iter().map(named).filter(|address| is_address(address));
        StarterEnroll { listen, addresses: addresses.take(MAX_ADDRESSES).collect() }
    });
    Config::starter(plan.trust_domain, plan.listen, plan.engine, named, enroll.as_ref())
}

/// The address of the server with this name or IP address.
fn at(name: &str, port: u16) -> String {
    match name.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]:{port}"),
        Err(_) => format!("{name}:{port}"),
    }
}

fn fill(plan: &Setup<'_>, data: &Path, config: &str, operator: SpiffeId) -> Result<InitOutcome, InitError> {
    // The lock is taken before the first file, so that two runs cannot fill the same folder.
    let _lock = DirLock::acquire(data)?;
    let store_folder = layout::store_folder(data, plan.engine);
    layout::create_private_dir(&layout::parent(&store_folder))?;
    layout::create_private_dir(&store_folder)?;
    let random = Arc::new(SystemRandom);
    let key_file = match &plan.key_file {
        None => None,
        Some((path, _)) => {
            let mut bytes = Zeroizing::new(vec![0; KEY_FILE_BYTES]);
            random.fill(&mut bytes)?;
            // The vault's folder is still being built elsewhere, so a key file inside it is written there.
            let place = path.strip_prefix(plan.data).map_or_else(|_| path.clone(), |inside| data.join(inside));
            layout::write_new(&place, &bytes, true)?;
            layout::sync_dir(&layout::parent(&place))?;
            Some(bytes)
        }
    };
    // A bind address of 0.0.0.0 or :: is not a name that a client can use, so it is left out.
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    if !plan.listen.ip().is_unspecified() {
        names.push(plan.listen.ip().to_string());
    }
    names.extend(plan.server_names.iter().cloned());
    names.sort();
    names.dedup();
    let ports = InitPorts {
        store: crate::store::open(plan.engine, &store_folder, true)?,
        header: Arc::new(DiskHeader::new(data)),
        anchor: Arc::new(DiskAnchor::new(&data.join("anchor"))),
        random,
    };
    let passphrase = plan.passphrase.as_ref().map(|(text, _)| SecretText::from(text.as_str()));
    let outcome = initialise(
        ports,
        &InitPlan {
            passphrase: passphrase.as_ref(),
            key_file: key_file.as_deref().map(Vec::as_slice),
            params: plan.passphrase.as_ref().map_or(password::WRITE_FLOOR, |(_, params)| *params),
            trust_domain: plan.trust_domain,
            operator,
            server_names: names,
            suite: plan.suite,
            server_life_s: SERVER_LIFE_S,
            operator_life_s: OPERATOR_LIFE_S,
        },
        SystemClock.now_ms(),
    )?;
    // The vault is sealed when the daemon starts, so the daemon needs these certificates as files.
    let tls = data.join("tls");
    layout::create_private_dir(&tls)?;
    layout::write_new(&tls.join("ca.pem"), outcome.ca_pem.as_bytes(), false)?;
    layout::write_new(&tls.join("server.pem"), outcome.server.cert_pem.as_bytes(), false)?;
    layout::write_new(&tls.join("server.key"), outcome.server.key_pem.reveal().as_bytes(), true)?;
    layout::sync_dir(&tls)?;
    layout::create_private_dir(&data.join("audit"))?;
    layout::write_new(&data.join(layout::CONFIG_FILE), config.as_bytes(), false)?;
    // The records must be durable before the caller renames the folder and so makes the vault visible.
    layout::sync_dir(&store_folder)?;
    layout::sync_dir(&layout::parent(&store_folder))?;
    Ok(outcome)
}

/// `name` is the first one of the server, if it has one besides loopback.
fn write_bundle(folder: &Path, outcome: &InitOutcome, config: &Config, name: Option<&str>) -> Result<(), LayoutError> {
    write_identity(folder, &outcome.ca_pem, &outcome.operator)?;
    let (listen, port) = (config.listen, config.listen.port());
    let address = match name.map(|name| at(name, port)).filter(|address| is_address(address)) {
        Some(address) if !listen.ip().is_loopback() => address,
        _ if listen.ip().is_unspecified() => format!("127.0.0.1:{port}"),
        _ => listen.to_string(),
    };
    let mut profile = format!("addr = \"https://{address}\"\n");
    if !config.enroll_addresses.is_empty() {
        // With this address the operator's certificate can also be renewed in its grace period.
        profile.push_str(&format!("enroll = {:?}\n", config.enroll_addresses));
    }
    layout::write_new(&folder.join("profile.toml"), profile.as_bytes(), false)
}

/// Writes `ca.pem`, `cert.pem` and `key.pem` (mode 0600) of one identity to `folder`.
///
/// # Errors
/// A file already exists, or cannot be written.
pub fn write_identity(folder: &Path, ca_pem: &str, bundle: &Bundle) -> Result<(), LayoutError> {
    layout::write_new(&folder.join("ca.pem"), ca_pem.as_bytes(), false)?;
    layout::write_new(&folder.join("cert.pem"), bundle.cert_pem.as_bytes(), false)?;
    layout::write_new(&folder.join("key.pem"), bundle.key_pem.reveal().as_bytes(), true)?;
    layout::sync_dir(folder)
}

/// Finds Argon2id parameters that cost about `target_ms` per guess on this machine. Uses at most a quarter of the memory
/// that this process may use.
fn calibrate(target_ms: u64) -> Result<Params, InitError> {
    let mut timer = |params: &Params| password::timed(params, &|| SystemClock.steady());
    Ok(password::calibrate(target_ms, password::share_of(memory::limit()), &mut timer)?)
}

/// The folder with the systemd credentials, if systemd started this process.
pub(super) fn credentials_folder() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

fn refuse_existing(path: &Path) -> Result<(), InitError> {
    let empty = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    if std::fs::symlink_metadata(path).is_ok() && !empty {
        return Err(InitError::Exists { path: path.to_owned() });
    }
    Ok(())
}

/// Lifetime of the first operator's certificates, in seconds. Nothing renews a person's certificate overnight, and the
/// first operator has nobody to ask for a new one. Shorten it with `strongroom identity set` once there are other
/// operators.
const OPERATOR_LIFE_S: u64 = 30 * 86_400;
const KEY_FILE_BYTES: usize = 64;
