//! Flags, environment and profile, combined into a client that is ready to use.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use strongroom::client::{self, Client};

use crate::bundle::{Files, Folder};
use crate::environment::{Lookup, environment, now_ms};
use crate::exit::{Code, Failure};
use crate::files::{read_file, read_key};
use crate::mark::MarkFile;
use crate::profile::Profiles;
use crate::renewal;

/// Where the vault is and who you are; all of it can be in a profile.
#[derive(Debug, Clone, Args)]
pub struct Connection {
    /// Profile to use [env: STRONGROOM_PROFILE].
    #[arg(long, global = true, help_heading = "Connection and output", value_name = "NAME")]
    pub profile: Option<String>,
    /// Address of the vault, https://host:port [env: STRONGROOM_ADDR, VAULT_ADDR].
    #[arg(long, global = true, help_heading = "Connection and output", value_name = "URL")]
    pub addr: Option<String>,
    /// CA certificate of the vault, PEM file [env: STRONGROOM_CACERT, VAULT_CACERT].
    #[arg(long, global = true, help_heading = "Connection and output", value_name = "FILE")]
    pub ca_cert: Option<PathBuf>,
    /// Your certificate, PEM file [env: STRONGROOM_CLIENT_CERT, VAULT_CLIENT_CERT].
    #[arg(long, global = true, help_heading = "Connection and output", value_name = "FILE")]
    pub client_cert: Option<PathBuf>,
    /// Your private key, PEM file with mode 0600 [env: STRONGROOM_CLIENT_KEY, VAULT_CLIENT_KEY].
    #[arg(long, global = true, help_heading = "Connection and output", value_name = "FILE")]
    pub client_key: Option<PathBuf>,
    /// Mount of the KV engine to which paths belong.
    #[arg(long, global = true, help_heading = "Connection and output", value_name = "MOUNT", default_value = "secret")]
    pub mount: String,
    /// Longest time for one request, in seconds.
    #[arg(long, global = true, help_heading = "Connection and output", value_name = "SECONDS", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
}

/// Everything that is needed to reach a vault. Nothing is read from disk yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `https://host:port`
    pub addr: String,
    /// CA certificate.
    pub ca: PathBuf,
    /// The client's certificate.
    pub cert: PathBuf,
    /// The client's key.
    pub key: PathBuf,
    /// The profile from which all of this comes and in which it can be renewed.
    pub folder: Option<Folder>,
}

/// What to do about a profile in which a file is missing.
const INCOMPLETE: &str = "the profile is incomplete; see: strongroom profile show
for a new certificate, ask for an enrolment string, then: strongroom enroll - --replace";

