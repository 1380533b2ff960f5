//! Stored values, and the commits that wrote them.

/// Number of a commit. It grows by one with every applied batch, from 1; 0 is the empty store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CommitSeq(pub u64);

/// A stored value, and the commit that wrote it last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The bytes.
    pub value: Vec<u8>,
    /// The commit that wrote them.
    pub revision: CommitSeq,
}

/// Largest number of bytes of a value that [`Store::scan_heads`] shows.
pub const HEAD_BYTES: usize = 92;
/// Longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;
