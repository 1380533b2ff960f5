//! Several operators for what is dangerous: the real command on machines of their own, and a real daemon.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::town::{Machine, Town};
use crate::rotation::house::amount;
use crate::support::process::text;

/// Exit codes of the command.
const REFUSED: i32 = 1;
const NOT_FOUND: i32 = 4;
const DENIED: i32 = 5;
const APPROVAL: i32 = 8;
const FEW: &str = "can approve: nobody can ever approve anything";

impl Town {
    /// An operator with a machine.
    fn operator(&self, name: &str) -> Machine {
        let identity = format!("operator/{name}");
        self.post(&format!("sys/strongroom/identities/{identity}"), &json!({ "policies": ["admin"] }));
        let machine = self.machine(&identity);
        machine.enroll(&self.string(&identity, &Value::Null), &[]);
        machine
    }

    /// From now on three must agree, within a minute.
    fn ask_for_three(&self) {
        let file = self.house.data.join("strongroom.toml");
        let settings = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{settings}\n[approvals]\nrequired = 3\nttl = \"1m\"\n")).unwrap();
        self.house.stop();
        self.house.start();
    }

    /// Starts it without what follows `section` in its configuration; what it logs.
    fn log_without(&self, section: &str) -> String {
        let file = self.house.data.join("strongroom.toml");
        let settings = std::fs::read_to_string(&file).unwrap();
        let (kept, _) = settings.split_once(section).unwrap();
        std::fs::write(&file, kept).unwrap();
        self.house.stop();
        let before = self.house.log().len();
        self.house.start();
        self.house.log().split_off(before)
    }
}

/// What a machine is told that may not do it yet or any more.
#[track_caller]
fn fails(machine: &Machine, code: i32, arguments: &[&str]) -> String {
    let output = machine.run(arguments);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}{}", text(&output.stdout));
    said
}

/// Asks for something guarded; the id.
#[track_caller]
fn asked(machine: &Machine, arguments: &[&str]) -> String {
    let failure = fails(machine, APPROVAL, &[&["--json"], arguments].concat());
    let failure: Value = serde_json::from_str(&failure).unwrap();
    failure["error"]["approval"].as_str().unwrap_or_else(|| panic!("{failure}")).to_owned()
}

fn show(machine: &Machine, id: &str) -> Value {
    serde_json::from_str(&machine.ok(&["--json", "approvals", "show", id])).unwrap()
}

const DESTROY: [&str; 6] = ["delete", "app/prod", "--versions", "1", "--destroy", "-y"];

