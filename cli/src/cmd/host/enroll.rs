//! `enroll`: the first certificate, for an enrolment string.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use strongroom::api::secret::SecretText;
use strongroom::api::time::rfc3339_nano;
use strongroom::client::enroll;
use strongroom::enroll::EnrollString;
use strongroom::enroll::string::split_address;
use strongroom::pki::KeyType;

use crate::bundle::{Content, Folder, Pending};
use crate::cmd::access::enrollments::EnrollCommand;
use crate::connection::Connection;
use crate::environment::environment;
use crate::exit::Failure;
use crate::output::Output;
use crate::profile::Profiles;
use crate::prompt;
use crate::renewal::{self, leaf_of};

/// Default name of the profile.
const DEFAULT_PROFILE: &str = "default";
/// Port of the API if the vault does not say.
const DEFAULT_PORT: u16 = 8200;

/// Key types, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeyKind {
    /// ECDSA on P-256.
    P256,
    /// Ed25519.
    Ed25519,
}

impl From<KeyKind> for KeyType {
    fn from(kind: KeyKind) -> Self {
        match kind {
            KeyKind::P256 => Self::P256,
            KeyKind::Ed25519 => Self::Ed25519,
        }
    }
}

/// `strongroom enroll [STRING]`
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "The private key is made here and never leaves this machine. If the connection breaks, run the same
command again: it continues with the same key.

Examples:
  strongroom enroll                                  asks for the string
  strongroom enroll - --profile prod < string        reads it, and creates the profile prod
  strongroom enroll - --out /etc/app/vault < string  writes ca.pem, cert.pem, key.pem and profile.toml there
  strongroom enroll - --replace < string             replaces the existing profile"
)]
pub struct EnrollArgs {
    /// The operator's commands.
    #[command(subcommand)]
    pub command: Option<EnrollCommand>,
    /// Enrolment string; - reads it from standard input. Given as an argument, other users of this machine can see it.
    #[arg(value_name = "STRING")]
    string: Option<String>,
    /// Key type.
    #[arg(long, value_enum, default_value_t = KeyKind::P256)]
    key_type: KeyKind,
    /// Write the certificate bundle to this folder instead of a profile; it must be new or empty.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Replace the existing bundle. The old one stays in use until the new one is complete.
    #[arg(long)]
    replace: bool,
}

impl EnrollArgs {
    /// # Errors
    /// The string is invalid, the vault rejects it or does not answer, or the bundle cannot be written.
    pub fn run(&self, connection: &Connection, out: &Output) -> Result<(), Failure> {
        let name = connection.profile.as_deref().unwrap_or(DEFAULT_PROFILE);
        let profiles = Profiles::locate(&environment)?;
        let folder = match &self.out {
            Some(path) => room_at(path, self.replace)?,
            None if self.replace => profiles.place_for(name)?,
            None => profiles.room_for(name, TAKEN)?,
        };
        let text = self.text()?;
        let string = EnrollString::parse(text.reveal())
            .map_err(|error| Failure::usage(error.to_string(), "if that does not help, ask for a new string"))?;
        drop(text);
        // No renewal of the old certificate may start until this is done.
        let held = has_content(folder.path()).then(|| folder.hold()).transpose()?;
        let pending = Pending::of_enrolment(folder.path(), string.id());
        let request = pending.request(self.key_type.into(), &|_, _| false)?;
        let timeout = Duration::from_secs(connection.timeout);
        let certified = enroll::enroll(&string, &request.csr_pem, timeout).map_err(renewal::refused)?;
        let addr = connection.addr.clone().unwrap_or_else(|| address(&certified.addresses, string.addresses()));
        let content = Content {
            addr: &addr,
            enroll: string.addresses(),
            ca: certified.ca.as_bytes(),
            cert: certified.certificate.as_bytes(),
            key: &request.key_pem,
        };
        // The old bundle stays in effect until this moment.
        match &held {
            Some(held) => folder.replace(held, &content)?,
            None => folder.create(&content)?,
        }
        // The waiting key belonged to the old certificate.
        Pending::of_renewal(folder.path()).done();
        pending.done();
        let leaf = leaf_of(&folder.files()?)?;
        let end = rfc3339_nano(leaf.not_after_ms);
        let done = serde_json::json!({
            "identity": certified.identity, "addr": addr, "not_after": end, "folder": folder.path(),
            "profile": self.out.is_none().then_some(name),
        });
        out.either(&done, || {
            let place = match &self.out {
                None => format!("profile {name}"),
                Some(path) => path.display().to_string(),
            };
            format!("{place}: {} at {addr}, until {end}", certified.identity)
        })
    }

