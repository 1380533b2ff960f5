//! What ends with a revocation, a removal or a freeze: also within one commit, and with a clock that was wrong.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Waker};

use serde_json::json as object;

use crate::api::enroll::Certified;
use crate::api::reply::Reply;
use crate::api::request::Operation;
use crate::core::{Caller, UnsealKey, VaultError};

use super::identities::{
    CHANNEL, HOUR_MS, Key, alarms, attempt, bundle, enroll, enrolled, holder, late, string, works,
};
use super::support::{KEY_FILE, Rig, json, request, wait};

const DAY_MS: u64 = 24 * HOUR_MS;
/// Somebody's request or enrolment, not yet begun.
type Job<'a> = Pin<Box<dyn Future<Output = Result<String, VaultError>> + 'a>>;

fn ask<'a>(rig: &'a Rig, caller: &'a Caller, operation: Operation, path: &str, body: &str) -> Job<'a> {
    let request = request(operation, path, body);
    Box::pin(async move { rig.vault.handle(caller, request).await.map(|reply: Reply| certificate(&reply)) })
}

fn write<'a>(rig: &'a Rig, caller: &'a Caller, path: &str, body: &str) -> Job<'a> {
    ask(rig, caller, Operation::Write, path, body)
}

/// The certificate in a reply, if there is one.
fn certificate(reply: &Reply) -> String {
    json(reply)["certificate"].as_str().unwrap_or_default().to_owned()
}

