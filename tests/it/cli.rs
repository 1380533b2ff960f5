//! The command `strongroom` against a real daemon: what it changes, what it refuses, what it never prints.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::daemon::found_in_memory;
use crate::support::process::{DAEMON, Init, PASSPHRASE, Running, block_only, client, text, with_input};

/// A value that occurs nowhere by accident.
const CANARY: &str = "canary-value-91d2";

/// The built command, beside the daemon.
fn binary() -> PathBuf {
    let path = Path::new(DAEMON).with_file_name("strongroom");
    assert!(path.exists(), "build the command first: cargo build --workspace");
    path
}

/// A vault with a profile, unsealed.
pub struct Desk {
    folder: tempfile::TempDir,
    pub running: Option<Running>,
}

impl Desk {
    pub fn new() -> Self {
        let desk = Self::sealed();
        let unsealed = with_input(desk.command(&["unseal", "--fd", "0"]), PASSPHRASE.as_bytes());
        assert!(unsealed.status.success(), "{}", text(&unsealed.stderr));
        desk
    }

    pub fn sealed() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = Init::in_folder(folder.path()).run();
        let running = Running::start(&data);
        let desk = Self { folder, running: Some(running) };
        let address = desk.running.as_ref().unwrap().address.clone();
        let bundle = desk.path("operator");
        desk.ok(&["profile", "add", "p", "--bundle", bundle.to_str().unwrap(), "--address", &address]);
        desk
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.folder.path());
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    #[track_caller]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    #[track_caller]
    pub fn fails(&self, code: i32, expected: &str, arguments: &[&str]) {
        let output = self.run(arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {expected:?} is not in: {said}");
    }

    pub fn set(&self, path: &str, key: &str, value: &str) {
        let output = with_input(self.command(&["set", path, key, "-"]), value.as_bytes());
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(value.len() < 4 || !text(&output.stdout).contains(value), "set printed the value");
    }
}

