//! Groups: policies shared by many identities, in addition to their own.

use std::collections::BTreeSet;

use crate::api::fields::{FieldError, Fields};
use crate::api::spiffe::SpiffeId;
use crate::barrier::{MountId, Tx};

use super::register::policies;
use crate::core::error::VaultError;
use crate::core::state::identity::{self, GroupRecord};

/// Largest number of groups, and of members of one group.
const MAX_GROUPS: usize = 1_000;
const MAX_MEMBERS: usize = 1_000;

/// Creates or changes a group by the fields `policies` and `members`: identity paths, or folders with `/*`. Absent fields
/// stay unchanged. Returns warnings for the caller.
///
/// # Errors
/// [`VaultError::BadRequest`] for a malformed field, for a new group without policies, and for too many groups; the
/// errors of the barrier.
pub(in crate::core) fn write(
    tx: &mut Tx<'_>,
    name: &str,
    fields: Fields<'_>,
    trust_domain: &str,
) -> Result<Vec<String>, VaultError> {
    let known = identity::groups(&tx.view(MountId::GROUPS))?;
    if known.len() >= MAX_GROUPS && !known.contains_key(name) {
        return Err(VaultError::BadRequest(format!(
            "there are already {MAX_GROUPS} groups, the maximum: delete one first"
        )));
    }
    let old = known.get(name);
    let (policies, warnings) = match (fields.texts("policies")?, old) {
        (Some(named), _) => policies(tx, &named)?,
        (None, Some(old)) => (old.policies.clone(), Vec::new()),
        (None, None) => return Err(FieldError::Missing("policies").into()),
    };
    let members = match fields.texts("members")? {
        Some(named) => named.into_iter().collect::<BTreeSet<_>>().into_iter().collect(),
        None => old.map(|old| old.members.clone()).unwrap_or_default(),
    };
    check_members(&members, trust_domain)?;
    let bytes = serde_json::to_vec(&GroupRecord { policies, members }).map_err(|_| VaultError::Internal)?;
    tx.put_entry(MountId::GROUPS, name, &bytes, 0)?;
    Ok(warnings)
}

fn check_members(members: &[String], trust_domain: &str) -> Result<(), VaultError> {
    let legal = |member: &String| SpiffeId::new(trust_domain, member.strip_suffix("/*").unwrap_or(member)).is_ok();
    if members.len() > MAX_MEMBERS || !members.iter().all(legal) {
        return Err(VaultError::BadRequest(format!(
            "field \"members\" must be up to {MAX_MEMBERS} identity paths, or folders such as app/*"
        )));
    }
    Ok(())
}
