//! A hook that hangs, floods or lies, through the daemon.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strongroom::api::path::Path as SecretPath;

use super::house::House;

const VALUE: &str = "sys/strongroom/values/secret/app/prod";

/// A program of the operator.
fn program(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

/// A vault with the hook `apply` and `verify`, one secret and its policy. What the hook leaves behind is in `seen`.
fn vault(apply: &str, verify: &str, timeout_s: u64) -> (House, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let seen = folder.path().display().to_string();
    let apply = program(folder.path(), "apply", &apply.replace("SEEN", &seen));
    let verify = program(folder.path(), "verify", &verify.replace("SEEN", &seen));
    let revert = program(folder.path(), "revert", &format!("echo reverted > {seen}/reverted"));
    let settings = format!(
        "[targets.pager]\ntype = \"hook\"\napply = [{apply:?}]\nverify = [{verify:?}]\nrevert = [{revert:?}]\n\
         timeout = {timeout_s}\n"
    );
    let house = House::open("redb", &settings);
    let path = SecretPath::parse("app/prod").unwrap();
    house.client().kv("secret").put_pairs(&path, &[("TOKEN", &"first".into())]).unwrap();
    let policy = json!({
        "generator": { "type": "token", "bits": 256 }, "target": "pager", "mode": "single", "grace": "0s",
    });
    house.post(VALUE, &json!({ "key": "TOKEN", "policy": policy }));
    (house, folder)
}

fn order(house: &House, action: &str) -> Value {
    house.post(VALUE, &json!({ "key": "TOKEN", "action": action }))
}

fn state(house: &House) -> Value {
    house.get(VALUE)["values"][0].clone()
}

fn token(house: &House) -> String {
    let path = SecretPath::parse("app/prod").unwrap();
    house.client().kv("secret").pairs(&path).unwrap().unwrap()[0].1.reveal().to_owned()
}

/// Waits until the value is in `wanted` and, if `error` is given, says so.
fn reaches(house: &House, wanted: &str, error: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let now = state(house);
        if now["state"] == wanted && now["error"].as_str().unwrap_or_default().contains(error) {
            return now;
        }
        assert!(Instant::now() < deadline, "it does not reach {wanted} with {error:?}: {now}");
        sleep(Duration::from_millis(20));
    }
}

/// Waits until a hook has made the file, and reads it.
fn made(folder: &tempfile::TempDir, name: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match fs::read_to_string(folder.path().join(name)) {
            Ok(text) if text.ends_with('\n') => return text.trim().to_owned(),
            _ => assert!(Instant::now() < deadline, "no hook makes {name}"),
        }
        sleep(Duration::from_millis(10));
    }
}

/// Whether nothing of a process group runs. A killed process may stay in the table until somebody reaps it.
fn gone(leader: &str) -> bool {
    let runs = |entry: std::io::Result<fs::DirEntry>| {
        let stat = fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        // After the name in parentheses: state, parent, group (proc_pid_stat(5)).
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let (state, group) = (fields.next()?, fields.nth(1)?);
        (group == leader && !matches!(state, "Z" | "X")).then_some(())
    };
    !fs::read_dir("/proc").unwrap().any(|entry| runs(entry).is_some())
}

#[test]
fn a_hook_that_hangs_is_ended_named_and_can_be_aborted() {
    let hang = "echo $$ > SEEN/pid; sleep 600";
    let (house, folder) = vault(hang, "exit 0", 1);
    order(&house, "rotate");
    let now = reaches(&house, "applying", "did not end within 1 s");
    assert!(now["error"].as_str().unwrap().contains("raise its time limit or fix the command"), "{now}");
    assert_eq!(token(&house), "first");
    order(&house, "abort");
    reaches(&house, "idle", "");
    assert_eq!(made(&folder, "reverted"), "reverted");
    assert_eq!(token(&house), "first");
}

