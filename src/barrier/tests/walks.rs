//! What a walk finds and opens, and what sealing again leaves alone.

use super::rotation::{MOUNTS, fill, new_term, rewrap, turn};
use super::*;

/// All that a walk still finds.
fn found(barrier: &Barrier, depth: Depth) -> Result<Vec<Stale>, BarrierError> {
    let (mut walk, mut all) = (Walk::new(depth, MOUNTS), Vec::new());
    loop {
        let next = walk.next(barrier, 10)?;
        if next.is_empty() {
            return Ok(all);
        }
        all.extend(next);
    }
}

/// A vault that is opened again after the last byte of a record was changed, so that it does not open.
fn with_bad(letter: u8) -> (Disk, Barrier) {
    let (disk, barrier) = Disk::new();
    put(&barrier, "leaf", b"a node without children");
    let mut group = barrier.begin();
    group.run(|tx| tx.put_entry(MountId::POLICIES, "p", b"text", 0)).unwrap();
    finish(group);
    turn(&barrier, new_term());
    let mut bad = 0;
    disk.store.tamper(|records| {
        for (_, stored) in records.iter_mut().filter(|(key, _)| key[0] == letter).take(1) {
            *stored.value.last_mut().unwrap() ^= 1;
            bad += 1;
        }
    });
    assert_eq!(bad, 1);
    (disk, barrier)
}

#[test]
fn a_walk_opens_no_more_than_it_must_and_a_check_opens_all() {
    for letter in [b'd', b'e'] {
        let (_disk, barrier) = with_bad(letter);
        assert_eq!(found(&barrier, Depth::Records).unwrap().len(), 2, "heads tell what is under which term");
        let values = found(&barrier, Depth::Values { before: barrier.mark().2 });
        assert_eq!(values.is_ok(), letter == b'e', "only nodes list versions");
        let (_disk, barrier) = with_bad(letter);
        assert!(matches!(found(&barrier, Depth::Check).map(|_| ()), Err(BarrierError::Integrity(_))));
        assert!(matches!(barrier.health(), Health::Degraded(_)));
    }
}

#[test]
fn a_walk_finds_only_what_it_searches_for() {
    let (_disk, barrier) = Disk::new();
    fill(&barrier);
    assert!(found(&barrier, Depth::Records).unwrap().is_empty());
    turn(&barrier, new_term());
    let records = |stale: &[Stale]| stale.iter().filter(|stale| matches!(stale, Stale::Record(_))).count();
    let values = found(&barrier, Depth::Values { before: barrier.mark().2 }).unwrap();
    assert_eq!((values.len(), records(&values)), (41, 0), "secrets, and no record under the old term");
    assert!(found(&barrier, Depth::Values { before: 0 }).unwrap().is_empty());
    // 41 secrets, two of the folders above them that are none, the mount's top folder, and a policy.
    let stale = found(&barrier, Depth::Records).unwrap();
    assert_eq!((stale.len(), records(&stale)), (45, 45));
    assert!(found(&barrier, Depth::Check).unwrap().is_empty());
    rewrap(&barrier, 50);
    assert!(found(&barrier, Depth::Records).unwrap().is_empty());
}

#[test]
fn a_walk_stops_as_soon_as_it_has_what_was_asked_for() {
    let (_disk, barrier) = Disk::new();
    let mut group = barrier.begin();
    for n in 0..300 {
        group.run(|tx| tx.put_entry(MountId::POLICIES, &format!("p{n}"), b"text", 0)).unwrap();
    }
    finish(group);
    turn(&barrier, new_term());
    let mut walk = Walk::new(Depth::Records, [MountId::POLICIES]);
    let first = walk.next(&barrier, 1).unwrap().len();
    assert!(first < 300, "it takes some hundred at a time");
    let mut walk = Walk::new(Depth::Records, [MountId::POLICIES]);
    assert_eq!(walk.next(&barrier, first).unwrap().len(), first);
    assert_eq!(walk.next(&barrier, 300).unwrap().len(), 300 - first);
    assert!(walk.next(&barrier, 1).unwrap().is_empty());
    let mut walk = Walk::new(Depth::Check, [MountId::POLICIES]);
    let mut steps = 0;
    while walk.advance(&barrier).unwrap() {
        steps += 1;
    }
    assert_eq!(walk.seen(), 300, "all were passed");
    assert!((2..20).contains(&steps), "{steps} steps of some hundred records");
}

#[test]
fn only_versions_of_before_are_sealed_again_and_a_second_time_changes_nothing() {
    let (_disk, barrier) = Disk::new();
    put(&barrier, "x", b"one");
    let before = barrier.mark().2 + 1;
    put(&barrier, "x", b"two");
    let stale = found(&barrier, Depth::Values { before }).unwrap();
    assert_eq!(stale.len(), 1);
    let mut group = barrier.begin();
    let resealed = group.run(|tx| tx.reseal(&stale[0], usize::MAX)).unwrap();
    assert_eq!(resealed, Resealed { records: 1, complete: true });
    finish(group);
    let mut group = barrier.begin();
    let resealed = group.run(|tx| tx.reseal(&stale[0], usize::MAX)).unwrap();
    assert_eq!(resealed, Resealed { records: 0, complete: true });
    assert!(group.is_empty(), "nothing is written for it");
    drop(group);
    let view = barrier.view(MOUNT);
    let node = view.node("x").unwrap().unwrap();
    assert_eq!(view.value("x", &node, 1).unwrap().unwrap().reveal(), b"one");
    assert_eq!(view.value("x", &node, 2).unwrap().unwrap().reveal(), b"two");
}
