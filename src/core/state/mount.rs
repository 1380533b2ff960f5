//! The mount table: which engine serves which folder.
//!
//! A record is in the built-in mount table under the mount's path (`secret/`). The data of a mount belongs to its
//! random [`MountId`], never to the path, so moving a mount changes only this record (amendment M9).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::api::hex::{hex, unhex_into};
use crate::api::path::Path;
use crate::api::sys::{self, MountConfig};
use crate::barrier::MountId;
use crate::engine::{Engine, kv};

use crate::core::error::VaultError;

/// 32 days in seconds: what Vault shows for mounts without lease settings.
const DEFAULT_LEASE_S: u64 = 2_764_800;

/// On-disk form of one mount, in JSON. Unknown fields are an error, because an older program must not drop what it
/// cannot read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::core) struct MountRecord {
    /// Format, 1.
    pub format: u8,
    /// Mount id, 32 hex digits.
    pub id: String,
    /// Engine: `kv`.
    pub kind: String,
    /// Options of the engine as the API shows them; `version` = `2`.
    pub options: BTreeMap<String, String>,
    /// Text for people.
    pub description: String,
    /// Handle that clients print. It is derived from the id.
    pub accessor: String,
}

impl MountRecord {
    /// A KV version 2 mount.
    pub(in crate::core) fn kv2(id: &MountId, description: &str) -> Self {
        let id = hex(&id.0);
        let accessor = format!("kv_{}", &id[..8]);
        Self {
            format: 1,
            id,
            kind: "kv".to_owned(),
            options: BTreeMap::from([("version".to_owned(), "2".to_owned())]),
            description: description.to_owned(),
            accessor,
        }
    }

    /// A fixed entry that clients expect in the table and that routes nowhere.
    pub(in crate::core) fn built_in(kind: &str) -> Self {
        Self {
            format: 1,
            id: format!("{:032x}", 0),
            kind: kind.to_owned(),
            options: BTreeMap::new(),
            description: String::new(),
            accessor: format!("{kind}_00000000"),
        }
    }

    /// The mount as Vault shows it.
    pub(in crate::core) fn shown(&self, path: Option<&Path>) -> sys::Mount {
        sys::Mount {
            kind: self.kind.clone(),
            description: self.description.clone(),
            accessor: self.accessor.clone(),
            uuid: self.uuid(),
            config: MountConfig {
                default_lease_ttl: DEFAULT_LEASE_S,
                max_lease_ttl: DEFAULT_LEASE_S,
                force_no_cache: false,
            },
            options: (!self.options.is_empty()).then(|| self.options.clone()),
            path: path.map(|path| path.as_str().to_owned()),
            ..sys::Mount::default()
        }
    }

    /// The id in the dashed form that clients call `uuid`.
    pub(in crate::core) fn uuid(&self) -> String {
        let parts = [0..8, 8..12, 12..16, 16..20, 20..32];
        parts.map(|range| self.id.get(range).unwrap_or_default().to_owned()).join("-")
    }
}

/// One mount, ready to serve requests.
pub(in crate::core) struct Mount {
    /// Its path, which is a folder, for example `secret/`.
    pub path: Path,
    /// Id of its data.
    pub id: MountId,
    /// Its engine.
    pub engine: Arc<dyn Engine>,
    /// Its type, for the audit log.
    pub kind: &'static str,
    /// Its record.
    pub record: MountRecord,
}

impl Mount {
    /// Parses a record.
    ///
    /// # Errors
    /// [`VaultError::Integrity`] when it cannot be parsed. The bytes were authentic, so this is a bug or a record of a
    /// newer program. Guessing would route secrets to the wrong place.
    pub(in crate::core) fn from_record(key: &str, value: &[u8]) -> Result<Self, VaultError> {
        let record: MountRecord = serde_json::from_slice(value).map_err(|_| VaultError::Integrity)?;
        let path = Path::parse(key).map_err(|_| VaultError::Integrity)?;
        let mut id = [0; 16];
        if !unhex_into(&record.id, &mut id) {
            return Err(VaultError::Integrity);
        }
        let version = record.options.get("version").map(String::as_str);
        let (engine, kind): (Arc<dyn Engine>, _) = match (record.format, record.kind.as_str(), version) {
            (1, "kv", Some("2")) => (Arc::new(kv::Kv::new()), "kv"),
            _ => return Err(VaultError::Integrity),
        };
        if !path.is_folder() || path.is_root() {
            return Err(VaultError::Integrity);
        }
        Ok(Self { path, id: MountId(id), engine, kind, record })
    }
}

