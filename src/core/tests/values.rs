//! Rotation of values: what a target may do to it, and what a kill at any moment leaves.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::support::*;
use crate::api::request::Operation;
use crate::api::secret::SecretText;
use crate::connect::{AdminPlace, ConnectError, Connector, Credential, Live, Step, Target};
use crate::core::VaultError;

/// What a target does with one change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Works,
    /// The change never arrives.
    NotSent,
    /// The change is made and the answer is lost.
    ReplyLost,
    /// The change is refused.
    Refused,
}

/// Logins of a database, and what it will do next.
#[derive(Clone, Default)]
struct Logins {
    passwords: BTreeMap<String, String>,
    fates: VecDeque<Fate>,
    refuse_logins: bool,
    down: bool,
}

type Watch = Arc<Mutex<Option<Box<dyn Fn(&str) + Send + Sync>>>>;

#[derive(Clone, Default)]
struct Database {
    logins: Arc<Mutex<Logins>>,
    watch: Watch,
}

impl Database {
    fn tell(&self, what: &str) {
        if let Some(watch) = &*self.watch.lock().expect("no panic while held") {
            watch(what);
        }
    }

    fn accepts(&self, login: Option<&Credential>) -> bool {
        let logins = self.logins.lock().expect("no panic while held");
        login.is_some_and(|login| logins.passwords.get(&login.user).map(String::as_str) == Some(login.secret.reveal()))
    }

    fn change(&self, login: &Credential) -> Result<(), ConnectError> {
        self.tell("before a change");
        let fate = {
            let mut logins = self.logins.lock().expect("no panic while held");
            if logins.down {
                return Err(ConnectError::Retry("the database is down; start it".to_owned()));
            }
            let fate = logins.fates.pop_front().unwrap_or(Fate::Works);
            if matches!(fate, Fate::Works | Fate::ReplyLost) {
                logins.passwords.insert(login.user.clone(), login.secret.reveal().to_owned());
            }
            fate
        };
        self.tell("after a change");
        match fate {
            Fate::Works => Ok(()),
            Fate::NotSent | Fate::ReplyLost => Err(ConnectError::Retry("no answer; look at the database".to_owned())),
            Fate::Refused => Err(ConnectError::Permanent("the password is refused; use another alphabet".to_owned())),
        }
    }
}

impl Connector for Database {
    fn kind(&self) -> &'static str {
        "double"
    }

    fn overlap(&self) -> bool {
        true
    }

    fn next_user(&self, current: Option<&str>) -> Result<String, ConnectError> {
        Ok(if current == Some("app_a") { "app_b" } else { "app_a" }.to_owned())
    }

    fn apply(&self, step: &Step<'_>) -> Result<(), ConnectError> {
        self.change(step.staged.expect("a candidate"))
    }

    fn verify(&self, step: &Step<'_>) -> Result<(), ConnectError> {
        let refuse = {
            let logins = self.logins.lock().expect("no panic while held");
            if logins.down {
                return Err(ConnectError::Retry("the database is down; start it".to_owned()));
            }
            logins.refuse_logins
        };
        if self.accepts(step.staged) && !refuse {
            Ok(())
        } else {
            Err(ConnectError::Permanent("the login is refused; look at its rights".to_owned()))
        }
    }

    fn probe(&self, step: &Step<'_>) -> Result<Live, ConnectError> {
        if self.logins.lock().expect("no panic while held").down {
            return Err(ConnectError::Retry("the database is down; start it".to_owned()));
        }
        let candidates = [(step.staged, Live::Staged), (step.current, Live::Current), (step.previous, Live::Previous)];
        Ok(candidates.into_iter().find(|(login, _)| self.accepts(*login)).map_or(Live::Nothing, |(_, live)| live))
    }

    fn revert(&self, step: &Step<'_>) -> Result<(), ConnectError> {
        if !self.accepts(step.current) {
            self.change(step.current.expect("a current value"))?;
        }
        let staged = step.staged.expect("a candidate").user.clone();
        self.logins.lock().expect("no panic while held").passwords.remove(&staged);
        Ok(())
    }

    fn revoke_old(&self, _: &Step<'_>) -> Result<Option<String>, ConnectError> {
        self.tell("revoke");
        Ok(None)
    }
}

