//! Identities: the policies of the holder of a certificate.
//!
//! The record is in built-in mount 3 under the SPIFFE path (`app/web`), with a value such as `{"policies":["web"]}`. An
//! identity without a record is unknown: it has no policy, not even `default`, and everything is denied to it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::api::path::Path;
use crate::api::spiffe::SpiffeId;
use crate::barrier::{EntryValue, MountId, Tx, View};
use crate::policy::{Ask, Capability, Decision};

use crate::core::error::VaultError;

/// The policy that every registered identity has in addition to its own.
pub(in crate::core) const DEFAULT_POLICY: &str = "default";
/// The policy of the first operator.
pub(in crate::core) const ADMIN_POLICY: &str = "admin";
/// Clients expect a policy of this name to be all-powerful. There is none here, so the name must not exist.
pub(in crate::core) const ROOT_POLICY: &str = "root";

/// Text of `default`: the part of Vault's policy that covers paths which exist here.
pub(in crate::core) const DEFAULT_TEXT: &str = "\
# What every registered identity may do.
path \"sys/capabilities-self\" {
  capabilities = [\"update\"]
}
# Each secret that is waited for must be readable besides.
path \"sys/strongroom/events\" {
  capabilities = [\"read\"]
}
";

/// Text of `admin`.
pub(in crate::core) const ADMIN_TEXT: &str = "\
# Everything, for operators.
path \"*\" {
  capabilities = [\"create\", \"read\", \"update\", \"patch\", \"delete\", \"list\", \"sudo\"]
}
";

/// Largest number of policies of one identity.
pub(in crate::core) const MAX_POLICIES: usize = 64;

/// Identities below this folder are people. Their certificates live for hours.
pub(in crate::core) const OPERATORS: &str = "operator/";
/// Identities below this folder stand for certificates of an outside PKI. Nobody is registered or enrolled there.
pub(in crate::core) const OUTSIDE: &str = "cert/";
/// The listener's own identity in the ledger.
pub(in crate::core) const LISTENER: &str = "server";
/// Longest grace period after a certificate's expiry in which an identity may renew it, in seconds.
pub(in crate::core) const MAX_GRACE_S: u64 = 30 * 86_400;

/// On-disk form, in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::core) struct IdentityRecord {
    /// Policy names, lower case, sorted, without `default`.
    pub policies: Vec<String>,
    /// Present while requests of the identity are rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<Disabled>,
    /// The mark: certificates issued under a lower mark are invalid. It is the time of the last change that revoked all
    /// of them, rounded up to a second, and it only ever rises. The ledger, not a date, tells what was issued before
    /// it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub not_before_ms: u64,
    /// Lifetime of its certificates, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_life_s: Option<u64>,
    /// How long after its expiry a certificate may still be renewed, in seconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub grace_s: u64,
}

impl IdentityRecord {
    /// Revokes every certificate that was issued so far.
    pub(in crate::core) fn end_all(&mut self, now_ms: u64) {
        // Dates in certificates are whole seconds. A certificate that is not in the ledger must be older than the mark
        // by its date.
        let next_second_ms = (now_ms / 1_000).saturating_add(1).saturating_mul(1_000);
        self.not_before_ms = next_second_ms.max(self.not_before_ms.saturating_add(1));
    }

    /// Whether an earlier [`IdentityRecord::end_all`] has revoked a certificate. Compares the mark under which it was
    /// issued or, if it is not in the ledger, its time of issue.
    pub(in crate::core) fn outlives(&self, mark_ms: Option<u64>, issued_ms: u64) -> bool {
        mark_ms.unwrap_or(issued_ms) < self.not_before_ms
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde prescribes the signature
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// The reason for an identity that the vault itself disabled.
const FROZEN: &str = "frozen: a certificate that was already renewed was used to renew again, so someone has a copy";

/// Why and since when an identity is disabled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::core) struct Disabled {
    pub at_ms: u64,
    pub reason: String,
    /// Whether the vault did it, because a certificate was copied. Absent in older records, where the reason tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    frozen: Option<bool>,
}

impl Disabled {
    /// An operator did it.
    pub(in crate::core) fn by_operator(at_ms: u64, reason: String) -> Self {
        Self { at_ms, reason, frozen: Some(false) }
    }

    /// The vault did it, because two parties hold one certificate.
    pub(in crate::core) fn frozen(at_ms: u64) -> Self {
        Self { at_ms, reason: FROZEN.to_owned(), frozen: Some(true) }
    }

    /// Whether the vault did it.
    pub(in crate::core) fn is_frozen(&self) -> bool {
        self.frozen.unwrap_or_else(|| self.reason == FROZEN)
    }
}

/// On-disk form of a group, in JSON. Built-in mount 16, with the name as key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::core) struct GroupRecord {
    /// Policy names, lower case, sorted.
    pub policies: Vec<String>,
    /// Identity paths, or folders that end in `/*`, sorted. Only registered identities are members.
    pub members: Vec<String>,
}

impl GroupRecord {
    /// Whether the identity with this path is a member.
    pub(in crate::core) fn has(&self, path: &str) -> bool {
        let lists = |folder: &str, end: &[u8]| {
            let compare = |member: &String| member.bytes().cmp(folder.bytes().chain(end.iter().copied()));
            self.members.binary_search_by(compare).is_ok()
        };
        lists(path, b"") || path.match_indices('/').any(|(end, _)| lists(path.get(..end).unwrap_or(path), b"/*"))
    }
}

/// Reads the record of an identity.
///
/// # Errors
/// [`VaultError::Integrity`] when it cannot be parsed.
pub(in crate::core) fn read(view: &View<'_>, path: &str) -> Result<Option<IdentityRecord>, VaultError> {
    view.entry(path)?.map(|entry| decode(&entry)).transpose()
}