impl Target {
    /// Flags override variables, and variables override the profile.
    ///
    /// # Errors
    /// Something is missing. The hint says how to provide it.
    pub fn resolve(typed: &Connection, env: Lookup<'_>, profiles: &Profiles) -> Result<Self, Failure> {
        let chosen = typed.profile.clone().or_else(|| text(env, &["STRONGROOM_PROFILE"]));
        let folder = profiles.folder_of(chosen.as_deref())?;
        let profile = folder.as_ref().map(Folder::files).transpose()?;
        let from_profile = |pick: fn(&Files) -> &PathBuf| profile.as_ref().map(|profile| pick(profile).clone());
        let file =
            |typed: &Option<PathBuf>, names: &[&str]| typed.clone().or_else(|| variable(env, names).map(PathBuf::from));
        let no_choice = folder.is_none();
        let missing = |what: &str, flag: &str, name: &str| {
            if no_choice && !profiles.names().is_empty() {
                return profiles.none_in_use();
            }
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
    /// The profile that the certificate comes from, if any.
    pub folder: Option<Folder>,
    cert_pem: Vec<u8>,
    mark: MarkFile,
    /// The settings that it was opened with.
    typed: Connection,
}

impl Session {
    /// Reads certificates. The first request opens the connection. Warns if the certificate expires soon.
    ///
    /// # Errors
    /// Settings are missing, files cannot be read, or other users can read the key.
    pub fn open(typed: &Connection, env: Lookup<'_>) -> Result<Self, Failure> {
        let session = Self::open_quietly(typed, env)?;
        session.warn();
        Ok(session)
    }

    /// Warns on standard error if the certificate expires soon, and if the newest state seen of the vault cannot be
    /// read.
    pub fn warn(&self) {
        self.warn_of_mark();
        if let Some(warning) = renewal::warning(&self.cert_pem, now_ms()) {
            eprintln!("strongroom: {warning}");
        }
    }

    /// Warns on standard error if the newest state seen of the vault cannot be read.
    pub fn warn_of_mark(&self) {
        if let Some(warning) = self.mark.warning() {
            eprintln!("strongroom: {warning}");
        }
    }

    /// Warns on standard error if the newest state cannot be kept for the next command. For one that runs for long and
    /// remembers it meanwhile.
    pub fn warn_of_memory(&self) {
        if let Some(problem) = self.mark.not_kept() {
            eprintln!("strongroom: {problem}; so a rollback of the vault is noticed only while this command runs");
        }
    }

    /// As [`open`](Self::open), for callers that renew the certificate themselves.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_quietly(typed: &Connection, env: Lookup<'_>) -> Result<Self, Failure> {
        let profiles = Profiles::locate(env)?;
        let open = || Self::of(Target::resolve(typed, env, &profiles)?, typed, env);
        // A renewal at this moment removes the files that were just found. Their replacements already exist.
        open().or_else(|_| open())
    }

    /// A session with `target`.
    ///
    /// # Errors
    /// Files cannot be read, or other users can read the key.
    pub fn of(target: Target, typed: &Connection, env: Lookup<'_>) -> Result<Self, Failure> {
        // A file that is gone from a profile comes back with a new certificate, not with other permissions.
        let again = |failure: Failure| match (&target.folder, failure.code) {
            (Some(folder), Code::Usage) if !folder.is_complete() => Failure { hint: INCOMPLETE.to_owned(), ..failure },
            _ => failure,
        };
        let ca_pem = read_file(&target.ca).map_err(again)?;
        let cert_pem = read_file(&target.cert).map_err(again)?.to_vec();
        let mark = MarkFile::of_vault(env, &ca_pem);
        let client = Client::connect(client::Settings {
            addr: target.addr,
            ca_pem: ca_pem.to_vec(),
            cert_pem: cert_pem.clone(),
            key_pem: read_key(&target.key).map_err(again)?,
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

    /// For long-running commands: renews the certificate of a profile when it is due, and returns the session to use
    /// from then on. `None` means that there is nothing to renew yet.
    ///
    /// # Errors
    /// The vault rejects the renewal or does not answer. This session still works then.
    pub fn renewed(&self) -> Result<Option<Self>, Failure> {
        let Some(folder) = &self.folder else { return Ok(None) };
        if !renewal::is_due(&self.cert_pem, now_ms()) {
            return Ok(None);
        }
        // The connections of the renewal, and the next session, begin with what this one has seen.
        self.remember();
        let terms = renewal::Terms { if_due: true, reuse_key: false, key_type: None, connection: &self.typed };
        renewal::renew(folder, &terms, &environment)?;
        Self::open_quietly(&self.typed, &environment).map(Some)
    }

    /// Saves the newest state seen for the next run, and reports a new epoch once. A failure to save is not an error,
    /// because only this record is lost.
    pub fn remember(&self) {
        if let Some(mark) = self.client.mark() {
            if let Some(old) = self.mark.read().filter(|old| old.epoch < mark.epoch) {
                eprintln!(
                    "strongroom: the vault's operator has declared a restore or a loss since you last used the vault (epoch {}, \
                     now {}): writes may be missing; strongroom status describes the loss; then check what you wrote last",
                    old.epoch, mark.epoch
                );
            }
            self.mark.write(&mark);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.remember();
    }
}

fn variable(env: Lookup<'_>, names: &[&str]) -> Option<OsString> {
    names.iter().find_map(|name| env(name))
}

fn text(env: Lookup<'_>, names: &[&str]) -> Option<String> {
    variable(env, names).and_then(|value| value.into_string().ok())
}

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
}
