//! A listener of an outside PKI: what clients are told, and what that changes for a rotation of the authorities.

use std::sync::Arc;

use crate::core::{Caller, Clock, Listener, Pin, VaultError};
use crate::crypto::random::SystemRandom;
use crate::pki::{self, Authority};

use super::identities::{Key, bundle, enroll, enrolled, holder, string, works};
use super::support::{Rig, json};

/// Some root of somebody else, DER.
fn root(rig: &Rig) -> Vec<u8> {
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};
    let now_ms = rig.clock.now_ms();
    let made = Authority::create("elsewhere.example", Arc::new(SystemRandom), now_ms, 86_400).expect("made");
    CertificateDer::from_pem_slice(made.cert_pem().as_bytes()).expect("PEM").to_vec()
}

fn outside(roots: &[&Vec<u8>]) -> Listener {
    let pin = pki::key_fingerprint(roots.first().expect("one")).expect("legal");
    Listener { roots: roots.iter().map(|der| (*der).clone()).collect(), pin: Pin::Key(pin) }
}

fn stragglers(rig: &Rig) -> String {
    rig.read(&rig.operator(), "sys/strongroom/ca/stragglers").expect("shown")["identities"].to_string()
}

fn is_current(rig: &Rig, identity: &str) -> serde_json::Value {
    let report = rig.read(&rig.operator(), "sys/strongroom/identity-report").expect("shown");
    report["identities"][identity]["bundle_current"].clone()
}

#[test]
fn the_roots_are_in_the_bundle_and_its_name_and_nobody_is_accepted_by_them() {
    let rig = Rig::new();
    let operator = rig.operator();
    let before = rig.read(&operator, "sys/strongroom/ca").expect("public");
    assert!(before.get("server_ca").is_none());
    let trusted = rig.vault.trust().borrow().clone();
    let root = root(&rig);
    rig.vault.set_listener(outside(&[&root]));
    let after = rig.read(&operator, "sys/strongroom/ca").expect("public");
    let text = |value: &serde_json::Value, field: &str| value[field].as_str().expect("text").to_owned();
    assert_eq!(text(&after, "bundle"), text(&before, "bundle") + &pki::pem(&root));
    assert_eq!(text(&after, "server_ca"), pki::pem(&root));
    assert_eq!(rig.vault.ca_pem().expect("open"), text(&after, "bundle"));
    assert_ne!(after["id"], before["id"]);
    assert_eq!(*rig.vault.trust().borrow(), trusted, "clients are accepted as before");

    let (_, first) = enrolled(&rig, "app/web");
    assert_eq!((first.ca, first.server_ca), (text(&after, "bundle"), pki::pem(&root)));
    assert_eq!(string(&rig, "app/web", "").pin(), &pki::key_fingerprint(&root).expect("legal"));
    let renewed = rig.write(&holder(&rig, &first.certificate), "sys/strongroom/renew", &Key::new().body());
    assert_eq!(json(&renewed.expect("renewed"))["ca"], after["bundle"]);
    rig.vault.seal();
    rig.unseal().expect("opens");
    assert_eq!(rig.read(&operator, "sys/strongroom/ca").expect("public"), after);

    // An authority of ours that is named as a root, too, stands there once.
    let own = rig.vault.trust().borrow().authorities[0].der.clone();
    rig.vault.set_listener(outside(&[&own]));
    assert_eq!(rig.read(&operator, "sys/strongroom/ca").expect("public"), before);
}

