//! The newest state seen of each vault, kept between runs. A vault that shows an older one was rolled back.
//!
//! One small file per vault below `$XDG_STATE_HOME/strongroom`, named by a digest of the vault's CA certificate.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use strongroom::api::mark::Mark;

use crate::environment::Lookup;

/// What this process has seen of each vault. All its connections know it, those of a renewal too, whether or not it can be
/// kept in a file.
static SEEN: Mutex<BTreeMap<u64, Mark>> = Mutex::new(BTreeMap::new());
/// Longest wait for another command that saves its state. It must not hold up a program that is about to start.
const PATIENCE: Duration = Duration::from_millis(100);
/// Age at which a file that a killed command has left is removed.
const LEFT_OVER: Duration = Duration::from_secs(60);

/// Where the state of one vault is kept: in this process, and in a file if there is a home folder.
pub struct MarkFile {
    vault: u64,
    path: Option<PathBuf>,
}

impl MarkFile {
    /// The file for the vault whose CA certificate is `ca_pem`.
    pub fn of_vault(env: Lookup<'_>, ca_pem: &[u8]) -> Self {
        let state = env("XDG_STATE_HOME").map(PathBuf::from);
        let state = state.or_else(|| env("HOME").map(|home| PathBuf::from(home).join(".local/state")));
        let vault = name_of(ca_pem);
        let path = state.map(|state| state.join("strongroom").join(format!("{vault:016x}.mark")));
        Self { vault, path }
    }

