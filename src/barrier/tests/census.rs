//! What a census reads, counts and notes, to the unit: the key of a term is destroyed on what it proves.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::rotation::{fill, new_term, rewrap, turn};
use super::*;
use crate::barrier::index::Stamp;
use crate::barrier::names::StoreKey;
use crate::store::{Batch, StoreError, Visit};

/// Changed keys that a census notes at most.
const NOTED: usize = 1 << 18;
/// Records that a census leaves for the check under the writer's lock, at most.
const LEFT: usize = 64;

/// A store that counts how often the head of one record is read, and whose scans can list a key twice.
struct Counting {
    inner: Arc<MemoryStore>,
    looks: AtomicUsize,
    twice: bool,
}

impl Store for Counting {
    fn engine(&self) -> &'static str {
        "counting"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        self.inner.get(key)
    }

    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.inner.scan(prefix, visit)
    }

    fn scan_heads(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        if !prefix.is_empty() {
            self.looks.fetch_add(1, Ordering::SeqCst);
            return self.inner.scan_heads(prefix, visit);
        }
        self.inner.scan_heads(prefix, &mut |key, head| match visit(key, head) {
            ControlFlow::Continue(()) if self.twice => visit(key, head),
            done => done,
        })
    }

    fn commit(&self, batch: &Batch) -> Result<CommitSeq, StoreError> {
        self.inner.commit(batch)
    }

    fn sequence(&self) -> Result<CommitSeq, StoreError> {
        self.inner.sequence()
    }
}

fn on(disk: &Disk, twice: bool) -> (Arc<Counting>, Barrier) {
    let store = Arc::new(Counting { inner: disk.store.clone(), looks: AtomicUsize::new(0), twice });
    let parts = Parts { store: store.clone(), ..disk.parts(9) };
    let barrier = Barrier::unseal(parts, &Unlock::KeyFile(SECRET), 10).unwrap().0;
    (store, barrier)
}

/// A vault whose term 1 is drained.
fn drained(entries: usize) -> (Disk, Arc<Counting>, Barrier) {
    let (disk, barrier) = Disk::new();
    fill(&barrier);
    let mut group = barrier.begin();
    for n in 0..entries {
        group.run(|tx| tx.put_entry(MountId::POLICIES, &format!("p{n}"), b"text", 0)).unwrap();
    }
    finish(group);
    turn(&barrier, new_term());
    rewrap(&barrier, 50);
    drop(barrier);
    let (store, barrier) = on(&disk, false);
    (disk, store, barrier)
}

/// Keys that no record has, as if groups had made and removed records under them.
fn keys(count: usize) -> Vec<(StoreKey, Option<Stamp>)> {
    (0..count).map(|n| (StoreKey::value(&[0; 16], u64::try_from(n).unwrap()), None)).collect()
}

fn not_drained(barrier: &Barrier, census: &mut Census, term: u32) -> u64 {
    match barrier.begin().prove_drained(census, &[term]) {
        Err(BarrierError::NotDrained { term: named, live }) if named == term => live,
        other => panic!("{other:?}"),
    }
}

#[test]
fn in_a_quiet_vault_each_head_is_read_once() {
    // More records than are compared under one lock.
    let (_disk, store, barrier) = drained(2_100);
    let mut census = barrier.census().unwrap();
    let proof = barrier.begin().prove_drained(&mut census, &[1]).unwrap();
    assert_eq!(proof, [Drained { term: 1, generation: barrier.mark().2, records: barrier.record_count() }]);
    assert_eq!(store.looks.load(Ordering::SeqCst), 0, "a record that is equal needs no second look");
}

#[test]
fn a_group_in_flight_costs_a_second_look_at_its_own_records_only() {
    let (_disk, store, barrier) = drained(900);
    let mut group = barrier.begin();
    for n in 0..5 {
        group.run(|tx| tx.put_entry(MountId::POLICIES, &format!("new{n}"), b"text", 0)).unwrap();
        group.run(|tx| tx.remove_entry(MountId::POLICIES, &format!("p{n}"))).unwrap();
    }
    let durable = group.store(AuditHead::default(), 20).unwrap();
    // In the store, and not in the index.
    let mut census = barrier.census().unwrap();
    durable.anchor().unwrap();
    durable.publish();
    barrier.begin().prove_drained(&mut census, &[1]).unwrap();
    assert_eq!(store.looks.load(Ordering::SeqCst), 10);
}