#[test]
fn a_string_is_not_made_for_a_listener_that_nobody_could_verify() {
    let rig = Rig::new();
    rig.admit("app/web", "app", r#"path "secret/data/app/*" { capabilities = ["read"] }"#);
    rig.vault.set_listener(Listener { roots: Vec::new(), pin: Pin::Unknown });
    let body = r#"{"addresses":["vault.example:8201"]}"#;
    match rig.write(&rig.operator(), "sys/strongroom/enrollments/app/web", body) {
        Err(VaultError::BadRequest(text)) => assert!(text.contains("tls.ca"), "{text}"),
        other => panic!("expected a refusal, got {:?}", other.err()),
    }
    rig.vault.set_listener(Listener::default());
    enroll(&rig, &string(&rig, "app/web", ""), &Key::new()).expect("enrolled");
}

#[test]
fn another_root_neither_holds_up_a_rotation_nor_lets_it_pass() {
    let rig = Rig::new();
    let (one, two) = (root(&rig), root(&rig));
    let (_, first) = enrolled(&rig, "app/web");
    let seen = |with: Option<[u8; 16]>| {
        rig.clock.advance(2_000);
        assert!(works(&rig, &Caller { bundle: with, ..holder(&rig, &first.certificate) }));
    };
    let olga = |with: Option<[u8; 16]>| {
        rig.clock.advance(2_000);
        rig.read(&Caller { bundle: with, ..rig.operator() }, "sys/strongroom/ca").expect("public");
    };
    let both = |with: Option<[u8; 16]>| {
        seen(with);
        olga(with);
    };
    let plain = bundle(&rig);
    both(plain);
    assert_eq!(stragglers(&rig), "[]");

    // A root comes, another one, and the first goes: whoever has the authorities has them.
    let mut bundles = vec![plain];
    for roots in [vec![&one], vec![&one, &two], vec![&two]] {
        rig.vault.set_listener(outside(&roots));
        bundles.push(bundle(&rig));
        assert_eq!(stragglers(&rig), "[]", "{} roots", roots.len());
        assert_eq!(is_current(&rig, "app/web"), false, "but it does not have this bundle");
    }
    for old in &bundles {
        both(*old);
        assert_eq!((stragglers(&rig), is_current(&rig, "app/web")), ("[]".to_owned(), (old == &bundles[3]).into()));
    }

    // The next authority: none of the bundles from before is enough, and today's is with any roots that there were.
    let id = json(&rig.write(&rig.operator(), "sys/strongroom/ca/prepare", "{}").expect("prepared"))["id"].clone();
    let trust = format!("sys/strongroom/ca/{}/trust", id.as_str().expect("text"));
    for old in &bundles {
        both(*old);
        assert_eq!(stragglers(&rig), r#"["app/web","ops/olga"]"#);
        assert!(rig.write(&rig.operator(), &trust, "{}").is_err());
    }
    let with_two = bundle(&rig);
    both(with_two);
    assert_eq!(stragglers(&rig), "[]");
    rig.vault.set_listener(outside(&[&one]));
    assert_eq!(stragglers(&rig), "[]");
    // Also after a restart, in which the daemon names the newest roots first.
    rig.vault.note_sightings().expect("written");
    let again = rig.restart();
    again.vault.set_listener(outside(&[&one]));
    again.unseal().expect("opens");
    assert_eq!(stragglers(&again), "[]");
    seen_again(&again, &first.certificate, with_two);
    again.write(&again.operator(), &trust, "{}").expect("everybody has it");
}

fn seen_again(rig: &Rig, certificate: &str, with: Option<[u8; 16]>) {
    rig.clock.advance(2_000);
    assert!(works(rig, &Caller { bundle: with, ..holder(rig, certificate) }));
    assert_eq!(stragglers(rig), "[]");
}

#[test]
fn a_certificate_that_the_listener_does_not_show_holds_up_no_authority() {
    let rig = Rig::new();
    let operator = rig.operator();
    rig.vault.issue_server(&["localhost".to_owned()], 3_600).expect("issued");
    let ca = |path: &str, body: &str| rig.write(&operator, &format!("sys/strongroom/ca/{path}"), body);
    let first = rig.read(&operator, "sys/strongroom/ca").expect("public")["authorities"][0]["id"].clone();
    let next = json(&ca("prepare", "{}").expect("prepared"))["id"].as_str().expect("text").to_owned();
    for verb in ["trust", "activate"] {
        ca(&format!("{next}/{verb}"), r#"{"force":true}"#).expect("forced");
    }
    let remove = || match ca(&format!("{}/remove", first.as_str().expect("text")), "{}") {
        Err(VaultError::Because(_, text)) => text,
        other => panic!("the operator has a certificate of it: {:?}", other.err()),
    };
    assert!(remove().contains("server"), "{}", remove());
    rig.vault.set_listener(outside(&[&root(&rig)]));
    assert!(!remove().contains("server"), "{}", remove());
    // Somebody else may have put a certificate there that is ours all the same.
    let own = rig.vault.trust().borrow().authorities.iter().map(|anchor| anchor.der.clone()).collect::<Vec<_>>();
    let old = own.iter().find(|der| pki::AuthorityId::of(der).hex() == first).expect("there");
    rig.vault.set_listener(Listener { roots: Vec::new(), ..outside(&[old]) });
    assert!(remove().contains("server"), "{}", remove());
}
