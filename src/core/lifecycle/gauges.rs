//! What an open vault counts about itself, for dashboards and alarms. Names and numbers only, no path and no value.
//!
//! Dashboards and alarms use these names, so they must not change.

use serde::Serialize;

use crate::barrier::{Barrier, MountId};
use crate::keys::TermState;
use crate::limits::Accounts;

use crate::core::error::VaultError;
use crate::core::pipeline::route::Inquiry;
use crate::core::rotation::Phase;
use crate::core::rotation::keys::record::{self, Progress, Run};
use crate::core::rotation::values::record::{self as values, ValueRow};
use crate::core::state::snapshot::Snapshot;

/// Values that expire within this time count as expiring soon, in milliseconds.
const SOON_MS: u64 = 30 * 86_400_000;

/// A number under its name.
#[derive(Serialize)]
pub(in crate::core) struct Gauge {
    name: &'static str,
    value: u64,
}

/// Returns everything that can be counted without reading a secret. `certificates_due` is the number of clients that
/// should have renewed by now.
///
/// # Errors
/// [`VaultError::Integrity`] for a record of a rotation that cannot be parsed; the errors of [`Inquiry::looks_at`].
pub(in crate::core) fn all(inquiry: &Inquiry<'_>, certificates_due: u64) -> Result<Vec<Gauge>, VaultError> {
    inquiry.looks_at(inquiry.snapshot.identity_count())?;
    let view = inquiry.view(MountId::ROTATION);
    let (runs, rows, now_ms) = (record::all(&view)?, values::all(&view)?, inquiry.now_ms);
    let mut all = Vec::from(of_records(&inquiry.live.barrier, now_ms));
    all.extend(of_runs(&runs));
    all.extend(of_values(&rows, now_ms));
    all.push(("strongroom_damage", u64::from(inquiry.live.damage.shown().is_some())));
    all.push(("strongroom_writes_stopped", u64::from(inquiry.live.barrier.is_damaged())));
    all.push(("strongroom_rollback_reports", inquiry.live.rollbacks.total()));
    all.extend(of_identities(inquiry.snapshot));
    all.push(("strongroom_certificates_due", certificates_due));
    all.push(("strongroom_connections", count(inquiry.sessions.total())));
    all.push(("strongroom_values_ending_soon", ending_soon(&rows, now_ms)));
    all.extend(of_limits(&inquiry.live.accounts));
    Ok(all.into_iter().map(|(name, value)| Gauge { name, value }).collect())
}

fn of_records(barrier: &Barrier, now_ms: u64) -> [(&'static str, u64); 6] {
    let (terms, key) = (barrier.terms(), barrier.key_status());
    let old = terms.iter().filter(|term| matches!(term.state, TermState::DecryptOnly | TermState::Compromised));
    [
        ("strongroom_records", barrier.record_count()),
        ("strongroom_generation", barrier.mark().2),
        ("strongroom_term", u64::from(key.term)),
        ("strongroom_term_age_seconds", now_ms.saturating_sub(key.created_ms) / 1_000),
        ("strongroom_term_seals", key.seals),
        ("strongroom_old_term_records", old.map(|term| term.live).sum()),
    ]
}

fn of_runs(runs: &[Run]) -> [(&'static str, u64); 5] {
    let open = runs.iter().rev().find(|run| !run.state.ended());
    let number = |wanted: fn(&Run) -> bool| count(runs.iter().filter(|run| wanted(run)).count());
    [
        ("strongroom_rotation_records_done", open.map_or(0, |run| run.done)),
        ("strongroom_rotation_records_total", open.map_or(0, |run| run.total)),
        ("strongroom_rotations_open", number(|run| !run.state.ended())),
        ("strongroom_rotations_paused", number(|run| run.paused && !run.state.ended())),
        ("strongroom_rotations_stuck", number(|run| run.state == Progress::NeedsOperator)),
    ]
}

fn of_values(rows: &[ValueRow], now_ms: u64) -> [(&'static str, u64); 4] {
    let number = |wanted: &dyn Fn(&ValueRow) -> bool| count(rows.iter().filter(|row| wanted(row)).count());
    [
        ("strongroom_values", count(rows.len())),
        ("strongroom_values_rotating", number(&|row| !matches!(row.phase, Phase::Idle | Phase::Promoted))),
        ("strongroom_values_stuck", number(&|row| row.phase == Phase::NeedsOperator)),
        ("strongroom_values_overdue", number(&|row| row.next_ms.is_some_and(|next| next <= now_ms))),
    ]
}

fn ending_soon(rows: &[ValueRow], now_ms: u64) -> u64 {
    let soon = |row: &&ValueRow| row.policy.expires_at_ms.is_some_and(|at| at <= now_ms.saturating_add(SOON_MS));
    count(rows.iter().filter(soon).count())
}

fn of_identities(snapshot: &Snapshot) -> [(&'static str, u64); 3] {
    let disabled = snapshot.identities().filter_map(|(_, record)| record.disabled.as_ref());
    let (disabled, frozen) = disabled.fold((0_u64, 0_u64), |(all, frozen), disabled| {
        (all.saturating_add(1), frozen.saturating_add(u64::from(disabled.is_frozen())))
    });
    [
        ("strongroom_identities", count(snapshot.identity_count())),
        ("strongroom_identities_disabled", disabled),
        ("strongroom_identities_frozen", frozen),
    ]
}

fn of_limits(accounts: &Accounts) -> [(&'static str, u64); 10] {
    let totals = accounts.totals();
    let [allowed, limited] = [totals.allowed.0, totals.limited.0];
    [
        ("strongroom_limits_accounts", count(totals.accounts)),
        ("strongroom_limits_reads_allowed", allowed[0]),
        ("strongroom_limits_writes_allowed", allowed[1]),
        ("strongroom_limits_lists_allowed", allowed[2]),
        ("strongroom_limits_bytes_answered", allowed[3]),
        ("strongroom_limits_reads_refused", limited[0]),
        ("strongroom_limits_writes_refused", limited[1]),
        ("strongroom_limits_lists_refused", limited[2]),
        ("strongroom_limits_bytes_refused", limited[3]),
        ("strongroom_limits_refusals_not_audited", totals.unwritten),
    ]
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
