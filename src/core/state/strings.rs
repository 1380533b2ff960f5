//! The index of the enrolment strings on record.
//!
//! The records are in built-in mount 11 and belong to `certificates::enroll`. This index finds them without opening all
//! of them: by identity, and by expiry.

use std::collections::{BTreeSet, HashMap};

use parking_lot::RwLock;
use serde::Deserialize;

use super::identity::OUTSIDE;
use crate::barrier::View;
use crate::core::error::VaultError;

/// The part of a record that is indexed.
#[derive(Deserialize)]
struct Indexed {
    identity: String,
    created_by: String,
    expires_ms: u64,
}

impl Indexed {
    fn read(bytes: &[u8]) -> Result<Self, VaultError> {
        serde_json::from_slice(bytes).map_err(|_| VaultError::Integrity)
    }
}

/// The index in memory. Shared by all snapshots: it only tells where to look, and the records decide.
#[derive(Default)]
pub(in crate::core) struct Strings(RwLock<Index>);

#[derive(Default)]
struct Index {
    known: HashMap<String, Indexed>,
    by_identity: HashMap<String, BTreeSet<String>>,
    by_end: BTreeSet<(u64, String)>,
    /// Number of strings by their creator ([`maker`]).
    made: HashMap<String, usize>,
}

/// The name under which the strings of this creator are counted. One person can have many certificates of outside PKIs,
/// so all of these count as one creator.
fn maker(created_by: &str) -> &str {
    if created_by.starts_with(OUTSIDE) { OUTSIDE } else { created_by }
}

impl Index {
    fn remove(&mut self, id: &str) {
        let Some(old) = self.known.remove(id) else { return };
        self.by_end.remove(&(old.expires_ms, id.to_owned()));
        if let Some(made) = self.made.get_mut(maker(&old.created_by)) {
            *made -= 1;
            if *made == 0 {
                self.made.remove(maker(&old.created_by));
            }
        }
        if let Some(all) = self.by_identity.get_mut(&old.identity) {
            all.remove(id);
            if all.is_empty() {
                self.by_identity.remove(&old.identity);
            }
        }
    }

    fn insert(&mut self, id: &str, named: Indexed) {
        self.remove(id);
        self.by_end.insert((named.expires_ms, id.to_owned()));
        *self.made.entry(maker(&named.created_by).to_owned()).or_default() += 1;
        self.by_identity.entry(named.identity.clone()).or_default().insert(id.to_owned());
        self.known.insert(id.to_owned(), named);
    }
}

impl Strings {
    /// Reads every record.
    ///
    /// # Errors
    /// [`VaultError::Integrity`] for a record that cannot be parsed.
    pub(super) fn load(view: &View<'_>) -> Result<Self, VaultError> {
        let mut index = Index::default();
        view.each_entry(|id, entry| {
            index.insert(id, Indexed::read(entry.value.reveal())?);
            Ok::<(), VaultError>(())
        })?;
        Ok(Self(RwLock::new(index)))
    }

    /// Updates one record from the store.
    ///
    /// # Errors
    /// As [`Strings::load`].
    pub(super) fn reread(&self, view: &View<'_>, id: &str) -> Result<(), VaultError> {
        let named = view.entry(id)?.map(|entry| Indexed::read(entry.value.reveal())).transpose()?;
        let mut index = self.0.write();
        match named {
            Some(named) => index.insert(id, named),
            None => index.remove(id),
        }
        Ok(())
    }

    /// Number of strings.
    pub(in crate::core) fn len(&self) -> usize {
        self.0.read().known.len()
    }

    /// Number of strings that the identity with this path created. Certificates of outside PKIs count together.
    pub(in crate::core) fn made_by(&self, creator: &str) -> usize {
        self.0.read().made.get(maker(creator)).copied().unwrap_or_default()
    }

    /// Ids of all strings, sorted.
    pub(in crate::core) fn ids(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.0.read().known.keys().cloned().collect();
        ids.sort_unstable();
        ids
    }

    /// Ids of the strings of the identity with this path.
    pub(in crate::core) fn of(&self, identity: &str) -> Vec<String> {
        self.0.read().by_identity.get(identity).into_iter().flatten().cloned().collect()
    }

    /// At most `most` strings that expired before `before_ms`, oldest first.
    pub(in crate::core) fn ended(&self, before_ms: u64, most: usize) -> Vec<String> {
        let index = self.0.read();
        index.by_end.iter().take_while(|(end_ms, _)| *end_ms < before_ms).take(most).map(|(_, id)| id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_count_by_who_created_them_and_outsiders_as_one() {
        let strings = Strings::default();
        let put = |id: &str, created_by: &str| {
            let named = Indexed { identity: "app/web".to_owned(), created_by: created_by.to_owned(), expires_ms: 1 };
            strings.0.write().insert(id, named);
        };
        put("1", "ops/olga");
        put("2", "ops/olga");
        put("2", "ops/olga");
        put("3", "cert/aa");
        put("4", "cert/bb");
        let made = |who: &str| strings.made_by(who);
        assert_eq!((made("ops/olga"), made("ops/bert"), made("cert/aa"), made("cert/cc")), (2, 0, 2, 2));
        ["1", "2", "3"].iter().for_each(|id| strings.0.write().remove(id));
        assert_eq!((made("ops/olga"), made("cert/bb")), (0, 1));
        assert_eq!(strings.0.read().made.len(), 1);
    }
}
