//! The limits of the format, to the unit: the largest that is allowed reads back, and one more is rejected.

use super::*;
use crate::barrier::names::{StoreKey, bound};
use crate::barrier::node::{Node, decode_entry, encode_entry};
use crate::barrier::overlay::Pending;
use crate::barrier::state::{StateRecord, TermUse};
use crate::crypto::codec::Writer;
use crate::crypto::envelope::Kind;
use crate::crypto::hash::hmac_sha256;

const ENTRIES: MountId = MountId::POLICIES;

fn versions(count: u64) -> SecretMeta {
    let version = |version| VersionMeta { version, created_ms: 1, deleted_ms: 2, destroyed: true };
    SecretMeta { current: count, oldest: 1, versions: (1..=count).map(version).collect(), ..SecretMeta::default() }
}

fn with_meta(meta: SecretMeta) -> Node {
    Node { meta: Some(meta), ..Node::folder(1) }
}

/// A body of kind 03 as the format has it, with the segment and the version numbers.
fn node_body(segment: &str, current: u64, numbers: &[u64]) -> Vec<u8> {
    let mut out = Writer::new();
    out.u8(1).lp(segment.as_bytes()).u8(1).u32(0).u64(5).u64(6);
    out.u64(current).u64(1).u32(0).u8(0).u64(0).u32(0).u32(u32::try_from(numbers.len()).unwrap());
    for number in numbers {
        out.u64(*number).u64(1).u64(2).u8(1).bytes(&[0; 32]);
    }
    out.into_public()
}

#[test]
fn a_path_has_at_most_1024_bytes_and_16_segments() {
    let (disk, barrier) = Disk::new();
    let half = "h".repeat(512);
    let allowed = ["x".repeat(1_024), format!("{half}/{}", &half[1..]), ["s"; 16].join("/")];
    for path in &allowed {
        put(&barrier, path, b"1");
    }
    let refused = ["x".repeat(1_025), format!("{half}/{half}"), ["s"; 17].join("/"), "a//b".to_owned()];
    for path in &refused {
        assert!(matches!(barrier.begin().run(|tx| write(tx, path, b"1")), Err(BarrierError::Path(_))), "{path}");
        assert!(!barrier.view(MOUNT).exists(path));
    }
    drop(barrier);
    let (barrier, _) = disk.open().unwrap();
    for path in &allowed {
        assert_eq!(get(&barrier.view(MOUNT), path).unwrap().unwrap(), b"1");
    }
    assert_eq!(barrier.view(MOUNT).children("").unwrap().len(), 3);
}

#[test]
fn the_key_of_an_entry_has_1_to_1024_bytes() {
    let (disk, barrier) = Disk::new();
    let longest = "k".repeat(1_024);
    let mut group = barrier.begin();
    group.run(|tx| tx.put_entry(ENTRIES, &longest, b"value", 3)).unwrap();
    for key in [String::new(), "k".repeat(1_025)] {
        let refused = group.run(|tx| tx.put_entry(ENTRIES, &key, b"value", 3));
        assert!(matches!(refused, Err(BarrierError::Path(_))));
        let body = encode_entry(&key, b"value", 3);
        assert!(decode_entry(body.reveal()).is_err());
        // Such a key names nothing, even if a defect has put something in its place.
        let nothing = group.run(|tx| -> Result<bool, BarrierError> {
            let (start, place) = (tx.point(), tx.view(ENTRIES).entry_key(&key));
            tx.put(place, Pending { kind: Kind::Entry, path: bound(&ENTRIES, ""), body, version: None })?;
            let nothing = tx.view(ENTRIES).entry(&key)?.is_none();
            tx.back_to(&start);
            Ok(nothing)
        });
        assert!(nothing.unwrap());
    }
    finish(group);
    drop(barrier);
    let (barrier, _) = disk.open().unwrap();
    let view = barrier.view(ENTRIES);
    let entry = view.entry(&longest).unwrap().unwrap();
    assert_eq!((entry.value.reveal(), entry.not_after_ms), (b"value".as_slice(), 3));
    assert_eq!(view.entries().unwrap(), [longest]);
}

#[test]
fn a_secret_lists_at_most_1024_versions() {
    let body = with_meta(versions(1_024)).encode("name").unwrap();
    let (_, node) = Node::decode(body.reveal()).unwrap();
    assert_eq!(node.meta, Some(versions(1_024)));
    assert!(matches!(with_meta(versions(1_025)).encode("name"), Err(BarrierError::Versions(_))));
    let numbers: Vec<u64> = (1..=1_025).collect();
    let (_, node) = Node::decode(&node_body("name", 1_025, &numbers[..1_024])).unwrap();
    assert_eq!(node.meta.unwrap().versions.len(), 1_024);
    assert!(Node::decode(&node_body("name", 1_025, &numbers)).is_err());
}

#[test]
fn versions_ascend_from_1_to_the_current_one() {
    let numbers: [(u64, &[u64]); 5] = [(2, &[2, 1]), (2, &[1, 1]), (2, &[0, 1]), (1, &[1, 2]), (0, &[1])];
    for (current, numbers) in numbers {
        let version = |version: &u64| VersionMeta { version: *version, created_ms: 1, deleted_ms: 2, destroyed: true };
        let versions = numbers.iter().map(version).collect();
        let node = with_meta(SecretMeta { current, versions, ..SecretMeta::default() });
        assert!(matches!(node.encode("name"), Err(BarrierError::Versions(_))), "{current}: {numbers:?}");
        assert!(Node::decode(&node_body("name", current, numbers)).is_err());
    }
    assert!(Node::decode(&node_body("name", 9, &[2, 7])).is_ok());
}

#[test]
fn a_segment_has_1_to_1024_bytes_and_no_slash() {
    let one = |segment: &str| Node::decode(&node_body(segment, 1, &[1])).map(|(name, _)| name);
    assert_eq!(one(&"x".repeat(1_024)).unwrap().len(), 1_024);
    for segment in [String::new(), "x".repeat(1_025), "a/b".to_owned()] {
        assert!(one(&segment).is_err(), "{segment}");
    }
}

#[test]
fn a_state_counts_at_most_1024_terms() {
    let terms = |count| (1..=count).map(|term| TermUse { term, live: 1, seals: 2 }).collect();
    let full = StateRecord { terms: terms(1_024), ..StateRecord::sample() };
    assert_eq!(StateRecord::decode(full.encode().reveal()).unwrap().terms.len(), 1_024);
    let more = StateRecord { terms: terms(1_025), ..StateRecord::sample() };
    assert!(StateRecord::decode(more.encode().reveal()).is_err());
}

/// `docs/format.md`, "Names".
#[test]
fn names_are_those_of_the_format() {
    let (_disk, barrier) = Disk::new();
    let ring = barrier.ring.load();
    let id = |parts: &[&[u8]]| -> [u8; 16] { *hmac_sha256(ring.keyring.name.reveal(), parts).first_chunk().unwrap() };
    let root = id(&[b"r", barrier.vault_id().as_bytes(), &MOUNT.0]);
    let folder = id(&[b"n", &root, &[0, 0, 0, 3], b"app"]);
    let child = id(&[b"n", &folder, &[0, 0, 0, 2], b"db"]);
    let view = barrier.view(MOUNT);
    assert!(view.locate("app/db").unwrap().0 == StoreKey::node(&folder, &child));
    let entry = id(&[b"e", &root, &[0, 0, 1, 44], &[b'k'; 300]]);
    assert!(view.entry_key(&"k".repeat(300)) == StoreKey::entry(&root, &entry));
}
