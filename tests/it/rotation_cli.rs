//! The command's side of slots, root key, data keys and their rotation, against a real daemon.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::process::{DAEMON, Init, PASSPHRASE, Running, client, text, with_input};

/// A second passphrase.
const OTHER: &str = "another passphrase of words";
/// A third one.
/// Bytes of a key file.
const USB_KEY: &[u8] = b"bytes of a key file: 8f2c61d09be7453a01b7e2d9f6";
const THIRD: &str = "a third passphrase of words";

struct Desk {
    folder: tempfile::TempDir,
    running: Option<Running>,
}

impl Desk {
    /// A vault with a profile, unsealed.
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = Init::in_folder(folder.path()).with(more).run();
        let mut desk = Self { folder, running: None };
        desk.start(&data);
        let bundle = desk.path("operator");
        desk.ok(&["profile", "add", "p", "--bundle", bundle.to_str().unwrap(), "--address", desk.address()]);
        desk.fed(&["unseal", "--fd", "0"], &[PASSPHRASE]);
        desk
    }

    fn start(&mut self, data: &Path) {
        self.running = Some(Running::start(data));
    }

    /// Ends the daemon (`kill`: without a chance to tidy up) and starts it again on the same data, sealed.
    fn again(&mut self, kill: bool) {
        let running = self.running.take().unwrap();
        if kill {
            drop(running); // SIGKILL
        } else {
            assert_eq!(running.stop(), Some(0));
        }
        let data = self.path("data");
        self.start(&data);
    }

    fn address(&self) -> &str {
        &self.running.as_ref().unwrap().address
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(Path::new(DAEMON).with_file_name("strongroom"));
        command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.folder.path());
        command.env("STRONGROOM_ADDR", self.address());
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str], lines: &[&str]) -> Output {
        with_input(self.command(arguments), lines.iter().map(|line| format!("{line}\n")).collect::<String>().as_bytes())
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        text(&self.fed(arguments, &[]).stdout)
    }

    /// With `lines` on standard input; must succeed, and must not print what went in.
    #[track_caller]
    fn fed(&self, arguments: &[&str], lines: &[&str]) -> Output {
        let output = self.run(arguments, lines);
        assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
        for line in lines.iter().filter(|line| !line.is_empty()) {
            let printed = text(&output.stdout) + &text(&output.stderr);
            assert!(!printed.contains(line), "{arguments:?} printed a secret");
        }
        output
    }

    #[track_caller]
    fn json(&self, arguments: &[&str], lines: &[&str]) -> serde_json::Value {
        let mut all = vec!["--json"];
        all.extend(arguments);
        serde_json::from_slice(&self.fed(&all, lines).stdout).unwrap()
    }

    #[track_caller]
    fn fails(&self, code: i32, expected: &str, arguments: &[&str], lines: &[&str]) {
        let output = self.run(arguments, lines);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(expected), "{arguments:?}: {expected:?} is not in: {said}");
        assert!(said.trim_end().lines().count() >= 2, "{arguments:?}: no next step: {said}");
    }

    /// At a terminal: types `answers` when a share is asked for, and after them what the command printed as shares.
    fn at_a_terminal(&self, arguments: &str, answers: &[&str]) -> String {
        let tool = Path::new(DAEMON).with_file_name("strongroom");
        let mut command = Command::new("script");
        command.args(["-qec", &format!("{} {arguments}", tool.display()), "/dev/null"]);
        for (name, value) in self.command(&[]).get_envs() {
            command.env(name, value.unwrap());
        }
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).current_dir(self.folder.path());
        let mut terminal = piped.spawn().unwrap();
        let mut keyboard = terminal.stdin.take().unwrap();
        let mut screen = terminal.stdout.take().unwrap();
        let (mut said, mut answered, mut piece) = (String::new(), 0, [0; 4096]);
        loop {
            let got = screen.read(&mut piece).unwrap();
            if got == 0 {
                break;
            }
            said.push_str(&String::from_utf8_lossy(&piece[..got]));
            if said.matches("Share ").count() > answered && said.ends_with(": ") {
                let printed: Vec<&str> = said.lines().filter(|line| line.starts_with("srs1-")).collect();
                let next = answers.iter().copied().chain(printed.iter().map(|line| line.trim())).nth(answered);
                writeln!(keyboard, "{}", next.expect("no more is asked for")).unwrap();
                answered += 1;
            }
        }
        assert!(terminal.wait().unwrap().success(), "{said}");
        said
    }

    /// Adds a passphrase slot.
    fn add(&self, label: &str, passphrase: &str) {
        let arguments = ["slot", "add", "--label", label, "--passphrase-fd", "0", "--new-passphrase-fd", "0"];
        self.fed(&arguments, &[PASSPHRASE, passphrase]);
    }

    /// Labels of all slots.
    fn labels(&self) -> Vec<String> {
        let list = self.json(&["slot", "list"], &[]);
        list["slots"].as_array().unwrap().iter().map(|slot| slot["label"].as_str().unwrap().to_owned()).collect()
    }

    /// `secrets` secrets, in a vault that takes its time to seal them anew.
    fn throttled(&mut self, secrets: usize) {
        let config = self.path("data/strongroom.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        let slow = text.replacen("# rewrap_per_second = 2000", "rewrap_per_second = 100", 1);
        assert_ne!(text, slow);
        self.fill(secrets);
        std::fs::write(&config, slow).unwrap();
        self.again(false);
        self.fed(&["unseal", "--fd", "0"], &[PASSPHRASE]);
    }

    fn fill(&self, secrets: usize) {
        let client = client(self.address(), &self.path("operator"));
        for number in 0..secrets {
            let path = strongroom::api::path::Path::parse(&format!("filled/{number}")).unwrap();
            client.kv("secret").put_pairs(&path, &[("KEY", &"value".into())]).unwrap();
        }
    }
}

