//! Checks the records while the vault keeps serving: opens each one once, at a limited rate, on its own thread.
//!
//! Only one check runs at a time; a second caller joins it. Sealing stops it, and it is not resumed after the next unseal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use crate::api::sys::Verification;
use crate::api::time::rfc3339_nano;
use crate::audit::{Broker, Note};
use crate::barrier::{Barrier, Sweep};
use crate::core::Clock;
use crate::core::error::VaultError;
use crate::core::live::damage::Damage;
use crate::core::state::bad_records::{self, mount_of};

/// Default rate, records per second.
pub(in crate::core) const DEFAULT_RATE: u64 = 5_000;
/// Maximum number of bad records to describe.
const DESCRIBED: usize = 1_000;
/// A larger record counts once for each multiple of this size, in bytes.
const WEIGHT_BYTES: u64 = 16 * 1024;
/// Number of records to check before the thread pauses. Small, so that readers never wait for long.
const BURST: u64 = 16;
/// A check uses at most one part in `SHARE` of a processor, whatever rate was requested.
const SHARE: u64 = 4;
/// Longest pause, in milliseconds, even after the clock was set forward.
const LONGEST_PAUSE_MS: u64 = 1_000;

/// Starts checks and shows their progress.
pub(in crate::core) struct Verifier {
    work: Arc<Work>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Work {
    barrier: Arc<Barrier>,
    audit: Arc<Broker>,
    clock: Arc<dyn Clock>,
    damage: Arc<Damage>,
    /// The vault is closing.
    closing: Arc<AtomicBool>,
    shown: Mutex<Verification>,
}

impl Verifier {
    pub(in crate::core) fn new(
        barrier: &Arc<Barrier>,
        audit: &Arc<Broker>,
        clock: &Arc<dyn Clock>,
        closing: &Arc<AtomicBool>,
        damage: &Arc<Damage>,
    ) -> Self {
        let (barrier, audit, damage) = (Arc::clone(barrier), Arc::clone(audit), Arc::clone(damage));
        let (clock, closing) = (Arc::clone(clock), Arc::clone(closing));
        let shown = Mutex::new(Verification { state: "none".to_owned(), ..Verification::default() });
        Self { work: Arc::new(Work { barrier, audit, clock, damage, closing, shown }), thread: Mutex::new(None) }
    }

    /// Starts a check of at most `rate` records per second, or joins a running one.
    ///
    /// # Errors
    /// [`VaultError::Sealed`] when the vault is closing; [`VaultError::Unavailable`] when no thread can be started.
    pub(in crate::core) fn begin(&self, rate: u64) -> Result<Verification, VaultError> {
        let mut thread = self.thread.lock();
        if self.work.closing.load(Ordering::SeqCst) {
            return Err(VaultError::Sealed);
        }
        if self.work.shown.lock().state == "running" {
            return Ok(self.shown());
        }
        if let Some(ended) = thread.take() {
            // It has reported that it ended, so this does not block.
            let _ = ended.join();
        }
        *self.work.shown.lock() = Verification {
            state: "running".to_owned(),
            started: rfc3339_nano(self.work.clock.now_ms()),
            records_per_second: rate,
            total: self.work.barrier.record_count(),
            ..Verification::default()
        };
        let work = Arc::clone(&self.work);
        let started = std::thread::Builder::new().name("verifier".to_owned()).spawn(move || work.run(rate));
        match started {
            Ok(started) => *thread = Some(started),
            Err(_) => {
                self.work.end(false, "no thread available");
                return Err(VaultError::Unavailable("the check could not be started: no thread is available"));
            }
        }
        Ok(self.shown())
    }

    /// Returns the progress of the current check, or the result of the last one.
    pub(in crate::core) fn shown(&self) -> Verification {
        self.work.shown.lock().clone()
    }

