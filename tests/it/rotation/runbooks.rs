//! The runbooks of docs/rotation.md, carried out as an operator would.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use strongroom::api::path::Path as SecretPath;
use strongroom::api::sys::CertificateRequest;
use strongroom::keys::{AuditState, Header, Keyring, Unlock, WeakKdf};

use super::house::{House, ask, copy, header_files, opened};
use super::postgres::{Site, login, logs_in};
use crate::support::process::PASSPHRASE;

/// Passphrase of an operator beside the first one.
const OTHER: &str = "another six random words entirely";

fn write(house: &House) {
    let client = house.client();
    for n in 0..30 {
        let path = SecretPath::parse(&format!("app/s{n}")).unwrap();
        client.kv("secret").put_pairs(&path, &[("K", &format!("value {n}").as_str().into())]).unwrap();
    }
}

fn read(house: &House) {
    let client = house.client();
    for n in 0..30 {
        let path = SecretPath::parse(&format!("app/s{n}")).unwrap();
        assert_eq!(client.kv("secret").pairs(&path).unwrap().unwrap()[0].1.reveal(), format!("value {n}"));
    }
}

/// Puts the header of `from` into the vault's folder in place of its own.
fn put_header(from: &Path, house: &House) {
    for path in header_files(&house.data) {
        fs::remove_file(path).unwrap();
    }
    for path in header_files(from) {
        fs::copy(&path, house.data.join(path.file_name().unwrap())).unwrap();
    }
}

/// With the header of `older` the vault as it is now opens neither by the passphrase nor by the key file.
fn older_header_opens_nothing(house: &House, older: &Path) {
    let now = house.copy("now");
    put_header(older, house);
    // The key file is tried by the daemon itself at its start.
    house.start();
    assert!(house.client().sys().seal_status().unwrap().sealed, "an old header opens the new store");
    let refused = house.refuses(PASSPHRASE).expect("an old header and its passphrase must not open the new store");
    assert!(!refused.contains("value"), "{refused}");
    house.kill();
    copy(&now, &house.data);
    house.start();
    read(house);
}

/// Number of the audit key that signs.
fn active_audit(keyring: &Keyring) -> Option<u32> {
    keyring.audit.iter().find(|key| key.state == AuditState::Active).map(|key| key.id)
}

#[test]
fn passphrase_leaked() {
    let house = House::open("redb", "");
    write(&house);
    house.stop();
    let older = house.copy("older");
    house.start();
    // The header that the thief copied does open by the passphrase: that is why changing it would not be enough.
    let stolen = opened(&older, &Unlock::Passphrase(PASSPHRASE.as_bytes()));
    let stolen_audit = active_audit(&stolen.keyring);
    let request = strongroom::pki::request(strongroom::pki::KeyType::P256).unwrap();
    let keep = json!([house.by_file()]);
    let body = json!({ "keep": keep, "compromised": "passphrase", "deep": true, "csr": request.csr_pem });
    let before = house.client();
    let begun = house.post("sys/strongroom/rekey", &body);
    assert_eq!(begun["kind"], "compromised");
    house.recertify(&begun["certified"], request.key_pem.reveal());
    assert!(ask(&before, "GET", "sys/strongroom/ca", &Value::Null).is_err(), "the old certificate");
    let run = house.settle();
    assert_eq!(run["state"], "done", "{run}");
    // Each step has its result.
    let steps = run["steps"].to_string();
    for step in [
        "root key and integrity set",
        "removed as compromised",
        "data key",
        "audit key",
        "certificate authority",
        "old integrity set",
        "destroy",
    ] {
        assert!(steps.contains(step), "{step} is missing: {steps}");
    }
    assert_eq!(house.term_states(), ["destroyed", "active"]);
    read(&house);
    let slots = house.get("sys/strongroom/slots");
    assert!(!slots.to_string().contains("\"passphrase\""), "{slots}");
    let fresh = house.header(&Unlock::KeyFile(&house.key()));
    assert_ne!(active_audit(&fresh.keyring), stolen_audit);
    assert!(
        fresh
            .keyring
            .terms
            .iter()
            .filter_map(|term| term.key.live())
            .all(|key| { stolen.keyring.terms.iter().filter_map(|term| term.key.live()).all(|old| !old.ct_eq(key)) })
    );
    house.stop();
    older_header_opens_nothing(&house, &older);
    // Nor does the passphrase open the new header.
    house.without_key_file();
    house.stop();
    house.start();
    assert!(house.refuses(PASSPHRASE).is_some());
}

#[test]
fn disk_stolen() {
    let house = House::open("redb", "");
    write(&house);
    house.stop();
    let stolen = house.copy("stolen");
    house.start();
    let keep = json!([house.by_file(), { "passphrase": PASSPHRASE }]);
    house.post("sys/strongroom/rekey", &json!({ "keep": keep }));
    house.settle();
    house.post("sys/rotate", &json!({ "deep": true, "full_speed": true }));
    let run = house.settle();
    assert_eq!(run["kind"], "data-key");
    assert!(run["done"].as_u64() >= Some(60), "nodes and values: {run}");
    assert_eq!(house.term_states(), ["destroyed", "active"]);
    read(&house);
    house.stop();
    older_header_opens_nothing(&house, &stolen);
    // Of what stands in the stolen header nothing is in force: no root key, no term, no integrity set.
    let (old, new) = (opened(&stolen, &Unlock::KeyFile(&house.key())), house.header(&Unlock::KeyFile(&house.key())));
    assert_ne!(old.keyring.newest_integrity().id, new.keyring.newest_integrity().id);
    for bytes in header_files(&house.data).iter().map(|path| fs::read(path).unwrap()) {
        let header = Header::parse(&bytes).unwrap();
        assert!(header.verify(old.root.header_keys()).is_err(), "the old root key vouches for the new header");
    }
    // Both secrets still open the vault.
    for unlock in [json!({ "passphrase": PASSPHRASE }), house.by_file()] {
        house.post("sys/strongroom/slots/test", &json!({ "unlock": unlock }));
    }
}

