//! The second half of removing a compromised slot. The removal writes a header and then a transaction. A kill between
//! them leaves the slot removed, while the authority, tokens and enrolment strings are still valid.

use std::sync::Arc;

use super::record::{self, Kind};
use super::rekey::{begin, note_ends};
use crate::audit::Note;
use crate::barrier::{MountId, TermStatus};
use crate::core::certificates::succession::{World, end_all};
use crate::core::error::VaultError;
use crate::core::rotation::desk::Desk;
use crate::core::state::authorities::Authorities;
use crate::keys::TermState;

/// How often the alarm is repeated while the removal cannot be completed, in milliseconds.
pub(in crate::core) const ALARM_EVERY_MS: u64 = 60_000;

/// Completes an interrupted removal, retrying until it succeeds.
#[derive(Default)]
pub(in crate::core) struct Debt {
    /// When the last alarm was written, in Unix milliseconds.
    told_ms: Option<u64>,
}

impl Debt {
    /// Completes the removal if one is pending. Returns `true` if nothing is pending any more. `false` means that it
    /// failed and nothing changed. The audit log then has the alarm `compromised-slot-unfinished`, repeated every
    /// minute. Can be called again.
    ///
    /// # Errors
    /// [`VaultError::Sealed`] when the vault closes; [`VaultError::AuditUnavailable`] when the alarm could not be
    /// written.
    pub(in crate::core) fn settle(&mut self, desk: &Desk) -> Result<bool, VaultError> {
        let error = match complete(desk) {
            Ok(()) => {
                self.told_ms = None;
                return Ok(true);
            }
            Err(VaultError::Sealed) => return Err(VaultError::Sealed),
            Err(error) => error,
        };
        let now_ms = desk.clock.now_ms();
        if self.told_ms.is_none_or(|told_ms| now_ms.abs_diff(told_ms) >= ALARM_EVERY_MS) {
            tracing::error!(
                %error,
                "the interrupted removal of a compromised slot could not be completed, so the old authority is still valid. \
                 The vault retries every second. Free disk space and repair the audit log"
            );
            let alarm = Note::Alarm { request: None, code: "compromised-slot-unfinished" };
            desk.audit.note(now_ms, &alarm).map_err(|_| VaultError::AuditUnavailable)?;
            self.told_ms = Some(now_ms);
        }
        Ok(false)
    }
}

/// Completes the removal of a compromised slot that was interrupted between its header and its transaction: a term is
/// marked as compromised, and no run of that kind covers it. The authority, all tokens and all enrolment strings are
/// ended in the commit that writes the run. Does nothing if there is no such removal. Can be repeated.
///
/// # Errors
/// The error of the commit. Nothing has changed then.
fn complete(desk: &Desk) -> Result<(), VaultError> {
    let terms = desk.barrier.terms();
    let marked = |term: &&TermStatus| term.state == TermState::Compromised;
    if !terms.iter().any(|term| marked(&term)) {
        return Ok(());
    }
    let runs = record::all(&desk.barrier.view(MountId::ROTATION))?;
    let covered = |term: u32| runs.iter().any(|run| run.kind == Kind::Compromised && run.terms.contains(&term));
    if terms.iter().filter(marked).all(|term| covered(term.term)) {
        return Ok(());
    }
    tracing::warn!(
        "the interrupted removal of a compromised slot is being completed: every certificate, token and enrolment \
         string is revoked. Get a new certificate with `strongroomd admin operator`"
    );
    let rule = "compromised slot: its interrupted removal is completed".to_owned();
    let facts = desk.by_vault("sys/strongroom/rekey", rule)?;
    let (random, active) = (Arc::clone(&desk.random), desk.barrier.key_status().term);
    let (snapshot, settings) = (Arc::clone(&desk.snapshot), Arc::clone(&desk.settings));
    desk.alone_touching(&facts, move |group, now_ms| {
        let generation = group.generation();
        group.run(|tx| {
            let mut run = begin(tx, &*random, true, now_ms)?;
            note_ends(&mut run, &terms, Some(active));
            run.note(
                "certificate authority",
                "replaced; the order was interrupted, so every certificate is revoked: get yours with `strongroomd admin operator`, then enrol hosts and operators again",
            );
            // It is lost whether the order asked for new keys of values. The more thorough way is right in both cases.
            run.values_before = Some(generation);
            run.put(tx)?;
            let snapshot = snapshot.load();
            let world = World { snapshot: &snapshot, settings: &settings, random: &random };
            let known = Authorities::load(&tx.view(MountId::CA))?;
            end_all(tx, &world, &known, now_ms)
        })
    })?;
    desk.follow_audit_key()
}
