//! Engines that refuse, and readers beside a writer.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::store::faulty::{Failure, FaultyStore};

#[test]
fn a_full_disk_changes_nothing_and_a_failed_sync_ends_writing() {
    let (disk, barrier) = Disk::new();
    put(&barrier, "x", b"1");
    drop(barrier);
    let store = Arc::new(FaultyStore::new(disk.store.clone()));
    let parts = Parts { store: store.clone(), ..disk.parts(9) };
    let (barrier, _) = Barrier::unseal(parts, &Unlock::KeyFile(SECRET), 10).unwrap();
    let attempt = |failure| {
        store.fail_commit(1, failure);
        let mut group = barrier.begin();
        group.run(|tx| write(tx, "x", b"2")).unwrap();
        group.store(AuditHead::default(), 20).map(|_| ()).expect_err("the engine refuses")
    };
    assert!(matches!(attempt(Failure::Full), BarrierError::Full));
    assert_eq!(barrier.health(), Health::Serving);
    assert_eq!(get(&barrier.view(MOUNT), "x").unwrap().unwrap(), b"1");
    put(&barrier, "x", b"3");
    assert_eq!(barrier.mark().2, 3, "the refused group used no generation");
    assert!(matches!(attempt(Failure::Before), BarrierError::Fatal(_)));
    assert!(matches!(barrier.health(), Health::Degraded(_)));
    assert_eq!(get(&barrier.view(MOUNT), "x").unwrap().unwrap(), b"3", "reads go on");
    assert!(matches!(barrier.begin().run(|tx| tx.remove_secret(MOUNT, "x")), Err(BarrierError::Fatal(_))));
    drop(barrier);
    assert_eq!(get(&disk.open().unwrap().0.view(MOUNT), "x").unwrap().unwrap(), b"3");
}

#[test]
fn readers_beside_a_writer_never_see_a_fault_or_half_a_group() {
    let (_disk, barrier) = Disk::new();
    put(&barrier, "a", &[0]);
    put(&barrier, "b", &[0]);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for path in ["a", "b"] {
            let (barrier, done) = (&barrier, &done);
            scope.spawn(move || {
                let mut last = Vec::new();
                while !done.load(Ordering::SeqCst) {
                    // Removed and made again all the time, each time under a new key.
                    if let Some(value) = get(&barrier.view(MOUNT), path).unwrap() {
                        assert!(value >= last, "{value:?} after {last:?}");
                        last = value;
                    }
                    barrier.view(MOUNT).children("").unwrap();
                }
            });
        }
        for round in 1..150u8 {
            let mut group = barrier.begin();
            for path in ["a", "b"] {
                if round % 3 == 0 {
                    group.run(|tx| tx.remove_secret(MOUNT, path)).unwrap();
                }
                group.run(|tx| write(tx, path, &[round])).unwrap();
            }
            finish(group);
        }
        done.store(true, Ordering::SeqCst);
    });
    assert_eq!(barrier.health(), Health::Serving);
}

#[test]
fn a_record_above_the_limit_takes_back_its_closure_only() {
    let (_disk, barrier) = Disk::new();
    let mut group = barrier.begin();
    let large = vec![1; 1 << 20];
    group.run(|tx| write(tx, "fits", &large)).unwrap();
    let more = vec![1; (1 << 20) + (64 << 10)];
    assert!(matches!(group.run(|tx| write(tx, "f/large", &more)), Err(BarrierError::TooLarge)));
    for path in ["", "/a", "a/", "a//b"] {
        assert!(matches!(group.run(|tx| write(tx, path, b"1")), Err(BarrierError::Path(_))), "{path:?}");
    }
    finish(group);
    assert_eq!(get(&barrier.view(MOUNT), "fits").unwrap().unwrap(), large);
    assert_eq!(barrier.record_count(), 2);
}
