//! What the audit log says of a group besides its requests, after a kill at any operation and on a full disk.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use super::identities::{Key, alarms};
use super::support::{Disk, Fault, Rig, json, request, wait};
use crate::api::error::ErrorCode;
use crate::api::request::Operation;
use crate::audit::{AuditError, Device, FileDevice, Syncer};
use crate::core::lifecycle::losses::{self, LossError};
use crate::core::{AuditOpener, VaultError};

/// Puts three changes into one group: a write, a write that is refused, and one that leaves an issue remark and an
/// alarm. Returns how they ended.
fn group(rig: &Rig) -> [bool; 3] {
    let operator = rig.operator();
    let key = Key::new().body();
    rig.spy.hold_anchor();
    let ask = |path: &str, body: &str| rig.vault.handle(&operator, request(Operation::Write, path, body));
    let mut first = pin!(ask("secret/data/first", r#"{"data":{"k":"v"}}"#));
    let mut written = pin!(ask("secret/data/x", r#"{"data":{"k":"new"}}"#));
    let mut refused = pin!(ask("secret/data/x", r#"{"options":{"cas":7},"data":{"k":"refused"}}"#));
    let mut issued = pin!(ask("sys/strongroom/ca/compromise", &key));
    let mut context = Context::from_waker(Waker::noop());
    assert!(first.as_mut().poll(&mut context).is_pending());
    rig.spy.await_held();
    // These wait in the queue, and the next group takes all of them.
    assert!(written.as_mut().poll(&mut context).is_pending());
    assert!(refused.as_mut().poll(&mut context).is_pending());
    assert!(issued.as_mut().poll(&mut context).is_pending());
    rig.spy.release();
    wait(async move {
        first.await.expect("written");
        [written.await.is_ok(), refused.await.is_ok(), issued.await.is_ok()]
    })
}

/// A disk at the moment of a kill, and one for each number of lines of the log that a power cut may have left, if no
/// more than `kept` were durable for sure.
fn images(disk: &Disk, kept: usize) -> Vec<Disk> {
    let text = disk.log_text();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    (kept.min(lines.len())..=lines.len())
        .map(|count| {
            let image = disk.watcher()();
            image.put_log(&lines[..count].concat());
            image
        })
        .collect()
}

/// Opens a disk and compares the log with what was stored. False when the log lacks the requests of a stored group: no
/// power cut does that.
fn opens_and_fits(rig: &Rig, what: &str) -> bool {
    match rig.unseal() {
        Ok(()) => {}
        Err(VaultError::DidNotOpen { code: ErrorCode::AuditUnavailable, .. }) => return false,
        Err(other) => panic!("{what}: {other}"),
    }
    let value = rig.read(&rig.operator(), "secret/data/x").expect("there")["data"]["k"].clone();
    let stored = value == "new";
    let log = rig.log();
    let count = |kind: &str| log.iter().filter(|line| line["kind"] == kind).count();
    assert_eq!(count("issued"), usize::from(stored), "{what}: certificates in the log, stored: {stored}");
    let marked = alarms(rig);
    let marked = marked.iter().filter(|code| *code == "authority-compromised").count();
    assert_eq!(marked, usize::from(stored), "{what}: alarms in the log, stored: {stored}");
    let ended = |seq: u64| {
        let reply = log.iter().find(|line| line["request"] == seq && line["type"] == "reply");
        let note = log.iter().find(|line| line["request"] == seq && line["kind"] == "unfinished");
        let [Some(end), None] = [reply.or(note), reply.and(note)] else { panic!("{what}: request {seq} has one end") };
        end["outcome"].as_str().expect("text")
    };
    // The write of the old value, and then those of `group` that came so far.
    let asked = |line: &&serde_json::Value| {
        line["type"] == "request" && (line["path"] == "secret/data/x" || line["path"] == COMPROMISE)
    };
    for (at, line) in log.iter().filter(asked).enumerate() {
        let end = ended(line["seq"].as_u64().expect("a number"));
        let want: &[&str] = match (at, stored) {
            (0, _) => &["ok"],
            (2, true) => &["invalid", "refused"],
            (_, true) => &["ok", "committed"],
            (_, false) => &["absent"],
        };
        assert!(want.contains(&end), "{what}: request {at}: {end}, not {want:?}");
    }
    true
}

const COMPROMISE: &str = "sys/strongroom/ca/compromise";

/// Runs `change` and returns the disk before and after each of its operations.
pub(super) fn cuts(rig: &Rig, change: impl FnOnce()) -> Vec<(String, Disk)> {
    let seen: Arc<Mutex<Vec<(String, Disk)>>> = Arc::default();
    let (into, copy) = (Arc::clone(&seen), rig.disk.watcher());
    rig.spy.watch(Some(Box::new(move |name| {
        into.lock().expect("no panic while held").push((name.to_owned(), copy()));
    })));
    change();
    rig.spy.watch(None);
    std::mem::take(&mut *seen.lock().expect("no panic while held"))
}

#[test]
fn remarks_and_outcomes_survive_a_kill_at_any_operation_twice() {
    let rig = Rig::new();
    rig.write(&rig.operator(), "secret/data/x", r#"{"data":{"k":"old"}}"#).expect("written");
    let before = rig.log().len();
    let mut ends = [false; 3];
    let (mut tried, mut again, mut cut_short) = (0, 0, 0);
    for (at, (name, disk)) in cuts(&rig, || ends = group(&rig)).into_iter().enumerate() {
        for (n, image) in images(&disk, before).into_iter().enumerate() {
            let what = format!("cut {at} at {name}, image {n}");
            let second = Rig::sealed(image);
            let mut legal = false;
            let copies = cuts(&second, || legal = opens_and_fits(&second, &what));
            tried += 1;
            if !legal {
                cut_short += 1;
                continue;
            }
            for (m, (name, disk)) in copies.into_iter().enumerate() {
                let what = format!("{what}, then cut {m} at {name}");
                assert!(opens_and_fits(&Rig::sealed(disk), &what), "{what}");
                again += 1;
            }
        }
    }
    assert_eq!(ends, [true, false, true]);
    assert!(tried - cut_short > 20 && again > 100, "{tried} images, {cut_short} illegal, {again} again");
}

#[test]
fn a_full_disk_leaves_no_remark_of_what_was_not_stored() {
    let rig = Rig::new();
    rig.spy.fail(Fault::Full);
    let refused = rig.write(&rig.operator(), COMPROMISE, &Key::new().body());
    assert!(matches!(refused, Err(VaultError::Full)));
    rig.spy.fail(Fault::None);
    let log = rig.log();
    assert!(!log.iter().any(|line| line["kind"] == "issued" || line["kind"] == "alarm"), "{log:?}");
    let reply = json(&rig.write(&rig.operator(), COMPROMISE, &Key::new().body()).expect("space came back"));
    assert!(reply["certificate"].is_string());
    assert_eq!(alarms(&rig), ["authority-compromised"]);
}

/// The log takes the requests and not what follows, then works again, in one process.
#[test]
fn remarks_are_made_up_for_when_the_log_takes_entries_again() {
    for line in ["note", "reply"] {
        let rig = Rig::new();
        rig.spy.fail(Fault::Append(line));
        let refused = rig.write(&rig.operator(), COMPROMISE, &Key::new().body());
        assert!(matches!(refused, Err(VaultError::AuditUnavailable)), "{line}");
        rig.spy.fail(Fault::None);
        rig.write(&rig.operator(), "secret/data/x", r#"{"data":{"k":"v"}}"#).expect("recovers");
        assert_eq!(alarms(&rig), ["authority-compromised"], "{line}");
        let log = rig.log();
        assert_eq!(log.iter().filter(|line| line["kind"] == "issued").count(), 1, "{line}");
        let note = log.iter().find(|line| line["kind"] == "unfinished").expect("an outcome");
        assert_eq!(note["outcome"], "committed");
    }
}

/// A log that takes only some lines.
struct Short(FileDevice, usize);

impl Device for Short {
    fn name(&self) -> &str {
        "short"
    }

    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let Some(left) = self.1.checked_sub(1) else { return Err(io::Error::other("the process ends")) };
        self.1 = left;
        self.0.append(lines)
    }

    fn syncer(&self) -> Arc<dyn Syncer> {
        self.0.syncer()
    }

    fn reopen(&mut self) -> io::Result<bool> {
        self.0.reopen()
    }
}

/// Accepts the loss of the log, and ends the process after `appends` writes to the new one.
pub(super) fn accept_lost_log(disk: &Disk, appends: usize) -> Result<(), LossError> {
    let path = disk.log_path();
    let check = |keys: &_, expected| FileDevice::check(&path, keys, expected);
    let examined = losses::examine(disk.ports(), None, Some(super::support::KEY_FILE), &check)?;
    assert!(examined.lines().iter().any(|line| line.contains("audit log")), "{:?}", examined.lines());
    let given_up = FileDevice::opener_after_loss(path.clone());
    let opener: AuditOpener = Box::new(move |keys, expected, now_ms| {
        let (_, resume) = given_up(keys, expected, now_ms)?;
        let device = FileDevice::open(&path).map_err(|_| AuditError::Refused)?;
        Ok((Box::new(Short(device, appends)), resume))
    });
    examined.accept(&opener, super::support::START_MS + 2_000).map(drop)
}

/// What the log must still say stands in the state record, and the log itself is gone.
#[test]
fn a_lost_log_does_not_take_the_alarms_of_the_last_group_with_it() {
    let rig = Rig::new();
    rig.write(&rig.operator(), "secret/data/x", r#"{"data":{"k":"old"}}"#).expect("written");
    let (_, stored) =
        cuts(&rig, || assert!(group(&rig)[0])).into_iter().rfind(|(name, _)| name == "commit").expect("stored");
    for appends in 0..8 {
        let disk = stored.watcher()();
        std::fs::remove_file(disk.log_path()).expect("it was there");
        let accepted = accept_lost_log(&disk, appends);
        if appends == 0 {
            // Not even the first line: the loss is refused as before, and accepted again.
            assert!(
                accepted.is_err()
                    && matches!(
                        Rig::sealed(disk.watcher()()).unseal(),
                        Err(VaultError::DidNotOpen { code: ErrorCode::AuditUnavailable, .. })
                    )
            );
            accept_lost_log(&disk, usize::MAX).expect("accepted");
        }
        let rig = Rig::sealed(disk);
        rig.unseal().expect("opens");
        let log = rig.log();
        let count = |kind: &str, outcome: Option<&str>| {
            log.iter()
                .filter(|line| line["kind"] == kind && outcome.is_none_or(|wanted| line["outcome"] == wanted))
                .count()
        };
        let marked = alarms(&rig).iter().filter(|code| *code == "authority-compromised").count();
        assert_eq!(marked, 1, "after {appends} writes");
        assert_eq!(count("issued", None), 1, "after {appends} writes");
        assert_eq!((count("unfinished", Some("refused")), count("unfinished", Some("committed"))), (1, 1));
        let told = alarms(&rig).iter().filter(|code| *code == "loss-accepted").count();
        assert!(told >= 1, "after {appends} writes");
    }
}
