//! Files that are renewed from outside: a server certificate with its key, and the roots that clients need for it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::super::layout;
use crate::crypto::hash::sha256;
use crate::http::{Tls, server_roots};

/// Result of a check of the files.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FilesCheck {
    /// Nothing to do.
    Same,
    /// The new content is in use now.
    Replaced,
    /// The new content cannot be used. The old one stays in use.
    Kept,
}

/// A server certificate and key that are renewed from outside. They and the roots are used together once all of them
/// match, so it does not matter which file is replaced first.
pub(super) struct Supplied {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub ca: Option<PathBuf>,
    /// Roots of an outside PKI that the current certificate may chain to, DER.
    pub roots: Vec<Vec<u8>>,
    pub watch: Watch,
}

/// Roots that clients are told to trust in advance, while the vault still renews the certificate itself.
pub(super) struct Announced {
    pub ca: PathBuf,
    pub roots: Vec<Vec<u8>>,
    pub watch: Watch,
}

/// What is known about some files.
#[derive(Default)]
pub(super) struct Watch {
    seen: Option<Vec<Stamp>>,
    /// Digest of the content that was last tried, usable or not.
    tried: Option<[u8; 32]>,
}

/// The metadata that changes when a file changes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Watch {
    /// Starts with files that were just read.
    pub(super) fn having(content: &[&[u8]]) -> Self {
        Self { seen: None, tried: Some(digest(content)) }
    }

    /// Forces the next check to read the files.
    pub(super) fn forget(&mut self) {
        self.seen = None;
    }

    /// Whether the files have to be read.
    fn stale(&mut self, files: &[&Path]) -> bool {
        let stamps = files.iter().map(|file| Ok(stamp(&std::fs::metadata(file)?))).collect::<std::io::Result<Vec<_>>>();
        match stamps {
            Ok(stamps) if self.seen.as_ref() == Some(&stamps) => false,
            // Stored before the content is checked, so that a file that changes while it is read has a different stamp
            // next time.
            Ok(stamps) => {
                self.seen = Some(stamps);
                true
            }
            // A file may be missing for a moment, between the removal of the old one and the arrival of the new one.
            Err(_) => false,
        }
    }

    /// Whether this content has not been tried yet.
    fn is_new(&mut self, content: &[&[u8]]) -> bool {
        let content = digest(content);
        self.tried.replace(content) != Some(content)
    }
}

impl Supplied {
    pub(super) fn look(&mut self, tls: &Tls) -> FilesCheck {
        let mut files = vec![&*self.certificate, &*self.key];
        files.extend(self.ca.as_deref());
        if !self.watch.stale(&files) {
            return FilesCheck::Same;
        }
        // All of them before anything is replaced: a renewal may be half done, and a certificate must not be combined with the
        // key of the one before.
        let read = || {
            let certificate = layout::read(&self.certificate)?;
            let ca = self.ca.as_deref().map(layout::read).transpose()?;
            Ok((certificate, Zeroizing::new(layout::read_private(&self.key)?), ca))
        };
        let (certificate, key, ca) = match read() {
            Ok(all) => all,
            Err::<_, layout::LayoutError>(error) => {
                tracing::error!("the server certificate could not be renewed; the current one remains in use: {error}");
                return FilesCheck::Kept;
            }
        };
        // What was rejected before is not tried, and not reported, again until one of the files changes.
        if !self.watch.is_new(&[&certificate, &key, ca.as_deref().unwrap_or_default()]) {
            return FilesCheck::Same;
        }
        let replaced = server_roots(Some(&certificate), ca.as_deref()).and_then(|roots| {
            tls.replace_server_of(&certificate, &key, &roots)?;
            Ok(roots)
        });
        match replaced {
            Ok(roots) => {
                self.roots = roots;
                tracing::info!("server certificate renewed from {}", self.certificate.display());
                FilesCheck::Replaced
            }
            Err(error) => {
                tracing::error!("{}: {error}; the old server certificate stays", self.certificate.display());
                FilesCheck::Kept
            }
        }
    }
}

impl Announced {
    pub(super) fn look(&mut self) -> FilesCheck {
        if !self.watch.stale(&[&self.ca]) {
            return FilesCheck::Same;
        }
        let ca = match layout::read(&self.ca) {
            Ok(ca) => ca,
            Err(error) => {
                tracing::error!("the roots for clients could not be read; the current ones remain in use: {error}");
                return FilesCheck::Kept;
            }
        };
        if !self.watch.is_new(&[&ca]) {
            return FilesCheck::Same;
        }
        match server_roots(None, Some(&ca)) {
            Ok(roots) => {
                self.roots = roots;
                tracing::info!("roots for clients reloaded from {}", self.ca.display());
                FilesCheck::Replaced
            }
            Err(error) => {
                tracing::error!("{}: {error}; the previous roots for clients remain in use", self.ca.display());
                FilesCheck::Kept
            }
        }
    }
}

fn stamp(metadata: &Metadata) -> Stamp {
    Stamp {
        inode: metadata.ino(),
        size: metadata.len(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    }
}

fn digest(content: &[&[u8]]) -> [u8; 32] {
    // Each content is hashed on its own, so that moving bytes from one file to the other changes the digest.
    let parts: Vec<[u8; 32]> = content.iter().map(|bytes| sha256(&[bytes])).collect();
    sha256(&[parts.concat().as_slice()])
}
