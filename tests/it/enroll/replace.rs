//! `enroll --replace`: a new certificate in the place of an old one, with the old one in effect until then.

use super::*;

fn versions(folder: &Path) -> usize {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.trim_start_matches('.').starts_with('v')).count()
}

#[test]
fn a_profile_is_replaced_when_that_is_said() {
    let desk = Desk::enrolled();
    let folder = desk.profiles().join("default");
    let old = key_in(&folder);
    let refused = desk.try_enroll(&[]);
    let said = text(&refused.stderr);
    assert!(refused.status.code() == Some(2) && said.contains("profile \"default\" exists"), "{said}");
    assert!(said.trim_end().ends_with("strongroom enroll - --replace"), "{said}");
    assert_eq!(desk.vault.issued().len(), 1, "the string was not used up for nothing");

    // The reply is lost: the old certificate stays in effect, and the next try goes on with the same key.
    desk.vault.lose.store(true, Ordering::SeqCst);
    assert!(!desk.try_enroll(&["--replace"]).status.success());
    assert_eq!(key_in(&folder), old);
    assert_eq!(desk.ok(&["get", "app", "WORD"]), "value");
    desk.enroll(&["--replace"]);
    let keys: Vec<_> = desk.vault.issued().into_iter().map(|(_, key)| key).collect();
    assert!(keys.len() == 3 && keys[1] == keys[2] && keys[1] != old, "another key would not fit what was issued");
    assert_eq!(key_in(&folder), keys[2]);
    assert_eq!(
        (versions(&folder), std::fs::read_dir(desk.profiles()).unwrap().count()),
        (1, 1),
        "nothing is left over"
    );
    assert_eq!(desk.ok(&["get", "app", "WORD"]), "value");

    // Without a profile it is an enrolment like any other; and a lost key does not matter.
    desk.enroll(&["--replace", "--profile", "other"]);
    std::fs::remove_file(desk.profiles().join("other/current/key.pem")).unwrap();
    desk.enroll(&["--replace", "--profile", "other"]);
    key_in(&desk.profiles().join("other"));
}

#[test]
fn a_folder_gives_way_only_if_it_is_a_bundle() {
    let desk = Desk::new();
    desk.enroll(&["--out", "bundle"]);
    let folder = desk.home.path().join("bundle");
    let first = key_in(&folder);
    let said = text(&desk.try_enroll(&["--out", "bundle"]).stderr);
    assert!(said.contains("bundle already exists") && said.contains("--replace"), "{said}");
    std::fs::write(folder.join("notes"), "mine").unwrap();
    desk.enroll(&["--out", "bundle", "--replace"]);
    assert_ne!(key_in(&folder), first);
    assert_eq!(std::fs::read_to_string(folder.join("notes")).unwrap(), "mine");
    let other = desk.home.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("notes"), "mine").unwrap();
    let issued = desk.vault.issued().len();
    let said = text(&desk.try_enroll(&["--out", "other", "--replace"]).stderr);
    assert!(said.contains("other already exists") && !said.contains("--replace"), "{said}");
    assert_eq!((std::fs::read_dir(&other).unwrap().count(), desk.vault.issued().len()), (1, issued));
}

#[test]
fn a_kill_leaves_the_old_certificate_or_the_new_one() {
    let desk = Desk::enrolled();
    let folder = desk.profiles().join("default");
    // As `profile add` writes it, so that the change to the new form is killed as well.
    let old = desk.home.path().join("old");
    std::fs::create_dir(&old).unwrap();
    for name in ["profile.toml", "ca.pem", "cert.pem", "key.pem"] {
        std::fs::copy(folder.join(name), old.join(name)).unwrap();
    }
    for delay in 0..40 {
        let string = desk.vault.string.reveal();
        let mut command = desk.command(&["enroll", string, "--replace", "--out", "old"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay * 2));
        let _ = child.kill();
        child.wait().unwrap();
        key_in(&old);
    }
    desk.enroll(&["--replace", "--out", "old"]);
    assert_eq!(key_in(&old), desk.vault.issued().last().unwrap().1);
    assert_eq!(versions(&old), 1);
}
