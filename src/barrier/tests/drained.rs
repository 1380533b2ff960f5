//! Draining is proved beside writers, and nothing slips through between the scan and the destruction.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::rotation::{MOUNTS, destroy, fill, new_term, rewrap, turn};
use super::*;
use crate::store::{Batch, StoreError, Visit};

/// Called with the number of the record that a scan is at.
type AtRecord = Box<dyn FnMut(usize) + Send>;

/// Changes a store behind the vault; gets its records of an earlier time.
type Attack = fn(&MemoryStore, &BTreeMap<Vec<u8>, Stored>);

/// A store whose scans see a snapshot, as those of the real engine do, and call back on the way: what happens then
/// happens in the middle of the scan.
struct Interrupted {
    inner: Arc<MemoryStore>,
    at_record: Mutex<Option<AtRecord>>,
}

impl Store for Interrupted {
    fn engine(&self) -> &'static str {
        "interrupted"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        self.inner.get(key)
    }

    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.inner.scan(prefix, visit)
    }

    fn scan_heads(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        let hook = if prefix.is_empty() { self.at_record.lock().unwrap().take() } else { None };
        let Some(mut hook) = hook else { return self.inner.scan_heads(prefix, visit) };
        let mut at = 0;
        self.inner.copy().scan_heads(prefix, &mut |key, head| {
            hook(at);
            at += 1;
            visit(key, head)
        })
    }

    fn commit(&self, batch: &Batch) -> Result<CommitSeq, StoreError> {
        self.inner.commit(batch)
    }

    fn sequence(&self) -> Result<CommitSeq, StoreError> {
        self.inner.sequence()
    }
}

/// A vault whose term 1 is drained, and its store.
fn drained() -> (Disk, Arc<Interrupted>, Arc<Barrier>) {
    let (disk, barrier) = Disk::new();
    fill(&barrier);
    drop(barrier);
    let store = Arc::new(Interrupted { inner: disk.store.clone(), at_record: Mutex::new(None) });
    let parts = Parts { store: store.clone(), ..disk.parts(9) };
    let barrier = Barrier::unseal(parts, &Unlock::KeyFile(SECRET), 10).unwrap().0;
    turn(&barrier, new_term());
    rewrap(&barrier, 50);
    (disk, store, Arc::new(barrier))
}

fn remove(barrier: &Barrier, path: &str) {
    let mut group = barrier.begin();
    group.run(|tx| tx.remove_secret(MOUNT, path)).unwrap();
    finish(group);
}

#[test]
fn writes_at_any_record_of_the_scan_go_through_and_the_proof_holds() {
    let (disk, store, barrier) = drained();
    let records = usize::try_from(barrier.record_count()).unwrap();
    for at in (0..records).step_by(7) {
        let writer = Arc::clone(&barrier);
        *store.at_record.lock().unwrap() = Some(Box::new(move |record| {
            if record == at {
                // A scan that holds the writer's lock would never come back from here.
                put(&writer, "app/during", b"new");
                put(&writer, "app/f0/s0", b"changed");
                put(&writer, "app/f0/s0", b"value 0");
                remove(&writer, "app/during");
                put(&writer, "zzz/other", b"new");
            }
        }));
        let mut census = barrier.census().unwrap();
        assert!(store.at_record.lock().unwrap().is_none(), "the scan was interrupted");
        put(&barrier, "app/after", b"after the scan");
        let proof = barrier.begin().prove_drained(&mut census, &[1]).unwrap();
        assert_eq!((proof[0].term, proof[0].records), (1, barrier.record_count()));
        put(&barrier, "app/between", b"between proof and destruction");
        barrier.begin().prove_drained(&mut census, &[1]).unwrap();
    }
    let mut census = barrier.census().unwrap();
    let mut group = barrier.begin();
    group.prove_drained(&mut census, &[1]).unwrap();
    group.change_header(destroy(1)).unwrap();
    finish(group);
    drop(barrier);
    assert_eq!(disk.open().unwrap().0.terms()[0].state, TermState::Destroyed);
}

