//! The check of all records while the vault serves: what it finds, what it does not disturb, and how it ends.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::damage::hold;
use super::support::*;
use crate::api::request::Operation;
use crate::api::sys::Damage;
use crate::barrier::BarrierError;
use crate::core::{Caller, VaultError};
use crate::store::StoreError;

const PATH: &str = "sys/strongroom/verify";

pub(super) fn filled() -> Rig {
    let rig = Rig::new();
    for n in 0..20 {
        rig.write(&rig.operator(), &format!("secret/data/app/{n}"), r#"{"data":{"A":"1"}}"#).expect("written");
    }
    rig
}

pub(super) fn begin(rig: &Rig, caller: &Caller, body: &str) -> Result<Value, VaultError> {
    rig.write(caller, PATH, body).map(|reply| json(&reply))
}

/// Waits for the end of the check and returns its result.
pub(super) fn ended(rig: &Rig) -> Value {
    for _ in 0..2_000 {
        let shown = rig.read(&rig.operator(), PATH).expect("shown");
        if shown["state"] != "running" {
            return shown;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("it does not end");
}

#[test]
fn every_record_is_opened_and_the_sum_is_compared_while_others_write() {
    let rig = filled();
    let operator = rig.operator();
    assert_eq!(rig.read(&operator, PATH).expect("shown")["state"], "none");
    // Slow enough that the writes below come in between.
    let started = begin(&rig, &operator, r#"{"records_per_second":200}"#).expect("begun");
    assert_eq!((&started["state"], &started["records_per_second"]), (&"running".into(), &200.into()));
    let joined = begin(&rig, &operator, r#"{"records_per_second":1000}"#).expect("joined");
    assert_eq!((&joined["started"], &joined["records_per_second"]), (&started["started"], &200.into()));
    for n in 0..40 {
        let path = format!("secret/data/app/{}", n % 25);
        rig.write(&operator, &path, r#"{"data":{"A":"2"}}"#).expect("written");
        if n % 7 == 0 {
            let path = format!("secret/metadata/app/{}", n % 25);
            rig.ask(&operator, Operation::Delete, &path, "").expect("removed");
        }
    }
    let ended = ended(&rig);
    assert_eq!(
        (&ended["state"], &ended["failed"], &ended["set_hash"]),
        (&"done".into(), &0.into(), &true.into()),
        "{ended}"
    );
    assert!(ended["records"].as_u64() >= Some(40), "{ended}");
    begin(&rig, &operator, "").expect("another one can be begun");
}

#[test]
#[allow(clippy::disallowed_methods)] // measures real work
fn a_check_shows_its_progress_and_takes_the_time_that_its_rate_demands() {
    let rig = filled();
    let operator = rig.operator();
    // Held at a record in the middle, so that nothing here depends on how fast the machine is.
    let values = AtomicU64::new(0);
    let (reached, release) =
        hold(&rig, move |key| key.first() == Some(&b'v') && values.fetch_add(1, Ordering::SeqCst) == 10);
    let begun = Instant::now();
    let started = begin(&rig, &operator, r#"{"records_per_second":100}"#).expect("begun");
    let total = started["total"].as_u64().expect("a number");
    assert!(total > 40 && started["records"].as_u64() < Some(total), "{started}");
    reached.recv().expect("it comes that far");
    let shown = rig.read(&operator, PATH).expect("shown");
    let records = shown["records"].as_u64().expect("a number");
    assert!(shown["state"] == "running" && records > 0 && records < total, "{shown}");
    assert_eq!((&shown["total"], shown.get("clean")), (&total.into(), None), "{shown}");
    release.send(()).expect("it waits");
    let ended = ended(&rig);
    assert_eq!((&ended["state"], &ended["clean"]), (&"done".into(), &true.into()), "{ended}");
    // A pause of 160 ms follows every 16 records.
    let records = ended["records"].as_u64().expect("a number");
    assert!(begun.elapsed() >= Duration::from_millis(160) * u32::try_from(records / 16).expect("few"), "{ended}");
}

#[test]
fn a_record_that_rots_is_named_to_who_may_know_and_is_an_alarm() {
    let rig = filled();
    let operator = rig.operator();
    rig.disk.spoil(b'v', 1);
    begin(&rig, &operator, "").expect("begun");
    let ended = ended(&rig);
    assert_eq!((&ended["failed"], &ended["set_hash"]), (&1.into(), &true.into()), "{ended}");
    let bad = &ended["bad"][0];
    assert_eq!(
        (&bad["what"], &bad["mount"], &bad["version"]),
        (&"version".into(), &"secret/".into(), &1.into()),
        "{bad}"
    );
    assert!(bad["path"].as_str().is_some_and(|path| path.starts_with("app/")), "{bad}");
    let alarms = super::identities::alarms(&rig);
    assert_eq!(alarms.iter().filter(|code| *code == "record-damaged").count(), 1);
    let noted = rig.log().into_iter().rfind(|entry| entry["kind"] == "checked").expect("the end is in the trail");
    assert_eq!(
        (&noted["clean"], &noted["complete"], &noted["records"], &noted["failed"]),
        (&false.into(), &true.into(), &ended["records"], &1.into()),
        "{noted}"
    );
    // As after reading it: no more writes until somebody has looked.
    let refused = rig.write(&operator, "secret/data/app/new", r#"{"data":{"A":"1"}}"#).err();
    assert!(matches!(refused, Some(VaultError::Unavailable(_))), "{refused:?}");
}

pub(super) fn gauge(rig: &Rig, name: &str) -> u64 {
    let gauges = rig.read(&rig.operator(), "sys/metrics").expect("shown");
    let found = gauges["gauges"].as_array().expect("a list").iter().find(|gauge| gauge["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is missing"))["value"].as_u64().expect("a number")
}

pub(super) fn alarms_of_damage(rig: &Rig) -> usize {
    super::identities::alarms(rig).iter().filter(|code| *code == "record-damaged").count()
}

#[test]
fn damage_is_visible_everywhere_until_a_check_ends_without_a_finding() {
    let rig = filled();
    let operator = rig.operator();
    assert_eq!((rig.vault.health().damage, gauge(&rig, "strongroom_damage")), (None, 0));
    rig.disk.spoil(b'v', 1);
    let path = |n: usize| format!("secret/data/app/{n}");
    let read: Vec<_> = (0..20).map(|n| rig.read(&operator, &path(n)).err()).collect();
    let damaged = read.iter().position(Option::is_some).expect("one of them");
    let step = "strongroom verify";
    assert!(matches!(&read[damaged], Some(error @ VaultError::Integrity) if error.to_string().contains(step)));
    let write = |rig: &Rig| rig.write(&operator, "secret/data/app/new", r#"{"data":{"A":"1"}}"#);
    let refused = write(&rig).err();
    assert!(
        matches!(&refused, Some(error @ VaultError::Unavailable(_)) if error.to_string().contains(step)),
        "{refused:?}"
    );
    assert_eq!(rig.vault.health().damage, Some(Damage { writes_stopped: true }));
    assert_eq!((gauge(&rig, "strongroom_damage"), gauge(&rig, "strongroom_writes_stopped")), (1, 1));
    // The daemon does this every second.
    for _ in 0..2 {
        rig.vault.sync_audit().expect("written");
    }
    assert_eq!(alarms_of_damage(&rig), 1);

    // A restart accepts writes again. It does not forget the damage, which is still there.
    let mut rig = rig.restart();
    for round in 0..2 {
        rig.unseal().expect("opens");
        write(&rig).expect("written");
        assert_eq!(rig.vault.health().damage, Some(Damage { writes_stopped: false }), "round {round}");
        assert_eq!((gauge(&rig, "strongroom_damage"), gauge(&rig, "strongroom_writes_stopped")), (1, 0));
        // Nor when the log has a new file.
        let log = rig.disk.log_path();
        std::fs::rename(&log, log.with_extension(format!("log.{round}"))).expect("renamed");
        rig.vault.reopen_audit().expect("reopened");
        assert_eq!(alarms_of_damage(&rig), 1, "in the new file");
        rig = rig.restart();
    }
    rig.unseal().expect("opens");
    begin(&rig, &operator, "").expect("begun");
    assert_eq!(ended(&rig)["failed"], 1);
    assert_eq!(rig.vault.health().damage, Some(Damage { writes_stopped: true }));

    // The damaged version goes, and a check ends well: that settles it, also for later starts.
    let rig = rig.restart();
    rig.unseal().expect("opens");
    rig.ask(&operator, Operation::Delete, &format!("secret/metadata/app/{damaged}"), "").expect("removed");
    begin(&rig, &operator, "").expect("begun");
    assert_eq!(ended(&rig)["failed"], 0);
    assert_eq!((rig.vault.health().damage, gauge(&rig, "strongroom_damage")), (None, 0));
    let before = alarms_of_damage(&rig);
    let rig = rig.restart();
    rig.unseal().expect("opens");
    assert_eq!((rig.vault.health().damage, alarms_of_damage(&rig)), (None, before));
}

#[test]
fn it_needs_sudo_and_a_rate_within_bounds() {
    let rig = filled();
    let text = r#"path "sys/strongroom/*" { capabilities = ["read", "update"] }"#;
    let web = rig.admit("app/web", "web", text);
    for refused in
        [begin(&rig, &web, "").err(), rig.read(&web, PATH).err(), rig.read(&web, "sys/strongroom/losses").err()]
    {
        assert!(matches!(refused, Some(VaultError::Forbidden)), "{refused:?}");
    }
    for body in [r#"{"records_per_second":99}"#, r#"{"records_per_second":1000001}"#, r#"{"rate":500}"#] {
        assert!(matches!(begin(&rig, &rig.operator(), body), Err(VaultError::BadRequest(_))), "{body}");
    }
    assert_eq!(rig.read(&rig.operator(), "sys/strongroom/losses").expect("shown")["losses"], serde_json::json!([]));
}

#[test]
fn sealing_ends_it() {
    let rig = filled();
    begin(&rig, &rig.operator(), r#"{"records_per_second":100}"#).expect("begun");
    rig.write(&rig.operator(), "sys/seal", "").expect("sealed");
    rig.unseal().expect("opens");
    assert_eq!(rig.read(&rig.operator(), PATH).expect("shown")["state"], "none");
}

#[test]
fn the_log_learns_why_the_store_cannot_be_read_and_the_caller_does_not() {
    let error = BarrierError::from(StoreError::Unavailable("sector 7".to_owned()));
    assert!(error.to_string().contains("sector 7"), "{error}");
    assert!(!VaultError::from(error).to_string().contains("sector 7"));
}
