//! The journal itself, and the files beside the store on every disk that a power cut may leave.

use std::sync::Arc;

use super::super::conformance::pattern;
use super::super::sidecar::{ANCHOR_BYTES, AnchorFile, DiskAnchor, DiskHeader, HeaderFiles, SLOT_BYTES};
use super::*;

const CAP: usize = 600;

fn disk(fs: &JournalFs) -> Arc<dyn RawFs> {
    Arc::new(fs.clone())
}

#[test]
fn unsynced_content_may_be_lost_torn_or_kept_and_synced_content_not() {
    let fs = JournalFs::default();
    fs.create("f", &[1; 2 * SECTOR]).expect("creates");
    fs.sync("f").expect("syncs");
    fs.sync_dir().expect("syncs");
    let mark = fs.mark();
    fs.write_at("f", 0, &[2; 2 * SECTOR]).expect("writes");
    let seen: BTreeSet<_> = fs.legal_images(mark, CAP, 1).into_iter().map(|i| i["f"].clone()).collect();
    let torn = |a, b| [[a; SECTOR], [b; SECTOR]].concat();
    assert_eq!(seen, BTreeSet::from([torn(1, 1), torn(1, 2), torn(2, 1), torn(2, 2)]));
    fs.sync("f").expect("syncs");
    let after = fs.legal_images(fs.mark(), CAP, 1);
    assert_eq!(after, vec![Image::from([("f".to_owned(), torn(2, 2))])]);
}

#[test]
fn an_unsynced_name_may_be_missing_and_an_unsynced_rename_undone() {
    let fs = JournalFs::default();
    fs.create("a", b"x").expect("creates");
    fs.sync("a").expect("syncs");
    let names = |fs: &JournalFs, mark| -> BTreeSet<Vec<String>> {
        fs.legal_images(mark, CAP, 2).into_iter().map(|image| image.into_keys().collect()).collect()
    };
    assert_eq!(names(&fs, fs.mark()), BTreeSet::from([vec![], vec!["a".to_owned()]]));
    fs.sync_dir().expect("syncs");
    let mark = fs.mark();
    fs.rename("a", "b").expect("renames");
    assert_eq!(names(&fs, mark), BTreeSet::from([vec!["a".to_owned()], vec!["b".to_owned()]]));
    fs.sync_dir().expect("syncs");
    assert_eq!(names(&fs, fs.mark()), BTreeSet::from([vec!["b".to_owned()]]));
}

/// Both copies hold the same old header; both are replaced by a new one, of another size.
#[test]
fn a_header_change_leaves_each_copy_old_or_new_and_never_both_away() {
    let old = pattern(1_700, 1);
    for new in [pattern(900, 2), pattern(1_700, 2), pattern(5_000, 2)] {
        let fs = JournalFs::default();
        let header = DiskHeader::on(disk(&fs));
        header.write(0, &old).expect("writes");
        header.write(1, &old).expect("writes");
        let start = fs.mark();
        header.write(0, &new).expect("writes");
        let middle = fs.mark();
        header.write(1, &new).expect("writes");
        let mut seen = BTreeSet::new();
        for image in fs.legal_images(start, CAP, 3) {
            let [first, second] = DiskHeader::on(disk(&JournalFs::from_image(&image))).read().expect("reads");
            let (first, second) = (first.expect("copy 0 is there"), second.expect("copy 1 is there"));
            for copy in [&first, &second] {
                assert!(*copy == old || *copy == new, "a copy is neither old nor new");
            }
            assert!(first == new || second == old, "the second copy may change only after the first is durable");
            seen.insert((first == new, second == new));
        }
        assert_eq!(seen, BTreeSet::from([(false, false), (true, false), (true, true)]), "the cut came at each stage");
        for image in fs.legal_images(middle, CAP, 4) {
            let [first, _] = DiskHeader::on(disk(&JournalFs::from_image(&image))).read().expect("reads");
            assert!(first.expect("copy 0 is there") == new, "an acknowledged copy was lost");
        }
    }
}

