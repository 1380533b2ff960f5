//! `sys/strongroom/identities`: which policies the holder of a certificate has.

use std::collections::BTreeSet;

use crate::api::spiffe::SpiffeId;
use crate::api::sys::Identity;
use crate::barrier::Tx;
use crate::engine::Reply;

use super::super::committer::Done;
use super::super::error::VaultError;
use super::super::identity::{
    DEFAULT_POLICY, IDENTITIES, IdentityRecord, MAX_POLICIES, POLICIES, ROOT_POLICY, policy_name, require_administrator,
};
use super::super::snapshot::Touch;
use super::{Change, Inquiry, data, keys_of, only_fields, texts_field};

/// Names directly below a folder; folders end in a slash.
pub(super) fn list(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let mut prefix = inquiry.tail.clone();
    if !prefix.is_empty() {
        prefix.push('/');
    }
    let mut names = BTreeSet::new();
    for key in inquiry.live.barrier.view(IDENTITIES).entries()? {
        if let Some(rest) = key.strip_prefix(&prefix) {
            names.insert(match rest.split_once('/') {
                Some((folder, _)) => format!("{folder}/"),
                None => rest.to_owned(),
            });
        }
    }
    keys_of(&names.into_iter().collect::<Vec<_>>())
}

pub(super) fn read(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let entry = inquiry.live.barrier.view(IDENTITIES).entry(&inquiry.tail)?.ok_or(VaultError::NotFound)?;
    let record: IdentityRecord = serde_json::from_slice(entry.value.reveal()).map_err(|_| VaultError::Integrity)?;
    data(&Identity { policies: record.policies })
}

pub(super) fn write(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    SpiffeId::new(&change.settings.trust_domain, &change.tail)
        .map_err(|_| VaultError::BadRequest("the path is not a SPIFFE identity path".to_owned()))?;
    let object = change.body.object()?;
    only_fields(&object, &["policies"])?;
    let raw = texts_field(&object, "policies")?
        .ok_or_else(|| VaultError::BadRequest("field \"policies\" is required".to_owned()))?;
    let mut policies = BTreeSet::new();
    let mut reply = Reply::none();
    for name in &raw {
        let lower = policy_name(name)?;
        if lower == ROOT_POLICY {
            return Err(VaultError::BadRequest("there is no policy \"root\"".to_owned()));
        }
        if lower != *name {
            reply.warnings.push("policy names were converted to lower case".to_owned());
        }
        policies.insert(lower);
    }
    if policies.len() > MAX_POLICIES {
        return Err(VaultError::BadRequest(format!("at most {MAX_POLICIES} policies per identity")));
    }
    policies.remove(DEFAULT_POLICY);
    for name in &policies {
        if tx.view(POLICIES).entry(name)?.is_none() {
            reply.warnings.push(format!("policy \"{name}\" does not exist and grants nothing yet"));
        }
    }
    reply.warnings.dedup();
    let record = IdentityRecord { policies: policies.into_iter().collect() };
    let value = serde_json::to_vec(&record).map_err(|_| VaultError::Internal)?;
    tx.put_entry(IDENTITIES, &change.tail, &value, 0)?;
    finish(tx, change, reply)
}

pub(super) fn delete(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    // As everywhere on this wire, deleting what is not there is no error.
    tx.remove_entry(IDENTITIES, &change.tail)?;
    finish(tx, change, Reply::none())
}

fn finish(tx: &mut Tx<'_>, change: &Change<'_>, reply: Reply) -> Result<Done, VaultError> {
    require_administrator(&tx.view(POLICIES), &tx.view(IDENTITIES), change.caller.identity.path())?;
    Ok(Done { reply, touched: vec![Touch::Identity(change.tail.clone())] })
}
