//! Values that a program outside makes: what its failures do, and what a kill at any moment leaves.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::support::*;
use crate::api::request::Operation;
use crate::api::secret::SecretText;
use crate::connect::{AdminPlace, ConnectError, Connector, Credential, Live, Step, Target};
use crate::core::VaultError;

const PATH: &str = "sys/strongroom/values/secret/app/prod";

type Watch = Arc<Mutex<Option<Box<dyn Fn(&str) + Send + Sync>>>>;

/// A moment, the disk and what the service held then.
type Cut = (String, Disk, Option<String>);

/// A program that prints a new value each time, and a service that takes values.
#[derive(Clone, Default)]
struct Mint {
    /// What it does next; then it works.
    next: Arc<Mutex<VecDeque<ConnectError>>>,
    printed: Arc<Mutex<Vec<String>>>,
    /// What the service holds.
    applied: Arc<Mutex<Option<String>>>,
    /// Values that the service refuses.
    refuses: Arc<Mutex<u32>>,
    watch: Watch,
}

impl Mint {
    fn tell(&self, what: &str) {
        if let Some(watch) = &*self.watch.lock().expect("no panic while held") {
            watch(what);
        }
    }

    fn fails(&self, error: ConnectError) {
        self.next.lock().expect("no panic while held").push_back(error);
    }

    fn printed(&self) -> Vec<String> {
        self.printed.lock().expect("no panic while held").clone()
    }
}

impl Connector for Mint {
    fn kind(&self) -> &'static str {
        "mint"
    }

    fn overlap(&self) -> bool {
        true
    }

    fn next_user(&self, _: Option<&str>) -> Result<String, ConnectError> {
        Ok(String::new())
    }

    fn generate(&self, step: &Step<'_>) -> Result<SecretText, ConnectError> {
        assert!(step.staged.is_none() && step.current.is_none() && step.previous.is_none() && !step.id.is_empty());
        self.tell("before a value");
        if let Some(error) = self.next.lock().expect("no panic while held").pop_front() {
            return Err(error);
        }
        let value = {
            let mut printed = self.printed.lock().expect("no panic while held");
            let value = format!("printed-{}", printed.len() + 1);
            printed.push(value.clone());
            value
        };
        self.tell("after a value");
        Ok(SecretText::new(value))
    }

    fn apply(&self, step: &Step<'_>) -> Result<(), ConnectError> {
        let mut refuses = self.refuses.lock().expect("no panic while held");
        if *refuses > 0 {
            *refuses -= 1;
            return Err(ConnectError::Permanent("the service wants another one".to_owned()));
        }
        let staged = step.staged.expect("a candidate").secret.reveal().to_owned();
        *self.applied.lock().expect("no panic while held") = Some(staged);
        Ok(())
    }

    fn verify(&self, _: &Step<'_>) -> Result<(), ConnectError> {
        Ok(())
    }

    fn probe(&self, step: &Step<'_>) -> Result<Live, ConnectError> {
        let applied = self.applied.lock().expect("no panic while held").clone();
        let staged = step.staged.expect("a candidate").secret.reveal();
        Ok(if applied.as_deref() == Some(staged) { Live::Staged } else { Live::Current })
    }

    fn revert(&self, _: &Step<'_>) -> Result<(), ConnectError> {
        Ok(())
    }

    fn revoke_old(&self, _: &Step<'_>) -> Result<Option<String>, ConnectError> {
        Ok(None)
    }
}

/// What the configuration lists: one that does both, and one that does one thing.
struct Listed(Mint, bool, bool);

impl Target for Listed {
    fn logins(&self) -> usize {
        0
    }

    fn applies(&self) -> bool {
        self.1
    }

    fn generates(&self) -> bool {
        self.2
    }

    fn admin(&self) -> Option<&AdminPlace> {
        None
    }

    fn open(&self, _: Option<Credential>) -> Result<Box<dyn Connector>, ConnectError> {
        Ok(Box::new(self.0.clone()))
    }
}

