//! The key of a destroyed term: looked for in the header and in the daemon's memory; and the store of before, put back.

use std::fs;

use serde_json::json;
use strongroom::api::path::Path;
use strongroom::keys::{Opened, TermKey, TermState, Unlock};

use super::house::{House, copy, header_files, in_memory};

/// Bytes of a term's key, or `None` when it is destroyed.
fn term_key(opened: &Opened, term: u32) -> Option<[u8; 32]> {
    opened.keyring.term(term).and_then(|term| term.key.live()).map(|key| *key.reveal())
}

fn write(house: &House, count: usize) {
    let client = house.client();
    for n in 0..count {
        let path = Path::parse(&format!("app/s{n}")).unwrap();
        client.kv("secret").put_pairs(&path, &[("K", &format!("value {n}").as_str().into())]).unwrap();
    }
}

fn read(house: &House, count: usize) {
    let client = house.client();
    for n in 0..count {
        let path = Path::parse(&format!("app/s{n}")).unwrap();
        let pairs = client.kv("secret").pairs(&path).unwrap().unwrap();
        assert_eq!(pairs[0].1.reveal(), format!("value {n}"));
    }
}

#[test]
fn the_key_of_a_destroyed_term_is_in_no_header_and_in_no_memory() {
    let house = House::open("redb", "");
    write(&house, 100);
    read(&house, 100);
    let key_file = house.key();
    let before = house.header(&Unlock::KeyFile(&key_file));
    let old = term_key(&before, 1).unwrap();
    // The search works: this process has the key open, in a page of its own.
    let (own, _) = in_memory(std::process::id(), &old);
    assert!(own > 0, "the search does not find the key in this process");
    // A daemon whose kernel offers memfd_secret keeps its keys in pages that nobody may read from outside, so there the
    // search finds nothing even now, and the pages are told by their name. Elsewhere it must find the key.
    let maps = fs::read_to_string(format!("/proc/{}/maps", house.pid())).unwrap();
    let hidden = maps.contains("secretmem");
    let (found, whole) = in_memory(house.pid(), &old);
    println!("before: {found} copies, secret pages {hidden}, everything read {whole}");
    assert!(if hidden { found == 0 } else { found > 0 }, "{found} copies, secret pages: {hidden}");

    house.post("sys/rotate", &json!({ "full_speed": true, "deep": true }));
    house.settle();
    assert_eq!(house.term_states(), ["destroyed", "active"]);
    read(&house, 100);
    let (found, _) = in_memory(house.pid(), &old);
    assert_eq!(found, 0, "the old key is in the daemon's memory");
    let after = house.header(&Unlock::KeyFile(&key_file));
    let term = after.keyring.term(1).unwrap();
    assert!(term.state == TermState::Destroyed && matches!(term.key, TermKey::Destroyed(_)));
    assert!(after.keyring.terms.iter().all(|term| term.key.live().is_none_or(|key| *key.reveal() != old)));
    // Every copy of the header was replaced: the old one would still hold the key for whoever has the key file.
    for path in header_files(&house.data) {
        let header = strongroom::keys::Header::parse(&fs::read(&path).unwrap()).unwrap();
        let opened = header.open(&Unlock::KeyFile(&key_file), strongroom::keys::WeakKdf::Allow).unwrap();
        assert_eq!(term_key(&opened, 1), None, "{}", path.display());
    }
    // Nor does it stand anywhere in the folder in the clear.
    for (path, bytes) in crate::support::process::snapshot(&house.data) {
        assert!(!bytes.windows(32).any(|window| window == old), "{} holds the key", path.display());
    }
}

#[test]
fn the_store_of_before_is_refused_and_the_destroyed_term_is_named() {
    for deep in [false, true] {
        let house = House::open("redb", "");
        write(&house, 20);
        house.stop();
        let older = house.copy("older");
        house.start();
        house.post("sys/rotate", &json!({ "full_speed": true, "deep": deep }));
        house.settle();
        house.stop();
        let newer = house.copy("newer");
        for name in ["store", "anchor"] {
            // The store's folder has the name that the layout gives it; the anchor may be one file or more.
            let entries = fs::read_dir(&older).unwrap().flatten();
            for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(name)) {
                copy(&entry.path(), &house.data.join(entry.file_name()));
            }
        }
        let from = house.log().len();
        house.start();
        let log = house.log()[from..].to_owned();
        assert!(house.client().sys().seal_status().unwrap().sealed, "an older store was opened: {log}");
        assert!(log.contains("term 1 was destroyed"), "{log}");
        house.kill();
        // With its own store the vault opens as before.
        copy(&newer, &house.data);
        house.start();
        read(&house, 20);
    }
}
