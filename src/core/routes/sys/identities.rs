//! `sys/strongroom/identities`: the registered identities, their policies, and how to stop them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::api::fields::{FieldError, Fields};
use crate::api::hex::hex;
use crate::api::reply::Reply;
use crate::api::spiffe::SpiffeId;
use crate::api::sys::{CertificateInfo, Identity, IdentityLine};
use crate::api::time::rfc3339_nano;
use crate::barrier::{MountId, Tx};

use super::{Change, Inquiry, data, keys_of};
use crate::core::certificates::cascade;
use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::state::administrators::require_administrator;
use crate::core::state::identity::{
    self, DEFAULT_POLICY, Disabled, GroupRecord, IDENTITIES, IdentityRecord, MAX_GRACE_S, MAX_POLICIES, POLICIES,
    ROOT_POLICY, policy_name,
};
use crate::core::state::ledger::{self, Revoked};
use crate::core::state::snapshot::Touch;

/// Longest reason, in bytes.
const MAX_REASON: usize = 512;
/// Largest number of groups, and of members of one group.
const MAX_GROUPS: usize = 1_000;
const MAX_MEMBERS: usize = 1_000;

/// Names directly below a folder. Folders end in a slash.
pub(super) fn list(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let mut prefix = inquiry.tail.clone();
    if !prefix.is_empty() {
        prefix.push('/');
    }
    inquiry.looks_at(inquiry.snapshot.identity_count())?;
    let mut names = BTreeSet::new();
    for (key, _) in inquiry.snapshot.identities() {
        if let Some(rest) = key.strip_prefix(prefix.as_str()) {
            names.insert(match rest.split_once('/') {
                Some((folder, _)) => format!("{folder}/"),
                None => rest.to_owned(),
            });
        }
    }
    keys_of(inquiry.body, &names.into_iter().collect::<Vec<_>>())
}

/// All identities with one line each, for operators.
pub(super) fn report(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    #[derive(Serialize)]
    struct Report {
        bundle: String,
        identities: BTreeMap<String, IdentityLine>,
    }
    let bundle = hex(&inquiry.snapshot.bundle().id);
    let mut identities = BTreeMap::new();
    for (path, record) in inquiry.snapshot.identities() {
        inquiry.looks_at(1)?;
        let certificates = inquiry.snapshot.ledger.of(path);
        let living = certificates
            .iter()
            .filter(|(_, facts)| facts.not_after_ms > inquiry.now_ms && facts.revoked.is_none() && !facts.superseded);
        let (living, last_end_ms) =
            living.fold((0, 0), |(count, end_ms), (_, facts)| (count + 1, facts.not_after_ms.max(end_ms)));
        let seen = inquiry.live.sightings.of(path);
        let line = IdentityLine {
            disabled: record.disabled.is_some(),
            certificates: living,
            not_after: (last_end_ms > 0).then(|| rfc3339_nano(last_end_ms)),
            last_seen: seen.as_ref().map(|seen| rfc3339_nano(seen.at_ms)),
            source: seen.as_ref().map(|seen| seen.source.clone()),
            bundle_current: seen.as_ref().filter(|seen| !seen.bundle.is_empty()).map(|seen| seen.bundle == bundle),
            connections: inquiry.sessions.count(path),
        };
        identities.insert(path.to_string(), line);
    }
    data(&Report { bundle, identities })
}

pub(super) fn read(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let snapshot = inquiry.snapshot;
    let record = snapshot.identity(&inquiry.tail).ok_or(VaultError::NotFound)?;
    inquiry.looks_at(snapshot.ledger.count_of(&inquiry.tail) / 10)?;
    let groups = snapshot.groups().iter().filter(|(_, group)| group.has(&inquiry.tail));
    let seen = inquiry.live.sightings.of(&inquiry.tail);
    let connections = inquiry.sessions.by_certificate(&inquiry.tail);
    let certificates = snapshot.ledger.of(&inquiry.tail).into_iter().map(|(fingerprint, facts)| CertificateInfo {
        fingerprint: hex(&fingerprint),
        serial: facts.serial,
        authority: facts.authority.hex(),
        issued: rfc3339_nano(facts.issued_ms),
        not_after: rfc3339_nano(facts.not_after_ms),
        superseded: facts.superseded,
        revoked: facts.revoked.as_ref().map(|revoked| rfc3339_nano(revoked.at_ms)),
        reason: facts.revoked.map(|revoked| revoked.reason),
        connections: connections.get(&fingerprint).copied().unwrap_or_default(),
    });
    data(&Identity {
        policies: record.policies.clone(),
        groups: groups.map(|(name, _)| name.clone()).collect(),
        disabled: record.disabled.is_some(),
        disabled_at: record.disabled.as_ref().map(|disabled| rfc3339_nano(disabled.at_ms)),
        reason: record.disabled.as_ref().map(|disabled| disabled.reason.clone()),
        frozen: record.disabled.as_ref().is_some_and(Disabled::is_frozen),
        not_before: (record.not_before_ms > 0).then(|| rfc3339_nano(record.not_before_ms)),
        certificate_ttl: record.certificate_life_s,
        grace: record.grace_s,
        certificates: certificates.collect(),
        last_seen: seen.as_ref().map(|seen| rfc3339_nano(seen.at_ms)),
        source: seen.as_ref().map(|seen| seen.source.clone()),
        connections: inquiry.sessions.count(&inquiry.tail),
    })
}