/// All mounts, longest path first.
#[derive(Default)]
pub(in crate::core) struct MountTable(Vec<Arc<Mount>>);

impl MountTable {
    pub(in crate::core) fn new(mut mounts: Vec<Arc<Mount>>) -> Self {
        mounts.sort_by(|a, b| {
            let length = |mount: &Mount| mount.path.as_str().len();
            length(b).cmp(&length(a)).then_with(|| a.path.cmp(&b.path))
        });
        Self(mounts)
    }

    /// Returns the mount with the longest path that contains `path`, and the rest of the path.
    pub(in crate::core) fn route(&self, path: &Path) -> Option<(&Arc<Mount>, Path)> {
        self.0.iter().find_map(|mount| path.strip_prefix(&mount.path).map(|rest| (mount, rest)))
    }

    /// Identifiers of all mounts.
    pub(in crate::core) fn ids(&self) -> impl Iterator<Item = MountId> + '_ {
        self.sorted().into_iter().map(|mount| mount.id)
    }

    pub(in crate::core) fn sorted(&self) -> Vec<&Arc<Mount>> {
        let mut mounts: Vec<_> = self.0.iter().collect();
        mounts.sort_by(|a, b| a.path.cmp(&b.path));
        mounts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(path: &str, n: u8) -> Arc<Mount> {
        let record = MountRecord::kv2(&MountId([n; 16]), "");
        let value = serde_json::to_vec(&record).expect("a record serialises");
        Arc::new(Mount::from_record(path, &value).expect("a fresh record reads back"))
    }

    #[test]
    fn the_longest_path_answers() {
        let table = MountTable::new(vec![mount("a/", 1), mount("a/b/", 2), mount("ab/", 3)]);
        let check = |path: &str, want: Option<(u8, &str)>| {
            let path = Path::parse(path).expect("valid path");
            let got = table.route(&path).map(|(mount, rest)| (mount.id.0[0], rest.as_str().to_owned()));
            assert_eq!(got, want.map(|(n, rest)| (n, rest.to_owned())), "{path}");
        };
        check("a/x", Some((1, "x")));
        check("a/b/x/y", Some((2, "x/y")));
        check("a/bc/x", Some((1, "bc/x")));
        check("ab/x/", Some((3, "x/")));
        check("abc/x", None);
        check("b/x", None);
    }

    #[test]
    fn a_record_with_unknown_parts_is_refused() {
        for text in [
            r#"{"format":2,"id":"00000000000000000000000000000001","kind":"kv","options":{"version":"2"},"description":"","accessor":""}"#,
            r#"{"format":1,"id":"0001","kind":"kv","options":{"version":"2"},"description":"","accessor":""}"#,
            r#"{"format":1,"id":"00000000000000000000000000000001","kind":"pki","options":{"version":"2"},"description":"","accessor":""}"#,
            r#"{"format":1,"id":"00000000000000000000000000000001","kind":"kv","options":{"version":"2"},"description":"","accessor":"","x":1}"#,
        ] {
            assert!(Mount::from_record("secret/", text.as_bytes()).is_err(), "{text}");
        }
        let good = serde_json::to_vec(&MountRecord::kv2(&MountId([7; 16]), "")).expect("serialises");
        assert!(Mount::from_record("secret", &good).is_err(), "a mount path is a folder");
        assert!(Mount::from_record("secret/", &good).is_ok());
    }

    #[test]
    fn the_id_shows_as_uuid() {
        let record = MountRecord::kv2(&MountId([0xab; 16]), "");
        assert_eq!(record.uuid(), "abababab-abab-abab-abab-abababababab");
        assert_eq!(record.accessor, "kv_abababab");
    }
}
