//! What a sweep finds wrong, and what a salvage must change because of it.

use std::collections::VecDeque;

use crate::barrier::error::BarrierError;
use crate::barrier::names::{MountId, StoreKey};
use crate::store::StoreError;

/// Type of a bad record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A name in a folder: a secret, a folder, or both. The name itself is unknown.
    Name,
    /// The content of this version of a secret.
    Version(u64),
    /// An entry of a mount. Its key is unknown.
    Entry,
    /// An unreachable record: it cannot be opened, because no other record refers to it.
    Stray,
}

/// A record that cannot be used. Contains a path of the vault, so it must not be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// The mount; `None` if it is unknown.
    pub mount: Option<MountId>,
    /// Path of the secret for a version, or of the folder for a name; otherwise empty.
    pub path: String,
    /// Type of the record.
    pub part: Part,
    /// What is wrong with it.
    pub why: &'static str,
    /// Number of further records that can only be reached through this one.
    pub behind: u64,
    /// Key in the store.
    pub key: Vec<u8>,
}

impl Bad {
    /// A record of the store that nothing refers to, or that does not belong to the vault.
    pub(super) fn stray(key: &[u8], why: &'static str) -> Self {
        Self { mount: None, path: String::new(), part: Part::Stray, why, behind: 0, key: key.to_vec() }
    }
}

/// What a salvage must change in the store.
pub(super) struct Ledger {
    /// Whether an entry of a built-in mount is kept even when only values can be kept.
    pub carries: fn(MountId, &str) -> bool,
    /// Records that cannot be kept.
    pub lost: Vec<StoreKey>,
    /// Folders whose number of children is wrong, with the correct number.
    pub counts: Vec<(MountId, String, u32)>,
    /// Intact entries that are not kept when only values can be kept.
    pub left_out: Vec<StoreKey>,
}

/// The mounts that the mount table names.
#[derive(Default)]
pub struct MountNames(Vec<(MountId, String)>);

impl MountNames {
    /// Returns the name of a mount.
    #[must_use]
    pub fn name_of(&self, mount: MountId) -> Option<&str> {
        self.0.iter().find(|(id, _)| *id == mount).map(|(_, name)| name.as_str())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, mount: MountId, name: &str) {
        self.0.push((mount, name.to_owned()));
    }
}

/// What a sweep has found so far.
pub(super) struct Findings {
    /// Number of bad records, without those behind them.
    pub failed: u64,
    pub bad: Vec<Bad>,
    /// Maximum number of bad records to describe.
    described: usize,
    /// Records of names that cannot be opened. The records below them are examined after the walk, because a record that
    /// was only added can name an intact folder.
    pub unopened: VecDeque<(StoreKey, Bad)>,
    /// What a salvage needs in addition.
    pub ledger: Option<Ledger>,
}

impl Findings {
    /// Creates an empty list. At most `described` bad records will be described.
    pub(super) fn new(described: usize) -> Self {
        Self { failed: 0, bad: Vec::new(), described, unopened: VecDeque::new(), ledger: None }
    }

    /// Notes a bad record. What can only be reached through it is counted later.
    ///
    /// # Errors
    /// `error` itself, if it does not concern the record but the store as a whole.
    pub(super) fn spoilt(
        &mut self,
        (mount, path, key): (MountId, String, StoreKey),
        error: BarrierError,
    ) -> Result<(), BarrierError> {
        let why = match error {
            BarrierError::Integrity(why) => why,
            BarrierError::Store(StoreError::Corrupt(_)) => "the store cannot read it",
            error => return Err(error),
        };
        let part = match key.letter() {
            b'd' => Part::Name,
            b'v' => Part::Version(key.version().unwrap_or_default()),
            _ => Part::Entry,
        };
        self.failed += 1;
        let bad = Bad { mount: Some(mount), path, part, why, behind: 0, key: key.as_bytes().to_vec() };
        if part == Part::Name {
            self.unopened.push_back((key, bad));
        } else {
            self.describe(key, bad);
        }
        Ok(())
    }

    /// Notes a record that nothing refers to.
    pub(super) fn stray(&mut self, key: StoreKey) {
        self.failed += 1;
        let bad = Bad::stray(key.as_bytes(), "unreachable: no other record refers to it");
        self.describe(key, bad);
    }

    /// Notes a bad record with what is known about it.
    pub(super) fn describe(&mut self, key: StoreKey, bad: Bad) {
        if let Some(ledger) = &mut self.ledger {
            ledger.lost.push(key);
        }
        if self.bad.len() < self.described {
            self.bad.push(bad);
        }
    }

    /// Notes a record that is lost because it can only be reached through a bad one.
    pub(super) fn lost(&mut self, key: StoreKey) {
        if let Some(ledger) = &mut self.ledger {
            ledger.lost.push(key);
        }
    }

    /// Notes an intact entry: a salvage that keeps only values drops most entries of the vault itself.
    pub(super) fn intact_entry(&mut self, mount: MountId, name: &str, key: StoreKey) {
        if let Some(ledger) = &mut self.ledger
            && MountId::builtins().any(|builtin| builtin == mount)
            && !(ledger.carries)(mount, name)
        {
            ledger.left_out.push(key);
        }
    }

    /// Compares the number of intact children of a folder with its record. Only with a ledger: writers could change the
    /// number meanwhile.
    pub(super) fn children(&mut self, mount: MountId, folder: String, good: u32, counted: Option<u32>) {
        if let Some(ledger) = &mut self.ledger
            && counted.is_some_and(|counted| counted != good)
        {
            ledger.counts.push((mount, folder, good));
        }
    }
}
