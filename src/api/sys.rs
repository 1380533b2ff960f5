//! Bodies below `sys/`, for both ends of the wire. Vault's shapes; strict clients need every key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fields::FieldError;
use super::request::Body;
use super::secret::SecretText;

/// Reply of `seal-status` and `unseal`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SealStatus {
    /// `shamir`, the word clients know for a vault that people unseal; key slots are listed elsewhere.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether a vault exists.
    pub initialized: bool,
    /// Whether it is closed.
    pub sealed: bool,
    /// Key parts needed.
    pub t: u32,
    /// Key parts that exist.
    pub n: u32,
    /// Key parts given so far.
    pub progress: u32,
    /// Id of the attempt under way.
    pub nonce: String,
    /// Version of the server.
    pub version: String,
    /// RFC 3339 time of the build, or empty.
    pub build_date: String,
    /// Always false.
    pub migration: bool,
    /// Name of the vault; only when open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,
    /// Id of the vault; only when open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// Always false.
    pub recovery_seal: bool,
    /// Name of the storage engine.
    pub storage_type: String,
    /// Seconds until the vault accepts the next secret from this caller, after failed attempts. Only in the reply of
    /// `seal-status`, and only if it is not 0.
    #[serde(skip_serializing_if = "is_zero")]
    pub retry_after_s: u64,
}

/// Body of `unseal`.
pub struct UnsealRequest {
    /// The passphrase.
    pub key: Option<SecretText>,
    /// Bytes of a key file, base64: with `key` for a slot that needs both, alone for one that needs only the file.
    pub key_file: Option<SecretText>,
    /// Forget the attempt under way.
    pub reset: bool,
    /// Not offered.
    pub migrate: bool,
}

impl UnsealRequest {
    /// Reads the body. Unknown fields are ignored, as in Vault.
    ///
    /// # Errors
    /// [`FieldError`].
    pub fn read(body: &Body) -> Result<Self, FieldError> {
        let fields = body.fields();
        Ok(Self {
            key: fields.secret("key")?,
            key_file: fields.secret("key_file")?,
            reset: fields.flag("reset")?.unwrap_or(false),
            migrate: fields.flag("migrate")?.unwrap_or(false),
        })
    }
}

/// Body of a request for a certificate over the local socket.
pub struct RescueRequest {
    /// Path of the identity.
    pub identity: String,
    /// PEM request. Only its key is used.
    pub csr: String,
    /// A passphrase, recovery code or share that opens the vault.
    pub key: Option<SecretText>,
    /// Bytes of a key file, base64.
    pub key_file: Option<SecretText>,
}

impl RescueRequest {
    /// Reads the body.
    ///
    /// # Errors
    /// [`FieldError`] when a field is missing, malformed or unknown.
    pub fn read(body: &Body) -> Result<Self, FieldError> {
        let fields = body.only(&["identity", "csr", "key", "key_file"])?;
        Ok(Self {
            identity: fields.required("identity")?,
            csr: fields.required("csr")?,
            key: fields.secret("key")?,
            key_file: fields.secret("key_file")?,
        })
    }
}

/// Reply of `health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// Whether a vault exists.
    pub initialized: bool,
    /// Whether it is closed.
    pub sealed: bool,
    /// Always false: one node.
    pub standby: bool,
    /// Always false; strict clients need the key.
    pub performance_standby: bool,
    /// Always `disabled`.
    pub replication_performance_mode: String,
    /// Always `disabled`.
    pub replication_dr_mode: String,
    /// Seconds since 1970.
    pub server_time_utc: u64,
    /// Version of the server.
    pub version: String,
    /// Always false.
    pub enterprise: bool,
    /// Name of the vault; only when open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,
    /// Id of the vault; only when open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// Always 0.
    pub echo_duration_ms: u64,
    /// Always 0.
    pub clock_skew_ms: u64,
    /// Always 0.
    pub replication_primary_canary_age_ms: u64,
    /// Losses that operators have accepted, oldest first; only when open. Without any, the key is absent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<AcceptedLoss>,
    /// Stored records are damaged; only when open. Without any, the key is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damage: Option<Damage>,
}

