//! What the vault knows about damaged records: who finds it, what it says, what it remembers, and when it is settled.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};

use super::remarks::{accept_lost_log, cuts};
use super::support::{Fault, Rig};
use super::verify::{alarms_of_damage, begin, ended, filled, gauge};
use crate::api::sys::Damage;
use crate::barrier::MountId;
use crate::core::VaultError;
use crate::store::StoreError;

const STOPPED: Option<Damage> = Some(Damage { writes_stopped: true });
const KNOWN: Option<Damage> = Some(Damage { writes_stopped: false });

/// Holds the first read of a record that `here` chooses. The receiver learns that it came, the sender lets it go on.
pub(super) fn hold(rig: &Rig, here: impl Fn(&[u8]) -> bool + Send + Sync + 'static) -> (Receiver<()>, Sender<()>) {
    let ((came, reached), (release, go)) = (channel(), channel());
    let once = Mutex::new(Some((came, go)));
    rig.spy.at_each_read(Some(Arc::new(move |key| {
        let held = if here(key) { once.lock().expect("no panic while held").take() } else { None };
        if let Some((came, go)) = held {
            came.send(()).expect("the test waits");
            go.recv().expect("the test lets it go on");
        }
        Ok(())
    })));
    (reached, release)
}

fn is_value(key: &[u8]) -> bool {
    key.first() == Some(&b'v')
}

/// From now on the engine cannot read one value.
fn spoil_page(rig: &Rig) {
    let bad = OnceLock::new();
    rig.spy.at_each_read(Some(Arc::new(move |key| {
        if is_value(key) && bad.get_or_init(|| key.to_vec()).as_slice() == key {
            return Err(StoreError::Corrupt("a page".to_owned()));
        }
        Ok(())
    })));
}

/// Flips a bit of a value, or flips it back.
fn flip(rig: &Rig, key: &[u8]) {
    rig.disk.store.tamper(|records| {
        records.get_mut(key).expect("it is there").value.last_mut().into_iter().for_each(|last| *last ^= 1);
    });
}

/// Reads every secret, and returns the errors.
fn read_all(rig: &Rig) -> Vec<VaultError> {
    let read = |n| rig.read(&rig.operator(), &format!("secret/data/app/{n}")).err();
    (0..20).filter_map(read).collect()
}