#[test]
fn a_record_that_is_gone_from_anywhere_in_the_store_ends_the_proof() {
    let (disk, _, barrier) = drained(1_100);
    drop(barrier);
    let keys: Vec<Vec<u8>> = disk.records().into_keys().filter(|key| key[0] != b's').collect();
    let last = keys.len() - 1;
    for at in [0, 1, last / 2, 1_022, 1_023, 1_024, 1_025, last - 1, last] {
        let live = disk.copy();
        let (_, barrier) = on(&live, false);
        live.store.tamper(|records| drop(records.remove(&keys[at])));
        let mut census = barrier.census().unwrap();
        let proof = barrier.begin().prove_drained(&mut census, &[1]);
        assert!(matches!(proof, Err(BarrierError::Integrity(_))), "record {at}: {proof:?}");
    }
}

#[test]
fn an_engine_that_lists_a_key_twice_is_not_believed() {
    let (disk, _, barrier) = drained(0);
    drop(barrier);
    // The start reads each head into a map and does not notice.
    let (_, barrier) = on(&disk, true);
    assert!(matches!(barrier.census().map(|_| ()), Err(BarrierError::Integrity(_))));
    assert!(matches!(barrier.health(), Health::Degraded(_)));
}

#[test]
fn what_the_scan_counts_stands_against_a_counter_that_says_nothing_is_left() {
    let (_disk, barrier) = Disk::new();
    fill(&barrier);
    turn(&barrier, new_term());
    let live = barrier.terms()[0].live;
    assert!(live > 40);
    let mut census = barrier.census().unwrap();
    assert_eq!(not_drained(&barrier, &mut census, 1), live);
    for used in &mut barrier.published.write().terms {
        used.live = 0;
    }
    assert_eq!(not_drained(&barrier, &mut census, 1), live, "the scan has seen them");
}

#[test]
fn the_term_that_was_active_at_the_start_is_not_proved_though_nothing_was_under_it() {
    let (_disk, barrier) = Disk::new();
    let mut census = barrier.census().unwrap();
    turn(&barrier, new_term());
    assert_eq!(not_drained(&barrier, &mut census, 1), 0);
    // Nor the one that is active now, and one that does not exist.
    not_drained(&barrier, &mut census, 2);
    not_drained(&barrier, &mut census, 3);
    let mut later = barrier.census().unwrap();
    barrier.begin().prove_drained(&mut later, &[1]).unwrap();
}

#[test]
fn catching_up_leaves_little_to_the_check_under_the_lock() {
    let (_disk, store, barrier) = drained(0);
    let mut census = barrier.census().unwrap();
    for n in 0..LEFT {
        put(&barrier, &format!("app/new{n}"), b"more than may be left");
    }
    census.catch_up(&barrier).unwrap();
    let before = store.looks.load(Ordering::SeqCst);
    barrier.begin().prove_drained(&mut census, &[1]).unwrap();
    let under_lock = store.looks.load(Ordering::SeqCst) - before;
    assert!(under_lock <= LEFT, "{under_lock} records were read under the lock");
}

#[test]
fn what_differs_among_many_changes_is_still_found_after_catching_up() {
    let (disk, _, barrier) = drained(0);
    let mut census = barrier.census().unwrap();
    let before = disk.records();
    for n in 0..LEFT {
        put(&barrier, &format!("app/f0/s{n}"), b"changed");
    }
    let (key, old) =
        before.iter().find(|(key, old)| key[0] == b'd' && disk.records()[*key].value != old.value).unwrap();
    disk.store.tamper(|records| drop(records.insert(key.clone(), old.clone())));
    census.catch_up(&barrier).unwrap();
    let proof = barrier.begin().prove_drained(&mut census, &[1]);
    assert!(matches!(proof, Err(BarrierError::Integrity(_))), "{proof:?}");
}

#[test]
fn one_change_more_than_can_be_noted_ends_a_census() {
    let (_disk, _, barrier) = drained(0);
    let too_many = |census: &mut Census| matches!(census.catch_up(&barrier), Err(BarrierError::TooManyChanges));
    let keys = keys(NOTED + 1);
    let note = |count: usize| barrier.published.write().watches.tell(&keys[..count]);
    let mut census = barrier.census().unwrap();
    note(NOTED);
    census.catch_up(&barrier).unwrap();
    barrier.begin().prove_drained(&mut census, &[1]).unwrap();
    note(NOTED + 1);
    assert!(too_many(&mut census));
    let proof = barrier.begin().prove_drained(&mut census, &[1]);
    assert!(matches!(proof, Err(BarrierError::TooManyChanges)), "it never becomes a proof again");
    // Several groups together, and what an earlier look has left.
    for (left, noted, ends) in [(2, NOTED - 2, false), (2, NOTED - 1, true)] {
        let mut census = barrier.census().unwrap();
        put(&barrier, "one", b"a node and a value");
        census.catch_up(&barrier).unwrap();
        note(noted);
        assert_eq!(too_many(&mut census), ends, "{left} and {noted}");
    }
    let mut census = barrier.census().unwrap();
    note(NOTED - 1);
    put(&barrier, "one", b"a node and a value");
    assert!(too_many(&mut census));
}