/// Registers or changes an identity: `{policies?, certificate_ttl?, grace?}`. Absent fields stay unchanged.
pub(super) fn write(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    identity::named(&change.tail, &change.settings.trust_domain).map_err(|error| match error {
        VaultError::BadRequest(text) => VaultError::BadRequest(text.replace("field \"identity\"", "the path")),
        error => error,
    })?;
    let fields = change.body.only(&["policies", "certificate_ttl", "grace"])?;
    if change.body.object().is_empty() {
        return Err(FieldError::Missing("policies").into());
    }
    let known = identity::read(&tx.view(IDENTITIES), &change.tail)?;
    let raw = fields.texts("policies")?;
    if known.is_none() && raw.is_none() {
        return Err(VaultError::BadRequest("field \"policies\" is required for a new identity".to_owned()));
    }
    let mut record = known.unwrap_or_default();
    let mut reply = Reply::none();
    if let Some(raw) = raw {
        record.policies = policies(tx, &raw, &mut reply)?;
    }
    if let Some(life_s) = fields.seconds_in("certificate_ttl", 0, change.settings.max_certificate_life_s)? {
        record.certificate_life_s = (life_s > 0).then_some(life_s);
    }
    if let Some(grace_s) = fields.seconds_in("grace", 0, MAX_GRACE_S)? {
        record.grace_s = grace_s;
    }
    identity::put(tx, &change.tail, &record)?;
    finish(tx, change, reply, Touch::Identity(change.tail.clone()))
}

/// The policy names in a body: lower case, sorted, without `default`.
fn policies(tx: &Tx<'_>, raw: &[String], reply: &mut Reply) -> Result<Vec<String>, VaultError> {
    let mut policies = BTreeSet::new();
    for name in raw {
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
        return Err(VaultError::BadRequest(format!("at most {MAX_POLICIES} policies")));
    }
    policies.remove(DEFAULT_POLICY);
    for name in &policies {
        if tx.view(POLICIES).entry(name)?.is_none() {
            reply.warnings.push(format!("policy \"{name}\" does not exist and grants nothing yet"));
        }
    }
    reply.warnings.dedup();
    Ok(policies.into_iter().collect())
}

pub(super) fn delete(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    // As for all routes, deleting something that does not exist is not an error.
    tx.remove_entry(IDENTITIES, &change.tail)?;
    tx.remove_entry(MountId::SIGHTINGS, &change.tail)?;
    // The mark of a revocation is removed with the record, so old certificates are revoked by name: they must not work
    // for an identity that is registered under this name later.
    let ended =
        cascade::certificates(tx, &change.snapshot.ledger, &change.tail, change.now_ms, "its identity was removed")?;
    let tokens = end_tokens(tx, change)?;
    let strings = cascade::strings(tx, &change.snapshot.strings, &change.tail)?;
    let mut done = finish(tx, change, Reply::none(), Touch::Identity(change.tail.clone()))?;
    done.touched.extend(tokens);
    done.touched.extend(strings);
    done.restricts = true;
    done.touched.extend(ended);
    Ok(done)
}

