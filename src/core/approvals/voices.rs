//! Who approves a request now, and whether enough identities could approve one.

use crate::api::path::Path;
use crate::api::spiffe::SpiffeId;
use crate::core::Settings;
use crate::core::error::VaultError;
use crate::core::state::guarded::ApprovalRules;
use crate::core::state::identity::IdentityRecord;
use crate::core::state::ledger;
use crate::core::state::snapshot::Snapshot;
use crate::policy::{Ask, Capability, Decision};

use super::record::{Pending, Voice};

/// An id to ask whether somebody may approve at all.
const ANY_ID: &str = "0000000000000000";

/// Counts who approves a request now: the requester, if allowed to approve, and every approver who still is.
///
/// # Errors
/// The errors of `standing`, which returns the record of an identity.
pub(in crate::core) fn agreeing(
    rules: &ApprovalRules,
    settings: &Settings,
    snapshot: &Snapshot,
    id: &str,
    record: &Pending,
    standing: impl Fn(&str) -> Result<Option<IdentityRecord>, VaultError>,
) -> Result<usize, VaultError> {
    let domain = &settings.trust_domain;
    let mut agree = usize::from(rules.names_path(domain, &record.asker));
    for voice in record.approvals.iter().filter(|voice| voice.identity != record.asker) {
        let Some(standing) = standing(&voice.identity)? else { continue };
        if counts(rules, domain, snapshot, id, voice, &standing) {
            agree += 1;
        }
    }
    Ok(agree)
}

fn counts(
    rules: &ApprovalRules,
    domain: &str,
    snapshot: &Snapshot,
    id: &str,
    voice: &Voice,
    standing: &IdentityRecord,
) -> bool {
    let Ok(identity) = SpiffeId::new(domain, &voice.identity) else { return false };
    let revoked = ledger::parse_fingerprint(&voice.certificate)
        .is_none_or(|fingerprint| snapshot.ledger.is_revoked(&fingerprint));
    rules.names(&identity)
        && standing.disabled.is_none()
        && voice.at_ms >= standing.not_before_ms
        && !revoked
        && may_approve(snapshot, &identity, id)
}

/// Whether the policies of a registered identity let it approve the request with that id.
fn may_approve(snapshot: &Snapshot, identity: &SpiffeId, id: &str) -> bool {
    let Ok(path) = Path::parse(&format!("sys/strongroom/approvals/{id}/approve")) else { return false };
    let ask = Ask { path: &path, capability: Capability::Update, sudo: false, parameters: None, wrap_ttl: None };
    matches!(snapshot.registered(identity).decide(&ask), Decision::Allow { .. })
}

/// The number of identities that could approve a future request, if they are too few for any to be executed. Then
/// nobody can add an approver either.
pub(in crate::core) fn too_few(rules: &ApprovalRules, settings: &Settings, snapshot: &Snapshot) -> Option<usize> {
    let (mut voices, mut askers) = (0, 0);
    for (path, record) in snapshot.identities() {
        let Ok(identity) = SpiffeId::new(&settings.trust_domain, path) else { continue };
        if record.disabled.is_some() || !rules.names(&identity) {
            continue;
        }
        // The requester counts even without being allowed to approve.
        match may_approve(snapshot, &identity, ANY_ID) {
            true => voices += 1,
            false => askers = 1,
        }
    }
    Some(voices + askers).filter(|agree| *agree < rules.required())
}