    fn text(&self) -> Result<SecretText, Failure> {
        match self.string.as_deref() {
            Some("-") => prompt::standard_input(true),
            Some(text) => {
                eprintln!(
                    "strongroom: other users of this machine can see the string in the process list; \
                     better: strongroom enroll - < FILE"
                );
                Ok(SecretText::from(text))
            }
            None => prompt::asked("Enrolment string: ", "pipe it in: strongroom enroll - < FILE"),
        }
    }
}

/// What to try if there is already a bundle.
const TAKEN: &str = "to put the new certificate in its place: strongroom enroll - --replace";

fn has_content(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

fn room_at(path: &PathBuf, replace: bool) -> Result<Folder, Failure> {
    let taken = has_content(path);
    // Only a bundle may be replaced by a bundle. Anything else in the folder is somebody's own.
    let bundle = path.join("profile.toml").exists();
    if path.is_file() || taken && !(bundle && replace) {
        let hint = if bundle { TAKEN } else { "choose a new folder" };
        return Err(Failure::usage(format!("{} already exists", path.display()), hint));
    }
    // Without trailing dots, so that temporary files are placed beside it.
    let absolute = std::path::absolute(path)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display()), "check the path"))?;
    let around = absolute.parent().filter(|around| around.is_dir() && absolute.file_name().is_some());
    if around.is_none() {
        return Err(Failure::usage(
            format!("the parent folder of {} does not exist", path.display()),
            "create it first",
        ));
    }
    Ok(Folder::at(absolute))
}

/// Address of the vault: the one that it names, or the default port on the host of the enrolment listener.
fn address(said: &[String], enrolment: &[String]) -> String {
    if let Some(first) = said.first() {
        return format!("https://{first}");
    }
    let host = enrolment.first().and_then(|address| split_address(address)).map_or("localhost", |(host, _)| host);
    if host.contains(':') {
        format!("https://[{host}]:{DEFAULT_PORT}")
    } else {
        format!("https://{host}:{DEFAULT_PORT}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_what_the_vault_says() {
        let enrolment = ["[::1]:8202".to_owned()];
        assert_eq!(address(&["a:1".into(), "b:2".into()], &enrolment), "https://a:1");
        assert_eq!(address(&[], &enrolment), "https://[::1]:8200");
        assert_eq!(address(&[], &["a.example:9".into()]), "https://a.example:8200");
    }

    #[test]
    fn a_folder_in_use_is_not_taken() {
        let home = tempfile::tempdir().unwrap();
        assert!(room_at(&home.path().to_owned(), false).is_ok(), "empty");
        assert!(room_at(&home.path().join("new/"), false).unwrap().path().ends_with("new"));
        assert!(room_at(&home.path().join("no/where"), false).is_err());
        std::fs::write(home.path().join("file"), "").unwrap();
        for replace in [false, true] {
            assert!(room_at(&home.path().to_owned(), replace).is_err(), "no bundle");
            assert!(room_at(&home.path().join("file"), replace).is_err());
        }
        std::fs::write(home.path().join("profile.toml"), "").unwrap();
        assert!(room_at(&home.path().to_owned(), false).is_err());
        assert!(room_at(&home.path().to_owned(), true).is_ok());
    }
}