/// Stored records were found to be damaged. `sys/strongroom/verify` finds out which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// Writes are rejected until a restart, because somebody has read a damaged record since the start. Otherwise it was
    /// found before the start, or by a check that found a record nothing refers to or a wrong checksum. Either way no check
    /// has passed since.
    pub writes_stopped: bool,
}

/// A loss that an operator has accepted: part of the vault for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedLoss {
    /// RFC 3339 time.
    pub time: String,
    /// What was accepted, one line each.
    pub accepted: Vec<String>,
    /// Label of the key slot that opened the vault for it.
    pub slot: String,
    /// Epoch that began with it.
    pub epoch: u32,
    /// Generation of the state that was accepted.
    pub generation: u64,
    /// Last audit entry that this state vouches for.
    pub audit_seq: u64,
    /// Number of records removed by a salvage; absent if there were none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub salvaged: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde asks for it.
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A damaged record, found by a check or removed by a salvage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRecord {
    /// Kind: `version`, `name`, `entry` or `stray`; `list` where a part of the list itself is lost.
    pub what: String,
    /// Mount, as in `secret/`, or what a built-in mount contains; empty if unknown.
    pub mount: String,
    /// Path of the secret for a version, or of the folder for a name; otherwise empty.
    pub path: String,
    /// Number of the version; absent for everything else.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub version: u64,
    /// Number of further records that can only be reached through this one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub behind: u64,
    /// What is wrong with it.
    pub why: String,
    /// Key in the store, hexadecimal.
    pub record: String,
}

/// An accepted loss with the records that were removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedLoss {
    /// The loss.
    #[serde(flatten)]
    pub loss: AcceptedLoss,
    /// Records that were damaged when the store was salvaged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<BadRecord>,
}

/// Reply of `sys/strongroom/losses`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Oldest first.
    pub losses: Vec<NamedLoss>,
}

impl std::fmt::Display for BadRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { mount, path, version, behind, why, record, .. } = self;
        match self.what.as_str() {
            "version" => write!(f, "{mount}{path}, version {version}: {why}")?,
            "name" => write!(f, "a name in {mount}{path}: {why}")?,
            "entry" => write!(f, "an entry of {mount}: {why}")?,
            "list" => f.write_str(why)?,
            _ => write!(f, "record {record}: {why}")?,
        }
        match *behind {
            0 => Ok(()),
            behind => write!(f, " (and {} below it)", in_records(behind)),
        }
    }
}

/// A number of records in words.
///
/// ```
/// use strongroom::api::sys::in_records;
///
/// assert_eq!((in_records(1), in_records(7)), ("1 record".to_owned(), "7 records".to_owned()));
/// ```
#[must_use]
pub fn in_records(number: u64) -> String {
    if number == 1 { "1 record".to_owned() } else { format!("{number} records") }
}

/// Progress or result of a check of all records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// `none` (no check has run since the vault was unsealed), `running`, `done` or `stopped`.
    pub state: String,
    /// Start, RFC 3339; empty with `none`.
    pub started: String,
    /// End, RFC 3339; absent while it runs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub finished: String,
    /// Maximum records per second.
    pub records_per_second: u64,
    /// Number of records checked.
    pub records: u64,
    /// Number of records in the vault at the start.
    pub total: u64,
    /// Size of the contents of the checked records, bytes.
    pub bytes: u64,
    /// Number of damaged records, without those behind them.
    pub failed: u64,
    /// Whether the set hash over all records matches the sealed state; absent until the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_hash: Option<bool>,
    /// Whether the check proves that no record is damaged; absent until the end. It does not if a reader found damage while
    /// it ran, or if the set hash was not compared because the keys were replaced meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clean: Option<bool>,
    /// Damaged records, at most 1,000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bad: Vec<BadRecord>,
    /// Why it stopped.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            initialized: false,
            sealed: true,
            standby: false,
            performance_standby: false,
            replication_performance_mode: "disabled".to_owned(),
            replication_dr_mode: "disabled".to_owned(),
            server_time_utc: 0,
            version: String::new(),
            enterprise: false,
            cluster_name: None,
            cluster_id: None,
            echo_duration_ms: 0,
            clock_skew_ms: 0,
            replication_primary_canary_age_ms: 0,
            losses: Vec::new(),
            damage: None,
        }
    }
}

