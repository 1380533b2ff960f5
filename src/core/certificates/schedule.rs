//! Certificates as rotations: when authorities, the listener's certificate and those of clients should be replaced.
//! None of them has a record of a run. Everything follows from the ledger, the authorities, and the bundles of clients.

use crate::api::rotation::RotationInfo;
use crate::api::time::rfc3339_nano;

use super::authority_steps::behind;
use crate::core::error::VaultError;
use crate::core::pipeline::route::Inquiry;
use crate::core::state::authorities::{AuthorityFacts, Stage};
use crate::core::state::ledger::{Facts, How};
use crate::core::state::snapshot::Snapshot;

/// Largest number of identities with a late renewal that are listed individually.
const MAX_SHOWN: usize = 100;

/// When a certificate should be replaced: at two thirds of its lifetime.
fn due_ms(issued_ms: u64, not_after_ms: u64) -> u64 {
    issued_ms.saturating_add(not_after_ms.saturating_sub(issued_ms) / 3 * 2)
}

/// One row for each authority, one for the listener, one for all clients, and one for each client that is late.
///
/// # Errors
/// The errors of [`Inquiry::looks_at`].
pub(in crate::core) fn rows(inquiry: &Inquiry<'_>) -> Result<Vec<RotationInfo>, VaultError> {
    let mut rows = Vec::new();
    for facts in inquiry.snapshot.authorities.0.iter().filter(|facts| !facts.record.stage.ended()) {
        inquiry.looks_at_certificates()?;
        rows.push(authority(inquiry, facts));
    }
    inquiry.looks_at_certificates()?;
    rows.extend(listener(inquiry));
    rows.extend(Clients::count(inquiry.snapshot, inquiry.now_ms).rows());
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
            let behind = behind(inquiry.snapshot, &inquiry.live.sightings, inquiry.now_ms).len();
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
        Some("tainted: wait until all clients have renewed, then remove it".to_owned())
    } else if signs && half_ms < inquiry.now_ms && all > 0 {
        Some("half of its lifetime is over: strongroom ca rotate".to_owned())
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
    Some(certificate("server-certificate", "the listener's certificate", &newest, inquiry.now_ms))
}

fn certificate(id: &str, target: &str, facts: &Facts, now_ms: u64) -> RotationInfo {
    let due_ms = due_ms(facts.issued_ms, facts.not_after_ms);
    let state = if facts.not_after_ms <= now_ms {
        "expired"
    } else if due_ms <= now_ms {
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

/// The certificates of all clients.
#[derive(Default)]
pub(in crate::core) struct Clients {
    /// Number of clients with a valid certificate.
    all: u64,
    /// Number of those that should have renewed theirs by now.
    pub due: u64,
    /// When the first of them should be renewed, in milliseconds.
    next_ms: Option<u64>,
    /// Those whose renewal is late, one row each. At most [`MAX_SHOWN`].
    late: Vec<RotationInfo>,
}

impl Clients {
    /// Examines the newest valid certificate of each client, in one pass over the ledger.
    pub(in crate::core) fn count(snapshot: &Snapshot, now_ms: u64) -> Self {
        let mut clients = Self::default();
        for path in snapshot.clients(now_ms) {
            if let Some(newest) = snapshot.ledger.newest_living(&path, now_ms) {
                clients.add(&path, &newest, now_ms);
            }
        }
        clients
    }

    fn add(&mut self, path: &str, newest: &Facts, now_ms: u64) {
        self.all += 1;
        let due_ms = due_ms(newest.issued_ms, newest.not_after_ms);
        self.next_ms = Some(self.next_ms.map_or(due_ms, |next_ms| next_ms.min(due_ms)));
        if due_ms > now_ms {
            return;
        }
        self.due += 1;
        // A fifth of the remaining time is allowed for jitter and retries before a client is named.
        let late_ms = due_ms.saturating_add(newest.not_after_ms.saturating_sub(due_ms) / 5);
        if late_ms < now_ms && self.late.len() < MAX_SHOWN {
            let row = certificate(&format!("client-{}", newest.serial), path, newest, now_ms);
            self.late.push(RotationInfo { error: Some("its renewal is late".to_owned()), ..row });
        }
    }

    /// One row for all clients, and one for each that is late.
    fn rows(self) -> impl Iterator<Item = RotationInfo> {
        let summary = RotationInfo {
            id: "client-certificates".to_owned(),
            kind: "certificate".to_owned(),
            target: "the certificates of all clients".to_owned(),
            state: if self.due == 0 { "current" } else { "due" }.to_owned(),
            total: self.all,
            done: self.all - self.due,
            due: self.next_ms.map(rfc3339_nano).unwrap_or_default(),
            ..RotationInfo::default()
        };
        std::iter::once(summary).chain(self.late)
    }
}
