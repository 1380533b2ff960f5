//! The daemon's configuration: a TOML file, parsed once into checked values.
//!
//! Unknown keys are rejected, because a misspelt limit that is silently ignored would not limit anything. The file never
//! contains a secret. It only says where to find one (a key file, a systemd credential).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::targets::{self, RawTarget};
use crate::core::ApprovalRules;
use raw::{RawConfig, RawKdf};

mod approvals;
mod raw;
#[cfg(test)]
mod tests;

/// Why a configuration was rejected. The text names the key and what is allowed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error(
        "cannot read the configuration {path}: {source}; create it with `strongroomd init`, or name it with --config"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file is not TOML, or it has an unknown key or a value of the wrong type.
    #[error("configuration {path}: {message}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The parser's message with line, column and key.
        message: String,
    },
    /// A value is not allowed.
    #[error("configuration: {key} {problem}")]
    Value {
        /// The key, with dots.
        key: &'static str,
        /// What is wrong, and what is allowed.
        problem: String,
    },
    /// Other users can write the file.
    #[error("configuration {path} can be written by other users; run: chmod go-w {path}")]
    Permissions {
        /// The file.
        path: PathBuf,
    },
}

/// The checked settings of one daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Folder of the file. Relative paths start here.
    pub folder: PathBuf,
    /// Data folder, mode 0700. Holds everything that no other key places elsewhere.
    pub data: PathBuf,
    /// Address of the TLS listener.
    pub listen: SocketAddr,
    /// Trust domain of the identities this vault accepts.
    pub trust_domain: String,
    /// Storage engine: `redb` or `sled`.
    pub engine: String,
    /// The anchor file, ideally on another disk than the store.
    pub anchor: PathBuf,
    /// Source of an unattended unseal, if any.
    pub unseal: Option<UnsealSource>,
    /// Patterns of identities that may unseal over the network, for example `operator/*`.
    pub unseal_identities: Vec<String>,
    /// The audit file.
    pub audit_file: PathBuf,
    /// Whether a read is synced to the audit file before its answer. Otherwise within a second.
    pub audit_sync_always: bool,
    /// Whether paths in audit entries are replaced by their HMAC.
    pub audit_hashed_paths: bool,
    /// Server certificate chain, PEM file.
    pub tls_certificate: PathBuf,
    /// Server key, PEM file, mode 0600.
    pub tls_key: PathBuf,
    /// CA of the client certificates, PEM file.
    pub tls_client_ca: PathBuf,
    /// Roots that clients need to verify a server certificate of an outside PKI, PEM file.
    pub tls_ca: Option<PathBuf>,
    /// Whether the file names the server's certificate or key. Then somebody else renews them.
    pub tls_certificate_supplied: bool,
    /// Whether the file names the CA of clients. Then the daemon does not write to it.
    pub tls_client_ca_supplied: bool,
    /// Address where clients without a certificate enrol, if any.
    pub enroll_listen: Option<SocketAddr>,
    /// The addresses in enrolment strings, `host:port`.
    pub enroll_addresses: Vec<String>,
    /// Limits of the listener.
    pub limits: Limits,
    /// Cost of the key derivation for new passphrase slots. Cheaper slots are raised to it.
    pub kdf: Option<Kdf>,
    /// Records per second that a throttled rotation of the data key re-encrypts.
    pub rewrap_per_second: u64,
    /// Where rotated values are applied, by name.
    pub targets: BTreeMap<String, RawTarget>,
    /// Operations that several operators must approve, if any.
    pub approvals: Option<ApprovalRules>,
    /// Whether log lines are JSON.
    pub log_json: bool,
    /// Log filter, for example `info` or `strongroom=debug`.
    pub log_level: String,
}

/// Cost of Argon2id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kdf {
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Passes.
    pub passes: u32,
}

/// Where the secret for an unattended unseal comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnsealSource {
    /// A key file (slot type 2).
    KeyFile(PathBuf),
    /// A systemd credential that holds the passphrase (slot type 1).
    PassphraseCredential(String),
    /// A systemd credential that holds the key file's bytes (slot type 2).
    KeyFileCredential(String),
}

