//! Bodies of the KV v2 engine, for client and server.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::json::{JsonError, Parsed};
use super::secret::SecretJson;

/// Reply of a read: the secret and its version.
#[derive(Deserialize)]
pub struct Data {
    /// The secret's fields as raw JSON; `None` when the version is deleted or destroyed (status 404 with a body).
    #[serde(default)]
    pub data: Option<SecretJson>,
    /// The version.
    pub metadata: Version,
}

impl Data {
    /// The fields, or `None` for a deleted or destroyed version.
    ///
    /// # Errors
    /// [`JsonError`] when the secret is not a JSON object.
    pub fn fields(&self) -> Result<Option<Parsed<'_>>, JsonError> {
        self.data.as_ref().map(|json| Parsed::of(json.reveal().as_bytes())).transpose()
    }
}

/// One version, in the replies of reads and writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Number, counted from 1.
    pub version: u64,
    /// Time of the write, RFC 3339.
    pub created_time: String,
    /// Time from which it counts as deleted, RFC 3339; empty means never.
    pub deletion_time: String,
    /// Whether the content was permanently removed.
    pub destroyed: bool,
    /// The labels of the secret.
    #[serde(default)]
    pub custom_metadata: Option<BTreeMap<String, String>>,
}

/// Body of `delete/`, `undelete/` and `destroy/`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Version numbers.
    pub versions: Vec<u64>,
}

/// One version in [`Metadata`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionState {
    /// Time of the write, RFC 3339.
    pub created_time: String,
    /// Time from which it counts as deleted, RFC 3339; empty means never.
    pub deletion_time: String,
    /// Whether the content was permanently removed.
    pub destroyed: bool,
}

/// Reply of `GET metadata/<path>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Kept versions by number.
    pub versions: BTreeMap<u64, VersionState>,
    /// Newest version; 0 before the first write.
    pub current_version: u64,
    /// Oldest kept version; 0 if none was ever removed.
    pub oldest_version: u64,
    /// Time of creation, RFC 3339.
    pub created_time: String,
    /// Time of the last change, RFC 3339.
    pub updated_time: String,
    /// Number of versions that are kept; 0 means the mount's setting.
    pub max_versions: u32,
    /// Whether writes must include `cas`.
    pub cas_required: bool,
    /// Lifetime of new versions, in Go's duration format; `0s` means the mount's setting.
    pub delete_version_after: String,
    /// Labels.
    #[serde(default)]
    pub custom_metadata: Option<BTreeMap<String, String>>,
}

/// Body of `POST metadata/<path>`. Absent fields stay unchanged.
///
/// ```
/// use strongroom::api::kv::MetadataUpdate;
///
/// let update = MetadataUpdate { max_versions: Some(3), ..MetadataUpdate::default() };
/// assert_eq!(serde_json::to_string(&update).unwrap(), r#"{"max_versions":3}"#);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataUpdate {
    /// See [`Metadata::max_versions`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_versions: Option<u32>,
    /// See [`Metadata::cas_required`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cas_required: Option<bool>,
    /// Lifetime of new versions; see [`crate::api::duration::Ttl::parse`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete_version_after: Option<String>,
    /// Replaces all labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_metadata: Option<BTreeMap<String, String>>,
}

/// Reply of a read of `config`, and body of a write.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Number of versions of each secret that are kept; 0 means 10.
    pub max_versions: u32,
    /// Whether writes must include `cas`.
    pub cas_required: bool,
    /// Lifetime of new versions, in Go's duration format; `0s` means no limit.
    pub delete_version_after: String,
}

/// Reply of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    /// Sorted names; folders end in `/`.
    pub keys: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_replies_of_the_protocol() {
        let data: Data = serde_json::from_str(
            r#"{"data":{"a":1.50},"metadata":{"version":2,"created_time":"x","deletion_time":"","destroyed":false,"custom_metadata":null}}"#,
        )
        .expect("reads");
        let fields = data.fields().expect("an object").expect("present");
        assert_eq!(fields.object().get("a").map(|value| value.raw()), Some("1.50"));
        let gone: Data = serde_json::from_str(
            r#"{"data":null,"metadata":{"version":2,"created_time":"x","deletion_time":"y","destroyed":false,"custom_metadata":{"k":"v"}}}"#,
        )
        .expect("reads");
        assert!(gone.data.is_none());
        let metadata: Metadata = serde_json::from_str(
            r#"{"versions":{"1":{"created_time":"a","deletion_time":"","destroyed":false}},"current_version":1,"oldest_version":0,"created_time":"","updated_time":"","max_versions":0,"cas_required":false,"delete_version_after":"0s","custom_metadata":null,"extra":1}"#,
        )
        .expect("reads");
        assert_eq!(metadata.versions.keys().collect::<Vec<_>>(), [&1]);
    }
}
