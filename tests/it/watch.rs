//! `run --watch` against a real daemon: when a program is started again, told, left alone, and what it and its supervisor
//! leave behind.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use strongroom::api::kv::MetadataUpdate;
use strongroom::api::path::Path as SecretPath;
use strongroom::client::Client;
use strongroom::os::send_signal;

use crate::support::process::{DAEMON, Init, PASSPHRASE, Running, block_only, client, text};

/// Longest wait for anything; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(40);

/// An unsealed vault at a port that it keeps, with `app/prod` holding `KEY=one`.
struct Bench {
    folder: tempfile::TempDir,
    address: String,
    running: Option<Running>,
}

impl Bench {
    fn new() -> Self {
        block_only(&[]);
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let listen = format!("127.0.0.1:{port}");
        let output = Init::in_folder(folder.path()).with(&["--listen", &listen]).output();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let mut bench = Self { folder, address: format!("https://{listen}"), running: None };
        bench.open();
        bench.set("one");
        bench
    }

    fn open(&mut self) {
        self.running = Some(Running::start(&self.path("data")));
        self.client().sys().unseal(&PASSPHRASE.into()).unwrap();
    }

    fn close(&mut self) {
        assert_eq!(self.running.take().unwrap().stop(), Some(0));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn client(&self) -> Client {
        client(&self.address, &self.path("operator"))
    }

    fn set(&self, value: &str) {
        self.client().kv("secret").put_pairs(&secret(), &[("KEY", &value.into())]).unwrap();
    }

    fn command(&self) -> Command {
        let mut command = Command::new(Path::new(DAEMON).with_file_name("strongroom"));
        command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", self.folder.path());
        command.env("STRONGROOM_ADDR", &self.address).env("STRONGROOM_CACERT", self.path("operator/ca.pem"));
        command.env("STRONGROOM_CLIENT_CERT", self.path("operator/cert.pem"));
        command.env("STRONGROOM_CLIENT_KEY", self.path("operator/key.pem"));
        command.current_dir(self.folder.path()).stdin(Stdio::null()).stderr(Stdio::piped());
        command
    }

    /// `run --watch MORE app/prod -- sh -c SCRIPT`, with the errors in the file `said`.
    fn watch(&self, more: &[&str], script: &str) -> Watched {
        let mut command = self.command();
        command.args(["run", "--watch"]).args(more).args(["app/prod", "--", "sh", "-c", script]);
        command.stderr(std::fs::File::create(self.path("said")).unwrap());
        Watched(command.spawn().unwrap())
    }

    fn lines(&self, name: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn wait_for(&self, name: &str, expected: &[&str]) {
        let begin = Instant::now();
        while self.lines(name) != expected {
            let said = self.lines("said");
            assert!(begin.elapsed() < PATIENCE, "{:?} instead of {expected:?}; said {said:?}", self.lines(name));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn secret() -> SecretPath {
    SecretPath::parse("app/prod").unwrap()
}

/// A supervisor; it and its program end with the test.
struct Watched(Child);

impl Watched {
    fn send(&self, signal: i32) {
        send_signal(self.0.id(), signal);
    }

    /// Exit code, or the signal as a negative number.
    fn end(&mut self) -> i32 {
        let status = self.0.wait().unwrap();
        status.code().or(status.signal().map(|signal| -signal)).unwrap()
    }

    fn children(&self) -> Vec<String> {
        let id = self.0.id();
        let list = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        list.split_whitespace().map(str::to_owned).collect()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// A program that notes its values and runs until it is told to end.
const NOTE: &str = "echo $KEY >> values; echo $$ > pid; while :; do sleep 0.05; done";

#[test]
fn a_changed_value_starts_the_program_again() {
    let bench = Bench::new();
    let mut watched = bench.watch(&[], NOTE);
    bench.wait_for("values", &["one"]);
    let first = watched.children();
    bench.set("two");
    bench.wait_for("values", &["one", "two"]);
    let second = watched.children();
    assert_eq!((first.len(), second.len()), (1, 1), "one program at a time, and no zombie");
    assert!(first != second && !is_alive(&first[0]));
    // Many at once: at most one start a second, and the last value is what stays.
    let begin = Instant::now();
    for value in ["a", "b", "c", "d", "e", "f", "g", "last"] {
        bench.set(value);
    }
    while bench.lines("values").last().map(String::as_str) != Some("last") {
        assert!(begin.elapsed() < PATIENCE, "{:?}", bench.lines("values"));
        std::thread::sleep(Duration::from_millis(20));
    }
    let starts = u64::try_from(bench.lines("values").len() - 2).unwrap();
    assert!(starts <= begin.elapsed().as_secs() + 2, "{starts} starts in {:?}", begin.elapsed());
    watched.send(libc::SIGTERM);
    assert_eq!(watched.end(), -libc::SIGTERM);
}

#[test]
fn a_program_that_does_not_end_in_time_is_killed_and_one_that_does_may_take_it() {
    let bench = Bench::new();
    let _watched = bench.watch(&["--grace", "1s"], &format!("trap '' TERM; {NOTE}"));
    bench.wait_for("values", &["one"]);
    bench.set("two");
    bench.wait_for("values", &["one", "two"]);
    drop(_watched);
    std::fs::remove_file(bench.path("values")).unwrap();
    let _watched = bench.watch(&[], &format!("trap 'sleep 1; echo saved >> values; exit 0' TERM; {NOTE}"));
    bench.wait_for("values", &["two"]);
    bench.set("three");
    bench.wait_for("values", &["two", "saved", "three"]);
}

#[test]
fn a_signal_can_be_all_that_a_change_leads_to() {
    let bench = Bench::new();
    let mut watched = bench.watch(&["--on-change", "signal=USR1"], &format!("trap 'echo told >> values' USR1; {NOTE}"));
    bench.wait_for("values", &["one"]);
    let before = watched.children();
    bench.set("two");
    bench.wait_for("values", &["one", "told"]);
    bench.set("one");
    bench.wait_for("values", &["one", "told", "told"]);
    assert_eq!(watched.children(), before);
    watched.send(libc::SIGTERM);
    assert_eq!(watched.end(), -libc::SIGTERM);
}

#[test]
fn a_program_that_ends_by_itself_is_not_started_again() {
    let bench = Bench::new();
    for (script, expected) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("exit 255", 255),
        ("kill -TERM $$", -libc::SIGTERM),
        ("kill -KILL $$", -libc::SIGKILL),
        ("kill -SEGV $$", -libc::SIGSEGV),
    ] {
        assert_eq!(bench.watch(&[], script).end(), expected, "{script}");
    }
    for (program, expected) in [("/nonexistent/program", 127), ("/etc/passwd", 126)] {
        let output = bench.command().args(["run", "--watch", "app/prod", "--", program]).output().unwrap();
        assert_eq!(output.status.code(), Some(expected), "{}", text(&output.stderr));
        assert!(text(&output.stderr).contains(program));
    }
    let output = bench.command().args(["run", "--grace", "1s", "app/prod", "--", "true"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "--grace without --watch");
}

#[test]
fn the_program_gets_its_own_arguments_and_environment_and_the_signals_that_came_with_the_command() {
    let bench = Bench::new();
    // The shell itself reads its mask, and first: some shells empty theirs once they have waited for a child.
    let script = "while read -r line; do case $line in SigBlk*) mask=$line;; esac; done < /proc/self/status; \
                  tr '\\0' ' ' < /proc/$$/cmdline > seen; env | grep -c STRONGROOM_ >> seen; echo \"$mask\" >> seen";
    // Taken by the supervisor: INT and TERM. Not taken: ALRM. What a program of the plain `run` gets is the measure.
    for blocked in [&[][..], &[Signal::SIGINT, Signal::SIGTERM, Signal::SIGALRM]] {
        block_only(blocked);
        let plain = bench.command().args(["run", "app/prod", "--", "grep", "SigBlk", "/proc/self/status"]).output();
        let plain = text(&plain.unwrap().stdout);
        assert_eq!(
            plain.trim_end(),
            if blocked.is_empty() { "SigBlk:\t0000000000000000" } else { "SigBlk:\t0000000000006002" }
        );
        assert_eq!(bench.watch(&[], script).end(), 0);
        assert_eq!(bench.lines("seen"), [format!("sh -c {script} 0"), plain.trim_end().to_owned()]);
    }
}

#[test]
fn the_program_dies_with_its_supervisor() {
    let bench = Bench::new();
    // The supervisor dies while the program is still a stage, or just is itself, or has settled.
    for pause in [0, 0, 0, 2, 500] {
        let mut watched = bench.watch(&[], &format!("trap '' TERM HUP INT; {NOTE}"));
        while watched.children().is_empty() {
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_millis(pause));
        let pid = watched.children().remove(0);
        watched.0.kill().unwrap();
        assert_eq!(watched.end(), -libc::SIGKILL);
        let begin = Instant::now();
        while is_alive(&pid) {
            if begin.elapsed() > Duration::from_secs(10) {
                send_signal(pid.parse().unwrap(), libc::SIGKILL);
                panic!("{pid} outlived its supervisor");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

#[test]
fn signals_reach_the_program_and_its_clean_up_is_waited_for() {
    let bench = Bench::new();
    let script = "for s in HUP INT QUIT USR1 USR2 WINCH; do trap \"echo $s >> values\" $s; done
        trap 'sleep 1; echo TERM >> values; exit 9' TERM
        echo ready >> values; while :; do sleep 0.05; done";
    let mut watched = bench.watch(&[], script);
    let mut expected = vec!["ready"];
    bench.wait_for("values", &expected);
    for (name, number) in [
        ("HUP", libc::SIGHUP),
        ("INT", libc::SIGINT),
        ("QUIT", libc::SIGQUIT),
        ("USR1", libc::SIGUSR1),
        ("USR2", libc::SIGUSR2),
        ("WINCH", libc::SIGWINCH),
    ] {
        watched.send(number);
        expected.push(name);
        bench.wait_for("values", &expected);
    }
    watched.send(libc::SIGTERM);
    bench.set("two"); // no reason to bring back who was asked to end
    assert_eq!(watched.end(), 9);
    expected.push("TERM");
    bench.wait_for("values", &expected);
}

#[test]
fn a_terminal_interrupts_the_program_once_and_its_shell_stops_and_continues_it() {
    let bench = Bench::new();
    let script = "trap 'echo INT >> values' INT; echo ready >> values; while :; do sleep 0.05; done";
    std::fs::write(bench.path("script"), script).unwrap();
    let mut command = Command::new("script");
    command.args(["-qefc", "bash --norc -i", "/dev/null"]).current_dir(bench.folder.path());
    for (name, value) in bench.command().get_envs() {
        command.env(name, value.unwrap());
    }
    let mut terminal = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut keyboard = terminal.stdin.take().unwrap();
    let tool = Path::new(DAEMON).with_file_name("strongroom");
    writeln!(keyboard, "{} run --watch app/prod -- sh ./script", tool.display()).unwrap();
    bench.wait_for("values", &["ready"]);
    keyboard.write_all(b"\x03").unwrap();
    bench.wait_for("values", &["ready", "INT"]);
    std::thread::sleep(Duration::from_millis(500));
    // The shell reads its next line only when the whole job has stopped. A person whose key came while nobody listened
    // (a busy machine) presses it again; the terminal throws away what was typed before.
    for _ in 0..12 {
        keyboard.write_all(b"\x1a").unwrap();
        std::thread::sleep(Duration::from_millis(700));
        keyboard.write_all(b"echo stopped >> values; fg\n").unwrap();
        let pressed = Instant::now();
        while bench.lines("values").len() < 3 && pressed.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(20));
        }
        if bench.lines("values").len() >= 3 {
            break;
        }
    }
    bench.wait_for("values", &["ready", "INT", "stopped"]);
    std::thread::sleep(Duration::from_millis(500));
    keyboard.write_all(b"\x03").unwrap();
    bench.wait_for("values", &["ready", "INT", "stopped", "INT"]);
    let _ = terminal.kill();
    let _ = terminal.wait();
}

#[test]
fn what_does_not_change_a_value_restarts_nothing() {
    let bench = Bench::new();
    let watched = bench.watch(&["--only", "KEY"], NOTE);
    bench.wait_for("values", &["one"]);
    std::thread::sleep(Duration::from_millis(1_500));
    let client = bench.client();
    let kv = client.kv("secret");
    let labels = [("owner".to_owned(), "team".to_owned())].into();
    kv.put_metadata(&secret(), &MetadataUpdate { custom_metadata: Some(labels), ..MetadataUpdate::default() }).unwrap();
    bench.set("one"); // a new version with the same value
    kv.put_pairs(&secret(), &[("UNUSED", &"x".into())]).unwrap(); // a key that the program does not get
    std::thread::sleep(Duration::from_millis(2_500));
    kv.put_pairs(&secret(), &[("KEY", &"two".into())]).unwrap();
    bench.wait_for("values", &["one", "two"]);
    assert_eq!(bench.lines("said").len(), 1, "{:?}", bench.lines("said"));
    drop(watched);
}

#[test]
fn values_that_are_gone_leave_the_program_alone() {
    let bench = Bench::new();
    let watched = bench.watch(&[], NOTE);
    bench.wait_for("values", &["one"]);
    let before = watched.children();
    let client = bench.client();
    client.kv("secret").delete(&secret()).unwrap();
    let gone = "strongroom: there is no secret app/prod in secret/ (or its newest version is deleted); \
                the program keeps the values it has";
    bench.wait_for("said", &[gone]);
    bench.set("one");
    bench.wait_for("said", &[gone, "strongroom: the vault answers again"]);
    assert_eq!(watched.children(), before);
    bench.set("two");
    bench.wait_for("values", &["one", "two"]);
}

#[test]
fn a_vault_that_is_restarted_disturbs_nobody_and_its_changes_count() {
    let mut bench = Bench::new();
    let watched = bench.watch(&[], NOTE);
    bench.wait_for("values", &["one"]);
    let before = watched.children();
    bench.close();
    let begin = Instant::now();
    while bench.lines("said").is_empty() {
        assert!(begin.elapsed() < PATIENCE, "nothing was said");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(watched.children(), before, "it keeps running");
    bench.open();
    bench.set("two");
    bench.wait_for("values", &["one", "two"]);
    let said = bench.lines("said").join("\n");
    assert_eq!(said.matches("the program keeps the values it has").count(), 1, "{said}");
}

#[test]
fn an_older_copy_changes_nothing_for_a_program_even_without_a_state_folder() {
    let mut bench = Bench::new();
    bench.close();
    let (data, old) = (bench.path("data"), bench.path("old"));
    crate::cli::copy(&data, &old);
    bench.open();
    bench.set("two");
    let mut command = bench.command();
    command.env_remove("HOME").args(["run", "--watch", "app/prod", "--", "sh", "-c"]);
    command.arg("echo $KEY >> seen; exec sleep 1000").stderr(std::fs::File::create(bench.path("said")).unwrap());
    let watched = Watched(command.spawn().unwrap());
    bench.wait_for("seen", &["two"]);
    bench.close();
    std::fs::remove_dir_all(&data).unwrap();
    crate::cli::copy(&old, &data);
    bench.open();
    let begin = Instant::now();
    let said = |words: &str| bench.lines("said").iter().filter(|line| line.contains(words)).count();
    while said("was rolled back to an older copy") == 0 && bench.lines("seen") == ["two"] {
        assert!(begin.elapsed() < PATIENCE, "{:?}", bench.lines("said"));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(bench.lines("seen"), ["two"], "the program keeps what it has");
    assert_eq!(said("neither XDG_STATE_HOME nor HOME is set"), 1, "{:?}", bench.lines("said"));
    drop(watched);
}