#[test]
fn key_term_suspected() {
    let house = House::open("redb", "");
    write(&house);
    house.stop();
    let older = house.copy("older");
    house.start();
    house.post("sys/rotate", &json!({ "full_speed": true }));
    let run = house.settle();
    assert_eq!(run["proofs"][0]["term"], 1);
    assert_eq!(house.term_states(), ["destroyed", "active"]);
    read(&house);
    house.stop();
    // A backup of the store alone is of no use under the header of today, and the daemon says which key is missing.
    let now = house.copy("now");
    for name in ["store", "anchor"] {
        copy(&older.join(name), &house.data.join(name));
    }
    let from = house.log().len();
    house.start();
    assert!(house.client().sys().seal_status().unwrap().sealed);
    assert!(house.log()[from..].contains("term 1 was destroyed"));
    house.kill();
    copy(&now, &house.data);
    house.start();
    read(&house);
}

#[test]
fn operator_left() {
    let house = House::open("redb", "");
    write(&house);
    // Bob comes: a slot, an identity, a certificate.
    let new = json!({ "type": "passphrase", "label": "bob", "passphrase": OTHER });
    house.post("sys/strongroom/slots/add", &json!({ "unlock": house.by_file(), "new": new }));
    let client = house.client();
    client.sys().put_policy("reader", r#"path "secret/data/app/*" { capabilities = ["read"] }"#).unwrap();
    client.sys().put_identity("operator/bob", &["reader"]).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let request = CertificateRequest { identity: "operator/bob".to_owned(), csr, ttl: None };
    let issued = client.sys().issue_certificate(&request).unwrap();
    let bundle = house.folder.path().join("bob");
    fs::create_dir(&bundle).unwrap();
    for (name, text) in [("ca.pem", &issued.ca), ("cert.pem", &issued.certificate), ("key.pem", &key.serialize_pem())] {
        fs::write(bundle.join(name), text).unwrap();
    }
    let bob = house.client_of(&bundle);
    let secret = SecretPath::parse("app/s1").unwrap();
    assert!(bob.kv("secret").pairs(&secret).unwrap().is_some());
    house.post("sys/strongroom/slots/test", &json!({ "unlock": { "slot": "bob", "passphrase": OTHER } }));

    // Bob leaves. What he cannot be made to forget is a copy of the header: that is the runbook of a leaked passphrase.
    house.post("sys/strongroom/slots/remove", &json!({ "slot": "bob", "unlock": house.by_file() }));
    client.sys().delete_identity("operator/bob").unwrap();
    assert!(bob.kv("secret").pairs(&secret).is_err(), "refused, or the connection is closed already");
    assert_eq!(house.client_of(&bundle).kv("secret").pairs(&secret).err().unwrap().status(), Some(403));
    let tried = json!({ "unlock": { "passphrase": OTHER } });
    let (status, _) = house.ask("POST", "sys/strongroom/slots/test", &tried);
    assert_eq!(status, 400);
    for path in header_files(&house.data) {
        let header = Header::parse(&fs::read(&path).unwrap()).unwrap();
        assert!(header.open(&Unlock::Passphrase(OTHER.as_bytes()), WeakKdf::Allow).is_err(), "{}", path.display());
    }
    house.without_key_file();
    house.stop();
    house.start();
    // His certificate is still valid, and the pattern of those who may unseal takes in his name: his secret does not open.
    let (status, refused) = ask(&house.client_of(&bundle), "POST", "sys/unseal", &json!({ "key": OTHER })).unwrap();
    assert_ne!(status, 200, "{refused}");
    assert!(house.client().sys().seal_status().unwrap().sealed);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(house.refuses(PASSPHRASE), None);
    read(&house);
}

#[test]
fn database_password_leaked() {
    let Some(site) = Site::new("lock_old = true\nterminate_old_sessions = true") else { return };
    let leaked = site.current();
    let connector = site.connector();
    assert!(logs_in(&connector, &leaked));
    // Somebody sits in a session with it.
    let mut thief = site
        .server
        .psql(&leaked.user, leaked.secret.reveal(), "SELECT pg_sleep(60)")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let session = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{}'", leaked.user);
    while site.server.sql(&session) == "0" {
        std::thread::sleep(Duration::from_millis(20));
    }
    site.order("rotate");
    let state = site.rest_after(1);
    assert_eq!((&state["current"], &state["previous"]), (&json!(2), &Value::Null));
    let fresh = site.current();
    assert!(fresh.user != leaked.user && logs_in(&connector, &fresh));
    assert!(!logs_in(&connector, &leaked), "the leaked login still works");
    assert!(!thief.wait().unwrap().success(), "the session of the thief goes on");
    assert_eq!(site.server.sql(&session), "0");
    // The role is not only renamed in the vault: it has no password at all.
    assert!(!logs_in(&connector, &login(&leaked.user, "")));
    let password = format!("SELECT rolpassword IS NULL FROM pg_authid WHERE rolname = '{}'", leaked.user);
    assert_eq!(site.server.sql(&password), "t");
}
