//! Callers that have seen a later state of the vault than the one it is in: nothing is done for them.

use serde_json::json;

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
