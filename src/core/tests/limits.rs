//! Limits of what an identity may ask for.

use super::support::{Rig, json};
use crate::api::request::Operation;
use crate::core::{Caller, VaultError};

const ALL: &str = r#"path "*" { capabilities = ["create", "read", "update", "delete", "list", "sudo"] }"#;
const QUOTA: &str = "sys/quotas/rate-limit";

fn set(rig: &Rig, name: &str, body: &str) {
    rig.write(&rig.operator(), &format!("{QUOTA}/{name}"), body).expect("the quota is taken");
}

/// How many reads of something that is there pass at once, up to 100.
fn passing(rig: &Rig, caller: &Caller) -> usize {
    (0..100).take_while(|_| rig.read(caller, "secret/data/x").is_ok()).count()
}

/// A vault with a secret and two identities that may do everything.
fn rig() -> (Rig, Caller, Caller) {
    let rig = Rig::new();
    rig.write(&rig.operator(), "secret/data/x", r#"{"data":{"a":"b"}}"#).expect("written");
    let (web, job) = (rig.admit("app/web", "all", ALL), rig.admit("app/job", "all", ALL));
    (rig, web, job)
}

#[test]
fn a_limit_holds_one_identity_and_ends_by_itself() {
    let (rig, web, job) = rig();
    set(&rig, "apps", r#"{"identity":"app/*","class":"read","rate":5,"burst":10}"#);
    assert_eq!(passing(&rig, &web), 10);
    match rig.read(&web, "secret/data/x") {
        Err(error @ VaultError::RateLimited { retry_after_s: 1, .. }) => {
            assert_eq!(error.to_string(), "request path \"secret/data/x\": rate limit quota exceeded");
            assert_eq!((error.status(), error.code()), (429, "rate-limited"));
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
    rig.write(&web, "secret/data/x", r#"{"data":{"a":"c"}}"#).expect("another class");
    assert_eq!(passing(&rig, &job), 10, "another identity");
    assert_eq!(passing(&rig, &rig.operator()), 100, "an identity that is not meant");
    rig.clock.advance(1_000);
    assert_eq!(passing(&rig, &web), 5);
}

#[test]
fn objects_outlive_the_process() {
    let (rig, web, _) = rig();
    set(&rig, "web", r#"{"identity":"app/web","class":"read","rate":"2.5","interval":"2m","block_interval":"5m"}"#);
    set(&rig, "default", r#"{"read":50}"#);
    let rig = rig.restart();
    rig.unseal().expect("unseals");
    let shown = rig.read(&rig.operator(), &format!("{QUOTA}/web")).expect("there");
    let want = serde_json::json!({
        "name": "web", "type": "rate-limit", "path": "", "rate": 2.5, "interval": 120, "block_interval": 300,
        "inheritable": true, "role": "", "identity": "app/web", "class": "read", "per": "identity", "burst": 3,
    });
    assert_eq!(shown, want);
    assert_eq!(passing(&rig, &web), 3);
    assert!(matches!(rig.read(&web, "secret/data/x"), Err(VaultError::RateLimited { retry_after_s: 300, .. })));
    assert_eq!(passing(&rig, &rig.operator()), 100, "fifty a second, twice that at once");
    assert!(rig.read(&rig.operator(), "secret/data/x").is_err());
}

#[test]
fn the_default_holds_without_an_object_and_comes_back() {
    let (rig, web, _) = rig();
    let shown = || rig.read(&rig.operator(), &format!("{QUOTA}/default")).expect("always there");
    let before = shown();
    assert_eq!((&before["read"], &before["write"], &before["stored"]), (&20_000.into(), &2_000.into(), &false.into()));
    set(&rig, "default", r#"{"read":0,"list":3,"list_burst":4,"write":1000}"#);
    assert_eq!(shown()["list_burst"], 4);
    assert_eq!(shown()["write_burst"], 2_000);
    assert_eq!(shown()["stored"], true);
    let lists = (0..100).take_while(|_| rig.ask(&web, Operation::List, "secret/metadata/", "").is_ok());
    assert_eq!(lists.count(), 4);
    rig.ask(&rig.operator(), Operation::Delete, &format!("{QUOTA}/default"), "").expect("deleted");
    assert_eq!(shown(), before);
    assert!(rig.ask(&web, Operation::List, "secret/metadata/", "").is_ok(), "in force at once");
}

#[test]
fn patterns_take_precedence_over_the_default_and_each_other() {
    let (rig, web, job) = rig();
    set(&rig, "all", r#"{"rate":50}"#);
    set(&rig, "apps", r#"{"identity":"app/*","rate":20}"#);
    set(&rig, "web", r#"{"identity":"app/web","class":"read","path":"secret","rate":7}"#);
    set(&rig, "shared", r#"{"identity":"app/*","class":"write","per":"all","rate":1}"#);
    assert_eq!(rig.read(&rig.operator(), &format!("{QUOTA}/web")).expect("there")["path"], "secret/");
    assert_eq!((passing(&rig, &rig.operator()), passing(&rig, &web), passing(&rig, &job)), (50, 7, 20));
    rig.clock.advance(60_000);
    rig.write(&web, "secret/data/y", r#"{"data":{"a":"b"}}"#).expect("the one that both share");
    let second = rig.write(&job, "secret/data/y", r#"{"data":{"a":"b"}}"#).map(drop);
    assert!(matches!(second, Err(VaultError::RateLimited { .. })), "{second:?}");
}

#[test]
fn an_operator_can_always_raise_a_limit() {
    let rig = Rig::new();
    let operator = rig.operator();
    set(&rig, "tight", r#"{"rate":0.001,"block_interval":"1h"}"#);
    assert!(rig.read(&operator, "sys/mounts").is_ok());
    assert!(matches!(rig.read(&operator, "sys/mounts"), Err(VaultError::RateLimited { .. })));
    let names = rig.ask(&operator, Operation::List, QUOTA, "").map(|reply| json(&reply)).expect("listed");
    assert_eq!(names["keys"], serde_json::json!(["tight"]));
    set(&rig, "tight", r#"{"rate":100}"#);
    assert!(rig.read(&operator, "sys/mounts").is_ok(), "at once, in spite of the block");
    // The reserve itself is small and comes back.
    let left = (0..100).take_while(|_| rig.read(&operator, &format!("{QUOTA}/tight")).is_ok()).count();
    assert!(left < 40, "{left}");
    rig.clock.advance(1_000);
    set(&rig, "default", r#"{"write":0}"#);
    rig.write(&operator, "sys/seal", "").expect("sealed");
    assert!(rig.vault.is_sealed());
}

#[test]
fn bytes_are_limited_after_the_answer() {
    let (rig, web, job) = rig();
    let big = serde_json::json!({ "data": { "a": "x".repeat(5_000) } }).to_string();
    rig.write(&web, "secret/data/big", &big).expect("written");
    set(&rig, "bytes", r#"{"identity":"app/*","class":"bytes","rate":1000,"burst":1000}"#);
    assert!(rig.read(&web, "secret/data/big").is_ok());
    match rig.read(&web, "secret/data/x") {
        Err(VaultError::RateLimited { retry_after_s, .. }) => assert!((4..=6).contains(&retry_after_s)),
        other => panic!("expected a refusal, got {other:?}"),
    }
    assert!(rig.read(&job, "secret/data/x").is_ok());
    rig.clock.advance(6_000);
    assert!(rig.read(&web, "secret/data/x").is_ok());
}

#[test]
fn a_revoked_certificate_takes_nothing_from_its_identity() {
    let (rig, web, _) = rig();
    set(&rig, "all", r#"{"rate":10}"#);
    let mut ended = web.clone();
    ended.not_after_ms = 0;
    ended.fingerprint = [9; 32];
    let outcomes: Vec<_> = (0..30).map(|_| rig.read(&ended, "secret/data/x").expect_err("refused").code()).collect();
    assert_eq!(outcomes.iter().filter(|code| **code == "denied").count(), 10);
    assert_eq!(outcomes.iter().filter(|code| **code == "rate-limited").count(), 20);
    assert_eq!(passing(&rig, &web), 10);
}

#[test]
fn the_audit_log_is_no_amplifier() {
    let (rig, web, _) = rig();
    set(&rig, "web", r#"{"identity":"app/web","class":"read","rate":1}"#);
    let lines = |rig: &Rig| {
        let log = rig
            .log()
            .into_iter()
            .filter(|line| line["reply"]["error"] == "rate-limited" || line.to_string().contains("quota web"));
        log.map(|line| line.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(passing(&rig, &web), 1);
    for _ in 0..500 {
        assert!(rig.read(&web, "secret/data/x").is_err());
    }
    let first = lines(&rig);
    assert_eq!(first.len(), 1, "{first:?}");
    assert!(first[0].contains("quota web (read)") && first[0].contains("rate-limited"), "{first:?}");
    rig.clock.advance(999);
    assert!(rig.read(&web, "secret/data/x").is_err());
    assert_eq!(lines(&rig).len(), 1);
    rig.clock.advance(1);
    assert!(rig.read(&web, "secret/data/x").is_ok());
    assert!(rig.read(&web, "secret/data/x").is_err());
    let both = lines(&rig);
    assert_eq!(both.len(), 2);
    assert!(both[1].contains("501 more rejected since the last line"), "{}", both[1]);
    let metrics = rig.read(&rig.operator(), "sys/metrics").expect("there");
    let gauge = |name: &str| {
        let gauges = metrics["gauges"].as_array().expect("a list");
        gauges.iter().find(|gauge| gauge["name"] == name).map(|gauge| gauge["value"].clone()).expect("is there")
    };
    assert_eq!(gauge("strongroom_limits_reads_refused"), 503);
    assert_eq!(gauge("strongroom_limits_refusals_not_audited"), 501);
    assert!(gauge("strongroom_limits_bytes_answered").as_u64().is_some_and(|bytes| bytes > 0));
}

#[test]
fn bad_bodies_change_nothing() {
    let rig = Rig::new();
    let check = |name: &str, body: &str, want: &str| match rig.write(&rig.operator(), &format!("{QUOTA}/{name}"), body)
    {
        Err(VaultError::BadRequest(text)) => assert!(text.contains(want), "{body}: {text}"),
        other => panic!("{body}: {:?}", other.map(drop)),
    };
    set(&rig, "there", r#"{"rate":7,"path":"secret/"}"#);
    check("q", "{}", "'rate' is invalid");
    check("q", r#"{"rate":0}"#, "'rate' is invalid");
    check("q", r#"{"rate":-1}"#, "'rate' is invalid");
    check("q", r#"{"rate":1e3}"#, "'rate' is invalid");
    check("q", r#"{"rate":[1]}"#, "'rate' is invalid");
    check("q", r#"{"rate":1,"interval":"soon"}"#, "'interval' is invalid");
    check("q", r#"{"rate":1,"interval":"721h"}"#, "'interval' is invalid");
    check("q", r#"{"rate":1,"block_interval":"9000h"}"#, "'block_interval' is invalid");
    check("q", r#"{"rate":1,"path":"nowhere/x"}"#, "invalid mount path \"nowhere/x\"");
    check("q", r#"{"rate":1,"path":"secret/a*b"}"#, "'path' is invalid");
    check("q", r#"{"rate":1,"path":"secret/","inheritable":true}"#, "inheritable");
    check("q", r#"{"rate":1,"role":"web"}"#, "'role' is not supported");
    check("q", r#"{"rate":1,"identity":"app*"}"#, "'identity' is invalid");
    check("q", r#"{"rate":1,"class":"reads"}"#, "\"class\" must be");
    check("q", r#"{"rate":1,"per":"host"}"#, "\"per\" must be");
    check("q", r#"{"rate":1,"burst":1.5}"#, "\"burst\" must be");
    check("q", r#"{"rate":1,"group_by":"ip"}"#, "unknown field");
    check("q", r#"{"rate":1,"type":"lease-count"}"#, "cannot differ");
    check("q", r#"{"rate":1,"path":"secret"}"#, "exists under the name \"there\"");
    check("a:b", r#"{"rate":1}"#, "the name of a quota");
    check("default", r#"{"rate":1}"#, "unknown field");
    check("default", r#"{"read":-1}"#, "whole number");
    check("default", r#"{"read":5,"read_burst":0}"#, "'burst' is invalid");
    let names = rig.ask(&rig.operator(), Operation::List, QUOTA, "").map(|reply| json(&reply)).expect("listed");
    assert_eq!(names["keys"], serde_json::json!(["there"]));
    let config = rig.read(&rig.operator(), "sys/quotas/config").expect("there");
    assert_eq!(config["enable_rate_limit_audit_logging"], true);
}

#[test]
fn only_who_may_changes_limits() {
    let rig = Rig::new();
    let web = rig.admit("app/web", "reader", r#"path "secret/*" { capabilities = ["read"] }"#);
    for operation in [Operation::Read, Operation::Write, Operation::Delete] {
        let outcome = rig.ask(&web, operation, &format!("{QUOTA}/default"), r#"{"read":1}"#).map(drop);
        assert!(matches!(outcome, Err(VaultError::Forbidden)), "{outcome:?}");
    }
}

#[test]
fn comparing_the_history_takes_neither_a_line_nor_the_reserve() {
    let (rig, web, _) = rig();
    set(&rig, "web", r#"{"identity":"app/web","class":"read","rate":1}"#);
    assert_eq!(passing(&rig, &web), 1);
    for _ in 0..100 {
        assert!(rig.read(&web, "secret/data/x").is_err());
    }
    rig.clock.advance(1_000);
    assert!(rig.read(&web, "secret/data/x").is_ok());
    while rig.vault.mark_for(&web, None).is_ok() {
        assert!(rig.log().len() < 1_000);
    }
    let line = rig.log().pop().expect("a line").to_string();
    assert!(line.contains("more rejected since the last line"), "{line}");
    let sealing = rig.write(&web, "sys/seal", "").map(drop);
    assert!(sealing.is_ok(), "not over the reserve: {sealing:?}");
}
