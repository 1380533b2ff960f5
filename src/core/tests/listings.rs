//! Listings: pages, what they are charged, and large ones apart from the threads that serve connections.

use std::sync::Arc;
use std::task::{Context, Waker};

use super::support::*;
use crate::api::error::Reason;
use crate::api::request::Operation;
use crate::api::secret::SecretText;
use crate::core::{Caller, VaultError};

/// More than is looked at on the thread of the request.
const MANY: usize = 300;

/// A vault with a large folder.
fn with_folder() -> (Rig, Vec<String>) {
    let rig = Rig::new();
    let operator = rig.operator();
    // As many at a time as fit into a commit.
    let names: Vec<String> = (0..MANY).map(|n| format!("n{n:04}")).collect();
    for name in &names {
        rig.write(&operator, &format!("secret/data/big/{name}"), r#"{"data":{"A":"1"}}"#).expect("written");
    }
    (rig, names)
}

fn keys(rig: &Rig, caller: &Caller, path: &str, body: &str) -> Result<Vec<String>, VaultError> {
    let reply = rig.ask(caller, Operation::List, path, body)?;
    let keys = json(&reply)["keys"].as_array().expect("keys").clone();
    Ok(keys.iter().map(|key| key.as_str().expect("a name").to_owned()).collect())
}

#[test]
fn a_folder_comes_in_pages_that_make_up_the_whole() {
    let rig = Rig::new();
    let operator = rig.operator();
    for path in ["a", "a/x", "a-b", "b/y", "c"] {
        rig.write(&operator, &format!("secret/data/f/{path}"), r#"{"data":{"A":"1"}}"#).expect("written");
    }
    let list = |body: &str| keys(&rig, &operator, "secret/metadata/f/", body).expect("listed");
    // By bytes: a folder's slash comes after a dash.
    let all = ["a", "a-b", "a/", "b/", "c"];
    assert_eq!(list("{}"), all);
    assert_eq!(list(r#"{"limit":"0"}"#), all);
    assert_eq!(list(r#"{"limit":"2"}"#), ["a", "a-b"]);
    assert_eq!(list(r#"{"after":"a-b","limit":"2"}"#), ["a/", "b/"]);
    assert_eq!(list(r#"{"after":"aa"}"#), ["b/", "c"], "it need not be there");
    assert_eq!(list(r#"{"after":"c"}"#), Vec::<String>::new());
    let wrong = keys(&rig, &operator, "secret/metadata/f/", r#"{"limit":"many"}"#);
    assert!(matches!(wrong, Err(VaultError::BadRequest(_))), "{wrong:?}");
}

#[test]
fn names_of_the_system_come_in_pages_too() {
    let rig = Rig::new();
    let operator = rig.operator();
    for name in ["a", "b", "c"] {
        rig.admit(&format!("app/{name}"), name, r#"path "x" { capabilities = ["read"] }"#);
        let group = format!(r#"{{"policies":["{name}"],"members":[]}}"#);
        rig.write(&operator, &format!("sys/strongroom/groups/{name}"), &group).expect("taken");
        let limit = format!(r#"{{"rate":5,"path":"secret/{name}"}}"#);
        rig.write(&operator, &format!("sys/quotas/rate-limit/{name}"), &limit).expect("taken");
    }
    for (path, page, expected) in [
        ("sys/policies/acl/", r#"{"after":"a","limit":"2"}"#, vec!["admin", "b"]),
        ("sys/policy/", r#"{"after":"a","limit":"1"}"#, vec!["admin"]),
        ("sys/strongroom/identities/app/", r#"{"after":"a","limit":"1"}"#, vec!["b"]),
        ("sys/strongroom/groups/", r#"{"after":"b"}"#, vec!["c"]),
        ("sys/quotas/rate-limit/", r#"{"limit":"2"}"#, vec!["a", "b"]),
    ] {
        assert_eq!(keys(&rig, &operator, path, page).expect("listed"), expected, "{path}");
    }
}

#[test]
fn a_large_folder_is_listed_apart_from_the_thread_that_asks() {
    let (rig, names) = with_folder();
    let operator = rig.operator();
    let small = rig.vault.handle(&operator, request(Operation::List, "secret/metadata/", ""));
    at_once(small).expect("a small folder is listed at once");
    assert_eq!(keys(&rig, &operator, "secret/metadata/big/", "").expect("listed"), names);
    // The audit log has it like any other.
    let line = rig.log().pop().expect("a line");
    assert_eq!((&line["operation"], &line["path"]), (&"list".into(), &"secret/metadata/big/".into()));

    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let guard = runtime.enter();
    let mut large = Box::pin(rig.vault.handle(&operator, request(Operation::List, "secret/metadata/big/", "")));
    assert!(large.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(), "the thread that asks goes on");
    drop(guard);
    assert!(runtime.block_on(large).is_ok());
}

#[test]
fn who_goes_away_ends_the_work_and_is_charged_for_it() {
    let (rig, names) = with_folder();
    let lister = rig.admit("app/lister", "lister", r#"path "secret/metadata/big/*" { capabilities = ["list"] }"#);
    let before = rig.log().len();
    let reads = rig.spy.reads();
    rig.spy.hold_reads(true);
    {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let _guard = runtime.enter();
        let mut asked = Box::pin(rig.vault.handle(&lister, request(Operation::List, "secret/metadata/big/", "")));
        assert!(asked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        rig.spy.await_read();
        drop(asked);
        rig.spy.hold_reads(false);
        // The runtime waits for the thread.
    }
    assert!(rig.spy.reads() - reads < names.len() as u64 / 2, "it went on with nobody there");
    let lines = rig.log().split_off(before);
    assert_eq!(lines.len(), 1, "the request is in the log all the same");
    assert_eq!(lines[0]["error"], "unavailable");
}

#[test]
fn a_seal_does_not_wait_for_a_listing() {
    let (rig, names) = with_folder();
    let operator = rig.operator();
    let reads = rig.spy.reads();
    rig.spy.hold_reads(true);
    let outcome = std::thread::scope(|scope| {
        let listing = scope.spawn(|| keys(&rig, &operator, "secret/metadata/big/", ""));
        rig.spy.await_read();
        let sealing = scope.spawn(|| rig.vault.seal());
        while !rig.vault.is_sealed() {
            std::thread::yield_now();
        }
        rig.spy.hold_reads(false);
        sealing.join().expect("seals");
        listing.join().expect("answered")
    });
    assert!(matches!(outcome, Err(VaultError::Sealed)), "{outcome:?}");
    assert!(rig.spy.reads() - reads < names.len() as u64 / 2);
}

#[test]
fn lists_in_a_loop_are_slowed_by_what_they_look_at() {
    let (rig, _) = with_folder();
    let operator = rig.operator();
    let lister = rig.admit("app/lister", "lister", r#"path "secret/*" { capabilities = ["list", "read"] }"#);
    let limit = r#"{"identity":"app/lister","class":"list","rate":1,"burst":10}"#;
    rig.write(&operator, "sys/quotas/rate-limit/slow", limit).expect("taken");
    // Each costs one for itself and three for the 300 names.
    let mut listed = 0;
    while keys(&rig, &lister, "secret/metadata/big/", r#"{"limit":"1"}"#).is_ok() {
        listed += 1;
        assert!(listed < 10, "as if they were free");
    }
    assert_eq!(listed, 3, "ten are given at once, and each takes four");
    assert!(rig.read(&lister, "secret/data/big/n0001").is_ok(), "reads have an account of their own");
    rig.clock.advance(2_000);
    assert!(matches!(keys(&rig, &lister, "secret/metadata/", ""), Err(VaultError::RateLimited { .. })));
    rig.clock.advance(2_000);
    keys(&rig, &lister, "secret/metadata/", "").expect("the debt is paid");
}

#[test]
fn a_report_asked_for_with_get_is_no_way_around_the_charge() {
    let rig = Rig::new();
    let operator = rig.operator();
    for n in 0..MANY {
        rig.write(
            &operator,
            &format!("sys/policies/acl/p{n}"),
            r#"{"policy":"path \"x\" { capabilities = [\"read\"] }"}"#,
        )
        .expect("taken");
    }
    let text = r#"path "sys/policies/acl" { capabilities = ["read"] } path "secret/*" { capabilities = ["read"] }"#;
    let reader = rig.admit("app/reader", "reader", text);
    rig.write(&operator, "secret/data/a", r#"{"data":{"A":"1"}}"#).expect("written");
    let limit = r#"{"identity":"app/reader","class":"list","rate":1,"burst":10}"#;
    rig.write(&operator, "sys/quotas/rate-limit/slow", limit).expect("taken");
    let mut answered = 0;
    while rig.read(&reader, "sys/policies/acl").is_ok() {
        answered += 1;
        assert!(answered < 10, "as if they were free");
    }
    assert_eq!(answered, 4, "ten are given at once, and each takes three");
    assert!(rig.read(&reader, "secret/data/a").is_ok(), "other reads go on");
    rig.clock.advance(3_000);
    rig.read(&reader, "sys/policies/acl").expect("the debt is paid");
}

#[test]
fn a_revocation_list_is_charged_for_the_certificates_that_it_goes_through() {
    let rig = Rig::new();
    let operator = rig.operator();
    let reader = rig.admit("app/reader", "reader", r#"path "x" { capabilities = ["read"] }"#);
    for _ in 0..1_000 {
        rig.vault.issue_client(&reader.identity, 3_600).expect("issued");
    }
    let limit = r#"{"identity":"app/reader","class":"list","rate":1,"burst":2}"#;
    rig.write(&operator, "sys/quotas/rate-limit/slow", limit).expect("taken");
    for _ in 0..3 {
        rig.read(&reader, "sys/strongroom/crl").expect("anybody may have it");
    }
    // Two are given at once, and each takes one; the third is asked for with nothing left and nothing owed.
    let fourth = rig.read(&reader, "sys/strongroom/crl");
    assert!(matches!(fourth, Err(VaultError::RateLimited { .. })), "as if they were free");
}

#[test]
fn a_right_that_ends_while_a_listing_waits_is_noticed() {
    let (rig, _) = with_folder();
    let operator = rig.operator();
    let lister = rig.admit("app/lister", "lister", r#"path "secret/metadata/big/*" { capabilities = ["list"] }"#);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let guard = runtime.enter();
    // All places are taken by somebody who waits at the store.
    rig.spy.hold_reads(true);
    let places = std::thread::available_parallelism().map_or(1, usize::from).div_euclid(2).clamp(1, 8);
    let mut others: Vec<_> = (0..places)
        .map(|_| Box::pin(rig.vault.handle(&operator, request(Operation::List, "secret/metadata/big/", ""))))
        .collect();
    for other in &mut others {
        assert!(other.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    rig.spy.await_read();
    let mut waits = Box::pin(rig.vault.handle(&lister, request(Operation::List, "secret/metadata/big/", "")));
    assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(guard);
    rig.spy.hold_reads(false);
    rig.write(&operator, "sys/strongroom/disable/app/lister", "{}").expect("disabled");
    for other in others {
        assert!(runtime.block_on(other).is_ok());
    }
    assert!(matches!(runtime.block_on(waits), Err(VaultError::NotAdmitted(Reason::Disabled))));
}

/// Lists the large folder, and does `meanwhile` while the listing waits for its first record.
fn listed_during(rig: &Rig, lister: &Caller, meanwhile: impl FnOnce()) -> Result<Vec<String>, VaultError> {
    rig.spy.hold_one_read();
    std::thread::scope(|scope| {
        let listing = scope.spawn(|| keys(rig, lister, "secret/metadata/big/", ""));
        rig.spy.await_read();
        meanwhile();
        rig.spy.hold_reads(false);
        listing.join().expect("answered")
    })
}

#[test]
fn a_right_that_ends_while_a_listing_runs_is_noticed_before_it_is_answered() {
    let (rig, names) = with_folder();
    let operator = rig.operator();
    let text = r#"path "secret/metadata/big/*" { capabilities = ["list"] }
path "auth/token/create" { capabilities = ["update"] }"#;
    let lister = rig.admit("app/lister", "lister", text);
    let whole = listed_during(&rig, &lister, || {
        rig.admit("app/other", "other", r#"path "x" { capabilities = ["read"] }"#);
    });
    assert_eq!(whole.expect("it is about somebody else"), names);

    // A token that is revoked ends like the identity itself.
    let made = rig.write(&lister, "auth/token/create", "{}").expect("made").auth.expect("a token");
    let made: serde_json::Value = serde_json::from_slice(&made).expect("JSON");
    let token = made["client_token"].as_str().expect("a text").to_owned();
    let body = serde_json::json!({ "token": token }).to_string();
    let with_token = Caller { token: Some(Arc::new(SecretText::new(token))), ..lister.clone() };
    assert_eq!(keys(&rig, &with_token, "secret/metadata/big/", "").expect("listed"), names);
    let refused = listed_during(&rig, &with_token, || {
        rig.write(&operator, "auth/token/revoke", &body).expect("revoked");
    });
    assert!(matches!(refused, Err(VaultError::Forbidden)), "{refused:?}");

    let refused = listed_during(&rig, &lister, || {
        rig.write(&operator, "sys/strongroom/disable/app/lister", "{}").expect("disabled");
    });
    assert!(matches!(refused, Err(VaultError::NotAdmitted(Reason::Disabled))), "{refused:?}");
    let line = rig.log().pop().expect("a line");
    assert_eq!((&line["operation"], &line["error"]), (&"list".into(), &"denied".into()));
}

#[test]
fn a_caller_that_hangs_up_before_the_turn_of_its_listing_is_in_the_log() {
    let (rig, _) = with_folder();
    let lister = rig.admit("app/lister", "lister", r#"path "secret/metadata/big/*" { capabilities = ["list"] }"#);
    let operator = rig.operator();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let guard = runtime.enter();
    rig.spy.hold_reads(true);
    let list = |caller| Box::pin(rig.vault.handle(caller, request(Operation::List, "secret/metadata/big/", "")));
    let places = std::thread::available_parallelism().map_or(1, usize::from).div_euclid(2).clamp(1, 8);
    let mut others: Vec<_> = (0..places).map(|_| list(&operator)).collect();
    for other in &mut others {
        assert!(other.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    rig.spy.await_read();
    let before = rig.log().len();
    let mut waits = list(&lister);
    assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(waits);
    let lines = rig.log().split_off(before);
    drop(guard);
    rig.spy.hold_reads(false);
    for other in others {
        assert!(runtime.block_on(other).is_ok());
    }
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((&lines[0]["identity"], &lines[0]["error"]), (&lister.identity.uri().into(), &"unavailable".into()));
}

#[test]
fn an_identity_with_many_certificates_is_shown_apart_from_the_thread_that_asks() {
    let rig = Rig::new();
    let operator = rig.operator();
    let app = rig.admit("app/web", "app", r#"path "x" { capabilities = ["read"] }"#);
    for _ in 0..MANY {
        rig.vault.issue_client(&app.identity, 3_600).expect("issued");
    }
    let path = "sys/strongroom/identities/app/web";
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let guard = runtime.enter();
    let mut shown = Box::pin(rig.vault.handle(&operator, request(Operation::Read, path, "")));
    assert!(shown.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending(), "the thread that asks goes on");
    drop(guard);
    let shown = json(&runtime.block_on(shown).expect("shown"));
    assert_eq!(shown["certificates"].as_array().map(Vec::len), Some(MANY));
}