/// Parses the record in an entry.
///
/// # Errors
/// As [`read`].
pub(super) fn decode(entry: &EntryValue) -> Result<IdentityRecord, VaultError> {
    serde_json::from_slice(entry.value.reveal()).map_err(|_| VaultError::Integrity)
}

/// Writes the record of an identity.
///
/// # Errors
/// The errors of the barrier when a record cannot be read or written.
pub(in crate::core) fn put(tx: &mut Tx<'_>, path: &str, record: &IdentityRecord) -> Result<(), VaultError> {
    let bytes = serde_json::to_vec(record).map_err(|_| VaultError::Internal)?;
    tx.put_entry(IDENTITIES, path, &bytes, 0)?;
    Ok(())
}

/// All groups by name.
///
/// # Errors
/// [`VaultError::Integrity`] for a group that cannot be parsed.
pub(in crate::core) fn groups(view: &View<'_>) -> Result<BTreeMap<String, GroupRecord>, VaultError> {
    let mut groups = BTreeMap::new();
    view.each_entry(|name, entry| {
        let mut group: GroupRecord = serde_json::from_slice(entry.value.reveal()).map_err(|_| VaultError::Integrity)?;
        group.members.sort_unstable();
        groups.insert(name.to_owned(), group);
        Ok::<(), VaultError>(())
    })?;
    Ok(groups)
}

/// Checks the name of a policy: one path segment, lower case.
///
/// # Errors
/// [`VaultError::BadRequest`] with the rule, without the name.
pub(in crate::core) fn policy_name(raw: &str) -> Result<String, VaultError> {
    let name = raw.to_lowercase();
    let path = Path::parse(&name).ok().filter(|path| !path.is_folder() && path.segments().count() == 1);
    if path.is_none() {
        return Err(VaultError::BadRequest("a policy name must be one path segment".to_owned()));
    }
    Ok(name)
}

/// Parses an identity path, or a full identity of this trust domain. Checks only whether it can be registered.
///
/// # Errors
/// [`VaultError::BadRequest`] when the field `identity` is malformed, names another trust domain, or has a path that
/// stands for certificates of an outside PKI.
pub(in crate::core) fn named(text: &str, trust_domain: &str) -> Result<SpiffeId, VaultError> {
    let bad = |text: &str| VaultError::BadRequest(text.to_owned());
    let parsed = if text.contains("://") { SpiffeId::parse(text) } else { SpiffeId::new(trust_domain, text) };
    let identity = parsed.map_err(|_| bad("field \"identity\" is not a SPIFFE identity"))?;
    if identity.trust_domain() != trust_domain {
        return Err(bad("field \"identity\" names another trust domain"));
    }
    if identity.path().starts_with(OUTSIDE) {
        return Err(bad("identities below cert/ stand for certificates of an outside PKI: choose another path"));
    }
    Ok(identity)
}

/// One warning for each named policy that does not exist.
///
/// # Errors
/// The errors of the barrier when a record cannot be read or written.
pub(in crate::core) fn warn_of_missing<'a>(
    policies: &View<'_>,
    named: impl IntoIterator<Item = &'a String>,
) -> Result<Vec<String>, VaultError> {
    let mut warnings = Vec::new();
    for name in named {
        if policies.entry(name)?.is_none() {
            warnings.push(format!("policy \"{name}\" does not exist and grants nothing yet"));
        }
    }
    Ok(warnings)
}

/// Names of all policies of an identity: its own, those of its groups, and `default`. Sorted, without duplicates.
pub(in crate::core) fn names_of(
    record: &IdentityRecord,
    groups: &BTreeMap<String, GroupRecord>,
    path: &str,
) -> BTreeSet<String> {
    let grouped = groups.values().filter(|group| group.has(path)).flat_map(|group| group.policies.iter());
    let own = record.policies.iter();
    own.chain(grouped).cloned().chain([DEFAULT_POLICY.to_owned()]).collect()
}

/// Whether an identity can grant rights, that is, change the policies and the identities.
pub(in crate::core) fn is_administrator(decide: impl Fn(&Ask<'_>) -> Decision, identity: &str) -> bool {
    let may = |path: &str, capability| {
        Path::parse(path).is_ok_and(|path| {
            let ask = Ask { path: &path, capability, sudo: false, parameters: None, wrap_ttl: None };
            matches!(decide(&ask), Decision::Allow { .. })
        })
    };
    may("sys/policies/acl/admin", Capability::Update)
        && may(&format!("sys/strongroom/identities/{identity}"), Capability::Update)
}

/// Built-in mount of the policies.
pub(in crate::core) const POLICIES: MountId = MountId::POLICIES;
/// Built-in mount of the identities.
pub(in crate::core) const IDENTITIES: MountId = MountId::IDENTITIES;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_records_say_frozen_by_their_reason() {
        let read = |disabled: &str| {
            let text = format!(r#"{{"policies":[],"disabled":{disabled}}}"#);
            let record: IdentityRecord = serde_json::from_str(&text).expect("an older record is still read");
            record.disabled.expect("disabled")
        };
        assert!(read(&format!(r#"{{"at_ms":1,"reason":"{FROZEN}"}}"#)).is_frozen());
        assert!(!read(r#"{"at_ms":1,"reason":"frozen over"}"#).is_frozen());
        for made in [Disabled::frozen(1), Disabled::by_operator(1, FROZEN.to_owned())] {
            let again = read(&serde_json::to_string(&made).expect("JSON"));
            assert_eq!((again.is_frozen(), &again), (made.is_frozen(), &made));
        }
        assert!(!Disabled::by_operator(1, FROZEN.to_owned()).is_frozen(), "an operator may write any reason");
    }
}