/// Reply of `leader`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Leader {
    /// Always false: one node.
    pub ha_enabled: bool,
    /// Whether this node serves.
    pub is_self: bool,
    /// RFC 3339 time since when.
    pub active_time: String,
    /// Empty without a cluster.
    pub leader_address: String,
    /// Empty without a cluster.
    pub leader_cluster_address: String,
    /// Always false.
    pub performance_standby: bool,
    /// Always 0.
    pub performance_standby_last_remote_wal: u64,
}

/// Reply of `key-status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyStatus {
    /// Number of the active key.
    pub term: u32,
    /// RFC 3339 time since when.
    pub install_time: String,
    /// Records sealed with it so far.
    pub encryptions: u64,
}

/// Reply of `strongroom/events`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Events {
    /// Ask with this the next time.
    pub cursor: String,
    /// Secrets that changed, as they were named.
    pub changed: Vec<String>,
    /// It is not known what changed: look at all of them.
    pub resync: bool,
}

/// Reply of `strongroom/audit-public-key`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditPublicKey {
    /// Number of the key.
    pub id: u32,
    /// `ed25519`.
    pub algorithm: String,
    /// 32 bytes in hexadecimal.
    pub public_key: String,
    /// SHA-256 of the key, to compare by eye.
    pub fingerprint: String,
    /// All keys of this vault, the newest last: older entries were signed with older ones.
    pub keys: Vec<AuditPublicHalf>,
}

/// One public half.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditPublicHalf {
    /// Number of the key.
    pub id: u32,
    /// 32 bytes in hexadecimal.
    pub public_key: String,
}

/// Tuning values of a [`Mount`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountConfig {
    /// Seconds; 0 means the system's value.
    pub default_lease_ttl: u64,
    /// Seconds; 0 means the system's value.
    pub max_lease_ttl: u64,
    /// Always false.
    pub force_no_cache: bool,
}

/// One mount of `sys/mounts` and of the preflight `sys/internal/ui/mounts/<path>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Engine, as `kv`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Free text.
    pub description: String,
    /// Short random name.
    pub accessor: String,
    /// Random id.
    pub uuid: String,
    /// Tuning.
    pub config: MountConfig,
    /// Engine options, as `version` = `2`.
    pub options: Option<BTreeMap<String, String>>,
    /// Always false.
    pub local: bool,
    /// Always false.
    pub seal_wrap: bool,
    /// Always false.
    pub external_entropy_access: bool,
    /// Always empty.
    pub plugin_version: String,
    /// Always empty.
    pub running_plugin_version: String,
    /// Always empty.
    pub running_sha256: String,
    /// Always empty.
    pub deprecation_status: String,
    /// Folder of the mount; only in the preflight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Reply of `GET sys/policies/acl/<name>`: exactly these two keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyReply {
    /// Name, lower case.
    pub name: String,
    /// The text, byte for byte as it was written.
    pub policy: String,
}

/// Body of `PUT sys/policies/acl/<name>`; `rules` is the old name of `policy`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyWrite {
    /// HCL or JSON text.
    #[serde(alias = "rules")]
    pub policy: String,
}

/// Body of `capabilities-self`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilitiesRequest {
    /// Paths to ask about.
    #[serde(default)]
    pub paths: Vec<String>,
}

/// Reply of `capabilities-self`: verbs by path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilitiesReply {
    /// Verbs of the path when exactly one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Vec<String>>,
    /// Verbs by path; `deny` alone means none.
    #[serde(flatten)]
    pub paths: BTreeMap<String, Vec<String>>,
}

