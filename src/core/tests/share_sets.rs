//! A share set is replaced in two steps, and at no moment there is no set that opens.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use serde_json::{Value, json};

use super::support::*;
use crate::api::request::Operation;
use crate::api::secret::SecretText;
use crate::core::{Caller, Opener, UnsealKey, VaultError};

const CHANGE: &str = "sys/strongroom/slots/change";

fn order(rig: &Rig, path: &str, body: &Value) -> Result<Value, String> {
    let reply = rig.ask(&rig.operator(), Operation::Write, path, &body.to_string());
    reply.map(|reply| json(&reply)).map_err(|error| error.to_string())
}

fn by_file() -> Value {
    json!({ "key_file": base64::engine::general_purpose::STANDARD.encode(KEY_FILE) })
}

fn slots(rig: &Rig) -> Vec<Value> {
    rig.read(&rig.operator(), "sys/strongroom/slots").expect("listed")["slots"].as_array().expect("a list").clone()
}

/// Labels, and what each replaces.
fn names(rig: &Rig) -> Vec<(String, Option<u64>)> {
    let name = |slot: &Value| (slot["label"].as_str().expect("a label").to_owned(), slot["replaces"].as_u64());
    slots(rig).iter().map(name).collect()
}

/// A vault with a set of 2 of 3, which is slot 2.
fn with_board() -> (Rig, Value) {
    let rig = Rig::new();
    let new = json!({ "type": "shares", "label": "board", "threshold": 2, "total": 3 });
    let made = order(&rig, "sys/strongroom/slots/add", &json!({ "unlock": by_file(), "new": new })).expect("added");
    assert_eq!(made["slot"]["id"], 2);
    (rig, made["shares"].clone())
}

fn begin(rig: &Rig, old: &Value) -> Result<Value, String> {
    let new = json!({ "type": "shares", "threshold": 2, "total": 2 });
    order(rig, CHANGE, &json!({ "unlock": { "shares": [old[0], old[2]] }, "new": new }))
}

fn confirm(rig: &Rig, unlock: &Value) -> Result<Value, String> {
    order(rig, CHANGE, &json!({ "unlock": unlock, "confirm": true }))
}

fn opens(rig: &Rig, shares: &Value) -> Result<Value, String> {
    let both = json!({ "unlock": { "shares": [shares[0], shares[1]] } });
    order(rig, "sys/strongroom/slots/test", &both).map(|reply| reply["slot"].clone())
}

#[test]
fn the_old_set_goes_only_when_the_new_shares_were_typed_in() {
    let (rig, old) = with_board();
    let made = begin(&rig, &old).expect("made");
    let new = made["shares"].clone();
    assert_eq!((&made["slot"]["id"], &made["slot"]["replaces"]), (&json!(3), &json!(2)));
    assert_eq!(names(&rig)[2..], [("board".to_owned(), None), ("new set for slot 2".to_owned(), Some(2))]);
    assert_eq!(
        (opens(&rig, &old).expect("opens")["id"].clone(), opens(&rig, &new).expect("opens")["id"].clone()),
        (json!(2), json!(3))
    );

    // Neither a second new set, nor one for the new set, nor a way around the proof.
    assert!(begin(&rig, &old).expect_err("one at a time").contains("slot 3 (new set for slot 2)"));
    assert!(begin(&rig, &json!([new[0], 0, new[1]])).expect_err("of the new one").contains("enter them"));
    let remove = |slot: &str| order(&rig, "sys/strongroom/slots/remove", &json!({ "slot": slot, "unlock": by_file() }));
    assert!(remove("board").expect_err("it has a new set").contains("slot 3"));
    let label = json!({ "type": "recovery-code", "label": "new set for slot 0" });
    let taken = order(&rig, "sys/strongroom/slots/add", &json!({ "unlock": by_file(), "new": label }));
    assert!(taken.expect_err("a reserved label").contains("label"));

    // What does not prove that the new shares open.
    assert!(confirm(&rig, &json!({ "shares": [old[0], old[1]] })).expect_err("old").contains("not a new set"));
    assert!(confirm(&rig, &by_file()).expect_err("no share").contains("not a new set"));
    assert!(confirm(&rig, &json!({ "shares": [new[0]] })).expect_err("too few").contains("1 of 2 shares"));
    assert!(confirm(&rig, &json!({ "shares": [new[0], old[1]] })).is_err(), "mixed");
    for body in [json!({ "unlock": by_file() }), json!({ "unlock": by_file(), "confirm": true, "new": {} })] {
        assert!(order(&rig, CHANGE, &body).expect_err("half an order").contains("either"));
    }
    assert_eq!(names(&rig).len(), 4, "nothing changed");

    let done = confirm(&rig, &json!({ "slot": "3", "shares": [new[1], new[0]] })).expect("typed in");
    assert_eq!((&done["slot"]["label"], &done["slot"]["replaces"]), (&json!("board"), &json!(null)));
    assert_eq!(names(&rig)[2..], [("board".to_owned(), None)]);
    assert!(opens(&rig, &old).expect_err("gone").contains("older set"));
    assert_eq!(opens(&rig, &new).expect("opens")["id"], 3);
    assert!(confirm(&rig, &json!({ "shares": [new[0], new[1]] })).expect_err("done").contains("not a new set"));
    // The next change goes the same way.
    assert_eq!(begin(&rig, &json!([new[0], 0, new[1]])).expect("made")["slot"]["replaces"], 3);
}

