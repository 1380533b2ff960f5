//! Accepting a loss: what is accepted, what is rejected, and every point at which it can be interrupted.

use std::sync::Mutex;

use super::*;
use crate::store::faulty::{Failure, FaultyStore};
use crate::store::sidecar::{AnchorFile, HeaderFiles, SidecarError};
use crate::store::{Batch, CommitSeq, Store, StoreError, Visit};

const NOTES: MountId = MountId::MISC;

fn filled() -> (Disk, Disk) {
    let (disk, barrier) = Disk::new();
    put(&barrier, "a/b", b"one");
    let old = disk.copy();
    put(&barrier, "a/b", b"two");
    put(&barrier, "c", b"three");
    drop(barrier);
    (disk, old)
}

/// A disk whose store is older than its header and anchor.
fn rolled_back() -> Disk {
    let (disk, old) = filled();
    Disk { store: old.store, ..disk }
}

fn without_anchor() -> Disk {
    Disk { anchor: Arc::new(MemAnchor::with(None)), ..filled().0 }
}

fn note(tx: &mut Tx<'_>) -> Result<(), BarrierError> {
    tx.put_entry(NOTES, "loss/2", b"accepted", 0)
}

fn accept(parts: Parts) -> Result<Barrier, BarrierError> {
    Loss::examine(parts, &Unlock::KeyFile(SECRET))?.accept(note, 30)
}

/// Opens `disk` as a start does, and tells the new epoch from the error of before.
fn is_new_epoch(disk: &Disk, refusal: fn(&BarrierError) -> bool) -> bool {
    match disk.open() {
        Ok((barrier, _)) => {
            assert!(barrier.mark().0 >= 2, "opened in the old epoch");
            assert_eq!(barrier.view(NOTES).entry("loss/2").unwrap().unwrap().value.reveal(), b"accepted");
            true
        }
        Err(error) => {
            assert!(refusal(&error), "{error}");
            false
        }
    }
}

#[test]
fn an_accepted_loss_is_a_new_epoch_with_a_note_and_the_rest_of_the_secrets() {
    for (disk, expected, left) in [
        (without_anchor(), Misfit::AnchorMissing, &b"two"[..]),
        (rolled_back(), Misfit::OlderThanAnchor { generations: 2 }, b"one"),
    ] {
        disk.error();
        let before = {
            let loss = Loss::examine(disk.parts(7), &Unlock::KeyFile(SECRET)).unwrap();
            assert_eq!((loss.misfits(), loss.slot()), (&[expected][..], "file"));
            loss.stored()
        };
        disk.error();
        let old = Header::parse(disk.header.read().unwrap()[0].as_ref().unwrap()).unwrap();
        drop(accept(disk.parts(7)).unwrap());
        assert!(is_new_epoch(&disk, |_| false));
        let (barrier, report) = disk.open().unwrap();
        let header = barrier.header();
        assert_eq!((header.seq, header.prev_mac, header.epoch), (old.seq + 1, old.mac, 2));
        assert_eq!((header.floor_epoch, header.floor_generation), before);
        assert_ne!(header.incarnation, old.incarnation);
        assert_eq!((report.generation, report.anchor_behind), (before.1 + 1, 0));
        assert!(!report.anchor_damaged, "what was accepted is no alarm of its own");
        assert_eq!(get(&barrier.view(MOUNT), "a/b").unwrap().unwrap(), left);
        put(&barrier, "later", b"4");
    }
}

#[test]
fn a_store_older_than_the_header_is_accepted_and_an_older_header_is_not() {
    let (disk, old) = filled();
    let (barrier, _) = disk.open().unwrap();
    for _ in 0..2 {
        let mut group = barrier.begin();
        group.change_header(HeaderChange::default()).unwrap();
        finish(group);
    }
    drop(barrier);
    let back = Disk { store: old.store.clone(), ..disk.copy() };
    assert!(matches!(back.error(), BarrierError::HeaderOther(_)));
    let loss = Loss::examine(back.parts(7), &Unlock::KeyFile(SECRET)).unwrap();
    assert_eq!(loss.misfits(), [Misfit::OlderThanHeader, Misfit::OlderThanAnchor { generations: 4 }]);
    drop(loss.accept(note, 30).unwrap());
    assert!(is_new_epoch(&back, |_| false));
    // With an older header, a removed passphrase would work again.
    let forward = Disk { header: old.header, ..disk };
    assert!(matches!(Loss::examine(forward.parts(7), &Unlock::KeyFile(SECRET)), Err(BarrierError::HeaderOther(_))));
}

#[test]
fn a_mixture_of_records_is_never_accepted() {
    let (disk, old) = filled();
    for (key, stored) in disk.records().into_iter().filter(|(key, _)| key[0] != b's') {
        for change in 0..3 {
            let broken = Disk { anchor: Arc::new(MemAnchor::with(None)), ..disk.copy() };
            broken.store.tamper(|records| match (change, old.records().get(&key)) {
                (0, _) => drop(records.remove(&key)),
                (1, Some(older)) if older.value != stored.value => drop(records.insert(key.clone(), older.clone())),
                _ => records.get_mut(&key).unwrap().value[70] ^= 1,
            });
            let before = broken.records();
            assert!(matches!(accept(broken.parts(7)), Err(BarrierError::SetHash(_))));
            assert!(broken.records() == before && broken.anchor.read().unwrap().is_none(), "something was written");
        }
    }
}

