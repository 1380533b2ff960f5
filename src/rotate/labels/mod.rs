//! Which version of one key has which label. This module only computes transitions. The code that stores the labels
//! commits each transition together with the change that it describes.
//!
//! Exactly one version is current and at most one is previous. No version has two labels, and version numbers only
//! grow.

use serde::{Deserialize, Serialize};

/// Largest number of versions that are remembered as retired. Older ones are forgotten here, but the store still has
/// them.
pub const MOST_RETIRED: usize = 16;

/// Why a transition or a stored form is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LabelError {
    /// The version is not newer than all known versions.
    #[error("a promoted version must be newer than all before it")]
    NotNewer,
    /// The stored labels are contradictory.
    #[error("the stored labels are contradictory: {0}")]
    Damaged(&'static str),
}

/// The version before the current one. It is still accepted for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Previous {
    /// Number of the version.
    pub version: u64,
    /// End of its grace period, in milliseconds since 1970. It is accepted before this time.
    pub grace_until_ms: u64,
}

/// The labels of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Labels {
    current: u64,
    previous: Option<Previous>,
    retired: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    current: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    previous: Option<Previous>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    retired: Vec<u64>,
}

impl From<Labels> for Stored {
    fn from(labels: Labels) -> Self {
        let Labels { current, previous, retired } = labels;
        Self { current, previous, retired }
    }
}

impl TryFrom<Stored> for Labels {
    type Error = LabelError;

    fn try_from(stored: Stored) -> Result<Self, LabelError> {
        let Stored { current, previous, retired } = stored;
        if current == 0 {
            return Err(LabelError::Damaged("current"));
        }
        // A version becomes previous when a newer one is promoted.
        if previous.is_some_and(|previous| previous.version == 0 || previous.version >= current) {
            return Err(LabelError::Damaged("previous"));
        }
        if retired.len() > MOST_RETIRED {
            return Err(LabelError::Damaged("retired"));
        }
        let mut all: Vec<u64> = retired.iter().copied().chain([current]).chain(previous.map(|it| it.version)).collect();
        all.sort_unstable();
        if all.contains(&0) || all.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(LabelError::Damaged("retired"));
        }
        Ok(Self { current, previous, retired })
    }
}

impl Labels {
    /// Makes the labels of a key whose only known version is `current`.
    ///
    /// # Errors
    /// [`LabelError::NotNewer`] for 0, because versions are counted from 1.
    pub fn new(current: u64) -> Result<Self, LabelError> {
        if current == 0 {
            return Err(LabelError::NotNewer);
        }
        Ok(Self { current, previous: None, retired: Vec::new() })
    }

    /// The version that readers get.
    #[must_use]
    pub fn current(&self) -> u64 {
        self.current
    }

    /// The version before it, until [`expire`](Self::expire) retires it.
    #[must_use]
    pub fn previous(&self) -> Option<Previous> {
        self.previous
    }

    /// The most recently retired versions, oldest first, at most [`MOST_RETIRED`].
    #[must_use]
    pub fn retired(&self) -> &[u64] {
        &self.retired
    }

    /// The newest version that is known here.
    #[must_use]
    pub fn newest(&self) -> u64 {
        // A stored record may hold a retired version that is newer than the current one.
        self.retired.iter().copied().fold(self.current, u64::max)
    }

    /// Records that readers now get `version` without a rotation, because somebody wrote the secret. An older number
    /// changes nothing.
    pub fn follow(&mut self, version: u64) {
        if self.retired.iter().all(|retired| version > *retired) {
            self.current = self.current.max(version);
        }
    }

    /// Makes `new_version` current. The old current version is accepted until `grace_until_ms`. Returns the version that
    /// was previous until now; its grace period ends here.
    ///
    /// # Errors
    /// [`LabelError::NotNewer`] unless `new_version` is newer than every known version. Nothing is changed then.
    pub fn promote(&mut self, new_version: u64, grace_until_ms: u64) -> Result<Option<u64>, LabelError> {
        if new_version <= self.newest() {
            return Err(LabelError::NotNewer);
        }
        let ended = self.previous.take().map(|previous| previous.version);
        if let Some(version) = ended {
            self.retire(version);
        }
        self.previous = Some(Previous { version: self.current, grace_until_ms });
        self.current = new_version;
        Ok(ended)
    }

    /// Retires the previous version if its grace period has ended at `now_ms`, and returns it.
    pub fn expire(&mut self, now_ms: u64) -> Option<u64> {
        let version = self.previous.filter(|previous| previous.grace_until_ms <= now_ms)?.version;
        self.previous = None;
        self.retire(version);
        Some(version)
    }

    fn retire(&mut self, version: u64) {
        if self.retired.len() >= MOST_RETIRED {
            self.retired.remove(0);
        }
        self.retired.push(version);
    }
}

#[cfg(test)]
mod tests;
