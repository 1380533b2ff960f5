//! What was typed, the environment and the profile, turned into a client that is ready to use. The only place that reads
//! the environment.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use strongroom::api::path::Path as SecretPath;
use strongroom::api::secret::SecretText;
use strongroom::client::{self, Client};
use zeroize::Zeroizing;

use crate::args::Connection;
use crate::bundle::{Files, Folder};
use crate::exit::{Code, Failure};
use crate::mark::MarkFile;
use crate::profile::Profiles;
use crate::renewal;

/// Looks a variable up; a map stands in for it in tests.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The process's own environment.
#[must_use]
pub fn environment(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// Everything needed to reach a vault, not yet read from disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `https://host:port`
    pub addr: String,
    /// CA certificate.
    pub ca: PathBuf,
    /// Own certificate.
    pub cert: PathBuf,
    /// Own key.
    pub key: PathBuf,
    /// The profile that all of it is from, so that it can be renewed there.
    pub folder: Option<Folder>,
}

impl Target {
    /// Flags win over variables, variables over the profile.
    ///
    /// # Errors
    /// Something is missing; the hint says how to give it.
    pub fn resolve(typed: &Connection, env: Lookup<'_>, profiles: &Profiles) -> Result<Self, Failure> {
        let chosen = typed.profile.clone().or_else(|| text(env, &["STRONGROOM_PROFILE"]));
        let folder = profiles.folder_of(chosen.as_deref())?;
        let profile = folder.as_ref().map(Folder::files).transpose()?;
        let from_profile = |pick: fn(&Files) -> &PathBuf| profile.as_ref().map(|profile| pick(profile).clone());
        let file =
            |typed: &Option<PathBuf>, names: &[&str]| typed.clone().or_else(|| variable(env, names).map(PathBuf::from));
        let missing = |what: &str, flag: &str, name: &str| {
            Failure::usage(
                format!("no {what}"),
                format!("use --{flag}, set {name}, or run: strongroom profile add NAME --bundle DIR"),
            )
        };
        let addr = typed.addr.clone().or_else(|| text(env, &["STRONGROOM_ADDR", "VAULT_ADDR"]));
        let addr = addr.or_else(|| profile.as_ref().map(|profile| profile.addr.clone()));
        let ca = file(&typed.ca_cert, &["STRONGROOM_CACERT", "VAULT_CACERT"]);
        let cert = file(&typed.client_cert, &["STRONGROOM_CLIENT_CERT", "VAULT_CLIENT_CERT"]);
        let key = file(&typed.client_key, &["STRONGROOM_CLIENT_KEY", "VAULT_CLIENT_KEY"]);
        let folder = folder.filter(|_| ca.is_none() && cert.is_none() && key.is_none());
        Ok(Self {
            folder,
            addr: addr.ok_or_else(|| missing("address of a vault", "addr", "STRONGROOM_ADDR"))?,
            ca: ca
                .or_else(|| from_profile(|p| &p.ca))
                .ok_or_else(|| missing("CA certificate", "ca-cert", "STRONGROOM_CACERT"))?,
            cert: cert
                .or_else(|| from_profile(|p| &p.cert))
                .ok_or_else(|| missing("client certificate", "client-cert", "STRONGROOM_CLIENT_CERT"))?,
            key: key
                .or_else(|| from_profile(|p| &p.key))
                .ok_or_else(|| missing("client key", "client-key", "STRONGROOM_CLIENT_KEY"))?,
        })
    }
}

/// A connection to the vault that remembers its newest state across runs.
pub struct Session {
    /// The client.
    pub client: Client,
    /// Mount of the KV engine.
    pub mount: String,
    /// The profile that the certificate is from, if it is from one.
    pub folder: Option<Folder>,
    cert_pem: Vec<u8>,
    mark: MarkFile,
    /// What it was opened with.
    typed: Connection,
}

impl Session {
    /// Reads certificates and connects lazily: the first request opens the connection. Says when the certificate ends soon.
    ///
    /// # Errors
    /// Settings are missing, files are unreadable, or the key is open to others.
    pub fn open(typed: &Connection, env: Lookup<'_>) -> Result<Self, Failure> {
        let session = Self::open_quietly(typed, env)?;
        session.warn();
        Ok(session)
    }

    /// Says on standard error when the certificate ends soon.
    pub fn warn(&self) {
        if let Some(warning) = renewal::warning(&self.cert_pem, now_ms()) {
            eprintln!("strongroom: {warning}");
        }
    }

    /// As [`open`](Self::open), for what renews the certificate by itself.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_quietly(typed: &Connection, env: Lookup<'_>) -> Result<Self, Failure> {
        let profiles = Profiles::locate(env)?;
        let open = || Self::of(Target::resolve(typed, env, &profiles)?, typed, env);
        // A renewal at this moment removes the files that were just found; those that replace them are there already.
        open().or_else(|_| open())
    }

    /// A session with `target`.
    ///
    /// # Errors
    /// Files are unreadable, or the key is open to others.
    pub fn of(target: Target, typed: &Connection, env: Lookup<'_>) -> Result<Self, Failure> {
        let ca_pem = read_file(&target.ca)?;
        let cert_pem = read_file(&target.cert)?.to_vec();
        let mark = MarkFile::of_vault(env, &ca_pem);
        let client = Client::connect(client::Settings {
            addr: target.addr,
            ca_pem: ca_pem.to_vec(),
            cert_pem: cert_pem.clone(),
            key_pem: read_key(&target.key)?,
            timeout: Duration::from_secs(typed.timeout),
        })?;
        if let Some(seen) = mark.read() {
            client.set_mark(seen);
        }
        let mount = typed.mount.trim_matches('/').to_owned();
        Ok(Self { client, mount, folder: target.folder, cert_pem, mark, typed: typed.clone() })
    }

    /// The KV engine of `--mount`.
    pub fn kv(&self) -> client::Kv<'_> {
        self.client.kv(&self.mount)
    }

    /// For a command that waits for long: renews the certificate of a profile when it is due, and gives the session to go
    /// on with. `None`: there is nothing to renew yet.
    ///
    /// # Errors
    /// The vault refuses or does not answer. This session is as good as before.
    pub fn renewed(&self) -> Result<Option<Self>, Failure> {
        let Some(folder) = &self.folder else { return Ok(None) };
        if !renewal::is_due(&self.cert_pem, now_ms()) {
            return Ok(None);
        }
        let terms = renewal::Terms { if_due: true, reuse_key: false, key_type: None, connection: &self.typed };
        renewal::renew(folder, &terms, &environment)?;
        Self::open_quietly(&self.typed, &environment).map(Some)
    }

    /// Keeps the newest state seen for the next run. A failure costs only that memory, so it is no error.
    pub fn remember(&self) {
        if let Some(mark) = self.client.mark() {
            self.mark.write(&mark);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.remember();
    }
}

