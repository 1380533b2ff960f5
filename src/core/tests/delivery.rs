//! How a client learns of a new value: entity tags, and waiting for a change.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde_json::json;

use super::approvals;
use super::support::*;
use crate::api::reply::{Reply, ReplyStatus};
use crate::api::request::Operation;
use crate::core::{Caller, VaultError};

fn write(rig: &Rig, path: &str, value: &str) {
    let body = json!({ "data": { "K": value } }).to_string();
    rig.write(&rig.operator(), path, &body).expect("written");
}

fn read(rig: &Rig, path: &str, body: &str, tag: Option<&str>) -> Result<Reply, VaultError> {
    let mut asked = request(Operation::Read, path, body);
    asked.if_none_match = tag.map(str::to_owned);
    wait(rig.vault.handle(&rig.operator(), asked))
}

#[test]
fn a_read_with_the_tag_of_the_last_one_is_answered_without_opening_the_value() {
    let rig = Rig::new();
    write(&rig, "secret/data/a", "one");
    let tag = read(&rig, "secret/data/a", "", None).expect("read").etag.expect("a tag");
    let quoted = format!("W/\"x\", \"{tag}\"");
    // What is stored can no longer be opened, and it is not noticed: neither value nor node is looked at.
    rig.disk.spoil(b'v', usize::MAX);
    rig.disk.spoil(b'd', usize::MAX);
    let again = read(&rig, "secret/data/a", "", Some(&quoted)).expect("not read");
    assert_eq!((again.status, again.etag.as_deref()), (ReplyStatus::NotModified, Some(tag.as_str())));
    assert!(rig.log_text().contains("\"status\":304"));
    assert!(matches!(read(&rig, "secret/data/a", "", Some("\"other\"")), Err(VaultError::Integrity)));
}

#[test]
fn a_tag_changes_with_everything_that_the_answer_shows() {
    let rig = Rig::new();
    let tag = |rig: &Rig, body: &str| read(rig, "secret/data/a", body, None).expect("read").etag;
    write(&rig, "secret/data/a", "one");
    let first = tag(&rig, "");
    write(&rig, "secret/data/b", "another secret");
    assert_eq!(tag(&rig, ""), first, "another secret changes nothing");
    assert_ne!(tag(&rig, "{\"version\":1}"), first, "a version is another question");
    write(&rig, "secret/data/a", "one");
    let second = tag(&rig, "");
    assert_ne!(second, first);
    rig.write(&rig.operator(), "secret/metadata/a", "{\"custom_metadata\":{\"x\":\"y\"}}").expect("written");
    assert_ne!(tag(&rig, ""), second);
    rig.write(&rig.operator(), "secret/delete/a", "{\"versions\":[2]}").expect("deleted");
    let gone = read(&rig, "secret/data/a", "", second.as_deref()).expect("described");
    assert_eq!((gone.status, gone.etag), (ReplyStatus::NotFoundWithBody, None));
    // What ends by itself has no tag: the end is written nowhere.
    rig.write(&rig.operator(), "secret/metadata/c", "{\"delete_version_after\":\"1h\"}").expect("written");
    write(&rig, "secret/data/c", "for an hour");
    assert_eq!(read(&rig, "secret/data/c", "", Some("*")).expect("read").status, ReplyStatus::Ok);
    assert_eq!(read(&rig, "secret/data/b", "", Some("*")).expect("read").status, ReplyStatus::NotModified);
}

fn events(rig: &Rig, caller: &Caller, query: &serde_json::Value) -> Result<serde_json::Value, VaultError> {
    wait(rig.vault.handle(caller, request(Operation::Read, "sys/strongroom/events", &query.to_string())))
        .map(|reply| json(&reply))
}

#[test]
fn a_client_waits_for_the_secrets_that_it_may_read() {
    let rig = Arc::new(Rig::new());
    write(&rig, "secret/data/app/prod", "one");
    let operator = rig.operator();
    let now = events(&rig, &operator, &json!({ "path": "secret/app/prod" })).expect("told");
    assert_eq!((&now["changed"], &now["resync"]), (&json!([]), &json!(false)));
    let query = json!({ "path": "secret/app/prod,secret/app/other", "after": now["cursor"], "wait": "30" });
    let waiting = {
        let (rig, query) = (Arc::clone(&rig), query.clone());
        std::thread::spawn(move || {
            let operator = rig.operator();
            events(&rig, &operator, &query)
        })
    };
    std::thread::sleep(Duration::from_millis(50));
    write(&rig, "secret/data/elsewhere", "no reason to wake");
    std::thread::sleep(Duration::from_millis(50));
    assert!(!waiting.is_finished());
    write(&rig, "secret/data/app/prod", "two");
    let told = waiting.join().expect("no panic").expect("told");
    assert_eq!((&told["changed"], &told["resync"]), (&json!(["secret/app/prod"]), &json!(false)));
    // What was missed meanwhile is told at once.
    assert_eq!(events(&rig, &operator, &query).expect("told")["changed"], json!(["secret/app/prod"]));
    let text = r#"path "secret/data/app/prod" { capabilities = ["read"] }"#;
    let app = rig.admit("app", "app", text);
    assert!(events(&rig, &app, &json!({ "path": "secret/app/prod" })).is_ok());
    let both = json!({ "path": "secret/app/prod,secret/app/other" });
    assert!(matches!(events(&rig, &app, &both), Err(VaultError::Forbidden)));
    for bad in [
        json!({}),
        json!({ "path": "a//b" }),
        json!({ "path": "a", "wait": "900" }),
        json!({ "path": "a", "after": "x" }),
    ] {
        assert!(matches!(events(&rig, &operator, &bad), Err(VaultError::BadRequest(_))), "{bad}");
    }
}

