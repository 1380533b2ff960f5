//! The operator's commands for identities, authorities and enrolment strings, against a real daemon.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use strongroom::api::sys::CertificateRequest;
use strongroom::client::Client;
use strongroom::enroll::EnrollString;
use strongroom::pki::{KeyType, request};

use crate::support::process::{DAEMON, Init, PASSPHRASE, Running, client, text, with_input};

struct Desk {
    folder: tempfile::TempDir,
    running: Running,
}

impl Desk {
    /// A vault with a profile, unsealed.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = Init::in_folder(folder.path()).run();
        let desk = Self { running: Running::start(&data), folder };
        let bundle = desk.path("operator");
        desk.ok(&["profile", "add", "p", "--bundle", bundle.to_str().unwrap(), "--address", &desk.running.address]);
        let output = with_input(desk.command(&["unseal", "--fd", "0"]), PASSPHRASE.as_bytes());
        assert!(output.status.success(), "{}", text(&output.stderr));
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(Path::new(DAEMON).with_file_name("strongroom"));
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.folder.path());
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    #[track_caller]
    fn both(&self, arguments: &[&str]) -> (String, String) {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
        (text(&output.stdout), text(&output.stderr))
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        self.both(arguments).0
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(arguments);
        serde_json::from_str(&self.ok(&all)).unwrap()
    }

    #[track_caller]
    fn fails(&self, code: i32, expected: &[&str], arguments: &[&str]) {
        let output = self.run(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}{}", text(&output.stdout));
        for expected in expected {
            assert!(said.contains(expected), "{arguments:?}: {expected:?} is not in: {said}");
        }
        assert!(said.trim_end().lines().count() >= 2, "{arguments:?}: no next step: {said}");
    }

    /// A client with a new certificate of a registered identity, and an open connection.
    fn host(&self, identity: &str) -> Client {
        let made = request(KeyType::P256).unwrap();
        let order = CertificateRequest { identity: identity.into(), csr: made.csr_pem, ttl: None };
        let reply = client(&self.running.address, &self.path("operator")).sys().issue_certificate(&order).unwrap();
        let bundle = self.path(&format!("host-{}", reply.certificate.len() + reply.not_after.len()));
        let _ = std::fs::remove_dir_all(&bundle);
        std::fs::create_dir(&bundle).unwrap();
        std::fs::write(bundle.join("ca.pem"), &reply.ca).unwrap();
        std::fs::write(bundle.join("cert.pem"), &reply.certificate).unwrap();
        std::fs::write(bundle.join("key.pem"), made.key_pem.reveal()).unwrap();
        let host = client(&self.running.address, &bundle);
        assert!(answers(&host));
        host
    }

    fn connections(&self, identity: &str) -> u64 {
        self.json(&["identity", "show", identity])["connections"].as_u64().unwrap()
    }

    fn serials(&self, identity: &str) -> Vec<String> {
        let found = self.json(&["identity", "show", identity]);
        found["certificates"].as_array().unwrap().iter().map(|one| one["serial"].as_str().unwrap().to_owned()).collect()
    }

    /// States of the authorities, the oldest first.
    fn authorities(&self) -> Vec<(String, String)> {
        let mut all = self.json(&["ca", "list"]).as_array().unwrap().clone();
        all.sort_by_key(|one| one["created"].as_str().unwrap().to_owned());
        all.iter().map(|one| (one["id"].as_str().unwrap().into(), one["state"].as_str().unwrap().into())).collect()
    }

    fn states(&self) -> Vec<String> {
        self.authorities().into_iter().map(|(_, state)| state).collect()
    }
}

/// Whether the vault still answers this client with what every identity may ask.
fn answers(host: &Client) -> bool {
    host.sys().capabilities_self(&["secret/data/x"]).is_ok()
}

