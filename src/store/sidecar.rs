//! The files beside the store: the vault header in two copies, and the anchor.
//!
//! A header copy is replaced as a whole: write aside, sync, rename, sync the folder, read back and compare. The copies
//! are replaced one after the other, so at every moment one copy is whole. The anchor has two slots that are
//! overwritten in place in turn. Its file is allocated once, so that a write never needs new blocks from a full disk.

#[cfg(any(test, feature = "testing"))]
mod in_memory;

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::StoreError;
use super::fs::{DiskFs, RawFs};

#[cfg(any(test, feature = "testing"))]
pub use in_memory::{MemAnchor, MemHeader};

/// Size of the anchor file.
pub const ANCHOR_BYTES: usize = 8192;
/// Size of one of the anchor's two slots.
pub const SLOT_BYTES: usize = 4096;
/// Largest header file.
pub const MAX_HEADER_BYTES: usize = 65_536;

/// Error in reading or writing a sidecar file. After a failed write the process must end, because it is unknown what is
/// on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SidecarError {
    /// An error of the system.
    #[error("{step} failed: {kind}")]
    Io {
        /// The step that failed.
        step: &'static str,
        /// The system's error.
        kind: io::ErrorKind,
    },
    /// The bytes that were read back differ from those that were written.
    #[error("the header copy does not read back as it was written")]
    NotWritten,
    /// The slot or copy number does not exist, or the bytes do not fit.
    #[error("there is no such slot, or it is too small")]
    OutOfRange,
}

impl SidecarError {
    /// Whether an operator can accept this as the loss of the file: the system cannot read it. Missing rights are no loss,
    /// because they can be given.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Io { kind, .. } if *kind != io::ErrorKind::PermissionDenied)
    }
}

fn io_error(step: &'static str) -> impl FnOnce(io::Error) -> SidecarError {
    move |error| SidecarError::Io { step, kind: error.kind() }
}

/// The two copies of the vault header.
pub trait HeaderFiles: Send + Sync {
    /// Reads both copies from disk. A copy longer than 64 KiB is returned one byte longer than that, which no parser
    /// accepts. A missing copy is `None`. A copy that cannot be read is also `None` if the other one can be read: there
    /// are two copies so that a bad sector in one does not prevent a start.
    ///
    /// # Errors
    /// [`SidecarError::Io`] when a copy cannot be read and the other one is missing or unreadable, too.
    fn read(&self) -> Result<[Option<Vec<u8>>; 2], SidecarError>;

    /// Replaces copy 0 or 1 and reads it back. `Ok` means durable. After a crash, the copy is the old one or the new
    /// one.
    ///
    /// # Errors
    /// [`SidecarError::Io`] when the system fails; [`SidecarError::NotWritten`] when it reads back differently;
    /// [`SidecarError::OutOfRange`] for another copy, or bytes that do not fit. The copy is then old, new or missing.
    fn write(&self, copy: usize, bytes: &[u8]) -> Result<(), SidecarError>;
}

/// The anchor file.
pub trait AnchorFile: Send + Sync {
    /// Reads the file; `None` if it does not exist.
    ///
    /// # Errors
    /// [`SidecarError::Io`] when it cannot be read.
    fn read(&self) -> Result<Option<Vec<u8>>, SidecarError>;

    /// Creates the file with blank slots, durable. An existing file is replaced, even if it cannot be read.
    ///
    /// # Errors
    /// [`SidecarError::Io`] when it cannot be written.
    fn create(&self) -> Result<(), SidecarError>;

    /// Overwrites slot 0 or 1 in place and syncs. After a crash, this slot is old, new or torn, and the other one is
    /// untouched.
    ///
    /// # Errors
    /// [`SidecarError::Io`] when the system fails; [`SidecarError::OutOfRange`] for another slot, or bytes that
    /// do not fit.
    fn write_slot(&self, slot: usize, bytes: &[u8]) -> Result<(), SidecarError>;
}

const COPIES: [&str; 2] = ["vault.hdr.0", "vault.hdr.1"];
const ASIDE: [&str; 2] = [".vault.hdr.0.new", ".vault.hdr.1.new"];

/// Header copies in a folder.
pub struct DiskHeader(Arc<dyn RawFs>);

impl DiskHeader {
    /// Opens header copies in `folder`.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self(Arc::new(DiskFs::new(folder)))
    }

    /// Header copies on any file system, for tests that rebuild disk images.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn on(fs: Arc<dyn RawFs>) -> Self {
        Self(fs)
    }
}

impl HeaderFiles for DiskHeader {
    fn read(&self) -> Result<[Option<Vec<u8>>; 2], SidecarError> {
        let copy = |name| self.0.read(name, MAX_HEADER_BYTES + 1).map_err(io_error("reading the header"));
        let [first, second] = COPIES;
        match (copy(first), copy(second)) {
            (Ok(Some(bytes)), Err(error)) => {
                tracing::warn!(%error, "{second} cannot be read and is ignored; the other copy is used");
                Ok([Some(bytes), None])
            }
            (Err(error), Ok(Some(bytes))) => {
                tracing::warn!(%error, "{first} cannot be read and is ignored; the other copy is used");
                Ok([None, Some(bytes)])
            }
            (first, second) => Ok([first?, second?]),
        }
    }