#[test]
fn a_new_set_that_was_lost_is_removed_and_made_again() {
    let (rig, old) = with_board();
    begin(&rig, &old).expect("made");
    order(&rig, "sys/strongroom/slots/remove", &json!({ "slot": "3", "unlock": by_file() })).expect("removed");
    assert_eq!(begin(&rig, &old).expect("made again")["slot"]["replaces"], 2);
}

#[test]
fn a_sealed_vault_takes_shares_of_either_set_in_any_order() {
    let (rig, old) = with_board();
    let new = begin(&rig, &old).expect("made")["shares"].clone();
    let text = |value: &Value| SecretText::new(value.as_str().expect("a text").to_owned());
    let rig = rig.restart();
    let typed = |rig: &Rig, share: &Value| rig.unseal_with(&UnsealKey::Typed(&text(share)));
    typed(&rig, &old[0]).expect("good");
    assert_eq!((rig.vault.seal_status().n, rig.vault.seal_status().progress), (3, 1));
    typed(&rig, &new[0]).expect("good too");
    assert_eq!((rig.vault.seal_status().n, rig.vault.seal_status().progress), (2, 1));
    assert!(typed(&rig, &new[0]).expect_err("the same").to_string().contains("twice"));
    assert!(rig.vault.is_sealed(), "one of each is not two of one");
    typed(&rig, &new[1]).expect("opens");
    assert!(!rig.vault.is_sealed());
    let rig = rig.restart();
    typed(&rig, &new[1]).expect("good");
    typed(&rig, &old[2]).expect("good");
    typed(&rig, &old[1]).expect("opens");
    assert!(!rig.vault.is_sealed());
}