/// Reply of `sys/strongroom/identities/<path>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Identity {
    /// Names of its own policies.
    pub policies: Vec<String>,
    /// Names of the groups it is in.
    pub groups: Vec<String>,
    /// Whether its requests are refused.
    pub disabled: bool,
    /// Since when.
    pub disabled_at: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Whether the vault disabled it itself, because a copy of one of its certificates was used.
    pub frozen: bool,
    /// Certificates issued before this instant count for nothing.
    pub not_before: Option<String>,
    /// Life of its certificates in seconds, if it has one of its own.
    pub certificate_ttl: Option<u64>,
    /// Seconds after its end in which a certificate can still be renewed.
    pub grace: u64,
    /// Its certificates, newest first.
    pub certificates: Vec<CertificateInfo>,
    /// When it last asked for something.
    pub last_seen: Option<String>,
    /// From which address.
    pub source: Option<String>,
    /// Open connections.
    pub connections: usize,
}

/// One certificate of an identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CertificateInfo {
    /// SHA-256, hexadecimal.
    pub fingerprint: String,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Id of the authority.
    pub authority: String,
    /// When it was issued.
    pub issued: String,
    /// When it ends.
    pub not_after: String,
    /// Whether it was renewed.
    pub superseded: bool,
    /// When it was revoked.
    pub revoked: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Open connections with it.
    pub connections: usize,
}

/// One line of `sys/strongroom/identity-report`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IdentityLine {
    /// Whether its requests are refused.
    pub disabled: bool,
    /// Certificates that are valid, not renewed and not revoked.
    pub certificates: usize,
    /// When the last of them ends.
    pub not_after: Option<String>,
    /// When it last asked for something.
    pub last_seen: Option<String>,
    /// From which address.
    pub source: Option<String>,
    /// Whether it trusts today's authorities; absent when it has not said.
    pub bundle_current: Option<bool>,
    /// Open connections.
    pub connections: usize,
}

/// Body of `sys/strongroom/certificates`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateRequest {
    /// SPIFFE path of the holder.
    pub identity: String,
    /// PEM request. Only its key is used.
    pub csr: String,
    /// Duration text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
}

/// Reply of `sys/strongroom/certificates`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateReply {
    /// PEM certificate.
    pub certificate: String,
    /// PEM certificates of the authorities to trust.
    pub ca: String,
    /// Who it is for.
    #[serde(default)]
    pub identity: String,
    /// When it ends.
    #[serde(default)]
    pub not_after: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_strict_clients_need_are_there() {
        let health = serde_json::to_string(&Health::default()).expect("writes");
        for key in ["performance_standby", "replication_dr_mode", "server_time_utc", "standby", "enterprise"] {
            assert!(health.contains(&format!("\"{key}\":")), "{key}");
        }
        assert!(!health.contains("cluster_name"));
        let mount = serde_json::to_string(&Mount::default()).expect("writes");
        for key in ["type", "uuid", "external_entropy_access", "config", "options", "local"] {
            assert!(mount.contains(&format!("\"{key}\":")), "{key}");
        }
        assert_eq!(serde_json::to_string(&PolicyReply::default()).expect("writes"), r#"{"name":"","policy":""}"#);
    }

    #[test]
    fn old_names_and_missing_keys_read() {
        let write: PolicyWrite = serde_json::from_str(r#"{"rules":"x"}"#).expect("reads");
        assert_eq!(write.policy, "x");
        let status: SealStatus = serde_json::from_str(r#"{"type":"shamir","sealed":true}"#).expect("reads");
        assert!(status.sealed && status.kind == "shamir");
        let reply: CapabilitiesReply =
            serde_json::from_str(r#"{"a":["read"],"capabilities":["read"]}"#).expect("reads");
        assert_eq!(reply.paths.get("a"), reply.capabilities.as_ref());
    }
}
