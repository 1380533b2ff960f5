//! Errors of the store engines.

/// Error of a store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A precondition did not hold. Nothing has changed.
    #[error("another change came first")]
    Conflict,
    /// The disk is full. Nothing has changed, and reads continue.
    #[error("the disk is full: free space, then the daemon continues by itself")]
    Full,
    /// The store is missing, or reading failed.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The engine found its own files damaged: not the content of a record, but what the engine needs to find it. It can
    /// neither read nor remove what is there.
    #[error(
        "the store's files are damaged below the records: {0}. Salvage cannot help here: restore the data folder from a backup"
    )]
    Corrupt(String),
    /// Another process has the store open.
    #[error("another process uses this folder")]
    Locked,
    /// A write or sync failed part-way, so it is unknown what is on disk. Never retried: the process must end.
    #[error("a write could not be made durable: {0}")]
    Sync(String),
}

impl StoreError {
    /// An I/O error before anything was written.
    pub(super) fn reading(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::WouldBlock => Self::Locked,
            // Engines use these kinds for content that they cannot read. The system never returns them for a plain
            // file.
            std::io::ErrorKind::UnexpectedEof => Self::Corrupt("a part of a file is missing".to_owned()),
            std::io::ErrorKind::InvalidData => Self::Corrupt(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}