#[test]
fn only_who_may_unseal_makes_the_vault_forget_shares() {
    let (rig, shares) = with_board();
    let text = SecretText::new(shares[0].as_str().expect("a text").to_owned());
    let type_one = |rig: &Rig| rig.unseal_with(&UnsealKey::Typed(&text)).expect("good");
    let rig = rig.restart();
    type_one(&rig);
    let (stranger, operator) = (rig.caller("app/web"), rig.operator());
    let expired = Caller { not_after_ms: START_MS, ..rig.operator() };
    for caller in [&stranger, &expired] {
        assert!(matches!(rig.vault.reset_unseal(Opener::Remote(caller)), Err(VaultError::Forbidden)));
        assert_eq!(rig.vault.seal_status().progress, 1);
    }
    rig.vault.reset_unseal(Opener::Remote(&operator)).expect("one of those who type them");
    assert_eq!(rig.vault.seal_status().progress, 0);
    type_one(&rig);
    rig.vault.reset_unseal(Opener::Local).expect("the machine itself");
    assert_eq!(rig.vault.seal_status().progress, 0);
    // Open, the vault knows more: shares are typed for the way back in.
    rig.unseal().expect("opens");
    let disabled = rig.admit("ops/out", "out", r#"path "x" { capabilities = ["read"] }"#);
    rig.vault.reset_unseal(Opener::Remote(&disabled)).expect("one of ops/*");
    rig.write(&operator, "sys/strongroom/disable/ops/out", "{}").expect("disabled");
    assert!(matches!(rig.vault.reset_unseal(Opener::Remote(&disabled)), Err(VaultError::Forbidden)));
    let log = rig.log();
    assert!(log.iter().any(|line| line["code"] == "unseal-attempts-refused"), "trying leaves a trace");
}

#[test]
fn a_new_root_key_keeps_what_was_shown_and_its_name() {
    let (rig, old) = with_board();
    let new = begin(&rig, &old).expect("made")["shares"].clone();
    let keep = json!([by_file(), { "slot": "3", "shares": [new[0], new[1]] }]);
    order(&rig, "sys/strongroom/rekey", &json!({ "keep": keep, "drop_absent": true })).expect("begins");
    assert_eq!(names(&rig), [("key file".to_owned(), None), ("board".to_owned(), None)]);
    assert_eq!(opens(&rig, &new).expect("opens")["label"], "board");
    assert!(opens(&rig, &old).is_err());
}

/// A change of shares, cut after each operation on the disk: `step` is run, and every state in between is opened.
fn cut_everywhere(prepare: impl FnOnce(&Rig, &Value) -> Value, step: impl FnOnce(&Rig, &Value, &Value) -> Value) {
    let (rig, old) = with_board();
    let before = prepare(&rig, &old);
    let cuts: Arc<Mutex<Vec<(String, Disk)>>> = Arc::default();
    let (seen, copy) = (Arc::clone(&cuts), rig.disk.watcher());
    rig.spy.watch(Some(Box::new(move |name| {
        seen.lock().expect("no panic while held").push((name.to_owned(), copy()));
    })));
    let new = step(&rig, &old, &before);
    rig.spy.watch(None);
    let cuts = std::mem::take(&mut *cuts.lock().expect("no panic while held"));
    assert!(cuts.len() >= 12, "{}", cuts.len());
    for (n, (name, disk)) in cuts.into_iter().enumerate() {
        let cut = Rig::sealed(disk);
        cut.unseal().expect("the key file opens at every cut");
        let (by_old, by_new) = (opens(&cut, &old), opens(&cut, &new));
        let names: Vec<(String, Option<u64>)> = names(&cut).split_off(2);
        let board = ("board".to_owned(), None);
        match (by_old, by_new) {
            (Ok(_), Ok(_)) => {
                assert_eq!(names, [board, ("new set for slot 2".to_owned(), Some(2))], "cut {n} at {name}")
            }
            (Ok(_), Err(_)) | (Err(_), Ok(_)) => assert_eq!(names, [board], "cut {n} at {name}"),
            (Err(old), Err(new)) => panic!("cut {n} at {name}: neither set opens: {old}, {new}"),
        }
    }
}

#[test]
fn making_a_new_set_may_be_killed_at_any_moment() {
    cut_everywhere(|_, _| json!(null), |rig, old, _| begin(rig, old).expect("made")["shares"].clone());
}

#[test]
fn dropping_the_old_set_may_be_killed_at_any_moment() {
    cut_everywhere(
        |rig, old| begin(rig, old).expect("made")["shares"].clone(),
        |rig, _, new| {
            confirm(rig, &json!({ "shares": new })).expect("typed in");
            new.clone()
        },
    );
}

#[test]
fn a_change_of_shares_is_refused_like_any_other_without_a_secret() {
    let (rig, _) = with_board();
    let new = json!({ "type": "shares", "threshold": 2, "total": 2 });
    let body = json!({ "unlock": by_file(), "new": new }).to_string();
    let refused = rig.ask(&rig.operator(), Operation::Write, CHANGE, &body);
    assert!(matches!(refused, Err(VaultError::BadRequest(text)) if text.contains("cannot change its type")));
}
