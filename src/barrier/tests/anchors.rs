//! The anchor: what somebody does to it is found, and no kill at any operation looks like it.

use std::sync::Mutex;

use super::*;
use crate::store::sidecar::{ANCHOR_BYTES, SLOT_BYTES, SidecarError};
use crate::store::{Batch, StoreError, Visit};

/// A disk of which a copy is kept after each operation that changes it: every image that a kill can leave.
struct Tape {
    disk: Disk,
    images: Mutex<Vec<Disk>>,
}

impl Tape {
    fn on(disk: Disk) -> Arc<Self> {
        Arc::new(Self { disk, images: Mutex::default() })
    }

    fn blank() -> Arc<Self> {
        Self::on(Disk { store: Arc::default(), header: Arc::default(), anchor: Arc::default() })
    }

    fn keep(&self) {
        self.images.lock().unwrap().push(self.disk.copy());
    }

    fn parts(self: &Arc<Self>, seed: u64) -> Parts {
        Parts {
            store: self.clone(),
            header: self.clone(),
            anchor: self.clone(),
            random: Arc::new(SeededRandom::new(seed)),
        }
    }

    fn open(self: &Arc<Self>) -> Result<(Barrier, Report), BarrierError> {
        Barrier::unseal(self.parts(98), &Unlock::KeyFile(SECRET), 10)
    }

    fn images(&self) -> Vec<Disk> {
        std::mem::take(&mut *self.images.lock().unwrap())
    }
}

/// For the barrier: the tape itself is its store, and so on.
impl Store for Tape {
    fn engine(&self) -> &'static str {
        "tape"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        self.disk.store.get(key)
    }

    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.disk.store.scan(prefix, visit)
    }

    fn scan_heads(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.disk.store.scan_heads(prefix, visit)
    }

    fn commit(&self, batch: &Batch) -> Result<CommitSeq, StoreError> {
        let done = self.disk.store.commit(batch);
        self.keep();
        done
    }

    fn sequence(&self) -> Result<CommitSeq, StoreError> {
        self.disk.store.sequence()
    }
}

impl HeaderFiles for Tape {
    fn read(&self) -> Result<[Option<Vec<u8>>; 2], SidecarError> {
        HeaderFiles::read(&*self.disk.header)
    }

    fn write(&self, copy: usize, bytes: &[u8]) -> Result<(), SidecarError> {
        self.disk.header.write(copy, bytes)?;
        self.keep();
        Ok(())
    }
}

impl AnchorFile for Tape {
    fn read(&self) -> Result<Option<Vec<u8>>, SidecarError> {
        AnchorFile::read(&*self.disk.anchor)
    }

    fn create(&self) -> Result<(), SidecarError> {
        self.disk.anchor.create()?;
        self.keep();
        Ok(())
    }

    fn write_slot(&self, slot: usize, bytes: &[u8]) -> Result<(), SidecarError> {
        // Torn first: a part of the new slot over the old one.
        let mut torn = AnchorFile::read(self)?.unwrap_or_default();
        let part = slot * SLOT_BYTES..slot * SLOT_BYTES + 40;
        torn[part].copy_from_slice(&bytes[..40]);
        let image = Disk { anchor: Arc::new(MemAnchor::with(Some(torn))), ..self.disk.copy() };
        self.images.lock().unwrap().push(image);
        self.disk.anchor.write_slot(slot, bytes)?;
        self.keep();
        Ok(())
    }
}

/// The anchor file of `disk` after `change` of its two slots.
fn altered(disk: &Disk, change: impl FnOnce(&mut [u8], &mut [u8])) -> Disk {
    let mut bytes = disk.anchor.read().unwrap().unwrap();
    let (first, second) = bytes.split_at_mut(SLOT_BYTES);
    change(first, second);
    Disk { anchor: Arc::new(MemAnchor::with(Some(bytes))), ..disk.copy() }
}

#[test]
fn a_store_rolled_back_by_one_with_the_newest_slot_emptied_is_refused() {
    let (disk, barrier) = Disk::new();
    for n in 2..9_u64 {
        let old = disk.copy();
        put(&barrier, "x", b"newer");
        assert_eq!(barrier.mark().2, n);
        let with_old_store = Disk { store: old.store, ..disk.copy() };
        let rolled = altered(&with_old_store, |even, odd| if n % 2 == 0 { even.fill(0) } else { odd.fill(0) });
        if n == 2 {
            // Back to before the first write: nothing but an empty vault is left, and nothing to tell it by.
            assert_eq!(rolled.open().unwrap().1.generation, 1);
            continue;
        }
        let error = rolled.error();
        assert!(matches!(error, BarrierError::AnchorEmptied), "generation {n}: {error}");
        assert!(error.to_string().starts_with("a slot of the anchor was emptied"));
        // With the right store, too: which of the two slots was emptied, nobody can tell.
        for both in [altered(&disk, |even, _| even.fill(0)), altered(&disk, |_, odd| odd.fill(0))] {
            let error = both.error();
            assert!(matches!(error, BarrierError::AnchorEmptied), "generation {n}: {error}");
        }
    }
}

#[test]
fn a_damaged_slot_that_no_crash_explains_is_told_from_a_torn_one() {
    let (disk, barrier) = Disk::new();
    put(&barrier, "x", b"1");
    put(&barrier, "x", b"2");
    let before = disk.copy();
    let durable = {
        let mut group = barrier.begin();
        group.run(|tx| write(tx, "x", b"3")).unwrap();
        group.store(AuditHead::default(), 20).unwrap()
    };
    // Generation 4 is stored, and its slot, the even one, is torn.
    let report = altered(&disk, |even, _| even[40] ^= 1).open().unwrap().1;
    assert!(report.anchor_torn && !report.anchor_damaged);
    durable.anchor().unwrap();
    durable.publish();
    // Generation 4 was acknowledged, its slot spoilt and the store of before put back.
    let rolled = altered(&Disk { store: before.store, ..disk.copy() }, |even, _| even[40] ^= 1);
    let report = rolled.open().unwrap().1;
    assert!(report.anchor_torn && report.anchor_damaged);
    let report = disk.open().unwrap().1;
    assert!(!report.anchor_torn && !report.anchor_damaged);
}