/// Limits of the listener. Each has a safe default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open connections in total.
    pub connections: usize,
    /// Open connections of one identity.
    pub connections_per_identity: usize,
    /// Bytes of a request body.
    pub body_bytes: usize,
    /// Concurrent handshakes of one source (an IPv4 address, or an IPv6 /64). The default is an eighth of
    /// `connections`, at most 256.
    pub handshakes_per_source: usize,
    /// Sustained handshakes per second of one source. Bursts may be five times as large.
    pub handshake_rate_per_source: u32,
    /// Enrolment strings on record that one identity may have created.
    pub enrollments_per_identity: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_identity: 64,
            body_bytes: 1024 * 1024 + 64 * 1024,
            handshakes_per_source: 256,
            handshake_rate_per_source: 200,
            enrollments_per_identity: 10_000,
        }
    }
}

impl Config {
    /// Reads and checks the file at `path`. Relative paths in it start at the file's folder.
    ///
    /// # Errors
    /// The file cannot be read, other users can write it, it is not TOML, it has an unknown key, or a value is not
    /// allowed. See [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let metadata = std::fs::metadata(path).map_err(read)?;
        if std::os::unix::fs::MetadataExt::mode(&metadata) & 0o022 != 0 {
            return Err(ConfigError::Permissions { path: path.to_owned() });
        }
        if metadata.len() > MAX_FILE_BYTES {
            return Err(ConfigError::Parse { path: path.to_owned(), message: "is larger than 1 MiB".into() });
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        let base = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self::parse(&text, base).map_err(|error| match error {
            ConfigError::Parse { message, .. } => ConfigError::Parse { path: path.to_owned(), message },
            other => other,
        })
    }

    /// Checks the text of a configuration. Relative paths start at `base`. Never panics, whatever the text.
    ///
    /// # Errors
    /// As [`Config::load`], without the errors of reading the file.
    pub fn parse(text: &str, base: &Path) -> Result<Self, ConfigError> {
        let raw: RawConfig = toml::from_str(text)
            .map_err(|error| ConfigError::Parse { path: base.to_owned(), message: error.to_string() })?;
        // Without the `.` of "the folder of the file", which messages would show.
        let data: PathBuf = base.join(raw.data.unwrap_or_else(|| ".".into())).components().collect();
        let listen = raw.listen.as_deref().unwrap_or(DEFAULT_LISTEN);
        let listen = listen.parse().map_err(|_| ConfigError::Value {
            key: "listen",
            problem: format!("must be an address with a port, for example {DEFAULT_LISTEN}"),
        })?;
        let enroll = raw.enroll.unwrap_or_default();
        let enroll_listen = enroll.check(listen)?;
        let storage = raw.storage.unwrap_or_default();
        let engine = storage.engine.unwrap_or_else(|| "redb".into());
        if !matches!(engine.as_str(), "redb" | "sled") {
            return Err(ConfigError::Value { key: "storage.engine", problem: "must be redb or sled".into() });
        }
        let unseal = raw.unseal.unwrap_or_default();
        let audit = raw.audit.unwrap_or_default();
        let tls = raw.tls.unwrap_or_default();
        let log = raw.log.unwrap_or_default();
        // Paths that are given start at the file's folder; default paths are in the data folder.
        let in_data =
            |chosen: Option<PathBuf>, default: &str| chosen.map_or(data.join(default), |path| base.join(path));
        Ok(Self {
            listen,
            engine,
            anchor: in_data(storage.anchor, "anchor"),
            unseal_identities: unseal.identities.clone().unwrap_or_else(|| vec!["operator/*".into()]),
            unseal: unseal.source(base)?,
            audit_file: in_data(audit.file, "audit/audit.log"),
            audit_sync_always: choice("audit.sync", audit.sync.as_deref(), ["batch", "always"])?,
            audit_hashed_paths: choice("audit.paths", audit.paths.as_deref(), ["plain", "hashed"])?,
            tls_certificate_supplied: tls.certificate.is_some() || tls.key.is_some(),
            tls_client_ca_supplied: tls.client_ca.is_some(),
            tls_ca: tls.ca.map(|path| base.join(path)),
            enroll_addresses: enroll.addresses(enroll_listen)?,
            enroll_listen,
            tls_certificate: in_data(tls.certificate, "tls/server.pem"),
            tls_key: in_data(tls.key, "tls/server.key"),
            tls_client_ca: in_data(tls.client_ca, "tls/ca.pem"),
            limits: raw.limits.unwrap_or_default().check()?,
            kdf: raw.kdf.map(RawKdf::check).transpose()?,
            rewrap_per_second: raw.rotation.unwrap_or_default().check()?,
            targets: targets::check(raw.targets)?,
            approvals: raw.approvals.map(|approvals| approvals.check(&raw.trust_domain)).transpose()?,
            log_json: choice("log.format", log.format.as_deref(), ["text", "json"])?,
            log_level: log.level.unwrap_or_else(|| "info".into()),
            trust_domain: raw.trust_domain,
            folder: base.to_owned(),
            data,
        })
    }

