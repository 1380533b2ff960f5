//! From one authority to the next with the commands alone: to the end without force, early for those whose authority is
//! tainted, and at once when one is revoked.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::town::{Holder, Machine, Town};
use crate::support::process::text;
use crate::support::raw::Raw;

const READ: &str = "secret/data/app/prod";
const PATIENCE: Duration = Duration::from_secs(20);
/// All that a connection may outlive the authority of its certificate.
const AT_ONCE: Duration = Duration::from_secs(1);

/// The operator's own machine, with a profile of the first bundle.
pub(super) fn desk(town: &Town) -> Machine {
    let desk = town.machine("operator");
    let (bundle, address) = (town.house.bundle.to_str().unwrap(), format!("https://{}", town.address));
    desk.ok(&["profile", "add", "default", "--bundle", bundle, "--address", &address]);
    desk
}

#[track_caller]
pub(super) fn list(desk: &Machine) -> Vec<(String, String)> {
    let mut all: Vec<Value> = serde_json::from_str(&desk.ok(&["--json", "ca", "list"])).unwrap();
    all.sort_by_key(|one| one["created"].as_str().unwrap().to_owned());
    all.iter().map(|one| (one["id"].as_str().unwrap().into(), one["state"].as_str().unwrap().into())).collect()
}

#[track_caller]
fn states(desk: &Machine) -> Vec<String> {
    list(desk).into_iter().map(|(_, state)| state).collect()
}

