//! Whether records of the vault are known to be damaged, and whether the audit log says so.
//!
//! A damaged record stops writes until a restart (`barrier`). The audit log records the finding, because the log still
//! accepts lines when the store should not be written to. So the vault knows of the damage after a restart too, until a
//! check of all records passes or a salvage removes the damaged ones.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::api::sys::Damage as Shown;
use crate::audit::{AuditError, Broker, DAMAGED, Note, SUM_DIFFERS};
use crate::barrier::Barrier;

/// What is known about damage.
#[derive(Default)]
pub(in crate::core) struct Damage {
    /// Damage was found before this start, or by a check of the sum.
    known: AtomicBool,
    /// Whether the alarm for damage found since this start has been logged.
    told: AtomicBool,
}

impl Damage {
    /// The state at a start. If the log ends with damage that is not settled, the alarm is written again, so that every
    /// file of the log has it, however files are moved.
    ///
    /// # Errors
    /// [`AuditError`] when the alarm cannot be written.
    pub(in crate::core) fn at_start(earlier: bool, audit: &Broker, now_ms: u64) -> Result<Self, AuditError> {
        let damage = Self::default();
        if earlier {
            tracing::error!(
                "damaged records were found before this start, and no check has passed since. Find them: strongroom verify. \
                 Restore the store from a backup, or remove them: strongroomd storage salvage"
            );
            alarm(audit, now_ms, DAMAGED)?;
            damage.known.store(true, Ordering::SeqCst);
        }
        Ok(damage)
    }

    /// Writes the alarm if a damaged record was found and the alarm is not in the log yet.
    ///
    /// # Errors
    /// [`AuditError`] when the alarm cannot be written. The next call tries again.
    pub(in crate::core) fn tell(&self, barrier: &Barrier, audit: &Broker, now_ms: u64) -> Result<(), AuditError> {
        if !barrier.is_damaged() || self.told.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        alarm(audit, now_ms, DAMAGED).inspect_err(|_| self.told.store(false, Ordering::SeqCst))
    }

    /// Writes the alarm again into a new file of the log.
    ///
    /// # Errors
    /// [`AuditError`] when the alarm cannot be written.
    pub(in crate::core) fn repeat(&self, barrier: &Barrier, audit: &Broker, now_ms: u64) -> Result<(), AuditError> {
        match self.shown(barrier) {
            Some(_) => alarm(audit, now_ms, DAMAGED),
            None => Ok(()),
        }
    }

    /// Notes that the checksum over all records does not match the state, and writes the alarm.
    ///
    /// # Errors
    /// [`AuditError`] when the alarm cannot be written.
    pub(in crate::core) fn sum_differs(&self, audit: &Broker, now_ms: u64) -> Result<(), AuditError> {
        self.known.store(true, Ordering::SeqCst);
        alarm(audit, now_ms, SUM_DIFFERS)
    }

    /// Writes how a check has ended. A `clean` one settles what was found before this start.
    ///
    /// # Errors
    /// [`AuditError`] when the note cannot be written; nothing is settled then.
    pub(in crate::core) fn checked(&self, audit: &Broker, now_ms: u64, ended: &Note<'_>) -> Result<(), AuditError> {
        audit.note(now_ms, ended)?;
        if matches!(ended, Note::Checked { clean: true, .. }) {
            self.known.store(false, Ordering::SeqCst);
        }
        Ok(())
    }

    /// For `status`; `None` without damage.
    pub(in crate::core) fn shown(&self, barrier: &Barrier) -> Option<Shown> {
        let writes_stopped = barrier.is_damaged();
        (writes_stopped || self.known.load(Ordering::SeqCst)).then_some(Shown { writes_stopped })
    }
}

fn alarm(audit: &Broker, now_ms: u64, code: &'static str) -> Result<(), AuditError> {
    audit.note(now_ms, &Note::Alarm { request: None, code }).inspect_err(|error| {
        tracing::error!(%error, code, "the alarm could not be written to the audit log");
    })
}
