//! Ensures that there is always somebody who can grant rights.

use std::collections::BTreeMap;

use super::identity::{GroupRecord, IDENTITIES, POLICIES, groups, is_administrator, names_of, read};
use super::snapshot::Snapshot;
use crate::api::error::Reason;
use crate::barrier::{MountId, Tx};
use crate::core::error::VaultError;
use crate::policy::{Acl, Policy};

/// Rejects a change after which nobody could grant rights any more, because there is no root token to repair that.
/// `first` is checked first, so the usual change by an administrator costs one lookup. Then comes an administrator that
/// was found before, so the usual change by a caller that may only register identities costs two.
///
/// # Errors
/// [`Reason::LastAdministrator`] when no administrator would be left.
pub(in crate::core) fn require_administrator(tx: &Tx<'_>, snapshot: &Snapshot, first: &str) -> Result<(), VaultError> {
    let changed = tx.view(MountId::GROUPS).is_changed().then(|| groups(&tx.view(MountId::GROUPS))).transpose()?;
    let groups = changed.as_ref().unwrap_or(snapshot.groups());
    let holds = |identity: &str| -> Result<bool, VaultError> {
        Ok(acl_in(tx, groups, identity)?.is_some_and(|acl| is_administrator(|ask| acl.decide(ask), identity)))
    };
    if holds(first)? {
        return Ok(());
    }
    for identity in snapshot.administrators() {
        if holds(&identity)? {
            snapshot.note_administrator(&identity);
            return Ok(());
        }
    }
    // This commit may itself create an administrator.
    for identity in tx.view(IDENTITIES).entries()? {
        if holds(&identity)? {
            return Ok(());
        }
    }
    let text = "rejected: no identity would be left that can change policies and identities; give another one those rights first";
    Err(VaultError::Because(Reason::LastAdministrator, text.to_owned()))
}

/// The policies of `identity` in the records that `tx` sees. A named policy that does not exist grants nothing. `None`
/// for a disabled identity.
fn acl_in(tx: &Tx<'_>, groups: &BTreeMap<String, GroupRecord>, identity: &str) -> Result<Option<Acl>, VaultError> {
    let Some(record) = read(&tx.view(IDENTITIES), identity)?.filter(|record| record.disabled.is_none()) else {
        return Ok(None);
    };
    let policies = tx.view(POLICIES);
    let mut parsed = Vec::new();
    for name in names_of(&record, groups, identity) {
        if let Some(text) = policies.entry(&name)? {
            let text = std::str::from_utf8(text.value.reveal()).map_err(|_| VaultError::Integrity)?;
            // A text that this program cannot parse may contain a deny, so its holder does not count.
            let Ok(policy) = Policy::parse(text) else { return Ok(None) };
            parsed.push(policy);
        }
    }
    Ok(Some(Acl::merge(parsed.iter())))
}