fn open(disk: Disk, mint: &Mint) -> Rig {
    let rig = Rig::with(disk, |settings| {
        for (name, applies, generates) in [("both", true, true), ("service", true, false), ("mint", false, true)] {
            settings.targets.insert(name.to_owned(), Arc::new(Listed(mint.clone(), applies, generates)));
        }
    });
    rig.unseal().expect("unseals");
    rig
}

fn fresh(mint: &Mint, policy: &Value) -> Rig {
    let disk = Disk::new();
    disk.initialise().expect("initialises");
    let rig = open(disk, mint);
    let body = json!({ "data": { "K": "first", "OTHER": "stays" } });
    rig.write(&rig.operator(), "secret/data/app/prod", &body.to_string()).expect("written");
    order(&rig, &json!({ "key": "K", "policy": policy })).expect("taken");
    rig
}

fn alone() -> Value {
    json!({ "generator": { "type": "command", "target": "mint" }, "grace": "1h" })
}

fn order(rig: &Rig, body: &Value) -> Result<Value, VaultError> {
    rig.ask(&rig.operator(), Operation::Write, PATH, &body.to_string()).map(|reply| json(&reply))
}

fn act(rig: &Rig, action: &str) -> Result<Value, VaultError> {
    order(rig, &json!({ "key": "K", "action": action }))
}

fn value(rig: &Rig) -> String {
    let data = rig.read(&rig.operator(), "secret/data/app/prod").expect("readable")["data"].clone();
    assert_eq!(data["OTHER"], "stays");
    data["K"].as_str().expect("a text").to_owned()
}

/// Waits until the rotation rests in one of `states`.
fn rest(rig: &Rig, states: &[&str]) -> Value {
    let mut now = Value::Null;
    for _ in 0..7_500 {
        now = rig.read(&rig.operator(), PATH).expect("shown")["values"][0].clone();
        if states.iter().any(|state| now["state"] == *state) {
            return now;
        }
        rig.clock.advance(700);
        std::thread::sleep(Duration::from_millis(4));
    }
    panic!("it does not come to rest: {now}");
}

#[test]
fn what_a_command_prints_becomes_current_and_is_never_logged() {
    let mint = Mint::default();
    let rig = fresh(&mint, &alone());
    let begun = act(&rig, "rotate").expect("begins");
    assert_eq!((&begun["state"], &begun["staged"]), (&json!("generating"), &json!(false)));
    let now = rest(&rig, &["promoted"]);
    assert_eq!((&now["current"], &now["previous"], &now["error"]), (&json!(2), &json!(1), &Value::Null));
    assert_eq!((value(&rig), mint.printed()), ("printed-1".to_owned(), vec!["printed-1".to_owned()]));
    assert!(!rig.log_text().contains("printed-1"));
}

