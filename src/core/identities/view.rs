//! How identities are shown: their names, one with its certificates, and all of them with one line each.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::hex::hex;
use crate::api::identities::IdentityReport;
use crate::api::sys::{CertificateInfo, Identity, IdentityLine};
use crate::api::time::rfc3339_nano;

use crate::core::error::VaultError;
use crate::core::pipeline::route::Inquiry;
use crate::core::state::identity::{Disabled, IdentityRecord};
use crate::core::state::snapshot::Snapshot;

/// Names directly below a folder, sorted. Folders end in a slash.
pub(in crate::core) fn names_in(snapshot: &Snapshot, folder: &str) -> Vec<String> {
    let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
    let below = snapshot.identities().filter_map(|(path, _)| path.strip_prefix(prefix.as_str()));
    let names: BTreeSet<String> = below
        .map(|rest| match rest.split_once('/') {
            Some((folder, _)) => format!("{folder}/"),
            None => rest.to_owned(),
        })
        .collect();
    names.into_iter().collect()
}

/// All identities, one line each.
///
/// # Errors
/// The errors of [`Inquiry::looks_at`].
pub(in crate::core) fn report(inquiry: &Inquiry<'_>) -> Result<IdentityReport, VaultError> {
    let bundle = hex(&inquiry.snapshot.bundle().id);
    let mut identities = BTreeMap::new();
    for (path, record) in inquiry.snapshot.identities() {
        inquiry.looks_at(1)?;
        identities.insert(path.to_string(), line(inquiry, path, record, &bundle));
    }
    Ok(IdentityReport { bundle, identities })
}

fn line(inquiry: &Inquiry<'_>, path: &str, record: &IdentityRecord, bundle: &str) -> IdentityLine {
    let certificates = inquiry.snapshot.ledger.of(path);
    let living = certificates
        .iter()
        .filter(|(_, facts)| facts.not_after_ms > inquiry.now_ms && facts.revoked.is_none() && !facts.superseded);
    let (living, last_end_ms) =
        living.fold((0, 0), |(count, end_ms), (_, facts)| (count + 1, facts.not_after_ms.max(end_ms)));
    let seen = inquiry.live.sightings.of(path);
    IdentityLine {
        disabled: record.disabled.is_some(),
        certificates: living,
        not_after: (last_end_ms > 0).then(|| rfc3339_nano(last_end_ms)),
        last_seen: seen.as_ref().map(|seen| rfc3339_nano(seen.at_ms)),
        source: seen.as_ref().map(|seen| seen.source.clone()),
        bundle_current: seen.as_ref().filter(|seen| !seen.bundle.is_empty()).map(|seen| seen.bundle == bundle),
        connections: inquiry.sessions.count(path),
    }
}

/// One identity with all its certificates on record.
///
/// # Errors
/// [`VaultError::NotFound`] when it is not registered; the errors of [`Inquiry::looks_at`].
pub(in crate::core) fn identity(inquiry: &Inquiry<'_>, path: &str) -> Result<Identity, VaultError> {
    let snapshot = inquiry.snapshot;
    let record = snapshot.identity(path).ok_or(VaultError::NotFound)?;
    inquiry.looks_at(snapshot.ledger.count_of(path) / 10)?;
    let groups = snapshot.groups().iter().filter(|(_, group)| group.has(path));
    let seen = inquiry.live.sightings.of(path);
    Ok(Identity {
        policies: record.policies.clone(),
        groups: groups.map(|(name, _)| name.clone()).collect(),
        disabled: record.disabled.is_some(),
        disabled_at: record.disabled.as_ref().map(|disabled| rfc3339_nano(disabled.at_ms)),
        reason: record.disabled.as_ref().map(|disabled| disabled.reason.clone()),
        frozen: record.disabled.as_ref().is_some_and(Disabled::is_frozen),
        not_before: (record.not_before_ms > 0).then(|| rfc3339_nano(record.not_before_ms)),
        certificate_ttl: record.certificate_life_s,
        grace: record.grace_s,
        certificates: certificates(inquiry, path),
        last_seen: seen.as_ref().map(|seen| rfc3339_nano(seen.at_ms)),
        source: seen.as_ref().map(|seen| seen.source.clone()),
        connections: inquiry.sessions.count(path),
    })
}

fn certificates(inquiry: &Inquiry<'_>, path: &str) -> Vec<CertificateInfo> {
    let connections = inquiry.sessions.by_certificate(path);
    let all = inquiry.snapshot.ledger.of(path).into_iter().map(|(fingerprint, facts)| CertificateInfo {
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
    all.collect()
}
