//! `sys/metrics`: gauges of rotations and of the store. Names and numbers only, no path and no value.

use serde::Serialize;

use crate::api::reply::Reply;
use crate::barrier::MountId;
use crate::keys::TermState;

use super::{Inquiry, data};
use crate::core::certificates::schedule::Clients;
use crate::core::error::VaultError;
use crate::core::rotation::Phase;
use crate::core::rotation::keys::record::{self, Progress};
use crate::core::rotation::values::record as values;

/// Values that expire within this time count as expiring soon, in milliseconds.
const SOON_MS: u64 = 30 * 86_400_000;

#[derive(Serialize)]
struct Gauge {
    name: &'static str,
    value: u64,
}

#[derive(Serialize)]
struct Gauges {
    gauges: Vec<Gauge>,
}

/// Everything that can be counted without reading a secret.
pub(super) fn read(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    inquiry.looks_at(inquiry.snapshot.identity_count())?;
    let barrier = &inquiry.live.barrier;
    let view = inquiry.view(MountId::ROTATION);
    let (terms, runs, rows) = (barrier.terms(), record::all(&view)?, values::all(&view)?);
    let key = barrier.key_status();
    let now_ms = inquiry.now_ms;
    let old = terms.iter().filter(|term| matches!(term.state, TermState::DecryptOnly | TermState::Compromised));
    let open = runs.iter().rev().find(|run| !run.state.ended());
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let of_runs = |wanted: fn(&record::Run) -> bool| count(runs.iter().filter(|run| wanted(run)).count());
    let of_rows = |wanted: &dyn Fn(&values::ValueRow) -> bool| count(rows.iter().filter(|row| wanted(row)).count());
    // The rows of the authorities and of the listener are not counted, and each would cost a pass of its own.
    inquiry.looks_at_certificates()?;
    let clients = Clients::count(inquiry.snapshot, now_ms);
    let limits = inquiry.live.accounts.totals();
    let ([allowed, limited], accounts) = ([limits.allowed.0, limits.limited.0], count(limits.accounts));
    // Dashboards and alarms use these names, so they must not change.
    let gauges = [
        ("strongroom_records", barrier.record_count()),
        ("strongroom_generation", barrier.mark().2),
        ("strongroom_term", u64::from(key.term)),
        ("strongroom_term_age_seconds", now_ms.saturating_sub(key.created_ms) / 1_000),
        ("strongroom_term_seals", key.seals),
        ("strongroom_old_term_records", old.map(|term| term.live).sum()),
        ("strongroom_rotation_records_done", open.map_or(0, |run| run.done)),
        ("strongroom_rotation_records_total", open.map_or(0, |run| run.total)),
        ("strongroom_rotations_open", of_runs(|run| !run.state.ended())),
        ("strongroom_rotations_paused", of_runs(|run| run.paused && !run.state.ended())),
        ("strongroom_rotations_stuck", of_runs(|run| run.state == Progress::NeedsOperator)),
        ("strongroom_values", count(rows.len())),
        ("strongroom_values_rotating", of_rows(&|row| !matches!(row.phase, Phase::Idle | Phase::Promoted))),
        ("strongroom_values_stuck", of_rows(&|row| row.phase == Phase::NeedsOperator)),
        ("strongroom_values_overdue", of_rows(&|row| row.next_ms.is_some_and(|next| next <= now_ms))),
        ("strongroom_identities", count(inquiry.snapshot.identity_count())),
        (
            "strongroom_identities_disabled",
            count(inquiry.snapshot.identities().filter(|(_, r)| r.disabled.is_some()).count()),
        ),
        ("strongroom_certificates_due", clients.due),
        ("strongroom_connections", count(inquiry.sessions.total())),
        (
            "strongroom_values_ending_soon",
            of_rows(&|row| row.policy.expires_at_ms.is_some_and(|at| at <= now_ms.saturating_add(SOON_MS))),
        ),
        ("strongroom_limits_accounts", accounts),
        ("strongroom_limits_reads_allowed", allowed[0]),
        ("strongroom_limits_writes_allowed", allowed[1]),
        ("strongroom_limits_lists_allowed", allowed[2]),
        ("strongroom_limits_bytes_answered", allowed[3]),
        ("strongroom_limits_reads_refused", limited[0]),
        ("strongroom_limits_writes_refused", limited[1]),
        ("strongroom_limits_lists_refused", limited[2]),
        ("strongroom_limits_bytes_refused", limited[3]),
        ("strongroom_limits_refusals_not_audited", limits.unwritten),
    ];
    data(&Gauges { gauges: gauges.into_iter().map(|(name, value)| Gauge { name, value }).collect() })
}
