//! What somebody with the disk in hand can do, and how it is named.

use std::ops::ControlFlow;

use super::*;

/// A vault with secrets, an entry and several generations; the barrier is closed.
fn filled() -> Disk {
    let (disk, barrier) = Disk::new();
    put(&barrier, "a/b", b"one");
    put(&barrier, "a/b", b"two");
    put(&barrier, "c", b"three");
    let mut group = barrier.begin();
    group.run(|tx| tx.put_entry(MountId::POLICIES, "p", b"text", 0)).unwrap();
    finish(group);
    disk
}

/// Reads everything there is through `barrier`.
fn read_all(barrier: &Barrier) -> Result<(), BarrierError> {
    let view = barrier.view(MOUNT);
    for path in ["a/b", "c"] {
        let node = view.node(path)?.ok_or(BarrierError::Integrity("absent"))?;
        for version in node.meta.iter().flat_map(|meta| &meta.versions) {
            view.value(path, &node, version.version)?.ok_or(BarrierError::Integrity("absent"))?;
        }
    }
    view.children("")?;
    view.children("a")?;
    barrier.view(MountId::POLICIES).entry("p")?.ok_or(BarrierError::Integrity("absent"))?;
    Ok(())
}

/// Opens and reads everything; any error on the way.
fn outcome(disk: &Disk) -> Result<(), BarrierError> {
    read_all(&disk.open()?.0)
}

#[test]
fn a_flipped_bit_in_any_byte_of_any_record_is_found() {
    let disk = filled();
    outcome(&disk).unwrap();
    for (key, stored) in disk.records() {
        for at in 0..stored.value.len() {
            let broken = disk.copy();
            broken.store.tamper(|records| records.get_mut(&key).unwrap().value[at] ^= 0x10);
            assert!(outcome(&broken).is_err(), "key {key:x?}, byte {at}");
        }
    }
}

#[test]
fn a_flipped_bit_while_serving_stops_writes_and_refuses_only_that_record() {
    let disk = filled();
    for (key, stored) in disk.records().into_iter().filter(|(key, _)| key[0] == b'v') {
        for at in [10, 70, 95, stored.value.len() - 1] {
            let live = disk.copy();
            let (barrier, _) = live.open().unwrap();
            live.store.tamper(|records| records.get_mut(&key).unwrap().value[at] ^= 1);
            assert!(matches!(read_all(&barrier), Err(BarrierError::Integrity(_))));
            assert!(matches!(barrier.health(), Health::Degraded(_)));
            assert!(matches!(barrier.begin().run(|tx| write(tx, "new", b"1")), Err(BarrierError::Degraded)));
            barrier.view(MountId::POLICIES).entry("p").unwrap().unwrap();
        }
    }
}

#[test]
fn deleted_records_are_found_at_the_start_and_while_serving() {
    let disk = filled();
    for key in disk.records().into_keys().filter(|key| key[0] != b's') {
        let broken = disk.copy();
        broken.store.tamper(|records| drop(records.remove(&key)));
        assert!(matches!(broken.error(), BarrierError::SetHash(_)));
        let live = disk.copy();
        let (barrier, _) = live.open().unwrap();
        live.store.tamper(|records| drop(records.remove(&key)));
        assert!(matches!(read_all(&barrier), Err(BarrierError::Integrity(_))), "key {key:x?}");
        assert!(matches!(barrier.health(), Health::Degraded(_)));
    }
}

#[test]
fn swapped_records_are_found() {
    let disk = filled();
    let keys: Vec<Vec<u8>> = disk.records().into_keys().filter(|key| key[0] != b's').collect();
    let swap = |disk: &Disk, one: &Vec<u8>, two: &Vec<u8>| {
        disk.store.tamper(|records| {
            let (a, b) = (records[one].value.clone(), records[two].value.clone());
            records.get_mut(one).unwrap().value = b;
            records.get_mut(two).unwrap().value = a;
        });
    };
    for (at, one) in keys.iter().enumerate() {
        for two in &keys[at + 1..] {
            let broken = disk.copy();
            swap(&broken, one, two);
            assert!(matches!(broken.error(), BarrierError::SetHash(_)));
            let live = disk.copy();
            let (barrier, _) = live.open().unwrap();
            swap(&live, one, two);
            assert!(matches!(read_all(&barrier), Err(BarrierError::Integrity(_))));
        }
    }
}

