//! Frozen files of `tests/formats/v1`, read by the code that reads a store.

use std::path::PathBuf;

use super::super::lifecycle::heads::stamp_of;
use super::super::node::{Node, decode_entry, decode_value};
use super::super::state::StateRecord;
use super::*;
use crate::crypto::Key;
use crate::crypto::envelope::{self, Context, Kind};
use crate::keys::Opened;

fn file(name: &str) -> Vec<u8> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/formats/v1");
    std::fs::read(root.join(name)).unwrap()
}

fn rows(manifest: &str) -> serde_json::Value {
    serde_json::from_slice(&file(manifest)).unwrap()
}

fn hex(row: &serde_json::Value, field: &str) -> Vec<u8> {
    let text = row[field].as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn key_file() -> Vec<u8> {
    hex(&rows("suite-01/manifest.json"), "key_file")
}

fn open_header(name: &str) -> Result<Opened, HeaderError> {
    Header::parse(&file(name))?.open(&Unlock::KeyFile(&key_file()), WeakKdf::Allow)
}

/// The key of version 2 of the secret of suite-01.
fn version_key() -> Key {
    let node = rows("suite-01/manifest.json")["records"][0].clone();
    let body = hex(&node, "body");
    Key::fill_with(|out| out.copy_from_slice(&body[body.len() - 32..]))
}

/// Reads one record in the way of a start and of a later read: its head at its place, then the body.
fn read(record: &[u8], row: &serde_json::Value, opened: &Opened, state: &StateRecord) -> Result<(), String> {
    let (key, path) = (hex(row, "store_key"), hex(row, "path"));
    let Opened { header, keyring, .. } = opened;
    let head = envelope::head(record).unwrap();
    if key[0] != b's' {
        stamp_of(&key, &record[..92], header, keyring, state)?;
    }
    let version_key = version_key();
    let (kind, ikm) = match key[0] {
        b's' => (Kind::State, &keyring.integrity(head.term).unwrap().state),
        b'v' => (Kind::Value, &version_key),
        letter => {
            let kind = if letter == b'd' { Kind::Node } else { Kind::Entry };
            (kind, keyring.term(head.term).and_then(|term| term.key.live()).unwrap())
        }
    };
    let context = Context {
        suite: head.suite,
        kind,
        term: head.term,
        version: head.version,
        generation: head.generation,
        vault_id: header.vault_id.as_bytes(),
        store_key: &key,
        path: &path,
    };
    let body = envelope::open(ikm, &context, record).expect("sealed with the right key");
    let body = body.reveal();
    let read = match kind {
        Kind::State => StateRecord::decode(body).map(|_| ()),
        Kind::Node => Node::decode(body).map(|_| ()),
        Kind::Value => decode_value(body).map(|_| ()),
        _ => decode_entry(body).map(|_| ()),
    };
    read.map_err(|error| error.to_string())
}

fn state_of(folder: &str) -> StateRecord {
    let rows = rows(&format!("{folder}/manifest.json"));
    StateRecord::decode(&hex(&rows["records"][3], "body")).unwrap()
}

#[test]
fn the_records_of_the_frozen_vaults_are_read() {
    for folder in ["suite-01", "suite-02"] {
        let opened = open_header(&format!("{folder}/vault.hdr")).unwrap();
        for row in rows(&format!("{folder}/manifest.json"))["records"].as_array().unwrap() {
            let record = file(&format!("{folder}/{}", row["file"].as_str().unwrap()));
            if folder == "suite-02" && row["kind"] == 4 {
                continue;
            }
            read(&record, row, &opened, &state_of(folder)).unwrap();
        }
    }
}

/// Every file is sealed with the right keys and breaks one rule of the format.
#[test]
fn what_the_format_forbids_is_refused_although_it_is_authentic() {
    let mut accepted = Vec::new();
    for row in rows("refused/manifest.json").as_array().unwrap() {
        let name = row["file"].as_str().unwrap();
        let taken = if let Some(header) = row["header"].as_str() {
            let opened = open_header(header).unwrap();
            read(&file(&format!("refused/{name}")), row, &opened, &state_of("suite-01")).is_ok()
        } else if name == "no-slot.hdr" {
            Header::parse(&file("refused/no-slot.hdr")).is_ok()
        } else {
            open_header(&format!("refused/{name}")).is_ok()
        };
        if taken {
            accepted.push(name.to_owned());
        }
    }
    assert!(accepted.is_empty(), "{accepted:?}");
}

/// What the store and the anchor say of each other is the matter of `attacks`; here, which slots count and for what.
#[test]
fn the_slots_of_the_frozen_anchors_are_read() {
    let Opened { header, keyring, .. } = open_header("suite-01/vault.hdr").unwrap();
    let commitment = envelope::commitment(&file("suite-01/state.rec")).unwrap();
    let key = crate::crypto::hash::MacKey::new(&keyring.newest_integrity().anchor);
    // File, generation of the best slot, whether it vouches for the state, whether the slots disagree.
    for (name, generation, vouches, forked) in [
        ("good", Some(5), true, false),
        ("torn", Some(4), false, false),
        ("first", Some(1), false, false),
        ("two-behind", Some(3), false, false),
        ("other-place", Some(5), true, false),
        ("emptied", Some(5), true, false),
        ("other-state", Some(5), false, false),
        ("ahead", Some(6), true, false),
        ("other-incarnation", Some(5), true, true),
        ("short", None, false, false),
        ("blank", None, false, false),
        ("epoch-0", None, false, false),
        ("after-the-fields", None, false, false),
    ] {
        let found = anchor::read(&file(&format!("anchor/{name}")), &header.vault_id, &keyring);
        let best = found.best.as_ref().map(|slot| slot.mark.generation);
        let vouched = found.best.as_ref().is_some_and(|slot| slot.vouches_for(&key, &commitment));
        assert_eq!((best, vouched, found.forked), (generation, vouches, forked), "{name}");
    }
    let mark = anchor::Mark {
        epoch: header.epoch,
        incarnation: header.incarnation,
        generation: 5,
        iks_id: keyring.newest_integrity().id,
    };
    assert!(mark.encode(&header.vault_id, &key, &commitment) == file("anchor/good")[4096..]);
}