#[test]
fn a_cursor_of_another_life_is_told_to_look_again_and_a_seal_wakes_who_waits() {
    let rig = Rig::new();
    write(&rig, "secret/data/a", "one");
    let cursor = events(&rig, &rig.operator(), &json!({ "path": "secret/a" })).expect("told")["cursor"].clone();
    write(&rig, "secret/data/a", "two");
    let rig = rig.restart();
    rig.unseal().expect("unseals");
    let told = events(&rig, &rig.operator(), &json!({ "path": "secret/a", "after": cursor })).expect("told");
    assert_eq!((&told["changed"], &told["resync"]), (&json!(["secret/a"]), &json!(true)));
    let rig = Arc::new(rig);
    let waiting = {
        let rig = Arc::clone(&rig);
        std::thread::spawn(move || events(&rig, &rig.operator(), &json!({ "path": "secret/a", "wait": "30" })))
    };
    std::thread::sleep(Duration::from_millis(50));
    rig.vault.seal();
    assert!(matches!(waiting.join().expect("no panic"), Err(VaultError::Sealed)));
}

#[test]
fn a_rotated_value_wakes_who_waits_for_its_secret() {
    let rig = Rig::new();
    write(&rig, "secret/data/a", "one");
    let cursor = events(&rig, &rig.operator(), &json!({ "path": "secret/a" })).expect("told")["cursor"].clone();
    let path = "sys/strongroom/values/secret/a";
    let policy = json!({ "key": "K", "policy": { "generator": { "type": "uuid" } } });
    rig.write(&rig.operator(), path, &policy.to_string()).expect("taken");
    let query = json!({ "path": "secret/a", "after": cursor });
    assert_eq!(events(&rig, &rig.operator(), &query).expect("told")["changed"], json!([]));
    rig.write(&rig.operator(), path, "{\"key\":\"K\",\"action\":\"rotate\"}").expect("rotated");
    assert_eq!(events(&rig, &rig.operator(), &query).expect("told")["changed"], json!(["secret/a"]));
}

#[test]
fn a_caller_that_hangs_up_while_waiting_is_in_the_log() {
    let rig = Rig::new();
    write(&rig, "secret/data/a", "one");
    let operator = rig.operator();
    let cursor = events(&rig, &operator, &json!({ "path": "secret/a" })).expect("told")["cursor"].clone();
    let query = json!({ "path": "secret/a", "after": cursor, "wait": "30" }).to_string();
    let before = rig.log().len();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let guard = runtime.enter();
    let mut asked = Box::pin(rig.vault.handle(&operator, request(Operation::Read, "sys/strongroom/events", &query)));
    assert!(asked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    assert_eq!(rig.log().len(), before, "it is answered later");
    drop(asked);
    drop(guard);
    let lines = rig.log().split_off(before);
    assert_eq!(lines.len(), 1, "one line for one request: {lines:?}");
    assert_eq!((&lines[0]["path"], &lines[0]["error"]), (&json!("sys/strongroom/events"), &json!("unavailable")));
    assert_eq!(lines[0]["id"], json!(operator.request_id));
}

#[test]
fn an_approved_read_that_nobody_waits_for_is_not_audited_as_answered() {
    const PATH: &str = "sys/strongroom/audit-key";
    let rig = approvals::rig();
    let olga = rig.operator();
    let id = approvals::asked(rig.ask(&olga, Operation::Read, PATH, ""));
    approvals::say(&rig, &approvals::bert(&rig), &id, "approve").expect("approved");
    let before = rig.log().len();
    let line = || rig.log().into_iter().skip(before).find(|line| line["path"] == PATH && line["type"] == "exchange");
    let read = async {
        let mut asked = Box::pin(rig.vault.handle(&olga, request(Operation::Read, PATH, "")));
        let gone = std::future::poll_fn(|context| Poll::Ready(asked.as_mut().poll(context).is_pending())).await;
        assert!(gone, "the approval is being used up");
        drop(asked);
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            if let Some(line) = line() {
                return line;
            }
        }
    };
    let read = wait(async { tokio::time::timeout(Duration::from_secs(20), read).await });
    assert_eq!(read.expect("audited")["error"], "unavailable");
    assert_eq!(approvals::show(&rig, &id)["state"], "used");
}