#[test]
fn a_changed_passphrase_opens_after_a_restart_and_the_old_one_does_not() {
    let mut desk = Desk::new();
    let change = ["slot", "change", "--passphrase-fd", "0", "--new-passphrase-fd", "0"];
    desk.fails(1, "slot list", &change, &[THIRD, OTHER]);
    desk.fails(1, "12 characters", &change, &[PASSPHRASE, "short"]);
    desk.fails(2, "contains no new passphrase", &change, &[PASSPHRASE]);
    desk.fails(2, "--passphrase-fd N", &["slot", "change"], &[]);
    desk.fails(
        2,
        "takes no key file",
        &["slot", "change", "--passphrase-fd", "0", "--new-key-file", "x"],
        &[PASSPHRASE],
    );
    desk.fails(4, "slot list", &["slot", "change", "--slot", "nobody", "--passphrase-fd", "0"], &[PASSPHRASE]);
    let done = desk.fed(&change, &[PASSPHRASE, OTHER]);
    assert!(text(&done.stdout).contains("changed") && text(&done.stderr).contains("old copies"));
    desk.again(false);
    desk.fails(1, "still sealed", &["unseal", "--fd", "0"], &[PASSPHRASE]);
    std::thread::sleep(Duration::from_millis(1_100)); // the vault makes the next attempt wait
    assert_eq!(text(&desk.fed(&["unseal", "--fd", "0"], &[OTHER]).stdout), "unsealed\n");
}

