//! Names of records: the store sees these instead of paths (`docs/format.md`, "Names").
//!
//! Every name is an HMAC under K_name, chained from folder to child. So the store learns the shape of the tree, but none
//! of the names.

use crate::crypto::derive::label;
use crate::crypto::hash::MacKey;
use crate::crypto::{CryptoError, Key, Random};
use crate::keys::VaultId;

use super::error::BarrierError;

/// Longest path or view key, in bytes.
pub const MAX_PATH_BYTES: usize = 1024;
/// Deepest path, in segments.
pub const MAX_SEGMENTS: usize = 16;

/// The mount that a record belongs to. It is never derived from the path of the mount, so a mount can move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MountId(pub [u8; 16]);

impl MountId {
    // 5 (leases) and 7 (audit) are reserved and unused.
    /// Mount table.
    pub const MOUNTS: Self = Self::builtin(1);
    /// Policies.
    pub const POLICIES: Self = Self::builtin(2);
    /// Identities.
    pub const IDENTITIES: Self = Self::builtin(3);
    /// Tokens.
    pub const TOKENS: Self = Self::builtin(4);
    /// Certificate authority.
    pub const CA: Self = Self::builtin(6);
    /// Rotation.
    pub const ROTATION: Self = Self::builtin(8);
    /// Everything else.
    pub const MISC: Self = Self::builtin(9);
    /// Certificates that the vault's own authorities issued.
    pub const CERTIFICATES: Self = Self::builtin(10);
    /// Enrolment strings that can be used or were used.
    pub const ENROLMENTS: Self = Self::builtin(11);
    /// Roles for certificates of an outside PKI.
    pub const CERT_ROLES: Self = Self::builtin(12);
    /// Rate limits.
    pub const LIMITS: Self = Self::builtin(13);
    /// Requests that wait for approval by other operators.
    pub const APPROVALS: Self = Self::builtin(14);
    /// When and from where identities were last seen.
    pub const SIGHTINGS: Self = Self::builtin(15);
    /// Groups of identities.
    pub const GROUPS: Self = Self::builtin(16);

    /// Every built-in mount.
    pub fn builtins() -> impl Iterator<Item = Self> {
        (1..=16).map(Self::builtin)
    }

    /// Built-in mount `n`: fifteen zero bytes and `n`.
    #[must_use]
    pub const fn builtin(n: u8) -> Self {
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n])
    }

    /// Generates the id of a new mount.
    ///
    /// # Errors
    /// [`CryptoError::Random`] when the random source fails.
    pub fn random(random: &dyn Random) -> Result<Self, CryptoError> {
        let mut id = [0; 16];
        random.fill(&mut id)?;
        Ok(Self(id))
    }
}

/// Identifier of a mount root, a folder or a node.
pub(super) type Id = [u8; 16];

/// Key of a record in the store: a letter, then ids. The four shapes have fixed lengths, so the order of the padded
/// array is the order of the bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct StoreKey {
    bytes: [u8; 33],
    len: u8,
}

impl StoreKey {
    fn build(letter: u8, first: &[u8], second: &[u8]) -> Self {
        let mut bytes = [0; 33];
        let parts = [letter].into_iter().chain(first.iter().copied()).chain(second.iter().copied());
        let mut len = 0;
        for (to, from) in bytes.iter_mut().zip(parts) {
            *to = from;
            len += 1;
        }
        Self { bytes, len }
    }

    /// Key of the state record of lane 0.
    pub(super) fn state() -> Self {
        Self::build(b's', &[0, 0], &[])
    }

    /// Key of the node `child` in the folder `parent`.
    pub(super) fn node(parent: &Id, child: &Id) -> Self {
        Self::build(b'd', parent, child)
    }

    /// Key of a version of the secret at `node`.
    pub(super) fn value(node: &Id, version: u64) -> Self {
        Self::build(b'v', node, &version.to_be_bytes())
    }

