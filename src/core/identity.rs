//! Identities: which policies the holder of a certificate has.
//!
//! Record: built-in mount 3, key = SPIFFE path (`app/web`), value = `{"policies":["web"]}`. An identity without a
//! record is a stranger: it has no policy, not even `default`, and is refused like everybody who may not.

use serde::{Deserialize, Serialize};

use crate::api::path::Path;
use crate::barrier::{MountId, View};
use crate::policy::{Acl, Ask, Capability, Decision, Policy};

use super::error::VaultError;

/// The policy that every registered identity has besides its own.
pub(super) const DEFAULT_POLICY: &str = "default";
/// The policy of the first operator.
pub(super) const ADMIN_POLICY: &str = "admin";
/// A name that clients hold to be all-powerful. There is no such policy here, so the name must not exist.
pub(super) const ROOT_POLICY: &str = "root";

/// Text of `default`: the part of Vault's that names paths which exist here.
pub(super) const DEFAULT_TEXT: &str = "\
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
pub(super) const ADMIN_TEXT: &str = "\
# Everything, for operators.
path \"*\" {
  capabilities = [\"create\", \"read\", \"update\", \"patch\", \"delete\", \"list\", \"sudo\"]
}
";

/// Most policies that one identity may have.
pub(super) const MAX_POLICIES: usize = 64;

/// On-disk form, JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IdentityRecord {
    /// Policy names, lower case, sorted, without `default`.
    pub policies: Vec<String>,
}

/// Name rule of policies: one path segment, lower case.
///
/// # Errors
/// [`VaultError::BadRequest`] naming the rule, never the name.
pub(super) fn policy_name(raw: &str) -> Result<String, VaultError> {
    let name = raw.to_lowercase();
    let path = Path::parse(&name).ok().filter(|path| !path.is_folder() && path.segments().count() == 1);
    if path.is_none() {
        return Err(VaultError::BadRequest("a policy name is one path segment".to_owned()));
    }
    Ok(name)
}

/// The policies that `identity` would have by the records in these two views. Policies that are named but do not exist
/// grant nothing.
fn acl_in(policies: &View<'_>, identities: &View<'_>, identity: &str) -> Result<Option<Acl>, VaultError> {
    let Some(entry) = identities.entry(identity)? else { return Ok(None) };
    let record: IdentityRecord = serde_json::from_slice(entry.value.reveal()).map_err(|_| VaultError::Integrity)?;
    let mut parsed = Vec::new();
    for name in record.policies.iter().map(String::as_str).chain([DEFAULT_POLICY]) {
        if let Some(text) = policies.entry(name)? {
            let text = std::str::from_utf8(text.value.reveal()).map_err(|_| VaultError::Integrity)?;
            // A text that this program cannot read may hold a deny: its holder counts for nothing.
            let Ok(policy) = Policy::parse(text) else { return Ok(None) };
            parsed.push(policy);
        }
    }
    Ok(Some(Acl::merge(parsed.iter())))
}

/// An administrator can give rights: change the policies and the identities.
fn is_administrator(acl: &Acl, identity: &str) -> bool {
    let may = |path: &str, capability| {
        Path::parse(path).is_ok_and(|path| {
            let ask = Ask { path: &path, capability, sudo: false, parameters: None, wrap_ttl: None };
            matches!(acl.decide(&ask), Decision::Allow { .. })
        })
    };
    may("sys/policies/acl/admin", Capability::Update)
        && may(&format!("sys/strongroom/identities/{identity}"), Capability::Update)
}

/// Refuses a change after which nobody could give rights any more: there is no root token to repair it with.
/// `first` is looked at first, so that the usual change (somebody administers others) costs one lookup.
///
/// # Errors
/// [`VaultError::BadRequest`] when no administrator would be left.
pub(super) fn require_administrator(policies: &View<'_>, identities: &View<'_>, first: &str) -> Result<(), VaultError> {
    let holds = |identity: &str| -> Result<bool, VaultError> {
        Ok(acl_in(policies, identities, identity)?.is_some_and(|acl| is_administrator(&acl, identity)))
    };
    if holds(first)? {
        return Ok(());
    }
    for identity in identities.entries()? {
        if holds(&identity)? {
            return Ok(());
        }
    }
    Err(VaultError::BadRequest("refused: no identity would be left that can change policies and identities".to_owned()))
}

/// Built-in mount of the policies.
pub(super) const POLICIES: MountId = MountId::POLICIES;
/// Built-in mount of the identities.
pub(super) const IDENTITIES: MountId = MountId::IDENTITIES;