#[test]
fn identities_are_registered_changed_stopped_and_admitted() {
    let desk = Desk::new();
    let (said, warned) =
        desk.both(&["identity", "set", "app/web", "--policy", "web,common", "--certificate-ttl", "24h"]);
    assert!(said.contains("common, web") && said.contains("lifetime 1d 0h"), "{said}");
    assert!(warned.contains("does not exist"), "{warned}");
    desk.ok(&["identity", "set", "app/web", "--grace", "2h"]);
    let found = desk.json(&["identity", "show", "app/web"]);
    assert_eq!((&found["certificate_ttl"], &found["grace"]), (&86_400.into(), &7_200.into()));
    assert_eq!(desk.ok(&["identity", "policies", "app/web"]), "common\nweb\n");
    desk.ok(&["identity", "policies", "app/web", "web"]);
    assert_eq!(desk.ok(&["identity", "policies", "app/web"]), "web\n");
    desk.fails(2, &["nothing to set"], &["identity", "set", "app/web"]);
    desk.fails(1, &["must be 0 to 2592000 seconds"], &["identity", "set", "app/web", "--grace", "900d"]);
    desk.fails(4, &["app/nobody is not registered"], &["identity", "policies", "app/nobody"]);

    let host = desk.host("app/web");
    let listed = desk.ok(&["identity", "list"]);
    let line = listed.lines().find(|line| line.starts_with("app/web")).unwrap().to_owned();
    assert!(line.contains("active") && line.contains("23h 59m") && line.contains("127.0.0.1"), "{listed}");
    assert!(listed.starts_with("identity ") && listed.contains("operator/admin"), "{listed}");
    assert!(!desk.ok(&["identity", "list", "app/"]).contains("operator"));
    assert!(desk.ok(&["identity", "list", "--expiring", "25h"]).contains("app/web"));
    assert_eq!(desk.json(&["identity", "list", "app", "--expiring", "23h"]), serde_json::json!([]));

    desk.ok(&["identity", "disable", "app/web", "--reason", "under repair"]);
    assert!(!answers(&host));
    let found = desk.json(&["identity", "list", "app"]);
    assert_eq!((&found[0]["identity"], &found[0]["state"]), (&"app/web".into(), &"disabled".into()));
    assert!(desk.ok(&["identity", "show", "app/web"]).contains("under repair"));
    desk.fails(4, &["not registered"], &["identity", "disable", "app/nobody"]);
    assert!(desk.ok(&["identity", "enable", "app/web"]).contains("is enabled"));
    assert!(answers(&host));
    assert!(desk.ok(&["identity", "enable", "app/web"]).contains("was not disabled"));

    desk.fails(2, &["no terminal"], &["identity", "remove", "app/web"]);
    desk.ok(&["identity", "remove", "app/web", "-y"]);
    assert!(!answers(&host));
    desk.fails(4, &["not registered"], &["identity", "show", "app/web"]);
}

#[test]
fn groups_give_policies_to_many() {
    let desk = Desk::new();
    desk.ok(&["identity", "set", "ci/one", "--policy", "own"]);
    desk.fails(2, &["nothing to set"], &["identity", "group", "set", "ci"]);
    desk.fails(1, &["policies"], &["identity", "group", "set", "ci", "--member", "ci/*"]);
    desk.ok(&["identity", "group", "set", "ci", "--policy", "build", "--member", "ci/*"]);
    let said = desk.ok(&["identity", "group", "set", "ci", "--member", "ci/*", "--member", "app/web"]);
    assert!(said.contains("build") && said.contains("app/web, ci/*"), "{said}");
    assert_eq!(desk.ok(&["identity", "group", "list"]), "ci\n");
    assert_eq!(desk.json(&["identity", "show", "ci/one"])["groups"], serde_json::json!(["ci"]));
    desk.fails(2, &["no terminal"], &["identity", "group", "remove", "ci"]);
    desk.ok(&["identity", "group", "remove", "ci", "-y"]);
    desk.fails(4, &["no group ci"], &["identity", "group", "show", "ci"]);
}

#[test]
fn certificates_by_file_live_as_long_as_the_identity_says() {
    let desk = Desk::new();
    for (identity, more) in [("app/web", None), ("app/short", Some("1h")), ("operator/bob", None)] {
        let mut arguments = vec!["identity", "set", identity, "--policy", "own"];
        arguments.extend(more.iter().flat_map(|life| ["--certificate-ttl", life]));
        desk.ok(&arguments);
    }
    desk.ok(&["client", "csr", "--out", "web"]);
    let hours = |identity: &str, more: &[&str]| {
        let _ = std::fs::remove_file(desk.path("cert.pem"));
        let mut arguments =
            vec!["client", "issue", "--csr", "web/csr.pem", "--identity", identity, "--out", "cert.pem"];
        arguments.extend(more);
        desk.ok(&arguments);
        let leaf = strongroom::pki::leaf(&std::fs::read(desk.path("cert.pem")).unwrap()).unwrap();
        (leaf.not_after_ms - leaf.issued_ms()) / 3_600_000
    };
    assert_eq!(["app/web", "app/short", "operator/bob"].map(|identity| hours(identity, &[])), [24, 1, 8]);
    assert_eq!(hours("app/web", &["--ttl", "3h"]), 3);
    // What is there already is not overwritten.
    desk.fails(
        2,
        &["already exists"],
        &["client", "issue", "--csr", "web/csr.pem", "--identity", "app/web", "--out", "cert.pem"],
    );
}

