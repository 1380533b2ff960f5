//! Errors of the audit log.

use std::io;

/// Failure of the audit log. Never contains a value, the path of a secret or text from a device.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuditError {
    /// The device did not accept the entry. The request must not be answered.
    #[error("the audit device did not accept the entry")]
    Refused,
    /// The device could not make entries durable. The content of the disk is unknown, so the process must stop and must
    /// not retry.
    #[error("audit device could not be synced")]
    Sync,
    /// The log ends before the entry that the sealed state vouches for.
    #[error(
        "audit log was cut: entry {expected} must exist, the last one is {found}; to continue without it: strongroomd storage accept-loss"
    )]
    Cut {
        /// Sequence number that the sealed state expects.
        expected: u64,
        /// Last sequence number found; 0 if none.
        found: u64,
    },
    /// A line that is not a genuine next entry precedes the expected entry.
    #[error(
        "audit log is damaged at line {line}: entry {expected} must exist, the last good one is {found}; to continue without it: strongroomd storage accept-loss"
    )]
    Damaged {
        /// Line in the file, counted from 1.
        line: u64,
        /// Sequence number that the sealed state expects.
        expected: u64,
        /// Last valid sequence number; 0 if none.
        found: u64,
    },
    /// The expected entry exists with different content.
    #[error(
        "audit log was replaced: entry {seq} is not the one that the vault wrote; to continue without it: strongroomd storage accept-loss"
    )]
    Replaced {
        /// Sequence number of the entry.
        seq: u64,
    },
    /// An entry names a key that the vault does not have.
    #[error("audit entry uses unknown key {0}; to continue without this log: strongroomd storage accept-loss")]
    UnknownKey(u32),
    /// The log file could not be opened, read, cut or synced at start.
    #[error("audit file: {step} failed: {kind}")]
    File {
        /// The step that failed.
        step: &'static str,
        /// The kind of error that the operating system reported.
        kind: io::ErrorKind,
    },
}

/// The steps of reading an existing log.
const READING: [&str; 3] = ["opening", "examining", "reading"];

impl AuditError {
    /// Whether an operator can accept this as the loss of the log: it is incomplete, not genuine, from other keys, or
    /// the system cannot read it. Missing permissions are not a loss, because they can be granted. A folder that cannot
    /// be listed may be a disk that is not mounted.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        match self {
            Self::Cut { .. } | Self::Damaged { .. } | Self::Replaced { .. } | Self::UnknownKey(_) => true,
            Self::File { step, kind } => READING.contains(step) && *kind != io::ErrorKind::PermissionDenied,
            Self::Refused | Self::Sync => false,
        }
    }

    pub(super) fn file(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::File { step, kind: error.kind() }
    }
}
