//! Group commit: one pass of syncs for many writers, and what a kill at each step leaves.

use std::sync::Arc;

use super::support::{Fault, Rig, at_once, json, request};
use crate::api::error::Reason;
use crate::api::request::Operation;
use crate::core::VaultError;

const WRITERS: usize = 16;

#[test]
fn waiting_writers_share_a_commit() {
    let rig = Arc::new(Rig::new());
    rig.spy.clear();
    rig.spy.hold_anchor();
    std::thread::scope(|scope| {
        for n in 0..WRITERS {
            let rig = Arc::clone(&rig);
            scope.spawn(move || {
                let body = format!(r#"{{"data":{{"n":{n}}}}}"#);
                rig.write(&rig.operator(), &format!("secret/data/k{n}"), &body).expect("written");
            });
        }
        rig.spy.await_held();
        // The first group stands at its anchor. The others have queued once their futures were polled; there is no
        // signal for that, and the bound below holds for any interleaving but the one where each comes alone.
        std::thread::sleep(std::time::Duration::from_millis(100));
        rig.spy.release();
    });
    let commits = rig.spy.count("commit");
    assert!(commits < WRITERS, "{commits} commits for {WRITERS} writes");
    assert_eq!(rig.spy.count("anchor"), commits);
    for n in 0..WRITERS {
        let value = rig.read(&rig.operator(), &format!("secret/data/k{n}")).expect("there");
        assert_eq!(value["data"]["n"], n);
    }
}

#[test]
fn check_and_set_has_one_winner() {
    let rig = Arc::new(Rig::new());
    let won: usize = std::thread::scope(|scope| {
        let tries: Vec<_> = (0..WRITERS)
            .map(|n| {
                let rig = Arc::clone(&rig);
                scope.spawn(move || {
                    let body = format!(r#"{{"options":{{"cas":0}},"data":{{"n":{n}}}}}"#);
                    match rig.write(&rig.operator(), "secret/data/one", &body) {
                        Ok(_) => 1,
                        Err(VaultError::Because(Reason::CheckAndSet, _)) => 0,
                        Err(other) => panic!("{other}"),
                    }
                })
            })
            .collect();
        tries.into_iter().map(|one| one.join().expect("no panic")).sum()
    });
    assert_eq!(won, 1);
    let value = rig.read(&rig.operator(), "secret/data/one").expect("there");
    assert_eq!(value["metadata"]["version"], 1);
}

#[test]
fn increments_are_not_lost() {
    let rig = Arc::new(Rig::new());
    rig.write(&rig.operator(), "secret/data/count", r#"{"data":{"n":0}}"#).expect("written");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let rig = Arc::clone(&rig);
            scope.spawn(move || {
                let mut done = 0;
                while done < 4 {
                    let now = rig.read(&rig.operator(), "secret/data/count").expect("there");
                    let next = now["data"]["n"].as_u64().expect("a number") + 1;
                    let body =
                        format!(r#"{{"options":{{"cas":{}}},"data":{{"n":{next}}}}}"#, now["metadata"]["version"]);
                    match rig.write(&rig.operator(), "secret/data/count", &body) {
                        Ok(_) => done += 1,
                        Err(VaultError::Because(Reason::CheckAndSet, _)) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            });
        }
    });
    let value = rig.read(&rig.operator(), "secret/data/count").expect("there");
    assert_eq!(value["data"]["n"], 32);
    assert_eq!(value["metadata"]["version"], 33);
}

#[test]
fn a_reader_never_sees_a_write_that_a_crash_could_take_back() {
    let rig = Arc::new(Rig::new());
    let operator = rig.operator();
    rig.write(&operator, "secret/data/x", r#"{"data":{"k":"old"}}"#).expect("written");
    rig.spy.hold_anchor();
    std::thread::scope(|scope| {
        let writer = Arc::clone(&rig);
        scope.spawn(move || {
            writer.write(&writer.operator(), "secret/data/x", r#"{"data":{"k":"new"}}"#).expect("written");
            writer.write(&writer.operator(), "secret/data/y", r#"{"data":{"k":"new"}}"#).expect("written");
        });
        rig.spy.await_held();
        let read = |path: &str| at_once(rig.vault.handle(&operator, request(Operation::Read, path, "")));
        let seen = read("secret/data/x").map(|reply| json(&reply)["data"]["k"].clone());
        rig.spy.release();
        assert_eq!(seen.expect("reads go on"), "old");
    });
    assert_eq!(rig.read(&operator, "secret/data/x").expect("there")["data"]["k"], "new");
    assert_eq!(rig.read(&operator, "secret/data/y").expect("there")["data"]["k"], "new");
}

#[test]
fn failing_requests_change_nothing_and_are_audited() {
    let rig = Rig::new();
    let operator = rig.operator();
    rig.spy.clear();
    let refused = rig.write(&operator, "secret/data/x", r#"{"options":{"cas":7},"data":{"k":"v"}}"#);
    assert!(matches!(refused, Err(VaultError::Because(Reason::CheckAndSet, _))));
    assert_eq!(rig.spy.count("commit"), 0, "a group without changes is no commit");
    let line = rig.log().pop().expect("a line");
    assert_eq!((&line["type"], &line["outcome"], &line["status"]), (&"reply".into(), &"invalid".into(), &400.into()));
}

#[test]
fn a_full_disk_stops_writes_and_not_reads() {
    let rig = Rig::new();
    let operator = rig.operator();
    rig.write(&operator, "secret/data/x", r#"{"data":{"k":"v"}}"#).expect("written");
    rig.spy.fail(Fault::Full);
    assert!(matches!(rig.write(&operator, "secret/data/x", r#"{"data":{"k":"w"}}"#), Err(VaultError::Full)));
    assert_eq!(rig.read(&operator, "secret/data/x").expect("reads go on")["data"]["k"], "v");
    rig.spy.fail(Fault::None);
    rig.write(&operator, "secret/data/x", r#"{"data":{"k":"w"}}"#).expect("space came back");
    assert_eq!(rig.read(&operator, "secret/data/x").expect("there")["data"]["k"], "w");
}

/// A write that dies at `fault`, then a new process. Gives what the new one reads and the outcome it noted.
fn kill(fault: Fault) -> (Option<String>, Vec<String>) {
    let rig = Rig::new();
    rig.write(&rig.operator(), "secret/data/x", r#"{"data":{"k":"old"}}"#).expect("written");
    rig.spy.fail(fault);
    let refused = rig.write(&rig.operator(), "secret/data/x", r#"{"data":{"k":"new"}}"#);
    assert!(refused.is_err(), "nobody may be told that it was done");
    while rig.fatal.lock().expect("no panic while held").is_empty() {
        std::thread::yield_now();
    }
    assert!(matches!(rig.read(&rig.operator(), "secret/data/x"), Err(VaultError::Sealed)));
    let rig = rig.restart();
    rig.unseal().expect("the disk opens again");
    let value = rig.read(&rig.operator(), "secret/data/x").expect("the old value at least");
    let notes = rig
        .log()
        .iter()
        .filter(|line| line["kind"] == "unfinished")
        .map(|line| line["outcome"].as_str().expect("text").to_owned())
        .collect();
    rig.write(&rig.operator(), "secret/data/x", r#"{"data":{"k":"newer"}}"#).expect("it goes on");
    (value["data"]["k"].as_str().map(str::to_owned), notes)
}

#[test]
fn killed_before_the_engine_transaction_it_never_happened() {
    assert_eq!(kill(Fault::Commit), (Some("old".to_owned()), vec!["absent".to_owned()]));
}

#[test]
fn killed_before_the_anchor_it_happened() {
    assert_eq!(kill(Fault::Anchor), (Some("new".to_owned()), vec!["committed".to_owned()]));
}

#[test]
fn killed_before_the_reply_entry_it_happened_and_is_noted() {
    let rig = Rig::new();
    rig.spy.fail(Fault::Append("reply"));
    let refused = rig.write(&rig.operator(), "secret/data/x", r#"{"data":{"k":"new"}}"#);
    assert!(matches!(refused, Err(VaultError::AuditUnavailable)));
    let rig = rig.restart();
    rig.unseal().expect("opens");
    assert_eq!(rig.read(&rig.operator(), "secret/data/x").expect("there")["data"]["k"], "new");
    let log = rig.log();
    let outcomes: Vec<_> =
        log.iter().filter(|line| line["kind"] == "unfinished").map(|line| &line["outcome"]).collect();
    assert_eq!(outcomes, ["committed"]);
}

#[test]
fn writers_that_wait_at_a_fatal_fault_are_all_answered() {
    let rig = Arc::new(Rig::new());
    rig.spy.hold_anchor();
    rig.spy.fail(Fault::Anchor);
    std::thread::scope(|scope| {
        for n in 0..4 {
            let rig = Arc::clone(&rig);
            scope.spawn(move || {
                let refused = rig.write(&rig.operator(), &format!("secret/data/k{n}"), r#"{"data":{"k":"v"}}"#);
                assert!(matches!(refused, Err(VaultError::Unavailable(_) | VaultError::Sealed)), "{n}");
            });
        }
        rig.spy.await_held();
        rig.spy.release();
    });
    assert!(rig.vault.is_sealed());
    assert_eq!(rig.fatal.lock().expect("no panic while held").len(), 1, "the daemon is told once");
}
