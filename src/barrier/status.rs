//! What a barrier reports about itself.

use crate::keys::TermState;

/// The last audit entry that a state vouches for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditHead {
    /// Sequence number; 0 before the first entry.
    pub seq: u64,
    /// Hash of the entry.
    pub hash: [u8; 32],
}

/// Whether the barrier accepts writes.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Reads and writes.
    Serving,
    /// Reads only. The text says why.
    Degraded(String),
}

/// Use of one term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TermStatus {
    /// Number of the term.
    pub term: u32,
    /// What the term may be used for.
    pub state: TermState,
    /// Time at which the term was created, in Unix milliseconds.
    pub created_ms: u64,
    /// Number of stored records under it.
    pub live: u64,
    /// Number of records ever sealed under it.
    pub seals: u64,
}

/// Use of the active term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// Number of the term.
    pub term: u32,
    /// Time at which the term was created, in Unix milliseconds.
    pub created_ms: u64,
    /// Number of records ever sealed under it.
    pub seals: u64,
}