    fn write(&self, copy: usize, bytes: &[u8]) -> Result<(), SidecarError> {
        let (Some(name), Some(aside)) = (COPIES.get(copy), ASIDE.get(copy)) else {
            return Err(SidecarError::OutOfRange);
        };
        if bytes.len() > MAX_HEADER_BYTES {
            return Err(SidecarError::OutOfRange);
        }
        self.0.create(aside, bytes).map_err(io_error("writing the header"))?;
        self.0.sync(aside).map_err(io_error("syncing the header"))?;
        let old = self.0.hold(name);
        self.0.rename(aside, name).map_err(io_error("renaming the header"))?;
        self.0.sync_dir().map_err(io_error("syncing the header's folder"))?;
        // The old header opens with the secrets of its time. It is overwritten as far as the medium allows, and only
        // after the new one is durable under its name (amendment S1). If overwriting fails, no promise is broken.
        if let Some(old) = old {
            let _ = old.wipe();
        }
        let back = self.0.read(name, MAX_HEADER_BYTES + 1).map_err(io_error("reading the header back"))?;
        if back.as_deref() == Some(bytes) { Ok(()) } else { Err(SidecarError::NotWritten) }
    }
}

/// The anchor as a file.
pub struct DiskAnchor {
    fs: Arc<dyn RawFs>,
    name: String,
}

impl DiskAnchor {
    /// Opens the anchor at `path`.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        let name = path.file_name().map_or_else(|| "anchor".to_owned(), |name| name.to_string_lossy().into_owned());
        Self { fs: Arc::new(DiskFs::new(&folder)), name }
    }

    /// The anchor `name` on any file system, for tests that rebuild disk images.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn on(fs: Arc<dyn RawFs>, name: &str) -> Self {
        Self { fs, name: name.to_owned() }
    }
}

impl AnchorFile for DiskAnchor {
    fn read(&self) -> Result<Option<Vec<u8>>, SidecarError> {
        self.fs.read(&self.name, ANCHOR_BYTES + 1).map_err(io_error("reading the anchor"))
    }

    fn create(&self) -> Result<(), SidecarError> {
        // Never in place: the sectors of the old file may be the reason why it is made anew.
        let aside = format!("{}.new", self.name);
        self.fs.create(&aside, &[0; ANCHOR_BYTES]).map_err(io_error("creating the anchor"))?;
        self.fs.sync(&aside).map_err(io_error("syncing the anchor"))?;
        self.fs.rename(&aside, &self.name).map_err(io_error("renaming the anchor"))?;
        self.fs.sync_dir().map_err(io_error("syncing the anchor's folder"))
    }

    fn write_slot(&self, slot: usize, bytes: &[u8]) -> Result<(), SidecarError> {
        let offset = slot_offset(slot, bytes)?;
        self.fs.write_at(&self.name, offset, bytes).map_err(io_error("writing the anchor"))?;
        self.fs.sync(&self.name).map_err(io_error("syncing the anchor"))
    }
}

fn slot_offset(slot: usize, bytes: &[u8]) -> Result<u64, SidecarError> {
    match slot {
        0 | 1 if bytes.len() <= SLOT_BYTES => u64::try_from(slot * SLOT_BYTES).map_err(|_| SidecarError::OutOfRange),
        _ => Err(SidecarError::OutOfRange),
    }
}

/// Locks a data folder for one process, until this is dropped or the process ends.
pub struct DirLock(#[allow(dead_code)] File);

impl DirLock {
    /// Takes the lock of `folder` (`flock(2)` on its file `lock`).
    ///
    /// # Errors
    /// [`StoreError::Locked`] when another process holds the lock, [`StoreError::Unavailable`] when the folder does not
    /// exist.
    pub fn acquire(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join("lock");
        let file = File::options().create(true).truncate(false).write(true).open(path);
        let file = file.map_err(|error| StoreError::reading(&error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked),
            Err(TryLockError::Error(error)) => Err(StoreError::reading(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn an_unreadable_copy_counts_as_absent_beside_a_good_one_only() {
        let folder = tempfile::tempdir().unwrap();
        let header = DiskHeader::new(folder.path());
        let spoil = |copy: usize| {
            let path = folder.path().join(COPIES[copy]);
            std::fs::remove_file(&path).unwrap();
            // The system refuses to read it; so it does with a bad sector.
            symlink(&path, &path).unwrap();
        };
        for copy in [0, 1] {
            header.write(0, b"header").unwrap();
            header.write(1, b"header").unwrap();
            spoil(copy);
            let found = header.read().unwrap();
            assert!(found[copy].is_none());
            assert_eq!(found[1 - copy].as_deref(), Some(&b"header"[..]));
            header.write(copy, b"header").unwrap();
            assert_eq!(header.read().unwrap(), [Some(b"header".to_vec()), Some(b"header".to_vec())]);
        }
        spoil(0);
        spoil(1);
        assert!(matches!(header.read(), Err(SidecarError::Io { .. })));
        std::fs::remove_file(folder.path().join(COPIES[1])).unwrap();
        assert!(matches!(header.read(), Err(SidecarError::Io { .. })), "not a vault without a header");
    }

    #[test]
    fn a_replaced_header_is_overwritten_where_it_lay() {
        let folder = tempfile::tempdir().unwrap();
        let header = DiskHeader::new(folder.path());
        header.write(0, b"the old header").unwrap();
        let mut old = File::open(folder.path().join("vault.hdr.0")).unwrap();
        header.write(0, b"the new one").unwrap();
        let mut bytes = Vec::new();
        old.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [0; 14]);
        assert_eq!(header.read().unwrap()[0].as_deref(), Some(&b"the new one"[..]));
    }
}