#[test]
fn a_command_that_fails_is_named_and_changes_nothing() {
    let mint = Mint::default();
    let rig = fresh(&mint, &alone());
    mint.fails(ConnectError::Retry("not now".to_owned()));
    mint.fails(ConnectError::Permanent("the command is broken; repair it".to_owned()));
    act(&rig, "rotate").expect("begins");
    let now = rest(&rig, &["needs-operator"]);
    assert!(now["error"].as_str().is_some_and(|text| text.contains("repair it")) && now["stuck"] == true, "{now}");
    assert_eq!((value(&rig), mint.printed().len()), ("first".to_owned(), 0));
    assert!(act(&rig, "rotate").expect_err("under way").to_string().contains("under way"));
    // Nothing was made: going back is done at once, without any target.
    assert_eq!(act(&rig, "abort").expect("aborted")["state"], "idle");
    mint.fails(ConnectError::Permanent("still broken".to_owned()));
    act(&rig, "rotate").expect("begins");
    rest(&rig, &["needs-operator"]);
    act(&rig, "resume").expect("goes on");
    rest(&rig, &["promoted"]);
    assert_eq!(value(&rig), "printed-1");
    // For ever "not now": it ends in a named state too.
    rig.clock.advance(3_600_000);
    rest(&rig, &["idle"]);
    (0..12).for_each(|_| mint.fails(ConnectError::Retry("not now".to_owned())));
    act(&rig, "rotate").expect("begins");
    for _ in 0..14 {
        rig.clock.advance(600_000);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(rest(&rig, &["needs-operator"])["error"].as_str().is_some_and(|text| text.contains("not now")));
    assert_eq!(value(&rig), "printed-1");
}

#[test]
fn a_value_that_the_target_refuses_is_made_again() {
    let mint = Mint::default();
    *mint.refuses.lock().expect("no panic while held") = 2;
    let policy = json!({ "generator": { "type": "command", "target": "both" }, "target": "service", "mode": "single", "grace": "1h" });
    let rig = fresh(&mint, &policy);
    act(&rig, "rotate").expect("begins");
    rest(&rig, &["promoted"]);
    assert_eq!((value(&rig), mint.printed().len()), ("printed-3".to_owned(), 3));
    rig.clock.advance(3_600_000);
    rest(&rig, &["idle"]);
    *mint.refuses.lock().expect("no panic while held") = 3;
    act(&rig, "rotate").expect("begins");
    let now = rest(&rig, &["needs-operator"]);
    assert!(now["error"].as_str().is_some_and(|text| text.contains("rejects every new value")), "{now}");
    assert_eq!(value(&rig), "printed-3");
}

#[test]
fn a_policy_that_names_a_target_without_the_command_is_refused() {
    let rig = fresh(&Mint::default(), &alone());
    let command = |target: &str| json!({ "generator": { "type": "command", "target": target } });
    let on = |target: &str| json!({ "generator": { "type": "uuid" }, "target": target, "mode": "single" });
    for (policy, part) in [
        (command("service"), "generator.target: \"service\" has no generate command; add generate = ["),
        (command("nowhere"), "lists no target \"nowhere\"; it lists: both, mint, service"),
        (on("mint"), "target: \"mint\" has no apply command; add apply = ["),
        (on("nowhere"), "lists no target \"nowhere\""),
    ] {
        let error = order(&rig, &json!({ "key": "K", "policy": policy })).expect_err("refused").to_string();
        assert!(error.contains(part), "{error}");
    }
}

/// Keeps the disk before and after every operation on it and every run of the program; then opens each.
fn cut_everywhere(policy: &Value) {
    let mint = Mint::default();
    let rig = fresh(&mint, policy);
    let cuts: Arc<Mutex<Vec<Cut>>> = Arc::default();
    let watch = || {
        let (seen, copy, applied) = (Arc::clone(&cuts), rig.disk.watcher(), Arc::clone(&mint.applied));
        move |name: &str| {
            let applied = applied.lock().expect("no panic while held").clone();
            seen.lock().expect("no panic while held").push((name.to_owned(), copy(), applied));
        }
    };
    rig.spy.watch(Some(Box::new(watch())));
    *mint.watch.lock().expect("no panic while held") = Some(Box::new(watch()));
    act(&rig, "rotate").expect("begins");
    rest(&rig, &["promoted"]);
    rig.spy.watch(None);
    let cuts = std::mem::take(&mut *cuts.lock().expect("no panic while held"));
    assert!(cuts.iter().filter(|(name, ..)| name.ends_with("a value")).count() == 2 && cuts.len() > 10);
    for (n, (name, disk, applied)) in cuts.into_iter().enumerate() {
        let mint = Mint { applied: Arc::new(Mutex::new(applied)), ..Mint::default() };
        mint.printed.lock().expect("no panic while held").push("before the kill".to_owned());
        let rig = open(disk, &mint);
        let now = rest(&rig, &["promoted", "idle"]);
        let (value, printed) = (value(&rig), mint.printed());
        match now["current"].as_u64() {
            // Killed before the order was durable.
            Some(0) => assert_eq!((value.as_str(), printed.len()), ("first", 1), "cut {n} at {name}"),
            Some(2) => {
                let after = if printed.len() == 1 { "printed-1" } else { "printed-2" };
                assert!(printed.len() <= 2 && value == after, "cut {n} at {name}: {value}, {printed:?}");
            }
            _ => panic!("cut {n} at {name}: {now}"),
        }
    }
}

#[test]
fn a_value_may_be_killed_at_any_moment_while_it_is_made() {
    cut_everywhere(&alone());
    cut_everywhere(
        &json!({ "generator": { "type": "command", "target": "mint" }, "target": "both", "mode": "single" }),
    );
}