#[test]
fn revoking_is_said_to_be_effective_when_it_is() {
    let desk = Desk::new();
    desk.ok(&["identity", "set", "app/web", "--policy", "web"]);
    let first = desk.host("app/web");
    let old = desk.serials("app/web");
    let second = desk.host("app/web");
    assert_eq!(desk.connections("app/web"), 2);
    let shown = desk.json(&["identity", "show", "app/web"]);
    let each: Vec<_> =
        shown["certificates"].as_array().unwrap().iter().map(|one| one["connections"].as_u64()).collect();
    assert_eq!(each, [Some(1), Some(1)]);
    let seen = strongroom::api::time::parse(shown["last_seen"].as_str().unwrap()).unwrap();
    assert!(strongroom::core::Clock::now_ms(&strongroom::core::SystemClock).abs_diff(seen) < 60_000, "{shown}");
    desk.fails(
        2,
        &["will be revoked: certificate", "no terminal"],
        &["identity", "revoke", "app/web", "--certificate", &old[0]],
    );
    desk.fails(4, &["no certificate"], &["identity", "revoke", "app/web", "--certificate", "00ff", "-y"]);
    assert!(answers(&first));
    let said = desk.ok(&["identity", "revoke", "app/web", "--certificate", &old[0], "--reason", "lost", "-y"]);
    assert!(said.starts_with("effective: the certificate"), "{said}");
    assert!(!answers(&first) && answers(&second), "only the one that was named");
    assert!(desk.ok(&["identity", "show", "app/web"]).contains("revoked (lost)"));

    assert_eq!(desk.connections("app/web"), 1);
    let done = desk.json(&["identity", "revoke", "app/web", "-y"]);
    assert_eq!((&done["effective"], &done["connections"]), (&true.into(), &0.into()));
    assert!(done["elapsed_ms"].as_u64().unwrap() < 5_000, "{done}");
    assert_eq!(desk.connections("app/web"), 0);
    assert!(!answers(&second));
    desk.fails(4, &["not registered"], &["identity", "revoke", "app/nobody", "-y"]);
}

#[test]
fn a_change_of_authority_goes_step_by_step_and_names_who_is_missing() {
    let desk = Desk::new();
    desk.ok(&["identity", "set", "app/web", "--policy", "web"]);
    let _host = desk.host("app/web");
    desk.fails(2, &["no terminal"], &["ca", "rotate"]);
    assert_eq!(desk.states(), ["active"]);
    let next = desk.json(&["ca", "rotate", "-y"])["id"].as_str().unwrap().to_owned();
    assert_eq!(desk.states(), ["active", "prepared"]);
    desk.fails(1, &["already prepared"], &["ca", "prepare"]);
    assert!(desk.ok(&["ca", "stragglers"]).contains("app/web"));
    assert!(desk.ok(&["identity", "list", "app", "--stragglers"]).contains("app/web"));
    desk.fails(1, &["trust", "waits for", "app/web", "--force"], &["ca", "rotate", "-y"]);
    desk.fails(1, &["app/web", "--force"], &["ca", "trust", &next[..6]]);
    assert_eq!(desk.states(), ["active", "prepared"]);
    let (_, said) = desk.both(&["ca", "rotate", "--force", "-y"]);
    assert!(said.contains("loses access: app/web"), "{said}");
    assert_eq!(desk.states(), ["active", "trusted"]);
    desk.fails(4, &["no authority"], &["ca", "activate", "zz"]);
    desk.ok(&["ca", "activate", &next[..6], "--force"]);
    assert_eq!(desk.states(), ["retiring", "active"]);
    desk.fails(1, &["in use", "app/web"], &["ca", "rotate", "-y"]);
    let (old, _) = desk.authorities()[0].clone();
    desk.ok(&["ca", "taint", &old[..8]]);
    assert!(desk.ok(&["ca", "list"]).contains("retiring, tainted"));
    desk.fails(1, &["your own", "strongroom renew"], &["ca", "revoke", &old, "-y"]);
    desk.fails(2, &["no terminal"], &["ca", "remove", &old]);

    let file = desk.path("all.crl");
    desk.ok(&["ca", "crl", "--out", file.to_str().unwrap()]);
    let lists = std::fs::read_to_string(&file).unwrap();
    assert_eq!(lists.matches("BEGIN X509 CRL").count(), 2);
    assert!(desk.ok(&["ca", "crl"]).contains("BEGIN X509 CRL"));
    desk.fails(1, &["all.crl"], &["ca", "crl", "--out", file.to_str().unwrap()]);
}