#[test]
fn what_comes_into_the_store_behind_the_scan_or_before_it_is_found() {
    // A record of the time of term 1, put back at its place or at another, and a record that is taken away.
    let attacks: [Attack; 3] = [
        |store, old| {
            store.tamper(|records| {
                let (key, stored) = old.iter().find(|(key, _)| key[0] == b'd').unwrap();
                records.insert(key.clone(), stored.clone());
            });
        },
        |store, old| {
            store.tamper(|records| {
                let (key, stored) = old.iter().find(|(key, _)| key[0] == b'd').unwrap();
                let mut key = key.clone();
                key[20] ^= 1;
                records.insert(key, stored.clone());
            });
        },
        |store, _| {
            store.tamper(|records| {
                let key = records.keys().rfind(|key| key[0] == b'v').unwrap().clone();
                records.remove(&key);
            });
        },
    ];
    for attack in attacks {
        let (disk, barrier) = Disk::new();
        fill(&barrier);
        let old = disk.records();
        turn(&barrier, new_term());
        rewrap(&barrier, 50);
        attack(&disk.store, &old);
        let mut census = barrier.census().unwrap();
        let proof = barrier.begin().prove_drained(&mut census, &[1]);
        assert!(matches!(proof, Err(BarrierError::Integrity(_))));
        assert!(matches!(barrier.health(), Health::Degraded(_)));
    }
    let (disk, barrier) = Disk::new();
    fill(&barrier);
    disk.store.tamper(|records| {
        drop(records.insert(b"x-other".to_vec(), Stored { value: vec![1; 200], revision: CommitSeq(1) }))
    });
    assert!(matches!(barrier.census().map(|_| ()), Err(BarrierError::Integrity(_))));
}

#[test]
fn a_group_in_flight_during_the_scan_is_no_difference() {
    let (_disk, _store, barrier) = drained();
    let mut group = barrier.begin();
    group.run(|tx| write(tx, "app/flight", b"1")).unwrap();
    group.run(|tx| tx.remove_secret(MOUNT, "app/f1/s1")).unwrap();
    let durable = group.store(AuditHead::default(), 20).unwrap();
    // In the store, and not in the index.
    let mut census = barrier.census().unwrap();
    durable.anchor().unwrap();
    durable.publish();
    barrier.begin().prove_drained(&mut census, &[1]).unwrap();
    assert_eq!(barrier.health(), Health::Serving);
}

#[test]
fn a_term_that_sealed_when_the_census_began_is_not_proved_by_it() {
    let (_disk, _store, barrier) = drained();
    let mut census = barrier.census().unwrap();
    turn(&barrier, new_term());
    rewrap(&barrier, 50);
    assert_eq!(barrier.terms()[1].live, 0, "nothing is under it, and yet it was used after the scan had begun");
    let refused = barrier.begin().prove_drained(&mut census, &[2]).map(|_| ());
    assert!(matches!(refused, Err(BarrierError::NotDrained { term: 2, .. })));
    barrier.begin().prove_drained(&mut census, &[1]).unwrap();
    let mut later = barrier.census().unwrap();
    assert_eq!(barrier.begin().prove_drained(&mut later, &[1, 2]).unwrap().len(), 2);
}

#[test]
fn terms_are_proved_and_destroyed_while_others_write() {
    let (disk, barrier) = Disk::new();
    fill(&barrier);
    let done = AtomicBool::new(false);
    let written: Vec<u8> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3u8)
            .map(|writer| {
                let (barrier, done) = (&barrier, &done);
                scope.spawn(move || {
                    let mut round = 0u8;
                    while !done.load(Ordering::SeqCst) {
                        round = round.wrapping_add(1);
                        put(barrier, &format!("busy/w{writer}"), &[round]);
                        put(barrier, &format!("busy/gone{writer}/{round}"), &[round]);
                        remove(barrier, &format!("busy/gone{writer}/{round}"));
                        remove(barrier, &format!("busy/w{writer}"));
                    }
                    put(barrier, &format!("busy/w{writer}"), &[round]);
                    round
                })
            })
            .collect();
        for old in 1..=6 {
            turn(&barrier, new_term());
            while barrier.terms().iter().any(|term| term.term == old && term.live > 0) {
                rewrap(&barrier, 16);
            }
            let mut census = barrier.census().unwrap();
            barrier.begin().prove_drained(&mut census, &[old]).unwrap();
            std::thread::yield_now();
            census.catch_up(&barrier).unwrap();
            let mut group = barrier.begin();
            group.prove_drained(&mut census, &[old]).unwrap();
            group.change_header(destroy(old)).unwrap();
            finish(group);
        }
        done.store(true, Ordering::SeqCst);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    assert_eq!(barrier.health(), Health::Serving);
    drop(barrier);
    let (barrier, _) = disk.open().unwrap();
    for (writer, round) in written.into_iter().enumerate() {
        assert_eq!(get(&barrier.view(MOUNT), &format!("busy/w{writer}")).unwrap().unwrap(), [round]);
    }
    barrier.open_all(MOUNTS).unwrap();
}