#[test]
fn the_daemon_answers_and_seals_while_a_hook_hangs() {
    let (house, folder) = vault("echo $$ > SEEN/pid; sleep 600", "exit 0", 600);
    order(&house, "rotate");
    let pid = made(&folder, "pid");
    let started = Instant::now();
    for _ in 0..20 {
        assert_eq!(token(&house), "first");
        assert_eq!(state(&house)["state"], "applying");
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    // A second one is refused by name, not queued behind it.
    let second = json!({ "key": "TOKEN", "action": "rotate" });
    let (status, refused) = house.ask("POST", VALUE, &second);
    assert!(status == 400 && refused.to_string().contains("under way"), "{status} {refused}");
    let started = Instant::now();
    let (status, _) = house.ask("POST", "sys/seal", &json!({}));
    assert_eq!(status, 204);
    assert!(house.client().sys().seal_status().unwrap().sealed);
    assert!(started.elapsed() < Duration::from_secs(3), "sealing took {:?}", started.elapsed());
    // The program and its sleep went with the vault that had asked for it.
    assert!(gone(&pid), "the hook outlived the open vault");
    let started = Instant::now();
    house.stop();
    assert!(started.elapsed() < Duration::from_secs(3), "stopping took {:?}", started.elapsed());

    // The next start asks the hook what is true, and goes on from there.
    fs::write(folder.path().join("apply"), "#!/bin/sh\nexit 0\n").unwrap();
    house.start();
    let now = reaches(&house, "idle", "");
    assert_eq!(now["current"], 2);
    assert_ne!(token(&house), "first");
}

#[test]
fn a_hook_ends_with_the_daemon_and_is_asked_about_at_the_next_start() {
    // The service has the value, and the program never says so.
    let apply = "echo $$ > SEEN/pid; read -r input; echo \"$input\" > SEEN/input; trap '' TERM; sleep 600; sleep 600";
    let verify = "read -r line; echo run >> SEEN/verified; exit 0";
    let (house, folder) = vault(apply, verify, 600);
    order(&house, "rotate");
    let pid = made(&folder, "pid");
    let input: Value = serde_json::from_str(&made(&folder, "input")).unwrap();
    let started = Instant::now();
    house.stop();
    assert!(started.elapsed() < Duration::from_secs(5), "stopping took {:?}", started.elapsed());
    assert!(gone(&pid), "the hook outlived the daemon");
    house.start();
    let now = reaches(&house, "idle", "");
    // The probe found it working: it was not applied again.
    assert_eq!(made(&folder, "pid"), pid);
    assert!(made(&folder, "verified").lines().count() >= 2);
    assert_eq!(
        (now["current"].as_u64(), token(&house).as_str()),
        (Some(2), input["staged"]["secret"].as_str().unwrap())
    );
}

#[test]
fn a_hook_that_floods_is_cut_short_and_says_no_value() {
    // Its input, which holds the new value, again and again on both outputs.
    let flood = "read -r input; echo \"$input\" > SEEN/input; i=0\n\
                 while [ $i -lt 20000 ]; do echo \"$input\"; echo \"$input\" >&2; i=$((i+1)); done; exit 1";
    let (house, folder) = vault(flood, "exit 65", 20);
    order(&house, "rotate");
    let now = reaches(&house, "needs-operator", "exit code 1");
    let error = now["error"].as_str().unwrap().to_owned();
    assert!(now["stuck"] == true && error.len() < 8_192, "{} bytes", error.len());
    let input: Value = serde_json::from_str(&made(&folder, "input")).unwrap();
    let secret = input["staged"]["secret"].as_str().unwrap().to_owned();
    assert!(secret.len() > 20 && !now.to_string().contains(&secret), "the value came back");
    let audit = fs::read_to_string(house.data.join("audit/audit.log")).unwrap();
    assert!(!audit.contains(&secret) && !house.log().contains(&secret), "a log holds the value");
    assert_eq!(token(&house), "first");
    order(&house, "abort");
    reaches(&house, "idle", "");
    assert_eq!(token(&house), "first");
}

#[test]
fn a_hook_that_lies_about_its_work_changes_nothing() {
    let (house, folder) = vault("exit 0", "echo the service does not know it; exit 65", 5);
    order(&house, "rotate");
    let now = reaches(&house, "idle", "rejected the new value in a test");
    assert!(now["error"].as_str().unwrap().contains("correct the cause"), "{now}");
    assert_eq!(made(&folder, "reverted"), "reverted");
    assert_eq!(now["current"], 0);
    assert_eq!(token(&house), "first");
    // Once it is honest, the value is rotated.
    fs::write(folder.path().join("verify"), "#!/bin/sh\nexit 0\n").unwrap();
    order(&house, "rotate");
    assert_eq!(reaches(&house, "idle", "")["current"].as_u64(), Some(2));
    assert_ne!(token(&house), "first");
}

/// A vault whose value is printed by a program, and applied nowhere.
fn minted(generate: &str, timeout_s: u64) -> (House, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let generate = program(folder.path(), "generate", &generate.replace("SEEN", &folder.path().display().to_string()));
    let apply = program(folder.path(), "apply", "exit 0");
    let settings = format!(
        "[targets.mint]\ntype = \"hook\"\ngenerate = [{generate:?}, \"one argument\"]\ntimeout = {timeout_s}\n\n\
         [targets.pager]\ntype = \"hook\"\napply = [{apply:?}]\n"
    );
    let house = House::open("redb", &settings);
    let path = SecretPath::parse("app/prod").unwrap();
    house.client().kv("secret").put_pairs(&path, &[("TOKEN", &"first".into())]).unwrap();
    let policy = json!({ "generator": { "type": "command", "target": "mint" }, "grace": "0s" });
    house.post(VALUE, &json!({ "key": "TOKEN", "policy": policy }));
    (house, folder)
}

/// Replaces the program.
fn now_prints(folder: &tempfile::TempDir, text: &str) {
    program(folder.path(), "generate", &text.replace("SEEN", &folder.path().display().to_string()));
}

/// The value stands in no log of the daemon.
fn unlogged(house: &House, value: &str) {
    let audit = fs::read_to_string(house.data.join("audit/audit.log")).unwrap();
    assert!(!audit.contains(value) && !house.log().contains(value), "a log holds the value");
    assert!(!state(house).to_string().contains(value), "the state shows the value");
}

#[test]
fn a_command_makes_the_value_and_tells_nobody_else() {
    let print = "env | sort > SEEN/seen; echo \"$# $1\" >> SEEN/seen; cat >> SEEN/seen; echo a-value-of-the-mint; \
                 echo a-value-of-the-mint >&2";
    let (house, folder) = minted(print, 10);
    order(&house, "rotate");
    let now = reaches(&house, "idle", "");
    assert_eq!((token(&house).as_str(), now["current"].as_u64()), ("a-value-of-the-mint", Some(2)));
    unlogged(&house, "a-value-of-the-mint");
    let seen = made(&folder, "seen");
    let rotation = now["id"].as_str().unwrap();
    let input = format!(
        "{{\"id\":\"{rotation}\",\"path\":\"secret/app/prod\",\"key\":\"TOKEN\",\"staged\":null,\"current\":null,\
         \"previous\":null}}"
    );
    let variables = format!("PWD=/\nSTRONGROOM_ROTATION_ID={rotation}\nSTRONGROOM_STEP=generate");
    assert_eq!(seen, format!("PATH=/usr/bin:/bin\n{variables}\n1 one argument\n{input}"));
    // A target that makes no values is refused before anything is stored, and so is one that takes none.
    for (policy, part) in [
        (json!({ "generator": { "type": "command", "target": "pager" } }), "\\\"pager\\\" has no generate command"),
        (json!({ "generator": { "type": "uuid" }, "target": "mint", "mode": "single" }), "has no apply command"),
    ] {
        let (status, refused) = house.ask("POST", VALUE, &json!({ "key": "TOKEN", "policy": policy }));
        assert!(status == 400 && refused.to_string().contains(part), "{status} {refused}");
    }
}

#[test]
fn a_command_that_prints_no_value_changes_nothing_and_is_named() {
    let (house, folder) = minted("exit 0", 1);
    for (script, state, part) in [
        ("exit 0", "needs-operator", "printed nothing"),
        ("echo mint-one; echo mint-two", "needs-operator", "more than one line"),
        ("printf 'mint-\\377\\376'", "needs-operator", "not UTF-8"),
        ("printf 'mint-\\000x'", "needs-operator", "control character"),
        ("echo mint-one; echo mint-one >&2; exit 1", "needs-operator", "exit code 1"),
        ("while :; do echo mint-one-mint-one; done", "generating", "did not end within 1 s"),
        ("echo mint-one; sleep 600", "generating", "did not end within 1 s"),
        ("echo mint-one; exit 75", "generating", "exit code 75"),
    ] {
        now_prints(&folder, script);
        order(&house, "rotate");
        reaches(&house, state, part);
        unlogged(&house, "mint-");
        order(&house, "abort");
        reaches(&house, "idle", "");
        assert_eq!(token(&house), "first", "{script}");
    }
    // Repaired, the same rotation goes on.
    now_prints(&folder, "exit 1");
    order(&house, "rotate");
    reaches(&house, "needs-operator", "exit code 1");
    now_prints(&folder, "echo mended-value");
    order(&house, "resume");
    reaches(&house, "idle", "");
    assert_eq!(token(&house), "mended-value");
}

#[test]
fn a_value_that_was_printed_and_not_stored_is_thrown_away() {
    let (house, folder) = minted("echo run >> SEEN/runs; echo lost-value; sleep 2", 30);
    order(&house, "rotate");
    assert_eq!(made(&folder, "runs"), "run");
    house.kill();
    now_prints(&folder, "echo run >> SEEN/runs; echo kept-value");
    house.start();
    reaches(&house, "idle", "");
    assert_eq!((token(&house).as_str(), made(&folder, "runs").lines().count()), ("kept-value", 2));
    unlogged(&house, "lost-value");
}