#[test]
fn slots_are_added_tried_and_removed() {
    let desk = Desk::new();
    desk.add("olga", OTHER);
    assert!(desk.labels().contains(&"olga".to_owned()));
    let add = |label| ["slot", "add", "--label", label, "--passphrase-fd", "0", "--new-passphrase-fd", "0"];
    desk.fails(1, "no other slot has", &add("olga"), &[PASSPHRASE, THIRD]);
    desk.fails(1, "no slot was added", &add("new"), &[THIRD, THIRD]);
    let test = ["slot", "test", "--slot", "olga", "--passphrase-fd", "0"];
    assert!(text(&desk.fed(&test, &[OTHER]).stdout).contains("nothing was changed"));
    desk.fails(1, "slot list", &test, &[PASSPHRASE]);

    std::fs::write(desk.path("usb.key"), USB_KEY).unwrap();
    let file =
        ["slot", "add", "--label", "usb", "--type", "key-file", "--passphrase-fd", "0", "--new-key-file", "usb.key"];
    desk.fed(&file, &[PASSPHRASE]);
    desk.fails(2, "--new-key-file FILE", &["slot", "add", "--label", "k", "--type", "key-file"], &[]);
    // A file that is no key file is rejected before anything is asked for.
    for (bytes, word) in
        [(&[7_u8; 64][..], "can be guessed"), (b"short", "32 bytes to 64 KiB"), (&[7; 65_537], "32 bytes to 64 KiB")]
    {
        std::fs::write(desk.path("bad.key"), bytes).unwrap();
        desk.fails(2, word, &["slot", "add", "--label", "k", "--type", "key-file", "--new-key-file", "bad.key"], &[]);
    }
    assert!(desk.ok(&["slot", "test", "--with", "key-file=usb.key"]).contains("usb"));
    desk.fails(2, "none.key", &["slot", "test", "--with", "key-file=none.key"], &[]);
    let both = ["slot", "add", "--label", "both", "--type", "passphrase-and-key-file"];
    let both = [&both[..], &["--passphrase-fd", "0", "--new-passphrase-fd", "0", "--new-key-file", "usb.key"]].concat();
    desk.fed(&both, &[PASSPHRASE, THIRD]);
    let opened = desk.json(&["slot", "test", "--key-file", "usb.key", "--passphrase-fd", "0"], &[THIRD]);
    assert_eq!(opened["label"], "both");

    desk.fails(2, "add -y", &["slot", "remove", "olga"], &[]);
    desk.fails(4, "slot list", &["slot", "remove", "-y", "nobody"], &[]);
    let remove = ["slot", "remove", "olga", "-y", "--passphrase-fd", "0"];
    desk.fails(1, "nothing was removed", &remove, &[OTHER]);
    desk.fails(2, "--compromised", &["slot", "remove", "olga", "-y", "--drop-absent"], &[]);
    let removed = desk.fed(&remove, &[PASSPHRASE]);
    assert!(text(&removed.stderr).contains("old copy of the header"), "says what it does not do");
    let by_file = ["slot", "remove", "both", "-y", "--with", "key-file=usb.key"];
    desk.fed(&by_file, &[]);
    assert_eq!(desk.labels().len(), 2);
}

#[test]
fn printed_codes_and_shares_open_the_vault() {
    let mut desk = Desk::new();
    let add = ["slot", "add", "--passphrase-fd", "0", "--label"];
    let made = desk.fed(&[&add[..], &["safe", "--type", "recovery-code"]].concat(), &[PASSPHRASE]);
    let code = text(&made.stdout).trim().to_owned();
    assert!(code.starts_with("srr1-") && !code.contains('\n'), "data only");
    assert!(text(&made.stderr).contains("slot test --with recovery-code"));
    desk.fails(2, "--threshold 2 --total 3", &[&add[..], &["board", "--type", "shares"]].concat(), &[PASSPHRASE]);
    let board = [&add[..], &["board", "--type", "shares", "--threshold", "2", "--total", "3"]].concat();
    let made = desk.json(&board, &[PASSPHRASE]);
    let shares: Vec<&str> = made["shares"].as_array().unwrap().iter().map(|share| share.as_str().unwrap()).collect();
    assert_eq!(shares.len(), 3);

    let try_code = ["slot", "test", "--with", "recovery-code", "--passphrase-fd", "0"];
    assert!(text(&desk.fed(&try_code, &[&code]).stdout).contains("safe"));
    desk.fails(1, "", &try_code, &[&code.replace(&code[6..8], "00")]);
    let try_shares = ["slot", "test", "--with", "shares", "--passphrase-fd", "0"];
    let tried = desk.fed(&try_shares, &[shares[2], shares[0]]);
    assert!(text(&tried.stdout).contains("board") && text(&tried.stderr).contains("1 of 2 shares"));
    desk.fails(1, "share 2: share 3 was given twice", &try_shares, &[shares[2], shares[2]]);
    desk.fails(1, "share 1: this is not a share", &try_shares, &[OTHER]);
    desk.fails(2, "no further share", &try_shares, &[shares[2]]);

    desk.ok(&["seal", "-y"]);
    assert!(text(&desk.fed(&["unseal", "--recovery-code", "--fd", "0"], &[&code]).stdout).contains("unsealed"));
    desk.again(false);
    let first = desk.json(&["unseal", "--shares", "--fd", "0"], &[shares[0]]);
    assert_eq!((first["progress"].as_u64(), first["needed"].as_u64()), (Some(1), Some(2)));
    assert!(desk.ok(&["unseal", "--reset"]).contains("forgotten"));
    let again = desk.fed(&["unseal", "--fd", "0"], &[shares[1]]);
    assert!(text(&again.stdout).contains("1 of 2 shares"));
    desk.fails(1, "still sealed", &["unseal", "--fd", "0"], &[shares[1]]);
    assert!(text(&desk.fed(&["unseal", "--fd", "0"], &[shares[0]]).stdout).contains("unsealed"));
}

