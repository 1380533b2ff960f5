//! `strongroom enroll`, `renew` and `client`: certificates got and renewed by the real command.

mod fake;
mod replace;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use strongroom::api::secret::SecretText;
use strongroom::pki;

use crate::support::process::{DAEMON, text, with_input};
use fake::{Event, Vault};

struct Desk {
    home: tempfile::TempDir,
    vault: Arc<Vault>,
}

impl Desk {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), vault: Vault::start() }
    }

    fn enrolled() -> Self {
        let desk = Self::new();
        desk.enroll(&[]);
        desk
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let path = Path::new(DAEMON).with_file_name("strongroom");
        assert!(path.exists(), "build the command first: cargo build --workspace");
        let mut command = Command::new(path);
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.home.path());
        command.current_dir(self.home.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    fn try_enroll(&self, more: &[&str]) -> Output {
        let input = format!("{}\n", self.vault.string.reveal());
        with_input(self.command(&[&["enroll", "-"], more].concat()), input.as_bytes())
    }

    #[track_caller]
    fn enroll(&self, more: &[&str]) -> String {
        let output = self.try_enroll(more);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stderr), "", "nothing to warn of");
        text(&output.stdout)
    }

    fn profiles(&self) -> PathBuf {
        self.home.path().join(".config/strongroom/profiles")
    }
}

/// The key that certificate, private key and all of the names in `folder` agree on.
#[track_caller]
fn key_in(folder: &Path) -> [u8; 32] {
    let leaf = pki::leaf(&std::fs::read(folder.join("cert.pem")).unwrap()).unwrap();
    let key = SecretText::new(std::fs::read_to_string(folder.join("key.pem")).unwrap());
    let of_key = pki::read_csr(&pki::request_for(&key).unwrap()).unwrap().key_fingerprint;
    assert_eq!(leaf.key_fingerprint, of_key, "a certificate with the key of another");
    of_key
}

