//! Makes durable every file below a folder that has changed since the last call, and every folder whose names have
//! changed.
//!
//! It serves an engine that writes without syncing. A file counts as changed by its inode, its length or its time of
//! change. The log is synced every time, because two writes within one tick of the file system's clock look the same.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const LOG: &str = "db";
/// Folders below the store's folder in which sled creates files.
const INNER: [&str; 1] = ["blobs"];

#[derive(PartialEq, Eq)]
struct Mark {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Mark {
    fn of(data: &Metadata) -> Self {
        Self { inode: data.ino(), length: data.len(), changed: (data.ctime(), data.ctime_nsec()) }
    }
}

/// What is already durable.
pub(super) struct Durable {
    folder: PathBuf,
    /// Held open, so that a sync reports each write error of the log exactly once, and to this process.
    log: Option<File>,
    files: BTreeMap<PathBuf, Mark>,
    names: BTreeMap<PathBuf, Vec<(PathBuf, u64)>>,
}

impl Durable {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), log: None, files: BTreeMap::new(), names: BTreeMap::new() }
    }

    /// Makes everything below the folder durable.
    ///
    /// # Errors
    /// The error of the system call. It is then unknown what is on disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        let log = match self.log.take() {
            Some(log) => log,
            None => File::open(self.folder.join(LOG))?,
        };
        log.sync_data()?;
        self.log = Some(log);
        self.sync_folder(&self.folder.clone())?;
        for inner in INNER {
            let folder = self.folder.join(inner);
            if folder.is_dir() {
                self.sync_folder(&folder)?;
            }
        }
        Ok(())
    }

    fn sync_folder(&mut self, folder: &Path) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let (path, data) = match entry.metadata() {
                // Removed between the listing and this call: nothing to sync.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                data => (entry.path(), data?),
            };
            names.push((path.clone(), data.ino()));
            let mark = Mark::of(&data);
            if !data.is_file() || entry.file_name() == LOG || self.files.get(&path) == Some(&mark) {
                continue;
            }
            File::open(&path)?.sync_data()?;
            self.files.insert(path, mark);
        }
        names.sort();
        if self.names.get(folder) != Some(&names) {
            File::open(folder)?.sync_all()?;
            self.files.retain(|path, _| path.parent() != Some(folder) || names.iter().any(|(name, _)| name == path));
            self.names.insert(folder.to_owned(), names);
        }
        Ok(())
    }
}