#[test]
fn the_store_of_before_an_accepted_loss_does_not_open_under_the_new_header() {
    let disk = without_anchor();
    let (before, _) = (disk.copy(), drop(accept(disk.parts(7)).unwrap()));
    let back = Disk { store: before.store, ..disk };
    assert!(matches!(back.error(), BarrierError::Missing { .. }));
    drop(accept(back.parts(8)).unwrap());
    assert_eq!(back.open().unwrap().0.mark().0, 3);
}

/// Counts the steps of writing that are still done; every later one fails and leaves nothing.
struct Cut(Mutex<usize>);

impl Cut {
    fn step(&self) -> bool {
        let mut left = self.0.lock().unwrap();
        let goes = *left > 0;
        *left = left.saturating_sub(1);
        goes
    }
}

struct CutDisk<T: ?Sized>(Arc<T>, Arc<Cut>);

const STOPPED: SidecarError = SidecarError::NotWritten;

impl HeaderFiles for CutDisk<MemHeader> {
    fn read(&self) -> Result<[Option<Vec<u8>>; 2], SidecarError> {
        self.0.read()
    }

    fn write(&self, copy: usize, bytes: &[u8]) -> Result<(), SidecarError> {
        if self.1.step() { self.0.write(copy, bytes) } else { Err(STOPPED) }
    }
}

impl AnchorFile for CutDisk<MemAnchor> {
    fn read(&self) -> Result<Option<Vec<u8>>, SidecarError> {
        self.0.read()
    }

    fn create(&self) -> Result<(), SidecarError> {
        if self.1.step() { self.0.create() } else { Err(STOPPED) }
    }

    fn write_slot(&self, slot: usize, bytes: &[u8]) -> Result<(), SidecarError> {
        // A slot is written in place, so a cut may leave half of it.
        if !self.1.step() {
            self.0.write_slot(slot, &bytes[..40])?;
            return Err(STOPPED);
        }
        self.0.write_slot(slot, bytes)
    }
}

impl Store for CutDisk<MemoryStore> {
    fn engine(&self) -> &'static str {
        "cut"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        self.0.get(key)
    }

    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.0.scan(prefix, visit)
    }

    fn scan_heads(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.0.scan_heads(prefix, visit)
    }

    fn commit(&self, batch: &Batch) -> Result<CommitSeq, StoreError> {
        if self.1.step() { self.0.commit(batch) } else { Err(StoreError::Sync("cut".to_owned())) }
    }

    fn sequence(&self) -> Result<CommitSeq, StoreError> {
        self.0.sequence()
    }
}

pub(super) fn cut_parts(disk: &Disk, steps: usize, seed: u64) -> Parts {
    let cut = Arc::new(Cut(Mutex::new(steps)));
    Parts {
        store: Arc::new(CutDisk(disk.store.clone(), cut.clone())),
        header: Arc::new(CutDisk(disk.header.clone(), cut.clone())),
        anchor: Arc::new(CutDisk(disk.anchor.clone(), cut)),
        random: Arc::new(SeededRandom::new(seed)),
    }
}

/// Parts that are cut at the step before the commit: the header has begun the new epoch, the store has not followed.
fn cut_before_the_commit(disk: &Disk, steps: usize, seed: u64) {
    assert!(accept(cut_parts(disk, steps, seed)).is_err());
    let [first, second] = disk.header.read().unwrap();
    assert!(first == second && Header::parse(&first.unwrap()).unwrap().epoch > disk_epoch(disk));
}

/// Epoch of the stored state, as a look at the loss tells it.
fn disk_epoch(disk: &Disk) -> u32 {
    Loss::examine(disk.parts(7), &Unlock::KeyFile(SECRET)).unwrap().stored().0
}

#[test]
fn a_loss_that_was_interrupted_is_recognised_and_the_note_says_no_other_loss() {
    for (make, expected, steps) in [
        // The anchor has half a slot after the first attempt.
        (without_anchor as fn() -> Disk, Misfit::AnchorDamaged, 3),
        (rolled_back, Misfit::OlderThanAnchor { generations: 2 }, 2),
    ] {
        let disk = make();
        for times in 1..4 {
            cut_before_the_commit(&disk, steps, times);
            let error = disk.error();
            assert!(matches!(error, BarrierError::Unfinished), "{error}");
            assert!(error.to_string().contains("run the same command again"));
            let loss = Loss::examine(disk.parts(7), &Unlock::KeyFile(SECRET)).unwrap();
            assert_eq!(loss.misfits(), [Misfit::Unfinished, expected], "after {times}");
        }
        drop(accept(disk.parts(9)).unwrap());
        assert!(is_new_epoch(&disk, |_| false));
        let loss = Loss::examine(disk.parts(7), &Unlock::KeyFile(SECRET)).unwrap();
        assert_eq!(loss.misfits(), []);
    }
}

