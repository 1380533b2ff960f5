//! What a view says about names, entries and changes, and what it costs.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::barrier::names::bound;
use crate::barrier::node::encode_entry;
use crate::barrier::overlay::Pending;
use crate::crypto::envelope::Kind;

const ENTRIES: MountId = MountId::POLICIES;

/// A vault with the entries `b` (expires at 8) and `a`, and the secrets `f/x` and `y`.
fn filled() -> (Disk, Barrier) {
    let (disk, barrier) = Disk::new();
    put(&barrier, "f/x", b"1");
    put(&barrier, "y", b"2");
    let mut group = barrier.begin();
    group.run(|tx| tx.put_entry(ENTRIES, "b", b"second", 8)).unwrap();
    group.run(|tx| tx.put_entry(ENTRIES, "a", b"first", 0)).unwrap();
    finish(group);
    (disk, barrier)
}

#[test]
fn all_entries_are_listed_by_key_and_looked_at_once() {
    let (_disk, barrier) = filled();
    let view = barrier.view(ENTRIES);
    assert_eq!(view.entries().unwrap(), ["a", "b"]);
    let mut seen = Vec::new();
    let look = |key: &str, entry: EntryValue| -> Result<(), BarrierError> {
        seen.push((key.to_owned(), entry.value.reveal().to_vec(), entry.not_after_ms));
        Ok(())
    };
    view.each_entry(look).unwrap();
    seen.sort();
    assert_eq!(seen, [("a".to_owned(), b"first".to_vec(), 0), ("b".to_owned(), b"second".to_vec(), 8)]);
    let mut looks = 0;
    let stopped = view.each_entry(|_, _| {
        looks += 1;
        Err(BarrierError::Full)
    });
    assert!(matches!(stopped, Err(BarrierError::Full)) && looks == 1, "the first error of the caller ends it");
}

#[test]
fn a_group_lists_what_is_stored_with_its_changes_on_top() {
    let (_disk, barrier) = filled();
    let mut group = barrier.begin();
    let listed = group.run(|tx| {
        tx.put_entry(ENTRIES, "c", b"third", 0)?;
        tx.remove_entry(ENTRIES, "b")?;
        write(tx, "f/new", b"3")?;
        tx.remove_secret(MOUNT, "y")?;
        let view = tx.view(MOUNT);
        let names = |folder| -> Result<Vec<String>, BarrierError> {
            Ok(view.children(folder)?.into_iter().map(|child| child.name).collect())
        };
        Ok::<_, BarrierError>((tx.view(ENTRIES).entries()?, names("")?, names("f")?))
    });
    let (entries, top, folder) = listed.unwrap();
    assert_eq!((entries.join(" "), top.join(" "), folder.join(" ")), ("a c".into(), "f".into(), "new x".into()));
    assert_eq!(barrier.view(ENTRIES).entries().unwrap(), ["a", "b"], "readers do not see it yet");
}

#[test]
fn only_the_group_that_changes_an_entry_says_so() {
    let (_disk, barrier) = filled();
    assert!(!barrier.view(ENTRIES).is_changed());
    let mut group = barrier.begin();
    group
        .run(|tx| {
            assert!(!tx.view(ENTRIES).is_changed());
            tx.remove_entry(ENTRIES, "a")?;
            assert!(tx.view(ENTRIES).is_changed() && !tx.view(MountId::IDENTITIES).is_changed());
            Ok::<_, BarrierError>(())
        })
        .unwrap();
    assert!(!barrier.view(ENTRIES).is_changed());
}

#[test]
fn the_index_tells_whether_there_are_more_than_a_few() {
    let (_disk, barrier) = filled();
    let (entries, tree) = (barrier.view(ENTRIES), barrier.view(MOUNT));
    assert!(entries.has_more_entries(0) && entries.has_more_entries(1) && !entries.has_more_entries(2));
    assert!(tree.has_more_children("", 1) && !tree.has_more_children("", 2));
    assert!(tree.has_more_children("f", 0) && !tree.has_more_children("f", 1));
    assert!(!tree.has_more_children("absent", 0) && !tree.has_more_children("a//b", 0));
    assert!(!tree.has_more_entries(0) && !entries.has_more_children("", 0));
}

