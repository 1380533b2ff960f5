//! Format v1 is frozen: the vectors in `tests/formats/v1` are rebuilt byte for byte and opened again.
//!
//! `STRONGROOM_REGENERATE=1` writes them anew; a difference is a new format version, never a fix.

use std::path::PathBuf;

use strongroom::crypto::codec::Writer;
use strongroom::crypto::derive::label;
use strongroom::crypto::envelope::{self, Context, Kind, Suite};
use strongroom::crypto::hash::{MacKey, SetHash, hmac_sha256};
use strongroom::crypto::password::OPEN_FLOOR;
use strongroom::crypto::random::{Random, SeededRandom};
use strongroom::keys::{Header, NewSlot, Opened, Unlock, VaultId, WeakKdf};

const PASSPHRASE: &[u8] = b"seven dull words make one good passphrase";
const KEY_FILE: &[u8] = b"0123456789abcdef0123456789abcdef-key-file";
const VAULT: VaultId = VaultId(*b"format-v1-vector");
const MOUNT: &[u8; 16] = b"mount-of-vectors";
const NOW: u64 = 1_767_225_600_000;
const GENERATION: u64 = 5;

struct Vector {
    file: &'static str,
    kind: Kind,
    term: u32,
    version: u64,
    store_key: Vec<u8>,
    path: Vec<u8>,
    body: Vec<u8>,
}

fn directory(suite: Suite) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/formats/v1");
    root.join(if suite == Suite::Aes256Gcm { "suite-01" } else { "suite-02" })
}

fn id(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    hmac_sha256(key, parts)[..16].try_into().unwrap()
}

/// A node, one of its versions and an entry; the state record follows from them.
fn vectors(opened: &Opened, dk: &[u8; 32]) -> Vec<Vector> {
    let name = opened.keyring.name.reveal();
    let root = id(name, &[label::ROOT_ID, &VAULT.0, MOUNT]);
    let node = id(name, &[label::NODE_ID, &root, &2u32.to_be_bytes(), b"db"]);
    let entry = id(name, &[label::ENTRY_ID, &root, &5u32.to_be_bytes(), b"admin"]);

    let mut body = Writer::new();
    body.u8(1).lp(b"db").u8(1).u32(0).u64(NOW).u64(NOW);
    body.u64(2).u64(1).u32(10).u8(0).u64(0).u32(1).lp(b"owner").lp(b"ops").u32(2);
    body.u64(1).u64(NOW).u64(0).u8(1).bytes(&[0; 32]).u64(2).u64(NOW).u64(0).u8(0).bytes(dk);
    let node_body = body.as_slice().to_vec();
    let mut body = Writer::new();
    body.u8(1).u64(NOW).lp(br#"{"password":"hunter2"}"#);
    let value_body = body.as_slice().to_vec();
    let mut body = Writer::new();
    body.u8(1).lp(b"admin").u64(0).lp(br#"path "*" { capabilities = ["read"] }"#);

    vec![
        Vector {
            file: "node.rec",
            kind: Kind::Node,
            term: 1,
            version: 2,
            store_key: [b"d", &root[..], &node].concat(),
            path: MOUNT.to_vec(),
            body: node_body,
        },
        Vector {
            file: "value.rec",
            kind: Kind::Value,
            term: 0,
            version: 2,
            store_key: [b"v", &node[..], &2u64.to_be_bytes()].concat(),
            path: [&MOUNT[..], b"db"].concat(),
            body: value_body,
        },
        Vector {
            file: "entry.rec",
            kind: Kind::Entry,
            term: 1,
            version: 1,
            store_key: [b"e", &root[..], &entry].concat(),
            path: MOUNT.to_vec(),
            body: body.as_slice().to_vec(),
        },
    ]
}

fn context<'a>(suite: Suite, vector: &'a Vector) -> Context<'a> {
    Context {
        suite,
        kind: vector.kind,
        term: vector.term,
        version: vector.version,
        generation: GENERATION,
        vault_id: &VAULT.0,
        store_key: &vector.store_key,
        path: &vector.path,
    }
}

