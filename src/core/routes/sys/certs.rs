//! Certificates as rotations: authorities, the listener's certificate, and those of clients. None of them has a record
//! of a run. Everything follows from the ledger, the authorities, and the bundles of clients.

use crate::api::rotation::RotationInfo;
use crate::api::time::rfc3339_nano;

use super::Inquiry;
use super::ca;
use crate::core::error::VaultError;
use crate::core::state::authorities::{AuthorityFacts, Stage};
use crate::core::state::ledger::{Facts, How};

/// Largest number of identities with a late renewal that are listed individually.
const MAX_SHOWN: usize = 100;

/// When a certificate should be replaced: at two thirds of its life.
pub(super) fn due_ms(issued_ms: u64, not_after_ms: u64) -> u64 {
    issued_ms.saturating_add(not_after_ms.saturating_sub(issued_ms) / 3 * 2)
}

/// One row for each authority, one for the listener, one for all clients, and one for each client that is late.
///
/// # Errors
/// Those of [`Inquiry::looks_at`].
pub(super) fn rows(inquiry: &Inquiry<'_>) -> Result<Vec<RotationInfo>, VaultError> {
    let mut rows = Vec::new();
    for facts in inquiry.snapshot.authorities.0.iter().filter(|facts| !facts.record.stage.ended()) {
        inquiry.looks_at_certificates()?;
        rows.push(authority(inquiry, facts));
    }
    inquiry.looks_at_certificates()?;
    rows.extend(listener(inquiry));
    rows.extend(clients(inquiry));
    Ok(rows)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn authority(inquiry: &Inquiry<'_>, facts: &AuthorityFacts) -> RotationInfo {
    let all = inquiry.snapshot.clients(inquiry.now_ms).len();
    let (total, done) = match facts.record.stage {
        // Its rotation depends on all clients that must trust it.
        Stage::Prepared | Stage::Trusted => {
            let behind = ca::behind(inquiry.snapshot, &inquiry.live.sightings, inquiry.now_ms).len();
            (all, all.saturating_sub(behind))
        }
        Stage::Retiring => {
            let left = inquiry.snapshot.holders(Some(facts.id), inquiry.now_ms).len();
            (all.max(left), all.max(left) - left)
        }
        Stage::Active | Stage::Removed | Stage::Revoked => (0, 0),
    };
    let half_ms =
        facts.record.created_ms.saturating_add(facts.not_after_ms.saturating_sub(facts.record.created_ms) / 2);
    let signs = facts.record.stage == Stage::Active;
    let error = if facts.record.tainted && signs {
        Some("tainted: strongroom ca rotate".to_owned())
    } else if facts.record.tainted {
        Some("tainted: wait until everybody has renewed, then remove it".to_owned())
    } else if signs && half_ms < inquiry.now_ms && all > 0 {
        Some("half of its life is over: strongroom ca rotate".to_owned())
    } else {
        None
    };
    let id = facts.id.hex();
    RotationInfo {
        kind: "authority".to_owned(),
        target: format!("authority {id}, expires {}", rfc3339_nano(facts.not_after_ms)),
        due: if signs { rfc3339_nano(half_ms) } else { String::new() },
        state: facts.record.stage.as_str().to_owned(),
        total: count(total),
        done: count(done),
        started: rfc3339_nano(facts.record.created_ms),
        updated: rfc3339_nano(facts.record.changed_ms),
        error,
        id: format!("ca-{}", id.get(..8).unwrap_or_default()),
        ..RotationInfo::default()
    }
}

fn listener(inquiry: &Inquiry<'_>) -> Option<RotationInfo> {
    let (_, newest) = inquiry.snapshot.ledger.of("server").into_iter().find(|(_, facts)| facts.how == How::Server)?;
    Some(certificate(inquiry, "server-certificate", "the listener's certificate", &newest))
}

fn certificate(inquiry: &Inquiry<'_>, id: &str, target: &str, facts: &Facts) -> RotationInfo {
    let due_ms = due_ms(facts.issued_ms, facts.not_after_ms);
    let state = if facts.not_after_ms <= inquiry.now_ms {
        "expired"
    } else if due_ms <= inquiry.now_ms {
        "due"
    } else {
        "current"
    };
    RotationInfo {
        id: id.to_owned(),
        kind: "certificate".to_owned(),
        target: format!("{target}, expires {}", rfc3339_nano(facts.not_after_ms)),
        state: state.to_owned(),
        started: rfc3339_nano(facts.issued_ms),
        updated: rfc3339_nano(facts.issued_ms),
        due: rfc3339_nano(due_ms),
        ..RotationInfo::default()
    }
}

/// One row for all clients, and one for each that is late.
pub(super) fn clients(inquiry: &Inquiry<'_>) -> Vec<RotationInfo> {
    let ledger = &inquiry.snapshot.ledger;
    let mut late = Vec::new();
    let (mut all, mut due, mut next_ms) = (0, 0, None);
    for path in inquiry.snapshot.clients(inquiry.now_ms) {
        let Some(newest) = ledger.newest_living(&path, inquiry.now_ms) else { continue };
        all += 1;
        let due_ms = due_ms(newest.issued_ms, newest.not_after_ms);
        next_ms = Some(next_ms.map_or(due_ms, |next_ms: u64| next_ms.min(due_ms)));
        if due_ms > inquiry.now_ms {
            continue;
        }
        due += 1;
        // A fifth of the rest is allowed for jitter and retries before a client is named.
        let late_ms = due_ms.saturating_add(newest.not_after_ms.saturating_sub(due_ms) / 5);
        if late_ms < inquiry.now_ms && late.len() < MAX_SHOWN {
            let row = certificate(inquiry, &format!("client-{}", newest.serial), &path, &newest);
            late.push(RotationInfo { error: Some("its renewal is late".to_owned()), ..row });
        }
    }
    let summary = RotationInfo {
        id: "client-certificates".to_owned(),
        kind: "certificate".to_owned(),
        target: "the certificates of all clients".to_owned(),
        state: if due == 0 { "current" } else { "due" }.to_owned(),
        total: all,
        done: all - due,
        due: next_ms.map(rfc3339_nano).unwrap_or_default(),
        ..RotationInfo::default()
    };
    std::iter::once(summary).chain(late).collect()
}
