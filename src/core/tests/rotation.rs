//! Rotations of keys through the pipeline: what they do, what they refuse, and what a kill at any moment leaves.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use super::support::*;
use crate::api::request::Operation;
use crate::api::secret::SecretText;
use crate::barrier::MountId;
use crate::core::{Caller, UnsealKey, VaultError};
use crate::keys::TermState;

const NEW_FILE: &[u8] = b"bytes of a key file: 8f2c61d09be7453a, 01b7e2d9f6";

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn by_file(bytes: &[u8]) -> Value {
    json!({ "key_file": base64(bytes) })
}

fn fill(rig: &Rig, count: usize) {
    let operator = rig.operator();
    for n in 0..count {
        let body = json!({ "data": { "K": format!("value {n}") } }).to_string();
        rig.write(&operator, &format!("secret/data/app/f{}/s{n}", n % 4), &body).expect("written");
    }
}

fn check(rig: &Rig, count: usize) {
    let operator = rig.operator();
    for n in 0..count {
        let read = rig.read(&operator, &format!("secret/data/app/f{}/s{n}", n % 4)).expect("readable");
        assert_eq!(read["data"]["K"], format!("value {n}"));
    }
}

fn order(rig: &Rig, path: &str, body: &Value) -> Result<Value, VaultError> {
    rig.ask(&rig.operator(), Operation::Write, path, &body.to_string()).map(|reply| json(&reply))
}

