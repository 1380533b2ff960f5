//! A bundle on disk: `profile.toml`, `ca.pem`, `cert.pem` and `key.pem`, replaced all at once.
//!
//! ```text
//! FOLDER/v7/{profile.toml,ca.pem,cert.pem,key.pem}
//! FOLDER/current -> v7                 replaced by one rename: the moment in which all four change
//! FOLDER/key.pem -> current/key.pem    and the others, for programs that know the names
//! ```
//!
//! A folder without `current`, as written by `profile add` and `strongroomd init`, contains the four files directly. It
//! is converted to this form when its certificate is first renewed.

mod disk;
mod pending;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use strongroom::api::secret::SecretText;

use crate::exit::{Code, Failure};
use crate::files::read_file;
use disk::aside;

pub use disk::Disk;
pub use pending::{Pending, write_new};

const FILES: [&str; 4] = ["profile.toml", "ca.pem", "cert.pem", "key.pem"];

/// A folder that contains a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder(PathBuf);

/// Paths of a bundle's parts, all of the same version. A replacement in the meantime removes these files, but never
/// mixes versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Address of the vault.
    pub addr: String,
    /// Addresses of the enrolment listener, each `host:port`; may be empty.
    pub enroll: Vec<String>,
    /// CA certificates.
    pub ca: PathBuf,
    /// The client's certificate.
    pub cert: PathBuf,
    /// The client's key.
    pub key: PathBuf,
}

/// The content of a bundle.
pub struct Content<'a> {
    /// Address of the vault.
    pub addr: &'a str,
    /// Addresses of the enrolment listener.
    pub enroll: &'a [String],
    /// CA certificates, PEM.
    pub ca: &'a [u8],
    /// The client's certificate, PEM.
    pub cert: &'a [u8],
    /// The client's key, PEM.
    pub key: &'a SecretText,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileFile {
    addr: String,
    #[serde(default)]
    enroll: Vec<String>,
}

/// Locks a folder for one change at a time. Dropping this unlocks it.
pub struct Held {
    _file: fs::File,
}

impl Folder {
    /// The folder `path`, which need not exist yet.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The current files.
    ///
    /// # Errors
    /// `profile.toml` is missing or cannot be parsed.
    pub fn files(&self) -> Result<Files, Failure> {
        let folder = match self.version() {
            Some(version) => self.0.join(version),
            None => self.0.clone(),
        };
        let path = folder.join("profile.toml");
        let text = read_file(&path)?;
        let text = String::from_utf8_lossy(&text);
        let file: ProfileFile =
            toml::from_str(&text).map_err(|error| Failure::usage(format!("{}: {error}", path.display()), ""))?;
        let at = |name: &str| folder.join(name);
        Ok(Files { addr: file.addr, enroll: file.enroll, ca: at("ca.pem"), cert: at("cert.pem"), key: at("key.pem") })
    }

    /// Whether all four files are there.
    pub fn is_complete(&self) -> bool {
        FILES.iter().all(|name| self.0.join(name).exists())
    }

