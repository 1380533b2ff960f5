//! Changing keys: every step may be the last one before the power goes.

use super::*;
use crate::keys::TermState;

/// Puts the next header of `change` and an entry into one group.
pub(super) fn turn(barrier: &Barrier, change: HeaderChange<'_>) {
    let mut group = barrier.begin();
    group.change_header(change).unwrap();
    group.run(|tx| tx.put_entry(MountId::ROTATION, "row", b"state", 0)).unwrap();
    finish(group);
}

pub(super) fn new_term<'a>() -> HeaderChange<'a> {
    let edit: KeyringEdit<'a> = Box::new(|keyring, random| {
        keyring.add_term(random, 30, false)?;
        Ok(())
    });
    HeaderChange { keyring: Some(edit), ..HeaderChange::default() }
}

pub(super) fn destroy<'a>(term: u32) -> HeaderChange<'a> {
    let edit: KeyringEdit<'a> = Box::new(move |keyring, _| {
        assert!(keyring.destroy_term(term));
        Ok(())
    });
    HeaderChange { keyring: Some(edit), ..HeaderChange::default() }
}

pub(super) const MOUNTS: [MountId; 3] = [MOUNT, MountId::POLICIES, MountId::ROTATION];

pub(super) fn rewrap(barrier: &Barrier, limit: usize) -> u64 {
    let mut walk = Walk::new(Depth::Records, MOUNTS);
    let mut done = 0;
    loop {
        let found = walk.next(barrier, limit).unwrap();
        if found.is_empty() {
            return done;
        }
        let mut group = barrier.begin();
        for stale in &found {
            done += group.run(|tx| tx.reseal(stale, usize::MAX)).unwrap().records;
        }
        finish(group);
    }
}

pub(super) fn fill(barrier: &Barrier) {
    for n in 0..40 {
        put(barrier, &format!("app/f{}/s{n}", n % 3), format!("value {n}").as_bytes());
    }
    put(barrier, "app/f1", b"a folder that is a secret too");
    let mut group = barrier.begin();
    group.run(|tx| tx.put_entry(MountId::POLICIES, "p", b"text", 0)).unwrap();
    finish(group);
}

fn check(barrier: &Barrier) {
    let view = barrier.view(MOUNT);
    for n in 0..40 {
        let value = get(&view, &format!("app/f{}/s{n}", n % 3)).unwrap();
        assert_eq!(value.as_deref(), Some(format!("value {n}").as_bytes()));
    }
    assert!(view.children("app").unwrap().len() >= 3);
    assert!(barrier.view(MountId::POLICIES).entry("p").unwrap().is_some());
}

#[test]
fn a_term_is_replaced_drained_proved_and_destroyed() {
    let (disk, barrier) = Disk::new();
    fill(&barrier);
    let before = barrier.terms();
    let census = || barrier.census().unwrap();
    assert!(
        matches!(barrier.begin().prove_drained(&mut census(), &[1]), Err(BarrierError::NotDrained { term: 1, .. })),
        "the active one"
    );
    turn(&barrier, new_term());
    assert_eq!(barrier.key_status().term, 2);
    put(&barrier, "app/new", b"under the new term");
    let live = |term| barrier.terms().into_iter().find(|status| status.term == term).unwrap().live;
    assert!(live(1) > 40 && live(1) < before[0].live + 1, "writes since then are not under the old term");
    assert!(matches!(barrier.begin().prove_drained(&mut census(), &[1]), Err(BarrierError::NotDrained { .. })));
    let older = disk.copy();
    assert!(rewrap(&barrier, 7) >= 40);
    assert_eq!(rewrap(&barrier, 7), 0, "a second walk finds nothing");
    assert_eq!(live(1), 0);
    assert!(barrier.open_all(MOUNTS).unwrap() >= 44);
    let proof = barrier.begin().prove_drained(&mut census(), &[1]).unwrap();
    assert_eq!(proof[0].records, barrier.record_count());
    turn(&barrier, destroy(1));
    assert_eq!(barrier.terms()[0].state, TermState::Destroyed);
    check(&barrier);
    let (again, _) = disk.open().unwrap();
    check(&again);
    assert_eq!(again.terms(), barrier.terms());
    // Store and anchor of before, under the header that has forgotten the key.
    let older = Disk { header: disk.header.clone(), ..older };
    assert!(matches!(older.error(), BarrierError::TermDestroyed(1)), "{}", older.error());
}

