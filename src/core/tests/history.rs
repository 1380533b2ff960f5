//! Callers that have seen a later state of the vault than the one it is in: nothing is done for them.

use serde_json::json;

use crate::api::error::Reason;
use crate::api::mark::Mark;
use crate::api::reply::Reply;
use crate::api::request::Operation;
use crate::core::request::Request;
use crate::core::{Caller, VaultError};

use super::support::{Rig, request, wait};
use super::tokens::{MAKER, create, with};

fn ask(
    rig: &Rig,
    caller: &Caller,
    operation: Operation,
    (path, body): (&str, &str),
    seen: &Mark,
) -> Result<Reply, VaultError> {
    wait(rig.vault.handle(caller, Request { seen: Some(seen.clone()), ..request(operation, path, body) }))
}

const SECRET: (&str, &str) = ("secret/data/app/x", r#"{"data":{"A":"1"}}"#);

#[test]
fn nothing_is_done_for_a_caller_who_has_seen_a_later_state() {
    let rig = Rig::new();
    let operator = rig.operator();
    rig.write(&operator, SECRET.0, SECRET.1).expect("written");
    let now = rig.vault.mark().expect("unsealed");
    let requests = [
        (Operation::Write, SECRET),
        (Operation::Patch, SECRET),
        (Operation::Delete, ("secret/metadata/app/x", "")),
        (Operation::Write, ("sys/policies/acl/p", r#"{"policy":""}"#)),
        (Operation::Write, ("sys/strongroom/identities/app/web", r#"{"policies":["p"]}"#)),
        (Operation::Write, ("sys/strongroom/enrollments", r#"{"identity":"app/web"}"#)),
        (Operation::Write, ("sys/strongroom/terms/rotate", "")),
        (Operation::Write, ("sys/strongroom/rekey", "{}")),
        (Operation::Write, ("auth/token/create", "{}")),
        (Operation::Write, ("sys/seal", "")),
        (Operation::Read, (SECRET.0, "")),
        (Operation::List, ("secret/metadata/", "")),
        (Operation::Read, ("nowhere/x", "")),
    ];
    let other = "0".repeat(32);
    let later = Mark { generation: now.generation + 1, ..now.clone() };
    let elsewhere = Mark { incarnation: other.clone(), ..now.clone() };
    for seen in [later, elsewhere, Mark { epoch: now.epoch + 1, generation: 1, incarnation: other }] {
        for (operation, what) in requests {
            let refused = ask(&rig, &operator, operation, what, &seen);
            assert!(matches!(&refused, Err(VaultError::RolledBack { now: at }) if *at == now), "{what:?}");
            let line = rig.log().pop().expect("logged");
            assert_eq!((&line["decision"], &line["error"]), (&json!("history"), &json!("rolled-back")), "{line}");
        }
    }
    assert_eq!(rig.vault.mark(), Some(now.clone()), "nothing was committed, and the vault is open");
    // The same state, or an earlier one, is no reason.
    let earlier = Mark { generation: now.generation - 1, ..now.clone() };
    for seen in [now, earlier] {
        assert!(ask(&rig, &operator, Operation::Write, SECRET, &seen).is_ok());
    }
}

#[test]
fn a_token_keeps_its_use_when_nothing_is_done() {
    let rig = Rig::new();
    let web = rig.admit("app/web", "maker", MAKER);
    rig.write(&web, SECRET.0, SECRET.1).expect("written");
    let holder = with(&web, &create(&rig, &web, &json!({ "num_uses": 1 })));
    let now = rig.vault.mark().expect("unsealed");
    let later = Mark { generation: now.generation + 1, ..now.clone() };
    let refused = ask(&rig, &holder, Operation::Read, (SECRET.0, ""), &later);
    assert!(matches!(refused, Err(VaultError::RolledBack { .. })));
    assert_eq!(rig.vault.mark(), Some(now));
    assert!(rig.read(&holder, SECRET.0).is_ok());
}

fn gauge(rig: &Rig) -> u64 {
    let metrics = rig.read(&rig.operator(), "sys/metrics").expect("there");
    let gauges = metrics["gauges"].as_array().expect("a list");
    let found = gauges.iter().find(|gauge| gauge["name"] == "strongroom_rollback_reports").expect("is there");
    found["value"].as_u64().expect("a number")
}

#[test]
fn who_is_not_admitted_gets_the_denial_whatever_it_claims_to_have_seen() {
    let rig = Rig::new();
    let web = rig.admit("app/web", "app", r#"path "secret/data/app/*" { capabilities = ["read"] }"#);
    rig.write(&rig.operator(), "sys/strongroom/disable/app/web", "{}").expect("disabled");
    let now = rig.vault.mark().expect("unsealed");
    let later = Mark { generation: now.generation + 1_000, ..now.clone() };
    let refused = ask(&rig, &web, Operation::Read, (SECRET.0, ""), &later);
    assert!(matches!(refused, Err(VaultError::NotAdmitted(Reason::Disabled))));
    let line = rig.log().pop().expect("logged");
    assert_eq!((&line["decision"], &line["rule"]), (&json!("deny"), &json!("identity-disabled")), "{line}");
    // Nobody that this vault knows.
    let refused = ask(&rig, &rig.caller("app/unknown"), Operation::Read, (SECRET.0, ""), &later);
    assert!(matches!(refused, Err(VaultError::Forbidden)));
    assert_eq!(rig.log().pop().expect("logged")["decision"], "deny");
    // Nor does it learn how much is written here.
    for seen in [None, Some(later.clone())] {
        let refused = rig.vault.mark_for(&web, seen);
        assert!(matches!(refused, Err(VaultError::NotAdmitted(Reason::Disabled))), "{refused:?}");
        let line = rig.log().pop().expect("logged");
        assert_eq!((&line["decision"], &line["path"]), (&json!("deny"), &json!("sys/strongroom/mark")), "{line}");
    }
    assert_eq!(gauge(&rig), 0);
}

#[test]
fn a_report_of_a_rollback_does_not_use_up_the_next_one() {
    let rig = Rig::new();
    let liar = rig.admit("app/liar", "app", r#"path "secret/data/app/*" { capabilities = ["read"] }"#);
    let now = rig.vault.mark().expect("unsealed");
    let later = Mark { generation: now.generation + 1_000, ..now.clone() };
    let told = |caller: &Caller| {
        let refused = rig.vault.mark_for(caller, Some(later.clone()));
        assert!(matches!(&refused, Err(VaultError::RolledBack { now: at }) if *at == now), "{refused:?}");
        let line = rig.log().pop().expect("logged");
        assert_eq!((&line["decision"], &line["error"]), (&json!("history"), &json!("rolled-back")), "{line}");
        line["identity"].as_str().expect("text").to_owned()
    };
    assert_ne!(told(&liar), told(&rig.operator()), "each report has a line of its own");
    assert_eq!(gauge(&rig), 2);
}

#[test]
fn asking_for_the_mark_leaves_no_line_and_is_charged_as_a_read() {
    let rig = Rig::new();
    let web = rig.admit("app/web", "app", r#"path "secret/data/app/*" { capabilities = ["read"] }"#);
    let body = r#"{"rate":2,"identity":"app/web","path":"sys/strongroom/mark"}"#;
    rig.write(&rig.operator(), "sys/quotas/rate-limit/few", body).expect("written");
    let (now, lines) = (rig.vault.mark().expect("unsealed"), rig.log().len());
    let seen = [None, Some(now.clone())].into_iter().cycle();
    let shown =
        seen.map_while(|seen| rig.vault.mark_for(&web, seen).ok()).take(100).inspect(|mark| assert_eq!(*mark, now));
    // The allowance of its own, with which a client compares before it corrects a wrong limit; then its reads.
    assert_eq!(shown.count(), 40 + 2);
    assert_eq!(rig.log().len(), lines + 1);
    let over = rig.vault.mark_for(&web, None);
    assert!(matches!(over, Err(VaultError::RateLimited { .. })), "{over:?}");
    assert_eq!(rig.log().len(), lines + 1, "like every rejection, one line a second");
    rig.vault.seal();
    assert!(matches!(rig.vault.mark_for(&web, None), Err(VaultError::Sealed)));
}