    /// The newest state that this process has seen, or an earlier one has saved in a file that can be parsed.
    pub fn read(&self) -> Option<Mark> {
        let seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner).get(&self.vault).cloned();
        let saved = self.load().ok().flatten();
        match (seen, saved) {
            (Some(seen), Some(saved)) => Some(if saved.is_later_than(&seen) { saved } else { seen }),
            (seen, saved) => seen.or(saved),
        }
    }

    /// What to tell a user whose saved state cannot be read: a rollback since then is not noticed.
    pub fn warning(&self) -> Option<String> {
        let (path, problem) = (self.path.as_ref()?, self.load().err()?);
        Some(format!(
            "the newest state seen of this vault cannot be read from {} ({problem}): if the vault was rolled back since then, that is \
             not noticed",
            path.display()
        ))
    }

    /// Why nothing can be kept, in words for a user.
    pub fn not_kept(&self) -> Option<String> {
        match &self.path {
            None => Some("there is no state folder: neither XDG_STATE_HOME nor HOME is set".to_owned()),
            Some(path) => {
                let error = folder_of(path).and_then(|_| aside(path)).err()?;
                Some(format!("the state folder cannot be written: {}: {error}", path.display()))
            }
        }
    }

    fn load(&self) -> io::Result<Option<Mark>> {
        let Some(path) = &self.path else { return Ok(None) };
        match fs::read(path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the saved state by a later one. A long-running command must not restore the older state that it started
    /// with. If saving fails, only this memory is lost.
    pub fn write(&self, mark: &Mark) {
        let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.get(&self.vault).is_none_or(|seen| mark.is_later_than(seen)) {
            seen.insert(self.vault, mark.clone());
        }
        drop(seen);
        if let Some(path) = &self.path
            && self.is_behind(mark)
        {
            let _ = self.replace(path, mark);
        }
    }

    fn is_behind(&self, mark: &Mark) -> bool {
        self.load().ok().flatten().is_none_or(|kept| mark.is_later_than(&kept))
    }

    /// After a kill or a power cut, there is the old state or the new one.
    fn replace(&self, path: &Path, mark: &Mark) -> io::Result<()> {
        let folder = folder_of(path)?;
        // Between the comparison and the renaming, another command must not do the same with a later mark. Without locks
        // on this file system, the file is complete all the same.
        let lock = File::open(folder)?;
        if locked(&lock) {
            remove_left_over(folder);
        }
        if !self.is_behind(mark) {
            return Ok(());
        }
        let (mut file, aside) = aside(path)?;
        let bytes = serde_json::to_vec(mark)?;
        file.write_all(&bytes).and_then(|()| file.sync_all())?;
        fs::rename(&aside.0, path)
    }
}

/// A new file; removed unless it was renamed.
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Makes a file of its own for each writer: other commands and other threads of this one write at the same time.
fn aside(path: &Path) -> io::Result<(File, Aside)> {
    let mut random = [0; 8];
    #[allow(clippy::disallowed_methods)] // the real process, not the library
    let filled = getrandom::fill(&mut random);
    filled.map_err(io::Error::other)?;
    let aside = path.with_extension(format!("{:016x}.new", u64::from_ne_bytes(random)));
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    Ok((file, Aside(aside)))
}

/// Waits a moment for the lock, which ends with the file.
fn locked(file: &File) -> bool {
    const PAUSE: Duration = Duration::from_millis(5);
    let mut tries = PATIENCE.as_millis() / PAUSE.as_millis();
    loop {
        match file.try_lock() {
            Ok(()) => return true,
            Err(fs::TryLockError::WouldBlock) if tries > 0 => {
                tries -= 1;
                std::thread::sleep(PAUSE);
            }
            Err(_) => return false,
        }
    }
}

/// Removes the files of commands that were killed while they wrote.
fn remove_left_over(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let age = entry.metadata().and_then(|data| data.modified()).ok().and_then(|at| at.elapsed().ok());
        if entry.path().extension().is_some_and(|end| end == "new") && age.is_some_and(|age| age > LEFT_OVER) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The folder of the file, which is made if it is not there.
fn folder_of(path: &Path) -> io::Result<&Path> {
    let folder = path.parent().ok_or(io::ErrorKind::NotFound)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    Ok(folder)
}

/// FNV-1a, which only has to distinguish one user's vaults.
fn name_of(ca_pem: &[u8]) -> u64 {
    ca_pem.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_kept_per_vault() {
        let folder = tempfile::tempdir().unwrap();
        let env = |name: &str| (name == "XDG_STATE_HOME").then(|| folder.path().as_os_str().to_owned());
        let (one, other) = (MarkFile::of_vault(&env, b"ca one"), MarkFile::of_vault(&env, b"ca two"));
        assert!(one.read().is_none());
        let mark = Mark { epoch: 1, incarnation: "ab".repeat(16), generation: 7 };
        one.write(&mark);
        assert_eq!(one.read(), Some(mark));
        assert!(other.read().is_none());
        let later = Mark { generation: 8, ..one.read().unwrap() };
        one.write(&later);
        one.write(&Mark { generation: 7, ..later.clone() });
        assert_eq!(one.read(), Some(later), "a command that began earlier does not put its mark back");
        assert_eq!(fs::read_dir(folder.path().join("strongroom")).unwrap().count(), 1, "nothing is left aside");
    }

    #[test]
    fn without_a_home_every_connection_of_this_process_knows_the_state() {
        let file = MarkFile::of_vault(&|_| None, b"ca of a service");
        let mark = |generation| Mark { epoch: 1, incarnation: "ab".repeat(16), generation };
        file.write(&mark(7));
        file.write(&mark(6));
        assert!(file.load().unwrap().is_none());
        assert_eq!(
            MarkFile::of_vault(&|_| None, b"ca of a service").read(),
            Some(mark(7)),
            "that of a renewal, for one"
        );
        assert!(MarkFile::of_vault(&|_| None, b"ca of another vault").read().is_none());
    }

    #[test]
    fn what_a_killed_command_has_left_is_removed_and_what_another_one_writes_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let env = |name: &str| (name == "XDG_STATE_HOME").then(|| folder.path().as_os_str().to_owned());
        let (own, file) = (folder.path().join("strongroom"), MarkFile::of_vault(&env, b"ca left over"));
        fs::create_dir(&own).unwrap();
        for (name, age) in [("a.new", 120), ("b.new", 0), ("c.mark", 120)] {
            let made = File::create(own.join(name)).unwrap();
            made.set_modified(made.metadata().unwrap().modified().unwrap() - Duration::from_secs(age)).unwrap();
        }
        // Another command holds the lock: this one saves its state and removes nothing.
        let other = File::open(&own).unwrap();
        other.lock().unwrap();
        let mark = |generation| Mark { epoch: 1, incarnation: "ab".repeat(16), generation };
        file.write(&mark(1));
        assert_eq!((file.load().unwrap(), own.join("a.new").exists()), (Some(mark(1)), true));
        drop(other);
        file.write(&mark(2));
        assert_eq!(["a.new", "b.new", "c.mark"].map(|name| own.join(name).exists()), [false, true, true]);
    }

    #[test]
    fn two_threads_that_write_leave_the_later_state_and_never_a_torn_one() {
        let folder = tempfile::tempdir().unwrap();
        let env = |name: &str| (name == "XDG_STATE_HOME").then(|| folder.path().as_os_str().to_owned());
        let file = MarkFile::of_vault(&env, b"ca of two threads");
        // Every other mark is much shorter.
        let incarnation = |n: u64| "ab".repeat(if n.is_multiple_of(2) { 16 } else { 1 });
        let mark = |n: u64| Mark { epoch: 1, incarnation: incarnation(n), generation: n };
        std::thread::scope(|scope| {
            for first in [0, 1] {
                let file = &file;
                scope.spawn(move || {
                    for n in 0..150 {
                        file.write(&mark(2 * n + first));
                        let kept = file.load().expect("never torn").expect("there");
                        assert!(!mark(2 * n + first).is_later_than(&kept), "{kept:?}");
                    }
                });
            }
        });
        assert_eq!(file.load().unwrap(), Some(mark(299)));
        assert_eq!(fs::read_dir(folder.path().join("strongroom")).unwrap().count(), 1, "nothing is left aside");
    }

    #[test]
    fn a_file_that_cannot_be_parsed_is_named_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let env = |name: &str| (name == "XDG_STATE_HOME").then(|| folder.path().as_os_str().to_owned());
        let file = MarkFile::of_vault(&env, b"ca of a torn file");
        assert_eq!((file.warning(), file.not_kept()), (None, None), "never seen");
        let mark = Mark { epoch: 1, incarnation: "ab".repeat(16), generation: 7 };
        file.write(&mark);
        assert_eq!(file.warning(), None);
        let path = file.path.as_ref().unwrap();
        for torn in ["", "{\"epoch\":1,"] {
            fs::write(path, torn).unwrap();
            assert!(file.load().is_err());
            let warning = file.warning().unwrap();
            assert!(warning.contains(&*path.to_string_lossy()) && warning.contains("rolled back"), "{warning}");
        }
        file.write(&mark);
        assert_eq!((file.load().unwrap(), file.warning()), (Some(mark), None));
    }

    #[test]
    fn says_why_nothing_is_kept() {
        assert!(MarkFile::of_vault(&|_| None, b"ca").not_kept().unwrap().contains("neither XDG_STATE_HOME nor HOME"));
        let env = |name: &str| (name == "HOME").then(|| "/dev/null".into());
        let problem = MarkFile::of_vault(&env, b"ca").not_kept().unwrap();
        assert!(problem.contains("/dev/null/.local/state/strongroom/"), "{problem}");
    }
}