#[test]
fn a_record_under_a_destroyed_term_is_refused_by_name() {
    let (_disk, barrier) = Disk::new();
    fill(&barrier);
    turn(&barrier, new_term());
    turn(&barrier, destroy(1));
    let error = barrier.view(MOUNT).node("app/f0/s0").map(|_| ()).unwrap_err();
    assert!(matches!(error, BarrierError::Integrity(_)), "{error}");
    assert!(matches!(_disk.error(), BarrierError::TermDestroyed(1)));
}

#[test]
fn a_deep_walk_gives_every_version_a_new_key_once() {
    let (disk, barrier) = Disk::new();
    fill(&barrier);
    put(&barrier, "app/f0/s0", b"second version");
    let before = barrier.mark().2 + 1;
    let old: Vec<_> = disk.records().into_iter().filter(|(key, _)| key[0] == b'v').collect();
    let mut resealed = 0;
    let mut walk = Walk::new(Depth::Values { before }, MOUNTS);
    loop {
        let found = walk.next(&barrier, 5).unwrap();
        if found.is_empty() {
            break;
        }
        let mut group = barrier.begin();
        for stale in &found {
            resealed += group.run(|tx| tx.reseal(stale, usize::MAX)).unwrap().records;
        }
        finish(group);
    }
    assert_eq!(resealed, 42);
    let now = disk.records();
    assert!(old.iter().all(|(key, record)| now.get(key).is_some_and(|new| new.value != record.value)));
    let mut walk = Walk::new(Depth::Values { before }, MOUNTS);
    assert!(walk.next(&barrier, 5).unwrap().is_empty());
    let (again, _) = disk.open().unwrap();
    let view = again.view(MOUNT);
    let node = view.node("app/f0/s0").unwrap().unwrap();
    assert_eq!(view.value("app/f0/s0", &node, 1).unwrap().unwrap().reveal(), b"value 0");
    assert_eq!(view.value("app/f0/s0", &node, 2).unwrap().unwrap().reveal(), b"second version");
}

/// The old passphrase is thrown away with the root key; the set hash goes over to the new integrity set.
#[test]
fn a_new_root_key_and_integrity_set_leave_the_old_header_useless() {
    const NEW: &[u8] = &[9; 40];
    let (disk, barrier) = Disk::new();
    fill(&barrier);
    let old = disk.copy();
    let root = RootKey::random(&barrier.vault_id(), &SeededRandom::new(7)).unwrap();
    let header = barrier.header();
    let secret = NewSlot { label: "new", secret: Unlock::KeyFile(NEW), params: crate::crypto::password::WRITE_FLOOR };
    let bound = (&header.vault_id, header.flags, crate::crypto::envelope::Suite::Aes256Gcm);
    let slot = Slot::seal(&secret, 1, bound, &root, &SeededRandom::new(8), WeakKdf::Refuse).unwrap();
    let edit: KeyringEdit<'_> = Box::new(|keyring, random| {
        keyring.add_integrity(random)?;
        Ok(())
    });
    let change = HeaderChange {
        base: Some(header.seq),
        slots: Some(vec![slot]),
        root: Some(root.into_header_keys()),
        keyring: Some(edit),
        check: Some(Box::new(|header| header.open(&Unlock::KeyFile(NEW), WeakKdf::Refuse).is_ok())),
    };
    turn(&barrier, change);
    put(&barrier, "app/after", b"x");
    assert_eq!(barrier.integrity_sets(), 2);
    let open = |disk: &Disk| Barrier::unseal(disk.parts(5), &Unlock::KeyFile(NEW), 50).map(|(barrier, _)| barrier);
    check(&open(&disk.copy()).unwrap());
    barrier.settle_anchor(60).unwrap();
    let edit: KeyringEdit<'_> = Box::new(|keyring, _| {
        keyring.drop_old_integrity();
        Ok(())
    });
    turn(&barrier, HeaderChange { keyring: Some(edit), ..HeaderChange::default() });
    assert_eq!(barrier.integrity_sets(), 1);
    check(&open(&disk).unwrap());
    assert!(matches!(disk.error(), BarrierError::Header(HeaderError::WrongSecret)));
    // The old header opens with the old secret, and then knows neither the state nor the anchor.
    let mixed = Disk { store: disk.store.clone(), anchor: disk.anchor.clone(), header: old.header };
    assert!(matches!(mixed.error(), BarrierError::StateDamaged(_)), "{}", mixed.error());
}

