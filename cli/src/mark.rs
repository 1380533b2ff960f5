//! The newest state seen of each vault, kept between runs. A vault that shows an older one was rolled back.
//!
//! One small file per vault below `$XDG_STATE_HOME/strongroom`, named by a digest of the vault's CA certificate.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use strongroom::api::mark::Mark;

use crate::environment::Lookup;

/// Where the state of one vault is kept; nowhere if there is no home folder.
pub struct MarkFile(Option<PathBuf>);

impl MarkFile {
    /// The file for the vault whose CA certificate is `ca_pem`.
    pub fn of_vault(env: Lookup<'_>, ca_pem: &[u8]) -> Self {
        let state = env("XDG_STATE_HOME").map(PathBuf::from);
        let state = state.or_else(|| env("HOME").map(|home| PathBuf::from(home).join(".local/state")));
        Self(state.map(|state| state.join("strongroom").join(format!("{:016x}.mark", name_of(ca_pem)))))
    }

    /// The saved state, if there is one and it can be parsed.
    pub fn read(&self) -> Option<Mark> {
        self.load().ok().flatten()
    }

    /// What to tell a user whose saved state cannot be read: a rollback since then is not noticed.
    pub fn warning(&self) -> Option<String> {
        let (path, problem) = (self.0.as_ref()?, self.load().err()?);
        Some(format!(
            "the newest state seen of this vault cannot be read from {} ({problem}): if the vault was rolled back since then, that is \
             not noticed",
            path.display()
        ))
    }

    /// Why nothing can be kept, in words for a user.
    pub fn not_kept(&self) -> Option<String> {
        match &self.0 {
            None => Some("there is no state folder: neither XDG_STATE_HOME nor HOME is set".to_owned()),
            Some(path) => {
                let error = folder_of(path).and_then(|_| aside(path)).err()?;
                Some(format!("the state folder cannot be written: {}: {error}", path.display()))
            }
        }
    }

    fn load(&self) -> io::Result<Option<Mark>> {
        let Some(path) = &self.0 else { return Ok(None) };
        match fs::read(path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the saved state by a later one. A long-running command must not restore the older state that it started
    /// with. If saving fails, only this memory is lost.
    pub fn write(&self, mark: &Mark) {
        if let Some(path) = &self.0
            && self.is_behind(mark)
        {
            let _ = self.replace(path, mark);
        }
    }

    fn is_behind(&self, mark: &Mark) -> bool {
        self.read().is_none_or(|kept| mark.is_later_than(&kept))
    }

    /// After a kill or a power cut, there is the old state or the new one.
    fn replace(&self, path: &Path, mark: &Mark) -> io::Result<()> {
        let folder = File::open(folder_of(path)?)?;
        // Between the comparison and the renaming, another command must not do the same with a later mark. Without
        // locks on this file system, the file is complete all the same.
        let _ = folder.lock();
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
    fn without_a_home_nothing_is_kept() {
        let file = MarkFile::of_vault(&|_| None, b"ca");
        file.write(&Mark { epoch: 1, incarnation: String::new(), generation: 1 });
        assert!(file.read().is_none());
    }

    #[test]
    fn two_threads_that_write_leave_the_later_state_and_never_a_torn_one() {
        let folder = tempfile::tempdir().unwrap();
        let env = |name: &str| (name == "XDG_STATE_HOME").then(|| folder.path().as_os_str().to_owned());
        let file = MarkFile::of_vault(&env, b"ca");
        // Every other mark is much shorter.
        let incarnation = |n: u64| "ab".repeat(if n.is_multiple_of(2) { 16 } else { 1 });
        let mark = |n: u64| Mark { epoch: 1, incarnation: incarnation(n), generation: n };
        std::thread::scope(|scope| {
            for first in [0, 1] {
                let file = &file;
                scope.spawn(move || {
                    for n in 0..150 {
                        file.write(&mark(2 * n + first));
                        let kept = file.read().expect("never torn");
                        assert!(!mark(2 * n + first).is_later_than(&kept), "{kept:?}");
                    }
                });
            }
        });
        assert_eq!(file.read(), Some(mark(299)));
        assert_eq!(fs::read_dir(folder.path().join("strongroom")).unwrap().count(), 1, "nothing is left aside");
    }

    #[test]
    fn a_file_that_cannot_be_parsed_is_named_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let env = |name: &str| (name == "XDG_STATE_HOME").then(|| folder.path().as_os_str().to_owned());
        let file = MarkFile::of_vault(&env, b"ca");
        assert_eq!((file.warning(), file.not_kept()), (None, None), "never seen");
        let mark = Mark { epoch: 1, incarnation: "ab".repeat(16), generation: 7 };
        file.write(&mark);
        assert_eq!(file.warning(), None);
        let path = file.0.as_ref().unwrap();
        for torn in ["", "{\"epoch\":1,"] {
            fs::write(path, torn).unwrap();
            assert_eq!(file.read(), None);
            let warning = file.warning().unwrap();
            assert!(warning.contains(&*path.to_string_lossy()) && warning.contains("rolled back"), "{warning}");
        }
        file.write(&mark);
        assert_eq!((file.read(), file.warning()), (Some(mark), None));
    }

    #[test]
    fn says_why_nothing_is_kept() {
        assert!(MarkFile::of_vault(&|_| None, b"ca").not_kept().unwrap().contains("neither XDG_STATE_HOME nor HOME"));
        let env = |name: &str| (name == "HOME").then(|| "/dev/null".into());
        let problem = MarkFile::of_vault(&env, b"ca").not_kept().unwrap();
        assert!(problem.contains("/dev/null/.local/state/strongroom/"), "{problem}");
    }
}
