//! Ways out of loss, with the real daemon: what cannot be had back is accepted, and the vault opens in a new epoch.

use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use strongroom::api::sys::AcceptedLoss;
use strongroom::barrier::{BarrierError, Loss, MountId, Parts, Tx};
use strongroom::client::{Client, ClientError};
use strongroom::crypto::random::SystemRandom;
use strongroom::keys::Unlock;
use strongroom::store::sidecar::{DiskAnchor, DiskHeader};
use strongroom::store::{self, Batch};

use crate::support::process::{Init, PASSPHRASE, Running, client, daemon, text, with_input, write_some_secrets};

fn accept(data: &Path, more: &[&str]) -> Output {
    let mut command = daemon(&["storage", "accept-loss", "--passphrase-fd", "0"]);
    command.args(more).arg("--data").arg(data);
    with_input(command, PASSPHRASE.as_bytes())
}

pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A vault with two secrets, then a copy of its store, then a third secret.
pub struct Case {
    pub folder: tempfile::TempDir,
    pub data: PathBuf,
    pub operator: PathBuf,
}

impl Case {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = Init::in_folder(folder.path()).run();
        write_some_secrets(&data, folder.path(), 2);
        copy_folder(&data.join("store"), &folder.path().join("old"));
        write_some_secrets(&data, folder.path(), 3);
        let operator = folder.path().join("operator");
        Self { folder, data, operator }
    }

    pub fn log(&self) -> PathBuf {
        self.data.join("audit/audit.log")
    }

    /// An open vault, or the daemon's refusal.
    pub fn open(&self) -> Result<(Running, Client), ClientError> {
        let running = Running::start(&self.data);
        let client = client(&running.address, &self.operator);
        client.sys().unseal(&PASSPHRASE.into())?;
        Ok((running, client))
    }
}

pub fn reads(client: &Client, number: usize) -> bool {
    let path = strongroom::api::path::Path::parse(&format!("written/{number}")).unwrap();
    client.kv("secret").read(&path, None).is_ok_and(|found| found.is_some_and(|found| found.data.is_some()))
}

/// Loses something, sees the refusal, refuses to accept without `--yes`, accepts, and looks at what is left.
fn way_out(lose: impl Fn(&Case), says: &str, left: usize) {
    let case = Case::new();
    let held = {
        let (running, client) = case.open().unwrap();
        reads(&client, 0);
        let held = client.mark().unwrap();
        drop(running);
        held
    };
    lose(&case);
    assert!(case.open().is_err(), "{says}: the loss was not refused");

    let asked = accept(&case.data, &[]);
    assert!(!asked.status.success(), "accepted without a yes");
    assert!(text(&asked.stdout).contains(says), "{}", text(&asked.stdout));
    assert!(case.open().is_err(), "{says}: asking changed something");
    let accepted = accept(&case.data, &["--yes"]);
    assert!(accepted.status.success(), "{}{}", text(&accepted.stdout), text(&accepted.stderr));

    for round in 0..2 {
        let (running, client) = case.open().unwrap();
        for number in 0..3 {
            assert_eq!(reads(&client, number), number < left, "{says}: secret {number}");
        }
        let losses = client.sys().health().unwrap().losses;
        assert_eq!(losses.len(), 1, "round {round}");
        assert!(losses[0].accepted.iter().any(|line| line.contains(says)), "{losses:?}");
        assert_eq!((&*losses[0].slot, losses[0].epoch), ("passphrase", held.epoch + 1));
        let mark = client.mark().unwrap();
        assert!(mark.epoch == held.epoch + 1 && mark.incarnation != held.incarnation);
        assert_eq!(running.stop(), Some(0));
    }
    let log = std::fs::read_to_string(case.log()).unwrap();
    assert_eq!(log.matches("loss-accepted").count(), 1, "{says}: one alarm, whatever is started again");
    let again = accept(&case.data, &["--yes"]);
    assert!(text(&again.stdout).contains("nothing is missing"), "{}", text(&again.stdout));
}

#[test]
fn a_lost_anchor_is_accepted() {
    way_out(|case| std::fs::remove_file(case.data.join("anchor")).unwrap(), "the anchor is gone", 3);
}

#[test]
fn a_store_put_back_to_an_older_copy_is_accepted() {
    let lose = |case: &Case| {
        std::fs::remove_dir_all(case.data.join("store")).unwrap();
        copy_folder(&case.folder.path().join("old"), &case.data.join("store"));
    };
    way_out(lose, "acknowledged generations of writes are missing", 2);
}

#[test]
fn a_deleted_audit_log_is_accepted() {
    way_out(|case| std::fs::remove_file(case.log()).unwrap(), "the audit log is gone", 3);
}

