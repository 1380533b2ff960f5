//! Whether stored records are known to be damaged, and what the audit log says about it. Everything that finds damage
//! comes here, so this is the one place that remembers what was told.
//!
//! Readers find damage in the barrier, which stops writes until a restart; a check finds records that nothing refers to and
//! a wrong checksum as well. The audit log records the finding, because the log still accepts lines when the store should not
//! be written to. So the vault knows of it after a restart too, until a check of all records passes or a salvage removes the
//! damaged ones.
//!
//! A reader reports damage only to the barrier. Its alarm is written by the next [`Damage::tell`], within a second. A process that
//! is killed before that forgets the finding; the record stays damaged, and the next read finds it again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::api::sys::Damage as Shown;
use crate::audit::{AuditError, Broker, DAMAGED, Note, SUM_DIFFERS};
use crate::barrier::{AuditHead, Barrier, BarrierError};
use crate::core::error::VaultError;

/// What is known about damage.
pub(in crate::core) struct Damage {
    barrier: Arc<Barrier>,
    audit: Arc<Broker>,
    /// Damage is known that nobody has settled. Changed only under the lock of `told`.
    known: AtomicBool,
    /// Held while the audit log is written, so that its lines about damage are in the order of what happened.
    told: Mutex<Told>,
}

/// What the audit log says.
#[derive(Default)]
struct Told {
    /// That records are damaged.
    records: Alarm,
    /// That the checksum over all records does not match the state.
    sum: Alarm,
    /// Findings of the barrier that are told, or settled by a check that began after them.
    seen: u64,
}

/// An alarm about damage that nobody has settled.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Alarm {
    /// There is no such damage.
    #[default]
    None,
    /// Not in the log yet.
    Due,
    /// In the log.
    Written,
}

/// How a check of all records has ended.
pub(in crate::core) struct Ended {
    /// [`Barrier::damage_found`] when it began.
    pub found_before: u64,
    /// Whether it came to its end.
    pub complete: bool,
    /// Number of records checked.
    pub records: u64,
    /// Number of bad records.
    pub failed: u64,
    /// Whether the checksum matches; `None` if it was not compared.
    pub sum: Option<bool>,
}

impl Ended {
    /// Whether it proves that no record is damaged. `found` is [`Barrier::damage_found`] now: a record that was damaged after
    /// the check had passed it counts as well.
    fn is_clean(&self, found: u64) -> bool {
        self.complete && self.failed == 0 && self.sum == Some(true) && found == self.found_before
    }
}

impl Damage {
    /// At a start. If the log ends with damage that nobody has settled, the alarm is written again, and the sealed state
    /// vouches for it: from then on the log cannot be cut back to before the alarm.
    ///
    /// # Errors
    /// [`VaultError::AuditUnavailable`]; those of a commit, except that a full disk only means that the state does not vouch
    /// for the alarm.
    pub(in crate::core) fn at_start(
        barrier: &Arc<Barrier>,
        audit: &Arc<Broker>,
        earlier: bool,
        now_ms: u64,
    ) -> Result<Self, VaultError> {
        let (barrier, audit) = (Arc::clone(barrier), Arc::clone(audit));
        let damage = Self { barrier, audit, known: AtomicBool::new(earlier), told: Mutex::default() };
        if !earlier {
            return Ok(damage);
        }
        tracing::error!(
            "damaged records were found before this start, or the audit log that would say so is lost, and no check has passed \
             since. Find them: strongroom verify. Restore the store from a backup, or remove them: strongroomd storage salvage"
        );
        damage.told.lock().records = Alarm::Due;
        let told = damage.tell(now_ms).and_then(|()| damage.audit.checkpoint(now_ms));
        told.map_err(|_| VaultError::AuditUnavailable)?;
        let head = damage.audit.head();
        match damage.barrier.roll_to(AuditHead { seq: head.seq, hash: head.hash }, now_ms) {
            Ok(()) => {}
            // A vault that cannot be opened helps nobody.
            Err(BarrierError::Full) => tracing::warn!(
                "the disk is full: the damage alarm is in the audit log, but not yet in the sealed state"
            ),
            Err(error) => return Err(error.into()),
        }
        Ok(damage)
    }