fn write(rig: &Rig) -> Result<(), VaultError> {
    rig.write(&rig.operator(), "secret/data/app/new", r#"{"data":{"A":"1"}}"#).map(drop)
}

/// What the last check has left in the audit log.
fn noted_clean(rig: &Rig) -> bool {
    let noted = rig.log().into_iter().rfind(|line| line["kind"] == "checked").expect("the end is in the log");
    noted["clean"].as_bool().expect("a truth")
}

fn check(rig: &Rig) -> serde_json::Value {
    begin(rig, &rig.operator(), "").expect("begun");
    ended(rig)
}

#[test]
fn what_the_engine_cannot_read_is_damage_whoever_finds_it() {
    for by_check in [true, false] {
        let rig = filled();
        spoil_page(&rig);
        if by_check {
            let ended = check(&rig);
            assert_eq!((&ended["failed"], &ended["clean"]), (&1.into(), &false.into()), "{ended}");
            assert_eq!(ended["bad"][0]["why"], "the store cannot read it", "{ended}");
        } else {
            let errors = read_all(&rig);
            assert!(matches!(errors[..], [VaultError::Unavailable(_)]), "{errors:?}");
            rig.vault.sync_audit().expect("written");
        }
        assert_eq!(alarms_of_damage(&rig), 1, "by a check: {by_check}");
        assert_eq!(rig.vault.health().damage, STOPPED);
        assert_eq!((gauge(&rig, "strongroom_damage"), gauge(&rig, "strongroom_writes_stopped")), (1, 1));
        assert!(matches!(write(&rig), Err(VaultError::Unavailable(_))));

        // The page is sound again. That is only known after a check.
        let rig = rig.restart();
        rig.unseal().expect("opens");
        assert_eq!(rig.vault.health().damage, KNOWN);
        assert_eq!(check(&rig)["clean"], true);
        assert_eq!(rig.vault.health().damage, None);
    }
}

#[test]
fn a_record_that_nothing_refers_to_is_an_alarm_and_stops_no_writes() {
    let rig = filled();
    {
        let live = rig.vault.live().expect("open");
        let mut group = live.barrier.begin();
        group.run(|tx| tx.put_entry(MountId([9; 16]), "of no mount", b"text", 0)).expect("written");
        let durable = group.store(live.barrier.audit_head(), super::support::START_MS).expect("stored");
        durable.anchor().expect("anchored");
        durable.publish();
    }
    for round in 0..2 {
        let ended = check(&rig);
        assert_eq!((&ended["failed"], &ended["bad"][0]["what"]), (&1.into(), &"stray".into()), "{ended}");
        assert_eq!((rig.vault.health().damage, alarms_of_damage(&rig)), (KNOWN, 1), "round {round}");
        write(&rig).expect("nobody got a wrong record");
    }
    let rig = rig.restart();
    rig.unseal().expect("opens");
    assert_eq!((rig.vault.health().damage, alarms_of_damage(&rig)), (KNOWN, 2));
}

#[test]
fn a_check_does_not_settle_what_is_found_behind_it() {
    let rig = filled();
    let passed: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let read = Arc::clone(&passed);
    let (reached, release) = hold(&rig, move |key| {
        let mut read = read.lock().expect("no panic while held");
        if is_value(key) {
            read.push(key.to_vec());
        }
        read.len() == 2
    });
    begin(&rig, &rig.operator(), "").expect("begun");
    reached.recv().expect("it comes that far");
    let behind = passed.lock().expect("no panic while held")[0].clone();
    flip(&rig, &behind);
    let errors = read_all(&rig);
    assert!(matches!(errors[..], [VaultError::Integrity]), "{errors:?}");
    rig.vault.sync_audit().expect("written");
    assert_eq!(alarms_of_damage(&rig), 1);
    release.send(()).expect("it waits");
    let ended = ended(&rig);
    // Everything that the check itself has seen is sound.
    assert_eq!((&ended["failed"], &ended["set_hash"], &ended["clean"]), (&0.into(), &true.into(), &false.into()));
    assert!(!noted_clean(&rig));
    let rig = rig.restart();
    rig.unseal().expect("opens");
    assert_eq!(rig.vault.health().damage, KNOWN);
    assert_eq!(check(&rig)["failed"], 1, "it is still there");
}

#[test]
fn what_was_found_just_before_a_check_is_in_the_log() {
    let rig = filled();
    rig.disk.spoil(b'v', 1);
    assert_eq!(read_all(&rig).len(), 1);
    rig.disk.spoil(b'v', 1);
    // The alarm of a read follows within a second. The check begins before, and finds nothing.
    assert_eq!(alarms_of_damage(&rig), 0);
    check(&rig);
    rig.vault.sync_audit().expect("written");
    assert_eq!(alarms_of_damage(&rig), 1);
}

#[test]
fn damage_that_is_found_after_a_clean_check_is_told_again() {
    let rig = filled();
    // A wrong read of a sound record, as of bad memory.
    rig.disk.spoil(b'v', 1);
    assert_eq!(read_all(&rig).len(), 1);
    rig.vault.sync_audit().expect("written");
    rig.disk.spoil(b'v', 1);
    assert_eq!((&check(&rig)["clean"], noted_clean(&rig)), (&true.into(), true));
    assert_eq!(rig.vault.health().damage, STOPPED, "writes stay stopped until a restart");
    rig.vault.sync_audit().expect("written");
    assert_eq!(alarms_of_damage(&rig), 1, "it is settled");
    // Now one that stays.
    rig.disk.spoil(b'v', 1);
    assert_eq!(read_all(&rig).len(), 1);
    for _ in 0..2 {
        rig.vault.sync_audit().expect("written");
    }
    assert_eq!(alarms_of_damage(&rig), 2);
    let rig = rig.restart();
    rig.unseal().expect("opens");
    assert_eq!(rig.vault.health().damage, KNOWN);
}

#[test]
fn an_alarm_that_the_log_did_not_take_is_written_later() {
    let rig = filled();
    rig.disk.spoil(b'v', 1);
    rig.spy.fail(Fault::Append("note"));
    assert_eq!(check(&rig)["failed"], 1);
    assert!(rig.vault.sync_audit().is_err());
    rig.spy.fail(Fault::None);
    assert_eq!(alarms_of_damage(&rig), 0);
    rig.vault.sync_audit().expect("written");
    assert_eq!(alarms_of_damage(&rig), 1);
}

#[test]
fn a_check_that_panics_has_ended_and_another_one_can_begin() {
    let rig = filled();
    rig.spy.at_each_read(Some(Arc::new(|key| {
        assert!(!is_value(key), "a defect");
        Ok(())
    })));
    let ended = check(&rig);
    assert_eq!((&ended["state"], &ended["clean"]), (&"stopped".into(), &false.into()), "{ended}");
    assert!(ended["error"].as_str().is_some_and(|error| error.contains("internal error")), "{ended}");
    rig.spy.at_each_read(None);
    assert_eq!(check(&rig)["state"], "done");
}

/// A stopped vault that knows of damage.
fn damaged() -> Rig {
    let rig = filled();
    rig.disk.spoil(b'v', 1);
    assert_eq!(read_all(&rig).len(), 1);
    rig.vault.sync_audit().expect("written");
    rig.restart()
}

#[test]
fn the_state_vouches_for_the_alarm_of_a_start() {
    let rig = damaged();
    rig.unseal().expect("opens");
    let alarm = rig.log().into_iter().rfind(|line| line["code"] == "record-damaged").expect("an alarm");
    let live = rig.vault.live().expect("open");
    assert!(Some(live.barrier.audit_head().seq) >= alarm["seq"].as_u64(), "{alarm}");
    drop(live);
    // On a full disk it cannot, and the vault opens all the same.
    let rig = rig.restart();
    rig.spy.fail(Fault::Full);
    rig.unseal().expect("opens");
    assert_eq!(rig.vault.health().damage, KNOWN);
}

#[test]
fn a_kill_at_the_first_lines_of_a_new_log_does_not_forget_the_damage() {
    let rig = damaged();
    let log = rig.disk.log_path();
    std::fs::rename(&log, log.with_extension("log.1")).expect("renamed");
    let cuts = cuts(&rig, || rig.unseal().expect("opens"));
    let (mut least, mut opened) = (usize::MAX, 0);
    for (at, (_, disk)) in cuts.into_iter().enumerate() {
        // Without a line the start reads the file before, which stays behind here.
        let lines = disk.log_text().lines().count();
        if lines == 0 {
            continue;
        }
        let rig = Rig::sealed(disk);
        rig.unseal().expect("opens");
        assert_eq!(rig.vault.health().damage, KNOWN, "cut {at}, {lines} lines");
        (least, opened) = (least.min(lines), opened + 1);
    }
    assert!(least == 1 && opened > 3, "{least} {opened}");
}

#[test]
fn a_log_that_was_given_up_may_have_said_that_records_are_damaged() {
    for appends in [1, 2, usize::MAX] {
        let disk = damaged().end();
        std::fs::remove_file(disk.log_path()).expect("it was there");
        let accepted = accept_lost_log(&disk, appends);
        assert_eq!(accepted.is_ok(), appends > 2, "{accepted:?}");
        let rig = Rig::sealed(disk);
        rig.unseal().expect("opens");
        assert_eq!((rig.vault.health().damage, alarms_of_damage(&rig)), (KNOWN, 1), "after {appends} writes");
    }
}