#[test]
fn a_share_set_is_changed_in_two_steps() {
    let mut desk = Desk::new();
    let add = ["slot", "add", "--passphrase-fd", "0", "--label", "board", "--type", "shares"];
    let made = desk.json(&[&add[..], &["--threshold", "2", "--total", "3"]].concat(), &[PASSPHRASE]);
    let share = |made: &serde_json::Value, at: usize| made["shares"][at].as_str().unwrap().to_owned();
    let old = [share(&made, 0), share(&made, 1)];
    let old: Vec<&str> = old.iter().map(String::as_str).collect();
    let change = ["slot", "change", "--slot", "board", "--passphrase-fd", "0", "--threshold", "2", "--total", "2"];
    let first = desk.fed(&change, &old);
    let said = text(&first.stderr);
    assert!(said.contains("continue, now or later, with: strongroom slot change --slot 2"), "{said}");
    let printed = text(&first.stdout);
    let new: Vec<&str> = printed.lines().collect();
    assert!(new.len() == 2 && new.iter().all(|line| line.starts_with("srs1-")), "shares alone: {printed}");
    assert!(desk.ok(&["slot", "list"]).contains("NEW SHARES NOT CONFIRMED, slot 1 still opens the vault"));

    // Cut off here: both open, and the same command goes on with the new shares, whichever slot it names.
    desk.again(true);
    desk.fed(&["unseal", "--shares", "--fd", "0"], &new);
    let test = ["slot", "test", "--with", "shares", "--passphrase-fd", "0"];
    assert!(text(&desk.fed(&test, &old).stdout).contains("slot 1 (board"));
    desk.fails(1, "older set", &change, &old);
    desk.fails(1, "its new set", &["slot", "remove", "board", "-y", "--passphrase-fd", "0"], &[PASSPHRASE]);
    assert_eq!(desk.labels().len(), 3);
    let second = desk.fed(&["slot", "change", "--slot", "board", "--passphrase-fd", "0"], &new);
    assert!(text(&second.stdout).contains("slot 2 (board, shares) changed"));
    assert!(text(&second.stderr).contains("destroy the old shares"));
    assert_eq!(desk.labels().len(), 2);
    desk.fails(1, "older set", &test, &old);

    // A person does both in one run.
    let said = desk.at_a_terminal("slot change --slot board --threshold 2 --total 2", &new);
    assert!(said.contains("slot 3 (board, shares) changed; slot 2 (board, shares) was removed"), "{said}");
    desk.fails(1, "older set", &test, &new);
}

#[test]
fn a_key_file_unseals() {
    let desk = Desk::new();
    std::fs::write(desk.path("usb.key"), USB_KEY).unwrap();
    let file =
        ["slot", "add", "--label", "usb", "--type", "key-file", "--passphrase-fd", "0", "--new-key-file", "usb.key"];
    desk.fed(&file, &[PASSPHRASE]);
    desk.ok(&["seal", "-y"]);
    assert!(desk.ok(&["unseal", "--key-file", "usb.key"]).contains("unsealed"));
    assert!(desk.ok(&["unseal", "--key-file", "usb.key"]).contains("already"));
}

#[test]
fn a_rekey_keeps_whoever_shows_a_secret_and_nobody_else_unasked() {
    let mut desk = Desk::new();
    desk.add("olga", OTHER);
    let hybrid =
        ["slot", "add", "--label", "away", "--type", "hybrid", "--passphrase-fd", "0", "--new-passphrase-fd", "0"];
    desk.fed(&hybrid, &[PASSPHRASE, THIRD]);
    desk.fails(2, "--passphrase-fd", &["rekey"], &[]);
    let two = ["rekey", "-y", "--passphrase-fd", "0", "--passphrase-fd", "0"];
    desk.fails(1, "--drop-absent", &two, &[PASSPHRASE, ""]);
    desk.fails(1, "slot list", &two, &[PASSPHRASE, THIRD]);
    desk.fails(2, "add -y", &["rekey", "--passphrase-fd", "0", "--passphrase-fd", "0"], &[PASSPHRASE, OTHER]);
    let done = desk.fed(&two, &[PASSPHRASE, OTHER]);
    let said = text(&done.stdout) + &text(&done.stderr);
    assert!(said.contains("holder absent") && said.contains("its holder was not needed"), "{said}");
    assert_eq!(desk.labels().len(), 3);
    let first = desk.labels()[0].clone();
    let keep = ["rekey", "-y", "--drop-absent", "--keep", &first, "--passphrase-fd", "0"];
    desk.fed(&keep, &[PASSPHRASE]);
    assert_eq!(desk.labels(), [first, "away".to_owned()]);
    desk.again(false);
    assert!(text(&desk.fed(&["unseal", "--fd", "0"], &[THIRD]).stdout).contains("unsealed"), "the absent holder");
}

