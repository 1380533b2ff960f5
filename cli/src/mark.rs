//! The newest state seen of each vault, kept between runs. A vault that shows an older one was rolled back.
//!
//! One small file per vault below `$XDG_STATE_HOME/strongroom`, named by a digest of the vault's CA certificate.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

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
        let bytes = fs::read(self.0.as_ref()?).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Replaces the saved state with a later one. A long-running command must not restore the older state that it
    /// started with. Writes a temporary file and renames it, so that two concurrent runs leave a complete file.
    pub fn write(&self, mark: &Mark) {
        let Some(path) = &self.0 else { return };
        if self.read().is_some_and(|kept| !mark.is_later_than(&kept)) {
            return;
        }
        let Some(folder) = path.parent() else { return };
        if fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).is_err() {
            return;
        }
        let aside = path.with_extension(format!("{}.new", std::process::id()));
        let Ok(bytes) = serde_json::to_vec(mark) else { return };
        let written = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside);
        let written = written.and_then(|mut file| file.write_all(&bytes));
        if written.and_then(|()| fs::rename(&aside, path)).is_err() {
            let _ = fs::remove_file(&aside);
        }
    }
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
}