/// A crash in the middle leaves the file aside; the next change must not be disturbed by it.
#[test]
fn a_header_change_goes_through_after_any_crash_of_an_earlier_one() {
    let (old, torn, new) = (pattern(1_700, 1), pattern(3_000, 2), pattern(1_200, 3));
    let fs = JournalFs::default();
    let header = DiskHeader::on(disk(&fs));
    header.write(0, &old).expect("writes");
    let start = fs.mark();
    header.write(0, &torn).expect("writes");
    for image in fs.legal_images(start, 150, 5) {
        let fs = JournalFs::from_image(&image);
        let header = DiskHeader::on(disk(&fs));
        let start = fs.mark();
        header.write(0, &new).expect("writes");
        for image in fs.legal_images(start, 150, 6) {
            let [copy, _] = DiskHeader::on(disk(&JournalFs::from_image(&image))).read().expect("reads");
            let copy = copy.expect("copy 0 is there");
            assert!([&old, &torn, &new].contains(&&copy), "a copy is none of the three headers");
        }
        for image in fs.legal_images(fs.mark(), 10, 7) {
            let [copy, _] = DiskHeader::on(disk(&JournalFs::from_image(&image))).read().expect("reads");
            assert!(copy.expect("copy 0 is there") == new);
        }
    }
}

#[test]
fn a_first_header_is_absent_or_whole() {
    let fs = JournalFs::default();
    let new = pattern(2_000, 1);
    DiskHeader::on(disk(&fs)).write(0, &new).expect("writes");
    for image in fs.legal_images(0, CAP, 8) {
        let [copy, _] = DiskHeader::on(disk(&JournalFs::from_image(&image))).read().expect("reads");
        assert!(copy.is_none_or(|copy| copy == new));
    }
}

#[test]
fn an_anchor_write_may_tear_its_slot_but_never_the_other() {
    let fs = JournalFs::default();
    let anchor = DiskAnchor::on(disk(&fs), "anchor");
    anchor.create().expect("creates");
    let mut slots = [vec![0; SLOT_BYTES], vec![0; SLOT_BYTES]];
    let mut torn = 0;
    for round in 0..6_u64 {
        let slot = usize::from(round % 2 == 1);
        let mark = fs.mark();
        // Longer than a sector, as a slot may be: shorter ones cannot even tear.
        let mut next = pattern(1_300, round + 1);
        anchor.write_slot(slot, &next).expect("writes");
        next.extend_from_slice(&slots[slot][1_300..]);
        for image in fs.legal_images(mark, 200, round) {
            let bytes = DiskAnchor::on(disk(&JournalFs::from_image(&image)), "anchor").read().expect("reads");
            let bytes = bytes.expect("the file is there");
            assert_eq!(bytes.len(), ANCHOR_BYTES);
            let (this, other) =
                (&bytes[slot * SLOT_BYTES..][..SLOT_BYTES], &bytes[(1 - slot) * SLOT_BYTES..][..SLOT_BYTES]);
            assert!(other == slots[1 - slot], "round {round}: the other slot was lost");
            torn += usize::from(this != slots[slot] && this != next);
        }
        slots[slot] = next;
        let done = fs.legal_images(fs.mark(), 10, 9);
        assert!(done.iter().all(|image| image["anchor"] == slots.concat()), "an acknowledged slot was lost");
    }
    assert!(torn > 0, "no image shows a torn slot, so this test proves nothing");
}

/// The suite must see a protocol that forgets its sync.
#[test]
fn a_replacement_without_a_sync_is_caught() {
    let fs = JournalFs::default();
    let (old, new) = (pattern(1_700, 1), pattern(1_700, 2));
    DiskHeader::on(disk(&fs)).write(0, &old).expect("writes");
    let mark = fs.mark();
    fs.create("aside", &new).expect("creates");
    fs.rename("aside", "vault.hdr.0").expect("renames");
    fs.sync_dir().expect("syncs");
    let broken =
        fs.legal_images(mark, CAP, 10).iter().any(|image| image["vault.hdr.0"] != old && image["vault.hdr.0"] != new);
    assert!(broken);
}