#[test]
fn a_store_rolled_back_by_one_with_the_older_slot_copied_over_the_newest_is_an_alarm() {
    let (disk, barrier) = Disk::new();
    put(&barrier, "x", b"1");
    for n in 3..9_u64 {
        let old = disk.copy();
        put(&barrier, "x", b"newer");
        assert_eq!(barrier.mark().2, n);
        let rolled = altered(&Disk { store: old.store, ..disk.copy() }, |even, odd| {
            if n % 2 == 0 { even.copy_from_slice(odd) } else { odd.copy_from_slice(even) }
        });
        let report = rolled.open().unwrap().1;
        assert!(report.generation == n - 1 && report.anchor_damaged, "{report:?}");
        assert!(rolled.open().unwrap().1.anchor_damaged, "the start before may have ended before it told anybody");
        let (barrier, _) = rolled.open().unwrap();
        barrier.roll(20).unwrap();
        assert!(!rolled.open().unwrap().1.anchor_damaged, "told again although the slots are neighbours");
    }
    assert!(!disk.open().unwrap().1.anchor_damaged);
}

#[test]
fn an_anchor_far_behind_is_told_again_until_something_was_committed() {
    let (disk, barrier) = Disk::new();
    put(&barrier, "x", b"1");
    put(&barrier, "x", b"2");
    let old = disk.copy();
    for _ in 0..4 {
        put(&barrier, "x", b"3");
    }
    drop(barrier);
    let behind = Disk { anchor: old.anchor, ..disk };
    assert_eq!(behind.open().unwrap().1.anchor_behind, 4);
    let (barrier, report) = behind.open().unwrap();
    assert!(report.anchor_behind > 1, "the start before may have ended before it told anybody");
    barrier.roll(20).unwrap();
    drop(barrier);
    assert_eq!(behind.open().unwrap().1.anchor_behind, 0);
}

#[test]
fn any_older_anchor_put_back_leaves_no_kill_that_is_refused() {
    let (disk, barrier) = Disk::new();
    let mut anchors = vec![disk.anchor.read().unwrap()];
    for _ in 0..5 {
        put(&barrier, "x", b"1");
        anchors.push(disk.anchor.read().unwrap());
    }
    drop(barrier);
    for anchor in anchors {
        let behind = Disk { anchor: Arc::new(MemAnchor::with(anchor)), ..disk.copy() };
        let tape = Tape::on(behind);
        let (barrier, _) = tape.open().unwrap();
        put(&barrier, "x", b"2");
        put(&barrier, "x", b"3");
        survives(tape.images(), 1);
    }
}

/// Opens every image, and every image of that opening `depth` levels down.
fn survives(images: Vec<Disk>, depth: usize) {
    for (at, image) in images.into_iter().enumerate() {
        let tape = Tape::on(image);
        let opened = tape.open();
        let (barrier, report) = opened.unwrap_or_else(|error| panic!("image {at}, depth {depth}: {error}"));
        assert!(!report.anchor_damaged, "image {at}: a crash is no alarm");
        if depth > 0 {
            put(&barrier, "later", b"1");
            put(&barrier, "later", b"2");
            drop(barrier);
            survives(tape.images(), depth - 1);
        }
    }
}

#[test]
fn no_kill_at_any_operation_of_a_life_is_refused() {
    let tape = Tape::blank();
    let barrier = create(tape.parts(2));
    // Until generation 1 is anchored there is no vault: `init` is done again.
    let refused = tape.images().iter().filter(|image| image.open().is_err()).count();
    assert!((1..=6).contains(&refused), "{refused} images before the first anchor");
    tape.keep();
    put(&barrier, "x", b"1");
    put(&barrier, "y", b"2");
    let edits: [KeyringEdit<'_>; 4] = [
        Box::new(|keyring, random| keyring.add_term(random, 30, false).map(drop).map_err(BarrierError::from)),
        Box::new(|keyring, random| keyring.add_integrity(random).map(drop).map_err(BarrierError::from)),
        Box::new(|keyring, random| keyring.add_audit(random).map(drop).map_err(BarrierError::from)),
        Box::new(|keyring, _| {
            keyring.drop_old_integrity();
            Ok(())
        }),
    ];
    for edit in edits {
        barrier.roll(20).unwrap();
        barrier.settle_anchor(20).unwrap();
        let mut group = barrier.begin();
        group.change_header(HeaderChange { keyring: Some(edit), ..HeaderChange::default() }).unwrap();
        finish(group);
        put(&barrier, "x", b"again");
    }
    drop(barrier);
    let (barrier, report) = tape.open().unwrap();
    assert_eq!(report.anchor_behind, 0);
    put(&barrier, "x", b"last");
    drop(barrier);
    let images = tape.images();
    assert!(images.len() > 50, "{}", images.len());
    survives(images, 1);
}

#[test]
fn a_blank_anchor_is_no_anchor_at_any_generation() {
    let (disk, barrier) = Disk::new();
    for _ in 0..3 {
        let emptied = Disk { anchor: Arc::new(MemAnchor::with(Some(vec![0; ANCHOR_BYTES]))), ..disk.copy() };
        assert!(matches!(emptied.error(), BarrierError::AnchorMissing));
        put(&barrier, "x", b"1");
    }
}