#[test]
fn a_single_record_put_back_to_an_older_state_is_found() {
    let (disk, barrier) = Disk::new();
    put(&barrier, "x", b"1");
    let before = disk.records();
    put(&barrier, "x", b"2");
    let (key, old) = before.iter().find(|(key, _)| key[0] == b'd').unwrap();
    disk.store.tamper(|records| records.get_mut(key).unwrap().value = old.value.clone());
    assert!(matches!(get(&barrier.view(MOUNT), "x"), Err(BarrierError::Integrity(_))));
    drop(barrier);
    assert!(matches!(disk.error(), BarrierError::SetHash(_)));
}

#[test]
fn records_from_nowhere_are_found() {
    let disk = filled();
    let value = disk.records().into_values().next().unwrap();
    for key in [b"x-other".to_vec(), [b"v".as_slice(), &[1; 24]].concat(), [b"d".as_slice(), &[1; 32]].concat()] {
        let broken = disk.copy();
        broken.store.tamper(|records| drop(records.insert(key.clone(), value.clone())));
        assert!(matches!(broken.error(), BarrierError::SetHash(_)), "key {key:x?}");
    }
}

#[test]
fn a_deleted_secret_put_back_with_its_folder_does_not_return() {
    let (disk, barrier) = Disk::new();
    put(&barrier, "x", b"1");
    let before = disk.records();
    let mut group = barrier.begin();
    group.run(|tx| tx.remove_secret(MOUNT, "x")).unwrap();
    finish(group);
    disk.store.tamper(|records| {
        for (key, old) in before.iter().filter(|(key, _)| key[0] != b's') {
            records.insert(key.clone(), old.clone());
        }
    });
    assert!(barrier.view(MOUNT).node("x").unwrap().is_none());
    assert!(barrier.view(MOUNT).children("").unwrap().is_empty());
    drop(barrier);
    assert!(matches!(disk.error(), BarrierError::SetHash(_)));
}

#[test]
fn an_older_whole_store_is_named_with_its_distance() {
    let (disk, barrier) = Disk::new();
    put(&barrier, "x", b"1");
    let old = disk.copy();
    for _ in 0..3 {
        put(&barrier, "x", b"2");
    }
    let rolled = Disk { store: old.store, header: disk.header.clone(), anchor: disk.anchor.clone() };
    let error = rolled.error();
    assert!(matches!(error, BarrierError::Missing { generations: 3 }));
    assert!(error.to_string().starts_with("acknowledged writes are missing: 3 generations"));
    let emptied = Disk { store: Arc::default(), header: disk.header.clone(), anchor: disk.anchor.clone() };
    assert!(matches!(emptied.error(), BarrierError::Missing { generations: 5 }));
}

#[test]
fn a_missing_blank_or_foreign_anchor_is_refused() {
    let disk = filled();
    let with = |bytes| Disk { anchor: Arc::new(MemAnchor::with(bytes)), ..disk.copy() };
    assert!(matches!(with(None).error(), BarrierError::AnchorMissing));
    assert!(with(None).error().to_string().starts_with("the anchor is missing"));
    assert!(matches!(with(Some(vec![0; 8192])).error(), BarrierError::AnchorMissing));
    assert!(matches!(with(Some(vec![1; 8192])).error(), BarrierError::AnchorDamaged));
    assert!(matches!(with(Some(Vec::new())).error(), BarrierError::AnchorDamaged));
}

#[test]
fn an_older_anchor_serves_with_an_alarm_and_a_torn_slot_is_noted() {
    let (disk, barrier) = Disk::new();
    let old = disk.copy();
    for _ in 0..3 {
        put(&barrier, "x", b"1");
    }
    drop(barrier);
    let behind = Disk { anchor: old.anchor, ..disk.copy() };
    assert_eq!(behind.open().unwrap().1.anchor_behind, 3);
    let (barrier, report) = behind.open().unwrap();
    assert_eq!(report.anchor_behind, 3, "opening has written the anchor, and tells it again until a commit");
    put(&barrier, "x", b"2");
    drop(barrier);
    assert_eq!(behind.open().unwrap().1.anchor_behind, 0);
    // Generation 4 is in slot 0; the torn slot is that of generation 3.
    let mut bytes = disk.anchor.read().unwrap().unwrap();
    bytes[4096 + 40] ^= 1;
    let torn = Disk { anchor: Arc::new(MemAnchor::with(Some(bytes))), ..disk.copy() };
    assert!(torn.open().unwrap().1.anchor_torn);
}

