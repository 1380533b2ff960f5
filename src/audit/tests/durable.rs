//! Durability beside a device that refuses some lines: what is acknowledged survives a power cut.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::*;

/// A device on which a power cut drops what was not synced. Refuses every third append.
#[derive(Clone, Default)]
struct Ram(Arc<Counts>);

#[derive(Default)]
struct Counts {
    appends: AtomicUsize,
    /// Complete lines that were handed over.
    lines: AtomicU64,
    /// Of these, how many a power cut leaves.
    synced: AtomicU64,
}

impl Device for Ram {
    fn name(&self) -> &str {
        "ram"
    }
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.0.appends.fetch_add(1, Ordering::SeqCst) % 3 == 2 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let count = lines.iter().filter(|byte| **byte == b'\n').count();
        self.0.lines.fetch_add(u64::try_from(count).unwrap(), Ordering::SeqCst);
        Ok(())
    }
    fn syncer(&self) -> Arc<dyn Syncer> {
        Arc::new(self.clone())
    }
    fn reopen(&mut self) -> io::Result<bool> {
        Ok(false)
    }
}

impl Syncer for Ram {
    fn sync(&self) -> io::Result<()> {
        let lines = self.0.lines.load(Ordering::SeqCst);
        std::thread::yield_now();
        self.0.synced.fetch_max(lines, Ordering::SeqCst);
        Ok(())
    }
}

/// A line that the device refuses to one writer must not keep the lines of another from being synced.
#[test]
fn an_acknowledged_group_survives_a_power_cut_beside_refused_ones() {
    const GROUPS: u64 = 20_000;
    let ram = Ram::default();
    let broker = Broker::open(Box::new(ram.clone()), log_key(1, &key()), Resume::default()).unwrap();
    let (done, wrong) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while done.load(Ordering::SeqCst) < GROUPS {
                    if let Ok(head) = broker.requests(&[request(T0, "a", &[])]) {
                        let kept = ram.0.synced.load(Ordering::SeqCst);
                        wrong.fetch_add(u64::from(kept < head.seq), Ordering::SeqCst);
                        done.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    let (wrong, done) = (wrong.into_inner(), done.into_inner());
    assert_eq!(wrong, 0, "of {done} groups, {wrong} were acknowledged and not durable");
}

/// A group that brings the number of open lines to a thousand is followed by a checkpoint; its requests keep their
/// numbers.
#[test]
fn a_checkpoint_behind_a_group_does_not_shift_the_numbers_of_its_requests() {
    let tape = Tape::default();
    let broker = broker(&tape);
    for at in 0..998 {
        read(&broker, at).unwrap();
    }
    let head = broker.requests(&[request(T0, "a", &[]), request(T0, "b", &[])]).unwrap();
    assert_eq!((head.seq, broker.pending()), (1000, vec![999, 1000]));
    broker.replies(T0, &[], &[(999, reply(&[])), (1000, reply(&[]))]).unwrap();
    let report = tape.report(Some(head));
    assert!(report.is_good() && report.checkpoints == 0, "{report:?}");
    assert_eq!(report.open_requests, 0);
    assert_eq!(tape.text().lines().filter(|line| line.contains("\"kind\":\"checkpoint\"")).count(), 1);
}

/// A device that takes every line, and syncs as it is told to.
struct TakesAll(Arc<dyn Syncer>);

impl Device for TakesAll {
    fn name(&self) -> &str {
        "takes all"
    }
    fn append(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn syncer(&self) -> Arc<dyn Syncer> {
        Arc::clone(&self.0)
    }
    fn reopen(&mut self) -> io::Result<bool> {
        Ok(false)
    }
}

/// The system reports a failed sync once. Who syncs at the same time must not take the next success for its own.
#[test]
fn a_failed_sync_fails_everybody_who_waits_for_it() {
    #[derive(Default)]
    struct Once(AtomicUsize);
    impl Syncer for Once {
        fn sync(&self) -> io::Result<()> {
            let first = self.0.fetch_add(1, Ordering::SeqCst) == 0;
            if !first {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
            Err(io::ErrorKind::Other.into())
        }
    }
    let once = Arc::new(Once::default());
    let broker = Broker::open(Box::new(TakesAll(once.clone())), log_key(1, &key()), Resume::default()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(broker.requests(&[request(T0, "a", &[])]), Err(AuditError::Sync)));
        }
    });
    assert_eq!(once.0.load(Ordering::SeqCst), 1, "a failed sync is not tried again");
}

/// A reopening syncs the old file itself. If the system tells it of a failure, a sync that runs beside it is told nothing.
#[test]
fn a_sync_beside_a_reopening_that_learned_of_a_failure_fails_too() {
    #[derive(Default)]
    struct Turns {
        begun: AtomicUsize,
        failed: AtomicUsize,
    }
    impl Syncer for Turns {
        fn sync(&self) -> io::Result<()> {
            if self.begun.fetch_add(1, Ordering::SeqCst) > 0 {
                self.failed.store(1, Ordering::SeqCst);
                return Err(io::ErrorKind::Other.into());
            }
            while self.failed.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            Ok(())
        }
    }
    let told = Arc::new(Turns::default());
    let broker = Broker::open(Box::new(TakesAll(told.clone())), log_key(1, &key()), Resume::default()).unwrap();
    std::thread::scope(|scope| {
        let group = scope.spawn(|| broker.requests(&[request(T0, "a", &[])]));
        while told.begun.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        assert_eq!(broker.reopen(), Err(AuditError::Sync));
        assert_eq!(group.join().unwrap(), Err(AuditError::Sync), "acknowledged, and perhaps not on the disk");
    });
}
