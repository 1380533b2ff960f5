//! Operations that two operators must agree to, and every way around that one of them may try.

use std::collections::BTreeSet;

use super::support::{Disk, KEY_FILE, PASSPHRASE, Rig, json};
use crate::api::reply::Reply;
use crate::api::request::Operation;
use crate::core::{ApprovalRules, Caller, Guarded, IdentityPattern, Origin, Settings, VaultError};

const ADMIN: &str = r#"path "*" { capabilities = ["create","read","update","patch","delete","list","sudo"] }"#;
pub(super) const TTL_S: u64 = 3_600;

/// Two of `ops/*` for everything.
fn rules(settings: &mut Settings) {
    let approvers = vec![IdentityPattern::parse("ops/*", "example.org").expect("a pattern")];
    let rules = ApprovalRules::new(2, approvers, BTreeSet::from(Guarded::ALL), TTL_S).expect("legal");
    settings.approvals = Some(rules.into());
}

/// Olga and Bert are administrators who may approve; the app may do everything with secrets, and nothing else.
pub(super) fn rig() -> Rig {
    let mut rig = Rig::new();
    rig.admit("ops/bert", "bert", ADMIN);
    rig.admit(
        "app/web",
        "web",
        r#"path "secret/*" { capabilities = ["create","read","update","patch","delete","list"] }"#,
    );
    rig.write(&rig.operator(), "secret/data/a", r#"{"data":{"k":"v"}}"#).expect("written");
    rig.vault.seal();
    rig.configure(rules);
    rig.unseal().expect("unseals");
    rig
}

/// Asks something that others must agree to; gives the id.
pub(super) fn asked(result: Result<Reply, VaultError>) -> String {
    match result {
        Err(VaultError::NeedsApproval { id, missing: 1 }) => id,
        Err(other) => panic!("refused: {other}"),
        Ok(_) => panic!("done without approval"),
    }
}

pub(super) fn say(rig: &Rig, caller: &Caller, id: &str, verb: &str) -> Result<(), VaultError> {
    rig.write(caller, &format!("sys/strongroom/approvals/{id}/{verb}"), "").map(drop)
}

pub(super) fn show(rig: &Rig, id: &str) -> serde_json::Value {
    rig.read(&rig.operator(), &format!("sys/strongroom/approvals/{id}")).expect("there")
}

pub(super) fn bert(rig: &Rig) -> Caller {
    rig.caller("ops/bert")
}

pub(super) fn csr() -> String {
    let pair = rcgen::KeyPair::generate().expect("a key");
    rcgen::CertificateParams::default().serialize_request(&pair).expect("a request").pem().expect("PEM")
}

/// Asks as Olga, is approved by Bert, repeats.
fn with_bert(rig: &Rig, operation: Operation, path: &str, body: &str) -> Result<Reply, VaultError> {
    let olga = rig.operator();
    let id = asked(rig.ask(&olga, operation, path, body));
    say(rig, &bert(rig), &id, "approve").expect("approved");
    assert_eq!(show(rig, &id)["state"], "approved");
    rig.ask(&olga, operation, path, body)
}

const DESTROY: (&str, &str) = ("secret/destroy/a", r#"{"versions":[1]}"#);

fn destroyed(rig: &Rig) -> bool {
    rig.read(&rig.operator(), "secret/metadata/a").expect("there")["versions"]["1"]["destroyed"] == true
}

#[test]
fn off_by_default() {
    let rig = Rig::new();
    let olga = rig.operator();
    rig.write(&olga, "secret/data/a", r#"{"data":{"k":"v"}}"#).expect("written");
    rig.write(&olga, DESTROY.0, DESTROY.1).expect("destroyed");
    rig.read(&olga, "sys/strongroom/audit-key").expect("shown");
    rig.admit("ops/bert", "bert", ADMIN);
    assert!(
        json(&rig.ask(&olga, Operation::List, "sys/strongroom/approvals", "").expect("listed"))["keys"]
            == serde_json::json!([])
    );
    assert_eq!(rig.spy.count("commit"), 4);
}

#[test]
fn a_request_is_done_once_after_another_agrees() {
    let rig = rig();
    let olga = rig.operator();
    let id = asked(rig.write(&olga, DESTROY.0, DESTROY.1));
    assert!(!destroyed(&rig));
    assert_eq!(asked(rig.write(&olga, DESTROY.0, DESTROY.1)), id, "the same request is asked once");
    let shown = show(&rig, &id);
    assert_eq!(shown["state"], "open");
    assert_eq!((&shown["asked_by"], &shown["operation"]), (&"ops/olga".into(), &"destroy".into()));
    assert_eq!((&shown["verb"], &shown["path"]), (&"write".into(), &"secret/destroy/a".into()));
    assert_eq!(shown["fields"], serde_json::json!(["versions"]));

    say(&rig, &bert(&rig), &id, "approve").expect("approved");
    assert!(!destroyed(&rig), "approving does nothing yet");
    rig.write(&olga, DESTROY.0, DESTROY.1).expect("done");
    assert!(destroyed(&rig));
    assert_eq!(show(&rig, &id)["state"], "used");
    assert!(matches!(say(&rig, &bert(&rig), &id, "approve"), Err(VaultError::BadRequest(_))));
    assert_ne!(asked(rig.write(&olga, DESTROY.0, DESTROY.1)), id, "used up");
}

#[test]
fn one_commit_uses_the_approval_up_and_makes_the_change() {
    let rig = rig();
    let olga = rig.operator();
    let id = asked(rig.write(&olga, DESTROY.0, DESTROY.1));
    say(&rig, &bert(&rig), &id, "approve").expect("approved");
    rig.spy.clear();
    let (watch, copies) = (rig.disk.watcher(), std::sync::Arc::new(std::sync::Mutex::new(Vec::<Disk>::new())));
    let seen = std::sync::Arc::clone(&copies);
    rig.spy.watch(Some(Box::new(move |name| {
        if matches!(name, "commit" | "anchor") {
            seen.lock().expect("no panic").push(watch());
        }
    })));
    rig.write(&olga, DESTROY.0, DESTROY.1).expect("done");
    rig.spy.watch(None);
    assert_eq!(rig.spy.count("commit"), 1);
    let copies = std::mem::take(&mut *copies.lock().expect("no panic"));
    assert_eq!(copies.len(), 4);
    // Killed at any step: both, or neither.
    let ends = copies.into_iter().map(|disk| {
        let rig = Rig::with(disk, rules);
        rig.unseal().expect("unseals");
        let used = show(&rig, &id)["state"] == "used";
        assert_eq!(destroyed(&rig), used);
        used
    });
    assert_eq!(ends.collect::<Vec<_>>(), [false, true, true, true]);
}

#[test]
fn a_request_that_cannot_be_done_asks_nobody_and_uses_up_nothing() {
    let rig = rig();
    let olga = rig.operator();
    assert!(matches!(rig.write(&olga, DESTROY.0, r#"{"versions":"x"}"#), Err(VaultError::BadRequest(_))));
    let stranger = rig.caller("app/nobody");
    assert!(matches!(rig.write(&stranger, DESTROY.0, DESTROY.1), Err(VaultError::Forbidden)));
    let listed = json(&rig.ask(&olga, Operation::List, "sys/strongroom/approvals", "").expect("listed"));
    assert_eq!(listed["keys"], serde_json::json!([]));
}

#[test]
fn it_ends() {
    let rig = rig();
    let olga = rig.operator();
    let id = asked(rig.write(&olga, DESTROY.0, DESTROY.1));
    say(&rig, &bert(&rig), &id, "approve").expect("approved");
    rig.clock.advance(TTL_S * 1_000);
    assert_eq!(show(&rig, &id)["state"], "expired");
    let next = asked(rig.write(&olga, DESTROY.0, DESTROY.1));
    assert_ne!(next, id);
    assert!(matches!(say(&rig, &bert(&rig), &id, "approve"), Err(VaultError::BadRequest(_))));
    assert!(!destroyed(&rig));
}

#[test]
fn a_rejection_stands_and_a_withdrawal_does_not() {
    let rig = rig();
    let olga = rig.operator();
    let id = asked(rig.write(&olga, DESTROY.0, DESTROY.1));
    say(&rig, &bert(&rig), &id, "reject").expect("rejected");
    let again = rig.write(&olga, DESTROY.0, DESTROY.1);
    assert!(matches!(again, Err(VaultError::ApprovalRejected { id: of }) if of == id));
    assert!(matches!(say(&rig, &bert(&rig), &id, "approve"), Err(VaultError::BadRequest(_))));
    rig.clock.advance(TTL_S * 1_000);
    let id = asked(rig.write(&olga, DESTROY.0, DESTROY.1));
    say(&rig, &olga, &id, "reject").expect("withdrawn");
    assert_ne!(asked(rig.write(&olga, DESTROY.0, DESTROY.1)), id);
}

#[test]
fn nobody_counts_twice() {
    let mut rig = Rig::new();
    for name in ["bert", "carl"] {
        rig.admit(&format!("ops/{name}"), name, ADMIN);
    }
    rig.write(&rig.operator(), "secret/data/a", r#"{"data":{"k":"v"}}"#).expect("written");
    rig.vault.seal();
    rig.configure(|settings| {
        let approvers = vec![IdentityPattern::parse("ops/*", "example.org").expect("a pattern")];
        let rules = ApprovalRules::new(3, approvers, BTreeSet::from(Guarded::ALL), TTL_S).expect("legal");
        settings.approvals = Some(rules.into());
    });
    rig.unseal().expect("unseals");
    let (olga, bert) = (rig.operator(), bert(&rig));
    let missing = |want: usize| match rig.write(&olga, DESTROY.0, DESTROY.1) {
        Err(VaultError::NeedsApproval { id, missing }) if missing == want => id,
        other => panic!("{:?}", other.map(|_| ())),
    };
    let id = missing(2);
    assert!(matches!(say(&rig, &olga, &id, "approve"), Err(VaultError::BadRequest(_))), "her own word counts already");
    say(&rig, &bert, &id, "approve").expect("approved");
    let other_certificate = Caller { fingerprint: [2; 32], ..rig.caller("ops/bert") };
    say(&rig, &other_certificate, &id, "approve").expect("again");
    missing(1);
    say(&rig, &rig.caller("ops/carl"), &id, "approve").expect("approved");
    rig.write(&olga, DESTROY.0, DESTROY.1).expect("done");
}

#[test]
fn another_body_path_verb_or_asker_is_another_request() {
    let rig = rig();
    let (olga, bert) = (rig.operator(), bert(&rig));
    rig.write(&olga, "secret/data/a", r#"{"data":{"k":"w"}}"#).expect("written");
    rig.write(&olga, "secret/data/b", r#"{"data":{"k":"w"}}"#).expect("written");
    let id = asked(rig.write(&olga, DESTROY.0, DESTROY.1));
    say(&rig, &bert, &id, "approve").expect("approved");
    let mut ids = BTreeSet::from([id]);
    for (caller, operation, path, body) in [
        (&olga, Operation::Write, DESTROY.0, r#"{"versions":[2]}"#),
        (&olga, Operation::Write, "secret/destroy/b", DESTROY.1),
        (&olga, Operation::Delete, "secret/metadata/a", ""),
        (&bert, Operation::Write, DESTROY.0, DESTROY.1),
    ] {
        assert!(ids.insert(asked(rig.ask(caller, operation, path, body))), "{path} {body}");
    }
    assert!(!destroyed(&rig));
}

#[test]
fn every_way_to_destroy_is_guarded() {
    let rig = rig();
    let olga = rig.operator();
    for (operation, path, body) in [
        (Operation::Write, "secret/destroy/a", r#"{"versions":[1]}"#),
        (Operation::Delete, "secret/metadata/a", ""),
        (Operation::Write, "secret/metadata/a", r#"{"max_versions":1}"#),
        (Operation::Patch, "secret/metadata/a", r#"{"max_versions":1}"#),
        (Operation::Write, "secret/metadata/a", r#"{"delete_version_after":"1s"}"#),
        (Operation::Write, "secret/config", r#"{"max_versions":1}"#),
    ] {
        asked(rig.ask(&olga, operation, path, body));
    }
    // What can be undone, and what is new, is not.
    rig.ask(&olga, Operation::Delete, "secret/data/a", "").expect("deleted");
    rig.write(&olga, "secret/undelete/a", r#"{"versions":[1]}"#).expect("back");
    rig.write(&olga, "secret/metadata/a", r#"{"custom_metadata":{"a":"b"}}"#).expect("described");
    rig.write(&olga, "secret/metadata/new", r#"{"max_versions":3}"#).expect("made");
}

#[test]
fn an_asker_that_is_no_approver_does_not_count() {
    let rig = rig();
    let (web, olga) = (rig.caller("app/web"), rig.operator());
    let two = |result: Result<Reply, VaultError>, want: usize| match result {
        Err(VaultError::NeedsApproval { id, missing }) if missing == want => id,
        other => panic!("{:?}", other.map(|_| ())),
    };
    let id = two(rig.write(&web, DESTROY.0, DESTROY.1), 2);
    assert!(matches!(say(&rig, &web, &id, "approve"), Err(VaultError::Forbidden)));
    say(&rig, &olga, &id, "approve").expect("approved");
    two(rig.write(&web, DESTROY.0, DESTROY.1), 1);
    say(&rig, &bert(&rig), &id, "approve").expect("approved");
    rig.write(&web, DESTROY.0, DESTROY.1).expect("done");
    assert!(destroyed(&rig));
}

#[test]
fn works_after_a_restart_and_stores_no_values() {
    let rig = rig();
    let body = format!(r#"{{"slot":"key file","unlock":{{"passphrase":"{PASSPHRASE}"}}}}"#);
    let olga = rig.operator();
    let id = asked(rig.write(&olga, "sys/strongroom/slots/remove", &body));
    assert_eq!(show(&rig, &id)["fields"], serde_json::json!(["slot", "unlock"]));
    let record = rig.vault.live().expect("open");
    let entry = record.barrier.view(crate::barrier::MountId::APPROVALS).entry(&id).expect("read").expect("there");
    let text = String::from_utf8(entry.value.reveal().to_vec()).expect("JSON");
    assert!(!text.contains("correct") && !rig.log_text().contains("correct horse"), "{text}");
    drop(record);
    say(&rig, &bert(&rig), &id, "approve").expect("approved");
    rig.vault.seal();
    let mut rig = rig.restart();
    rig.configure(rules);
    rig.unseal().expect("unseals");
    rig.write(&rig.operator(), "sys/strongroom/slots/remove", &body).expect("removed");
    assert_eq!(show(&rig, &id)["state"], "used");
    asked(rig.write(&rig.operator(), "sys/strongroom/slots/remove", &body));
}

#[test]
fn orders_and_reads_use_their_approval_up_first() {
    let rig = rig();
    let olga = rig.operator();
    let key = with_bert(&rig, Operation::Read, "sys/strongroom/audit-key", "").expect("shown");
    assert!(json(&key)["key"].as_str().is_some_and(|key| key.len() == 64));
    asked(rig.ask(&olga, Operation::Read, "sys/strongroom/audit-key", ""));

    let file = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, KEY_FILE);
    let list = rig.read(&olga, "sys/strongroom/slots").expect("listed");
    let body = format!(r#"{{"slot":"passphrase","unlock":{{"key_file":"{file}"}}}}"#);
    with_bert(&rig, Operation::Write, "sys/strongroom/slots/remove", &body).expect("removed");
    let left = rig.read(&olga, "sys/strongroom/slots").expect("listed");
    assert_eq!(left["slots"].as_array().map(Vec::len), list["slots"].as_array().map(|slots| slots.len() - 1));
    let csr = crate::pki::request(crate::pki::KeyType::P256).expect("a key").csr_pem;
    let lost = format!(r#","compromised":"key file","csr":{}"#, serde_json::json!(csr));
    for more in ["", lost.as_str()] {
        let keep = format!(r#"{{"keep":[{{"key_file":"{file}"}}]{more}}}"#);
        asked(rig.write(&olga, "sys/strongroom/rekey", &keep));
    }
    // What cannot be an order asks nobody.
    assert!(matches!(rig.write(&olga, "sys/strongroom/rekey", r#"{"x":1}"#), Err(VaultError::BadRequest(_))));
}

#[test]
fn authorities_are_not_cut_off_by_one() {
    let rig = rig();
    let olga = rig.operator();
    let made = json(&rig.write(&olga, "sys/strongroom/ca/prepare", "").expect("prepared"));
    let id = made["id"].as_str().expect("an id").to_owned();
    for verb in ["revoke", "trust", "remove"] {
        let body = if verb == "revoke" { "" } else { r#"{"force":true}"# };
        asked(rig.write(&olga, &format!("sys/strongroom/ca/{id}/{verb}"), body));
    }
    // Each time with another key: the approval is for the step, and the certificate is for the asker in any case.
    let body = || serde_json::json!({ "csr": csr() }).to_string();
    let waits = asked(rig.write(&olga, "sys/strongroom/ca/compromise", &body()));
    say(&rig, &bert(&rig), &waits, "approve").expect("approved");
    let done = json(&rig.write(&olga, "sys/strongroom/ca/compromise", &body()).expect("done"));
    assert_eq!(done["identity"], "spiffe://example.org/ops/olga");
    asked(rig.write(&olga, "sys/strongroom/ca/compromise", &body()));
}

/// Everything by which one administrator could make, become or disarm another one.
#[test]
fn one_administrator_makes_no_second_one() {
    let rig = rig();
    let olga = rig.operator();
    rig.write(&olga, "sys/strongroom/identities/app/eve", r#"{"policies":["nothing"]}"#).expect("an ordinary one");
    rig.write(&olga, "sys/policies/acl/nothing", r#"{"policy":"path \"x\" { capabilities = [\"read\"] }"}"#)
        .expect("it");
    let admin = serde_json::json!({ "policy": ADMIN }).to_string();
    let certificate = |identity: &str| serde_json::json!({ "identity": identity, "csr": csr() }).to_string();
    let string = r#"{"addresses":["192.0.2.1:1"]}"#;
    let attempts = [
        // An identity that may approve by its name, whatever its policies.
        (Operation::Write, "sys/strongroom/identities/ops/eve", r#"{"policies":["nothing"]}"#.to_owned()),
        // One that administers by its policies, or becomes so by a policy, a group, or the policy that all have.
        (Operation::Write, "sys/strongroom/identities/app/eve", r#"{"policies":["admin"]}"#.to_owned()),
        (Operation::Write, "sys/policies/acl/nothing", admin.clone()),
        (Operation::Write, "sys/policy/nothing", admin.clone()),
        (Operation::Write, "sys/policies/acl/default", admin.clone()),
        (Operation::Write, "sys/strongroom/groups/g", r#"{"policies":["admin"],"members":["app/eve"]}"#.to_owned()),
        (Operation::Write, "sys/strongroom/groups/g", r#"{"policies":["bert"],"members":["app/*"]}"#.to_owned()),
        (Operation::Write, "sys/strongroom/groups/g", r#"{"policies":["x"],"members":["ops/*"]}"#.to_owned()),
        // A certificate in another's name, registered or not yet.
        (Operation::Write, "sys/strongroom/certificates", certificate("ops/bert")),
        (Operation::Write, "sys/strongroom/certificates", certificate("spiffe://example.org/ops/bert")),
        (Operation::Write, "sys/strongroom/certificates", certificate("ops/later")),
        (Operation::Write, "sys/strongroom/enrollments/ops/bert", string.to_owned()),
        (Operation::Write, "sys/strongroom/identities/ops/bert", r#"{"grace":3600}"#.to_owned()),
        // The other ones disarmed, so that nobody rejects, or made weaker or stronger.
        (Operation::Delete, "sys/strongroom/identities/ops/bert", String::new()),
        (Operation::Write, "sys/strongroom/disable/ops/bert", String::new()),
        (Operation::Write, "sys/strongroom/revoke/ops/bert", String::new()),
        (Operation::Delete, "sys/policies/acl/bert", String::new()),
        (
            Operation::Write,
            "sys/policies/acl/bert",
            r#"{"policy":"path \"x\" { capabilities = [\"read\"] }"}"#.to_owned(),
        ),
        // Her own too: what she is was agreed upon.
        (Operation::Write, "sys/policies/acl/admin", admin),
        (Operation::Write, "sys/strongroom/identities/ops/olga", r#"{"policies":["admin","bert"]}"#.to_owned()),
    ];
    let mut ids = BTreeSet::new();
    for (operation, path, body) in &attempts {
        assert!(ids.insert(asked(rig.ask(&olga, *operation, path, body))), "{path} {body}");
    }
    let shown = json(&rig.ask(&olga, Operation::List, "sys/strongroom/approvals", "").expect("listed"));
    assert!(shown["key_info"].as_object().expect("all").values().all(|one| one["operation"] == "admin-policy"));
    // What is everyday work stays so.
    rig.write(&olga, "sys/strongroom/identities/app/new", r#"{"policies":["web"]}"#).expect("registered");
    rig.write(&olga, "sys/strongroom/certificates", &certificate("app/new")).expect("issued");
    rig.write(&olga, "sys/strongroom/enrollments/app/new", string).expect("made");
    rig.write(&olga, "sys/strongroom/disable/app/new", "").expect("disabled");
    rig.write(&olga, "sys/strongroom/groups/apps", r#"{"policies":["web"],"members":["app/*"]}"#).expect("grouped");
}

#[test]
fn enabling_a_disabled_administrator_needs_another() {
    let rig = rig();
    with_bert(&rig, Operation::Write, "sys/strongroom/identities/ops/carl", r#"{"policies":["bert"]}"#).expect("made");
    with_bert(&rig, Operation::Write, "sys/strongroom/disable/ops/carl", "").expect("disabled");
    asked(rig.write(&rig.operator(), "sys/strongroom/enable/ops/carl", ""));
    asked(rig.write(
        &rig.operator(),
        "sys/strongroom/certificates",
        &serde_json::json!({ "identity": "ops/carl", "csr": csr() }).to_string(),
    ));
}

#[test]
fn a_single_certificate_of_an_administrator_is_guarded_too() {
    let rig = rig();
    let body = serde_json::json!({ "identity": "ops/bert", "csr": csr() }).to_string();
    with_bert(&rig, Operation::Write, "sys/strongroom/certificates", &body).expect("issued");
    let shown = rig.read(&rig.operator(), "sys/strongroom/identities/ops/bert").expect("there");
    let serial = shown["certificates"][0]["serial"].as_str().expect("a serial");
    let body = serde_json::json!({ "certificate": serial }).to_string();
    asked(rig.write(&rig.operator(), "sys/strongroom/revoke/ops/bert", &body));
}

/// What was agreed to is the effect: a policy that is harmless when Bert looks at it must still be so when it counts.
#[test]
fn an_approval_does_not_cover_what_the_same_words_mean_later() {
    let rig = rig();
    let olga = rig.operator();
    let harmless = r#"{"policy":"path \"x\" { capabilities = [\"read\"] }"}"#;
    rig.write(&olga, "sys/policies/acl/viewer", harmless).expect("nobody has it");
    let carl = ("sys/strongroom/identities/ops/carl", r#"{"policies":["viewer"]}"#);
    let id = asked(rig.write(&olga, carl.0, carl.1));
    assert_eq!(show(&rig, &id)["affects"], serde_json::json!(["ops/carl"]));
    say(&rig, &bert(&rig), &id, "approve").expect("approved");
    let text = serde_json::json!({ "policy": ADMIN }).to_string();
    rig.write(&olga, "sys/policies/acl/viewer", &text).expect("nobody of power has it");
    assert_ne!(asked(rig.write(&olga, carl.0, carl.1)), id, "it means something else now");
    rig.write(&olga, "sys/policies/acl/viewer", harmless).expect("back");
    rig.write(&olga, carl.0, carl.1).expect("what was agreed to");
}

#[test]
fn the_asker_must_still_be_allowed_to() {
    let rig = rig();
    let web = rig.caller("app/web");
    let ask = || rig.write(&web, DESTROY.0, DESTROY.1);
    let Err(VaultError::NeedsApproval { id, missing: 2 }) = ask() else { panic!("not asked") };
    say(&rig, &rig.operator(), &id, "approve").expect("approved");
    say(&rig, &bert(&rig), &id, "approve").expect("approved");
    let less = r#"{"policy":"path \"secret/data/*\" { capabilities = [\"read\"] }"}"#;
    rig.write(&rig.operator(), "sys/policies/acl/web", less).expect("written");
    assert!(matches!(ask(), Err(VaultError::Forbidden)));
    assert!(!destroyed(&rig));
    assert_eq!(show(&rig, &id)["state"], "approved", "and it is not used up");
}

#[test]
fn the_word_of_somebody_who_lost_his_place_counts_for_nothing() {
    for (path, body) in [
        ("sys/strongroom/disable/ops/bert", ""),
        ("sys/strongroom/revoke/ops/bert", ""),
        ("sys/policies/acl/bert", r#"{"policy":"path \"x\" { capabilities = [\"read\"] }"}"#),
    ] {
        let rig = rig();
        let olga = rig.operator();
        with_bert(&rig, Operation::Write, "sys/strongroom/identities/ops/carl", r#"{"policies":["admin"]}"#)
            .expect("made");
        let id = asked(rig.write(&olga, DESTROY.0, DESTROY.1));
        say(&rig, &bert(&rig), &id, "approve").expect("approved");
        let out = asked(rig.write(&olga, path, body));
        say(&rig, &rig.caller("ops/carl"), &out, "approve").expect("approved");
        rig.write(&olga, path, body).expect("done");
        assert_eq!(show(&rig, &id)["state"], "open", "{path}");
        asked(rig.write(&olga, DESTROY.0, DESTROY.1));
        say(&rig, &rig.caller("ops/carl"), &id, "approve").expect("approved");
        rig.write(&olga, DESTROY.0, DESTROY.1).expect("done");
    }
}

#[test]
fn only_approvers_have_a_word() {
    let rig = rig();
    let id = asked(rig.write(&rig.operator(), DESTROY.0, DESTROY.1));
    // By its name not; by its policies not; not registered.
    for caller in ["app/web", "ops/nobody"] {
        for verb in ["approve", "reject"] {
            assert!(matches!(say(&rig, &rig.caller(caller), &id, verb), Err(VaultError::Forbidden)), "{caller}");
        }
    }
    let other = r#"{"policies":["web"]}"#;
    with_bert(&rig, Operation::Write, "sys/strongroom/identities/ops/weak", other).expect("made");
    assert!(matches!(say(&rig, &rig.caller("ops/weak"), &id, "approve"), Err(VaultError::Forbidden)));
    assert!(matches!(say(&rig, &bert(&rig), "0123456789abcdef", "approve"), Err(VaultError::NotFound)));
    assert!(matches!(say(&rig, &bert(&rig), "key", "approve"), Err(VaultError::NotFound)));
    assert!(matches!(say(&rig, &bert(&rig), &id, "use"), Err(VaultError::NotFound)));
    assert_eq!(show(&rig, &id)["state"], "open");
}

#[test]
fn an_approver_with_an_administrators_policy_outside_the_pattern_is_guarded_too() {
    let rig = rig();
    with_bert(&rig, Operation::Write, "sys/strongroom/identities/team/dora", r#"{"policies":["admin"]}"#)
        .expect("made");
    let dora = rig.caller("team/dora");
    // She administers, and cannot approve; what she asks needs two others.
    let result = rig.write(&dora, "sys/strongroom/identities/ops/eve", r#"{"policies":["admin"]}"#);
    let Err(VaultError::NeedsApproval { id, missing: 2 }) = result else { panic!("not asked") };
    assert!(matches!(say(&rig, &dora, &id, "approve"), Err(VaultError::Forbidden)));
    asked(rig.write(&rig.operator(), "sys/strongroom/disable/team/dora", ""));
}

#[test]
fn renewing_what_one_has_asks_nobody() {
    let rig = rig();
    let mut olga = rig.operator();
    let active = rig.vault.live().expect("open").snapshot.load().authorities.active().expect("one").id;
    olga.origin = Origin::Vault(active);
    rig.write(&olga, "sys/strongroom/renew", &serde_json::json!({ "csr": csr() }).to_string()).expect("renewed");
}

#[test]
fn who_asks_too_much_is_refused() {
    let rig = rig();
    let olga = rig.operator();
    for n in 0..32 {
        asked(rig.write(&olga, DESTROY.0, &format!(r#"{{"versions":[1],"note":{n}}}"#)));
    }
    assert!(matches!(rig.write(&olga, DESTROY.0, DESTROY.1), Err(VaultError::BadRequest(_))));
    asked(rig.write(&bert(&rig), DESTROY.0, DESTROY.1));
    rig.clock.advance(8 * 86_400_000);
    let late = |path: &str| Caller { not_after_ms: u64::MAX, ..rig.caller(path) };
    asked(rig.write(&late("ops/olga"), DESTROY.0, DESTROY.1));
    let listed = json(&rig.ask(&late("ops/olga"), Operation::List, "sys/strongroom/approvals", "").expect("listed"));
    assert_eq!(listed["keys"].as_array().map(Vec::len), Some(1), "what ended long ago is gone");
}

#[test]
fn everything_is_in_the_audit_log() {
    let rig = rig();
    let olga = rig.operator();
    let id = asked(rig.write(&olga, DESTROY.0, DESTROY.1));
    say(&rig, &bert(&rig), &id, "approve").expect("approved");
    rig.write(&olga, DESTROY.0, DESTROY.1).expect("done");
    let shown = show(&rig, &id);
    let text = rig.log_text();
    assert!(text.contains("approval-needed"));
    assert!(text.contains(&format!("sys/strongroom/approvals/{id}/approve")));
    for field in ["request", "used_request"] {
        let request = shown[field].as_str().expect("an identifier");
        assert!(rig.log().iter().any(|line| line.to_string().contains(request)), "{field}");
    }
}

#[test]
fn a_role_that_makes_administrators_needs_another_one() {
    let rig = rig();
    let olga = rig.operator();
    let ca = super::roles::authority("outside root");
    let fields = |policies: &str| {
        let body = serde_json::json!({ "certificate": ca.pem(), "allowed_common_names": "*", "policies": policies });
        body.to_string()
    };
    rig.write(&olga, "auth/cert/certs/apps", &fields("web")).expect("no power");
    let outsider = super::roles::client(&rig, &ca, "web-1");
    assert!(rig.read(&outsider, "secret/data/a").is_ok());
    let more = fields("admin");
    asked(rig.write(&olga, "auth/cert/certs/apps", &more));
    assert!(rig.read(&outsider, "sys/policies/acl/admin").is_err(), "not done");
    with_bert(&rig, Operation::Write, "auth/cert/certs/admins", &more).expect("agreed");
    // Such an administrator is nobody who could agree, by whatever name.
    let id = asked(rig.write(&olga, DESTROY.0, DESTROY.1));
    rig.ask(&olga, Operation::Delete, "auth/cert/certs/apps", "").expect("less power for nobody");
    assert!(rig.read(&outsider, "sys/policies/acl/admin").is_ok());
    assert!(matches!(say(&rig, &outsider, &id, "approve"), Err(VaultError::Forbidden)));
}

#[test]
fn too_few_operators_for_any_request_are_counted() {
    let rig = rig();
    let few = |rig: &Rig| {
        let live = rig.vault.live().expect("open");
        let rules = rig.vault.settings.approvals.as_deref().expect("configured");
        crate::core::approvals::voices::too_few(rules, &rig.vault.settings, &live.snapshot.load())
    };
    assert_eq!(few(&rig), None, "Olga and Bert");
    let less = r#"{"policy":"path \"secret/*\" { capabilities = [\"read\"] }"}"#;
    with_bert(&rig, Operation::Write, "sys/policies/acl/bert", less).expect("done");
    assert_eq!(few(&rig), None, "Bert asks and Olga approves");
    let olga = rig.operator();
    let enlist = |path: &str| rig.write(&olga, &format!("sys/strongroom/identities/{path}"), r#"{"policies":[]}"#);
    assert!(enlist("app/more").is_ok() && enlist("ops/more").is_err(), "nobody approves what Olga asks");
    let mut rig = rig;
    let three = |settings: &mut Settings| {
        let approvers = vec![IdentityPattern::parse("ops/*", "example.org").expect("a pattern")];
        let rules = ApprovalRules::new(3, approvers, BTreeSet::from(Guarded::ALL), TTL_S).expect("legal");
        settings.approvals = Some(rules.into());
    };
    rig.vault.seal();
    rig.configure(three);
    rig.unseal().expect("unseals");
    assert_eq!(few(&rig), Some(2), "two for three");
}