    /// Waits for the thread to end, after `closing` was set.
    pub(in crate::core) fn join(&self) {
        let Some(thread) = self.thread.lock().take() else { return };
        if thread.join().is_err() {
            tracing::error!("the record check panicked; please report it");
        }
    }
}

impl Work {
    fn run(&self, rate: u64) {
        let mut sweep = Sweep::new(&self.barrier, mount_of, DESCRIBED);
        let (mut spent, mut told, mut pace) = (0, false, Pace::begin(rate, self.clock.now_ms()));
        loop {
            if self.closing.load(Ordering::SeqCst) {
                return self.end(false, "the vault was sealed");
            }
            let before = sweep.bytes();
            match sweep.step(&self.barrier) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::error!(%error, "record check stopped");
                    return self.end(false, "the store is not available; see the daemon's log");
                }
            }
            if sweep.failed() > 0 && !std::mem::replace(&mut told, true) {
                tracing::error!("a record is damaged; see which: strongroom verify --status");
                let _ = self.damage.tell(&self.barrier, &self.audit, self.clock.now_ms());
            }
            spent += 1 + sweep.bytes().saturating_sub(before) / WEIGHT_BYTES;
            if spent >= BURST {
                self.tell(&sweep);
                std::thread::sleep(pace.pause(spent, self.clock.now_ms()));
                spent = 0;
            }
        }
        self.tell(&sweep);
        let fits = sweep.set_hash_fits(&self.barrier);
        if fits == Some(false) {
            tracing::error!(
                "the checksum over all records does not match the sealed state: check memory and disk (docs/operations.md)"
            );
            let _ = self.damage.sum_differs(&self.audit, self.clock.now_ms());
        }
        self.shown.lock().set_hash = fits;
        self.end(true, "");
    }

    /// Updates the progress. Describes each bad record once.
    fn tell(&self, sweep: &Sweep) {
        let mut shown = self.shown.lock();
        (shown.records, shown.bytes, shown.failed) = (sweep.records(), sweep.bytes(), sweep.failed());
        let known = shown.bad.len();
        let name_of = |mount| sweep.named().name_of(mount);
        shown.bad.extend(sweep.bad().iter().skip(known).map(|bad| bad_records::shown(bad, name_of)));
    }

    /// Shows the end, and writes it to the audit log.
    fn end(&self, complete: bool, error: &str) {
        let now_ms = self.clock.now_ms();
        let (records, failed, clean) = {
            let mut shown = self.shown.lock();
            error.clone_into(&mut shown.error);
            shown.finished = rfc3339_nano(now_ms);
            (shown.records, shown.failed, complete && shown.failed == 0 && shown.set_hash != Some(false))
        };
        let state = if complete { "done" } else { "stopped" };
        tracing::info!(state, records, failed, "record check finished");
        let note = Note::Checked { clean, complete, records, failed };
        if let Err(error) = self.damage.checked(&self.audit, now_ms, &note) {
            tracing::error!(%error, "the end of the record check could not be written to the audit log");
        }
        // Last, so that anyone who sees the end can rely on the note.
        state.clone_into(&mut self.shown.lock().state);
    }
}

/// Limits the speed of a check to the requested rate and to its share of the time.
struct Pace {
    rate: u64,
    began_ms: u64,
    paused: Duration,
}

impl Pace {
    fn begin(rate: u64, now_ms: u64) -> Self {
        Self { rate: rate.max(1), began_ms: now_ms, paused: Duration::ZERO }
    }

    /// How long to pause after `spent` records, at `now_ms`.
    fn pause(&mut self, spent: u64, now_ms: u64) -> Duration {
        let of_rate = Duration::from_nanos(spent.saturating_mul(1_000_000_000) / self.rate);
        let elapsed = Duration::from_millis(now_ms.saturating_sub(self.began_ms));
        let worked = elapsed.saturating_sub(self.paused);
        let owed = worked.saturating_mul(u32::try_from(SHARE - 1).unwrap_or(u32::MAX)).saturating_sub(self.paused);
        let pause = of_rate.max(owed.min(Duration::from_millis(LONGEST_PAUSE_MS)));
        self.paused = self.paused.saturating_add(pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_gets_a_quarter_of_one_processor_however_fast_it_may_go() {
        // Each burst works for 3 ms; a pause takes as long as it was told.
        let (mut pace, mut now, mut worked) = (Pace::begin(1_000_000, 0), Duration::ZERO, Duration::ZERO);
        for _ in 0..200 {
            (now, worked) = (now + Duration::from_millis(3), worked + Duration::from_millis(3));
            now += pace.pause(BURST, u64::try_from(now.as_millis()).expect("small"));
        }
        let share = now.as_secs_f64() / worked.as_secs_f64();
        assert!((3.9..4.1).contains(&share), "one part in {share}");
        // A lower requested rate takes precedence.
        let mut pace = Pace::begin(100, 0);
        assert_eq!((0..5).map(|_| pace.pause(BURST, 0)).sum::<Duration>(), Duration::from_millis(800));
        // A clock that was set forward by a day, or back, does not stop the check.
        assert!(Pace::begin(100, 0).pause(1, 86_400_000) <= Duration::from_secs(1));
        assert!(Pace::begin(100, 86_400_000).pause(1, 0) <= Duration::from_millis(10));
    }
}