fn state(opened: &Opened, records: &[(&Vector, &[u8])]) -> Vector {
    let set = opened.keyring.newest_integrity();
    let leaves = MacKey::new(&set.set);
    let mut sum = SetHash::empty();
    for (vector, record) in records {
        let length = u32::try_from(vector.store_key.len()).unwrap().to_be_bytes();
        let commitment = envelope::commitment(record).unwrap();
        sum.add(leaves.mac(&[label::LEAF, &length, &vector.store_key, &record[..28], &commitment]));
    }
    let header = &opened.header;
    let mut body = Writer::new();
    body.u8(1).u16(0).u32(header.epoch).bytes(&header.incarnation).u64(GENERATION).bytes(sum.reveal());
    body.u64(3).u64(header.seq).bytes(&header.mac).u64(9).bytes(&[0xab; 32]).u64(NOW).u32(1);
    body.u32(1).u32(1).u64(2).u64(4);
    Vector {
        file: "state.rec",
        kind: Kind::State,
        term: set.id,
        version: GENERATION,
        store_key: vec![b's', 0, 0],
        path: Vec::new(),
        body: body.as_slice().to_vec(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn build(suite: Suite) -> Vec<(String, Vec<u8>)> {
    let random = SeededRandom::new(0x5352_0001);
    let slots = [
        NewSlot { label: "operator", secret: Unlock::Passphrase(PASSPHRASE), params: OPEN_FLOOR },
        NewSlot { label: "unattended", secret: Unlock::KeyFile(KEY_FILE), params: OPEN_FLOOR },
    ];
    let (header, opened) = Header::create_with(VAULT, &slots, &random, NOW, suite, WeakKdf::Allow).unwrap();
    let mut dk = [0; 32];
    random.fill(&mut dk).unwrap();
    let hedge = MacKey::new(&opened.keyring.newest_integrity().hedge);
    let list = vectors(&opened, &dk);
    let term = opened.keyring.active_term().key.live().unwrap();
    let data_key = strongroom::crypto::Key::fill_with(|out| out.copy_from_slice(&dk));
    let seal =
        |vector: &Vector, key| envelope::seal(key, &context(suite, vector), &hedge, &random, &vector.body).unwrap();
    let records: Vec<Vec<u8>> =
        list.iter().map(|v| seal(v, if v.kind == Kind::Value { &data_key } else { term })).collect();
    let pairs: Vec<_> = list.iter().zip(records.iter().map(Vec::as_slice)).collect();
    let state = state(&opened, &pairs);
    let sealed_state = seal(&state, &opened.keyring.newest_integrity().state);

    let rows: Vec<String> = list
        .iter()
        .chain([&state])
        .map(|v| {
            format!(
                "    {{\"file\": \"{}\", \"kind\": {}, \"store_key\": \"{}\", \"path\": \"{}\", \"body\": \"{}\"}}",
                v.file,
                v.kind.byte(),
                hex(&v.store_key),
                hex(&v.path),
                hex(&v.body)
            )
        })
        .collect();
    let manifest = format!(
        "{{\n  \"passphrase\": \"{}\",\n  \"key_file\": \"{}\",\n  \"mount_id\": \"{}\",\n  \"records\": [\n{}\n  ]\n}}\n",
        String::from_utf8(PASSPHRASE.to_vec()).unwrap(),
        hex(KEY_FILE),
        hex(MOUNT),
        rows.join(",\n")
    );
    let mut files = vec![("vault.hdr".to_owned(), header), ("state.rec".to_owned(), sealed_state)];
    files.extend(list.iter().zip(records).map(|(v, record)| (v.file.to_owned(), record)));
    files.push(("manifest.json".to_owned(), manifest.into_bytes()));
    files
}

#[test]
fn v1_is_written_byte_for_byte() {
    for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
        let directory = directory(suite);
        for (name, bytes) in build(suite) {
            if std::env::var_os("STRONGROOM_REGENERATE").is_some() {
                std::fs::create_dir_all(&directory).unwrap();
                std::fs::write(directory.join(&name), &bytes).unwrap();
            }
            assert!(std::fs::read(directory.join(&name)).unwrap() == bytes, "{suite:?} {name} differs");
        }
    }
}

#[test]
fn v1_opens_with_both_secrets() {
    for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
        let read = |name: &str| std::fs::read(directory(suite).join(name)).unwrap();
        let header = Header::parse(&read("vault.hdr")).unwrap();
        for unlock in [Unlock::Passphrase(PASSPHRASE), Unlock::KeyFile(KEY_FILE)] {
            let opened = header.open(&unlock, WeakKdf::Refuse).unwrap();
            let term = opened.keyring.active_term().key.live().unwrap();
            let node = &vectors(&opened, &[0; 32])[0];
            let body = envelope::open(term, &context(suite, node), &read("node.rec")).unwrap();
            let dk: [u8; 32] = body.reveal()[node.body.len() - 32..node.body.len()].try_into().unwrap();
            let data_key = strongroom::crypto::Key::fill_with(|out| *out = dk);
            let list = vectors(&opened, &dk);
            let records: Vec<Vec<u8>> = list.iter().map(|v| read(v.file)).collect();
            let pairs: Vec<_> = list.iter().zip(records.iter().map(Vec::as_slice)).collect();
            let state = state(&opened, &pairs);
            for vector in list.iter().chain([&state]) {
                let key = match vector.kind {
                    Kind::Value => &data_key,
                    Kind::State => &opened.keyring.newest_integrity().state,
                    _ => term,
                };
                let body = envelope::open(key, &context(suite, vector), &read(vector.file)).unwrap();
                assert_eq!(body.reveal()[..vector.body.len()], vector.body[..], "{}", vector.file);
            }
        }
    }
}
