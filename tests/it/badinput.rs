//! Bad input at the daemon's door: what is on disk is wrong or foreign. Each case gets a message that names the next step,
//! leaves the vault sealed, and changes nothing on disk.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::process::{DAEMON, Init, PASSPHRASE, assert_unchanged, snapshot, write_some_secrets};

/// Starts the daemon on `data` with an unattended unseal by `passphrase` and returns its log up to the point where it
/// serves or has ended. The process is gone afterwards.
fn log_of_start(data: &Path, passphrase: &str) -> String {
    let credentials = tempfile::tempdir().unwrap();
    std::fs::write(credentials.path().join("unseal"), passphrase).unwrap();
    let mut child = Command::new(DAEMON)
        .args(["server", "--data", data.to_str().unwrap()])
        .env_clear()
        .env("CREDENTIALS_DIRECTORY", credentials.path())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok) {
        log.push_str(&line);
        log.push('\n');
        if line.contains("serving on") {
            break;
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    log
}

/// A vault with one passphrase slot, a configuration that unseals it unattended, and a first unseal done, so that the audit
/// file exists and a second start changes only what a start changes.
fn vault(folder: &Path) -> PathBuf {
    let data = Init::in_folder(folder).run();
    let config = data.join("strongroom.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("[unseal]", "[unseal]\npassphrase_credential = \"unseal\"")).unwrap();
    let log = log_of_start(&data, PASSPHRASE);
    assert!(log.contains("unsealed"), "{log}");
    data
}

/// Breaks a vault with `damage`, starts it, and checks the message and that the start changed nothing.
fn check(name: &str, expected: &[&str], damage: impl FnOnce(&Path, &Path)) {
    let folder = tempfile::tempdir().unwrap();
    let data = vault(folder.path());
    damage(&data, folder.path());
    let before = snapshot(&data);
    let log = log_of_start(&data, PASSPHRASE);
    for part in expected {
        assert!(log.contains(part), "{name}: {part:?} is not in:\n{log}");
    }
    assert!(!log.contains("INFO unsealed"), "{name} was opened:\n{log}");
    assert!(!log.contains(PASSPHRASE), "{name}: the passphrase is in the log");
    assert_unchanged(&before, &snapshot(&data), name);
}

fn header_copies(data: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(data)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("vault.hdr"))
        .collect();
    found.sort();
    assert_eq!(found.len(), 2);
    found
}

#[test]
fn a_wrong_passphrase_opens_nothing_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = vault(folder.path());
    let before = snapshot(&data);
    let log = log_of_start(&data, "another six random words entirely");
    assert!(log.contains("no key slot opens with this secret"), "{log}");
    assert!(log.contains("stays sealed"), "{log}");
    assert_unchanged(&before, &snapshot(&data), "wrong passphrase");
}

#[test]
fn a_damaged_header_is_named() {
    check("both copies damaged", &["header", "stays sealed"], |data, _| {
        for copy in header_copies(data) {
            let mut bytes = std::fs::read(&copy).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&copy, bytes).unwrap();
        }
    });
    check("both copies cut", &["header", "stays sealed"], |data, _| {
        for copy in header_copies(data) {
            let bytes = std::fs::read(&copy).unwrap();
            std::fs::write(&copy, &bytes[..bytes.len() - 7]).unwrap();
        }
    });
}

#[test]
fn one_damaged_header_copy_is_repaired_from_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let data = vault(folder.path());
    let copies = header_copies(&data);
    let good = std::fs::read(&copies[1]).unwrap();
    std::fs::write(&copies[0], b"garbage").unwrap();
    let log = log_of_start(&data, PASSPHRASE);
    assert!(log.contains("unsealed"), "{log}");
    assert_eq!(std::fs::read(&copies[0]).unwrap(), good, "the damaged copy was not repaired");
}

#[test]
fn the_header_of_another_vault_is_refused() {
    check("foreign header", &["stays sealed"], |data, folder| {
        let other_folder = folder.join("other");
        std::fs::create_dir(&other_folder).unwrap();
        let other = Init::in_folder(&other_folder).run();
        for (mine, foreign) in header_copies(data).iter().zip(header_copies(&other)) {
            std::fs::copy(foreign, mine).unwrap();
        }
    });
}

#[test]
fn a_missing_or_foreign_anchor_is_refused() {
    check("missing anchor", &["anchor", "stays sealed"], |data, _| std::fs::remove_file(data.join("anchor")).unwrap());
    check("blank anchor", &["anchor", "stays sealed"], |data, _| {
        std::fs::write(data.join("anchor"), vec![0; 8192]).unwrap();
    });
}

#[test]
fn an_older_copy_of_the_store_is_refused_with_the_number_of_missing_writes() {
    let folder = tempfile::tempdir().unwrap();
    let data = Init::in_folder(folder.path()).run();
    let old = folder.path().join("old-store");
    copy_folder(&data.join("store"), &old);
    write_some_secrets(&data, folder.path(), 3);
    std::fs::remove_dir_all(data.join("store")).unwrap();
    copy_folder(&old, &data.join("store"));

    let config = data.join("strongroom.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("[unseal]", "[unseal]\npassphrase_credential = \"unseal\"")).unwrap();
    // The engine notes in its own file that it was opened; the second refusal finds that done and changes nothing at all.
    for round in ["first", "second"] {
        let before = snapshot(&data);
        let log = log_of_start(&data, PASSPHRASE);
        assert!(log.contains("acknowledged writes are missing: 3"), "{log}");
        assert!(log.contains("stays sealed"), "{log}");
        let ours = |files: Vec<(PathBuf, Vec<u8>)>| -> Vec<_> {
            files.into_iter().filter(|(path, _)| round == "second" || !path.starts_with(data.join("store"))).collect()
        };
        assert_unchanged(&ours(before), &ours(snapshot(&data)), round);
    }
}

fn copy_folder(from: &Path, to: &Path) {
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
