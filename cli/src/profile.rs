//! Profiles: named addresses with a certificate.
//!
//! Each is a bundle in `$XDG_CONFIG_HOME/strongroom/profiles/NAME`. The file `current` beside `profiles` names the one
//! in use.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use strongroom::client::check_address;

use crate::bundle::{Disk, Files, Folder, profile_text};
use crate::environment::Lookup;
use crate::exit::{Code, Failure};
use crate::files::read_file;

/// The folder with all profiles.
pub struct Profiles(PathBuf);

impl Profiles {
    /// The folder below `$XDG_CONFIG_HOME`, or `~/.config`.
    ///
    /// # Errors
    /// Neither variable is set.
    pub fn locate(env: Lookup<'_>) -> Result<Self, Failure> {
        let base = env("XDG_CONFIG_HOME").map(PathBuf::from);
        let base = base.or_else(|| env("HOME").map(|home| PathBuf::from(home).join(".config")));
        // Without a home folder there are no profiles, and flags or variables must provide everything.
        Ok(Self(base.unwrap_or_else(|| PathBuf::from("/nonexistent")).join("strongroom")))
    }

    /// Profiles in `folder`.
    #[cfg(test)]
    pub fn at(folder: PathBuf) -> Self {
        Self(folder)
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.0.join("profiles").join(name)
    }

    /// The folder for the new profile `name`, with the folders above it. `hint` says what to try if the profile exists.
    ///
    /// # Errors
    /// The name is taken or not allowed, or the folders above cannot be created.
    pub fn room_for(&self, name: &str, hint: &str) -> Result<Folder, Failure> {
        check_name(name)?;
        if self.folder(name).exists() {
            return Err(Failure::usage(format!("profile {name:?} exists"), hint));
        }
        self.place_for(name)
    }

