//! `strongroomd` as a process: `dev` runs a program with its secrets; `init`, `server`, SIGTERM, locking, refusals.

use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use crate::support::process::{Init, PASSPHRASE, Running, assert_unchanged, daemon, snapshot, text, with_input};

fn env_file(folder: &Path, content: &[u8]) -> String {
    let path = folder.join("app.env");
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

fn dev(folder: &Path, before: &[&str], program: &[&str]) -> Output {
    let mut arguments = vec!["dev"];
    arguments.extend(before);
    arguments.push("--");
    arguments.extend(program);
    daemon(&arguments).env("TMPDIR", folder).output().unwrap()
}

#[test]
fn dev_runs_the_program_with_exactly_the_imported_values() {
    let folder = tempfile::tempdir().unwrap();
    let file = env_file(folder.path(), b"TOKEN='a $b \"c\"'\nMULTI=\"one\ntwo\"\n");
    let output = dev(folder.path(), &["--import", &file], &["sh", "-c", "printf '%s|%s' \"$TOKEN\" \"$MULTI\""]);
    assert_eq!(text(&output.stdout), "a $b \"c\"|one\ntwo", "{}", text(&output.stderr));
    assert!(output.status.success());
    assert!(!text(&output.stderr).contains("a $b"), "a value in the messages");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(left, ["app.env"], "the throw-away folder is removed");
}

#[test]
fn dev_passes_exit_codes_and_signals_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = env_file(folder.path(), b"A=1\n");
    assert_eq!(dev(folder.path(), &["--import", &file], &["sh", "-c", "exit 7"]).status.code(), Some(7));
    let killed = dev(folder.path(), &["--import", &file], &["sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.status.code(), Some(137));
}

#[test]
fn dev_keeps_the_vault_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let file = env_file(folder.path(), b"KEPT=yes\n");
    let data = folder.path().join("vault");
    let data = data.to_str().unwrap();
    let first = dev(folder.path(), &["--data", data, "--import", &file], &["true"]);
    assert!(first.status.success(), "{}", text(&first.stderr));
    std::fs::remove_file(&file).unwrap();
    let again = dev(folder.path(), &["--data", data], &["sh", "-c", "printf %s \"$KEPT\""]);
    assert_eq!(text(&again.stdout), "yes", "{}", text(&again.stderr));
}

#[test]
fn dev_starts_nothing_when_the_file_is_bad() {
    let folder = tempfile::tempdir().unwrap();
    for (content, expected) in [
        (&b"A=\xff\n"[..], "UTF-8"),
        (b"just words\n", "line 1"),
        (b"LD_PRELOAD=/tmp/evil.so\n", "LD_PRELOAD"),
        (b"A=$(rm -rf /)\n", "literal"),
    ] {
        let file = env_file(folder.path(), content);
        let marker = folder.path().join("started");
        let output = dev(folder.path(), &["--import", &file], &["touch", marker.to_str().unwrap()]);
        assert!(!output.status.success());
        assert!(text(&output.stderr).contains(expected), "{expected}: {}", text(&output.stderr));
        assert!(!marker.exists(), "the program was started with {content:?}");
    }
}

#[test]
fn dev_without_anything_to_give_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let output = dev(folder.path(), &[], &["true"]);
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("--import"), "{}", text(&output.stderr));
}

fn mode(path: &Path) -> u32 {
    std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(path).unwrap()) & 0o777
}

#[test]
fn init_creates_private_folders_and_refuses_to_do_it_twice() {
    let folder = tempfile::tempdir().unwrap();
    let output = Init::in_folder(folder.path()).with(&["--json"]).output();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("spiffe://strongroom.internal/operator/admin"));
    let (data, bundle) = (folder.path().join("data"), folder.path().join("operator"));
    for (path, expected) in [(&data, 0o700), (&bundle, 0o700), (&bundle.join("key.pem"), 0o600)] {
        assert_eq!(mode(path), expected, "{}", path.display());
    }
    assert_eq!(mode(&data.join("tls/server.key")), 0o600);
    let before = snapshot(&data);
    let again = Init::in_folder(folder.path()).output();
    assert!(!again.status.success());
    assert!(text(&again.stderr).contains("already exists"), "{}", text(&again.stderr));
    assert_unchanged(&before, &snapshot(&data), "a refused init");
}

#[test]
fn init_refuses_a_short_passphrase_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut command = daemon(&["init", "--data", data.to_str().unwrap(), "--passphrase-fd", "0"]);
    command.current_dir(folder.path());
    let output = with_input(command, b"short\n");
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("too short"), "{}", text(&output.stderr));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_killed_init_leaves_no_vault_and_can_be_repeated() {
    for delay_ms in [0, 20, 60, 120, 200] {
        let folder = tempfile::tempdir().unwrap();
        let (data, bundle) = (folder.path().join("data"), folder.path().join("operator"));
        let mut child = daemon(&["init", "--data", data.to_str().unwrap(), "--bundle", bundle.to_str().unwrap()])
            .args(["--passphrase-fd", "0", "--kdf-time", "100"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(PASSPHRASE.as_bytes()).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay_ms));
        child.kill().unwrap();
        child.wait().unwrap();
        if !data.exists() {
            let _ = std::fs::remove_dir_all(&bundle);
            let output = Init::in_folder(folder.path()).output();
            assert!(output.status.success(), "after {delay_ms} ms: {}", text(&output.stderr));
        }
        assert!(data.join("strongroom.toml").exists());
        assert!(!folder.path().join(".data.init").exists());
    }
}

#[test]
fn server_serves_seals_on_sigterm_and_locks_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let data = Init::in_folder(folder.path()).run();
    let data_text = data.to_str().unwrap();
    let check = daemon(&["server", "--data", data_text, "--check"]).output().unwrap();
    assert!(check.status.success(), "{}", text(&check.stderr));

    let first = Running::start(&data);

    let second = daemon(&["server", "--data", data_text]).output().unwrap();
    assert!(!second.status.success());
    assert!(text(&second.stderr).contains("in use by another process"), "{}", text(&second.stderr));

    assert_eq!(first.stop(), Some(0));
}

#[test]
fn server_names_what_is_wrong_with_its_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let data = Init::in_folder(folder.path()).run();
    let refused = |expected: &str| {
        let output = daemon(&["server", "--data", data.to_str().unwrap()]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{expected}");
        assert!(text(&output.stderr).contains(expected), "{expected}: {}", text(&output.stderr));
    };
    let set = |path: &Path, bits| std::fs::set_permissions(path, std::fs::Permissions::from_mode(bits)).unwrap();

    set(&data, 0o755);
    refused("chmod 700");
    set(&data, 0o700);
    let config = data.join("strongroom.toml");
    let original = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, original.replace("[storage]", "[storage]\nengin = \"redb\"")).unwrap();
    refused("unknown field `engin`");
    std::fs::write(&config, &original).unwrap();
    set(&data.join("tls/server.key"), 0o644);
    refused("chmod 600");
}
