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
use crate::barrier::{Barrier, Sweep};
use crate::core::Clock;
use crate::core::error::VaultError;
use crate::core::live::damage::{Damage, Ended};
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
const SHARE: u32 = 4;
/// Longest pause for the sake of that share. Without a bound, a disk that hung for an hour would stop the check for three.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Starts checks and shows their progress.
pub(in crate::core) struct Verifier {
    work: Arc<Work>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Work {
    barrier: Arc<Barrier>,
    clock: Arc<dyn Clock>,
    damage: Arc<Damage>,
    /// The vault is closing.
    closing: Arc<AtomicBool>,
    shown: Mutex<Verification>,
}

impl Verifier {
    pub(in crate::core) fn new(
        barrier: &Arc<Barrier>,
        clock: &Arc<dyn Clock>,
        closing: &Arc<AtomicBool>,
        damage: &Arc<Damage>,
    ) -> Self {
        let (barrier, damage) = (Arc::clone(barrier), Arc::clone(damage));
        let (clock, closing) = (Arc::clone(clock), Arc::clone(closing));
        let shown = Mutex::new(Verification { state: "none".to_owned(), ..Verification::default() });
        Self { work: Arc::new(Work { barrier, clock, damage, closing, shown }), thread: Mutex::new(None) }
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
            // It has reported that it ended, so this does not block. A panic is reported too.
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
        let check = move || {
            let running = Running(&work);
            running.0.run(rate);
        };
        let started = std::thread::Builder::new().name("verifier".to_owned()).spawn(check);
        match started {
            Ok(started) => *thread = Some(started),
            Err(_) => {
                self.work.end(0, false, "no thread available");
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
        // A panic was reported when it happened.
        let _ = thread.join();
    }
}

/// A check that must report its end, whatever happens to its thread: no other can begin before.
struct Running<'a>(&'a Work);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.0.shown.lock().state == "running" {
            tracing::error!("the record check panicked; please report it");
            self.0.end(0, false, "internal error; see the daemon's log");
        }
    }
}

impl Work {
    fn run(&self, rate: u64) {
        // What was found up to now is not this check's to settle before it is in the log. A failure is logged and tried again.
        drop(self.damage.tell(self.clock.now_ms()));
        // Before the first record: from here on, the check answers for what readers find as well.
        let found_before = self.barrier.damage_found();
        let mut sweep = Sweep::new(&self.barrier, mount_of, DESCRIBED);
        let (mut spent, mut pace) = (0, Pace::begin(rate, self.clock.steady()));
        loop {
            // Sealing waits for this thread, so it looks before each record.
            if self.closing.load(Ordering::SeqCst) {
                self.tell(&sweep);
                return self.end(found_before, false, "the vault was sealed");
            }
            let (bytes, failed) = (sweep.bytes(), sweep.failed());
            match sweep.step(&self.barrier) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::error!(%error, "record check stopped");
                    self.tell(&sweep);
                    return self.end(found_before, false, "the store is not available; see the daemon's log");
                }
            }
            // Not only at the end, which may be hours away. Told here and not by the barrier alone, because a record that
            // nothing refers to is no error of a read.
            if sweep.failed() > failed {
                self.damage.found(self.clock.now_ms());
            }
            spent += 1 + sweep.bytes().saturating_sub(bytes) / WEIGHT_BYTES;
            if spent >= BURST {
                self.tell(&sweep);
                std::thread::sleep(pace.pause(spent, self.clock.steady()));
                pace.resume(self.clock.steady());
                spent = 0;
            }
        }
        self.tell(&sweep);
        let fits = sweep.set_hash_fits(&self.barrier);
        if fits == Some(false) {
            tracing::error!(
                "the checksum over all records does not match the sealed state: check memory and disk (docs/operations.md)"
            );
            self.damage.sum_differs(self.clock.now_ms());
        }
        self.shown.lock().set_hash = fits;
        self.end(found_before, true, "");
    }

    /// Updates the progress. Describes each bad record once.
    fn tell(&self, sweep: &Sweep) {
        let mut shown = self.shown.lock();
        (shown.records, shown.bytes, shown.failed) = (sweep.records(), sweep.bytes(), sweep.failed());
        let known = shown.bad.len();
        let name_of = |mount| sweep.named().name_of(mount);
        shown.bad.extend(sweep.bad().iter().skip(known).map(|bad| bad_records::shown(bad, name_of)));
    }

    /// Shows the end, and writes it to the audit log. `found_before` is what readers had found when the check began.
    fn end(&self, found_before: u64, complete: bool, error: &str) {
        let now_ms = self.clock.now_ms();
        let ended = {
            let mut shown = self.shown.lock();
            error.clone_into(&mut shown.error);
            shown.finished = rfc3339_nano(now_ms);
            Ended { found_before, complete, records: shown.records, failed: shown.failed, sum: shown.set_hash }
        };
        let (records, failed) = (ended.records, ended.failed);
        match self.damage.checked(&ended, now_ms) {
            Ok(clean) => self.shown.lock().clean = Some(clean),
            Err(error) => tracing::error!(%error, "the end of the record check could not be written to the audit log"),
        }
        let state = if complete { "done" } else { "stopped" };
        if failed > 0 {
            tracing::error!(
                state,
                records,
                failed,
                "record check finished: see what is damaged: strongroom verify --status"
            );
        } else {
            tracing::info!(state, records, failed, "record check finished");
        }
        // Last, so that anyone who sees the end can rely on the note.
        state.clone_into(&mut self.shown.lock().state);
    }
}

/// Limits the speed of a check to the requested rate and to its share of the time, by the steady clock.
struct Pace {
    rate: u64,
    /// When it began to work on the current burst.
    since: Duration,
}

impl Pace {
    fn begin(rate: u64, now: Duration) -> Self {
        Self { rate: rate.max(1), since: now }
    }

    /// How long to pause at `now`, after a burst of `spent` records.
    fn pause(&self, spent: u64, now: Duration) -> Duration {
        let of_rate = Duration::from_nanos(spent.saturating_mul(1_000_000_000) / self.rate);
        let of_share = now.saturating_sub(self.since).saturating_mul(SHARE - 1).min(LONGEST_PAUSE);
        of_rate.max(of_share)
    }

    /// The pause is over.
    fn resume(&mut self, now: Duration) {
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_gets_a_quarter_of_one_processor_however_fast_it_may_go() {
        // Each burst works for 3 ms; a pause takes a little longer than it was told.
        let (mut pace, mut now, mut worked) = (Pace::begin(1_000_000, Duration::ZERO), Duration::ZERO, Duration::ZERO);
        for _ in 0..200 {
            (now, worked) = (now + Duration::from_millis(3), worked + Duration::from_millis(3));
            now += pace.pause(BURST, now) + Duration::from_micros(60);
            pace.resume(now);
        }
        let share = now.as_secs_f64() / worked.as_secs_f64();
        assert!((3.9..4.1).contains(&share), "one part in {share}");
        // A lower requested rate takes precedence.
        let pace = Pace::begin(100, Duration::ZERO);
        assert_eq!((0..5).map(|_| pace.pause(BURST, Duration::ZERO)).sum::<Duration>(), Duration::from_millis(800));
        // A disk that hung for an hour costs one pause of a second, and nothing afterwards.
        let mut pace = Pace::begin(1_000_000, Duration::ZERO);
        let hour = Duration::from_secs(3_600);
        assert_eq!(pace.pause(BURST, hour), LONGEST_PAUSE);
        pace.resume(hour + LONGEST_PAUSE);
        assert!(pace.pause(BURST, hour + LONGEST_PAUSE) < Duration::from_millis(1));
    }
}
