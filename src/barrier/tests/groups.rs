//! What a group holds, undoes, remembers and leaves alone.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::mpsc::channel;

use super::rotation::{destroy, new_term, rewrap, turn};
use super::*;
use crate::store::faulty::{FaultyStore, Lie};
use crate::store::{Batch, StoreError, Visit};

const ENTRIES: MountId = MountId::POLICIES;

fn names(of: &[&str]) -> BTreeSet<String> {
    of.iter().map(|name| (*name).to_owned()).collect()
}

fn entry(tx: &mut Tx<'_>, key: &str, value: &[u8]) -> Result<(), BarrierError> {
    tx.put_entry(ENTRIES, key, value, 0)
}

/// A vault with the entries `kept` and `gone`, and its store.
fn two_entries() -> (Disk, Barrier) {
    let (disk, barrier) = Disk::new();
    let mut group = barrier.begin();
    group.run(|tx| entry(tx, "kept", b"old")).unwrap();
    group.run(|tx| entry(tx, "gone", b"old")).unwrap();
    finish(group);
    (disk, barrier)
}

fn on(disk: &Disk, store: Arc<dyn Store>) -> Barrier {
    Barrier::unseal(Parts { store, ..disk.parts(9) }, &Unlock::KeyFile(SECRET), 10).unwrap().0
}

#[test]
fn a_group_tells_whether_and_how_much_it_holds() {
    let (disk, barrier) = two_entries();
    let stored = disk.records().values().map(|stored| stored.value.len()).min().unwrap();
    let mut group = barrier.begin();
    assert!(group.is_empty() && group.bytes() == 0);
    group.run(|tx| entry(tx, "new", &[1; 5_000])).unwrap();
    assert!(!group.is_empty());
    assert!((5_000..5_100).contains(&group.bytes()), "{}", group.bytes());
    group.run(|tx| entry(tx, "new", &[1; 500])).unwrap();
    assert!((500..600).contains(&group.bytes()), "only the newest content: {}", group.bytes());
    let failed = group.run(|tx| {
        entry(tx, "other", &[1; 5_000])?;
        Err::<(), _>(BarrierError::Full)
    });
    assert!(failed.is_err() && (500..600).contains(&group.bytes()), "{}", group.bytes());
    group.run(|tx| tx.remove_entry(ENTRIES, "new")).unwrap();
    assert!(group.is_empty() && group.bytes() == 0, "it was never stored");
    // Readers may still need the stored bytes of what is replaced or removed.
    group.run(|tx| entry(tx, "kept", &[1; 500])).unwrap();
    let replacing = group.bytes();
    assert!(replacing >= 500 + stored, "{replacing}");
    group.run(|tx| entry(tx, "kept", &[1; 500])).unwrap();
    assert_eq!(group.bytes(), replacing, "they are kept once");
    group.run(|tx| tx.remove_entry(ENTRIES, "gone")).unwrap();
    assert!(group.bytes() >= replacing + stored);
}

#[test]
fn a_cleared_group_stores_nothing_of_what_it_held() {
    let (disk, barrier) = two_entries();
    let header = disk.header.read().unwrap();
    let mut group = barrier.begin();
    group.run(|tx| entry(tx, "new", b"x")).unwrap();
    group.change_header(new_term()).unwrap();
    group.clear();
    assert!(group.is_empty() && group.bytes() == 0);
    group.change_header(HeaderChange::default()).unwrap();
    assert!(!group.is_empty(), "a header alone must be stored");
    group.clear();
    finish(group);
    assert_eq!(barrier.view(ENTRIES).entries().unwrap(), ["gone", "kept"]);
    assert_eq!(barrier.key_status().term, 1);
    assert!(disk.header.read().unwrap() == header);
}

#[test]
fn a_closure_goes_back_to_a_point_and_looks_back_at_it() {
    let (_disk, barrier) = two_entries();
    let mut group = barrier.begin();
    group.run(|tx| entry(tx, "earlier", b"x")).unwrap();
    group
        .run(|tx| {
            entry(tx, "first", b"x")?;
            entry(tx, "second", b"x")?;
            let point = tx.point();
            let at_point = ["earlier", "first", "gone", "kept", "second"];
            assert!(!tx.has_changed(ENTRIES, &point));
            assert!(tx.entries_changed(ENTRIES, &point)?.is_empty());
            entry(tx, "third", b"x")?;
            entry(tx, "kept", b"new")?;
            tx.remove_entry(ENTRIES, "gone")?;
            tx.remove_entry(ENTRIES, "first")?;
            tx.put_entry(MountId::MISC, "elsewhere", b"x", 0)?;
            assert!(tx.has_changed(ENTRIES, &point) && !tx.has_changed(MountId::IDENTITIES, &point));
            let changed = tx.entries_changed(ENTRIES, &point)?;
            assert_eq!(changed, names(&["first", "gone", "kept", "third"]));
            assert_eq!(tx.entries_changed(MountId::MISC, &point)?, names(&["elsewhere"]));
            let seen = tx.before(&point, |tx| {
                assert_eq!(tx.view(ENTRIES).entry("kept").unwrap().unwrap().value.reveal(), b"old");
                tx.view(ENTRIES).entries()
            });
            assert_eq!(seen?, at_point);
            let now = tx.view(ENTRIES);
            assert_eq!(now.entries()?, ["earlier", "kept", "second", "third"], "everything is back in place");
            assert_eq!(now.entry("kept")?.unwrap().value.reveal(), b"new");
            tx.back_to(&point);
            assert_eq!(tx.view(ENTRIES).entries()?, at_point);
            assert!(!tx.has_changed(ENTRIES, &point) && !tx.has_changed(MountId::MISC, &point));
            entry(tx, "fourth", b"x")
        })
        .unwrap();
    finish(group);
    let left = barrier.view(ENTRIES).entries().unwrap();
    assert_eq!(left, ["earlier", "first", "fourth", "gone", "kept", "second"]);
}