    /// Writes the alarms that are due. The daemon calls this every second.
    ///
    /// # Errors
    /// Those of the audit log. The next call tries again.
    pub(in crate::core) fn tell(&self, now_ms: u64) -> Result<(), AuditError> {
        let mut told = self.told.lock();
        self.look(&mut told);
        self.write(&mut told, now_ms)
    }

    /// A check has found a bad record. The alarm is written at once if it can be, otherwise by [`Damage::tell`].
    pub(in crate::core) fn found(&self, now_ms: u64) {
        let mut told = self.told.lock();
        if told.records == Alarm::None {
            tracing::error!("the record check has found damage; see what is damaged: strongroom verify --status");
        }
        self.look(&mut told);
        self.note(&mut told.records);
        drop(self.write(&mut told, now_ms));
    }

    /// The checksum over all records does not match the state. As [`Damage::found`].
    pub(in crate::core) fn sum_differs(&self, now_ms: u64) {
        let mut told = self.told.lock();
        self.note(&mut told.sum);
        drop(self.write(&mut told, now_ms));
    }

    /// Writes how a check has ended. If it proves that no record is damaged, what was found before it is settled: the next
    /// finding is told again. Returns whether it does.
    ///
    /// # Errors
    /// Those of the audit log. Then nothing is settled.
    pub(in crate::core) fn checked(&self, ended: &Ended, now_ms: u64) -> Result<bool, AuditError> {
        // Under the lock, an alarm for what is found from here on comes after this line, and so outlives it.
        let mut told = self.told.lock();
        let clean = ended.is_clean(self.barrier.damage_found());
        let Ended { complete, records, failed, .. } = *ended;
        self.audit.note(now_ms, &Note::Checked { clean, complete, records, failed })?;
        if clean {
            *told = Told { seen: ended.found_before, ..Told::default() };
            self.known.store(false, Ordering::SeqCst);
        }
        Ok(clean)
    }

    /// Opens the audit file again after it was renamed. A new file says in its first line that damage is known, and repeats
    /// the alarms: so they are in every file of the log, however files are moved.
    ///
    /// # Errors
    /// Those of [`Broker::reopen_at`].
    pub(in crate::core) fn reopen_log(&self, now_ms: u64) -> Result<(), AuditError> {
        let mut told = self.told.lock();
        self.look(&mut told);
        self.audit.reopen_at(now_ms, self.known.load(Ordering::SeqCst))?;
        let Told { records, sum, .. } = &mut *told;
        for alarm in [records, sum].into_iter().filter(|alarm| **alarm == Alarm::Written) {
            *alarm = Alarm::Due;
        }
        self.write(&mut told, now_ms)
    }

    /// For `status`; `None` without damage.
    pub(in crate::core) fn shown(&self) -> Option<Shown> {
        let writes_stopped = self.barrier.is_damaged();
        (writes_stopped || self.known.load(Ordering::SeqCst)).then_some(Shown { writes_stopped })
    }

    /// Takes notice of what readers have found.
    fn look(&self, told: &mut Told) {
        let found = self.barrier.damage_found();
        if found > told.seen {
            told.seen = found;
            self.note(&mut told.records);
        }
    }

    fn note(&self, alarm: &mut Alarm) {
        self.known.store(true, Ordering::SeqCst);
        if *alarm == Alarm::None {
            *alarm = Alarm::Due;
        }
    }

    fn write(&self, told: &mut Told, now_ms: u64) -> Result<(), AuditError> {
        for (alarm, code) in [(&mut told.records, DAMAGED), (&mut told.sum, SUM_DIFFERS)] {
            if *alarm == Alarm::Due {
                self.audit.note(now_ms, &Note::Alarm { request: None, code }).inspect_err(|error| {
                    tracing::error!(%error, code, "the alarm could not be written to the audit log");
                })?;
                *alarm = Alarm::Written;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_check_that_compared_the_sum_and_beside_which_nothing_was_found_is_clean() {
        let sound = || Ended { found_before: 3, complete: true, records: 9, failed: 0, sum: Some(true) };
        assert!(sound().is_clean(3));
        assert!(!sound().is_clean(4), "somebody has found damage since it began");
        assert!(!Ended { complete: false, ..sound() }.is_clean(3));
        assert!(!Ended { failed: 1, ..sound() }.is_clean(3));
        assert!(!Ended { sum: Some(false), ..sound() }.is_clean(3));
        assert!(!Ended { sum: None, ..sound() }.is_clean(3), "nobody has compared it");
    }
}