/// `ca rotate`, which is to be held up, and what it says.
#[track_caller]
fn waits(desk: &Machine) -> String {
    let output = desk.run(&["ca", "rotate", "-y"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    text(&output.stderr)
}

/// What `renew --if-due` did.
#[track_caller]
fn renewed_if_due(machine: &Machine) -> bool {
    let said: Value = serde_json::from_str(&machine.ok(&["--json", "renew", "--if-due"])).unwrap();
    said["renewed"].as_bool().unwrap()
}

fn certificate(machine: &Machine) -> String {
    std::fs::read_to_string(machine.profile("default").join("cert.pem")).unwrap()
}

/// Learns of the authorities of today, and shows it.
#[track_caller]
fn learns(machine: &Machine) {
    assert!(!renewed_if_due(machine), "it was not due");
    assert!(machine.is_served(&[]));
}

/// Waits until the listener does not stand among those that hold up `ca rotate`, and gives the last answer of it.
#[track_caller]
fn waits_for_hosts(desk: &Machine) -> String {
    let start = Instant::now();
    loop {
        let said = waits(desk);
        if !said.contains("server") {
            return said;
        }
        assert!(start.elapsed() < PATIENCE, "the listener keeps its certificate: {said}");
        sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_rotation_is_repeated_to_its_end_without_force() {
    let town = Town::open();
    let [first, second, off] = ["app/first", "app/second", "app/off"].map(|name| town.enrolled(name, &Value::Null));
    for machine in [&first, &second, &off] {
        assert!(machine.is_served(&[]));
    }
    let desk = desk(&town);
    desk.ok(&["identity", "disable", "app/off", "--reason", "scrapped"]);

    desk.ok(&["ca", "rotate", "-y"]);
    assert_eq!(states(&desk), ["active", "prepared"]);
    let said = waits(&desk);
    assert!(said.contains("app/first, app/second") && !said.contains("app/off"), "{said}");
    assert!(!said.contains("operator/admin"), "who prepares an authority knows it: {said}");
    learns(&first);
    let said = waits(&desk);
    assert!(said.contains("app/second") && !said.contains("app/first"), "{said}");
    learns(&second);
    // Enrolled on the way: it has today's authorities from the start.
    let third = town.enrolled("app/third", &Value::Null);
    assert!(third.is_served(&[]));
    desk.ok(&["ca", "rotate", "-y"]);
    assert_eq!(states(&desk), ["active", "trusted"]);
    desk.ok(&["ca", "rotate", "-y"]);
    assert_eq!(states(&desk), ["retiring", "active"]);

    // Each holds the end up until it has another certificate, the operator too.
    let said = waits_for_hosts(&desk);
    assert!(said.contains("app/first, app/second, app/third, operator/admin"), "{said}");
    for (machine, left) in [
        (&first, "app/second, app/third, operator/admin"),
        (&second, "app/third, operator/admin"),
        (&third, "operator/admin"),
    ] {
        machine.ok(&["renew"]);
        let said = waits(&desk);
        assert!(said.contains(&format!("in use: {left};")), "{said}");
    }
    desk.ok(&["renew"]);
    desk.ok(&["ca", "rotate", "-y"]);
    assert_eq!(states(&desk), ["removed", "active"]);
    for machine in [&first, &second, &third] {
        assert!(machine.is_served(&[]), "before it has learned that the old one is gone");
        learns(machine);
        let ca = std::fs::read_to_string(machine.profile("default").join("ca.pem")).unwrap();
        assert_eq!(ca.matches("BEGIN CERTIFICATE").count(), 1);
    }
    town.kill();
    assert_eq!(states(&desk), ["removed", "active"]);
    assert!(first.is_served(&[]) && second.is_served(&[]) && third.is_served(&[]) && !off.is_served(&[]));
    // The next one begins where this one has ended.
    desk.ok(&["ca", "rotate", "-y"]);
    assert_eq!(states(&desk), ["removed", "active", "prepared"]);
}

/// Another authority signs, and the listener shows it; the old one retires. Whoever is given has learned of it, and holds
/// a certificate of the old one.
fn succeed(town: &Town, desk: &Machine, machines: &[&Machine], holders: &mut [&mut Holder]) -> (String, String) {
    desk.ok(&["ca", "rotate", "-y"]);
    machines.iter().for_each(|machine| learns(machine));
    for holder in holders {
        holder.ca = holder.client().ca().unwrap().bundle;
        holder.client().request("GET", READ, None).unwrap();
    }
    desk.ok(&["ca", "rotate", "-y"]);
    desk.ok(&["ca", "rotate", "-y"]);
    desk.ok(&["renew"]);
    waits_for_hosts(desk);
    for name in ["ca.pem", "cert.pem", "key.pem"] {
        std::fs::copy(desk.profile("default").join(name), town.house.bundle.join(name)).unwrap();
    }
    let all = list(desk);
    (all[0].0.clone(), all[1].0.clone())
}

#[test]
fn a_host_of_a_tainted_authority_renews_early_and_once() {
    let town = Town::open();
    let desk = desk(&town);
    let host = town.enrolled("app/host", &Value::Null);
    assert!(host.is_served(&[]));
    let active = list(&desk)[0].0.clone();
    // While no other one signs, a renewal would end where it began.
    desk.ok(&["ca", "taint", &active]);
    let before = certificate(&host);
    assert!(!renewed_if_due(&host) && certificate(&host) == before);

    let (old, _) = succeed(&town, &desk, &[&host], &mut []);
    assert_eq!(old, active);
    assert!(desk.ok(&["ca", "list"]).contains("retiring, tainted"));
    let key = || std::fs::read(host.profile("default").join("key.pem")).unwrap();
    let old_key = key();
    assert!(renewed_if_due(&host), "its time has not come, and it renews all the same");
    let new = certificate(&host);
    assert_ne!(new, before);
    assert_ne!(key(), old_key);
    assert!(host.is_served(&[]));
    for _ in 0..2 {
        assert!(!renewed_if_due(&host), "of the new authority now");
    }
    assert_eq!(certificate(&host), new);
    assert!(town.alarms().is_empty());

    // Without the mark nobody is early.
    let calm = town.enrolled("app/calm", &Value::Null);
    assert!(!renewed_if_due(&calm));
    // Nobody is left, so the authority goes unforced.
    desk.ok(&["ca", "rotate", "-y"]);
    assert_eq!(states(&desk), ["removed", "active"]);
}

fn served(connection: &mut Raw) -> bool {
    connection.get(READ).is_ok_and(|reply| reply.status == 200)
}

#[test]
fn a_revoked_authority_is_out_at_once_and_for_good() {
    let town = Town::open();
    let desk = desk(&town);
    town.register("app/host", &json!({ "grace": "1d" }));
    let host = town.machine("app/host");
    host.enroll(&town.string("app/host", &Value::Null), &[]);
    let (mut leaves, mut stays) = (town.holder("app/leaves"), town.holder("app/stays"));
    let (first, next) = succeed(&town, &desk, &[&host], &mut [&mut leaves, &mut stays]);
    stays.renew();
    let mut idle = leaves.raw();
    let mut polling = leaves.raw();
    let mut kept = stays.raw();
    assert!(served(&mut idle) && served(&mut polling) && served(&mut kept) && host.is_served(&[]));
    let poll = "GET /v1/sys/strongroom/events?path=secret/data/app/prod&wait=30 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    polling.send(poll.as_bytes()).unwrap();
    assert_eq!(desk.ok(&["ca", "crl"]).matches("BEGIN X509 CRL").count(), 2);
    // The one that signs is not taken away like this.
    let refused = desk.run(&["ca", "revoke", &next, "-y"]);
    assert!(!refused.status.success() && text(&refused.stderr).contains("is active"), "{}", text(&refused.stderr));

    let said = desk.ok(&["ca", "revoke", &first[..12], "-y"]);
    let answered = Instant::now();
    assert!(said.contains("is revoked"), "{said}");
    idle.wait_for_end();
    polling.wait_for_end();
    assert!(answered.elapsed() < AT_ONCE, "open for {:?}", answered.elapsed());

    let out = |when: &str| {
        assert_eq!(list(&desk), [(first.clone(), "revoked".into()), (next.clone(), "active".into())], "{when}");
        assert!(!served(&mut leaves.raw()), "a new connection, {when}");
        assert!(!host.is_served(&[]), "{when}");
        let refused = host.run(&["renew"]);
        assert!(!refused.status.success(), "{when}");
        // Its key is destroyed: it signs no list either, and does not come back.
        assert_eq!(desk.ok(&["ca", "crl"]).matches("BEGIN X509 CRL").count(), 1, "{when}");
        for step in ["trust", "activate"] {
            let path = format!("sys/strongroom/ca/{first}/{step}");
            let (status, reply) = town.house.ask("POST", &path, &json!({ "force": true }));
            assert!(status == 400 && reply.to_string().contains("revoked"), "{when}: {reply}");
        }
        let marked = town.alarms().iter().filter(|code| *code == "authority-revoked").count();
        assert_eq!(marked, 1, "{when}");
        assert!(served(&mut stays.raw()), "{when}");
    };
    assert!(served(&mut kept), "a connection by the other authority stays open");
    out("at once");
    town.kill();
    out("after kill -9");
    town.house.stop();
    town.house.start();
    out("after a restart");
    // Enrolled anew it is in again, by the authority that is left.
    host.enroll(&town.string("app/host", &Value::Null), &["--replace"]);
    assert!(host.is_served(&[]));
}
