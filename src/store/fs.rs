//! The few file operations that our own files need, as a trait. It has two implementations: the real file system, and a
//! journal that remembers every write and sync, so that tests can rebuild each disk image that a power cut may leave
//! (`journal.rs`).

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// File operations in one folder. Names are plain file names. Nothing is durable before its sync.
pub trait RawFs: Send + Sync {
    /// Reads the whole file, at most `limit` bytes; `None` if it does not exist.
    ///
    /// # Errors
    /// Any read error except a missing file.
    fn read(&self, name: &str, limit: usize) -> io::Result<Option<Vec<u8>>>;
    /// Creates or truncates a file with this content, mode 0600. Neither the content nor the name is durable yet.
    ///
    /// # Errors
    /// The error of the system call that failed.
    fn create(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Overwrites part of an existing file in place.
    ///
    /// # Errors
    /// The error of the system call that failed.
    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes a file's content durable.
    ///
    /// # Errors
    /// The error of the system call that failed. The content is then unknown.
    fn sync(&self, name: &str) -> io::Result<()>;
    /// Renames a file within the folder and replaces the target.
    ///
    /// # Errors
    /// The error of the system call that failed.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Makes the names in the folder durable.
    ///
    /// # Errors
    /// The error of the system call that failed.
    fn sync_dir(&self) -> io::Result<()>;
    /// Keeps the file that has this name now open, so that it can be overwritten after another file has taken the name.
    /// `None` when there is no such file, or the file system cannot do this.
    fn hold(&self, name: &str) -> Option<Held> {
        let _ = name;
        None
    }
}

/// A file that has lost its name, or is about to.
pub struct Held(File);

impl Held {
    /// Overwrites the content with zeros and syncs. Copies that the medium keeps (flash, copy on write, snapshots)
    /// cannot be reached.
    ///
    /// # Errors
    /// The error of the system call that failed. The old content may then still be there.
    pub fn wipe(self) -> io::Result<()> {
        let length = usize::try_from(self.0.metadata()?.len()).map_err(io::Error::other)?;
        self.0.write_all_at(&vec![0; length], 0)?;
        self.0.sync_data()
    }
}

/// The real file system below one folder. Files that are written in place stay open, so that a write costs one call and
/// its sync reports the errors of exactly that file.
pub struct DiskFs {
    folder: PathBuf,
    open: Mutex<BTreeMap<String, File>>,
}

impl DiskFs {
    /// Works in `folder`, which must exist.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), open: Mutex::new(BTreeMap::new()) }
    }

    fn with_open<T>(&self, name: &str, work: impl FnOnce(&File) -> io::Result<T>) -> io::Result<T> {
        let mut open = self.open.lock().map_err(|_| io::Error::other("a file operation panicked"))?;
        if let Some(file) = open.get(name) {
            return work(file);
        }
        let file =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(self.folder.join(name))?;
        let outcome = work(&file);
        open.insert(name.to_owned(), file);
        outcome
    }

    fn forget(&self, name: &str) {
        if let Ok(mut open) = self.open.lock() {
            open.remove(name);
        }
    }
}

impl RawFs for DiskFs {
    fn read(&self, name: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        use io::Read;
        let file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(self.folder.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let mut bytes = Vec::new();
        file.take(u64::try_from(limit).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn create(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.forget(name);
        let path = self.folder.join(name);
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        file.write_all(bytes)
    }

    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with_open(name, |file| file.write_all_at(bytes, offset))
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.with_open(name, File::sync_data)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.forget(from);
        self.forget(to);
        std::fs::rename(self.folder.join(from), self.folder.join(to))
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn hold(&self, name: &str) -> Option<Held> {
        let file = OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW).open(self.folder.join(name));
        file.ok().map(Held)
    }
}