    /// Key of an entry of the mount `root`.
    pub(super) fn entry(root: &Id, id: &Id) -> Self {
        Self::build(b'e', root, id)
    }

    /// First and last possible key of the children of `parent`.
    pub(super) fn nodes_of(parent: &Id) -> (Self, Self) {
        (Self::node(parent, &[0; 16]), Self::node(parent, &[0xff; 16]))
    }

    /// First and last possible key of the entries of `root`.
    pub(super) fn entries_of(root: &Id) -> (Self, Self) {
        (Self::entry(root, &[0; 16]), Self::entry(root, &[0xff; 16]))
    }

    /// Parses a key that was found in the store; `None` for one outside the format.
    pub(super) fn parse(key: &[u8]) -> Option<Self> {
        let (letter, rest) = key.split_first()?;
        let fits = match letter {
            b'd' | b'e' => rest.len() == 32,
            b'v' => rest.len() == 24,
            b's' => rest == [0, 0],
            _ => false,
        };
        fits.then(|| Self::build(*letter, rest, &[]))
    }

    /// The bytes.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&self.bytes)
    }

    /// The letter.
    pub(super) fn letter(&self) -> u8 {
        self.bytes[0]
    }

    /// The last id of a node or entry key.
    pub(super) fn last_id(&self) -> Id {
        self.bytes.last_chunk().copied().unwrap_or_default()
    }

    /// The version number inside a value key.
    pub(super) fn version(&self) -> Option<u64> {
        match self.as_bytes() {
            [b'v', rest @ ..] => rest.last_chunk().map(|version| u64::from_be_bytes(*version)),
            _ => None,
        }
    }
}

/// Computes names.
pub(super) struct Names {
    key: MacKey,
    vault: VaultId,
}

impl Names {
    pub(super) fn new(name: &Key, vault: VaultId) -> Self {
        Self { key: MacKey::new(name), vault }
    }

    fn id(&self, parts: &[&[u8]]) -> Id {
        self.key.mac(parts).first_chunk().copied().unwrap_or_default()
    }

    /// Name of the root of a mount, which has no record.
    pub(super) fn root(&self, mount: &MountId) -> Id {
        self.id(&[label::ROOT_ID, self.vault.as_bytes(), &mount.0])
    }

    /// Name of the child `segment` of the folder `parent`.
    pub(super) fn child(&self, parent: &Id, segment: &str) -> Id {
        self.id(&[label::NODE_ID, parent, &length(segment), segment.as_bytes()])
    }

    /// Name of the entry `key` of the mount `root`.
    pub(super) fn entry(&self, root: &Id, key: &str) -> Id {
        self.id(&[label::ENTRY_ID, root, &length(key), key.as_bytes()])
    }
}

fn length(text: &str) -> [u8; 4] {
    // Paths were limited to far less than 4 GiB before this. A longer one would merely name nothing.
    u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes()
}

/// Splits a path, relative to its mount, into segments.
///
/// # Errors
/// [`BarrierError::Path`] for an empty path or segment, more than 1,024 bytes or more than 16 segments.
pub(super) fn segments(path: &str) -> Result<Vec<&str>, BarrierError> {
    if path.len() > MAX_PATH_BYTES {
        return Err(BarrierError::Path("longer than 1024 bytes"));
    }
    let segments: Vec<&str> = path.split('/').collect();
    if segments.iter().any(|segment| segment.is_empty()) {
        return Err(BarrierError::Path("an empty segment"));
    }
    if segments.len() > MAX_SEGMENTS {
        return Err(BarrierError::Path("more than 16 segments"));
    }
    Ok(segments)
}

/// The path that a record is bound to: mount id, then path.
pub(super) fn bound(mount: &MountId, path: &str) -> Vec<u8> {
    [mount.0.as_slice(), path.as_bytes()].concat()
}

/// The path of `name` in `folder`, which is empty for the mount root.
pub(super) fn child_path(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// The path of the folder that contains `path`; empty for the mount root.
pub(super) fn parent_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}
