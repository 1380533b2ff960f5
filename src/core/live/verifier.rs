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
use crate::core::state::bad_records::{self, mount_of};

/// Default rate, records per second.
pub(in crate::core) const DEFAULT_RATE: u64 = 5_000;
/// Maximum number of bad records to describe.
const DESCRIBED: usize = 1_000;
/// A larger record counts once for each multiple of this size, bytes.
const WEIGHT_BYTES: u64 = 16 * 1024;
/// Number of records to check before the thread pauses. Small, so that readers never wait for long.
const BURST: u64 = 16;
/// Code of the alarm for the first damaged record.
const DAMAGED: &str = "record-damaged";
/// Code of the alarm for a checksum over all records that does not match the state.
const SUM_DIFFERS: &str = "set-hash-differs";

/// Starts checks and shows their progress.
pub(in crate::core) struct Verifier {
    work: Arc<Work>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Work {
    barrier: Arc<Barrier>,
    audit: Arc<Broker>,
    clock: Arc<dyn Clock>,
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
    ) -> Self {
        let (barrier, audit) = (Arc::clone(barrier), Arc::clone(audit));
        let (clock, closing) = (Arc::clone(clock), Arc::clone(closing));
        let shown = Mutex::new(Verification { state: "none".to_owned(), ..Verification::default() });
        Self { work: Arc::new(Work { barrier, audit, clock, closing, shown }), thread: Mutex::new(None) }
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
            // It has reported its end, so this does not block.
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
                self.work.end("stopped", "no thread available");
                return Err(VaultError::Unavailable("the check could not start: no thread available"));
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
        let (mut spent, mut told) = (0, false);
        loop {
            if self.closing.load(Ordering::SeqCst) {
                return self.end("stopped", "the vault was sealed");
            }
            let before = sweep.bytes();
            match sweep.step(&self.barrier) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    tracing::error!(%error, "record check stopped");
                    return self.end("stopped", "the store is not available; see the daemon's log");
                }
            }
            if sweep.failed() > 0 && !std::mem::replace(&mut told, true) {
                tracing::error!("a record is damaged; see which: strongroom verify --status");
                self.alarm(DAMAGED);
            }
            spent += 1 + sweep.bytes().saturating_sub(before) / WEIGHT_BYTES;
            if spent >= BURST {
                self.tell(&sweep);
                std::thread::sleep(Duration::from_nanos(spent.saturating_mul(1_000_000_000) / rate.max(1)));
                spent = 0;
            }
        }
        self.tell(&sweep);
        let fits = sweep.set_hash_fits(&self.barrier);
        if fits == Some(false) {
            tracing::error!(
                "the checksum over all records does not match the sealed state: check memory and disk (docs/operations.md)"
            );
            self.alarm(SUM_DIFFERS);
        }
        self.shown.lock().set_hash = fits;
        self.end("done", "");
    }

    /// Updates the progress. Describes each bad record once.
    fn tell(&self, sweep: &Sweep) {
        let mut shown = self.shown.lock();
        (shown.records, shown.bytes, shown.failed) = (sweep.records(), sweep.bytes(), sweep.failed());
        let known = shown.bad.len();
        let name_of = |mount| sweep.named().name_of(mount);
        shown.bad.extend(sweep.bad().iter().skip(known).map(|bad| bad_records::shown(bad, name_of)));
    }

    fn alarm(&self, code: &'static str) {
        if let Err(error) = self.audit.note(self.clock.now_ms(), &Note::Alarm { request: None, code }) {
            tracing::error!(%error, code, "the alarm could not be written to the audit log");
        }
    }

    fn end(&self, state: &str, error: &str) {
        let mut shown = self.shown.lock();
        state.clone_into(&mut shown.state);
        error.clone_into(&mut shown.error);
        shown.finished = rfc3339_nano(self.clock.now_ms());
        tracing::info!(state, records = shown.records, failed = shown.failed, "record check finished");
    }
}