#[test]
fn a_new_version_must_be_listed_alive_and_have_a_number_of_its_own() {
    let (_disk, barrier) = Disk::new();
    put(&barrier, "x", b"one");
    let version = |version, destroyed| VersionMeta { version, created_ms: 6, deleted_ms: 0, destroyed };
    let attempt = |current, versions: Vec<VersionMeta>, number| {
        let meta = SecretMeta { current, versions, ..SecretMeta::default() };
        barrier.begin().run(|tx| tx.put_secret(MOUNT, "x", meta, Some((number, b"two")), 7))
    };
    for (current, versions, number) in [
        (1, vec![version(1, false)], 2),
        (2, vec![version(1, false), version(2, true)], 2),
        (1, vec![version(1, false)], 1),
    ] {
        assert!(matches!(attempt(current, versions, number), Err(BarrierError::Versions(_))));
    }
    attempt(2, vec![version(1, false), version(2, false)], 2).unwrap();
}

#[test]
fn what_the_audit_log_still_needs_stays_until_the_next_entry() {
    let (disk, barrier) = Disk::new();
    let heads = [AuditHead { seq: 7, hash: [7; 32] }, AuditHead { seq: 8, hash: [8; 32] }];
    assert!(barrier.audit_outcomes().is_empty());
    let mut group = barrier.begin();
    group.run(|tx| write(tx, "x", b"1")).unwrap();
    group.remember(vec![4, 5, 6]);
    let durable = group.store(heads[0], 20).unwrap();
    durable.anchor().unwrap();
    durable.publish();
    assert_eq!(barrier.audit_outcomes(), [4, 5, 6]);
    barrier.roll(21).unwrap();
    assert_eq!((barrier.audit_outcomes(), barrier.audit_head()), (vec![4, 5, 6], heads[0]), "the head is the same");
    drop(barrier);
    let (barrier, _) = disk.open().unwrap();
    assert_eq!(barrier.audit_outcomes(), [4, 5, 6]);
    barrier.roll_to(heads[1], 22).unwrap();
    assert_eq!((barrier.audit_outcomes(), barrier.audit_head()), (Vec::new(), heads[1]));
}

#[test]
fn the_seals_of_a_term_are_counted_as_long_as_the_keyring_knows_it() {
    let (disk, barrier) = Disk::new();
    put(&barrier, "x", b"1");
    put(&barrier, "x", b"2");
    turn(&barrier, new_term());
    let [old, new] = [0, 1].map(|at| barrier.terms()[at]);
    assert_eq!((old.live, old.seals, new.seals), (1, 2, 1));
    assert_eq!(barrier.key_status(), KeyStatus { term: 2, created_ms: 30, seals: 1 });
    rewrap(&barrier, 50);
    turn(&barrier, destroy(1));
    let terms = barrier.terms();
    assert_eq!((terms[0].live, terms[0].seals), (0, 2), "drained, and still counted");
    assert_eq!(terms[1].seals, 3);
    let forget: KeyringEdit<'_> = Box::new(|keyring, _| {
        keyring.terms.remove(0);
        Ok(())
    });
    turn(&barrier, HeaderChange { keyring: Some(forget), ..HeaderChange::default() });
    let counted = |barrier: &Barrier| -> Vec<u32> {
        let writer = barrier.writer.lock();
        writer.state.terms.iter().map(|used| used.term).collect()
    };
    assert_eq!(counted(&barrier), [2], "the keyring has forgotten the other one");
    drop(barrier);
    assert_eq!(counted(&disk.open().unwrap().0), [2]);
    // Records are left under this one: their count must not be lost with the key.
    let (_disk, barrier) = Disk::new();
    put(&barrier, "x", b"1");
    turn(&barrier, new_term());
    let forget: KeyringEdit<'_> = Box::new(|keyring, _| {
        keyring.terms.remove(0);
        Ok(())
    });
    turn(&barrier, HeaderChange { keyring: Some(forget), ..HeaderChange::default() });
    assert_eq!(counted(&barrier), [1, 2]);
}