impl Target for Database {
    fn logins(&self) -> usize {
        2
    }

    fn admin(&self) -> Option<&AdminPlace> {
        None
    }

    fn open(&self, _: Option<Credential>) -> Result<Box<dyn Connector>, ConnectError> {
        Ok(Box::new(self.clone()))
    }
}

const PATH: &str = "sys/strongroom/values/secret/app/prod";

fn open(disk: Disk, database: &Database) -> Rig {
    let target: Arc<dyn Target> = Arc::new(database.clone());
    let rig = Rig::with(disk, |settings| {
        settings.targets.insert("db".to_owned(), target);
    });
    rig.unseal().expect("unseals");
    rig
}

/// A vault with one secret, whose login the database knows.
fn fresh(database: &Database) -> Rig {
    let disk = Disk::new();
    disk.initialise().expect("initialises");
    database.logins.lock().expect("no panic while held").passwords.insert("app_a".to_owned(), "first".to_owned());
    let rig = open(disk, database);
    let body = json!({ "data": { "DB_USER": "app_a", "DB_PASSWORD": "first", "OTHER": "stays" } });
    rig.write(&rig.operator(), "secret/data/app/prod", &body.to_string()).expect("written");
    rig
}

fn order(rig: &Rig, body: &Value) -> Result<Value, VaultError> {
    rig.ask(&rig.operator(), Operation::Write, PATH, &body.to_string()).map(|reply| json(&reply))
}

fn with_target() -> Value {
    json!({
        "key": "DB_PASSWORD",
        "policy": {
            "generator": { "type": "password", "length": 20 },
            "target": "db", "user_key": "DB_USER", "grace": "1h",
        },
    })
}

fn act(rig: &Rig, action: &str) -> Result<Value, VaultError> {
    order(rig, &json!({ "key": "DB_PASSWORD", "action": action }))
}

fn state(rig: &Rig) -> Value {
    rig.read(&rig.operator(), PATH).expect("shown")["values"][0].clone()
}

fn secret(rig: &Rig) -> Value {
    rig.read(&rig.operator(), "secret/data/app/prod").expect("readable")
}

/// Waits until the rotation rests in one of `states`.
fn rest(rig: &Rig, states: &[&str]) -> Value {
    for _ in 0..1_500 {
        let now = state(rig);
        if states.iter().any(|state| now["state"] == *state) {
            return now;
        }
        // Pauses between tries pass at once.
        rig.clock.advance(700);
        std::thread::sleep(Duration::from_millis(4));
    }
    panic!("it does not come to rest: {}", state(rig));
}

fn current_works(rig: &Rig, database: &Database) -> bool {
    let data = secret(rig)["data"].clone();
    assert_eq!(data["OTHER"], "stays");
    let text = |key: &str| data[key].as_str().expect("a text").to_owned();
    database.accepts(Some(&Credential { user: text("DB_USER"), secret: SecretText::new(text("DB_PASSWORD")) }))
}