#[test]
fn a_compromised_slot_goes_with_every_key_and_the_trail_says_so() {
    let mut desk = Desk::new();
    desk.add("mallory", OTHER);
    desk.fill(20);
    let old = desk.ok(&["audit", "public-key"]);
    std::fs::write(desk.path("audit.pub"), &old).unwrap();
    let remove = ["slot", "remove", "mallory", "--compromised", "-y", "--deep", "--passphrase-fd", "0"];
    desk.fails(1, "slot list", &remove, &[THIRD]);
    let done = desk.fed(&remove, &[PASSPHRASE]);
    let said = text(&done.stdout) + &text(&done.stderr);
    for expected in ["everything that was written before", "old backups", "proof: no record uses term 1", "audit key"] {
        assert!(said.contains(expected), "{expected:?} is not in: {said}");
    }
    assert!(desk.ok(&["rotation", "terms"]).contains("destroyed"));
    assert_eq!(desk.ok(&["get", "filled/7", "KEY"]), "value");
    assert_ne!(desk.ok(&["audit", "public-key"]), old);
    let log = desk.path("data/audit/audit.log");
    let log = log.to_str().unwrap();
    assert!(desk.ok(&["audit", "verify", log]).contains("genuine"), "with the old key and the new one");
    desk.ok(&["audit", "verify", "--public-key", "audit.pub", log]);
    desk.again(false);
    desk.fails(1, "still sealed", &["unseal", "--fd", "0"], &[OTHER]);
}

#[test]
fn a_rotation_of_the_data_key_is_waited_for_and_proved() {
    let desk = Desk::new();
    desk.fill(30);
    desk.fails(2, "rotate data-key", &["rotate", "app/prod"], &[]);
    desk.fails(1, "no rotation policy", &["rotate", "data-key", "KEY"], &[]);
    let done = desk.fed(&["rotate", "data-key", "--full-speed"], &[]);
    let said = text(&done.stdout);
    for expected in ["Safe now: the keys of term 1", "backups", "proof: no record uses term 1 at generation", "opened"]
    {
        assert!(said.contains(expected), "{expected:?} is not in: {said}");
    }
    let list = desk.json(&["rotation", "list"], &[]);
    let id = list["rotations"][0]["id"].as_str().unwrap();
    assert!(desk.ok(&["rotation", "show", id]).contains("data-key of term 1"));
    desk.fails(4, "rotation list", &["rotation", "show", "none"], &[]);
    desk.fails(1, "rotation show", &["rotation", "pause", id], &[]);
    let deep = desk.json(&["rotate", "data-key", "--deep", "--full-speed"], &[]);
    assert_eq!((deep["state"].as_str(), deep["proofs"][0]["term"].as_u64()), (Some("done"), Some(2)));
    assert_eq!(desk.ok(&["get", "filled/7", "KEY"]), "value");
}

#[test]
fn when_the_data_key_is_rotated_can_be_said() {
    let desk = Desk::new();
    assert!(desk.ok(&["rotation", "config"]).contains("90 days"));
    let changed = desk.ok(&["rotation", "config", "--interval", "12h", "--max-operations", "5000"]);
    assert!(changed.contains("12h0m0s, or after 5000 records"), "{changed}");
    desk.fails(1, "one hour", &["rotation", "config", "--interval", "60s"], &[]);
    desk.fails(2, "not a duration", &["rotation", "config", "--interval", "soon"], &[]);
    assert!(desk.ok(&["rotation", "config", "--enabled", "false"]).contains("not rotated"));
    assert_eq!(desk.json(&["rotation", "config"], &[])["interval"], 43_200, "what was not named stays");
}

