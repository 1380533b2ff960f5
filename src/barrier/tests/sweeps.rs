//! What a sweep counts, describes and sums, while others write.

use super::*;
use crate::barrier::names::StoreKey;

const SECOND: MountId = MountId([8; 16]);

fn mount_of(_: &str, value: &[u8]) -> Option<MountId> {
    value.try_into().ok().map(MountId)
}

/// A vault with more records than are summed at once.
fn filled() -> (Disk, Barrier) {
    let (disk, barrier) = Disk::new();
    let mut group = barrier.begin();
    group.run(|tx| tx.put_entry(MountId::MOUNTS, "secret/", &MOUNT.0, 0)).unwrap();
    group.run(|tx| tx.put_entry(MountId::MOUNTS, "second/", &SECOND.0, 0)).unwrap();
    group.run(|tx| tx.put_entry(SECOND, "of a mount", b"text", 0)).unwrap();
    finish(group);
    for n in 0..40 {
        put(&barrier, &format!("a/f{}/s{n}", n % 3), &[7; 300]);
    }
    (disk, barrier)
}

fn whole(barrier: &Barrier, described: usize) -> Sweep {
    let mut sweep = Sweep::new(barrier, mount_of, described);
    while sweep.step(barrier).unwrap() {}
    sweep
}

/// Changes the last byte of the records that `which` chooses, so that they do not open.
fn spoil(disk: &Disk, which: impl Fn(&[u8]) -> bool) {
    disk.store.tamper(|records| {
        for (_, stored) in records.iter_mut().filter(|(key, _)| which(key)) {
            *stored.value.last_mut().unwrap() ^= 1;
        }
    });
}

#[test]
fn a_sound_vault_is_counted_whole_and_its_sum_fits() {
    let (_disk, barrier) = filled();
    let mut sweep = Sweep::new(&barrier, mount_of, 9);
    assert_eq!((sweep.records(), sweep.bytes(), sweep.set_hash_fits(&barrier)), (0, 0, None));
    assert!(sweep.named().name_of(MOUNT).is_none(), "its entry was not reached yet");
    while sweep.step(&barrier).unwrap() {
        assert!(sweep.bad().is_empty());
    }
    assert_eq!(sweep.records(), barrier.record_count());
    // The values alone have 12,000 bytes; nodes and entries are padded to some hundred.
    assert!((12_000..80_000).contains(&sweep.bytes()), "{}", sweep.bytes());
    assert_eq!((sweep.failed(), sweep.set_hash_fits(&barrier)), (0, Some(true)));
    assert_eq!((sweep.named().name_of(MOUNT), sweep.named().name_of(SECOND)), (Some("secret/"), Some("second/")));
    assert!(sweep.named().name_of(MountId::POLICIES).is_none());
    put(&barrier, "later", b"1");
    assert!(!sweep.step(&barrier).unwrap(), "the end stays the end");
    assert_eq!((sweep.failed(), sweep.set_hash_fits(&barrier)), (0, Some(true)));
}

#[test]
fn a_sum_that_is_not_that_of_the_state_or_of_another_set_is_told() {
    let (_disk, barrier) = filled();
    let sweep = whole(&barrier, 9);
    barrier.writer.lock().state.set_hash = crate::crypto::hash::SetHash::from_bytes([1; 32]);
    assert_eq!(sweep.set_hash_fits(&barrier), Some(false));
    let (_disk, barrier) = filled();
    let mut sweep = Sweep::new(&barrier, mount_of, 9);
    let edit: KeyringEdit<'_> = Box::new(|keyring, random| {
        keyring.add_integrity(random)?;
        Ok(())
    });
    rotation::turn(&barrier, HeaderChange { keyring: Some(edit), ..HeaderChange::default() });
    while sweep.step(&barrier).unwrap() {}
    assert_eq!(sweep.set_hash_fits(&barrier), None, "it was summed with the older set");
    assert_eq!(whole(&barrier, 9).set_hash_fits(&barrier), Some(true));
}

#[test]
fn bad_records_are_all_counted_and_some_described() {
    let (disk, barrier) = filled();
    let records = barrier.record_count();
    spoil(&disk, |key| key[0] == b'v');
    let sweep = whole(&barrier, 2);
    assert_eq!((sweep.failed(), sweep.bad().len(), sweep.records()), (40, 2, records));
    for bad in sweep.bad() {
        assert!(bad.mount == Some(MOUNT) && bad.path.starts_with("a/f") && bad.part == Part::Version(1), "{bad:?}");
    }
    assert!(whole(&barrier, 0).bad().is_empty());
    assert_eq!(whole(&barrier, 40).bad().len(), 40);
}

#[test]
fn what_is_behind_a_bad_name_is_counted_once() {
    let (disk, barrier) = filled();
    let folder = barrier.view(MOUNT).locate("a/f0").unwrap().0;
    spoil(&disk, |key| key == folder.as_bytes());
    let sweep = whole(&barrier, 9);
    assert_eq!((sweep.failed(), sweep.records()), (1, barrier.record_count()));
    let bad = &sweep.bad()[0];
    // Of 40 secrets, every third is in this folder; each has a node and a value.
    assert_eq!((bad.part, bad.path.as_str(), bad.behind), (Part::Name, "a", 28));
}

#[test]
fn a_record_that_nothing_refers_to_is_a_stray_unless_it_is_newer_than_the_sweep() {
    let (_disk, barrier) = filled();
    let records = barrier.record_count();
    let mut sweep = Sweep::new(&barrier, mount_of, 9);
    let stamp = *barrier.published.read().index.values().next().unwrap();
    barrier.published.write().index.insert(StoreKey::value(&[1; 16], 1), stamp);
    barrier.published.write().index.insert(StoreKey::value(&[2; 16], 1), stamp);
    put(&barrier, "a/later", b"a record of the time of the sweep");
    while sweep.step(&barrier).unwrap() {}
    assert_eq!((sweep.failed(), sweep.bad().len()), (2, 2));
    assert!(sweep.bad().iter().all(|bad| bad.part == Part::Stray && bad.mount.is_none()));
    assert!((records + 2..=records + 4).contains(&sweep.records()), "{}", sweep.records());
}

#[test]
fn writers_at_any_step_change_neither_the_verdict_nor_the_sum() {
    let (disk, barrier) = filled();
    drop(barrier);
    let steps = {
        let (barrier, _) = disk.open().unwrap();
        let (mut sweep, mut steps) = (Sweep::new(&barrier, mount_of, 9), 0);
        while sweep.step(&barrier).unwrap() {
            steps += 1;
        }
        steps
    };
    for at in (0..steps).step_by(11).chain(steps - 4..steps) {
        let disk = disk.copy();
        let (barrier, _) = disk.open().unwrap();
        let mut sweep = Sweep::new(&barrier, mount_of, 9);
        let mut step = 0;
        while sweep.step(&barrier).unwrap() {
            if step == at {
                for n in 0..40 {
                    put(&barrier, &format!("a/f{}/s{n}", n % 3), b"changed");
                }
                put(&barrier, "a/new", b"1");
                let mut group = barrier.begin();
                group.run(|tx| tx.remove_secret(MOUNT, "a/f0/s0")).unwrap();
                group.run(|tx| tx.remove_entry(SECOND, "of a mount")).unwrap();
                finish(group);
            }
            step += 1;
        }
        assert_eq!((sweep.failed(), sweep.set_hash_fits(&barrier)), (0, Some(true)), "changed at step {at}");
        put(&barrier, "after", b"the end");
        assert_eq!(sweep.set_hash_fits(&barrier), Some(true), "the sum goes on");
    }
}