/// A secret's path as typed. `secret/app/prod` and `secret/data/app/prod`, written out of habit, mean `app/prod`.
///
/// # Errors
/// Not a path.
pub fn secret_path(typed: &str, mount: &str) -> Result<SecretPath, Failure> {
    let path = folder_path(typed, mount)?;
    if path.is_root() {
        return Err(Failure::usage("a secret needs a name", "for example: app/prod"));
    }
    Ok(path.to_leaf())
}

/// As [`secret_path`], but a folder, and the root is one.
///
/// # Errors
/// Not a path.
pub fn folder_path(typed: &str, mount: &str) -> Result<SecretPath, Failure> {
    let inside = typed.trim_start_matches('/');
    let inside = match inside.strip_prefix(mount) {
        Some("") => "",
        Some(rest) if rest.starts_with('/') => {
            let rest = rest.trim_start_matches('/');
            rest.strip_prefix("data/").unwrap_or(rest)
        }
        _ => inside,
    };
    SecretPath::parse(inside).map_err(|error| Failure::usage(error.to_string(), "for example: app/prod"))
}

fn variable(env: Lookup<'_>, names: &[&str]) -> Option<OsString> {
    names.iter().find_map(|name| env(name))
}

fn text(env: Lookup<'_>, names: &[&str]) -> Option<String> {
    variable(env, names).and_then(|value| value.into_string().ok())
}

/// Reads a file of at most 1 MiB into memory that is wiped.
///
/// # Errors
/// Unreadable or larger.
pub fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |error: std::io::Error| {
        Failure::usage(format!("{}: {error}", path.display()), "check the path, and who may read it")
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length > MAX_FILE_BYTES {
        return Err(Failure::usage(format!("{} is larger than 1 MiB", path.display()), ""));
    }
    // Full capacity at once: a buffer that grows leaves copies of its beginning behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 4096));
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Reads a private key, if nobody else can.
///
/// # Errors
/// Unreadable, or readable by others.
pub fn read_key(path: &Path) -> Result<SecretText, Failure> {
    let mode = std::fs::metadata(path).map(|metadata| metadata.mode());
    if let Ok(mode) = mode
        && mode & 0o077 != 0
    {
        let message = format!("{} can be read by others", path.display());
        return Err(Failure::new(Code::Usage, message, format!("run: chmod 600 {}", path.display())));
    }
    Ok(SecretText::from_utf8_lossy(read_file(path)?.as_slice()))
}

/// The real time, Unix milliseconds.
#[must_use]
pub fn now_ms() -> u64 {
    #[allow(clippy::disallowed_methods)] // the real process, not the library
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

const MAX_FILE_BYTES: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn typed() -> Connection {
        Connection {
            profile: None,
            addr: None,
            ca_cert: None,
            client_cert: None,
            client_key: None,
            mount: "secret".into(),
            timeout: 30,
        }
    }

    #[test]
    fn flags_win_over_variables_and_variables_over_the_profile() {
        let folder = tempfile::tempdir().unwrap();
        let profiles = Profiles::at(folder.path().to_owned());
        let env = |name: &str| match name {
            "VAULT_ADDR" => Some("https://vault:8200".into()),
            "STRONGROOM_CACERT" => Some("/ca".into()),
            "VAULT_CLIENT_CERT" => Some("/cert".into()),
            _ => None,
        };
        let failure = Target::resolve(&typed(), &env, &profiles).unwrap_err();
        assert!(failure.message.contains("client key") && failure.hint.contains("--client-key"), "{failure:?}");
        let mut flags = typed();
        flags.addr = Some("https://typed:1".into());
        flags.client_key = Some("/key".into());
        let target = Target::resolve(&flags, &env, &profiles).unwrap();
        assert_eq!(target.addr, "https://typed:1");
        assert_eq!((target.ca, target.cert, target.key), ("/ca".into(), "/cert".into(), "/key".into()));
    }

    #[test]
    fn paths_typed_by_habit_mean_the_same_secret() {
        for text in ["app/prod", "/app/prod", "secret/app/prod", "secret/data/app/prod", "app/prod/"] {
            assert_eq!(secret_path(text, "secret").unwrap().as_str(), "app/prod", "{text}");
        }
        assert_eq!(secret_path("secrets/x", "secret").unwrap().as_str(), "secrets/x");
        assert!(secret_path("", "secret").is_err());
        assert!(secret_path("secret", "secret").is_err());
        assert!(secret_path("a/../b", "secret").is_err());
        assert!(folder_path("secret/", "secret").unwrap().is_root());
    }
}
