//! Initialise, unseal, seal, restart.

use std::sync::Arc;

use super::support::{Disk, KEY_FILE, PASSPHRASE, Rig, START_MS};
use crate::api::error::{ErrorCode, Reason};
use crate::api::request::Operation;
use crate::api::secret::SecretText;
use crate::core::{Clock, Opener, UnsealKey, VaultError};

#[test]
fn a_fresh_directory_is_sealed_and_says_so() {
    let rig = Rig::sealed(Disk::new());
    let status = rig.vault.seal_status();
    assert!(!status.initialized && status.sealed);
    assert!(matches!(rig.unseal(), Err(VaultError::NotInitialised)));
    assert!(rig.vault.mark().is_none());
}

#[test]
fn initialising_twice_is_refused() {
    let disk = Disk::new();
    let outcome = disk.initialise().expect("initialises");
    assert!(outcome.ca_pem.starts_with("-----BEGIN CERTIFICATE-----"));
    assert!(matches!(disk.initialise(), Err(VaultError::BadRequest(text)) if text.contains("already initialized")));
}

#[test]
fn a_sealed_vault_answers_nothing_but_its_state() {
    let rig = Rig::new();
    let operator = rig.operator();
    rig.write(&operator, "secret/data/x", r#"{"data":{"k":"v"}}"#).expect("written");
    rig.vault.seal();
    rig.vault.seal();
    assert!(rig.vault.is_sealed());
    for (operation, path) in [
        (Operation::Read, "secret/data/x"),
        (Operation::Write, "secret/data/x"),
        (Operation::Read, "sys/mounts"),
        (Operation::Write, "sys/seal"),
        (Operation::Read, "nowhere"),
    ] {
        let refused = rig.ask(&operator, operation, path, "").err();
        assert!(matches!(refused, Some(VaultError::Sealed)), "{path}: {refused:?}");
    }
    let health = rig.vault.health();
    assert!(health.initialized && health.sealed && health.cluster_id.is_none());
    assert!(!rig.vault.leader().is_self);
    assert!(matches!(rig.vault.ca_pem(), Err(VaultError::Sealed)));
    assert!(matches!(rig.vault.sync_audit(), Err(VaultError::Sealed)));
    rig.unseal().expect("opens again");
    assert_eq!(rig.read(&operator, "secret/data/x").expect("there")["data"]["k"], "v");
    let kinds: Vec<_> = rig.log().iter().filter_map(|line| line["kind"].as_str().map(str::to_owned)).collect();
    assert_eq!(kinds, ["unsealed", "sealed", "checkpoint", "unsealed"]);
}

#[test]
fn the_operator_seals_over_the_wire() {
    let rig = Rig::new();
    assert!(matches!(rig.write(&rig.caller("app/x"), "sys/seal", ""), Err(VaultError::Forbidden)));
    rig.write(&rig.operator(), "sys/seal", "").expect("sealed");
    assert!(rig.vault.is_sealed());
    let log = rig.log();
    let [.., note, checkpoint] = log.as_slice() else { panic!("too few lines") };
    assert_eq!(checkpoint["kind"], "checkpoint");
    assert_eq!((&note["kind"], &note["identity"]), (&"sealed".into(), &"spiffe://example.org/ops/olga".into()));
}

#[test]
fn a_restart_keeps_everything() {
    let rig = Rig::new();
    let app = rig.admit("app/web", "app", r#"path "secret/data/app/*" { capabilities = ["read"] }"#);
    let operator = rig.operator();
    for n in 0..5 {
        let body = format!(r#"{{"data":{{"n":{n}}}}}"#);
        rig.write(&operator, "secret/data/app/x", &body).expect("written");
    }
    let (mark, ca) = (rig.vault.mark().expect("open"), rig.vault.ca_pem().expect("open"));
    let rig = rig.restart();
    rig.unseal().expect("opens");
    let value = rig.read(&app, "secret/data/app/x").expect("the policy is there");
    assert_eq!((&value["data"]["n"], &value["metadata"]["version"]), (&4.into(), &5.into()));
    assert!(matches!(rig.read(&app, "secret/data/other"), Err(VaultError::Forbidden)));
    let now = rig.vault.mark().expect("open");
    assert!(now.generation >= mark.generation && now.incarnation == mark.incarnation && now.epoch == mark.epoch);
    assert_eq!(rig.vault.ca_pem().expect("open"), ca);
}

#[test]
fn only_named_openers_may_try_and_failures_cost_time() {
    let disk = Disk::new();
    disk.initialise().expect("initialises");
    let rig = Rig::sealed(disk);
    let right = SecretText::new(PASSPHRASE.to_owned());
    let wrong = SecretText::new("incorrect horse".to_owned());
    let outsider = rig.caller("app/web");
    let attempt = |opener: Opener<'_>, text: &SecretText| rig.vault.unseal(opener, &UnsealKey::Passphrase(text));
    assert!(matches!(attempt(Opener::Remote(&outsider), &right), Err(VaultError::Forbidden)));
    let operator = rig.operator();
    let mut expired = rig.operator();
    expired.not_after_ms = START_MS;
    assert!(matches!(attempt(Opener::Remote(&expired), &right), Err(VaultError::Forbidden)));
    assert!(matches!(attempt(Opener::Remote(&operator), &wrong), Err(VaultError::WrongKey)));
    let wait = |opener: Opener<'_>| rig.vault.seal_status_for(opener).retry_after_s;
    assert_eq!((wait(Opener::Remote(&operator)), wait(Opener::Remote(&outsider)), wait(Opener::Local)), (1, 0, 0));
    assert_eq!(rig.vault.seal_status().retry_after_s, 0, "what an attempt returns says nothing about the next one");
    let early = attempt(Opener::Remote(&operator), &right);
    assert!(matches!(early, Err(VaultError::TooMany { retry_after_s: 1 })), "{early:?}");
    rig.clock.advance(1_000);
    assert_eq!(wait(Opener::Remote(&operator)), 0);
    let status = attempt(Opener::Remote(&operator), &right).expect("opens");
    assert!(!status.sealed && status.initialized && status.t == 1);
    assert!(rig.clock.now_ms() > START_MS);
    let again = attempt(Opener::Remote(&operator), &wrong).expect("already open: the secret is not looked at");
    assert!(!again.sealed);
    let log = rig.log();
    let note = log.iter().find(|line| line["kind"] == "unsealed").expect("a note");
    assert_eq!(note["identity"], "spiffe://example.org/ops/olga");
    assert!(log.iter().any(|line| line["code"] == "unseal-attempts-refused"), "failed attempts leave a trace");
}

#[test]
fn an_attempt_under_way_hides_no_rejected_one_and_no_status() {
    let disk = Disk::new();
    disk.initialise().expect("initialises");
    let rig = Rig::sealed(disk);
    let attempt = rig.vault.attempt.lock();
    assert_eq!(rig.vault.seal_status_for(Opener::Local).retry_after_s, 0, "nobody has failed");
    assert!(matches!(rig.unseal(), Err(VaultError::TooMany { retry_after_s: 1 })));
    let outsider = rig.caller("app/web");
    let refused = rig.vault.unseal(Opener::Remote(&outsider), &UnsealKey::KeyFile(KEY_FILE));
    assert!(matches!(refused, Err(VaultError::Forbidden)));
    drop(attempt);
    rig.unseal().expect("opens");
    assert!(rig.log().iter().any(|line| line["code"] == "unseal-attempts-refused"), "the rejected one leaves a trace");
}

#[test]
fn a_vault_that_does_not_open_says_where_the_reason_is_and_the_whole_reason_at_the_machine() {
    let documents = include_str!("../../../docs/operations.md");
    let anchor = |disk: &mut Disk| disk.set_anchor(None);
    let log = |disk: &mut Disk| disk.put_log(&format!("{}\n", disk.log_text().lines().next().unwrap_or_default()));
    let records = |disk: &mut Disk| disk.spoil(b'e', usize::MAX);
    type Case = (fn(&mut Disk), ErrorCode, &'static str);
    let cases: [Case; 3] = [
        (anchor, ErrorCode::Integrity, "the anchor is missing"),
        (log, ErrorCode::AuditUnavailable, "audit log was cut"),
        (records, ErrorCode::Integrity, "a record that every start reads is damaged"),
    ];
    for (lose, code, reason) in cases {
        assert!(documents.contains(&format!("`{reason}")), "{reason}");
        let rig = Rig::new();
        let operator = rig.operator();
        // A state vouches for the log from the first change on.
        rig.write(&operator, "secret/data/a", r#"{"data":{"k":"v"}}"#).expect("written");
        let mut disk = rig.end();
        lose(&mut disk);
        let rig = Rig::sealed(disk);
        let key = UnsealKey::KeyFile(KEY_FILE);
        for (opener, full) in [(Opener::Local, true), (Opener::Remote(&operator), false)] {
            let error = rig.vault.unseal(opener, &key).expect_err(reason);
            let text = error.to_string();
            assert_eq!((error.error_code(), text.contains(reason)), (code, full), "{text}");
            assert!(full || text.contains("the daemon's log says why"), "{text}");
        }
    }
}

#[test]
fn a_clock_that_was_far_ahead_does_not_lock_the_vault() {
    const YEAR_MS: u64 = 365 * 86_400_000;
    let rig = Rig::new();
    let wrong = UnsealKey::KeyFile(&[7; 64]);
    let rescue = |key: &UnsealKey<'_>| rig.vault.rescue(key, "ops/olga", "no request").err();
    rig.clock.advance(YEAR_MS);
    assert!(matches!(rescue(&wrong), Some(VaultError::WrongKey)));
    rig.vault.seal();
    assert!(matches!(rig.unseal_with(&wrong), Err(VaultError::WrongKey)));
    assert!(matches!(rig.unseal(), Err(VaultError::TooMany { retry_after_s: 1 })));
    rig.clock.set_back(YEAR_MS);
    rig.unseal().expect("the delay ended long before it began");
    let refused = rescue(&UnsealKey::KeyFile(KEY_FILE));
    assert!(matches!(refused, Some(VaultError::BadRequest(_))), "the request is looked at: {refused:?}");
}

#[test]
fn somebody_always_keeps_the_right_to_give_rights() {
    let rig = Rig::new();
    let operator = rig.operator();
    let refuse = |operation, path: &str, body: &str| match rig.ask(&operator, operation, path, body) {
        Err(VaultError::Because(Reason::LastAdministrator, text)) => {
            assert!(text.contains("no identity would be left"), "{text}");
        }
        other => panic!("{path}: expected a refusal, got {:?}", other.err()),
    };
    let weak = serde_json::json!({ "policy": r#"path "secret/*" { capabilities = ["read"] }"# }).to_string();
    refuse(Operation::Delete, "sys/policies/acl/admin", "");
    refuse(Operation::Write, "sys/policies/acl/admin", &weak);
    refuse(Operation::Delete, "sys/strongroom/identities/ops/olga", "");
    refuse(Operation::Write, "sys/strongroom/identities/ops/olga", r#"{"policies":["default"]}"#);
    rig.read(&operator, "sys/mounts").expect("nothing changed");
    rig.write(&operator, "sys/strongroom/identities/ops/omar", r#"{"policies":["admin"]}"#).expect("a second one");
    rig.ask(&operator, Operation::Delete, "sys/strongroom/identities/ops/olga", "").expect("now it may go");
    assert!(matches!(rig.read(&operator, "sys/mounts"), Err(VaultError::Forbidden)));
    rig.read(&rig.caller("ops/omar"), "sys/mounts").expect("the second one administers");
}

#[test]
fn sealing_drops_every_key() {
    let rig = Rig::new();
    rig.read(&rig.operator(), "sys/mounts").expect("served");
    let barrier = {
        let live = rig.vault.live().expect("open");
        Arc::downgrade(&live.barrier)
    };
    assert!(barrier.upgrade().is_some());
    rig.vault.seal();
    assert!(barrier.upgrade().is_none(), "keys are wiped when their last owner goes");
}

#[test]
fn sealing_under_load_answers_everybody() {
    let rig = Arc::new(Rig::new());
    std::thread::scope(|scope| {
        for n in 0..8 {
            let rig = Arc::clone(&rig);
            scope.spawn(move || {
                for _ in 0..20 {
                    let path = format!("secret/data/k{n}");
                    let written = rig.write(&rig.operator(), &path, r#"{"data":{"k":"v"}}"#);
                    let read = rig.read(&rig.operator(), &path);
                    for error in [written.err(), read.err()].into_iter().flatten() {
                        assert!(matches!(error, VaultError::Sealed | VaultError::NotFound), "{error}");
                    }
                }
            });
        }
        let rig = Arc::clone(&rig);
        scope.spawn(move || {
            for _ in 0..5 {
                rig.vault.seal();
                rig.unseal().expect("opens again on the same log");
            }
        });
    });
    assert!(rig.fatal.lock().expect("no panic while held").is_empty());
    let report = rig.log();
    let numbers: Vec<_> = report.iter().filter_map(|line| line["seq"].as_u64()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "one unbroken chain");
}

#[test]
fn an_anchor_that_is_behind_or_damaged_is_an_alarm_once() {
    let alarms = |rig: &Rig| -> Vec<String> {
        let alarm = |line: &serde_json::Value| line["code"].as_str().map(str::to_owned);
        rig.log().iter().filter(|line| line["kind"] == "alarm").filter_map(alarm).collect()
    };
    let rig = Rig::new();
    let operator = rig.operator();
    let old = rig.disk.anchor();
    for n in 0..4 {
        rig.write(&operator, "secret/data/x", &format!(r#"{{"data":{{"n":{n}}}}}"#)).expect("written");
    }
    let mut disk = rig.end();
    disk.set_anchor(old);
    let rig = Rig::sealed(disk);
    rig.unseal().expect("the anchor being behind costs nothing but an alarm");
    assert_eq!(alarms(&rig), ["anchor-behind"]);
    let rig = rig.restart();
    rig.unseal().expect("opens");
    assert_eq!(alarms(&rig), ["anchor-behind"], "told once");

    // The slot of the generation before: nobody can tell it from the newest of a store that was put back.
    let newest = usize::from(rig.vault.mark().expect("open").generation % 2 == 1);
    let mut disk = rig.end();
    let mut bytes = disk.anchor().expect("there");
    bytes[(1 - newest) * 4_096 + 60] ^= 1;
    disk.set_anchor(Some(bytes));
    let rig = Rig::sealed(disk);
    rig.unseal().expect("opens");
    assert_eq!(alarms(&rig), ["anchor-behind", "anchor-damaged"]);
}