#[test]
fn a_string_becomes_a_profile() {
    let desk = Desk::new();
    let said = desk.enroll(&[]);
    let expected = format!("profile default: spiffe://example.org/app/web at https://{}, until ", desk.vault.address);
    assert!(said.starts_with(&expected), "{said}");
    let folder = desk.profiles().join("default");
    assert_eq!(desk.vault.issued(), [("enrolment", key_in(&folder))]);
    let mode = std::fs::metadata(folder.join("key.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(desk.profiles()).unwrap().count(), 1, "nothing waits any more");
    assert_eq!(desk.ok(&["get", "app", "WORD"]), "value");
    let again = desk.try_enroll(&[]);
    assert!(text(&again.stderr).contains("profile \"default\" exists"), "{}", text(&again.stderr));
    assert_eq!(desk.vault.issued().len(), 1, "the string was not used up for nothing");
}

#[test]
fn the_string_is_not_shown_and_an_argument_is_warned_of() {
    let desk = Desk::new();
    let secret = desk.vault.string.reveal().to_owned();
    let output = desk.run(&["enroll", &secret, "--key-type", "ed25519"]);
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("other users of this machine can see"), "{said}");
    assert!(!said.contains(&secret[10..40]) && !text(&output.stdout).contains(&secret[10..40]));
    let damaged = with_input(desk.command(&["enroll", "-", "--profile", "b"]), &secret.as_bytes()[..60]);
    let said = text(&damaged.stderr);
    assert!(
        damaged.status.code() == Some(2) && said.contains("copy it again") && !said.contains(&secret[10..40]),
        "{said}"
    );
    let none = desk.run(&["enroll", "--profile", "b"]);
    assert!(text(&none.stderr).contains("strongroom enroll - < FILE"), "{}", text(&none.stderr));
}

#[test]
fn a_lost_reply_is_asked_for_with_the_same_key() {
    let desk = Desk::new();
    desk.vault.lose.store(true, Ordering::SeqCst);
    assert!(!desk.try_enroll(&[]).status.success());
    assert!(!desk.profiles().join("default").exists());
    desk.enroll(&[]);
    let issued = desk.vault.issued();
    assert!(issued.len() == 2 && issued[0] == issued[1], "another key would not fit the certificate that was issued");
    assert_eq!(key_in(&desk.profiles().join("default")), issued[0].1);
}

#[test]
fn a_kill_during_enrolment_costs_nothing() {
    let desk = Desk::new();
    for delay in 0..12 {
        let mut command = desk.command(&["enroll", desk.vault.string.reveal()]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay * 4));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let folder = desk.profiles().join("default");
    if !folder.exists() {
        desk.enroll(&[]);
    }
    let mut keys: Vec<_> = desk.vault.issued().into_iter().map(|(_, key)| key).collect();
    keys.dedup();
    assert_eq!(keys, [key_in(&folder)], "always the same key");
}

#[test]
fn a_folder_is_enrolled_and_renewed_like_a_profile() {
    let desk = Desk::new();
    desk.enroll(&["--out", "bundle", "--json"]);
    let folder = desk.home.path().join("bundle");
    let first = key_in(&folder);
    desk.ok(&["renew", "--bundle", "bundle"]);
    assert_ne!(key_in(&folder), first);
    assert!(!desk.profiles().exists() || std::fs::read_dir(desk.profiles()).unwrap().count() == 0);
}

#[test]
fn renewing_makes_a_new_key_or_keeps_it() {
    let desk = Desk::enrolled();
    let folder = desk.profiles().join("default");
    let first = key_in(&folder);
    let not_due: serde_json::Value = serde_json::from_str(&desk.ok(&["renew", "--if-due", "--json"])).unwrap();
    assert_eq!((&not_due["renewed"], key_in(&folder)), (&false.into(), first));
    let done: serde_json::Value = serde_json::from_str(&desk.ok(&["renew", "--json"])).unwrap();
    let second = key_in(&folder);
    assert_eq!(done["renewed"], true);
    assert_ne!(second, first);
    desk.ok(&["renew", "--reuse-key"]);
    assert_eq!(key_in(&folder), second);
    let shown: serde_json::Value = serde_json::from_str(&desk.ok(&["profile", "show", "default", "--json"])).unwrap();
    assert_eq!(shown["key"], folder.join("key.pem").to_str().unwrap(), "a name that stays");
    assert_eq!(desk.vault.issued().iter().map(|(by, _)| *by).collect::<Vec<_>>(), ["enrolment", "renewal", "renewal"]);
    assert_eq!(desk.ok(&["get", "app", "WORD"]), "value");
}

#[test]
fn a_lost_renewal_goes_on_with_the_key_that_it_was_for() {
    let desk = Desk::enrolled();
    let folder = desk.profiles().join("default");
    let lost_then = |first: &[&str], then: &[&str]| {
        desk.vault.lose.store(true, Ordering::SeqCst);
        assert!(!desk.run(first).status.success());
        desk.ok(then);
        let issued = desk.vault.issued();
        let [.., lost, taken] = &issued[..] else { panic!("{issued:?}") };
        assert_eq!(lost, taken, "{first:?}, {then:?}: another key means that a copy of the certificate exists");
        assert_eq!(key_in(&folder), taken.1);
    };
    let mut keys = vec![key_in(&folder)];
    let changes = |keys: &mut Vec<[u8; 32]>| {
        keys.push(key_in(&folder));
        keys[keys.len() - 2] != keys[keys.len() - 1]
    };
    lost_then(&["renew"], &["renew", "--reuse-key"]);
    assert!(changes(&mut keys));
    lost_then(&["renew", "--reuse-key"], &["renew"]);
    lost_then(&["renew", "--reuse-key"], &["renew", "--reuse-key"]);
    assert!(!changes(&mut keys), "the key was kept");
    desk.ok(&["renew"]);
    assert!(changes(&mut keys), "nothing waits any more");
    desk.ok(&["renew", "--reuse-key"]);
    assert!(!changes(&mut keys));
}

#[test]
fn other_authorities_are_learned_of_before_it_is_due() {
    let desk = Desk::enrolled();
    let folder = desk.profiles().join("default");
    let (key, ca) = (key_in(&folder), std::fs::read(folder.join("ca.pem")).unwrap());
    *desk.vault.more_trust.lock().unwrap() = Vault::start().authority.cert_pem().to_owned();
    let done: serde_json::Value = serde_json::from_str(&desk.ok(&["renew", "--if-due", "--json"])).unwrap();
    assert_eq!((&done["renewed"], &done["trust_renewed"]), (&false.into(), &true.into()));
    let now = std::fs::read(folder.join("ca.pem")).unwrap();
    assert!(key_in(&folder) == key && now.starts_with(&ca) && now.len() > ca.len());
    let done: serde_json::Value = serde_json::from_str(&desk.ok(&["renew", "--if-due", "--json"])).unwrap();
    assert_eq!(done["trust_renewed"], false);
    assert_eq!(desk.ok(&["get", "app", "WORD"]), "value");
}

#[test]
fn a_kill_during_renewal_leaves_a_working_profile() {
    let desk = Desk::enrolled();
    // As `profile add` writes it, so that the change to the new form is killed as well.
    let old = desk.home.path().join("old");
    std::fs::create_dir(&old).unwrap();
    for name in ["profile.toml", "ca.pem", "cert.pem", "key.pem"] {
        std::fs::copy(desk.profiles().join("default").join(name), old.join(name)).unwrap();
    }
    for delay in 0..40 {
        let mut command = desk.command(&["renew", "--bundle", "old"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(delay * 2));
        let _ = child.kill();
        child.wait().unwrap();
        key_in(&old);
    }
    desk.ok(&["renew", "--bundle", "old"]);
    let newest = desk.vault.issued().last().unwrap().1;
    assert_eq!(key_in(&old), newest);
}

#[test]
fn a_certificate_that_has_expired_is_named_and_renewed_by_its_key() {
    let desk = Desk::new();
    desk.vault.issued_ago_ms.store(7_200_000, Ordering::SeqCst);
    let output = desk.try_enroll(&[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let output = desk.run(&["get", "app", "WORD"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert_eq!(said.matches("has expired").count(), 1, "{said}");
    assert!(said.contains("strongroom enroll - --replace") && said.contains("strongroomd admin operator"), "{said}");
    desk.vault.issued_ago_ms.store(0, Ordering::SeqCst);
    desk.ok(&["renew"]);
    assert_eq!(desk.vault.issued().last().unwrap().0, "grace");
    assert_eq!(desk.ok(&["get", "app", "WORD"]), "value");
}

#[test]
fn an_end_that_is_near_is_announced() {
    let desk = Desk::new();
    // 250 of 3,900 seconds are left: certificates begin five minutes early.
    desk.vault.issued_ago_ms.store(3_350_000, Ordering::SeqCst);
    desk.enroll(&[]);
    let output = desk.run(&["get", "app", "WORD"]);
    let said = text(&output.stderr);
    assert!(output.status.success() && said.lines().count() == 1, "{said}");
    assert!(
        said.starts_with("strongroom: your certificate expires in ") && said.contains("strongroom renew"),
        "{said}"
    );
}

#[test]
fn a_watching_run_renews_and_opens_a_new_connection() {
    let desk = Desk::new();
    desk.vault.issued_ago_ms.store(3_350_000, Ordering::SeqCst);
    desk.enroll(&[]);
    let first = key_in(&desk.profiles().join("default"));
    desk.vault.issued_ago_ms.store(0, Ordering::SeqCst);
    let mut child =
        desk.command(&["run", "app", "--watch", "--", "sleep", "30"]).stderr(Stdio::piped()).spawn().unwrap();
    let started = Instant::now();
    let asked_as = |key: [u8; 32]| {
        let events = desk.vault.events.lock().unwrap();
        events.iter().any(|event| matches!(event, Event::Asked { target, key: asked } if *asked == key && target.contains("/events?")))
    };
    let new = loop {
        assert!(started.elapsed() < Duration::from_secs(20), "not renewed, or the old connection goes on");
        std::thread::sleep(Duration::from_millis(50));
        let newest = *desk.vault.issued().last().unwrap();
        if newest.0 == "renewal" && asked_as(newest.1) {
            break newest.1;
        }
    };
    let status = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(status.success());
    let output = child.wait().and_then(|_| child.wait_with_output()).unwrap();
    assert_eq!(text(&output.stderr), "", "nothing to tell");
    assert!(new != first && key_in(&desk.profiles().join("default")) == new);
    assert_eq!(desk.vault.issued().len(), 2, "renewed once");
}

#[test]
fn a_machine_without_a_connection_gets_its_files() {
    let desk = Desk::enrolled();
    desk.ok(&["client", "csr", "--out", "web"]);
    let again = desk.run(&["client", "csr", "--out", "web"]);
    assert!(text(&again.stderr).contains("File exists"), "{}", text(&again.stderr));
    let issue = ["client", "issue", "--csr", "web/csr.pem", "--identity", "app/web", "--out", "web/cert.pem"];
    let with_ca = [issue.as_slice(), &["--ca-out", "web/ca.pem"]].concat();
    desk.ok(&with_ca);
    let twice = desk.run(&with_ca);
    assert_eq!(twice.status.code(), Some(2), "{}", text(&twice.stderr));
    let address = format!("https://{}", desk.vault.address);
    desk.ok(&["profile", "add", "web", "--bundle", "web", "--address", &address]);
    assert_eq!(desk.ok(&["--profile", "web", "get", "app", "WORD"]), "value");
    // And from there on it renews like any other.
    desk.ok(&["--profile", "web", "renew"]);
    key_in(&desk.profiles().join("web"));
}