#[test]
fn after_a_compromise_whoever_ordered_it_goes_on_and_nobody_else() {
    let desk = Desk::new();
    desk.ok(&["identity", "set", "app/web", "--policy", "web"]);
    let host = desk.host("app/web");
    let operator = client(&desk.running.address, &desk.path("operator"));
    assert!(answers(&operator));
    desk.fails(2, &["Every other authority is revoked", "no terminal"], &["ca", "compromise"]);
    assert_eq!(desk.states(), ["active"]);

    let (said, next) = desk.both(&["ca", "compromise", "-y"]);
    assert!(said.contains("operator/admin has a new certificate"), "{said}");
    assert!(next.contains("strongroom enroll create") && !next.contains("does not answer"), "{next}");
    assert_eq!(desk.states(), ["revoked", "active"], "the profile opens the vault, with new authorities");
    assert!(!answers(&host), "a host is cut off");
    assert!(!answers(&operator), "and so is the old certificate");
    let profile = desk.path(".config/strongroom/profiles/p");
    assert!(!profile.join(".pending").exists());
    assert_ne!(std::fs::read(profile.join("ca.pem")).unwrap(), std::fs::read(desk.path("operator/ca.pem")).unwrap());

    // A second one, into a folder of its own.
    let new = desk.path("new");
    desk.ok(&["ca", "compromise", "-y", "--out", new.to_str().unwrap()]);
    assert!(answers(&client(&desk.running.address, &new)));
    desk.fails(2, &["already exists"], &["ca", "compromise", "-y", "--out", new.to_str().unwrap()]);
}

#[test]
fn enrolment_strings_are_made_listed_and_deleted() {
    let desk = Desk::new();
    fn create<'a>(more: &[&'a str]) -> Vec<&'a str> {
        [&["enroll", "create", "app/web", "--address", "vault.example:8201"], more].concat()
    }
    desk.fails(1, &["not registered", "--policy"], &create(&[]));
    desk.fails(1, &["enrolment listener", "stays registered"], &["enroll", "create", "app/web", "--policy", "web"]);
    let (made, said) = desk.both(&create(&["--policy", "web", "--uses", "3", "--cidr", "192.0.2.0/24"]));
    let string = EnrollString::parse(made.trim_end()).unwrap();
    assert_eq!((made.lines().count(), string.addresses()), (1, &["vault.example:8201".to_owned()][..]));
    assert!(!said.contains(made.trim_end()) && said.contains("3 times"), "{said}");
    desk.fails(7, &["it has web", "not other, web"], &create(&["--policy", "other", "--policy", "web"]));
    let made = desk.json(&create(&["--policy", "default,WEB", "--ttl", "1h", "--certificate-ttl", "2h"]));
    EnrollString::parse(made["string"].as_str().unwrap()).unwrap();
    assert_eq!(made["uses"], 1);
    let id = made["id"].as_str().unwrap();

    let list = desk.ok(&["enroll", "list"]);
    assert!(list.contains("0 of 3") && list.contains("192.0.2.0/24") && list.contains("59m"), "{list}");
    assert_eq!(list.lines().count(), 3);
    desk.fails(4, &["strongroom enroll list"], &["enroll", "delete", "zz"]);
    desk.ok(&["enroll", "delete", &id[..10]]);
    let list = desk.json(&["enroll", "list"]);
    assert_eq!(list.as_object().unwrap().len(), 1);
    assert!(list.get(id).is_none());
    desk.fails(1, &["no string was created"], &create(&["--ttl", "30d"]));
}

