//! Enrolled, renewed, copied, expired.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::town::Town;
use crate::support::process::text;

#[test]
fn a_string_is_all_that_a_machine_needs_and_a_copied_certificate_freezes_it() {
    let town = Town::open();
    town.register("app/web", &Value::Null);
    let string = town.string("app/web", &Value::Null);
    let machine = town.machine("web");
    machine.enroll(&string, &[]);
    assert_eq!(machine.ok(&["get", "app/prod", "KEY"]).trim(), "one");
    let shown = town.get("sys/strongroom/identities/app/web");
    assert_eq!(shown["certificates"].as_array().unwrap().len(), 1, "{shown}");

    // The string is good for one machine.
    let other = town.machine("other");
    let refused = other.try_enroll(&string, &[]);
    assert!(text(&refused.stderr).contains("used up"), "{}", text(&refused.stderr));
    assert_eq!(town.alarms(), ["enrolment-string-used-again"]);

    machine.copy_profile("copy");
    machine.ok(&["renew"]);
    assert!(machine.is_served(&[]), "the new certificate");
    assert!(machine.is_served(&["--profile", "copy"]), "the old one is good until its end");
    // Who has the copy renews it, and nobody can tell which of the two is the machine.
    let refused = machine.run(&["renew", "--profile", "copy"]);
    assert!(!refused.status.success(), "{}", text(&refused.stdout));
    assert!(!machine.is_served(&[]) && !machine.is_served(&["--profile", "copy"]));
    assert_eq!(town.alarms(), ["enrolment-string-used-again", "renewed-certificate-used-to-renew"]);
    let shown = town.get("sys/strongroom/identities/app/web");
    assert!(shown["disabled"] == true && shown["reason"].as_str().unwrap().starts_with("frozen"), "{shown}");
    assert_eq!(shown["connections"], 0);

    town.kill();
    assert!(!machine.is_served(&[]) && !machine.is_served(&["--profile", "copy"]), "after a restart");
    let log = std::fs::read_to_string(town.house.data.join("audit/audit.log")).unwrap();
    for hidden in [&string[..], &string[10..50]] {
        assert!(!log.contains(hidden) && !town.house.log().contains(hidden), "the string stands in a log");
    }

    // The way back: everything that was issued ends, and the machine is enrolled anew.
    town.post("sys/strongroom/revoke/app/web", &json!({ "reason": "copied" }));
    town.post("sys/strongroom/enable/app/web", &json!({}));
    assert!(!machine.is_served(&[]) && !machine.is_served(&["--profile", "copy"]));
    machine.enroll(&town.string("app/web", &Value::Null), &["--profile", "new"]);
    assert!(machine.is_served(&["--profile", "new"]) && !machine.is_served(&[]));
}

#[test]
fn an_expired_certificate_is_renewed_within_its_grace_and_not_after() {
    let town = Town::open();
    let short = json!({ "certificate_ttl": "2s", "grace": "1h" });
    let machine = town.enrolled("app/laptop", &short);
    machine.copy_profile("kept");
    let start = Instant::now();
    // At the very end the vault may close a connection that it has just accepted, before it can say why.
    loop {
        let said = text(&machine.run(&["get", "app/prod", "KEY"]).stderr);
        if said.contains("expired") {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "a certificate of two seconds goes on: {said}");
        std::thread::sleep(Duration::from_millis(200));
    }
    town.register("app/laptop", &json!({ "certificate_ttl": "1h" }));
    machine.ok(&["renew"]);
    assert!(machine.is_served(&[]));
    assert!(!machine.is_served(&["--profile", "kept"]), "the expired one is not good again");
    assert_eq!(town.alarms(), ["certificate-renewed-after-its-end"]);

    // A copy of what expired renews once more: frozen as a living one is.
    let refused = machine.run(&["renew", "--profile", "kept"]);
    assert!(!refused.status.success());
    assert_eq!(town.alarms(), ["certificate-renewed-after-its-end", "renewed-certificate-used-to-renew"]);
    assert!(!machine.is_served(&[]));

    // Without grace the end is the end.
    let strict = town.enrolled("app/strict", &json!({ "certificate_ttl": "1s" }));
    std::thread::sleep(Duration::from_millis(2_500));
    let refused = strict.run(&["renew"]);
    let said = text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("ask for a new enrolment string"), "{said}");
    town.register("app/strict", &json!({ "certificate_ttl": "1h" }));
    strict.enroll(&town.string("app/strict", &Value::Null), &["--profile", "new"]);
    assert!(strict.is_served(&["--profile", "new"]));
}