#[test]
fn a_tag_changes_with_its_secret_and_with_nothing_else() {
    let (_disk, barrier) = filled();
    let view = barrier.view(MOUNT);
    let tag = view.tag("y", 0).unwrap();
    assert!(tag.len() == 32 && tag.bytes().all(|byte| byte.is_ascii_hexdigit()), "{tag}");
    put(&barrier, "f/x", b"another secret");
    assert_eq!(view.tag("y", 0).unwrap(), tag);
    assert_ne!(view.tag("y", 1).unwrap(), tag, "another version");
    assert_ne!(view.tag("f/x", 0).unwrap(), tag);
    put(&barrier, "y", b"2");
    assert_ne!(view.tag("y", 0).unwrap(), tag, "the same content, written again");
    assert!(view.tag("absent", 0).is_none() && view.tag("", 0).is_none());
}

/// An authentic record under the name of another: only a defect of a program can write it.
#[test]
fn a_record_that_gives_another_name_than_its_place_is_refused() {
    type Look = fn(&View<'_>) -> Result<bool, BarrierError>;
    let of_node: [Look; 2] = [|view| Ok(view.node("y")?.is_some()), |view| Ok(!view.children("")?.is_empty())];
    for look in of_node {
        let (_disk, barrier) = filled();
        let mut group = barrier.begin();
        let refused = group.run(|tx| {
            let body = tx.secret(MOUNT, "y")?.unwrap().encode("z")?;
            let place = tx.key_of(MOUNT, "y")?;
            tx.put(place, Pending { kind: Kind::Node, path: bound(&MOUNT, ""), body, version: None })?;
            look(&tx.view(MOUNT))
        });
        assert!(matches!(refused, Err(BarrierError::Integrity(_))), "{refused:?}");
        assert!(matches!(barrier.health(), Health::Degraded(_)));
    }
    let of_entry: [Look; 2] = [|view| Ok(view.entry("a")?.is_some()), |view| Ok(!view.entries()?.is_empty())];
    for look in of_entry {
        let (_disk, barrier) = filled();
        let mut group = barrier.begin();
        let refused = group.run(|tx| {
            let (place, body) = (tx.view(ENTRIES).entry_key("a"), encode_entry("z", b"first", 0));
            tx.put(place, Pending { kind: Kind::Entry, path: bound(&ENTRIES, ""), body, version: None })?;
            look(&tx.view(ENTRIES))
        });
        assert!(matches!(refused, Err(BarrierError::Integrity(_))), "{refused:?}");
    }
}

#[test]
fn a_listing_counts_what_it_opens_and_stops_when_nobody_waits() {
    let (_disk, barrier) = filled();
    let closing = Arc::new(AtomicBool::new(false));
    let tally = Tally::new(&closing);
    let entries = |tally| barrier.view(ENTRIES).counted(tally).entries();
    assert_eq!((entries(&tally).unwrap().len(), tally.looked_at()), (2, 2));
    assert_eq!(barrier.view(MOUNT).counted(&tally).children("").unwrap().len(), 2);
    assert_eq!(tally.looked_at(), 4);
    tally.look_at(3).unwrap();
    assert_eq!(tally.looked_at(), 7);
    tally.abandon();
    assert!(matches!(entries(&tally), Err(BarrierError::Abandoned)));
    assert!(matches!(tally.look_at(1), Err(BarrierError::Abandoned)));
    let other = Tally::new(&closing);
    other.look_at(1).unwrap();
    closing.store(true, Ordering::SeqCst);
    assert!(matches!(other.look_at(1), Err(BarrierError::Abandoned)), "the vault closes");
    assert!(matches!(entries(&other), Err(BarrierError::Abandoned)));
}