#[test]
fn set_and_unset_change_one_key_and_never_its_siblings() {
    let desk = Desk::new();
    desk.set("app/prod", "A", "one");
    desk.set("app/prod", "B", "two\nlines\n");
    desk.set("app/prod", "A", "three");
    assert_eq!(desk.ok(&["get", "app/prod", "A"]), "three");
    assert_eq!(desk.ok(&["get", "app/prod", "B"]), "two\nlines\n", "byte for byte");
    desk.ok(&["set", "app/prod", "C", "--generate", "24"]);
    assert_eq!(desk.ok(&["get", "app/prod", "C"]).len(), 24);
    desk.ok(&["unset", "app/prod", "A"]);
    assert_eq!(desk.ok(&["get", "app/prod", "B"]), "two\nlines\n");
    desk.fails(4, "it has: B, C", &["get", "app/prod", "A"]);
    // Its second line could be taken for a key, so nothing is printed.
    let lines = desk.run(&["get", "app/prod"]);
    let said = text(&lines.stderr);
    assert!(lines.status.code() == Some(1) && lines.stdout.is_empty(), "{said}");
    assert!(
        said.contains("several lines") && said.contains("B\n") && said.contains("export app/prod --format"),
        "{said}"
    );
    assert!(desk.ok(&["--json", "get", "app/prod"]).starts_with(r#"{"B":"two\nlines\n","C":"#));
    desk.fails(4, "nothing was changed", &["unset", "app/prod", "B", "A"]);
    assert_eq!(desk.ok(&["get", "app/prod", "B", "--version", "3"]), "two\nlines\n");
    // What people type out of habit: refused without repeating the value, which is no key and no argument of ours.
    for typed in [
        &["set", "app/prod", "D", "typed-value"][..],
        &["set", "app/prod", "D=typed-value"],
        &["set", "app/prod", "D", "-", "typed-value"],
        &["set", "app/prod", "D=typed-value", "-"],
        &["set", "app/prod", "D=typed-value", "--generate"],
        &["set", "app/prod", "D=typed-value", "E=typed-value"],
        &["set", "app/prod", "D", "--value", "typed-value"],
        &["set", "app/prod", "D", "--value=typed-value"],
    ] {
        for json in [false, true] {
            let mut command = desk.command(typed);
            if json {
                command.arg("--json");
            }
            let output = command.output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{output:?}");
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            assert!(text.contains("strongroom set PATH KEY") && !text.contains("typed-value"), "{text}");
            assert!(text.contains("on standard input") && !text.contains("insecure"), "{text}");
        }
    }
    assert!(!desk.ok(&["export", "app/prod", "--format", "json"]).contains("typed-value"));
    desk.ok(&["set", "app/prod", "D", "--value", "x", "--insecure-value-on-command-line"]);
}

#[test]
fn a_key_that_stops_programs_is_stored_with_a_warning() {
    let desk = Desk::new();
    desk.set("app/prod", "GOOD", "one");
    std::fs::write(desk.path("app.env"), "FINE=1\nLD_PRELOAD=2\n").unwrap();
    for (arguments, consequence) in [
        (&["set", "app/prod", "BAD-NAME", "--generate"][..], "--map BAD-NAME=NAME"),
        (&["set", "app/prod", "PATH", "--generate"], "--allow PATH"),
        (&["import", "-y", "app.env", "app/prod"], "--allow LD_PRELOAD"),
    ] {
        let output = desk.run(arguments);
        let said = text(&output.stderr);
        assert!(
            output.status.success() && said.contains("run app/prod will now refuse to start programs"),
            "{output:?}"
        );
        assert!(said.contains(consequence) && said.matches("refuse to start programs").count() == 1, "{said}");
        desk.fails(125, "nothing was started", &["run", "app/prod", "--", "true"]);
    }
    for key in ["BAD-NAME", "PATH", "LD_PRELOAD"] {
        desk.ok(&["unset", "app/prod", key]);
    }
    let output = desk.run(&["set", "app/prod", "OTHER", "--generate"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    desk.ok(&["run", "app/prod", "--", "true"]);
}

/// The command stands still at its last line, because nobody reads it: all that it does with the value is done by then.
#[test]
fn nothing_of_a_value_is_left_in_the_memory_of_the_command_that_set_it() {
    let desk = Desk::new();
    // Larger than any buffer that is taken beforehand, and found by any piece of it.
    let value: String = (0..4_000).map(|number| format!("{CANARY}{number:05}")).collect();
    std::fs::write(desk.path("value"), &value).unwrap();
    for arguments in [["set", "app/prod", "KEY", "-"], ["set", "app/prod", "KEY", "--from-file=value"]] {
        let (unread, mut full) = std::io::pipe().unwrap();
        full.write_all(&[b'.'; 64 * 1024]).unwrap();
        let mut child = desk.command(&arguments).stdin(Stdio::piped()).stdout(full).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        if arguments[3] == "-" {
            input.write_all(value.as_bytes()).unwrap();
        }
        drop(input);
        let standing = (0..100).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(25));
            found_in_memory(child.id(), b"app/prod: KEY set, version") != Some(0)
        });
        let found = found_in_memory(child.id(), CANARY.as_bytes());
        drop(unread);
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert!(standing, "{arguments:?} did not come to its last line");
        assert!(matches!(found, None | Some(0)), "{arguments:?}: {found:?} pieces of the value");
    }
    assert_eq!(desk.ok(&["get", "app/prod", "KEY"]), value);
}

/// What a person sees who runs the command at a terminal.
fn at_a_terminal(desk: &Desk, arguments: &[&str]) -> String {
    let quoted = |word: &str| format!("'{word}'");
    let line: Vec<String> = [binary().to_str().unwrap()].iter().chain(arguments).map(|word| quoted(word)).collect();
    let mut command = Command::new("script");
    command.args(["-qec", &line.join(" "), "/dev/null"]).env_clear().env("PATH", "/usr/bin:/bin");
    command.env("SHELL", "/bin/sh").env("TERM", "xterm").env("HOME", desk.folder.path());
    let output = command.stdin(Stdio::null()).output().expect("script, of util-linux");
    text(&output.stdout)
}

#[test]
fn a_terminal_gets_nothing_that_it_would_obey() {
    // The clipboard, the screen, and a name that is read from right to left.
    const HOSTILE: &str = "a\u{1b}]52;c;Y3VybA==\u{7}\u{9b}2J\u{202e}b";
    let desk = Desk::new();
    desk.set("app/prod", "A", HOSTILE);
    // The command takes no name with an equals sign. Other clients do.
    let others = client(&desk.running.as_ref().unwrap().address, &desk.path("operator"));
    let prod = strongroom::api::path::Path::parse("app/prod").unwrap();
    others.kv("secret").put_pairs(&prod, &[(HOSTILE, &"value".into())]).unwrap();
    let no_bold = |seen: String| seen.replace("\u{1b}[1m", "").replace("\u{1b}[0m", "");
    let harmless = |seen: &str| !seen.contains(['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}']);
    for arguments in [
        &["get", "app/prod", "--show"][..],
        &["get", "app/prod", "A", "--show"],
        &["get", "app/prod"],
        &["get", "app/prod", "missing"],
        &["get", "app/prod", "--show", "--json"],
        &["export", "app/prod", "--format", "json", "--show"],
    ] {
        let seen = no_bold(at_a_terminal(&desk, arguments));
        assert!(harmless(&seen) && seen.contains("\\u001b]52;c;"), "{arguments:?}: {seen:?}");
    }
    let refused = desk.run(&["get", "app/prod", "missing"]);
    assert!(harmless(&text(&refused.stderr)), "{:?}", text(&refused.stderr));
    // A program gets what is there.
    assert_eq!(desk.ok(&["get", "app/prod", "A"]), HOSTILE);
}

#[test]
fn the_progress_of_a_check_is_one_line_that_is_overwritten() {
    let desk = Desk::new();
    (0..16).for_each(|n| desk.set(&format!("app/{n}"), "KEY", "value"));
    // Slow enough that it still runs when its progress is shown.
    let seen = at_a_terminal(&desk, &["verify", "--records-per-second", "100"]);
    assert!(seen.contains("\rchecking: "), "{seen:?}");
}

#[test]
fn two_writers_at_once_both_survive() {
    let desk = Desk::new();
    let start = |key: &str| {
        let mut command = desk.command(&["set", "app/race", key, "--generate", "16"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let mut children: Vec<_> = (0..8).map(|n| start(&format!("K{n}"))).collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(desk.ok(&["get", "app/race"]).lines().count(), 8);
}

#[test]
fn import_shows_names_only_and_changes_what_it_says() {
    let desk = Desk::new();
    let file = desk.path("app.env");
    std::fs::write(&file, format!("NEW='{CANARY}'\nSAME=1\nCHANGED=2\n")).unwrap();
    desk.set("app/prod", "SAME", "1");
    desk.set("app/prod", "CHANGED", "1");
    desk.set("app/prod", "KEPT", "k");
    let plan = desk.run(&["import", "-n", "app.env", "app/prod"]);
    let shown = text(&plan.stderr);
    for line in ["new        NEW", "changed    CHANGED", "unchanged  SAME", "kept       KEPT"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    desk.fails(4, "no key NEW", &["get", "app/prod", "NEW"]);
    desk.fails(2, "add -y", &["import", "app.env", "app/prod"]);
    let done = desk.run(&["import", "-y", "app.env", "app/prod"]);
    assert!(done.status.success());
    for output in [&plan, &done] {
        assert!(!text(&output.stdout).contains(CANARY) && !text(&output.stderr).contains(CANARY));
    }
    assert_eq!(desk.ok(&["get", "app/prod", "NEW"]), CANARY);
    assert_eq!(desk.ok(&["get", "app/prod", "KEPT"]), "k");
    assert!(desk.ok(&["import", "-y", "app.env", "app/prod"]).contains("nothing to do"));
    std::fs::write(&file, b"A=1\nB=\xff\n").unwrap();
    desk.fails(2, "app.env: line 2, column 3: not UTF-8", &["import", "-y", "app.env", "app/prod"]);
}

#[test]
fn export_writes_what_import_reads_and_never_over_a_file() {
    let desk = Desk::new();
    desk.set("app/prod", "MULTI", "a\nb 'c'");
    desk.ok(&["export", "app/prod", "-o", "out.env"]);
    let out = desk.path("out.env");
    assert_eq!(std::fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    desk.fails(1, "exists", &["export", "app/prod", "-o", "out.env"]);
    desk.ok(&["import", "-y", "out.env", "app/copy"]);
    assert_eq!(desk.ok(&["get", "app/copy", "MULTI"]), "a\nb 'c'");
    assert_eq!(desk.ok(&["export", "app/prod", "--format", "sh"]), "export MULTI='a\nb '\\''c'\\'''\n");
}

#[test]
fn run_replaces_itself_by_the_program() {
    let desk = Desk::new();
    desk.set("app/prod", "KEY", "value");
    let mut command = desk.command(&["run", "app/prod", "--", "sh", "-c", "echo $$ $KEY; env | grep -c STRONGROOM_"]);
    command.env("STRONGROOM_PROFILE", "p").env("STRONGROOM_CLIENT_KEY", desk.path("operator/key.pem"));
    let child = command.stdout(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stdout), format!("{pid} value\n0\n"), "same process, own credentials stripped");
    assert_eq!(desk.run(&["run", "app/prod", "--", "sh", "-c", "exit 9"]).status.code(), Some(9));
    block_only(&[]);
    assert_eq!(desk.run(&["run", "app/prod", "--", "sh", "-c", "kill -TERM $$"]).status.signal(), Some(libc::SIGTERM));
    let renamed = ["run", "app/prod", "--map", "KEY=OTHER", "--", "sh", "-c", "printf %s $OTHER$KEY"];
    assert_eq!(desk.ok(&renamed), "value");
}

#[test]
fn run_starts_nothing_when_anything_is_missing_or_dangerous() {
    let desk = Desk::new();
    desk.set("app/prod", "KEY", "value");
    desk.set("app/evil", "LD_PRELOAD", "/tmp/x.so");
    desk.set("app/odd", "not-a-name", "x");
    let touch = |paths: &[&str]| -> Vec<String> {
        let mut all = vec!["run".to_owned()];
        all.extend(paths.iter().map(|path| (*path).to_owned()));
        all.extend(["--".to_owned(), "touch".to_owned(), "started".to_owned()]);
        all
    };
    for (paths, expected) in [
        (&["app/prod", "app/none"][..], "there is no secret app/none"),
        (&["app/prod", "--only", "KEY,GONE"], "there is no key GONE"),
        (&["app/evil"], "--allow LD_PRELOAD"),
        (&["app/odd"], "not a variable name"),
        (&["app/prod", "--map", "KEY"], "is not KEY=NAME"),
    ] {
        let arguments = touch(paths);
        desk.fails(125, expected, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(!desk.path("started").exists(), "{paths:?} started the program");
    }
    desk.fails(127, "not found", &["run", "app/prod", "--", "/nonexistent/program"]);
    desk.fails(126, "cannot be executed", &["run", "app/prod", "--", "/etc/passwd"]);
}

#[test]
fn refusals_have_their_codes_and_end_with_a_next_step() {
    let desk = Desk::sealed();
    desk.fails(3, "strongroom unseal", &["status"]);
    desk.fails(3, "strongroom unseal", &["get", "app/prod"]);
    let wrong = with_input(desk.command(&["unseal", "--fd", "0"]), b"another passphrase of six words");
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stderr).contains("no key slot opens"), "{}", text(&wrong.stderr));
    // The next one would come too early. It is not read, let alone sent.
    for attempt in 0.. {
        let early = desk.run(&["unseal", "--fd", "0"]);
        let said = text(&early.stderr);
        if early.status.code() == Some(1) && said.contains("too many failed attempts") {
            assert!(!said.contains("deriving") && said.contains("longer"), "{said}");
            break;
        }
        assert!(attempt < 6, "{said}");
        // Too late on a slow machine. The delay doubles with each wrong one.
        with_input(desk.command(&["unseal", "--fd", "0"]), b"another passphrase of six words");
    }
    desk.fails(2, "for example: app/prod", &["get", "a/../b"]);
    desk.fails(2, "profile list", &["--profile", "none", "status"]);
    desk.fails(6, "is strongroomd running", &["--addr", "https://127.0.0.1:1", "status"]);
    desk.fails(2, "https://", &["--addr", "http://127.0.0.1:1", "status"]);
    desk.fails(125, "unseal", &["run", "app/prod", "--", "true"]);
    let json = desk.run(&["--json", "get", "app/prod"]);
    let error: serde_json::Value = serde_json::from_slice(&json.stderr).unwrap();
    assert_eq!(error["error"]["code"], "sealed");
    let key = desk.path(".config/strongroom/profiles/p/key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    desk.fails(2, "chmod 600", &["status"]);
}

#[test]
fn a_narrow_identity_gets_its_path_and_nothing_else() {
    let desk = Desk::new();
    desk.set("app/prod", "KEY", CANARY);
    desk.set("app/other", "KEY", CANARY);
    let policy = desk.path("web.hcl");
    std::fs::write(&policy, "path \"secret/data/app/prod\" { capabilities = [\"read\"] }\n").unwrap();
    desk.ok(&["policy", "write", "web", "web.hcl"]);
    desk.ok(&["identity", "policies", "app/web", "web"]);
    assert_eq!(desk.ok(&["identity", "policies", "app/web"]), "web\n");
    std::fs::write(&policy, "path \"x\" {\n  capabilities = [\"fly\"]\n}\n").unwrap();
    desk.fails(1, "2:18", &["policy", "write", "web", "web.hcl"]);
    desk.fails(1, "correct web.hcl", &["policy", "write", "web", "web.hcl"]);
    desk.fails(1, "strongroom identity set PATH --policy admin", &["policy", "delete", "-y", "admin"]);
    assert!(desk.ok(&["policy", "read", "web"]).contains("app/prod"), "a refused policy replaces nothing");
    desk.ok(&["can-i", "read", "app/prod"]);
    desk.ok(&["policy", "delete", "-y", "web"]);
    desk.fails(4, "no policy web", &["policy", "read", "web"]);
}

#[test]
fn delete_can_be_taken_back_until_it_is_for_good() {
    let desk = Desk::new();
    desk.set("app/prod", "KEY", "one");
    desk.fails(2, "mark the newest version of app/prod as deleted?\n  nothing was changed; ", &["delete", "app/prod"]);
    desk.ok(&["delete", "-y", "app/prod"]);
    desk.fails(4, "deleted", &["get", "app/prod"]);
    desk.ok(&["delete", "--versions", "1", "--undelete", "app/prod"]);
    assert_eq!(desk.ok(&["get", "app/prod", "KEY"]), "one");
    desk.fails(
        1,
        "version 1 is not deleted, version 7 does not",
        &["delete", "--versions", "1,7", "--undelete", "app/prod"],
    );
    desk.ok(&["delete", "-y", "--versions", "1", "--destroy", "app/prod"]);
    desk.fails(1, "version 1 was destroyed", &["delete", "--versions", "1", "--undelete", "app/prod"]);
    desk.fails(4, "", &["get", "app/prod", "KEY"]);
    desk.set("app/prod", "KEY", "two");
    assert_eq!(desk.ok(&["list"]), "app/\n");
    assert_eq!(desk.ok(&["list", "-r"]), "app/prod\n");
    desk.ok(&["delete", "-y", "--all", "app/prod"]);
    desk.fails(4, "nothing below", &["list"]);
}

#[test]
fn a_bundle_moves_into_a_profile_and_two_profiles_need_a_choice() {
    let desk = Desk::new();
    let (bundle, address) = (desk.path("operator"), desk.running.as_ref().unwrap().address.clone());
    let bundle = bundle.to_str().unwrap();
    let copied = desk.run(&["profile", "add", "q", "--bundle", bundle, "--address", &address]);
    assert!(copied.status.success() && text(&copied.stderr).contains(&format!("rm -r {bundle}")), "{copied:?}");
    desk.fails(2, "no profile is selected; there are: p, q\n  choose one: strongroom profile use", &["list"]);
    desk.fails(2, "no profile is selected; there are: p, q", &["profile", "show"]);
    desk.fails(4, "nothing below", &["list", "--profile", "q"]);
    let moved = desk.run(&["profile", "add", "r", "--bundle", bundle, "--address", &address, "--move"]);
    assert!(moved.status.success() && moved.stderr.is_empty() && !desk.path("operator").exists(), "{moved:?}");
    desk.ok(&["profile", "use", "r"]);
    desk.fails(4, "nothing below", &["list"]);
    let cert = desk.path(".config/strongroom/profiles/r/cert.pem");
    std::fs::remove_file(cert).unwrap();
    desk.fails(2, "the profile is incomplete", &["list"]);
}

#[test]
fn failures_end_with_the_next_step_on_a_line_of_its_own() {
    let mut desk = Desk::sealed();
    desk.fails(3, "the vault is sealed\n  open it: strongroom unseal\n", &["list"]);
    desk.fails(2, "the address must begin with https://\n  write https://HOST:PORT", &["list", "--addr", "http://a:1"]);
    desk.fails(2, "there is no command \"kv\"\n  the commands are: strongroom set", &["kv", "put", "app/prod"]);
    let json = desk.run(&["--json", "import", "app.env"]);
    assert!(
        text(&json.stderr).starts_with(r#"{"error":{"code":"usage","message":"the path of the secret"#),
        "{json:?}"
    );
    desk.running.take();
    let gone =
        "connection refused\n  is strongroomd running there?\n  see which address is in use: strongroom profile show\n";
    desk.fails(6, gone, &["list"]);
    desk.fails(125, "connection refused; nothing was started\n  is strongroomd", &["run", "app/prod", "--", "true"]);
}

#[test]
fn an_edited_audit_trail_is_found() {
    let desk = Desk::new();
    desk.set("app/prod", "KEY", "one");
    let log = desk.path("data/audit/audit.log");
    let log_text = log.to_str().unwrap();
    assert!(desk.ok(&["audit", "verify", log_text]).contains("genuine"));
    let copy = desk.path("copy.log");
    let edited = text(&std::fs::read(&log).unwrap()).replacen("app/prod", "app/prud", 1);
    std::fs::write(&copy, edited).unwrap();
    desk.fails(1, "not intact", &["audit", "verify", copy.to_str().unwrap()]);
    // Without the key only the links can be checked: a missing line is found, an edited one is not.
    let lines = text(&std::fs::read(&log).unwrap());
    let cut: String =
        lines.lines().enumerate().filter(|(at, _)| *at != 2).map(|(_, line)| format!("{line}\n")).collect();
    std::fs::write(&copy, cut).unwrap();
    desk.fails(1, "not intact", &["audit", "verify", "--structure", copy.to_str().unwrap()]);
}

#[test]
fn a_vault_that_was_rolled_back_is_refused_by_who_has_seen_it_newer() {
    let mut desk = Desk::new();
    desk.set("app/prod", "KEY", "one");
    assert_eq!(desk.running.take().unwrap().stop(), Some(0));
    let (data, old) = (desk.path("data"), desk.path("old"));
    copy(&data, &old);
    let again = Running::start(&data);
    client(&again.address, &desk.path("operator")).sys().unseal(&PASSPHRASE.into()).unwrap();
    let address = again.address.clone();
    desk.ok(&["--addr", &address, "set", "app/prod", "KEY", "--generate", "9"]);
    assert_eq!(again.stop(), Some(0));
    std::fs::remove_dir_all(&data).unwrap();
    copy(&old, &data);
    let rolled_back = Running::start(&data);
    client(&rolled_back.address, &desk.path("operator")).sys().unseal(&PASSPHRASE.into()).unwrap();
    desk.fails(6, "rolled back", &["--addr", &rolled_back.address, "get", "app/prod", "KEY"]);
}

pub fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

#[test]
fn every_command_explains_itself() {
    let desk = Desk { folder: tempfile::tempdir().unwrap(), running: None };
    for command in [
        "status", "unseal", "seal", "set", "get", "unset", "list", "delete", "import", "export", "run", "policy",
        "identity", "ca", "enroll", "can-i", "audit", "profile", "slot", "rekey", "rotate", "rotation", "verify",
        "losses",
    ] {
        assert!(desk.ok(&[command, "--help"]).contains("Usage: strongroom"), "{command}");
    }
    desk.fails(2, "no address of a vault", &["status"]);
}