#[test]
fn a_value_without_a_target_is_rotated_in_one_commit() {
    let rig = fresh(&Database::default());
    let policy = json!({ "generator": { "type": "token", "bits": 256, "prefix": "acme_" }, "grace": "1h" });
    order(&rig, &json!({ "key": "TOKEN", "policy": policy })).expect("taken");
    rig.spy.clear();
    let rotate = json!({ "key": "TOKEN", "action": "rotate" });
    let done = order(&rig, &rotate).expect("rotated");
    assert_eq!(rig.spy.count("commit"), 1, "{:?}", rig.spy.events());
    assert_eq!((&done["state"], &done["current"], &done["previous"]), (&json!("promoted"), &json!(2), &json!(1)));
    let data = secret(&rig)["data"].clone();
    assert!(data["TOKEN"].as_str().is_some_and(|token| token.starts_with("acme_")));
    assert_eq!((&data["OTHER"], &data["DB_PASSWORD"]), (&json!("stays"), &json!("first")));
    // Another within the grace retires the one before at once.
    let done = order(&rig, &rotate).expect("rotated");
    assert_eq!((&done["current"], &done["previous"], &done["retired"]), (&json!(3), &json!(2), &json!([1])));
    rig.clock.advance(3_600_000);
    for _ in 0..600 {
        if state(&rig)["state"] == "idle" {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let now = state(&rig);
    assert_eq!((&now["state"], &now["previous"], &now["retired"]), (&json!("idle"), &Value::Null, &json!([1, 2])));
    // The log names the value's key and path, and never a value.
    let token = secret(&rig)["data"]["TOKEN"].as_str().expect("a text").to_owned();
    assert!(!rig.log_text().contains(&token));
    assert!(rig.log_text().contains("value TOKEN: continues from promoted"));
}

#[test]
fn a_rotation_does_not_bring_back_a_secret_that_was_removed() {
    let rig = fresh(&Database::default());
    let policy = json!({ "generator": { "type": "uuid" }, "schedule": { "every": "24h" }, "grace": "1h" });
    order(&rig, &json!({ "key": "ID", "policy": policy })).expect("taken");
    let rotate = json!({ "key": "ID", "action": "rotate" });
    order(&rig, &rotate).expect("rotated");
    order(&rig, &rotate).expect("rotated");
    let operator = rig.operator();
    rig.ask(&operator, Operation::Delete, "secret/metadata/app/prod", "").expect("removed");
    let refused = order(&rig, &rotate).expect_err("it is gone");
    assert!(matches!(&refused, VaultError::BadRequest(text) if text.contains("removed")), "{refused}");
    // Nor does the schedule, which says what it found.
    rig.clock.advance(24 * 3_600_000);
    let mut caller = rig.operator();
    caller.not_after_ms = u64::MAX;
    let shown = |rig: &Rig| rig.read(&caller, PATH).expect("shown")["values"][0].clone();
    for _ in 0..600 {
        if shown(&rig)["state"] == "needs-operator" {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let now = shown(&rig);
    assert_eq!(now["state"], "needs-operator", "{now}");
    assert!(now["error"].as_str().is_some_and(|text| text.contains("removed")), "{now}");
    assert!(matches!(rig.read(&caller, "secret/data/app/prod"), Err(VaultError::NotFound)));
    // A new secret there counts its versions from 1 again.
    rig.write(&caller, "secret/data/app/prod", r#"{"data":{"OTHER":"new"}}"#).expect("written");
    let resume = json!({ "key": "ID", "action": "resume" }).to_string();
    rig.ask(&caller, Operation::Write, PATH, &resume).expect("resumed");
    for _ in 0..600 {
        if shown(&rig)["current"] == 2 {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let now = shown(&rig);
    assert_eq!((&now["current"], &now["previous"], &now["retired"]), (&json!(2), &json!(1), &json!([])), "{now}");
}

#[test]
fn key_pairs_show_their_public_half() {
    let rig = fresh(&Database::default());
    for (kind, mark) in [("ed25519", "PRIVATE KEY"), ("ecdsa", "PRIVATE KEY")] {
        let generator =
            if kind == "ecdsa" { json!({ "type": kind, "curve": "p256" }) } else { json!({ "type": kind }) };
        order(&rig, &json!({ "key": "KEY", "policy": { "generator": generator } })).expect("taken");
        order(&rig, &json!({ "key": "KEY", "action": "rotate" })).expect("rotated");
        let data = secret(&rig)["data"].clone();
        assert!(data["KEY"].as_str().is_some_and(|key| key.contains(mark)));
        assert!(data["KEY_PUBLIC"].as_str().is_some_and(|key| key.contains("PUBLIC KEY")), "{data}");
    }
    let generator = json!({ "type": "certificate", "sans": ["db.example.org"], "ttl": "24h" });
    order(&rig, &json!({ "key": "TLS", "policy": { "generator": generator } })).expect("taken");
    order(&rig, &json!({ "key": "TLS", "action": "rotate" })).expect("rotated");
    let data = secret(&rig)["data"].clone();
    assert!(data["TLS"].as_str().is_some_and(|key| key.contains("PRIVATE KEY")));
    assert_eq!(data["TLS_PUBLIC"].as_str().map(|text| text.matches("BEGIN CERTIFICATE").count()), Some(2));
}

#[test]
fn bad_policies_and_orders_are_refused_by_name() {
    let rig = fresh(&Database::default());
    let policy =
        |policy: Value| order(&rig, &json!({ "key": "K", "policy": policy })).expect_err("refused").to_string();
    for (body, part) in [
        (json!({ "generator": { "type": "password", "length": 3 } }), "length"),
        (json!({ "generator": { "type": "password", "colour": 3 } }), "colour"),
        (json!({ "generator": { "type": "dice" } }), "dice"),
        (json!({ "generator": { "type": "password", "alphabet": ["digits"], "require": { "upper": 1 } } }), "upper"),
        (json!({ "generator": { "type": "uuid" }, "schedule": { "cron": "0 0 30 2 *" } }), "never"),
        (json!({ "generator": { "type": "uuid" }, "target": "elsewhere", "user_key": "U" }), "elsewhere"),
        (json!({ "generator": { "type": "uuid" }, "target": "db", "mode": "single" }), "take turns"),
        (json!({ "generator": { "type": "command", "target": "db" } }), "no generate command"),
        (json!({ "generator": { "type": "certificate", "common_name": "x", "ttl": "24h" } }), "sans"),
    ] {
        let error = policy(body);
        assert!(error.contains(part), "{error} lacks {part}");
    }
    let error = order(&rig, &json!({ "key": "K", "action": "rotate" })).expect_err("no policy").to_string();
    assert!(error.contains("no rotation policy"), "{error}");
    // Who may give the order and not write the secret may not rotate it.
    let text = r#"path "sys/strongroom/values/*" { capabilities = ["read", "update"] }"#;
    let clerk = rig.admit("clerk", "clerk", text);
    let refused = rig.ask(&clerk, Operation::Write, PATH, &json!({ "key": "K", "action": "rotate" }).to_string());
    assert!(matches!(refused, Err(VaultError::Forbidden)));
    assert!(matches!(rig.read(&clerk, PATH), Err(VaultError::Forbidden)));
}

#[test]
fn a_target_needs_a_right_of_its_own() {
    let database = Database::default();
    let rig = fresh(&database);
    let own = r#"path "sys/strongroom/values/secret/ci/*" { capabilities = ["read", "update"] }
                 path "secret/data/ci/*" { capabilities = ["create", "read", "update"] }"#;
    let clerk = rig.admit("ci/clerk", "clerk", own);
    let body = json!({ "data": { "DB_USER": "app_a", "DB_PASSWORD": "guess" } });
    rig.write(&clerk, "secret/data/ci/own", &body.to_string()).expect("his own secret");
    let path = "sys/strongroom/values/secret/ci/own";
    let by_command = json!({
        "key": "DB_PASSWORD", "policy": { "generator": { "type": "command", "target": "db" } },
    });
    for policy in [with_target(), by_command] {
        let refused = rig.write(&clerk, path, &policy.to_string());
        assert!(matches!(refused, Err(VaultError::Forbidden)), "the database of somebody else");
        assert!(matches!(rig.read(&clerk, path), Err(VaultError::NotFound)), "nothing is stored");
    }
    let plain = json!({ "key": "DB_PASSWORD", "policy": { "generator": { "type": "password", "length": 20 } } });
    rig.write(&clerk, path, &plain.to_string()).expect("without a target");
    let more = format!(r#"{own} path "sys/strongroom/targets/db" {{ capabilities = ["update"] }}"#);
    let clerk = rig.admit("ci/clerk", "clerk", &more);
    rig.write(&clerk, path, &with_target().to_string()).expect("he may now");
}

#[test]
fn a_pair_of_logins_takes_turns() {
    let database = Database::default();
    let rig = fresh(&database);
    order(&rig, &with_target()).expect("taken");
    for user in ["app_b", "app_a"] {
        act(&rig, "rotate").expect("begins");
        rest(&rig, &["promoted"]);
        assert_eq!(secret(&rig)["data"]["DB_USER"], user);
        assert!(current_works(&rig, &database));
        let again = act(&rig, "rotate").expect_err("within the grace").to_string();
        assert!(again.contains("grace period until"), "{again}");
        rig.clock.advance(3_600_000);
        rest(&rig, &["idle"]);
    }
    assert_eq!(state(&rig)["retired"], json!([1, 2]));
}

#[test]
fn two_rotations_of_one_value_at_once_are_refused() {
    let database = Database::default();
    let rig = fresh(&database);
    order(&rig, &with_target()).expect("taken");
    database.logins.lock().expect("no panic while held").down = true;
    act(&rig, "rotate").expect("begins");
    let second = act(&rig, "rotate").expect_err("one at a time").to_string();
    assert!(second.contains("under way"), "{second}");
    let changed = order(&rig, &with_target()).expect_err("nor a new policy").to_string();
    assert!(changed.contains("under way"), "{changed}");
    assert!(current_works(&rig, &database));
    database.logins.lock().expect("no panic while held").down = false;
    rest(&rig, &["promoted"]);
    assert!(current_works(&rig, &database));
}

#[test]
fn a_target_that_stays_down_ends_in_a_named_state_and_abort_leaves_a_working_login() {
    let database = Database::default();
    let rig = fresh(&database);
    order(&rig, &with_target()).expect("taken");
    database.logins.lock().expect("no panic while held").down = true;
    act(&rig, "rotate").expect("begins");
    let mut now = state(&rig);
    for _ in 0..400 {
        now = state(&rig);
        if now["stuck"] == true {
            break;
        }
        rig.clock.advance(11 * 60 * 1_000);
        rig.clock.advance(0);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(now["state"], "needs-operator", "{now}");
    assert!(now["error"].as_str().is_some_and(|error| error.contains("start it")), "{now}");
    database.logins.lock().expect("no panic while held").down = false;
    act(&rig, "abort").expect("goes back");
    rest(&rig, &["idle"]);
    assert!(current_works(&rig, &database));
    assert_eq!(secret(&rig)["data"]["DB_PASSWORD"], "first");
}

#[test]
fn a_database_that_refuses_every_password_is_left_as_it_was() {
    let database = Database::default();
    let rig = fresh(&database);
    order(&rig, &with_target()).expect("taken");
    database.logins.lock().expect("no panic while held").fates = VecDeque::from(vec![Fate::Refused; 3]);
    act(&rig, "rotate").expect("begins");
    let now = rest(&rig, &["needs-operator"]);
    assert!(now["error"].as_str().is_some_and(|error| error.contains("rejects every new value")), "{now}");
    assert!(current_works(&rig, &database));
    act(&rig, "abort").expect("goes back");
    rest(&rig, &["idle"]);
    assert!(current_works(&rig, &database));
}

#[test]
fn a_value_that_fails_its_trial_never_becomes_current() {
    let database = Database::default();
    let rig = fresh(&database);
    order(&rig, &with_target()).expect("taken");
    database.logins.lock().expect("no panic while held").refuse_logins = true;
    act(&rig, "rotate").expect("begins");
    let now = rest(&rig, &["idle"]);
    assert!(now["error"].as_str().is_some_and(|error| error.contains("rejected the new value in a test")), "{now}");
    assert_eq!(secret(&rig)["data"]["DB_PASSWORD"], "first");
    assert!(current_works(&rig, &database));
}

#[test]
fn a_missed_rotation_waits_for_its_window() {
    let rig = fresh(&Database::default());
    // The clock stands at 15:06 UTC.
    let schedule = json!({ "every": "1h", "window": "03:00-04:00" });
    let policy = json!({ "generator": { "type": "uuid" }, "schedule": schedule, "grace": "10m" });
    order(&rig, &json!({ "key": "ID", "policy": policy })).expect("taken");
    let there = |rig: &Rig| secret(rig)["data"].get("ID").is_some();
    rig.clock.advance(3 * 3_600_000);
    std::thread::sleep(Duration::from_millis(60));
    assert!(!there(&rig), "it is 18:06");
    rig.clock.advance(9 * 3_600_000 + 20 * 60_000);
    for _ in 0..300 {
        if there(&rig) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(there(&rig), "it is 03:26");
}

#[test]
fn a_schedule_rotates_once_however_the_clock_jumps() {
    let database = Database::default();
    let rig = fresh(&database);
    let policy = json!({ "generator": { "type": "uuid" }, "schedule": { "every": "24h" }, "grace": "1h" });
    order(&rig, &json!({ "key": "ID", "policy": policy })).expect("taken");
    assert!(!state(&rig)["next"].as_str().expect("a text").is_empty());
    assert!(secret(&rig)["data"].get("ID").is_none(), "not before it is due");
    let versions = |rig: &Rig| secret(rig)["metadata"]["version"].as_u64().expect("a number");
    let mut caller = rig.operator();
    caller.not_after_ms = u64::MAX;
    let version = |rig: &Rig| {
        let read = rig.read(&caller, "secret/data/app/prod").expect("readable");
        read["metadata"]["version"].as_u64().expect("a number")
    };
    assert_eq!(versions(&rig), 1);
    rig.clock.advance(10 * 365 * 86_400_000);
    for _ in 0..300 {
        if version(&rig) > 1 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(version(&rig), 2, "ten missed years are one rotation");
}

/// Rotates with `fates`, keeps vault and database as they are before and after each operation of either, then lets each
/// pair go on by itself with a database that works.
fn cut_everywhere(fates: &[Fate]) {
    let database = Database::default();
    let rig = fresh(&database);
    order(&rig, &with_target()).expect("taken");
    database.logins.lock().expect("no panic while held").fates = fates.iter().copied().collect();
    let cuts: Arc<Mutex<Vec<(String, Disk, Logins)>>> = Arc::default();
    let watch = || -> Box<dyn Fn(&str) + Send + Sync> {
        let (seen, copy, logins) = (Arc::clone(&cuts), rig.disk.watcher(), Arc::clone(&database.logins));
        Box::new(move |name| {
            let logins = logins.lock().expect("no panic while held").clone();
            seen.lock().expect("no panic while held").push((name.to_owned(), copy(), logins));
        })
    };
    rig.spy.watch(Some(watch()));
    *database.watch.lock().expect("no panic while held") = Some(watch());
    act(&rig, "rotate").expect("begins");
    rest(&rig, &["promoted", "needs-operator"]);
    rig.spy.watch(None);
    *database.watch.lock().expect("no panic while held") = None;
    let cuts = std::mem::take(&mut *cuts.lock().expect("no panic while held"));
    assert!(cuts.len() > 30, "{}", cuts.len());
    for (n, (name, disk, mut logins)) in cuts.into_iter().enumerate() {
        logins.fates.clear();
        let database = Database { logins: Arc::new(Mutex::new(logins)), watch: Arc::default() };
        let rig = open(disk, &database);
        let end = rest(&rig, &["promoted", "idle"]);
        assert!(current_works(&rig, &database), "cut {n} at {name} with {fates:?}: {end}");
    }
}

#[test]
fn a_rotation_may_be_killed_at_any_moment_whatever_the_target_does() {
    for fates in [
        &[Fate::Works][..],
        &[Fate::NotSent],
        &[Fate::ReplyLost],
        &[Fate::Refused],
        &[Fate::ReplyLost, Fate::NotSent],
        &[Fate::Refused, Fate::ReplyLost],
    ] {
        cut_everywhere(fates);
    }
}