    /// The folder of the profile `name`, whether it exists or not, with the folders above it.
    ///
    /// # Errors
    /// The name is not allowed, or the folders above cannot be created.
    pub fn place_for(&self, name: &str) -> Result<Folder, Failure> {
        check_name(name)?;
        let around = self.0.join("profiles");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&around).map_err(writing)?;
        Ok(Folder::at(self.folder(name)))
    }

    /// The folder of the profile named by `chosen`, or of the one in use.
    ///
    /// # Errors
    /// There is no such profile.
    pub fn folder_of(&self, chosen: Option<&str>) -> Result<Option<Folder>, Failure> {
        let Some(name) = chosen.map(str::to_owned).or_else(|| self.current_name()) else { return Ok(None) };
        check_name(&name)?;
        let folder = self.folder(&name);
        if !folder.is_dir() {
            let hint = "list them: strongroom profile list; add one: strongroom profile add NAME --bundle DIR";
            return Err(Failure::usage(format!("no profile {name:?}"), hint));
        }
        Ok(Some(Folder::at(folder)))
    }

    /// The profile `name`.
    ///
    /// # Errors
    /// There is no such profile, or its file cannot be parsed.
    pub fn named(&self, name: &str) -> Result<Files, Failure> {
        match self.folder_of(Some(name))? {
            Some(folder) => folder.files(),
            None => Err(Failure::usage(format!("no profile {name:?}"), "")),
        }
    }

    /// The profile in use: the chosen one, or the only one.
    #[cfg(test)]
    pub fn current(&self) -> Result<Option<Files>, Failure> {
        self.current_name().map(|name| self.named(&name)).transpose()
    }

    /// Name of the profile in use.
    pub fn current_name(&self) -> Option<String> {
        let chosen = fs::read_to_string(self.0.join("current")).ok().map(|text| text.trim().to_owned());
        chosen.filter(|name| check_name(name).is_ok() && self.folder(name).is_dir()).or_else(|| {
            let names = self.names();
            if let [only] = names.as_slice() { Some(only.clone()) } else { None }
        })
    }

    /// All names, sorted.
    pub fn names(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.0.join("profiles")) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|name| check_name(name).is_ok());
        names.sort();
        names
    }

    /// Copies a bundle (as written by `strongroomd init`) into a new profile, or moves it. `addr` overrides the bundle's
    /// address. At every moment, and after a kill at any moment, the bundle or the profile is complete.
    ///
    /// # Errors
    /// The name is taken or not allowed, or the bundle is incomplete. If a moved bundle cannot be removed, the profile is
    /// there already.
    pub fn add(&self, name: &str, bundle: &Path, addr: Option<&str>, moves: bool) -> Result<Files, Failure> {
        self.add_on(name, bundle, addr, moves, &mut Disk::probed(&mut || Ok(())))
    }

    fn add_on(
        &self,
        name: &str,
        bundle: &Path,
        addr: Option<&str>,
        moves: bool,
        disk: &mut Disk<'_>,
    ) -> Result<Files, Failure> {
        let target =
            self.room_for(name, &format!("choose another name, or look at it first: strongroom profile show {name}"))?;
        // A folder with only certificates has no such file, and needs none if the address is given.
        let source = Folder::at(bundle.to_owned());
        let described = source.files();
        let (addr, enroll) = match (addr, described) {
            (None, described) => described.map(|files| (files.addr, files.enroll))?,
            (Some(addr), described) => (addr.to_owned(), described.map(|files| files.enroll).unwrap_or_default()),
        };
        // Before anything is written: a moved bundle may hold the only copy of the key.
        check_address(&addr)?;
        let aside = self.0.join("profiles").join(format!(".{name}.new"));
        disk.fresh_folder(&aside).map_err(writing)?;
        for file in ["ca.pem", "cert.pem", "key.pem"] {
            disk.write(&aside.join(file), &read_file(&bundle.join(file))?).map_err(writing)?;
        }
        let text = profile_text(&addr, &enroll);
        disk.write(&aside.join("profile.toml"), text.as_bytes()).map_err(writing)?;
        disk.sync(&aside).map_err(writing)?;
        disk.rename(&aside, target.path()).map_err(writing)?;
        if moves {
            source.remove_on(disk).map_err(|error| {
                Failure::new(
                    Code::Refused,
                    format!("profile {name:?} was created, but the bundle could not be removed: {error}"),
                    format!("remove it: rm -r {}", bundle.display()),
                )
            })?;
        }
        target.files()
    }

    /// Error for a command that needs a profile when none is selected.
    pub fn none_in_use(&self) -> Failure {
        let names = self.names();
        match names.as_slice() {
            [] => Failure::usage(
                "there is no profile",
                "create one: strongroom profile add NAME --bundle DIR, or strongroom enroll",
            ),
            names => Failure::usage(
                format!("no profile is selected; there are: {}", names.join(", ")),
                "choose one: strongroom profile use NAME, or for one command: --profile NAME",
            ),
        }
    }

    /// Makes `name` the profile in use.
    ///
    /// # Errors
    /// There is no such profile, or the choice cannot be written.
    pub fn choose(&self, name: &str) -> Result<(), Failure> {
        self.named(name)?;
        fs::write(self.0.join("current"), name)
            .map_err(|error| Failure::new(Code::Refused, format!("writing the choice: {error}"), ""))
    }

    /// Removes `name` with its certificate and key.
    ///
    /// # Errors
    /// There is no such profile, or it cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), Failure> {
        self.named(name)?;
        fs::remove_dir_all(self.folder(name))
            .map_err(|error| Failure::new(Code::Refused, format!("removing the profile: {error}"), ""))
    }
}

fn writing(error: std::io::Error) -> Failure {
    Failure::new(Code::Refused, format!("writing the profile: {error}"), "")
}