#[test]
fn another_state_of_the_same_generation_is_refused() {
    let (disk, barrier) = Disk::new();
    drop(barrier);
    let other = disk.copy();
    let fork = |disk: &Disk, seed, value: &[u8]| {
        let barrier = Barrier::unseal(disk.parts(seed), &Unlock::KeyFile(SECRET), 10).unwrap().0;
        put(&barrier, "x", value);
    };
    fork(&disk, 50, b"1");
    fork(&other, 51, b"2");
    // A record that differs from the right one in nothing but its content, and opens.
    let live = disk.copy();
    let (barrier, _) = live.open().unwrap();
    let (key, stored) = other.records().into_iter().find(|(key, _)| key[0] == b'd').unwrap();
    live.store.tamper(|records| drop(records.insert(key, stored)));
    assert!(matches!(barrier.view(MOUNT).node("x"), Err(BarrierError::Integrity(_))));
    let mixed = Disk { store: other.store, header: disk.header, anchor: disk.anchor };
    assert!(matches!(mixed.error(), BarrierError::AnchorOther));
}

/// The bytes of the header after `bytes`.
fn next_header(bytes: &[u8]) -> Vec<u8> {
    sibling_header(bytes, 70)
}

/// One of the possible headers after `bytes`.
fn sibling_header(bytes: &[u8], seed: u64) -> Vec<u8> {
    let opened = Header::parse(bytes).unwrap();
    let opened = opened.open(&Unlock::KeyFile(SECRET), WeakKdf::Refuse).unwrap();
    opened.header.encode_next(opened.root.header_keys(), &opened.keyring, &SeededRandom::new(seed)).unwrap()
}

#[test]
fn a_header_write_cut_short_is_completed_and_the_old_header_refused_then() {
    let disk = filled();
    let first = disk.header.read().unwrap()[0].clone().unwrap();
    let second = next_header(&first);
    let third = next_header(&second);
    let sibling = sibling_header(&first, 71);
    disk.header.write(0, &second).unwrap();
    let (barrier, report) = disk.open().unwrap();
    assert!(report.header_rolled_forward && report.header_repaired);
    assert_eq!(report.generation, 6);
    put(&barrier, "c", b"more");
    drop(barrier);
    assert_eq!(disk.header.read().unwrap(), [Some(second.clone()), Some(second)]);
    let with = |bytes: &Vec<u8>| Disk {
        header: Arc::new(MemHeader::with([Some(bytes.clone()), Some(bytes.clone())])),
        ..disk.copy()
    };
    assert!(matches!(with(&first).error(), BarrierError::HeaderOther("the header is older than the state")));
    assert!(with(&third).open().unwrap().1.header_rolled_forward);
    assert!(matches!(with(&next_header(&third)).error(), BarrierError::HeaderOther(_)));
    assert!(matches!(with(&sibling).error(), BarrierError::HeaderOther("another header of the same number")));
    assert!(matches!(with(&next_header(&sibling)).error(), BarrierError::HeaderOther(_)));
}

#[test]
fn one_good_header_copy_is_enough_and_none_is_named() {
    let disk = filled();
    let good = disk.header.read().unwrap()[0].clone();
    let mut bad = good.clone().unwrap();
    let last = bad.len() - 1;
    bad[last] ^= 1;
    let with = |copies| Disk { header: Arc::new(MemHeader::with(copies)), ..disk.copy() };
    for copies in [[good.clone(), None], [None, good.clone()], [Some(bad.clone()), good.clone()]] {
        let disk = with(copies);
        assert!(disk.open().unwrap().1.header_repaired);
        assert!(!disk.open().unwrap().1.header_repaired);
    }
    assert!(matches!(with([None, None]).error(), BarrierError::HeaderMissing));
    let error = with([Some(bad.clone()), Some(bad)]).error();
    assert!(error.to_string().starts_with("the header is damaged"), "{error}");
}

#[test]
fn nothing_of_a_value_or_a_name_is_stored_in_the_clear() {
    let (disk, barrier) = Disk::new();
    put(&barrier, "telltale-folder/telltale-name", b"telltale-value");
    let mut seen = 0;
    let visit = &mut |key: &[u8], value: &[u8]| {
        seen += 1;
        assert!(!key.windows(8).chain(value.windows(8)).any(|part| part == b"telltale"));
        ControlFlow::Continue(())
    };
    disk.store.scan(&[], visit).unwrap();
    assert_eq!(seen, 4);
}