#[test]
fn a_killed_rotation_is_paused_resumed_and_ends_by_itself() {
    let mut desk = Desk::new();
    desk.throttled(400);
    let started = desk.json(&["rotate", "data-key", "--no-wait"], &[]);
    let id = started["id"].as_str().unwrap();
    desk.ok(&["rotation", "pause", id]);
    let waited = desk.run(&["rotate", "data-key"], &[]);
    assert!(text(&waited.stderr).contains("rotation resume"), "{}", text(&waited.stderr));
    assert_eq!(waited.status.code(), Some(1), "paused is not done");
    desk.ok(&["rotation", "resume", id]);
    let mut waiting = desk.command(&["rotate", "data-key"]);
    let waiting = waiting.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(500));
    desk.again(true);
    let waiting = waiting.wait_with_output().unwrap();
    assert_eq!(waiting.status.code(), Some(6));
    assert!(text(&waiting.stderr).contains("continues by itself"), "{}", text(&waiting.stderr));
    desk.fed(&["unseal", "--fd", "0"], &[PASSPHRASE]);
    let shown = desk.json(&["rotation", "show", id], &[]);
    assert_ne!(shown["state"], "done", "it was killed in the middle");
    let deadline = Instant::now() + Duration::from_secs(20);
    while desk.json(&["rotation", "show", id], &[])["state"] != "done" {
        assert!(Instant::now() < deadline, "it does not end: {}", desk.ok(&["rotation", "show", id]));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(desk.ok(&["get", "filled/7", "KEY"]), "value");
    assert!(desk.ok(&["rotation", "terms"]).contains("destroyed"));
}

#[test]
fn an_aborted_rotation_leaves_the_older_term_to_the_next_one() {
    let mut desk = Desk::new();
    desk.throttled(400);
    let started = desk.json(&["rotate", "data-key", "--no-wait"], &[]);
    let id = started["id"].as_str().unwrap();
    desk.ok(&["rotation", "pause", id]);
    desk.fails(2, "add -y", &["rotation", "abort", id], &[]);
    desk.fails(4, "rotation list", &["rotation", "abort", "-y", "none"], &[]);
    desk.ok(&["rotation", "abort", "-y", id]);
    assert!(desk.ok(&["rotation", "terms"]).contains("decrypt-only"));
    desk.fails(1, "has ended", &["rotation", "resume", id], &[]);
    desk.ok(&["rotate", "data-key", "--full-speed"]);
    assert!(!desk.ok(&["rotation", "terms"]).contains("decrypt-only"));
}

#[test]
fn a_public_key_alone_finds_a_changed_line() {
    let desk = Desk::new();
    desk.fill(5);
    let key = desk.ok(&["audit", "public-key"]);
    let key = key.trim();
    std::fs::write(desk.path("audit.pub"), key).unwrap();
    std::fs::write(desk.path("audit.json"), desk.ok(&["--json", "audit", "public-key"])).unwrap();
    desk.ok(&["rotate", "data-key", "--full-speed"]); // ends with a checkpoint
    let log = desk.path("data/audit/audit.log");
    let name = log.to_str().unwrap();
    for given in [key, "audit.pub", "audit.json"] {
        let report = desk.json(&["audit", "verify", "--public-key", given, name], &[]);
        assert_eq!((&report["good"], &report["signed"]), (&true.into(), &true.into()), "{report}");
        assert!(report["checkpoints"].as_u64() > Some(0) && report["signed_to"].as_u64() > Some(0), "{report}");
    }
    let whole = text(&std::fs::read(&log).unwrap());
    let changed = whole.replacen("filled/3", "filled/4", 1);
    assert_ne!(whole, changed);
    std::fs::write(desk.path("copy.log"), changed).unwrap();
    desk.fails(1, "not intact", &["audit", "verify", "--public-key", "audit.pub", "copy.log"], &[]);
    desk.fails(2, "audit public-key >", &["audit", "verify", "--public-key", "none.pub", name], &[]);
    let (id, digits) = key.split_once(':').unwrap();
    let turned: String = digits.chars().rev().collect();
    desk.fails(1, "not intact", &["audit", "verify", "--public-key", &format!("{id}:{turned}"), name], &[]);
}