    /// Waits until no other process is changing the bundle.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn hold(&self) -> Result<Held, Failure> {
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).open(self.0.join(".lock"));
        let file = file.map_err(|error| failed(&self.0, &error))?;
        file.lock().map_err(|error| failed(&self.0, &error))?;
        Ok(Held { _file: file })
    }

    /// Creates the folder with its first bundle in one step.
    ///
    /// # Errors
    /// The folder exists and is not empty, or it cannot be written.
    pub fn create(&self, content: &Content<'_>) -> Result<(), Failure> {
        self.create_on(content, &mut Disk::probed(&mut || Ok(()))).map_err(|error| failed(&self.0, &error))
    }

    /// Replaces the bundle. At any moment, even after a kill, the folder contains the complete old bundle or the
    /// complete new one.
    ///
    /// # Errors
    /// The new bundle cannot be written. The old one is still in effect then.
    pub fn replace(&self, _held: &Held, content: &Content<'_>) -> Result<(), Failure> {
        self.replace_on(content, &mut Disk::probed(&mut || Ok(()))).map_err(|error| failed(&self.0, &error))
    }

    fn create_on(&self, content: &Content<'_>, disk: &mut Disk<'_>) -> io::Result<()> {
        let new = aside(&self.0);
        disk.fresh_folder(&new)?;
        let version = new.join("v1");
        disk.fresh_folder(&version)?;
        write(&version, content, disk)?;
        disk.link("v1", &new.join("current"))?;
        for name in FILES {
            disk.link(&format!("current/{name}"), &new.join(name))?;
        }
        // Fails if the folder is not empty, so nothing is ever overwritten.
        disk.rename(&new, &self.0)
    }

    fn replace_on(&self, content: &Content<'_>, disk: &mut Disk<'_>) -> io::Result<()> {
        let old = match self.version() {
            Some(version) => version,
            None => self.give_version(disk)?,
        };
        // Completes an interrupted conversion to this form, before anything else is changed.
        for name in FILES {
            let path = self.0.join(name);
            if !fs::symlink_metadata(&path).is_ok_and(|found| found.is_symlink()) {
                disk.link(&format!("current/{name}"), &path)?;
            }
        }
        let number = old.strip_prefix('v').and_then(|digits| digits.parse::<u64>().ok()).unwrap_or(0);
        let new = format!("v{}", number.saturating_add(1));
        let (path, making) = (self.0.join(&new), aside(&self.0.join(&new)));
        disk.fresh_folder(&making)?;
        write(&making, content, disk)?;
        disk.remove(&path)?; // written completely by an attempt that ended before it took effect
        disk.rename(&making, &path)?;
        disk.link(&new, &self.0.join("current"))?;
        self.remove_others(&new, disk)
    }

    /// Copies a bundle of the old form to its place in the new form. Readers notice nothing.
    fn give_version(&self, disk: &mut Disk<'_>) -> io::Result<String> {
        let (path, making) = (self.0.join("v1"), aside(&self.0.join("v1")));
        disk.fresh_folder(&making)?;
        for name in FILES {
            match fs::read(self.0.join(name)).map(zeroize::Zeroizing::new) {
                Ok(bytes) => disk.write(&making.join(name), &bytes)?,
                // A lost key must not prevent its replacement.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        disk.sync(&making)?;
        disk.remove(&path)?;
        disk.rename(&making, &path)?;
        disk.link("v1", &self.0.join("current"))?;
        Ok("v1".to_owned())
    }

    fn remove_others(&self, kept: &str, disk: &mut Disk<'_>) -> io::Result<()> {
        for entry in fs::read_dir(&self.0)?.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            if name != kept && (is_version(name) || name.starts_with(".v") && name.ends_with(".new")) {
                disk.remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes the bundle, its keys first, and then the folder if nothing else is in it.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn remove_on(&self, disk: &mut Disk<'_>) -> io::Result<()> {
        let entries: Vec<PathBuf> = fs::read_dir(&self.0)?.flatten().map(|entry| entry.path()).collect();
        let named = |path: &Path, ours: fn(&str) -> bool| path.file_name().and_then(OsStr::to_str).is_some_and(ours);
        let versions = entries.iter().filter(|path| named(path, is_version));
        for key in versions.map(|version| version.join("key.pem")).chain([self.0.join("key.pem")]) {
            disk.remove(&key)?;
        }
        let ours = |name: &str| FILES.contains(&name) || is_version(name) || matches!(name, "current" | ".lock");
        for path in entries.iter().filter(|path| named(path, ours)) {
            disk.remove(path)?;
        }
        if fs::read_dir(&self.0)?.next().is_none() { disk.remove(&self.0) } else { Ok(()) }
    }

    /// Name of the current version; `None` in a folder of the old form.
    fn version(&self) -> Option<String> {
        let target = fs::read_link(self.0.join("current")).ok()?;
        target.to_str().filter(|name| is_version(name)).map(str::to_owned)
    }
}

fn is_version(name: &str) -> bool {
    name.strip_prefix('v').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
        && Path::new(name).file_name() == Some(OsStr::new(name))
}

fn write(folder: &Path, content: &Content<'_>, disk: &mut Disk<'_>) -> io::Result<()> {
    disk.write(&folder.join("profile.toml"), profile_text(content.addr, content.enroll).as_bytes())?;
    disk.write(&folder.join("ca.pem"), content.ca)?;
    disk.write(&folder.join("cert.pem"), content.cert)?;
    disk.write(&folder.join("key.pem"), content.key.reveal().as_bytes())?;
    disk.sync(folder)
}

/// Builds the content of `profile.toml`.
pub fn profile_text(addr: &str, enroll: &[String]) -> String {
    let mut text = format!("addr = {}\n", toml::Value::String(addr.to_owned()));
    if !enroll.is_empty() {
        let list: Vec<toml::Value> = enroll.iter().cloned().map(toml::Value::String).collect();
        text.push_str(&format!("enroll = {}\n", toml::Value::Array(list)));
    }
    text
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Code::Refused,
        format!("{}: {error}", path.display()),
        "check the permissions and the free space there",
    )
}

#[cfg(test)]
mod tests;
