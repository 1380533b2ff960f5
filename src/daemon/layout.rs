//! The data folder: where each file is, how a private file is written, and who may read it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Why the data folder cannot be used or written.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// The folder is missing.
    #[error("{path} does not exist; create a vault with: strongroomd init --data {path}")]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// Other users can enter the folder.
    #[error("{path} is open to other users; run: chmod 700 {path}")]
    Permissions {
        /// The folder.
        path: PathBuf,
    },
    /// Other users can read a private file.
    #[error("{path} can be read by other users; run: chmod 600 {path}")]
    FilePermissions {
        /// The file.
        path: PathBuf,
    },
    /// Creating, writing or syncing failed.
    #[error("{action} {path}: {source}")]
    Io {
        /// The step that failed, as in "creating".
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The error of the system call.
        #[source]
        source: std::io::Error,
    },
}

/// Name of the configuration file inside a data folder.
pub const CONFIG_FILE: &str = "strongroom.toml";

/// Folder of `engine` below the data folder. Each engine has its own, so that a migration never touches the old store.
#[must_use]
pub fn store_folder(data: &Path, engine: &str) -> PathBuf {
    data.join("store").join(engine)
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> LayoutError {
    let path = path.to_owned();
    move |source| LayoutError::Io { action, path, source }
}

/// Creates `path` with mode 0700; its parent must exist.
///
/// # Errors
/// The folder exists, or cannot be created.
pub fn create_private_dir(path: &Path) -> Result<(), LayoutError> {
    DirBuilder::new().mode(0o700).create(path).map_err(io("creating", path))
}

/// Writes a new file with mode 0600 (`secret`) or 0644 and syncs it. After a crash the file is absent, partial or
/// complete. The caller makes the whole folder visible with a rename afterwards.
///
/// # Errors
/// The file exists, or cannot be written or synced.
pub fn write_new(path: &Path, bytes: &[u8], secret: bool) -> Result<(), LayoutError> {
    let mode = if secret { 0o600 } else { 0o644 };
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(path).map_err(io("creating", path))?;
    file.write_all(bytes).map_err(io("writing", path))?;
    file.sync_all().map_err(io("syncing", path))
}

/// Replaces the public file `path` (mode 0644) with `bytes`. After a crash it has the old or the new content.
///
/// # Errors
/// The new file cannot be written, synced or renamed. The old one is unchanged then.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), LayoutError> {
    replace_as(path, bytes, false)
}

/// As [`replace`], for a file with mode 0600.
///
/// # Errors
/// As [`replace`].
pub fn replace_private(path: &Path, bytes: &[u8]) -> Result<(), LayoutError> {
    replace_as(path, bytes, true)
}

/// Renames a file in its folder and makes the new name durable.
///
/// # Errors
/// A system call failed.
pub fn rename(from: &Path, to: &Path) -> Result<(), LayoutError> {
    std::fs::rename(from, to).map_err(io("renaming to", to))?;
    sync_dir(&parent(to))
}

/// Removes a file and makes the removal durable.
///
/// # Errors
/// A system call failed.
pub fn remove(path: &Path) -> Result<(), LayoutError> {
    std::fs::remove_file(path).map_err(io("removing", path))?;
    sync_dir(&parent(path))
}

fn replace_as(path: &Path, bytes: &[u8], secret: bool) -> Result<(), LayoutError> {
    let new = staging(path);
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io("removing", &new)(error)),
        _ => {}
    }
    write_new(&new, bytes, secret)?;
    rename(&new, path)
}

/// Makes the names in `path` durable.
///
/// # Errors
/// The folder cannot be opened or synced.
pub fn sync_dir(path: &Path) -> Result<(), LayoutError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(io("syncing", path))
}

/// Renames a finished folder to its final name and makes that durable. This is the last step of every creation.
///
/// # Errors
/// The target exists, or a system call failed.
pub fn publish_dir(from: &Path, to: &Path) -> Result<(), LayoutError> {
    sync_dir(from)?;
    std::fs::rename(from, to).map_err(io("renaming to", to))?;
    sync_dir(&parent(to))
}

/// The folder that contains `path`.
#[must_use]
pub fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Where to build what will become `path`: beside it, with a dot before the name.
#[must_use]
pub fn staging(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    parent(path).join(format!(".{name}.init"))
}

/// Checks that the data folder exists and that only its owner can enter it.
///
/// # Errors
/// [`LayoutError::Missing`] when it does not exist; [`LayoutError::Permissions`] when other users can enter it.
pub fn check_data_dir(path: &Path) -> Result<(), LayoutError> {
    let Ok(metadata) = std::fs::metadata(path) else { return Err(LayoutError::Missing { path: path.to_owned() }) };
    if !metadata.is_dir() {
        return Err(LayoutError::Missing { path: path.to_owned() });
    }
    if metadata.mode() & 0o077 != 0 {
        return Err(LayoutError::Permissions { path: path.to_owned() });
    }
    Ok(())
}

/// Reads a file of at most 1 MiB that only its owner can read.
///
/// # Errors
/// The file cannot be read, is larger, or other users can read it.
pub fn read_private(path: &Path) -> Result<Vec<u8>, LayoutError> {
    let metadata = std::fs::metadata(path).map_err(io("reading", path))?;
    if metadata.mode() & 0o077 != 0 {
        return Err(LayoutError::FilePermissions { path: path.to_owned() });
    }
    read(path)
}

/// Reads a file of at most 1 MiB.
///
/// # Errors
/// The file cannot be read or is larger.
pub fn read(path: &Path) -> Result<Vec<u8>, LayoutError> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io("reading", path))?;
    file.take(MAX_READ_BYTES + 1).read_to_end(&mut bytes).map_err(io("reading", path))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_READ_BYTES {
        return Err(io("reading", path)(std::io::Error::other("larger than 1 MiB")));
    }
    Ok(bytes)
}

const MAX_READ_BYTES: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn private_files_are_private_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        write_new(&path, b"secret", true).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(write_new(&path, b"other", true).is_err());
        assert_eq!(read_private(&path).unwrap(), b"secret");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(read_private(&path), Err(LayoutError::FilePermissions { .. })));
    }

    #[test]
    fn a_data_folder_open_to_others_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        assert!(matches!(check_data_dir(&path), Err(LayoutError::Missing { .. })));
        create_private_dir(&path).unwrap();
        check_data_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o750)).unwrap();
        assert!(matches!(check_data_dir(&path), Err(LayoutError::Permissions { .. })));
    }

    #[test]
    fn publishing_refuses_a_full_target() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join(".v.init"), folder.path().join("v"));
        assert_eq!(staging(&to), from);
        create_private_dir(&from).unwrap();
        create_private_dir(&to).unwrap();
        std::fs::write(to.join("x"), b"").unwrap();
        assert!(publish_dir(&from, &to).is_err());
        std::fs::remove_file(to.join("x")).unwrap();
        publish_dir(&from, &to).unwrap();
        assert!(to.is_dir() && !from.exists());
    }
}
