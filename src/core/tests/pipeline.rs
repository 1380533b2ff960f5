//! The order of a request, and what is audited of it.

use super::support::{Fault, Rig, at_once, json, request};
use crate::api::error::Reason;
use crate::api::request::Operation;
use crate::core::VaultError;

const APP: &str = r#"path "secret/data/app/*" { capabilities = ["create", "read", "update"] }"#;

#[test]
fn a_read_is_audited_before_it_is_answered_and_never_awaits() {
    let rig = Rig::new();
    let operator = rig.operator();
    rig.write(&operator, "secret/data/app/db", r#"{"data":{"password":"swordfish"}}"#).expect("written");
    rig.spy.clear();
    let reply =
        at_once(rig.vault.handle(&operator, request(Operation::Read, "secret/data/app/db", ""))).expect("answered");
    assert_eq!(json(&reply)["data"]["password"], "swordfish");
    assert_eq!(rig.spy.events(), ["log exchange"]);
    let line = rig.log().pop().expect("a line");
    assert_eq!(line["path"], "secret/data/app/db");
    assert_eq!(line["outcome"], "ok");
    assert_eq!(line["status"], 200);
    assert_eq!(line["version"], 1);
    assert_eq!(line["identity"], "spiffe://example.org/ops/olga");
    assert_eq!(line["policies"], serde_json::json!(["admin", "default"]));
    assert!(line["reply_fields"]["data.password"].as_str().is_some_and(|hash| hash.starts_with("hmac-sha256:")));
}

#[test]
fn requests_can_be_awaited_on_any_thread() {
    fn check<T: Send>(_: &T) {}
    let rig = Rig::new();
    let operator = rig.operator();
    check(&rig.vault.handle(&operator, request(Operation::Read, "sys/mounts", "")));
}

#[test]
fn a_write_follows_the_commit_order() {
    let rig = Rig::new();
    rig.spy.clear();
    rig.write(&rig.operator(), "secret/data/app/db", r#"{"data":{"password":"swordfish"}}"#).expect("written");
    let events = rig.spy.events();
    let at =
        |event: &str| events.iter().position(|seen| seen == event).unwrap_or_else(|| panic!("{event}: {events:?}"));
    assert!(at("log request") < at("log sync"));
    assert!(at("log sync") < at("commit"), "the request entry is durable before the store changes");
    assert!(at("commit") < at("anchor"));
    assert!(at("anchor") < at("log reply"));
    assert_eq!(events.iter().filter(|seen| *seen == "log sync").count(), 2);
    let log = rig.log();
    let [.., asked, answered] = log.as_slice() else { panic!("two lines") };
    assert!(asked["request_fields"]["data.password"].is_string());
    assert_eq!(answered["version"], 1);
    assert_eq!(answered["generation"], rig.vault.mark().expect("open").generation);
}

#[test]
fn no_value_reaches_the_log() {
    let rig = Rig::new();
    let operator = rig.operator();
    let body = r#"{"data":{"password":"swordfish","nested":{"deep":"swordfish"},"esc\u0061ped":"sw\u006frdfish"}}"#;
    rig.write(&operator, "secret/data/app/db", body).expect("written");
    rig.read(&operator, "secret/data/app/db").expect("read");
    assert!(rig.write(&operator, "secret/data/app/db", r#"{"options":{"cas":9},"data":{"k":"swordfish"}}"#).is_err());
    let text = rig.log_text();
    assert!(!text.contains("swordfish"));
    assert!(text.contains("data.password") && text.contains("data.escaped"));
    let log = rig.log();
    let hash_of =
        |name: &str| log.iter().find_map(|line| line["request_fields"][name].as_str().map(str::to_owned)).expect(name);
    assert_eq!(hash_of("data.password"), hash_of("data.escaped"), "one value, one hash, however it was spelt");
}

#[test]
fn nothing_is_returned_when_the_audit_log_fails() {
    let rig = Rig::new();
    let operator = rig.operator();
    rig.write(&operator, "secret/data/a", r#"{"data":{"k":"1"}}"#).expect("written");
    rig.spy.fail(Fault::Append("exchange"));
    let refused = rig.read(&operator, "secret/data/a");
    assert!(matches!(refused, Err(VaultError::AuditUnavailable)), "{refused:?}");
    let refused = rig.read(&rig.caller("nobody"), "secret/data/a");
    assert!(matches!(refused, Err(VaultError::AuditUnavailable)), "a denial that cannot be logged: {refused:?}");

    rig.spy.fail(Fault::Append("request"));
    rig.spy.clear();
    let refused = rig.write(&operator, "secret/data/a", r#"{"data":{"k":"2"}}"#);
    assert!(matches!(refused, Err(VaultError::AuditUnavailable)));
    assert_eq!(rig.spy.count("commit"), 0, "nothing may be committed unaudited");

    rig.spy.fail(Fault::None);
    // The broker tries a failed device again after a moment.
    rig.clock.advance(60_000);
    assert_eq!(rig.read(&operator, "secret/data/a").expect("recovers without restart")["data"]["k"], "1");
}

#[test]
fn a_lost_reply_entry_is_made_up_for() {
    let rig = Rig::new();
    let operator = rig.operator();
    rig.spy.fail(Fault::Append("reply"));
    let refused = rig.write(&operator, "secret/data/a", r#"{"data":{"k":"1"}}"#);
    assert!(matches!(refused, Err(VaultError::AuditUnavailable)));
    rig.spy.fail(Fault::None);
    rig.clock.advance(60_000);
    rig.write(&operator, "secret/data/b", r#"{"data":{"k":"1"}}"#).expect("recovers");
    let log = rig.log();
    let note = log.iter().find(|line| line["kind"] == "unfinished").expect("an outcome note");
    assert_eq!(note["outcome"], "committed");
    assert_eq!(rig.read(&operator, "secret/data/a").expect("it was committed")["data"]["k"], "1");
}

#[test]
fn denials_are_audited_and_look_alike() {
    let rig = Rig::new();
    let app = rig.admit("app/web", "app", APP);
    rig.write(&rig.operator(), "secret/data/other/x", r#"{"data":{"k":"v"}}"#).expect("written");
    let stranger = rig.caller("app/unknown");
    rig.spy.clear();
    let cases = [
        (&app, Operation::Read, "secret/data/other/x"),    // exists, forbidden
        (&app, Operation::Read, "secret/data/other/none"), // does not exist
        (&app, Operation::Read, "nowhere/data/x"),         // no mount
        (&app, Operation::Read, "secret/nonsense/x"),      // no such path in the engine
        (&app, Operation::Patch, "secret/config"),         // no such operation
        (&app, Operation::Read, "sys/nothing"),            // no route
        (&app, Operation::Delete, "sys/mounts"),           // no such verb
        (&app, Operation::Write, "secret/data/other/x"),   // a mutation
        (&stranger, Operation::Read, "secret/data/app/x"), // unknown identity
    ];
    for (caller, operation, path) in cases {
        let before = rig.log().len();
        let refused = rig.ask(caller, operation, path, "").err().expect(path);
        assert!(matches!(refused, VaultError::Forbidden), "{path}: {refused}");
        assert_eq!(refused.to_string(), "permission denied");
        let log = rig.log();
        assert_eq!(log.len(), before + 1, "{path}");
        let line = log.last().expect("a line");
        assert_eq!((&line["decision"], &line["outcome"]), (&"deny".into(), &"denied".into()), "{path}");
        assert_eq!(line["status"], 403);
    }
    assert_eq!(rig.spy.count("commit"), 0);
}

#[test]
fn those_who_may_learn_what_is_missing() {
    let rig = Rig::new();
    let operator = rig.operator();
    let ask = |operation, path: &str| rig.ask(&operator, operation, path, "").err().expect("an error");
    assert!(matches!(ask(Operation::Read, "secret/data/none"), VaultError::NotFound));
    assert!(matches!(ask(Operation::Read, "nowhere/x"), VaultError::NoRoute(path) if path == "nowhere/x"));
    assert!(matches!(ask(Operation::Read, "sys/nothing"), VaultError::NoRoute(_)));
    assert!(matches!(ask(Operation::Delete, "sys/mounts"), VaultError::Unsupported));
}

#[test]
fn create_and_update_are_two_things() {
    let rig = Rig::new();
    let create = rig.admit("app/c", "c", r#"path "secret/data/*" { capabilities = ["create"] }"#);
    let update = rig.admit("app/u", "u", r#"path "secret/data/*" { capabilities = ["update"] }"#);
    let body = r#"{"data":{"k":"v"}}"#;
    assert!(matches!(rig.write(&update, "secret/data/x", body), Err(VaultError::Forbidden)));
    assert!(matches!(rig.read(&rig.operator(), "secret/data/x"), Err(VaultError::NotFound)));
    rig.write(&create, "secret/data/x", body).expect("creates");
    assert!(matches!(rig.write(&create, "secret/data/x", body), Err(VaultError::Forbidden)));
    rig.write(&update, "secret/data/x", body).expect("updates");
    let log = rig.log();
    assert_eq!(log.iter().filter(|line| line["type"] == "reply" && line["outcome"] == "denied").count(), 2);
}

#[test]
fn a_policy_change_holds_from_the_next_request_on() {
    let rig = Rig::new();
    let app = rig.admit("app/web", "app", APP);
    let operator = rig.operator();
    rig.write(&app, "secret/data/app/x", r#"{"data":{"k":"v"}}"#).expect("allowed");
    rig.read(&app, "secret/data/app/x").expect("allowed");
    let deny = serde_json::json!({ "policy": r#"path "secret/data/app/*" { capabilities = ["deny"] }"# });
    rig.write(&operator, "sys/policies/acl/app", &deny.to_string()).expect("changed");
    assert!(matches!(rig.read(&app, "secret/data/app/x"), Err(VaultError::Forbidden)));
    let allow = serde_json::json!({ "policy": APP });
    rig.write(&operator, "sys/policies/acl/app", &allow.to_string()).expect("changed");
    rig.read(&app, "secret/data/app/x").expect("allowed again");
    rig.ask(&operator, Operation::Delete, "sys/strongroom/identities/app/web", "").expect("removed");
    assert!(matches!(rig.read(&app, "secret/data/app/x"), Err(VaultError::Forbidden)));
}

#[test]
fn an_expired_certificate_makes_a_stranger() {
    let rig = Rig::new();
    let operator = rig.operator();
    rig.read(&operator, "sys/mounts").expect("allowed");
    rig.clock.advance(2 * 86_400_000);
    let refused = rig.read(&operator, "sys/mounts");
    assert!(matches!(refused, Err(VaultError::NotAdmitted(Reason::CertificateExpired))));
}

#[test]
fn wrapping_is_refused_in_clear_words() {
    let rig = Rig::new();
    let mut wrapped = request(Operation::Read, "sys/mounts", "");
    wrapped.wrap_ttl = Some(60);
    match at_once(rig.vault.handle(&rig.operator(), wrapped)) {
        Err(VaultError::BadRequest(text)) => assert!(text.contains("wrapping")),
        other => panic!("expected a refusal, got {:?}", other.err()),
    }
}

#[test]
fn a_failed_sync_of_the_log_ends_the_vault() {
    let rig = Rig::new();
    rig.spy.fail(Fault::Sync);
    let refused = rig.write(&rig.operator(), "secret/data/a", r#"{"data":{"k":"1"}}"#);
    assert!(matches!(refused, Err(VaultError::AuditUnavailable)));
    while rig.fatal.lock().expect("no panic while held").is_empty() {
        std::thread::yield_now();
    }
    assert!(rig.vault.is_sealed());
    assert!(matches!(rig.unseal(), Err(VaultError::Unavailable(_))), "this process must not go on");
}
