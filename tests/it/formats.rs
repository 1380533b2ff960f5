//! Format v1 is frozen: the vectors in `tests/formats/v1` are rebuilt byte for byte and opened again.
//!
//! `STRONGROOM_REGENERATE=1` writes them anew; a difference is a new format version, never a fix. The files of `audit`,
//! `anchor` and `refused` come from `tests/formats/make_vectors.py`, which knows the document only.

use std::path::PathBuf;

use strongroom::api::hex::hex;
use strongroom::audit::verify::verify;
use strongroom::audit::{AuditHead, AuditKeys, Broker, FileDevice, LogKey};
use strongroom::crypto::codec::Writer;
use strongroom::crypto::derive::label;
use strongroom::crypto::envelope::{self, Context, Kind, Suite};
use strongroom::crypto::hash::{MacKey, SetHash, hmac_sha256};
use strongroom::crypto::password::OPEN_FLOOR;
use strongroom::crypto::random::{Random, SeededRandom};
use strongroom::keys::{Header, NewSlot, Opened, Unlock, VaultId, WeakKdf};
use strongroom::store::Batch;

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

fn frozen(name: &str) -> Vec<u8> {
    std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/formats/v1").join(name)).unwrap()
}

/// Keys of the frozen vault as the audit log takes them.
fn audit_key() -> strongroom::keys::AuditKey {
    let header = Header::parse(&frozen("suite-01/vault.hdr")).unwrap();
    let opened = header.open(&Unlock::KeyFile(KEY_FILE), WeakKdf::Refuse).unwrap();
    opened.keyring.audit[0].duplicate()
}

#[test]
fn v1_audit_logs_verify_or_are_refused_where_they_are_bad() {
    let key = audit_key();
    let mut keys = AuditKeys::one(key.id, &key.mac);
    keys.add_public(key.id, strongroom::crypto::sign::public(&key.sign));
    let manifest: serde_json::Value = serde_json::from_slice(&frozen("audit/manifest.json")).unwrap();
    for row in manifest["files"].as_array().unwrap() {
        let name = row["file"].as_str().unwrap();
        let log = frozen(&format!("audit/{name}"));
        let report = verify([(name, log.as_slice())], &keys, None);
        let Some(refusal) = row["refusal"].as_str() else {
            assert!(report.is_good(), "{name}: {:?}", report.findings);
            let number = |field: &str| row[field].as_u64().unwrap();
            assert_eq!((report.entries, report.checkpoints), (number("lines"), number("checkpoints")), "{name}");
            assert_eq!(Some(hex(&report.last.hash).as_str()), row["head"].as_str());
            continue;
        };
        // The decoder's words differ; the line must not.
        let line = refusal.split_once(':').map_or(14, |(line, _)| line.parse().unwrap());
        assert_eq!(report.findings.first().map(|finding| finding.line), Some(line), "{name}: {:?}", report.findings);
    }
}

#[test]
fn v1_audit_values_are_hashed_as_the_vault_hashes_them() {
    let folder = tempfile::tempdir().unwrap();
    let key = audit_key();
    let keys = AuditKeys::one(key.id, &key.mac);
    let path = folder.path().join("audit.log");
    let (device, resume) = FileDevice::recover(&path, &keys, AuditHead::default(), NOW).unwrap();
    let key = LogKey { id: key.id, mac: key.mac, sign: key.sign };
    let broker = Broker::open(Box::new(device), key, resume).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&frozen("audit/manifest.json")).unwrap();
    assert_eq!(broker.hash(manifest["value"].as_str().unwrap().as_bytes()), manifest["hmac"].as_str().unwrap());
}

/// The rows of both engines as `docs/format.md` lays them out, read and written past `strongroom::store`.
#[test]
fn the_rows_of_a_store_lie_as_documented() {
    const LONG: usize = 7_000;
    let (short, long) = ([b"d", &[1; 32][..]].concat(), [b"v", &[2; 24][..]].concat());
    let (short_record, long_record) = (vec![3; 376], (0..LONG).map(|at| at.to_le_bytes()[0]).collect::<Vec<u8>>());
    let fill = |engine| {
        let folder = tempfile::tempdir().unwrap();
        let store = strongroom::store::open(engine, folder.path(), true).unwrap();
        store.commit(Batch::default().put(short.clone(), short_record.clone())).unwrap();
        store.commit(Batch::default().put(long.clone(), long_record.clone()).put("gone", "1")).unwrap();
        store.commit(Batch::default().delete("gone")).unwrap();
        folder
    };
    let row = |revision: u64, record: &[u8]| [&revision.to_be_bytes()[..], record].concat();

    let folder = fill("redb");
    let database = redb::Database::open(folder.path().join("strongroom.redb")).unwrap();
    let transaction = redb::ReadableDatabase::begin_read(&database).unwrap();
    let read = |table: &str| -> Vec<(Vec<u8>, Vec<u8>)> {
        let table = redb::TableDefinition::<&[u8], &[u8]>::new(table);
        let table = transaction.open_table(table).unwrap();
        let rows = redb::ReadableTable::iter(&table).unwrap();
        rows.map(|row| row.unwrap()).map(|(key, value)| (key.value().to_vec(), value.value().to_vec())).collect()
    };
    let whole = [(short.clone(), row(1, &short_record)), (long.clone(), row(2, &long_record))];
    assert!(read("records") == whole);
    let heads = [(short.clone(), short_record[..92].to_vec()), (long.clone(), long_record[..92].to_vec())];
    assert!(read("heads") == heads);
    let meta = transaction.open_table(redb::TableDefinition::<&str, u64>::new("meta")).unwrap();
    assert_eq!(meta.get("sequence").unwrap().map(|row| row.value()), Some(3));
    let mut tables: Vec<String> =
        transaction.list_tables().unwrap().map(|table| redb::TableHandle::name(&table).to_owned()).collect();
    tables.sort();
    assert_eq!(tables, ["heads", "meta", "records"]);

    let folder = fill("sled");
    let config = sled::Config::new().path(folder.path().join("strongroom.sled"));
    // sled gives its lock back from a thread of its own, a moment after the last handle is gone.
    let database = (0..200)
        .find_map(|_| config.open().inspect_err(|_| std::thread::sleep(std::time::Duration::from_millis(25))).ok())
        .unwrap();
    let rows: Vec<(Vec<u8>, Vec<u8>)> =
        database.iter().map(|row| row.unwrap()).map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
    let piece = |n: u32| [b"c", &25u16.to_be_bytes()[..], &long, &n.to_be_bytes()].concat();
    let head = |revision: u64, record: &[u8], first: &[u8]| {
        let length = u32::try_from(record.len()).unwrap().to_be_bytes();
        [&revision.to_be_bytes()[..], &length, first].concat()
    };
    let documented = [
        (piece(1), long_record[3_000..6_000].to_vec()),
        (piece(2), long_record[6_000..].to_vec()),
        (b"m".to_vec(), 3u64.to_be_bytes().to_vec()),
        ([b"r", &short[..]].concat(), head(1, &short_record, &short_record)),
        ([b"r", &long[..]].concat(), head(2, &long_record, &long_record[..3_000])),
    ];
    assert!(rows == documented);
    assert_eq!(database.tree_names(), ["__sled__default"]);
}