/// Revokes all tokens of the identity in the path.
fn end_tokens(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Vec<Touch>, VaultError> {
    let Ok(identity) = SpiffeId::new(&change.settings.trust_domain, &change.tail) else { return Ok(Vec::new()) };
    cascade::tokens(tx, &change.snapshot.tokens, &identity)
}

/// Rejects all requests of an identity from now on: `{reason?}`.
pub(super) fn disable(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let reason = reason(change.body.only(&["reason"])?)?;
    steer(tx, change, |record| {
        record.disabled.get_or_insert(Disabled::by_operator(change.now_ms, reason));
        Ok(())
    })
}

/// Admits a disabled or frozen identity again. Its certificates are valid as before, and so would be a copy. Revoke the
/// certificates of a frozen identity before you enable it.
pub(super) fn enable(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    change.body.only(&[])?;
    steer(tx, change, |record| {
        record.disabled = None;
        Ok(())
    })
}

/// Revokes one certificate, or all of an identity with its tokens and open enrolment strings: `{certificate?,
/// reason?}`. The identity stays registered and can enrol again.
pub(super) fn revoke(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let fields = change.body.only(&["certificate", "reason"])?;
    let reason = reason(fields)?;
    let Some(named) = fields.text("certificate")? else {
        let tokens = end_tokens(tx, change)?;
        let strings = cascade::strings(tx, &change.snapshot.strings, &change.tail)?;
        let mut done = steer(tx, change, |record| {
            record.end_all(change.now_ms);
            Ok(())
        })?;
        done.touched.extend(tokens);
        done.touched.extend(strings);
        return Ok(done);
    };
    let wanted: String = named.chars().filter(|c| *c != ':').collect::<String>().to_ascii_lowercase();
    let all = change.snapshot.ledger.of(&change.tail);
    let found = all.iter().find(|(fingerprint, facts)| facts.serial == wanted || hex(fingerprint) == wanted);
    let unknown =
        || VaultError::BadRequest("the identity has no certificate with that serial or fingerprint".to_owned());
    let (fingerprint, _) = found.ok_or_else(unknown)?;
    let mut row = ledger::read(&tx.view(MountId::CERTIFICATES), fingerprint)?.ok_or_else(unknown)?;
    row.revoked.get_or_insert(Revoked { at_ms: change.now_ms, reason });
    ledger::put(tx, fingerprint, &row)?;
    Ok(Done { restricts: true, ..Done::touching(Reply::none(), vec![Touch::Certificate(*fingerprint)]) })
}

fn reason(fields: Fields<'_>) -> Result<String, FieldError> {
    Ok(fields.text_within("reason", MAX_REASON)?.unwrap_or_default())
}

/// Changes the record of a registered identity so that less is admitted, or more.
fn steer(
    tx: &mut Tx<'_>,
    change: &Change<'_>,
    edit: impl FnOnce(&mut IdentityRecord) -> Result<(), VaultError>,
) -> Result<Done, VaultError> {
    let mut record = identity::read(&tx.view(IDENTITIES), &change.tail)?.ok_or(VaultError::NotFound)?;
    edit(&mut record)?;
    identity::put(tx, &change.tail, &record)?;
    let mut done = finish(tx, change, Reply::none(), Touch::Identity(change.tail.clone()))?;
    done.restricts = true;
    Ok(done)
}

/// Names of the groups.
pub(super) fn list_groups(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    keys_of(inquiry.body, &inquiry.snapshot.groups().keys().cloned().collect::<Vec<_>>())
}

pub(super) fn read_group(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    data(inquiry.snapshot.groups().get(&inquiry.tail).ok_or(VaultError::NotFound)?)
}

/// `{policies, members}`: members are identity paths, or folders with `/*`.
pub(super) fn write_group(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let fields = change.body.only(&["policies", "members"])?;
    let known = identity::groups(&tx.view(MountId::GROUPS))?;
    if known.len() >= MAX_GROUPS && !known.contains_key(&change.tail) {
        return Err(VaultError::BadRequest(format!("there are {MAX_GROUPS} groups")));
    }
    let old = known.get(&change.tail);
    let mut reply = Reply::none();
    let policies = match (fields.texts("policies")?, old) {
        (Some(raw), _) => policies(tx, &raw, &mut reply)?,
        (None, Some(old)) => old.policies.clone(),
        (None, None) => return Err(FieldError::Missing("policies").into()),
    };
    let members = match fields.texts("members")? {
        Some(raw) => raw.into_iter().collect::<BTreeSet<_>>().into_iter().collect(),
        None => old.map(|old| old.members.clone()).unwrap_or_default(),
    };
    let legal = |member: &String| {
        SpiffeId::new(&change.settings.trust_domain, member.strip_suffix("/*").unwrap_or(member)).is_ok()
    };
    if members.len() > MAX_MEMBERS || !members.iter().all(legal) {
        return Err(VaultError::BadRequest(format!(
            "field \"members\" takes up to {MAX_MEMBERS} identity paths, or folders such as app/*"
        )));
    }
    let bytes = serde_json::to_vec(&GroupRecord { policies, members }).map_err(|_| VaultError::Internal)?;
    tx.put_entry(MountId::GROUPS, &change.tail, &bytes, 0)?;
    finish(tx, change, reply, Touch::Groups)
}

pub(super) fn delete_group(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    tx.remove_entry(MountId::GROUPS, &change.tail)?;
    finish(tx, change, Reply::none(), Touch::Groups)
}

fn finish(tx: &mut Tx<'_>, change: &Change<'_>, reply: Reply, touch: Touch) -> Result<Done, VaultError> {
    require_administrator(tx, change.snapshot, change.caller.identity.path())?;
    Ok(Done::touching(reply, vec![touch]))
}