#[test]
fn three_operators_agree_to_one_order_once() {
    let town = Town::open();
    let [anna, bert, carl] = ["anna", "bert", "carl"].map(|name| town.operator(name));
    let app = town.enrolled("app/web", &Value::Null);
    town.ask_for_three();
    assert!(!town.house.log().contains(FEW), "there are four");
    let destroyed = || town.get("secret/metadata/app/prod")["versions"]["1"]["destroyed"] == true;

    // One that nobody agrees to, for the end of this test.
    let forgotten = asked(&anna, &["delete", "app/prod", "--all", "-y"]);
    let begun = Instant::now();

    assert_eq!(bert.ok(&["approvals", "list"]).lines().count(), 1);
    let id = asked(&anna, &DESTROY);
    assert_eq!(asked(&anna, &DESTROY), id, "the same request again");
    let listed = bert.ok(&["approvals", "list"]);
    let line = listed.lines().find(|line| line.contains(&id)).unwrap();
    assert!(line.contains("open") && line.contains("app/prod") && line.contains("operator/anna"), "{listed}");
    let shown = bert.ok(&["approvals", "show", &id]);
    for said in ["destroy", "secret/destroy/app/prod", "versions", "2 more operators must approve"] {
        assert!(shown.contains(said), "{said}: {shown}");
    }
    assert!(fails(&anna, REFUSED, &["approvals", "approve", &id, "-y"]).contains("another operator"));
    assert!(!app.run(&["approvals", "approve", &id, "-y"]).status.success(), "no operator");
    fails(&bert, NOT_FOUND, &["approvals", "approve", "0123456789abcdef", "-y"]);
    assert!(fails(&bert, 2, &["approvals", "approve", &id]).contains("no terminal"), "nothing is agreed to unasked");

    assert!(bert.ok(&["approvals", "approve", &id, "-y"]).contains("one more operator must approve"));
    assert!(bert.ok(&["approvals", "approve", &id, "-y"]).contains("one more operator"), "one voice, twice");
    assert_eq!(asked(&anna, &DESTROY), id);
    assert!(!destroyed(), "two of three");
    assert!(carl.ok(&["approvals", "approve", &id, "-y"]).contains("operator/anna can repeat"));
    assert!(asked(&bert, &DESTROY) != id && !destroyed(), "it is the order of who asked");
    town.kill();
    anna.ok(&DESTROY);
    assert!(destroyed());

    // Once.
    town.post("secret/data/app/prod", &json!({ "data": { "KEY": "one" } }));
    let next = asked(&anna, &DESTROY);
    assert_ne!(next, id);
    assert!(fails(&bert, REFUSED, &["approvals", "approve", &id, "-y"]).contains("used"));
    carl.ok(&["approvals", "reject", &next]);
    assert!(fails(&anna, DENIED, &DESTROY).contains("rejected"));
    assert!(!bert.ok(&["approvals", "list"]).contains(&id));
    let all = bert.ok(&["approvals", "list", "--all"]);
    assert!(all.contains(&format!("{id} used")) && all.contains(&format!("{next} rejected")), "{all}");
    in_the_trail(&town, &show(&bert, &id));

    // A minute is the least that can be asked for.
    let end = Duration::from_secs(amount(0, 61, 61));
    if end.is_zero() {
        return;
    }
    std::thread::sleep(end.saturating_sub(begun.elapsed()));
    assert_eq!(show(&bert, &forgotten)["state"], "expired");
    assert!(fails(&bert, REFUSED, &["approvals", "approve", &forgotten, "-y"]).contains("expired"));
    assert_ne!(asked(&anna, &["delete", "app/prod", "--all", "-y"]), forgotten);
    assert_eq!(bert.ok(&["get", "app/prod", "KEY"]).trim(), "one", "nothing was removed");
}

/// Every step of a request that was done has its line, under the name of who took it.
fn in_the_trail(town: &Town, done: &Value) {
    let log = town.log();
    let id = done["id"].as_str().unwrap();
    let of = |path: &str| {
        let lines: Vec<&Value> = log.iter().filter(|line| line["path"] == path).collect();
        lines.iter().map(|line| (line["identity"].clone(), line["seq"].clone())).collect::<Vec<_>>()
    };
    let status = |request: &Value| {
        let line = log.iter().find(|line| line["type"] == "reply" && line["request"] == *request);
        line.unwrap_or_else(|| panic!("no reply to {request}"))["status"].clone()
    };
    let mut voices: Vec<(String, Value)> = of(&format!("sys/strongroom/approvals/{id}/approve"))
        .into_iter()
        .map(|(who, seq)| (who.as_str().unwrap().to_owned(), status(&seq)))
        .collect();
    voices.retain(|(_, status)| *status == 204);
    let names: Vec<&str> = voices.iter().map(|(who, _)| who.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["bert", "bert", "carl"]);
    for (field, expected) in [("request", 403), ("used_request", 204)] {
        let request = &done[field];
        let line = log.iter().find(|line| line["id"] == *request).unwrap_or_else(|| panic!("{field}: {done}"));
        assert!(line["identity"].as_str().unwrap().ends_with("/operator/anna"), "{line}");
        assert_eq!(status(&line["seq"]), expected, "{field}");
    }
}

#[test]
fn too_few_operators_are_warned_of_when_the_vault_opens() {
    let town = Town::open();
    let _anna = town.operator("anna");
    town.operator("bert");
    town.post("sys/strongroom/disable/operator/bert", &json!({}));
    assert!(!town.house.log().contains(FEW), "nothing is asked for");
    town.ask_for_three();
    let log = town.house.log();
    let line = log.lines().find(|line| line.contains(FEW)).unwrap_or_else(|| panic!("{log}"));
    for said in ["WARN", "approvals.required is 3, and 2 registered", "Remove [approvals]", "at least 3 identities"] {
        assert!(line.contains(said), "{said}: {line}");
    }
    assert!(!town.log_without("[approvals]").contains(FEW));
    town.post("sys/strongroom/enable/operator/bert", &json!({}));
    town.ask_for_three();
    assert_eq!(town.house.log().matches(FEW).count(), 1, "three are enough");
}