#[test]
fn a_header_made_for_another_header_is_refused_and_nothing_is_written() {
    let (disk, barrier) = Disk::new();
    let before = disk.header.read().unwrap();
    let mut group = barrier.begin();
    let stale = HeaderChange { base: Some(7), ..HeaderChange::default() };
    assert!(matches!(group.change_header(stale), Err(BarrierError::HeaderOther(_))));
    let empty = HeaderChange { slots: Some(Vec::new()), ..HeaderChange::default() };
    assert!(group.change_header(empty).is_err());
    drop(group);
    assert_eq!(disk.header.read().unwrap(), before);
}

#[test]
fn a_header_that_fails_its_last_check_never_replaces_the_old_copy() {
    let (disk, barrier) = Disk::new();
    put(&barrier, "a", b"b");
    let before = disk.header.read().unwrap();
    let mut group = barrier.begin();
    group.change_header(HeaderChange { check: Some(Box::new(|_| false)), ..new_term() }).unwrap();
    assert!(matches!(group.store(AuditHead::default(), 1), Err(BarrierError::Fatal(_))));
    assert_eq!(disk.header.read().unwrap()[1], before[1], "the second copy still is the old header");
    assert!(matches!(barrier.health(), Health::Degraded(_)));
    let (again, _) = disk.open().unwrap();
    assert_eq!(get(&again.view(MOUNT), "a").unwrap().unwrap(), b"b");
}

/// Every combination of header copies, store and anchor that a kill can leave opens, and shows the change whole or not.
#[test]
fn a_header_change_cut_short_at_any_step_opens() {
    let (disk, barrier) = Disk::new();
    fill(&barrier);
    let before = disk.copy();
    turn(&barrier, new_term());
    let after = disk.copy();
    let ([old, _], [new, _]) = (before.header.read().unwrap(), after.header.read().unwrap());
    let headers = [[&new, &old], [&new, &new]];
    for (n, copies) in headers.into_iter().enumerate() {
        for stored in [false, true] {
            for anchored in [false, true] {
                // Both copies come before the store, the store before the anchor.
                if (n == 0 && stored) || (anchored && !stored) {
                    continue;
                }
                let from = |done: bool| if done { after.copy() } else { before.copy() };
                let header = Arc::new(MemHeader::with([copies[0].clone(), copies[1].clone()]));
                let cut = Disk { store: from(stored).store, anchor: from(anchored).anchor, header };
                let (opened, report) = cut.open().unwrap();
                check(&opened);
                assert_eq!(report.header_rolled_forward, !stored, "copies {n}, stored {stored}");
                assert_eq!(opened.key_status().term, 2);
                assert_eq!(opened.view(MountId::ROTATION).entry("row").unwrap().is_some(), stored);
                rewrap(&opened, 50);
                assert_eq!(opened.terms()[0].live, 0);
                drop(opened);
                check(&cut.open().unwrap().0);
            }
        }
    }
}