/// Runs all jobs in one commit, in this order: a write before them stands at its anchor until all have queued.
fn in_one_commit(rig: &Rig, mut jobs: Vec<Job<'_>>) -> Vec<Result<String, VaultError>> {
    rig.spy.hold_anchor();
    std::thread::scope(|scope| {
        scope.spawn(|| rig.write(&rig.caller("ops/olga"), "secret/data/held", r#"{"data":{"A":"1"}}"#));
        rig.spy.await_held();
        let commits = rig.spy.count("commit");
        for job in &mut jobs {
            assert!(job.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(), "it waits for its commit");
        }
        rig.spy.release();
        let results = jobs.into_iter().map(wait).collect();
        assert_eq!(rig.spy.count("commit"), commits + 1, "one commit for all");
        results
    })
}

fn register(rig: &Rig, identity: &str, more: &str) {
    let body = format!(r#"{{"policies":["app"]{more}}}"#);
    rig.write(&rig.operator(), &format!("sys/strongroom/identities/{identity}"), &body).expect("registered");
}

fn revoke(rig: &Rig, caller: &Caller, identity: &str) {
    rig.write(caller, &format!("sys/strongroom/revoke/{identity}"), "{}").expect("revoked");
}

fn renew(rig: &Rig, caller: &Caller) -> Result<Caller, VaultError> {
    let reply = rig.write(caller, "sys/strongroom/renew", &Key::new().body())?;
    Ok(holder(rig, &certificate(&reply)))
}

fn renew_late(rig: &Rig, pem: &str, signer: &Key, next: &Key) -> Result<Certified, VaultError> {
    wait(rig.vault.renew_expired(late(pem, signer, next), CHANNEL))
}

fn is_refused<T>(result: &Result<T, VaultError>) -> bool {
    matches!(result, Err(VaultError::Forbidden | VaultError::NotAdmitted(_)))
}

fn on_list(rig: &Rig, serial: &str) -> bool {
    let lists =
        rig.read(&rig.operator(), "sys/strongroom/crl").expect("public")["crl"].as_str().expect("PEM").to_owned();
    let list = x509_parser::pem::parse_x509_pem(lists.as_bytes()).expect("PEM").1;
    let (_, list) = x509_parser::parse_x509_crl(&list.contents).expect("a list");
    let serial = serial.trim_start_matches('0');
    list.iter_revoked_certificates().any(|entry| format!("{:x}", entry.serial()) == serial)
}

fn serials(rig: &Rig, identity: &str) -> Vec<String> {
    let shown = rig.read(&rig.operator(), &format!("sys/strongroom/identities/{identity}")).expect("there");
    let all = shown["certificates"].as_array().expect("a list").clone();
    all.iter().map(|one| one["serial"].as_str().expect("text").to_owned()).collect()
}

#[test]
fn a_renewal_in_the_commit_of_a_revocation_gets_nothing() {
    let rig = Rig::new();
    let operator = rig.operator();
    let (_, first) = enrolled(&rig, "app/web");
    let old = holder(&rig, &first.certificate);
    rig.clock.advance(10_000);
    let jobs = vec![
        write(&rig, &operator, "sys/strongroom/revoke/app/web", "{}"),
        write(&rig, &old, "sys/strongroom/renew", &Key::new().body()),
    ];
    let results = in_one_commit(&rig, jobs);
    assert!(results[0].is_ok() && is_refused(&results[1]), "{results:?}");

    // The other way round, in a second that has a mark already.
    let fresh = enroll(&rig, &string(&rig, "app/web", ""), &Key::new()).expect("enrolled");
    let fresh = holder(&rig, &fresh.certificate);
    assert!(works(&rig, &fresh));
    let jobs = vec![
        write(&rig, &fresh, "sys/strongroom/renew", &Key::new().body()),
        write(&rig, &operator, "sys/strongroom/revoke/app/web", "{}"),
    ];
    let results = in_one_commit(&rig, jobs);
    let next = holder(&rig, results[0].as_ref().expect("renewed before"));
    assert!(results[1].is_ok() && !works(&rig, &next) && !works(&rig, &fresh));
}

#[test]
fn nothing_from_the_commit_of_a_removal_comes_back() {
    let rig = Rig::new();
    let operator = rig.operator();
    let (_, first) = enrolled(&rig, "app/web");
    let old = holder(&rig, &first.certificate);
    rig.admit("app/new", "app", r#"path "secret/data/app/*" { capabilities = ["create", "update", "read"] }"#);
    let (unused, key) = (string(&rig, "app/new", ""), Key::new());
    let late = attempt(&unused, &key);
    let jobs = vec![
        write(&rig, &old, "sys/strongroom/renew", &Key::new().body()),
        ask(&rig, &operator, Operation::Delete, "sys/strongroom/identities/app/web", ""),
        Box::pin(async { rig.vault.enroll(late, CHANNEL).await.map(|enrolled| enrolled.certificate) }),
        ask(&rig, &operator, Operation::Delete, "sys/strongroom/identities/app/new", ""),
    ];
    let results = in_one_commit(&rig, jobs);
    let made: Vec<Caller> =
        [0, 2].iter().map(|at: &usize| holder(&rig, results[*at].as_ref().expect("made before"))).collect();
    assert!(results[1].is_ok() && results[3].is_ok());
    register(&rig, "app/web", "");
    register(&rig, "app/new", "");
    for caller in made.iter().chain([&old]) {
        assert!(!works(&rig, caller), "{}", caller.identity.path());
    }
    rig.vault.seal();
    rig.unseal().expect("opens");
    assert!(made.iter().all(|caller| !works(&rig, caller)));
}

#[test]
fn a_token_from_the_commit_of_a_removal_does_not_come_back() {
    let rig = Rig::new();
    let operator = rig.operator();
    let text = r#"path "secret/data/app/*" { capabilities = ["read"] }
        path "auth/token/*" { capabilities = ["update", "create", "sudo"] }"#;
    let web = rig.admit("app/web", "maker", text);
    let create = request(Operation::Write, "auth/token/create", r#"{"policies":["maker"],"ttl":"1h"}"#);
    let jobs: Vec<Job<'_>> = vec![
        Box::pin(async {
            let reply = rig.vault.handle(&web, create).await?;
            let auth: serde_json::Value = serde_json::from_slice(reply.auth.as_ref().expect("a token")).expect("JSON");
            Ok(auth["accessor"].as_str().expect("text").to_owned())
        }),
        ask(&rig, &operator, Operation::Delete, "sys/strongroom/identities/app/web", ""),
    ];
    let results = in_one_commit(&rig, jobs);
    let accessor = results[0].as_ref().expect("made before").clone();
    assert!(results[1].is_ok());
    let body = object!({ "accessor": accessor }).to_string();
    let found = rig.write(&operator, "auth/token/lookup-accessor", &body);
    assert!(found.is_err(), "the token is still on record");
}

#[test]
fn a_revocation_by_a_clock_that_was_ahead_does_not_lock_out() {
    let rig = Rig::new();
    let operator = rig.operator();
    let (_, first) = enrolled(&rig, "app/web");
    let old = holder(&rig, &first.certificate);
    rig.clock.advance(20 * HOUR_MS);
    let ahead = enroll(&rig, &string(&rig, "app/web", ""), &Key::new()).expect("enrolled");
    let ahead = holder(&rig, &ahead.certificate);
    revoke(&rig, &operator, "app/web");
    rig.clock.advance((20 * HOUR_MS).wrapping_neg());
    let fresh = enroll(&rig, &string(&rig, "app/web", ""), &Key::new()).expect("enrolled");
    let fresh = holder(&rig, &fresh.certificate);
    assert!(works(&rig, &fresh), "enrolled after the clock was set right");
    assert!(!works(&rig, &old), "revoked");
    rig.vault.seal();
    rig.unseal().expect("opens");
    let next = renew(&rig, &fresh).expect("renews");
    assert!(works(&rig, &next) && !works(&rig, &old));
    revoke(&rig, &operator, "app/web");
    assert!(!works(&rig, &next) && !works(&rig, &fresh));
    rig.clock.advance(20 * HOUR_MS + 60_000);
    assert!(!works(&rig, &ahead), "revoked");
}

#[test]
fn what_is_issued_in_the_second_of_a_revocation_is_not_on_the_list() {
    let rig = Rig::new();
    let operator = rig.operator();
    enrolled(&rig, "app/web");
    let old = serials(&rig, "app/web");
    revoke(&rig, &operator, "app/web");
    let fresh = enroll(&rig, &string(&rig, "app/web", ""), &Key::new()).expect("enrolled");
    assert!(works(&rig, &holder(&rig, &fresh.certificate)));
    let new: Vec<String> = serials(&rig, "app/web").into_iter().filter(|serial| !old.contains(serial)).collect();
    assert!(on_list(&rig, &old[0]) && !on_list(&rig, &new[0]));
    let body = object!({ "csr": Key::new().csr, "identity": "app/quiet" }).to_string();
    register(&rig, "app/quiet", "");
    revoke(&rig, &operator, "app/quiet");
    rig.write(&operator, "sys/strongroom/certificates", &body).expect("signed");
    let behind = rig.read(&operator, "sys/strongroom/ca/stragglers").expect("listed");
    let named = behind["identities"].as_array().expect("a list");
    assert!(named.contains(&"app/quiet".into()), "it holds a certificate that counts: {named:?}");
}

#[test]
fn a_frozen_administrator_gets_back_in_on_the_machine() {
    let rig = Rig::new();
    let first = enroll(&rig, &string(&rig, "ops/olga", ""), &Key::new()).expect("enrolled");
    let old = holder(&rig, &first.certificate);
    let next = renew(&rig, &old).expect("renewed");
    assert!(is_refused(&renew(&rig, &old)), "a copy");
    assert!(rig.read(&next, "sys/mounts").is_err() && rig.read(&rig.operator(), "sys/mounts").is_err(), "frozen");
    let key = Key::new();
    let reply = rig.vault.rescue(&UnsealKey::KeyFile(KEY_FILE), "ops/olga", &key.csr).expect("a certificate");
    let back = holder(&rig, &reply.certificate);
    rig.read(&back, "sys/mounts").expect("in again");
    let shown = rig.read(&back, "sys/strongroom/identities/ops/olga").expect("there");
    assert_eq!(shown["disabled"], false);
    assert!(rig.read(&next, "sys/mounts").is_err() && rig.read(&old, "sys/mounts").is_err(), "a copy of them exists");
    assert_eq!(
        alarms(&rig),
        [
            "renewed-certificate-used-to-renew",
            "identity-enabled-on-the-local-socket",
            "certificate-issued-on-the-local-socket"
        ]
    );
    rig.vault.seal();
    rig.unseal().expect("opens");
    rig.read(&back, "sys/mounts").expect("still in");
    assert!(rig.read(&next, "sys/mounts").is_err());
    // Nothing was wrong this time: the certificates before it stay.
    let again = rig.vault.rescue(&UnsealKey::KeyFile(KEY_FILE), "ops/olga", &Key::new().csr).expect("a certificate");
    rig.read(&holder(&rig, &again.certificate), "sys/mounts").expect("in");
    rig.read(&back, "sys/mounts").expect("still in");
}

#[test]
fn an_ended_certificate_of_a_removed_identity_is_not_renewed() {
    let rig = Rig::new();
    let operator = Caller { not_after_ms: u64::MAX, ..rig.operator() };
    let (key, first) = enrolled(&rig, "app/laptop");
    rig.clock.advance(30 * HOUR_MS);
    rig.ask(&operator, Operation::Delete, "sys/strongroom/identities/app/laptop", "").expect("removed");
    let body = r#"{"policies":["app"],"grace":"7d"}"#;
    rig.write(&operator, "sys/strongroom/identities/app/laptop", body).expect("somebody else");
    assert!(is_refused(&renew_late(&rig, &first.certificate, &key, &Key::new())));
}

#[test]
fn open_strings_end_with_a_revocation_and_a_removal() {
    let rig = Rig::new();
    let operator = rig.operator();
    enrolled(&rig, "app/web");
    register(&rig, "app/other", "");
    let (used, other) = (string(&rig, "app/web", ""), string(&rig, "app/other", ""));
    enroll(&rig, &used, &Key::new()).expect("enrolled");
    let stop = [
        (Operation::Write, "sys/strongroom/revoke/app/web", "{}"),
        (Operation::Delete, "sys/strongroom/identities/app/web", ""),
    ];
    for (operation, path, body) in stop {
        let (open, half) = (string(&rig, "app/web", ""), string(&rig, "app/web", r#","uses":2"#));
        enroll(&rig, &half, &Key::new()).expect("one of two");
        rig.ask(&operator, operation, path, body).expect("done");
        register(&rig, "app/web", "");
        assert!(is_refused(&enroll(&rig, &open, &Key::new())), "{path}");
        assert!(is_refused(&enroll(&rig, &half, &Key::new())), "{path}");
        let kept = rig.read(&operator, "sys/strongroom/enrollments").expect("listed")["key_info"].clone();
        let states: Vec<_> = kept.as_object().expect("an object").values().map(|one| one["state"].clone()).collect();
        assert_eq!(states.iter().filter(|state| *state == "open").count(), 1, "{path}: that of the other");
    }
    assert!(is_refused(&enroll(&rig, &used, &Key::new())));
    assert_eq!(alarms(&rig), ["enrolment-string-used-again"], "who comes with a string that was used is noticed");
    enroll(&rig, &other, &Key::new()).expect("the other's is good");
}

#[test]
fn a_string_in_the_commit_of_a_revocation_ends_too() {
    let rig = Rig::new();
    let operator = rig.operator();
    enrolled(&rig, "app/web");
    let made =
        request(Operation::Write, "sys/strongroom/enrollments/app/web", r#"{"addresses":["vault.example:8201"]}"#);
    let jobs: Vec<Job<'_>> = vec![
        Box::pin(async {
            let reply = rig.vault.handle(&operator, made).await?;
            Ok(json(&reply)["string"].as_str().expect("text").to_owned())
        }),
        write(&rig, &operator, "sys/strongroom/revoke/app/web", "{}"),
    ];
    let results = in_one_commit(&rig, jobs);
    let string = crate::enroll::EnrollString::parse(results[0].as_ref().expect("made")).expect("legal");
    assert!(results[1].is_ok() && is_refused(&enroll(&rig, &string, &Key::new())));
}

#[test]
fn a_short_life_is_not_renewed_into_a_long_one() {
    let rig = Rig::new();
    let operator = rig.operator();
    rig.admit("ci/deploy", "app", r#"path "secret/data/app/*" { capabilities = ["create", "update", "read"] }"#);
    let life = |caller: &Caller| (caller.not_after_ms - caller.not_before_ms) / 1_000 - 300;
    let short = enroll(&rig, &string(&rig, "ci/deploy", r#","certificate_ttl":"1h""#), &Key::new()).expect("enrolled");
    let short = holder(&rig, &short.certificate);
    assert_eq!(life(&short), 3_600);
    let second = renew(&rig, &short).expect("renewed");
    let third = renew(&rig, &second).expect("renewed");
    assert_eq!((life(&second), life(&third)), (3_600, 3_600));
    // What the identity may have shortens it, and never lengthens it.
    for (ttl, expected) in [("10m", 600), ("12h", 3_600)] {
        register(&rig, "ci/deploy", &format!(r#","certificate_ttl":"{ttl}""#));
        let one =
            enroll(&rig, &string(&rig, "ci/deploy", r#","certificate_ttl":"1h""#), &Key::new()).expect("enrolled");
        let next = renew(&rig, &holder(&rig, &one.certificate)).expect("renewed");
        assert_eq!(life(&next), expected, "{ttl}");
    }
    // Also after a restart, for a signed request, and with a long one the identity's own life.
    rig.vault.seal();
    rig.unseal().expect("opens");
    for (ttl, expected) in [("30m", 1_800), ("30d", 12 * 3_600)] {
        let body = object!({ "csr": Key::new().csr, "identity": "ci/deploy", "ttl": ttl }).to_string();
        let reply = rig.write(&operator, "sys/strongroom/certificates", &body).expect("signed");
        let next = renew(&rig, &holder(&rig, &certificate(&reply))).expect("renewed");
        assert_eq!(life(&next), expected, "{ttl}");
    }
}

#[test]
fn a_renewal_after_the_end_is_loud() {
    let rig = Rig::new();
    let operator = Caller { not_after_ms: u64::MAX, ..rig.operator() };
    let (key, first) = enrolled(&rig, "app/laptop");
    rig.write(&operator, "sys/strongroom/identities/app/laptop", r#"{"grace":"3d"}"#).expect("allowed");
    rig.clock.advance(30 * HOUR_MS);
    let before = rig.log().len();
    let next = Key::new();
    let fresh = renew_late(&rig, &first.certificate, &key, &next).expect("within three days");
    let lines: Vec<_> = rig.log().split_off(before);
    assert_eq!(lines[0]["path"], "sys/strongroom/enroll/renew");
    assert_eq!(lines[0]["remote"], "192.0.2.7:4711");
    let issued: Vec<_> = lines.iter().filter(|line| line["kind"] == "issued").collect();
    assert_eq!(issued.len(), 1);
    assert_eq!(issued[0]["identity"], "spiffe://example.org/app/laptop");
    assert_eq!(alarms(&rig), ["certificate-renewed-after-its-end"]);
    let again = renew_late(&rig, &first.certificate, &key, &next).expect("the reply was lost");
    assert_eq!(again.certificate, fresh.certificate);
    assert_eq!(alarms(&rig).len(), 1, "one certificate, one alarm");
    renew(&rig, &holder(&rig, &fresh.certificate)).expect("in time");
    assert_eq!(alarms(&rig).len(), 1);
}

#[test]
fn the_grace_of_the_same_commit_decides() {
    let rig = Rig::new();
    let operator = rig.operator();
    register(&rig, "app/web", r#","grace":"2h","certificate_ttl":"1h""#);
    let (key, first) = enrolled(&rig, "app/web");
    rig.clock.advance(2 * HOUR_MS);
    let none = r#"{"policies":["app"],"grace":"0s"}"#;
    let attempt = late(&first.certificate, &key, &Key::new());
    let jobs: Vec<Job<'_>> = vec![
        write(&rig, &operator, "sys/strongroom/identities/app/web", none),
        Box::pin(async { rig.vault.renew_expired(attempt, CHANNEL).await.map(|enrolled| enrolled.certificate) }),
    ];
    let results = in_one_commit(&rig, jobs);
    assert!(results[0].is_ok() && is_refused(&results[1]), "{results:?}");
}

#[test]
fn a_clock_that_was_ahead_does_not_hide_who_is_here() {
    let rig = Rig::new();
    let operator = Caller { not_after_ms: u64::MAX, ..rig.operator() };
    rig.admit("app/web", "app", r#"path "secret/data/app/*" { capabilities = ["create", "update", "read"] }"#);
    register(&rig, "app/web", r#","certificate_ttl":"30d""#);
    register(&rig, "app/dead", r#","certificate_ttl":"30d""#);
    let made = |identity: &str| {
        let made = enroll(&rig, &string(&rig, identity, ""), &Key::new()).expect("enrolled");
        Caller { bundle: Some([0; 16]), ..holder(&rig, &made.certificate) }
    };
    let (web, dead) = (made("app/web"), made("app/dead"));
    rig.clock.advance(20 * DAY_MS);
    assert!(works(&rig, &web) && works(&rig, &dead));
    rig.clock.advance((20 * DAY_MS).wrapping_neg());
    let behind = || {
        let found = rig.read(&operator, "sys/strongroom/ca/stragglers").expect("listed");
        let named = found["identities"].as_array().expect("a list").clone();
        ["app/web", "app/dead"].map(|path| named.contains(&path.into()))
    };
    assert_eq!(behind(), [false, false], "neither was seen in the last seven days");
    works(&rig, &web);
    assert_eq!(behind(), [true, false], "one of them is here");
    let moved = Caller { remote: "192.0.2.99:4711".to_owned(), bundle: bundle(&rig), ..web.clone() };
    assert!(works(&rig, &moved));
    let seen = |path: &str| rig.read(&operator, &format!("sys/strongroom/identities/{path}")).expect("there");
    let shown = seen("app/web");
    assert!(shown["last_seen"].as_str().expect("text").starts_with("2025-06-15T15:06:41"), "{shown}");
    assert_eq!(shown["source"], "192.0.2.99");
    assert_eq!(behind(), [false, false], "it has today's authorities now");
    // What was seen rightly is written over what was seen wrongly.
    rig.vault.note_sightings().expect("written");
    rig.vault.seal();
    rig.unseal().expect("opens");
    assert_eq!(seen("app/web")["last_seen"], shown["last_seen"]);
    assert_eq!(seen("app/web")["source"], "192.0.2.99");
}

#[test]
fn a_clock_that_was_ahead_brings_nothing_revoked_back() {
    let rig = Rig::new();
    let operator = Caller { not_after_ms: u64::MAX, ..rig.operator() };
    let (_, first) = enrolled(&rig, "app/web");
    let stolen = holder(&rig, &first.certificate);
    let body = object!({ "certificate": serials(&rig, "app/web")[0] }).to_string();
    rig.write(&operator, "sys/strongroom/revoke/app/web", &body).expect("revoked");
    register(&rig, "app/busy", "");
    let issue = |times: usize| {
        for _ in 0..times {
            let body = object!({ "csr": Key::new().csr, "identity": "app/busy" }).to_string();
            rig.write(&operator, "sys/strongroom/certificates", &body).expect("signed");
        }
    };
    // Twice, as after two starts of a machine whose clock is set right a moment later.
    for days in [60, 80] {
        rig.clock.advance(days * DAY_MS);
        issue(6);
        rig.clock.advance((days * DAY_MS).wrapping_neg());
        assert!(!works(&rig, &stolen), "the revocation is still known");
        issue(1);
    }
    rig.vault.seal();
    rig.unseal().expect("opens");
    assert!(!works(&rig, &stolen));
    // Time that really passes clears them away.
    rig.clock.advance(60 * DAY_MS);
    issue(2);
    rig.clock.advance(40 * DAY_MS);
    issue(8);
    let shown = rig.read(&operator, "sys/strongroom/identities/app/web").expect("there");
    assert_eq!(shown["certificates"], object!([]));
}

#[test]
fn rows_of_renewed_certificates_go_early_and_nothing_can_be_had_for_them() {
    let rig = Rig::new();
    let operator = Caller { not_after_ms: u64::MAX, ..rig.operator() };
    let (key, first) = enrolled(&rig, "app/laptop");
    rig.clock.advance(16 * HOUR_MS);
    renew(&rig, &holder(&rig, &first.certificate)).expect("in time");
    register(&rig, "app/laptop", r#","grace":"30d""#);
    register(&rig, "app/busy", "");
    let issue = || {
        let body = object!({ "csr": Key::new().csr, "identity": "app/busy" }).to_string();
        rig.write(&operator, "sys/strongroom/certificates", &body).expect("signed");
    };
    let shown = || rig.read(&operator, "sys/strongroom/identities/app/laptop").expect("there");
    let rows = || shown()["certificates"].as_array().expect("a list").len();
    // A day after its end it is marked, and a day after that it goes.
    for (hours, left) in [(30, 2), (4, 2), (25, 1)] {
        rig.clock.advance(hours * HOUR_MS);
        issue();
        assert_eq!(rows(), left, "after {hours} hours more");
    }
    let late = renew_late(&rig, &first.certificate, &key, &Key::new());
    assert!(is_refused(&late), "nobody knows that it was renewed, so it is worth nothing");
    assert_eq!(alarms(&rig), ["unknown-certificate-used-to-renew"], "but somebody may have copied it");
    assert_eq!((&shown()["disabled"], rows()), (&object!(false), 1));
}
