//! The file device: one append-only file, one line per entry.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Device, Syncer};

/// A log file: opened with `O_APPEND` and mode 0600, never through a symbolic link, and locked against a second writer.
pub struct FileDevice {
    path: PathBuf,
    name: String,
    file: Arc<Handle>,
    /// Length of everything that was appended successfully and still exists.
    len: u64,
    /// Whether a failed append may have left a partial line after `len`.
    dirty: bool,
}

struct Handle(File);

impl Syncer for Handle {
    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

impl FileDevice {
    /// Opens or creates the file. The folder is synced, so a new file survives a power cut. Use
    /// [`recover`](Self::recover) to continue an existing chain.
    ///
    /// # Errors
    /// The errors of the operating system. [`io::ErrorKind::InvalidInput`] if the path is not a regular file or somebody
    /// other than its owner may write to it. [`io::ErrorKind::WouldBlock`] if another process has it open for writing.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = open_log(path)?;
        let len = file.metadata()?.len();
        let name = path.display().to_string();
        Ok(Self { path: path.to_owned(), name, file: Arc::new(Handle(file)), len, dirty: false })
    }

    /// The path from the configuration.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Cuts the file back to what was appended successfully.
    fn clean(&mut self) -> io::Result<()> {
        if self.dirty {
            // Never extends the file, because something else may have cut it meanwhile.
            let len = self.file.0.metadata()?.len().min(self.len);
            self.file.0.set_len(len)?;
            self.dirty = false;
        }
        Ok(())
    }
}

impl Device for FileDevice {
    fn name(&self) -> &str {
        &self.name
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.clean()?;
        if let Err(error) = (&self.file.0).write_all(lines) {
            self.dirty = true;
            // If this fails too, the next append tries again before it writes anything.
            let _ = self.clean();
            return Err(error);
        }
        self.len += u64::try_from(lines.len()).expect("a length fits");
        Ok(())
    }

    fn syncer(&self) -> Arc<dyn Syncer> {
        self.file.clone()
    }

    fn reopen(&mut self) -> io::Result<bool> {
        if points_to(&self.path, &self.file.0).is_ok_and(|same| same) {
            return Ok(false);
        }
        let file = open_log(&self.path)?;
        self.len = file.metadata()?.len();
        self.dirty = false;
        self.file = Arc::new(Handle(file));
        Ok(self.len == 0)
    }

    fn shrank(&mut self) -> bool {
        match self.file.0.metadata() {
            Ok(meta) if meta.len() < self.len => {
                self.len = meta.len();
                true
            }
            _ => false,
        }
    }

    fn check(&mut self) -> Result<(), &'static str> {
        match points_to(&self.path, &self.file.0) {
            Ok(true) => Ok(()),
            Ok(false) => Err("file was replaced"),
            Err(_) => Err("file was removed"),
        }
    }
}

/// Whether `path` still names the open `file`.
fn points_to(path: &Path, file: &File) -> io::Result<bool> {
    let (named, open) = (std::fs::symlink_metadata(path)?, file.metadata()?);
    Ok(named.dev() == open.dev() && named.ino() == open.ino())
}

fn open_log(path: &Path) -> io::Result<File> {
    let options = |create: bool| {
        let mut options = OpenOptions::new();
        // With O_NONBLOCK, opening a named pipe without a reader fails instead of hanging. Regular files ignore it.
        options.append(true).create_new(create).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        options
    };
    let file = match options(true).open(path) {
        Ok(file) => {
            sync_folder(path)?;
            file
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options(false).open(path)?,
        Err(error) => return Err(error),
    };
    let meta = file.metadata()?;
    if !meta.is_file() || meta.file_type().is_fifo() || meta.mode() & 0o022 != 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    lock(&file)?;
    Ok(file)
}

/// Locks the file for this process. A process that has just ended, or is just starting another program, releases its
/// lock within a moment. Only a lock that lasts is an error.
fn lock(file: &File) -> io::Result<()> {
    for attempt in 1.. {
        match file.try_lock() {
            Ok(()) => break,
            Err(std::fs::TryLockError::WouldBlock) if attempt < LOCK_ATTEMPTS => std::thread::sleep(LOCK_PAUSE),
            Err(std::fs::TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
            Err(std::fs::TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(())
}

const LOCK_ATTEMPTS: u32 = 40;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(25);

/// Makes the entry of `path` in its folder durable.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}
