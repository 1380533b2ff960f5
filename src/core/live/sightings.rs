//! When, from where and with which bundle each identity was last seen.
//!
//! Kept in memory and saved from time to time ([`Sightings::due`]) in built-in mount 15, because lists, and which
//! identities have not fetched the new authorities yet, must survive a restart. A crash loses at most the last half hour
//! of an identity that was already known.

use std::collections::HashMap;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::api::hex::hex;
use crate::barrier::View;

use crate::core::Caller;
use crate::core::error::VaultError;

/// A sighting is saved again when the saved one is this much older than the one in memory, in milliseconds.
const STALE_MS: u64 = 30 * 60_000;
/// Largest number of records saved at once.
const MAX_WRITTEN: usize = 1_000;
/// A request this soon after the last one changes nothing, in milliseconds.
const FRESH_MS: u64 = 1_000;

/// On-disk form, in JSON. The key is the identity's path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::core) struct Sighting {
    /// Format, 1.
    pub v: u8,
    pub at_ms: u64,
    /// Address without its port.
    pub source: String,
    /// The bundle that it trusts, in hexadecimal; empty if it did not say.
    #[serde(default)]
    pub bundle: String,
}

/// The sightings of all identities.
#[derive(Default)]
pub(in crate::core) struct Sightings(RwLock<HashMap<String, Seen>>);

struct Seen {
    now: Sighting,
    written: Sighting,
}

impl Sightings {
    /// Reads the saved sightings.
    ///
    /// # Errors
    /// [`VaultError::Integrity`] for a record that cannot be parsed.
    pub(in crate::core) fn load(view: &View<'_>) -> Result<Self, VaultError> {
        let mut all = HashMap::new();
        view.each_entry(|name, entry| {
            let now: Sighting = serde_json::from_slice(entry.value.reveal()).map_err(|_| VaultError::Integrity)?;
            all.insert(name.to_owned(), Seen { written: now.clone(), now });
            Ok::<(), VaultError>(())
        })?;
        Ok(Self(RwLock::new(all)))
    }

    /// Records that a registered identity was seen.
    pub(in crate::core) fn saw(&self, caller: &Caller, now_ms: u64) {
        let path = caller.identity.path();
        let fresh = |seen: &Seen| {
            now_ms.abs_diff(seen.now.at_ms) < FRESH_MS
                && caller.bundle.is_none_or(|bundle| seen.now.bundle == hex(&bundle))
        };
        // The most common case: the identity was seen a moment ago, and a shared lock is enough to find that out.
        if self.0.read().get(path).is_some_and(fresh) {
            return;
        }
        let mut all = self.0.write();
        let seen = all
            .entry(path.to_owned())
            .or_insert_with(|| Seen { now: Sighting { v: 1, ..Sighting::default() }, written: Sighting::default() });
        // Requests may arrive in a different order than they began. A time further in the future comes from a clock that
        // was wrong.
        let is_near = now_ms.abs_diff(seen.now.at_ms) < FRESH_MS;
        seen.now.at_ms = if is_near { seen.now.at_ms.max(now_ms) } else { now_ms };
        seen.now.bundle = bundle_of(caller, &seen.now);
        source_of(&caller.remote).clone_into(&mut seen.now.source);
    }

    /// The last sighting of an identity.
    pub(in crate::core) fn of(&self, path: &str) -> Option<Sighting> {
        self.0.read().get(path).map(|seen| seen.now.clone())
    }

    /// Number of identities that were seen.
    #[cfg(test)]
    pub(in crate::core) fn len(&self) -> usize {
        self.0.read().len()
    }

    /// The sightings to save: first sightings, changed bundles and addresses, and old ones.
    pub(in crate::core) fn due(&self) -> Vec<(String, Sighting)> {
        let all = self.0.read();
        let due = all.iter().filter(|(_, Seen { now, written })| {
            now.bundle != written.bundle || now.source != written.source || now.at_ms.abs_diff(written.at_ms) > STALE_MS
        });
        due.take(MAX_WRITTEN).map(|(path, seen)| (path.clone(), seen.now.clone())).collect()
    }

    /// Marks these as saved.
    pub(in crate::core) fn wrote(&self, written: &[(String, Sighting)]) {
        let mut all = self.0.write();
        for (path, sighting) in written {
            if let Some(seen) = all.get_mut(path) {
                seen.written = sighting.clone();
            }
        }
    }

    /// Removes an identity.
    pub(in crate::core) fn forget(&self, path: &str) {
        self.0.write().remove(path);
    }
}

/// The bundle that a caller names, or the previous one, because not every request of a client carries the header.
fn bundle_of(caller: &Caller, before: &Sighting) -> String {
    caller.bundle.map_or_else(|| before.bundle.clone(), |bundle| hex(&bundle))
}

/// An address without its port.
pub(in crate::core) fn source_of(remote: &str) -> &str {
    remote.rsplit_once(':').map_or(remote, |(host, _)| host)
}
