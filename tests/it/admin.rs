//! The daemon's local socket: what works without a certificate, and for whom.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::process::{DAEMON, Init, PASSPHRASE, Running, client, daemon, text, with_input};

fn admin(data: &Path, arguments: &[&str]) -> Output {
    let mut command = daemon(&["admin"]);
    command.args(arguments).arg("--data").arg(data);
    command.output().unwrap()
}

#[track_caller]
fn assert_says(output: &Output, expected: &str) {
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout).trim(), expected);
}

/// One request by hand: status and body.
fn ask(data: &Path, request: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(data.join("admin.sock")).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap();
    assert!(head.to_lowercase().contains("cache-control: no-store"), "{head}");
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn request(verb: &str, path: &str, more: &str) -> String {
    format!("{verb} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n")
}

#[test]
fn the_vault_is_opened_and_closed_on_its_own_machine() {
    let folder = tempfile::tempdir().unwrap();
    let data = Init::in_folder(folder.path()).run();
    let none = admin(&data, &["status"]);
    assert!(!none.status.success() && text(&none.stderr).contains("no daemon answers"), "{}", text(&none.stderr));
    let running = Running::start(&data);
    assert_says(&admin(&data, &["status"]), "sealed");
    let unseal = |passphrase: &str| {
        let mut command = daemon(&["admin", "unseal", "--passphrase-fd", "0"]);
        command.arg("--data").arg(&data);
        with_input(command, passphrase.as_bytes())
    };
    let wrong = unseal("six other words that are wrong");
    assert!(!wrong.status.success() && text(&wrong.stderr).contains("the daemon says: "), "{}", text(&wrong.stderr));
    assert_says(&admin(&data, &["status"]), "sealed");
    // The delay after a failure.
    std::thread::sleep(std::time::Duration::from_millis(1_200));
    assert_says(&unseal(PASSPHRASE), "unsealed");
    let operator = client(&running.address, &folder.path().join("operator"));
    let path = strongroom::api::path::Path::parse("a").unwrap();
    operator.kv("secret").put_pairs(&path, &[("KEY", &"value".into())]).unwrap();
    let status = admin(&data, &["status", "--json"]);
    assert!(text(&status.stdout).contains(r#""sealed":false"#), "{}", text(&status.stdout));
    assert_says(&admin(&data, &["seal"]), "sealed");
    assert!(operator.kv("secret").list(&strongroom::api::path::Path::root()).is_err());
    assert_says(&unseal(PASSPHRASE), "unsealed");
    assert!(operator.kv("secret").list(&strongroom::api::path::Path::root()).is_ok());
    assert_eq!(running.stop(), Some(0));
    assert!(!data.join("admin.sock").exists());
}

#[test]
fn an_operator_without_a_certificate_gets_in_again() {
    let folder = tempfile::tempdir().unwrap();
    let data = Init::in_folder(folder.path()).run();
    let running = Running::start(&data);
    let out = folder.path().join("rescue");
    let operator = |identity: &str, passphrase: &str| {
        let mut command = daemon(&["admin", "operator", "--passphrase-fd", "0", "--identity", identity, "--out"]);
        command.arg(&out).arg("--data").arg(&data);
        with_input(command, passphrase.as_bytes())
    };
    let says = |output: &Output, want: &str| {
        assert!(!output.status.success() && text(&output.stderr).contains(want), "{}", text(&output.stderr));
        assert!(!out.exists());
    };
    says(&operator("operator/admin", PASSPHRASE), "sealed");
    let mut unseal = daemon(&["admin", "unseal", "--passphrase-fd", "0"]);
    unseal.arg("--data").arg(&data);
    assert_says(&with_input(unseal, PASSPHRASE.as_bytes()), "unsealed");
    says(&operator("operator/admin", "six other words that are wrong"), "no key slot opens");
    says(&operator("operator/admin", PASSPHRASE), "try again in");
    std::thread::sleep(std::time::Duration::from_millis(1_200));
    says(&operator("operator/nobody", PASSPHRASE), "not registered");
    let done = operator("operator/admin", PASSPHRASE);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let mode = std::fs::metadata(out.join("key.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // The operator's first bundle is not needed for this.
    let back = client(&running.address, &out);
    assert!(back.kv("secret").list(&strongroom::api::path::Path::root()).is_ok());
    let log = std::fs::read_to_string(data.join("audit/audit.log")).unwrap();
    assert!(log.contains("certificate-issued-on-the-local-socket"));
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn nothing_else_is_reachable_by_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let data = Init::in_folder(folder.path()).run();
    let running = Running::start(&data);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&data.join("admin.sock")), mode(&data)), (0o600, 0o700));
    for path in
        ["/v1/secret/data/a", "/v1/sys/mounts", "/v1/sys/init", "/v1/sys/policies/acl/admin", "/v1/sys/sealx", "/"]
    {
        for verb in ["GET", "PUT", "LIST"] {
            assert_eq!(ask(&data, &request(verb, path, "")), (404, r#"{"errors":[]}"#.to_owned()), "{verb} {path}");
        }
    }
    assert_eq!(ask(&data, &request("GET", "/v1/sys/seal", "")).0, 405);
    assert_eq!(ask(&data, &request("GET", "/v1/sys/unseal", "")).0, 405);
    assert_eq!(ask(&data, &request("PUT", "/v1/sys/seal-status", "")).0, 405);
    assert_eq!(ask(&data, &request("GET", "/v1/sys/health", "")).0, 503);
    assert_eq!(ask(&data, &request("GET", "/v1/sys/seal-status", "")).0, 200);
    assert_eq!(ask(&data, &request("PUT", "/v1/sys/seal", "Origin: null\r\n")).0, 403);
    drop(running);
    // It was killed and left the socket behind.
    assert!(data.join("admin.sock").exists());
    let running = Running::start(&data);
    assert_says(&admin(&data, &["status"]), "sealed");
    assert_eq!(running.stop(), Some(0));
}

/// Needs root, to become somebody else.
#[test]
fn another_user_is_turned_away() {
    if !strongroom::os::is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let data = Init::in_folder(folder.path()).run();
    let running = Running::start(&data);
    // The modes of folder and socket would keep anybody out: this is about what is behind them.
    let open = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    open(folder.path(), 0o755);
    open(&data, 0o755);
    open(&data.join("strongroom.toml"), 0o644);
    open(&data.join("admin.sock"), 0o666);
    let program = folder.path().join("strongroomd");
    std::fs::copy(DAEMON, &program).unwrap();
    open(&program, 0o755);
    let as_user = |user: u32, verb: &str| {
        let mut command = Command::new(&program);
        command.args(["admin", verb, "--data"]).arg(&data).env_clear().uid(user).gid(user);
        command.output().unwrap()
    };
    assert_says(&as_user(0, "status"), "sealed");
    for verb in ["status", "seal"] {
        let foreign = as_user(65_534, verb);
        assert!(!foreign.status.success(), "{verb}");
        let said = text(&foreign.stderr);
        assert!(said.contains("the daemon says: permission denied: only the daemon's user and root"), "{said}");
    }
    assert_eq!(running.stop(), Some(0));
}
