//! Registering an identity, changing its record, and removing it.

use std::collections::BTreeSet;

use crate::api::fields::{FieldError, Fields};
use crate::barrier::{MountId, Tx};

use super::revocation::end_tokens;
use crate::core::certificates::cascade;
use crate::core::error::VaultError;
use crate::core::pipeline::route::Change;
use crate::core::state::identity::{
    self, DEFAULT_POLICY, IDENTITIES, IdentityRecord, MAX_GRACE_S, MAX_POLICIES, POLICIES, ROOT_POLICY, policy_name,
};
use crate::core::state::snapshot::Touch;

/// Rejects a path that no registered identity can have.
///
/// # Errors
/// [`VaultError::BadRequest`] with the reason.
pub(in crate::core) fn check_path(path: &str, trust_domain: &str) -> Result<(), VaultError> {
    match identity::named(path, trust_domain) {
        Ok(_) => Ok(()),
        Err(VaultError::BadRequest(text)) => {
            Err(VaultError::BadRequest(text.replace("field \"identity\"", "the path")))
        }
        Err(error) => Err(error),
    }
}

/// Registers the identity in the path of the request, or changes its record, by the fields `policies`,
/// `certificate_ttl` and `grace`. Absent fields stay unchanged. Returns warnings for the caller.
///
/// # Errors
/// [`VaultError::BadRequest`] for a malformed field, and for a new identity without policies; the errors of the barrier.
pub(in crate::core) fn write(
    tx: &mut Tx<'_>,
    change: &Change<'_>,
    fields: Fields<'_>,
) -> Result<Vec<String>, VaultError> {
    if change.body.object().is_empty() {
        return Err(FieldError::Missing("policies").into());
    }
    let known = identity::read(&tx.view(IDENTITIES), &change.tail)?;
    let named = fields.texts("policies")?;
    if known.is_none() && named.is_none() {
        return Err(VaultError::BadRequest("field \"policies\" is required for a new identity".to_owned()));
    }
    let mut record = known.unwrap_or_default();
    let mut warnings = Vec::new();
    if let Some(named) = named {
        (record.policies, warnings) = policies(tx, &named)?;
    }
    if let Some(life_s) = fields.seconds_in("certificate_ttl", 0, change.settings.max_certificate_life_s)? {
        record.certificate_life_s = (life_s > 0).then_some(life_s);
    }
    if let Some(grace_s) = fields.seconds_in("grace", 0, MAX_GRACE_S)? {
        record.grace_s = grace_s;
    }
    identity::put(tx, &change.tail, &record)?;
    Ok(warnings)
}

/// The policies that a body names: lower case, sorted, without `default`. Also returns warnings about names that were
/// changed, and about policies that do not exist.
///
/// # Errors
/// [`VaultError::BadRequest`] for an invalid policy name, and for too many policies.
pub(super) fn policies(tx: &Tx<'_>, named: &[String]) -> Result<(Vec<String>, Vec<String>), VaultError> {
    let (mut policies, mut warnings) = (BTreeSet::new(), Vec::new());
    for name in named {
        let lower = policy_name(name)?;
        if lower == ROOT_POLICY {
            return Err(VaultError::BadRequest(
                "there is no policy \"root\"; name the policies that the identity needs".to_owned(),
            ));
        }
        if lower != *name {
            warnings.push("policy names were converted to lower case".to_owned());
        }
        policies.insert(lower);
    }
    if policies.len() > MAX_POLICIES {
        return Err(VaultError::BadRequest(format!("field \"policies\": at most {MAX_POLICIES} policies are allowed")));
    }
    policies.remove(DEFAULT_POLICY);
    warnings.extend(identity::warn_of_missing(&tx.view(POLICIES), &policies)?);
    warnings.dedup();
    Ok((policies.into_iter().collect(), warnings))
}

/// Changes the record of a registered identity.
///
/// # Errors
/// [`VaultError::NotFound`] when it is not registered; the errors of the barrier.
pub(in crate::core) fn edit(
    tx: &mut Tx<'_>,
    path: &str,
    edit: impl FnOnce(&mut IdentityRecord),
) -> Result<Touch, VaultError> {
    let mut record = identity::read(&tx.view(IDENTITIES), path)?.ok_or(VaultError::NotFound)?;
    edit(&mut record);
    identity::put(tx, path, &record)?;
    Ok(Touch::Identity(path.to_owned()))
}

/// Removes the identity in the path of the request with everything that it has. As for all routes, deleting something
/// that does not exist is not an error. Returns what the snapshot must read again.
///
/// # Errors
/// The errors of the barrier when a record cannot be read or written; [`VaultError::Integrity`] when one cannot be
/// parsed.
pub(in crate::core) fn remove(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Vec<Touch>, VaultError> {
    let (path, snapshot) = (&change.tail, change.snapshot);
    tx.remove_entry(IDENTITIES, path)?;
    tx.remove_entry(MountId::SIGHTINGS, path)?;
    // The mark of a revocation is removed with the record, so each old certificate is revoked: none may work for an
    // identity that is registered under this name later.
    let ended = cascade::certificates(tx, &snapshot.ledger, path, change.now_ms, "its identity was removed")?;
    let mut touched = vec![Touch::Identity(path.clone())];
    touched.extend(end_tokens(tx, change)?);
    touched.extend(cascade::strings(tx, &snapshot.strings, path)?);
    touched.extend(ended);
    Ok(touched)
}
