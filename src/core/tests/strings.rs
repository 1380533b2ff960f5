//! How often a string works, and what ends it.

use std::sync::Arc;

use super::identities::{CHANNEL, Key, alarms, attempt, bundle, enroll, string};
use super::support::{Rig, json, wait};
use crate::api::enroll::EnrollRequest;
use crate::api::error::Reason;
use crate::api::hex::hex;
use crate::api::reply::Reply;
use crate::api::request::Operation;
use crate::core::commit::change::Done;
use crate::core::commit::committer::{Job, Work};
use crate::core::pipeline::audited::Facts;
use crate::core::state::enrolment::{self as strings, Use};
use crate::core::{Caller, VaultError};
use crate::enroll::EnrollString;

/// Changes records as the vault itself.
fn change(rig: &Rig, work: impl FnOnce(&mut crate::barrier::Tx<'_>) -> Result<(), VaultError> + Send + 'static) {
    let live = rig.vault.live().expect("open");
    let ports = &rig.vault.ports;
    let facts =
        Facts::by_vault(super::support::DOMAIN, "test", "test".to_owned(), ports.clock.now_ms(), &*ports.random);
    let (sender, answer) = tokio::sync::oneshot::channel();
    let work = Work::Records(Box::new(move |tx, _, _| work(tx).map(|()| Done::of(Reply::none()))));
    live.committer.submit(Job { facts: Arc::new(facts.expect("made")), work, answer: sender }).expect("queued");
    wait(answer).expect("answered").expect("done");
}

#[test]
fn strings_that_nobody_made_cost_no_commit_and_no_line() {
    let rig = Rig::new();
    rig.admit("app/web", "app", r#"path "secret/data/app/*" { capabilities = ["read"] }"#);
    let (made, key) = (string(&rig, "app/web", ""), Key::new());
    let before = (rig.log().len(), rig.vault.mark().expect("open").generation);
    for n in 0..32 {
        let unknown = EnrollRequest { id: [n; 16], ..attempt(&made, &key) };
        assert!(matches!(wait(rig.vault.enroll(unknown, CHANNEL)), Err(VaultError::Forbidden)));
    }
    assert_eq!((rig.log().len(), rig.vault.mark().expect("open").generation), before);
    enroll(&rig, &made, &key).expect("the one that was made");
    assert!(rig.log().len() > before.0);
}

#[test]
fn a_string_works_as_often_as_it_says() {
    let rig = Rig::new();
    let operator = rig.operator();
    rig.admit("app/web", "app", r#"path "secret/data/app/*" { capabilities = ["read"] }"#);
    let mut networks: Vec<String> = (1..32).map(|n| format!("2001:db8:ffff:ffff:ffff:ffff:ffff:{n:x}/128")).collect();
    networks.push("192.0.2.0/24".to_owned());
    let make = |uses: usize| {
        let body = serde_json::json!({
            "addresses": ["a.rather.long.name.of.the.vault.example:8201"],
            "cidr": networks,
            "uses": uses,
        });
        rig.write(&operator, "sys/strongroom/enrollments/app/web", &body.to_string())
    };
    let most = (1..=10_000).rev().step_by(500).find(|uses| make(*uses).is_ok()).expect("one is allowed");
    let made = json(&make(most).expect("made"));
    assert_eq!(most, 5_000, "what docs and command say");
    assert!(matches!(make(most + 1), Err(VaultError::BadRequest(_))));
    let open = EnrollString::parse(made["string"].as_str().expect("text")).expect("legal");
    let (id, now_ms) = (made["id"].as_str().expect("text").to_owned(), u64::MAX / 2);
    change(&rig, move |tx| {
        let mut record = strings::read(&tx.view(crate::barrier::MountId::ENROLMENTS), &id)?.expect("there");
        for n in 1..most {
            let digest = crate::crypto::hash::sha256(&[&n.to_be_bytes()]);
            record.used.push(Use { at_ms: now_ms, key: hex(&digest), certificate: hex(&digest) });
        }
        strings::put(tx, &id, &record)
    });
    enroll(&rig, &open, &Key::new()).expect("the last use");
    assert!(matches!(enroll(&rig, &open, &Key::new()), Err(VaultError::Forbidden)));
    assert_eq!(alarms(&rig), ["enrolment-string-used-again"]);
}

#[test]
fn networks_that_an_older_version_took_admit_nobody_new() {
    let rig = Rig::new();
    rig.admit("app/web", "app", r#"path "secret/data/app/*" { capabilities = ["read"] }"#);
    // The host asks from 192.0.2.7.
    for (stored, may) in [
        ("192.0.2.0/24", true),
        ("192.0.2.7", true),
        ("192.0.2.7/32", true),
        ("192.0.2.1/24", false),
        ("192.0.2.0/+24", false),
        ("::ffff:192.0.2.0/120", false),
        ("/8", false),
        ("", false),
    ] {
        let made = string(&rig, "app/web", "");
        let (id, cidrs) = (hex(made.id()), vec!["198.51.100.0/24".to_owned(), stored.to_owned()]);
        change(&rig, move |tx| {
            let mut record = strings::read(&tx.view(crate::barrier::MountId::ENROLMENTS), &id)?.expect("there");
            record.cidrs = cidrs;
            strings::put(tx, &id, &record)
        });
        rig.read(&rig.operator(), "sys/strongroom/enrollments").expect("the record opens");
        assert_eq!(enroll(&rig, &made, &Key::new()).is_ok(), may, "{stored}");
    }
    let make = |network: &str| string_of(&rig, network);
    for network in ["192.0.2.1/24", "192.0.2.0/+24", "10.0.0.0/8/8", "/8", ""] {
        assert!(matches!(make(network), Err(VaultError::BadRequest(_))), "{network}");
    }
    let made = json(&make("::ffff:192.0.2.0/120").expect("the same network"));
    let shown = rig.read(&rig.operator(), "sys/strongroom/enrollments").expect("listed");
    assert_eq!(shown["key_info"][made["id"].as_str().expect("text")]["cidr"], serde_json::json!(["192.0.2.0/24"]));
    let open = EnrollString::parse(made["string"].as_str().expect("text")).expect("legal");
    enroll(&rig, &open, &Key::new()).expect("from the network");
}

fn string_of(rig: &Rig, network: &str) -> Result<Reply, VaultError> {
    let body = serde_json::json!({ "addresses": ["vault.example:8201"], "cidr": [network] });
    rig.write(&rig.operator(), "sys/strongroom/enrollments/app/web", &body.to_string())
}

#[test]
fn open_strings_hold_up_the_next_authority_and_are_marked_when_it_signs() {
    let rig = Rig::new();
    let operator = rig.operator();
    for identity in ["app/used", "app/late", "app/open"] {
        rig.admit(identity, "app", r#"path "secret/data/app/*" { capabilities = ["read"] }"#);
    }
    enroll(&rig, &string(&rig, "app/used", ""), &Key::new()).expect("enrolled");
    rig.write(&operator, "sys/strongroom/disable/app/used", "{}").expect("it holds up nothing by its certificate");
    string(&rig, "app/late", r#","ttl":"1s""#);
    let open = string(&rig, "app/open", r#","ttl":"1h""#);
    let ca = |path: &str, body: &str| rig.write(&operator, &format!("sys/strongroom/ca/{path}"), body);
    let id = json(&ca("prepare", "{}").expect("prepared"))["id"].as_str().expect("text").to_owned();
    rig.clock.advance(2_000);
    let up_to_date = Caller { bundle: bundle(&rig), ..operator.clone() };
    rig.read(&up_to_date, "sys/strongroom/ca/stragglers").expect("seen");
    ca(&format!("{id}/trust"), "{}").expect("strings do not matter here");
    match ca(&format!("{id}/activate"), "{}") {
        Err(VaultError::Because(Reason::EnrolmentsOpen, text)) => {
            assert!(text.contains("app/open") && text.contains(r#""force""#), "{text}");
            assert!(!text.contains("app/used") && !text.contains("app/late"), "{text}");
        }
        other => panic!("expected to be held up, got {:?}", other.err()),
    }
    let state = |of: &EnrollString| {
        let shown = rig.read(&operator, "sys/strongroom/enrollments").expect("listed");
        shown["key_info"][hex(of.id())]["state"].as_str().expect("text").to_owned()
    };
    assert_eq!(state(&open), "open");
    ca(&format!("{id}/activate"), r#"{"force":true}"#).expect("forced");
    assert_eq!(state(&open), "void", "its pin is of the authority before");
    let next = string(&rig, "app/open", "");
    assert_eq!(state(&next), "open");
    assert!(matches!(enroll(&rig, &open, &Key::new()), Err(VaultError::Forbidden)), "void is void");
    enroll(&rig, &next, &Key::new()).expect("enrolled");
    // Without open strings nothing holds it up.
    let id = json(&ca("prepare", "{}").expect("prepared"))["id"].as_str().expect("text").to_owned();
    ca(&format!("{id}/trust"), r#"{"force":true}"#).expect("forced");
    rig.write(&operator, "sys/strongroom/disable/app/open", "{}").expect("disabled");
    let up_to_date = Caller { bundle: bundle(&rig), ..operator.clone() };
    rig.clock.advance(2_000);
    rig.read(&up_to_date, "sys/strongroom/ca/stragglers").expect("seen");
    ca(&format!("{id}/activate"), "{}").expect("nobody is cut off");
}

#[test]
fn one_identity_does_not_use_up_the_strings_of_all() {
    let mut rig = Rig::new();
    let text = r#"path "sys/strongroom/enrollments/*" { capabilities = ["update", "delete", "sudo"] }"#;
    rig.admit("ci/runner", "runner", text);
    rig.vault.seal();
    rig.configure(|settings| settings.max_strings_each = 3);
    rig.unseal().expect("opens");
    let runner = rig.caller("ci/runner");
    let make = |caller: &Caller| {
        let made =
            rig.write(caller, "sys/strongroom/enrollments/ci/runner", r#"{"addresses":["vault.example:8201"]}"#)?;
        Ok::<String, VaultError>(json(&made)["id"].as_str().expect("an id").to_owned())
    };
    let first = make(&runner).expect("one");
    (0..2).for_each(|_| drop(make(&runner).expect("two more")));
    assert!(matches!(make(&runner), Err(VaultError::Because(Reason::LimitReached, _))), "it takes those of all");
    make(&rig.operator()).expect("others go on");
    // What is deleted makes room, and a start counts what is on record.
    rig.ask(&runner, Operation::Delete, &format!("sys/strongroom/enrollments/{first}"), "").expect("deleted");
    make(&runner).expect("there is room");
    rig.vault.seal();
    rig.unseal().expect("opens");
    assert!(matches!(make(&runner), Err(VaultError::Because(Reason::LimitReached, _))));
}