fn check_name(name: &str) -> Result<(), Failure> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if name.is_empty()
        || name.starts_with('.')
        || !name.bytes().all(legal)
        || Path::new(name).file_name() != Some(OsStr::new(name))
    {
        return Err(Failure::usage(format!("{name:?} is not a valid profile name"), "use letters, digits, _ - ."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_becomes_a_profile_and_the_only_one_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path().join("bundle");
        fs::create_dir(&bundle).unwrap();
        for file in ["ca.pem", "cert.pem", "key.pem"] {
            fs::write(bundle.join(file), file).unwrap();
        }
        fs::write(bundle.join("profile.toml"), "addr = \"https://a:1\"\nenroll = [\"a:2\"]\n").unwrap();
        let profiles = Profiles::at(folder.path().join("config"));
        assert!(profiles.current().unwrap().is_none());
        let added = profiles.add("prod", &bundle, None, false).unwrap();
        assert_eq!(added.enroll, ["a:2"]);
        assert_eq!(profiles.current().unwrap(), Some(added));
        let wrong = profiles.add("dev", &bundle, Some("http://b:2"), true).unwrap_err();
        assert!(wrong.message.contains("https://"), "{}", wrong.message);
        assert!(bundle.join("key.pem").exists() && profiles.names() == ["prod"], "nothing was moved");
        profiles.add("dev", &bundle, Some("https://b:2"), false).unwrap();
        assert!(profiles.current().unwrap().is_none(), "two profiles and no choice");
        assert!(profiles.none_in_use().message.ends_with("dev, prod"));
        profiles.choose("dev").unwrap();
        assert_eq!(profiles.current().unwrap().unwrap().addr, "https://b:2");
        assert!(profiles.add("dev", &bundle, None, false).is_err());
        profiles.remove("dev").unwrap();
        assert_eq!(profiles.names(), ["prod"]);
        for bad in ["", ".", "..", "a/b", ".hidden", "a b"] {
            assert!(profiles.named(bad).is_err(), "{bad:?}");
        }
        let mode =
            std::os::unix::fs::MetadataExt::mode(&fs::metadata(profiles.folder("prod").join("key.pem")).unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }
    #[test]
    fn a_key_that_is_moved_is_always_in_a_complete_bundle() {
        for step in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let bundle = folder.path().join("bundle");
            fs::create_dir(&bundle).unwrap();
            for file in ["ca.pem", "cert.pem", "key.pem"] {
                fs::write(bundle.join(file), file).unwrap();
            }
            fs::write(bundle.join("profile.toml"), "addr = \"https://a:1\"\n").unwrap();
            let profiles = Profiles::at(folder.path().join("config"));
            let mut left = step;
            let mut probe = || {
                left -= 1;
                if left < 0 { Err(std::io::Error::other("killed")) } else { Ok(()) }
            };
            let done = profiles.add_on("prod", &bundle, None, true, &mut Disk::probed(&mut probe)).is_ok();
            let complete = |folder: &Path| {
                let files = ["profile.toml", "ca.pem", "cert.pem", "key.pem"];
                files.iter().all(|file| fs::read(folder.join(file)).is_ok_and(|bytes| !bytes.is_empty()))
            };
            let moved = complete(&profiles.folder("prod"));
            assert!(moved || complete(&bundle), "step {step}");
            assert_eq!(profiles.folder("prod").exists(), moved, "step {step}: half a profile");
            if done {
                assert!(moved && !bundle.exists() && step > 10, "step {step}");
                // A folder with something else in it stays, without the key.
                fs::create_dir(&bundle).unwrap();
                for file in ["ca.pem", "cert.pem", "key.pem", "notes"] {
                    fs::write(bundle.join(file), file).unwrap();
                }
                profiles.add("other", &bundle, Some("https://a:1"), true).unwrap();
                let rest: Vec<_> = fs::read_dir(&bundle).unwrap().flatten().map(|entry| entry.file_name()).collect();
                assert_eq!(rest, ["notes"]);
                return;
            }
        }
    }
}