/// The last step writes a slot in place: cut inside it, the epoch has begun, and nothing remains to be accepted again.
#[test]
fn a_cut_inside_the_anchor_leaves_one_note() {
    let notes = |barrier: &Barrier| {
        let view = barrier.view(NOTES);
        ["loss/first", "loss/second"].map(|key| view.entry(key).unwrap().is_some())
    };
    let accept = |parts, key: &str| {
        let loss = Loss::examine(parts, &Unlock::KeyFile(SECRET))?;
        loss.accept(|tx| tx.put_entry(NOTES, key, b"accepted", 0), 30)
    };
    let spoilt = || Disk { anchor: Arc::new(MemAnchor::with(Some(vec![7; 8192]))), ..filled().0 };
    for make in [without_anchor as fn() -> Disk, spoilt, rolled_back] {
        let mut seen = Vec::new();
        for steps in 0..8 {
            let disk = make();
            let _ = accept(cut_parts(&disk, steps, 7), "loss/first");
            if disk.copy().open().is_err() {
                accept(disk.parts(8), "loss/second").map(drop).unwrap();
            }
            let (barrier, report) = disk.open().unwrap();
            assert!(!report.anchor_damaged && report.anchor_behind == 0, "{steps}: {report:?}");
            seen.push(notes(&barrier));
        }
        assert!(seen.iter().all(|[first, second]| first != second), "{seen:?}");
        assert!(seen.contains(&[true, false]) && seen.contains(&[false, true]), "{seen:?}");
    }
}

/// Nothing in the files shows that an older copy of everything was restored, so no other check rejects it.
#[test]
fn no_start_begins_an_epoch_without_its_note() {
    let (disk, _) = filled();
    cut_before_the_commit(&disk, 2, 7);
    let error = disk.error();
    assert!(matches!(error, BarrierError::Unfinished), "{error}");
    assert!(matches!(disk.error(), BarrierError::Unfinished), "the first start changed something");
    drop(accept(disk.parts(8)).unwrap());
    assert!(is_new_epoch(&disk, |_| false));
}

#[test]
fn store_and_anchor_of_before_an_accepted_loss_do_not_open_under_the_new_header() {
    let (disk, _) = filled();
    let before = disk.copy();
    drop(accept(disk.parts(7)).unwrap());
    let back = Disk { header: disk.header.clone(), ..before };
    assert!(matches!(back.error(), BarrierError::Unfinished));
}

#[test]
fn a_header_that_was_in_service_is_no_interrupted_loss() {
    let (disk, _) = filled();
    let before = disk.copy();
    let barrier = accept(disk.parts(7)).unwrap();
    for _ in 0..2 {
        let mut group = barrier.begin();
        group.change_header(HeaderChange::default()).unwrap();
        finish(group);
    }
    drop(barrier);
    let back = Disk { header: disk.header.clone(), ..before };
    let loss = Loss::examine(back.parts(7), &Unlock::KeyFile(SECRET)).unwrap();
    assert_eq!(loss.misfits(), [Misfit::OlderThanHeader]);
}

#[test]
fn a_full_disk_shows_before_the_header_is_written() {
    let disk = rolled_back();
    let before = disk.header.read().unwrap();
    let store = FaultyStore::new(disk.store.clone());
    store.fail_commit(1, Failure::Full);
    let parts = Parts { store: Arc::new(store), ..disk.parts(7) };
    assert!(matches!(accept(parts), Err(BarrierError::Full)));
    assert!(disk.header.read().unwrap() == before);
}

/// Interrupts it at every step, and the second attempt at every step again.
#[test]
fn cut_at_any_step_it_is_refused_or_finished_with_its_note() {
    type Case = (fn() -> Disk, fn(&BarrierError) -> bool);
    let cases: [Case; 2] = [
        (without_anchor, |error| {
            matches!(
                error,
                BarrierError::AnchorMissing
                    | BarrierError::AnchorDamaged
                    | BarrierError::AnchorEmptied
                    | BarrierError::Unfinished
            )
        }),
        (rolled_back, |error| matches!(error, BarrierError::Missing { .. } | BarrierError::Unfinished)),
    ];
    for (make, refusal) in cases {
        let (mut finished, mut refused) = (0, 0);
        for first in 0..7 {
            for second in 0..7 {
                let disk = make();
                let _ = accept(cut_parts(&disk, first, 7));
                if is_new_epoch(&disk.copy(), refusal) {
                    finished += 1;
                    continue;
                }
                let _ = accept(cut_parts(&disk, second, 8));
                if is_new_epoch(&disk.copy(), refusal) {
                    finished += 1;
                    continue;
                }
                refused += 1;
                drop(accept(disk.parts(9)).unwrap());
                assert!(is_new_epoch(&disk, |_| false));
            }
        }
        assert!(finished > 0 && refused > 0);
    }
}