#[test]
fn the_audit_keys_are_those_of_the_keyring() {
    let (_disk, barrier) = Disk::new();
    let ids = || -> Vec<u32> { barrier.audit_keys().iter().map(|key| key.id).collect() };
    assert_eq!(ids(), [1]);
    let edit: KeyringEdit<'_> = Box::new(|keyring, random| {
        keyring.add_audit(random)?;
        Ok(())
    });
    turn(&barrier, HeaderChange { keyring: Some(edit), ..HeaderChange::default() });
    assert_eq!(ids(), [1, 2], "the last one writes");
}

#[test]
fn a_group_reads_the_stored_bytes_of_a_record_once() {
    let (disk, barrier) = Disk::new();
    put(&barrier, "x", b"1");
    drop(barrier);
    let store = Arc::new(FaultyStore::new(disk.store.clone()));
    let barrier = on(&disk, store.clone());
    let mut group = barrier.begin();
    group.run(|tx| write(tx, "x", b"2")).unwrap();
    for key in disk.records().into_keys() {
        store.lie(key, Lie::Absent);
    }
    group.run(|tx| write(tx, "x", b"3")).unwrap();
    store.stop_lying();
    finish(group);
    assert_eq!(get(&barrier.view(MOUNT), "x").unwrap().unwrap(), b"3");
}

/// Called once, by the first read of a record.
type AtRead = Box<dyn FnOnce() + Send>;

/// An engine whose disk fills up although it admitted the commit, and that calls back when it reads.
struct Narrow {
    inner: Arc<MemoryStore>,
    is_full: bool,
    at_read: Mutex<Option<AtRead>>,
}

impl Store for Narrow {
    fn engine(&self) -> &'static str {
        "narrow"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        let hook = self.at_read.lock().unwrap().take();
        if let Some(hook) = hook {
            hook();
        }
        self.inner.get(key)
    }

    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.inner.scan(prefix, visit)
    }

    fn scan_heads(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.inner.scan_heads(prefix, visit)
    }

    fn commit(&self, batch: &Batch) -> Result<CommitSeq, StoreError> {
        if self.is_full { Err(StoreError::Full) } else { self.inner.commit(batch) }
    }

    fn sequence(&self) -> Result<CommitSeq, StoreError> {
        self.inner.sequence()
    }
}

#[test]
fn a_disk_that_fills_up_after_the_header_ends_writing() {
    let (disk, barrier) = two_entries();
    drop(barrier);
    let barrier = on(&disk, Arc::new(Narrow { inner: disk.store.clone(), is_full: true, at_read: Mutex::default() }));
    let mut group = barrier.begin();
    group.run(|tx| entry(tx, "new", b"x")).unwrap();
    assert!(matches!(group.store(AuditHead::default(), 20).map(|_| ()), Err(BarrierError::Full)));
    assert_eq!(barrier.health(), Health::Serving, "without a header nothing has changed");
    let mut group = barrier.begin();
    group.change_header(new_term()).unwrap();
    // The header is on disk, and no state names it: the next start completes that.
    assert!(matches!(group.store(AuditHead::default(), 20).map(|_| ()), Err(BarrierError::Fatal(_))));
    assert!(matches!(barrier.health(), Health::Degraded(_)));
    drop(barrier);
    let (barrier, report) = disk.open().unwrap();
    assert!(report.header_rolled_forward);
    assert_eq!((barrier.key_status().term, barrier.view(ENTRIES).entries().unwrap().len()), (2, 2));
}

/// The reader has looked at the index, and the store is changed before it reads.
#[test]
fn a_read_that_a_group_overtakes_is_answered_and_is_no_damage() {
    for publishes in [false, true] {
        let (disk, barrier) = Disk::new();
        put(&barrier, "x", b"old");
        drop(barrier);
        let store = Arc::new(Narrow { inner: disk.store.clone(), is_full: false, at_read: Mutex::default() });
        let barrier = on(&disk, store.clone());
        let mut group = barrier.begin();
        group.run(|tx| write(tx, "x", b"new")).unwrap();
        let ((reading, reads), (go, goes)) = (channel(), channel());
        *store.at_read.lock().unwrap() = Some(Box::new(move || {
            reading.send(()).unwrap();
            goes.recv().unwrap();
        }));
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| get(&barrier.view(MOUNT), "x").unwrap().unwrap());
            reads.recv().unwrap();
            let durable = group.store(AuditHead::default(), 20).unwrap();
            durable.anchor().unwrap();
            if publishes {
                durable.publish();
                go.send(()).unwrap();
                assert_eq!(reader.join().unwrap(), b"new");
            } else {
                go.send(()).unwrap();
                assert_eq!(reader.join().unwrap(), b"old", "not published yet");
                durable.publish();
            }
        });
        assert_eq!(barrier.health(), Health::Serving);
    }
}
