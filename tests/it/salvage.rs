//! Damaged records, with the real daemon and command: `verify` finds them and `salvage` removes them. Also what users see
//! of a restored copy, declared or not.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use strongroom::store::{self, Batch};

use crate::loss::{Case, copy_folder, reads};
use crate::support::process::{DAEMON, Init, PASSPHRASE, Running, client, daemon, text, with_input};

fn storage(verb: &str, data: &Path, more: &[&str]) -> Output {
    let mut command = daemon(&["storage", verb, "--passphrase-fd", "0"]);
    command.args(more).arg("--data").arg(data);
    with_input(command, PASSPHRASE.as_bytes())
}

/// Changes a record whose key begins with `letter`, of a value the newest version: one bit of the byte at `at`, counted from
/// the end if negative. Gives its bytes and, of a value, the version.
fn flip(data: &Path, letter: u8, at: isize) -> (Vec<u8>, u64) {
    let store = store::open("redb", &data.join("store/redb"), false).unwrap();
    let mut victim: Option<(Vec<u8>, Vec<u8>)> = None;
    store
        .scan(&[letter], &mut |key, value| {
            // Versions of one secret lie one after the other.
            let other = victim.as_ref().is_some_and(|(held, _)| held.get(..17) != key.get(..17));
            if other {
                return std::ops::ControlFlow::Break(());
            }
            victim = Some((key.to_vec(), value.to_vec()));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    let (key, mut value) = victim.unwrap();
    let at = usize::try_from(at).unwrap_or_else(|_| value.len() - at.unsigned_abs());
    value[at] ^= 1;
    let mut batch = Batch::default();
    batch.put(&*key, value.clone());
    store.commit(&batch).unwrap();
    let version = key.last_chunk().copied().map_or(0, u64::from_be_bytes);
    (value, version)
}

/// The command of a user with a home of its own.
fn command(home: &Path, running: &Running, bundle: &Path, arguments: &[&str]) -> Output {
    let binary = Path::new(DAEMON).with_file_name("strongroom");
    assert!(binary.exists(), "build the command first: cargo build --workspace");
    let mut command = Command::new(binary);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", home).stdin(Stdio::null());
    command.arg("--addr").arg(&running.address);
    for (flag, file) in [("--ca-cert", "ca.pem"), ("--client-cert", "cert.pem"), ("--client-key", "key.pem")] {
        command.arg(flag).arg(bundle.join(file));
    }
    command.args(arguments);
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

fn moved_out(data: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(data).unwrap().flatten().map(|entry| entry.path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")).collect()
}

#[test]
fn a_rotten_value_is_found_beside_normal_work_and_salvaged_and_the_rest_serves() {
    let case = Case::new();
    let home = case.folder.path();
    let (rotten, version) = flip(&case.data, b'v', -1);

    // The head is intact, so the vault opens. The check finds the record, names it, and raises the alarm.
    let (running, operator) = case.open().unwrap();
    let lost: Vec<usize> = (0..3).filter(|number| !reads(&operator, *number)).collect();
    let [lost] = *lost else { panic!("{lost:?}") };
    let name = format!("secret/written/{lost}, version {version}: ");
    let verified = command(home, &running, &case.operator, &["verify"]);
    assert_eq!(verified.status.code(), Some(1), "{}", said(&verified));
    assert!(text(&verified.stdout).contains(&name), "{}", said(&verified));
    assert!(
        text(&verified.stdout).contains("the checksum over all records matches the sealed state"),
        "{}",
        said(&verified)
    );
    assert!(text(&verified.stderr).contains("strongroomd storage salvage"), "{}", said(&verified));
    let shown = command(home, &running, &case.operator, &["verify", "--status", "--json"]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!((&shown["state"], &shown["failed"]), (&"done".into(), &1.into()), "{shown}");
    // It is to be seen without a look into the log, and after a restart.
    let status = command(home, &running, &case.operator, &["status"]);
    assert!(text(&status.stdout).contains("writes are stopped until a restart"), "{}", said(&status));
    assert!(text(&status.stdout).contains("strongroom verify"), "{}", said(&status));
    let local = daemon(&["admin", "status", "--data", case.data.to_str().unwrap()]).output().unwrap();
    assert!(text(&local.stdout).contains("stored records are damaged; writes are stopped"), "{}", said(&local));
    assert_eq!(running.stop(), Some(0));
    let (running, _) = case.open().unwrap();
    let status = command(home, &running, &case.operator, &["status", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    assert_eq!(status["damage"]["writes_stopped"], false, "{status}");
    assert_eq!(running.stop(), Some(0));
    let log = std::fs::read_to_string(case.log()).unwrap();
    assert_eq!(log.matches("record-damaged").count(), 2, "one for each start that knew of it");

    // The same offline. A salvage that was not confirmed changes nothing.
    let verified = storage("verify", &case.data, &[]);
    assert_eq!(verified.status.code(), Some(1), "{}", said(&verified));
    assert!(text(&verified.stdout).contains(&name), "{}", said(&verified));
    let asked = storage("salvage", &case.data, &[]);
    assert_eq!(asked.status.code(), Some(1));
    assert!(
        text(&asked.stdout).contains(&name) && text(&asked.stderr).contains("nothing was changed"),
        "{}",
        said(&asked)
    );
    assert!(moved_out(&case.data).is_empty());

    let salvaged = storage("salvage", &case.data, &["--yes", "--json"]);
    assert!(salvaged.status.success(), "{}", said(&salvaged));
    let report: serde_json::Value = serde_json::from_slice(&salvaged.stdout).unwrap();
    assert_eq!(report["salvaged"]["salvaged"], 1, "{report}");
    let [kept] = &*moved_out(&case.data) else { panic!("one file") };
    assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let line: serde_json::Value = serde_json::from_slice(&std::fs::read(kept).unwrap()).unwrap();
    let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, line["record"].as_str().unwrap());
    assert_eq!(bytes.unwrap(), rotten, "the record as it lay there, still sealed");

    for round in 0..2 {
        let (running, operator) = case.open().unwrap();
        for number in 0..3 {
            assert_eq!(reads(&operator, number), number != lost, "secret {number}");
        }
        let health = operator.sys().health().unwrap();
        assert_eq!((health.losses.len(), health.losses[0].salvaged), (1, 1), "round {round}");
        assert!(!format!("{health:?}").contains("written"), "status names no path");
        let losses = command(home, &running, &case.operator, &["losses"]);
        assert!(text(&losses.stdout).contains(&name), "{}", said(&losses));
        let sound = command(home, &running, &case.operator, &["verify"]);
        assert!(sound.status.success(), "{}", said(&sound));
        let path = strongroom::api::path::Path::parse(&format!("written/{lost}")).unwrap();
        operator.kv("secret").put_pairs(&path, &[("KEY", &format!("{round}").as_str().into())]).unwrap();
        if round == 0 {
            assert!(reads(&operator, lost), "it can be written anew");
            operator.kv("secret").delete_metadata(&path).unwrap();
        }
        assert_eq!(running.stop(), Some(0));
    }
    let log = std::fs::read_to_string(case.log()).unwrap();
    assert_eq!(log.matches("records-salvaged").count(), 1, "one alarm, whatever is started again");
    assert!(storage("verify", &case.data, &[]).status.success());
    let again = storage("salvage", &case.data, &["--yes"]);
    assert!(again.status.success() && text(&again.stdout).contains("nothing is damaged"), "{}", said(&again));
}

#[test]
fn without_the_proof_the_values_are_kept_and_nobody_has_rights_but_one_operator() {
    let case = Case::new();
    let home = case.folder.path();
    flip(&case.data, b'v', 70);
    assert!(case.open().is_err());
    let refused = storage("accept-loss", &case.data, &["--yes"]);
    assert!(text(&refused.stderr).contains("storage salvage"), "{}", said(&refused));

    let asked = storage("salvage", &case.data, &["--operator", "rita"]);
    assert!(text(&asked.stdout).contains("the records may come from different points in time"), "{}", said(&asked));
    assert!(case.open().is_err(), "asking changed something");
    let salvaged = storage("salvage", &case.data, &["--operator", "rita", "--yes"]);
    assert!(salvaged.status.success(), "{}", said(&salvaged));
    assert!(text(&salvaged.stdout).contains("strongroomd admin operator"), "{}", said(&salvaged));

    let running = Running::start(&case.data);
    let unseal = daemon(&["admin", "unseal", "--passphrase-fd", "0", "--data", case.data.to_str().unwrap()]);
    let unsealed = with_input(unseal, PASSPHRASE.as_bytes());
    assert!(unsealed.status.success(), "{}", said(&unsealed));
    let out = home.join("rita");
    let mut certify = daemon(&["admin", "operator", "--passphrase-fd", "0", "--identity", "operator/rita"]);
    certify.arg("--out").arg(&out).arg("--data").arg(&case.data);
    let certified = with_input(certify, PASSPHRASE.as_bytes());
    assert!(certified.status.success(), "{}", said(&certified));

    let old = client(&running.address, &case.operator);
    assert!((0..3).all(|number| !reads(&old, number)), "the certificates of before are worth nothing");
    let rita = client(&running.address, &out);
    // The listener shows a certificate of the new authority within two seconds.
    for _ in 0..100 {
        if rita.sys().seal_status().is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!((0..3).filter(|number| reads(&rita, *number)).count(), 2);
    assert_eq!(rita.sys().identities().unwrap(), ["operator/"]);
    assert_eq!(rita.sys().losses().unwrap().losses.len(), 1);
    let verified = command(home, &running, &out, &["verify"]);
    assert!(verified.status.success(), "{}", said(&verified));
    assert_eq!(running.stop(), Some(0));
}

/// A damaged record in a store that is older than its anchor: salvage keeps the older state and says what that means.
#[test]
fn salvage_says_that_access_rights_go_back_with_an_older_store() {
    let case = Case::new();
    let says = "Policies, identities and tokens go back to that time too";
    flip(&case.data, b'v', -1);
    let asked = storage("salvage", &case.data, &[]);
    assert!(!text(&asked.stdout).contains(says), "the state is the last one: {}", said(&asked));
    std::fs::remove_dir_all(case.data.join("store")).unwrap();
    copy_folder(&case.folder.path().join("old"), &case.data.join("store"));
    flip(&case.data, b'v', -1);
    let asked = storage("salvage", &case.data, &[]);
    assert!(text(&asked.stdout).contains(says), "{}", said(&asked));
}

/// One bit anywhere in the file of the store, and most of all where the engine keeps its own pages in order: the check ends with
/// a sound vault, a list of records, or an error that docs/operations.md explains. The engine's panics are not shown.
#[test]
fn a_bit_anywhere_in_the_file_of_the_store_leads_to_a_documented_end() {
    const ENDS: [&str; 6] = [
        "the store's files are damaged below the records",
        "the store does not match its sealed state",
        "the sealed state is damaged",
        "the store has no state record",
        "the store is not available",
        "acknowledged writes are missing",
    ];
    let documents = include_str!("../../docs/operations.md");
    assert!(ENDS.iter().all(|end| documents.contains(end)));
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("unseal.key");
    let data = Init::in_folder(folder.path()).with(&["--key-file", key.to_str().unwrap()]).run();
    let file = data.join("store/redb/strongroom.redb");
    let sound = std::fs::read(&file).unwrap();
    let verify = || {
        let mut command = daemon(&["storage", "verify"]);
        command.arg("--key-file").arg(&key).arg("--data").arg(&data).output().unwrap()
    };
    assert!(verify().status.success(), "{}", said(&verify()));
    // The head of the file, then three places in each page that is in use.
    let used: Vec<usize> =
        (0..sound.len() / 4096).filter(|page| sound[page * 4096..][..4096].iter().any(|b| *b != 0)).collect();
    let places = (0..320)
        .step_by(8)
        .chain(used.iter().step_by(used.len().div_ceil(24)).flat_map(|page| [0, 2, 9].map(|at| page * 4096 + at)));
    let mut ends = std::collections::BTreeMap::new();
    for place in places {
        let mut bytes = sound.clone();
        bytes[place] ^= 1 << (place % 8);
        std::fs::write(&file, bytes).unwrap();
        let output = verify();
        let all = said(&output);
        assert!(!all.contains("internal error") && !all.contains("panicked"), "{place}: {all}");
        let end = match output.status.code() {
            Some(0) => "sound",
            Some(1) if text(&output.stdout).contains("damaged") => "records",
            Some(1) => ENDS.into_iter().find(|end| all.contains(end)).unwrap_or_else(|| panic!("{place}: {all}")),
            other => panic!("{place}: {other:?} {all}"),
        };
        if end.contains("below the records") {
            assert!(all.contains("from a backup") && !all.contains("stop the daemon"), "{place}: {all}");
        }
        *ends.entry(end).or_insert(0) += 1;
    }
    println!("{ends:?}");
    assert!(ends.contains_key("the store's files are damaged below the records"), "{ends:?}");
}

#[test]
fn a_state_that_is_damaged_is_refused_with_the_next_step() {
    let case = Case::new();
    flip(&case.data, b's', -1);
    for verb in ["verify", "salvage"] {
        let refused = storage(verb, &case.data, &[]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(text(&refused.stderr).contains("restore the data folder from a backup"), "{verb}: {}", said(&refused));
    }
}

/// What a user's command does when the vault is older than what the user saw last: until a restore is declared, it rejects
/// the vault and names the next step; afterwards, it says so once.
#[test]
fn a_user_is_told_of_a_history_that_was_put_back() {
    let case = Case::new();
    let home = case.folder.path().join("user");
    std::fs::create_dir(&home).unwrap();
    let older = case.folder.path().join("older");
    copy_folder(&case.data, &older);
    {
        let (running, operator) = case.open().unwrap();
        let path = strongroom::api::path::Path::parse("written/later").unwrap();
        operator.kv("secret").put_pairs(&path, &[("KEY", &"value".into())]).unwrap();
        let listed = command(&home, &running, &case.operator, &["list", "written"]);
        assert!(listed.status.success() && text(&listed.stdout).contains("later"), "{}", said(&listed));
        assert_eq!(running.stop(), Some(0));
    }
    // A whole older copy, with anchor and audit log: nothing in it shows that it is older.
    std::fs::remove_dir_all(&case.data).unwrap();
    copy_folder(&older, &case.data);
    std::fs::set_permissions(&case.data, std::fs::Permissions::from_mode(0o700)).unwrap();
    {
        let (running, _) = case.open().unwrap();
        let refused = command(&home, &running, &case.operator, &["list", "written"]);
        assert_eq!(refused.status.code(), Some(6), "{}", said(&refused));
        assert!(text(&refused.stdout).is_empty(), "the answer was used");
        let step = "strongroomd storage accept-loss --restored";
        assert!(text(&refused.stderr).contains(step), "{}", said(&refused));
        assert_eq!(running.stop(), Some(0));
    }
    let nothing = storage("accept-loss", &case.data, &["--yes"]);
    assert!(text(&nothing.stdout).contains("nothing is missing") && text(&nothing.stdout).contains("--restored"));
    let declared = storage("accept-loss", &case.data, &["--yes", "--restored"]);
    assert!(declared.status.success(), "{}", said(&declared));
    let (running, _) = case.open().unwrap();
    for round in 0..2 {
        let listed = command(&home, &running, &case.operator, &["list", "written"]);
        assert!(listed.status.success() && !text(&listed.stdout).contains("later"), "{}", said(&listed));
        let told = text(&listed.stderr).contains("has declared a restore or a loss");
        assert_eq!(told, round == 0, "told once: {}", said(&listed));
    }
    let status = command(&home, &running, &case.operator, &["status"]);
    assert!(text(&status.stdout).contains("the whole vault was restored from an older copy"), "{}", said(&status));
}