/// Waits until no rotation is under way.
fn settle(rig: &Rig) {
    for _ in 0..2_000 {
        let list = rig.read(&rig.operator(), "sys/strongroom/rotations").expect("listed");
        let open = |run: &Value| !matches!(run["state"].as_str(), Some("done" | "aborted"));
        let terms = rig.read(&rig.operator(), "sys/strongroom/terms").expect("listed");
        let old = |term: &Value| matches!(term["state"].as_str(), Some("decrypt-only" | "compromised"));
        let none = !list["rotations"].as_array().expect("a list").iter().any(open);
        let one_set = rig.vault.live().is_some_and(|live| live.barrier.integrity_sets() == 1);
        if none && one_set && !terms["terms"].as_array().expect("a list").iter().any(old) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("a rotation does not end: {}", rig.read(&rig.operator(), "sys/strongroom/rotations").expect("listed"));
}

fn states(rig: &Rig) -> Vec<String> {
    let terms = rig.read(&rig.operator(), "sys/strongroom/terms").expect("listed");
    let terms = terms["terms"].as_array().expect("a list").clone();
    terms.iter().map(|term| term["state"].as_str().expect("a state").to_owned()).collect()
}

#[test]
fn a_data_key_is_rotated_proved_and_destroyed() {
    let rig = Rig::new();
    fill(&rig, 30);
    let begun = order(&rig, "sys/rotate", &json!({ "full_speed": true, "deep": true })).expect("rotates");
    assert_eq!((&begun["state"], &begun["target"]), (&json!("draining"), &json!("term 1")));
    settle(&rig);
    assert_eq!(states(&rig), ["destroyed", "active"]);
    check(&rig, 30);
    let id = begun["id"].as_str().expect("an id");
    let run = rig.read(&rig.operator(), &format!("sys/strongroom/rotations/{id}")).expect("shown");
    assert_eq!(run["state"], "done");
    assert!(run["proofs"][0]["records"].as_u64() > Some(60) && run["proofs"][0]["opened"].as_u64() > Some(30), "{run}");
    assert!(run["done"].as_u64() >= Some(60), "nodes, entries and values: {run}");
    // The proof stands in the log before the destruction does.
    let rules: Vec<String> = rig.log().iter().filter_map(|line| line["rule"].as_str().map(str::to_owned)).collect();
    let at = |start: &str| rules.iter().position(|rule| rule.starts_with(start));
    assert!(at("proof: term 1 drained").is_some() && at("proof: term 1") < at("destroying term 1"), "{rules:?}");
    let rig = rig.restart();
    rig.unseal().expect("opens");
    check(&rig, 30);
    assert_eq!(states(&rig), ["destroyed", "active"]);
}

#[test]
fn a_rotation_pauses_resumes_and_aborts() {
    let rig = Rig::new();
    fill(&rig, 300);
    let begun = order(&rig, "sys/rotate", &json!({})).expect("rotates");
    let path = format!("sys/strongroom/rotations/{}", begun["id"].as_str().expect("an id"));
    let paused = order(&rig, &format!("{path}/pause"), &json!({})).expect("pauses");
    assert_eq!(paused["paused"], true);
    let gauges = rig.read(&rig.operator(), "sys/metrics").expect("counted")["gauges"].clone();
    let gauge = |name: &str| {
        let all = gauges.as_array().expect("a list").iter();
        all.clone().find(|gauge| gauge["name"] == name).expect(name)["value"].as_u64()
    };
    assert!(gauge("strongroom_old_term_records") > Some(0));
    assert_eq!((gauge("strongroom_rotations_paused"), gauge("strongroom_term")), (Some(1), Some(2)));
    let done = |rig: &Rig| rig.read(&rig.operator(), &path).expect("shown")["done"].as_u64();
    let before = done(&rig);
    std::thread::sleep(Duration::from_millis(80));
    assert_eq!(done(&rig), before, "a paused rotation must not go on");
    let rig = rig.restart();
    rig.unseal().expect("opens");
    std::thread::sleep(Duration::from_millis(80));
    assert_eq!(done(&rig), before, "nor after a restart");
    assert!(order(&rig, &format!("{path}/abort"), &json!({})).is_ok());
    assert_eq!(states(&rig), ["decrypt-only", "active"]);
    assert!(matches!(order(&rig, &format!("{path}/resume"), &json!({})), Err(VaultError::BadRequest(_))));
    // The next one takes the old term along.
    order(&rig, "sys/rotate", &json!({ "full_speed": true })).expect("rotates");
    settle(&rig);
    assert_eq!(states(&rig), ["destroyed", "destroyed", "active"]);
    check(&rig, 300);
}

#[test]
fn a_data_key_is_rotated_by_itself_when_it_is_old() {
    let rig = Rig::new();
    fill(&rig, 3);
    for bad in ["{\"interval\":5}", "{\"max_operations\":1}", "{\"enabled\":3}", "{\"x\":1}"] {
        let refused = rig.write(&rig.operator(), "sys/rotate/config", bad);
        assert!(matches!(refused, Err(VaultError::BadRequest(_))), "{bad}");
    }
    rig.write(&rig.operator(), "sys/rotate/config", "{\"interval\":\"20h\"}").expect("taken");
    let config = rig.read(&rig.operator(), "sys/rotate/config").expect("shown");
    assert_eq!(config, json!({ "enabled": true, "max_operations": 1 << 30, "interval": 72_000 }));
    rig.clock.advance(60 * 60 * 1_000);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(states(&rig), ["active"]);
    rig.clock.advance(19 * 60 * 60 * 1_000);
    for _ in 0..400 {
        if states(&rig).len() > 1 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(states(&rig).len() > 1, "the term is a day old");
}

#[test]
fn slots_are_listed_tried_added_changed_and_removed() {
    let rig = Rig::new();
    let list = |rig: &Rig| rig.read(&rig.operator(), "sys/strongroom/slots").expect("listed")["slots"].clone();
    assert_eq!(list(&rig).as_array().map(Vec::len), Some(2));
    let tried = order(&rig, "sys/strongroom/slots/test", &json!({ "unlock": by_file(KEY_FILE) })).expect("opens");
    assert_eq!(tried["slot"]["type"], "key-file");
    let wrong = order(&rig, "sys/strongroom/slots/test", &json!({ "unlock": by_file(NEW_FILE) }));
    assert!(matches!(wrong, Err(VaultError::WrongKey)));
    let refused = [
        (json!({ "unlock": by_file(KEY_FILE), "new": { "type": "paper", "label": "x" } }), "type"),
        (
            json!({ "unlock": by_file(KEY_FILE), "new": { "type": "passphrase", "label": "x", "passphrase": "short" } }),
            "12",
        ),
        (json!({ "unlock": by_file(KEY_FILE), "new": { "type": "recovery-code", "label": "key file" } }), "label"),
        (json!({ "unlock": {}, "new": { "type": "recovery-code", "label": "x" } }), "give one of"),
        (
            json!({ "unlock": by_file(KEY_FILE), "new": { "type": "shares", "label": "x", "threshold": 4, "total": 3 } }),
            "shares",
        ),
    ];
    for (body, part) in refused {
        let error = order(&rig, "sys/strongroom/slots/add", &body).expect_err("refused").to_string();
        assert!(error.contains(part), "{error}");
    }
    // What anybody would try first.
    for weak in [&[0_u8; 32][..], &b"0101010101010101".repeat(4)] {
        let new = json!({ "type": "key-file", "label": "x", "key_file": base64(weak) });
        let body = json!({ "unlock": by_file(KEY_FILE), "new": new });
        let error = order(&rig, "sys/strongroom/slots/add", &body).expect_err("refused").to_string();
        assert!(error.contains("can be guessed") && error.contains("/dev/urandom"), "{error}");
    }
    let add = |new: Value| {
        order(&rig, "sys/strongroom/slots/add", &json!({ "unlock": by_file(KEY_FILE), "new": new })).expect("added")
    };
    let code = add(json!({ "type": "recovery-code", "label": "safe" }))["recovery_code"].clone();
    let shares = add(json!({ "type": "shares", "label": "board", "threshold": 2, "total": 3 }))["shares"].clone();
    assert_eq!(shares.as_array().map(Vec::len), Some(3));
    for unlock in [json!({ "recovery_code": code }), json!({ "shares": [shares[2], shares[0]] })] {
        order(&rig, "sys/strongroom/slots/test", &json!({ "unlock": unlock })).expect("it opens the vault");
    }
    let one = order(&rig, "sys/strongroom/slots/test", &json!({ "unlock": { "shares": [shares[1]] } }));
    assert!(one.expect_err("one is not enough").to_string().contains('2'));

    let changed = json!({ "unlock": by_file(KEY_FILE), "new": { "type": "key-file", "key_file": base64(NEW_FILE) } });
    order(&rig, "sys/strongroom/slots/change", &changed).expect("changed");
    assert!(matches!(order(&rig, "sys/strongroom/slots/change", &changed), Err(VaultError::WrongKey)));
    // Only the two for recovery would be left.
    let remove = |slot: &str, unlock: Value| {
        order(&rig, "sys/strongroom/slots/remove", &json!({ "slot": slot, "unlock": unlock }))
    };
    let own = remove("key file", by_file(NEW_FILE)).expect_err("its own secret").to_string();
    assert!(own.contains("stays"), "{own}");
    remove("passphrase", by_file(NEW_FILE)).expect("removed");
    let last = remove("key file", json!({ "recovery_code": code })).expect_err("the last everyday slot").to_string();
    assert!(last.contains("not for recovery"), "{last}");
    remove("board", by_file(NEW_FILE)).expect("removed");
    let labels: Vec<Value> = list(&rig).as_array().expect("a list").iter().map(|slot| slot["label"].clone()).collect();
    assert_eq!(labels, ["key file", "safe"]);
    // No secret and no hash of one is in the log.
    let log = rig.log_text();
    assert!(!log.contains("unlock") && !log.contains("recovery_code\""), "bodies of slot requests are not logged");
    let rig = rig.restart();
    assert!(matches!(rig.unseal(), Err(VaultError::WrongKey)));
    rig.clock.advance(60_000);
    rig.unseal_with(&UnsealKey::KeyFile(NEW_FILE)).expect("opens");
}

#[test]
fn a_rekey_names_what_is_absent_and_drops_it_only_when_told() {
    let rig = Rig::new();
    fill(&rig, 5);
    let hybrid = json!({ "type": "hybrid", "label": "away", "passphrase": "a holder who is not here" });
    let body = json!({ "unlock": by_file(KEY_FILE), "new": hybrid });
    order(&rig, "sys/strongroom/slots/add", &body).expect("added");
    let keep = json!({ "keep": [by_file(KEY_FILE)] });
    let error = order(&rig, "sys/strongroom/rekey", &keep).expect_err("the passphrase is absent").to_string();
    assert!(error.contains("slot 0 (passphrase)") && !error.contains("away"), "{error}");
    let empty = order(&rig, "sys/strongroom/rekey", &json!({ "keep": [], "drop_absent": true }));
    assert!(empty.is_err());
    let keep = json!({ "keep": [by_file(KEY_FILE)], "drop_absent": true });
    let run = order(&rig, "sys/strongroom/rekey", &keep).expect("a new root key");
    assert_eq!(run["kind"], "rekey");
    settle(&rig);
    check(&rig, 5);
    let rig = rig.restart();
    rig.unseal().expect("the key file was kept");
    check(&rig, 5);
    let away = json!({ "unlock": { "passphrase": "a holder who is not here" } });
    let tried = order(&rig, "sys/strongroom/slots/test", &away).expect("sealed anew without its holder");
    assert_eq!(tried["slot"]["label"], "away");
    let old = json!({ "unlock": { "passphrase": PASSPHRASE } });
    assert!(matches!(order(&rig, "sys/strongroom/slots/test", &old), Err(VaultError::WrongKey)));
}

fn csr() -> String {
    crate::pki::request(crate::pki::KeyType::P256).expect("a key").csr_pem
}

#[test]
fn a_compromised_slot_goes_with_everything_that_it_opened() {
    let rig = Rig::new();
    fill(&rig, 10);
    let body = json!({ "keep": [by_file(KEY_FILE)], "compromised": "passphrase", "deep": true, "csr": csr() });
    let run = order(&rig, "sys/strongroom/rekey", &body).expect("begins");
    assert_eq!(run["kind"], "compromised");
    let certified = run["certified"]["certificate"].as_str().expect("the operator is not locked out");
    assert!(certified.contains("BEGIN CERTIFICATE"));
    let authorities = rig.read(&rig.operator(), "sys/strongroom/ca").expect("shown")["authorities"].clone();
    let stages: Vec<_> = authorities.as_array().expect("a list").iter().map(|row| row["state"].clone()).collect();
    assert_eq!(stages, ["revoked", "active"]);
    for more in [json!({ "compromised": "key file" }), json!({ "csr": csr() })] {
        let mut body = json!({ "keep": [by_file(KEY_FILE)] });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        assert!(matches!(order(&rig, "sys/strongroom/rekey", &body), Err(VaultError::BadRequest(_))));
    }
    settle(&rig);
    assert_eq!(states(&rig), ["destroyed", "active"]);
    check(&rig, 10);
    let rig = rig.restart();
    assert!(matches!(
        rig.unseal_with(&UnsealKey::Passphrase(&SecretText::new(PASSPHRASE.to_owned()))),
        Err(VaultError::WrongKey)
    ));
    rig.clock.advance(60_000);
    rig.unseal().expect("the key file stays");
    check(&rig, 10);
}

/// Runs `change` and keeps the disk as it was before and after each of its operations; then opens every one of them,
/// with the old secret or the new one, and lets it go on by itself.
fn cut_everywhere(count: usize, new: Option<&[u8]>, change: impl FnOnce(&Rig)) -> usize {
    let rig = Rig::new();
    fill(&rig, count);
    let cuts: Arc<Mutex<Vec<(String, Disk)>>> = Arc::default();
    let (seen, copy) = (Arc::clone(&cuts), rig.disk.watcher());
    rig.spy.watch(Some(Box::new(move |name| {
        seen.lock().expect("no panic while held").push((name.to_owned(), copy()));
    })));
    change(&rig);
    rig.spy.watch(None);
    let cuts = std::mem::take(&mut *cuts.lock().expect("no panic while held"));
    let number = cuts.len();
    for (n, (name, disk)) in cuts.into_iter().enumerate() {
        let cut = Rig::sealed(disk);
        let old = cut.unseal();
        if old.is_err() {
            cut.clock.advance(60_000);
            let new = new.unwrap_or(KEY_FILE);
            let opened = cut.unseal_with(&UnsealKey::KeyFile(new));
            assert!(opened.is_ok(), "cut {n} at {name}: opens with neither: {old:?}, {opened:?}");
        }
        settle(&cut);
        check(&cut, count);
        let live = cut.vault.live().expect("open");
        assert_eq!(live.barrier.integrity_sets(), 1, "cut {n} at {name}");
        assert!(
            live.barrier.terms().iter().all(|term| matches!(term.state, TermState::Active | TermState::Destroyed)),
            "cut {n} at {name}"
        );
    }
    number
}

#[test]
fn a_data_key_rotation_may_be_killed_at_any_moment() {
    let cuts = cut_everywhere(6, None, |rig| {
        order(rig, "sys/rotate", &json!({ "full_speed": true, "deep": true })).expect("rotates");
        settle(rig);
    });
    assert!(cuts > 60, "{cuts}");
}

#[test]
fn a_slot_change_may_be_killed_at_any_moment() {
    let cuts = cut_everywhere(2, Some(NEW_FILE), |rig| {
        let body = json!({ "unlock": by_file(KEY_FILE), "new": { "type": "key-file", "key_file": base64(NEW_FILE) } });
        order(rig, "sys/strongroom/slots/change", &body).expect("changed");
    });
    assert!(cuts >= 12, "{cuts}");
}

#[test]
fn a_rekey_may_be_killed_at_any_moment() {
    let cuts = cut_everywhere(2, None, |rig| {
        let body = json!({ "keep": [by_file(KEY_FILE)], "drop_absent": true });
        order(rig, "sys/strongroom/rekey", &body).expect("begins");
        settle(rig);
    });
    assert!(cuts >= 24, "{cuts}");
}

/// What the slot could open, made before the order.
struct Exposed {
    web: Caller,
    token: String,
    authority: Value,
}

impl Exposed {
    fn make(rig: &Rig) -> Self {
        let web = rig.admit("app/web", "app", r#"path "secret/data/app/*" { capabilities = ["read"] }"#);
        let login = rig.write(&web, "auth/cert/login", "").expect("logged in").auth.expect("a token in the reply");
        let login: Value = serde_json::from_slice(&login).expect("JSON");
        let token = login["client_token"].as_str().expect("a text").to_owned();
        super::identities::string(rig, "app/web", "");
        Self { web, token, authority: authorities(rig)[0]["id"].clone() }
    }

    /// Either nothing has happened or all of it, and the list of rotations says which.
    fn check(&self, cut: &Rig, what: &str) -> bool {
        let slots = cut.read(&cut.operator(), "sys/strongroom/slots").expect("listed")["slots"].to_string();
        let runs = cut.read(&cut.operator(), "sys/strongroom/rotations").expect("listed")["rotations"].to_string();
        let after = !slots.contains("passphrase");
        assert_eq!(runs.contains("\"kind\":\"compromised\""), after, "{what}: {runs}");
        let old = authorities(cut).into_iter().find(|row| row["id"] == self.authority).expect("still listed");
        assert_eq!(old["state"], if after { "revoked" } else { "active" }, "{what}");
        let token = Some(Arc::new(SecretText::from(self.token.as_str())));
        let own = cut.read(&Caller { token, ..self.web.clone() }, "auth/token/lookup-self");
        assert_eq!(own.is_err(), after, "{what}: the token");
        let live = cut.vault.live().expect("open");
        let strings = live.barrier.view(MountId::ENROLMENTS).entries().expect("listed");
        assert_eq!(strings.is_empty(), after, "{what}: {strings:?}");
        // Killed between commit and alarm, the next unseal writes the alarm from the state record.
        let alarmed = super::identities::alarms(cut).contains(&"authority-compromised".to_owned());
        assert_eq!(alarmed, after, "{what}: the alarm");
        after
    }
}

fn authorities(rig: &Rig) -> Vec<Value> {
    rig.read(&rig.operator(), "sys/strongroom/ca").expect("shown")["authorities"].as_array().expect("a list").clone()
}

/// The disk before and after each operation of the answer to a compromised slot.
fn cut_the_answer(rig: &Rig) -> Vec<(String, Disk)> {
    let cuts: Arc<Mutex<Vec<(String, Disk)>>> = Arc::default();
    let (seen, copy) = (Arc::clone(&cuts), rig.disk.watcher());
    rig.spy.watch(Some(Box::new(move |name| {
        seen.lock().expect("no panic while held").push((name.to_owned(), copy()));
    })));
    let body = json!({ "keep": [by_file(KEY_FILE)], "compromised": "passphrase", "csr": csr() });
    order(rig, "sys/strongroom/rekey", &body).expect("begins");
    settle(rig);
    rig.spy.watch(None);
    std::mem::take(&mut *cuts.lock().expect("no panic while held"))
}

#[test]
fn authority_tokens_and_strings_end_with_a_compromised_slot_wherever_it_is_killed() {
    let rig = Rig::new();
    let exposed = Exposed::make(&rig);
    let cuts = cut_the_answer(&rig);
    let (number, mut before) = (cuts.len(), 0);
    for (n, (name, disk)) in cuts.into_iter().enumerate() {
        let cut = Rig::sealed(disk);
        cut.unseal().expect("the key file stays");
        // Before the run has ended, and after.
        let after = exposed.check(&cut, &format!("cut {n} at {name}, just unsealed"));
        settle(&cut);
        assert_eq!(exposed.check(&cut, &format!("cut {n} at {name}, settled")), after);
        before += usize::from(!after);
    }
    assert!(number > 60 && before > 0 && before < number, "{before} of {number}");
}

#[test]
fn an_interrupted_removal_that_cannot_be_completed_comes_before_all_orders_and_keeps_its_alarm() {
    let rig = Rig::new();
    let exposed = Exposed::make(&rig);
    let unfinished = |cut: &Rig| {
        let told = super::identities::alarms(cut);
        told.iter().filter(|code| *code == "compromised-slot-unfinished").count()
    };
    let mut seen = 0;
    for (n, (_, disk)) in cut_the_answer(&rig).into_iter().enumerate() {
        let cut = Rig::sealed(disk);
        cut.spy.fail(Fault::Append("request"));
        cut.unseal().expect("opens all the same");
        if unfinished(&cut) == 0 {
            continue;
        }
        seen += 1;
        let refused = order(&cut, "sys/rotate", &json!({}));
        assert!(matches!(&refused, Err(VaultError::Unavailable(text)) if text.contains("compromised")), "{refused:?}");
        // Tried on each tick, told each minute.
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(unfinished(&cut), 1, "cut {n}");
        cut.clock.advance(60_000);
        for _ in 0..1_000 {
            if unfinished(&cut) > 1 {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(unfinished(&cut), 2, "cut {n}");
        assert_eq!(authorities(&cut).len(), 1, "cut {n}: nothing has changed");
        cut.spy.fail(Fault::None);
        for _ in 0..1_000 {
            if authorities(&cut).len() > 1 {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(exposed.check(&cut, &format!("cut {n}, completed late")));
        settle(&cut);
        order(&cut, "sys/rotate", &json!({})).expect("orders are taken again");
    }
    assert!(seen >= 3, "{seen}");
}

#[test]
fn the_answer_to_a_compromised_slot_may_be_killed_at_any_moment() {
    let cuts = cut_everywhere(4, None, |rig| {
        let body = json!({ "keep": [by_file(KEY_FILE)], "compromised": "passphrase", "deep": true, "csr": csr() });
        order(rig, "sys/strongroom/rekey", &body).expect("begins");
        settle(rig);
    });
    assert!(cuts > 80, "{cuts}");
}

#[test]
fn shares_open_the_vault_one_after_the_other_and_a_bad_one_is_named() {
    let rig = Rig::new();
    let text = |value: &Value| SecretText::new(value.as_str().expect("a text").to_owned());
    let add = |new: Value| {
        order(&rig, "sys/strongroom/slots/add", &json!({ "unlock": by_file(KEY_FILE), "new": new })).expect("added")
    };
    let old = add(json!({ "type": "shares", "label": "old", "threshold": 2, "total": 2 }))["shares"].clone();
    let remove = json!({ "slot": "old", "unlock": by_file(KEY_FILE) });
    order(&rig, "sys/strongroom/slots/remove", &remove).expect("removed");
    let shares = add(json!({ "type": "shares", "label": "board", "threshold": 2, "total": 3 }))["shares"].clone();
    let code = add(json!({ "type": "recovery-code", "label": "safe" }))["recovery_code"].clone();
    let rig = rig.restart();
    let typed = |text: &SecretText| rig.unseal_with(&UnsealKey::Typed(text)).map_err(|error| error.to_string());
    assert!(typed(&text(&old[0])).expect_err("an older set").contains("older set"));
    assert!(typed(&text(&shares[0])).is_ok() && rig.vault.is_sealed());
    let status = rig.vault.seal_status();
    assert_eq!((status.t, status.n, status.progress), (2, 3, 1));
    assert!(!status.nonce.is_empty());
    assert!(typed(&text(&shares[0])).expect_err("the same").contains("twice"));
    let mut wrong = shares[1].as_str().expect("a text").to_owned();
    wrong.pop();
    wrong.push(if shares[1].as_str().expect("a text").ends_with('7') { '8' } else { '7' });
    assert!(typed(&SecretText::new(wrong)).expect_err("a typing error").contains("typing error"));
    typed(&text(&shares[2])).expect("opens");
    assert!(!rig.vault.is_sealed());
    let rig = rig.restart();
    rig.unseal_with(&UnsealKey::Typed(&text(&code))).expect("the recovery code opens it too");
}