#[test]
fn a_cut_audit_log_is_accepted_and_what_is_left_of_it_is_kept() {
    let lose = |case: &Case| {
        let whole = std::fs::read_to_string(case.log()).unwrap();
        let lines: Vec<&str> = whole.split_inclusive('\n').collect();
        std::fs::write(case.log(), lines[..4].concat()).unwrap();
        std::fs::remove_file(case.data.join("anchor")).unwrap();
    };
    way_out(lose, "the audit log was cut: entries 5 to ", 3);
}

/// The system refuses to read it, as it does with a bad sector.
fn make_unreadable(file: &Path) {
    std::fs::remove_file(file).unwrap();
    std::os::unix::fs::symlink(file, file).unwrap();
}

#[test]
fn an_anchor_that_cannot_be_read_is_accepted() {
    way_out(|case| make_unreadable(&case.data.join("anchor")), "the anchor cannot be read", 3);
}

#[test]
fn an_audit_log_that_cannot_be_read_is_accepted_and_set_aside() {
    way_out(|case| make_unreadable(&case.log()), "the audit log cannot be read", 3);
}

#[test]
fn an_audit_log_of_an_unknown_key_is_accepted_and_set_aside() {
    let lose = |case: &Case| {
        let log = std::fs::read_to_string(case.log()).unwrap();
        std::fs::write(case.log(), log.replace("\",\"key\":1,", "\",\"key\":9,")).unwrap();
    };
    way_out(lose, "the audit log uses key 9, which this vault does not have", 3);
}

#[test]
fn a_kill_after_the_lost_log_was_set_aside_is_no_way_around_the_question() {
    let lose = |case: &Case| {
        let aside = case.data.join("audit/audit.log.lost-1");
        std::fs::rename(case.log(), &aside).unwrap();
    };
    way_out(lose, "the audit log is gone", 3);
}

/// The commit that begins the epoch is done, and the process ends before it reaches the audit log.
#[test]
fn the_alarm_that_a_kill_prevented_is_written_by_the_next_unseal_once() {
    let case = Case::new();
    std::fs::remove_file(case.data.join("anchor")).unwrap();
    {
        let parts = Parts {
            store: store::open("redb", &case.data.join("store/redb"), false).unwrap(),
            header: Arc::new(DiskHeader::new(&case.data)),
            anchor: Arc::new(DiskAnchor::new(&case.data.join("anchor"))),
            random: Arc::new(SystemRandom),
        };
        let loss = Loss::examine(parts, &Unlock::Passphrase(PASSPHRASE.as_bytes())).unwrap();
        let record = AcceptedLoss {
            time: "2026-01-01T00:00:00Z".to_owned(),
            accepted: vec!["the anchor is gone".to_owned()],
            slot: loss.slot().to_owned(),
            epoch: loss.next_epoch(),
            generation: loss.stored().1,
            audit_seq: loss.audit_head().seq,
            salvaged: 0,
        };
        let bytes = serde_json::to_vec(&record).unwrap();
        let note = |tx: &mut Tx<'_>| tx.put_entry(MountId::MISC, "loss/0000000002", &bytes, 0);
        drop(loss.accept::<BarrierError>(note, 1).unwrap());
    }
    assert!(!std::fs::read_to_string(case.log()).unwrap().contains("loss-accepted"));
    for _ in 0..2 {
        let (running, client) = case.open().unwrap();
        assert_eq!(client.sys().health().unwrap().losses.len(), 1);
        assert_eq!(running.stop(), Some(0));
    }
    assert_eq!(std::fs::read_to_string(case.log()).unwrap().matches("loss-accepted").count(), 1);
}

#[test]
fn a_store_that_is_a_mixture_is_refused_and_left_alone() {
    for change in ["flip", "remove"] {
        let case = Case::new();
        {
            let store = store::open("redb", &case.data.join("store/redb"), false).unwrap();
            let mut victim: Option<(Vec<u8>, Vec<u8>)> = None;
            store
                .scan(b"v", &mut |key, value| {
                    victim = Some((key.to_vec(), value.to_vec()));
                    std::ops::ControlFlow::Break(())
                })
                .unwrap();
            let (key, mut value) = victim.unwrap();
            let mut batch = Batch::default();
            if change == "flip" {
                value[70] ^= 1;
                batch.put(&*key, value);
            } else {
                batch.delete(&*key);
            }
            store.commit(&batch).unwrap();
        }
        assert!(case.open().is_err());
        let refused = accept(&case.data, &["--yes"]);
        assert!(!refused.status.success());
        assert!(text(&refused.stderr).contains("Nothing was changed"), "{}", text(&refused.stderr));
        assert!(case.open().is_err());
    }
}