#[test]
fn values_are_rotated_by_their_policies() {
    let desk = Desk::new();
    desk.fed(&["set", "app/prod", "API_KEY", "-"], &["first"]);
    let none = desk.run(&["rotate", "app/prod", "API_KEY"], &[]);
    assert_eq!(none.status.code(), Some(1));
    assert!(text(&none.stderr).contains("no rotation policy"), "{}", text(&none.stderr));
    let bad = desk.run(&["rotation", "set", "app/prod", "API_KEY", "--generator", "dice"], &[]);
    assert!(text(&bad.stderr).contains("dice"), "{}", text(&bad.stderr));
    assert!(text(&bad.stderr).contains("possible values: password, token"), "{}", text(&bad.stderr));
    let typo = desk.run(&["rotation", "set", "app/prod", "NOKEY", "--generator", "token"], &[]);
    assert!(typo.status.success() && text(&typo.stderr).contains("has no key NOKEY"), "{}", text(&typo.stderr));
    desk.ok(&["rotation", "forget", "app/prod", "NOKEY"]);
    let soon = "2026-12-01";
    let set = [
        "rotation",
        "set",
        "app/prod",
        "API_KEY",
        "--generator",
        "token",
        "--every",
        "30d",
        "--grace",
        "1h",
        "--expires",
    ];
    desk.ok(&[&set[..], &[soon]].concat());
    let done = desk.ok(&["rotate", "app/prod", "API_KEY"]);
    assert!(done.contains("version 2 is current") && done.contains("version 1 stays valid until"), "{done}");
    let value = desk.ok(&["get", "app/prod", "API_KEY"]);
    assert!(value.trim().len() > 30 && value.trim() != "first");
    assert!(desk.ok(&["rotation", "list"]).contains("secret/app/prod API_KEY  promoted"));
    let header = desk.ok(&["rotation", "list"]);
    assert!(header.contains("id ") && header.contains("\nvalue ") && header.contains("next rotation"), "{header}");
    assert!(desk.ok(&["rotation", "list", "--help"]).contains("promoted        the new value is in use"));
    assert!(desk.ok(&["rotate", "--all", "app"]).contains("version 3 is current"));
    assert_eq!(desk.ok(&["rotate", "--due"]).trim(), "nothing to rotate");
    assert!(desk.ok(&["expiry"]).starts_with("secret/app/prod API_KEY expires in"));
    let values: serde_json::Value = serde_json::from_str(&desk.ok(&["--json", "rotation", "list"])).unwrap();
    assert_eq!(values["values"][0]["retired"], serde_json::json!([1]));
    desk.ok(&["rotation", "pause", "app/prod", "API_KEY"]);
    let paused = desk.run(&["rotate", "app/prod", "API_KEY"], &[]);
    assert!(text(&paused.stderr).contains("paused"), "{}", text(&paused.stderr));
    desk.ok(&["rotation", "resume", "app/prod", "API_KEY"]);
    desk.ok(&["rotation", "forget", "app/prod", "API_KEY"]);
    assert_eq!(desk.ok(&["expiry"]).trim(), "no value has an expiry date");
}

#[test]
fn a_shredded_secret_is_gone_with_the_key_that_sealed_it() {
    let desk = Desk::new();
    desk.fed(&["set", "app/old", "K", "-"], &["secret of the past"]);
    desk.fed(&["set", "app/new", "K", "-"], &["stays"]);
    assert_eq!(desk.run(&["shred", "app/missing", "-y"], &[]).status.code(), Some(4));
    let unsure = desk.run(&["shred", "app/old"], &[]);
    assert!(!unsure.status.success() && text(&unsure.stderr).contains("-y"), "{}", text(&unsure.stderr));
    let shredded = desk.ok(&["shred", "app/old", "-y", "--full-speed"]);
    assert!(shredded.contains("no key in this vault opens the old bytes"), "{shredded}");
    assert!(desk.ok(&["rotation", "terms"]).contains("destroyed"));
    assert_eq!(desk.run(&["get", "app/old", "K"], &[]).status.code(), Some(4));
    assert_eq!(desk.ok(&["get", "app/new", "K"]).trim(), "stays");
    desk.ok(&["shred", "app/new", "--destroy", "-y"]);
    assert_eq!(desk.run(&["get", "app/new", "K"], &[]).status.code(), Some(4));
}