/// The row of `rotation list` that begins with `id`, as people see it.
fn row(desk: &Desk, id: &str) -> Option<String> {
    desk.ok(&["rotation", "list"]).lines().find(|line| line.starts_with(id)).map(str::to_owned)
}

/// The time in the column `due` of such a row.
fn due_in(row: &str) -> u64 {
    let due = row.split("  ").filter(|cell| !cell.is_empty()).nth(5);
    strongroom::api::time::parse(due.unwrap_or_default().trim()).unwrap_or_else(|_| panic!("no due date: {row}"))
}

#[test]
fn authorities_and_certificates_are_listed_with_what_is_due_and_who_is_late() {
    use strongroom::core::Clock;
    let now_ms = || strongroom::core::SystemClock.now_ms();
    const DAY_MS: u64 = 86_400_000;
    let near = |found: u64, days: u64| {
        let wanted = now_ms() + days * DAY_MS;
        assert!(found.abs_diff(wanted) < DAY_MS / 2, "{found} is not {days} days away");
    };
    let desk = Desk::new();
    desk.ok(&["identity", "set", "app/web", "--policy", "web"]);
    desk.ok(&["identity", "set", "app/late", "--policy", "web", "--certificate-ttl", "24s"]);
    let _web = desk.host("app/web");
    let start = std::time::Instant::now();
    let _late = desk.host("app/late");

    let (first, _) = desk.authorities()[0].clone();
    let authority = row(&desk, &format!("ca-{}", &first[..8])).unwrap();
    assert!(authority.contains(" authority ") && authority.contains(" active ") && authority.contains(&first));
    near(due_in(&authority), 365 * 5);
    let server = row(&desk, "server-certificate").unwrap();
    assert!(server.contains("current") && server.contains("the listener's certificate"), "{server}");
    near(due_in(&server), 20);
    let clients = row(&desk, "client-certificates").unwrap();
    assert!(clients.contains("current") && clients.contains("3 of 3"), "{clients}");
    // The first of them all: two thirds of 24 seconds.
    assert!(due_in(&clients) < now_ms() + 16_000, "{clients}");
    assert!(!desk.ok(&["rotation", "list"]).contains("app/"), "nobody is late");

    // After two thirds of its life, and some time for retries, it is named; the others are not.
    while !desk.ok(&["rotation", "list"]).contains("app/late") {
        assert!(start.elapsed() < std::time::Duration::from_secs(24), "{}", desk.ok(&["rotation", "list"]));
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    let named_ms = now_ms();
    let listed = desk.ok(&["rotation", "list"]);
    let late = listed.lines().find(|row| row.contains("app/late")).unwrap();
    // A fifth of the eight seconds that are left when it is due; dates are whole seconds.
    assert!(named_ms > due_in(late) + 1_300, "named too early: {late}");
    assert!(late.ends_with(": its renewal is late") && due_in(late) < now_ms(), "{late}");
    let clients = row(&desk, "client-certificates").unwrap();
    assert!(due_in(&clients) > 0 && clients.contains("2 of 3"), "{clients}");
    let id = late.split(' ').next().unwrap();
    assert!(desk.ok(&["rotation", "show", id]).contains("needs an operator: its renewal is late"));
    let all = desk.json(&["rotation", "list"])["certificates"].clone();
    assert!(all.as_array().unwrap().iter().any(|one| one["id"] == id && one["error"] == "its renewal is late"));

    // It has another one, and is not named any more.
    let _again = desk.host("app/late");
    assert!(!desk.ok(&["rotation", "list"]).contains("app/late"));
    // A change of authority: how many have learned of it.
    desk.ok(&["ca", "rotate", "-y"]);
    let (next, _) = desk.authorities()[1].clone();
    let prepared = row(&desk, &format!("ca-{}", &next[..8])).unwrap();
    assert!(prepared.contains(" prepared ") && prepared.contains("1 of 3"), "{prepared}");
    desk.ok(&["ca", "rotate", "--force", "-y"]);
    desk.ok(&["ca", "rotate", "--force", "-y"]);
    desk.ok(&["ca", "taint", &first]);
    let retiring = row(&desk, &format!("ca-{}", &first[..8])).unwrap();
    assert!(retiring.contains(" retiring ") && retiring.contains("tainted"), "{retiring}");
}