    /// The configuration that `strongroomd init` writes: the values that were chosen, and every other key as a comment.
    #[must_use]
    pub fn starter(
        trust_domain: &str,
        listen: SocketAddr,
        engine: &str,
        key_file: Option<&str>,
        enroll: Option<&StarterEnroll>,
    ) -> String {
        let unseal = match key_file {
            Some(path) => format!("key_file = {path:?}"),
            None => {
                "# key_file = \"/etc/strongroom/unseal.key\"      # or: passphrase_credential = \"strongroom\"".into()
            }
        };
        let enroll = match enroll {
            Some(StarterEnroll { listen, addresses }) => {
                let named = match addresses.as_slice() {
                    [] => "# addresses = [\"vault.example:8201\"]             # how hosts reach it".to_owned(),
                    some => format!("addresses = {some:?}"),
                };
                format!("[enroll]\nlisten = \"{listen}\"\n{named}")
            }
            None => STARTER_ENROLL.to_owned(),
        };
        format!(
            r#"# Strongroom daemon. Unknown keys are rejected; check with: strongroomd server --check --config THIS-FILE
trust_domain = "{trust_domain}"
listen = "{listen}"

[storage]
engine = "{engine}"
# anchor = "/another/disk/strongroom.anchor"     # on another disk it detects a rollback of the whole store

[unseal]
{unseal}
# identities = ["operator/*"]                    # who may unseal over the network

[audit]
# file = "audit/audit.log"
# sync = "batch"                                 # reads are synced within 1 s; "always": before the answer
# paths = "plain"                                # "hashed": no readable paths in the audit file

# [kdf]
# memory_mib = 256                               # least cost of passphrase slots; cheaper ones are raised at unseal
# passes = 3

[rotation]
# rewrap_per_second = 2000                       # records that a throttled data key rotation re-encrypts

{enroll}

# [approvals]                                    # dangerous operations need several operators; docs/operations.md
# required = 2                                   # the operator who asks counts as one
# approvers = ["operator/*"]
# operations = ["destroy", "ca-compromise", "slot-remove", "admin-policy", "export"]
# ttl = "1h"

# [targets.orders]                               # where rotated values are applied; docs/rotation.md
# type = "postgres"

[log]
# format = "text"                                # or "json"
# level = "info"
"#
        )
    }
}

/// The enrolment listener for the configuration that `strongroomd init` writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StarterEnroll {
    /// `enroll.listen`.
    pub listen: SocketAddr,
    /// `enroll.addresses`; empty to leave it to the default.
    pub addresses: Vec<String>,
}

const STARTER_ENROLL: &str = r#"# [enroll]
# listen = "0.0.0.0:8201"                        # where machines without a certificate enrol; off by default
# addresses = ["vault.example:8201"]             # how they reach it; written into enrolment strings"#;
const DEFAULT_LISTEN: &str = "127.0.0.1:8200";
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Returns `false` for the first choice, which is the default, and `true` for the second.
fn choice(key: &'static str, given: Option<&str>, [off, on]: [&str; 2]) -> Result<bool, ConfigError> {
    match given {
        None => Ok(false),
        Some(text) if text == off => Ok(false),
        Some(text) if text == on => Ok(true),
        Some(_) => Err(ConfigError::Value { key, problem: format!("must be {off} or {on}") }),
    }
}
