//! The daemon as a process: a vault made by `init`, files compared byte for byte.

use std::io::Write;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The built daemon.
pub const DAEMON: &str = env!("CARGO_BIN_EXE_strongroomd");
/// The passphrase of every vault of these tests.
pub const PASSPHRASE: &str = "six random words for this test";

/// The daemon with `arguments`, a clean environment and no input.
pub fn daemon(arguments: &[&str]) -> Command {
    let mut command = Command::new(DAEMON);
    command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    command
}

/// What a process printed, for messages of assertions.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `strongroomd init` into `FOLDER/data` and `FOLDER/operator`, at the lowest cost that init accepts.
pub struct Init<'a> {
    folder: &'a Path,
    more: Vec<&'a str>,
}

impl<'a> Init<'a> {
    pub fn in_folder(folder: &'a Path) -> Self {
        Self { folder, more: Vec::new() }
    }

    pub fn with(mut self, more: &[&'a str]) -> Self {
        self.more.extend(more);
        self
    }

    pub fn output(self) -> Output {
        let (data, bundle) = (self.folder.join("data"), self.folder.join("operator"));
        let mut command = daemon(&["init", "--passphrase-fd", "0", "--kdf-time", "100"]);
        command.arg("--data").arg(data).arg("--bundle").arg(bundle).args(self.more);
        with_input(command, PASSPHRASE.as_bytes())
    }

    /// The data folder.
    pub fn run(self) -> PathBuf {
        let data = self.folder.join("data");
        let output = self.with(&["--listen", "127.0.0.1:0"]).output();
        assert!(output.status.success(), "{}", text(&output.stderr));
        data
    }
}

/// Blocks `signals` and no others in this thread: what it starts from now on inherits that, whatever the tests themselves were
/// started with.
pub fn block_only(signals: &[nix::sys::signal::Signal]) {
    let set: nix::sys::signal::SigSet = signals.iter().copied().collect();
    set.thread_set_mask().unwrap();
}

/// Runs `command` with `input` on its standard input.
pub fn with_input(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A process that refuses early closes its input; that is its right.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// Every file below `folder` with its bytes, but for the audit trail, which records each attempt.
pub fn snapshot(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(next).unwrap().flatten() {
            if entry.path().is_dir() {
                waiting.push(entry.path());
            } else if !entry.file_type().unwrap().is_socket() {
                found.push((entry.path(), std::fs::read(entry.path()).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// Fails with the names of the files that differ; their bytes are of no use in a message.
#[track_caller]
pub fn assert_unchanged(before: &[(PathBuf, Vec<u8>)], after: &[(PathBuf, Vec<u8>)], what: &str) {
    let names = |files: &[(PathBuf, Vec<u8>)]| files.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    assert_eq!(names(before), names(after), "{what}: files came or went");
    let changed: Vec<_> = before.iter().zip(after).filter(|(old, new)| old != new).map(|(old, _)| &old.0).collect();
    assert!(changed.is_empty(), "{what}: changed {changed:?}");
}

/// A running daemon; killed when dropped.
pub struct Running {
    child: std::process::Child,
    /// `https://127.0.0.1:PORT`
    pub address: String,
}

impl Running {
    /// Starts the daemon on `data` and waits until it serves.
    pub fn start(data: &Path) -> Self {
        use std::io::BufRead;
        let mut command = daemon(&["server", "--data", data.to_str().unwrap()]);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = std::io::BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("serving on ").map(|(_, address)| address.trim().to_owned()));
        // Its log must be read on, or the daemon would block on a full pipe.
        std::thread::spawn(move || for _ in lines.map_while(Result::ok) {});
        Self { child, address: address.expect("the daemon says where it serves") }
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM, and the exit code.
    pub fn stop(mut self) -> Option<i32> {
        strongroom::os::send_signal(self.child.id(), libc::SIGTERM);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client with the certificate in `bundle`.
pub fn client(address: &str, bundle: &Path) -> strongroom::client::Client {
    let read = |name: &str| std::fs::read(bundle.join(name)).unwrap();
    strongroom::client::Client::connect(strongroom::client::Settings {
        addr: address.to_owned(),
        ca_pem: read("ca.pem"),
        cert_pem: read("cert.pem"),
        key_pem: strongroom::api::secret::SecretText::from_utf8_lossy(read("key.pem")),
        timeout: std::time::Duration::from_secs(30),
    })
    .unwrap()
}

/// Unseals the vault in `FOLDER/data` and writes `count` secrets, through the operator's bundle in `FOLDER/operator`.
pub fn write_some_secrets(data: &Path, folder: &Path, count: usize) {
    let daemon = Running::start(data);
    let client = client(&daemon.address, &folder.join("operator"));
    client.sys().unseal(&PASSPHRASE.into()).unwrap();
    for number in 0..count {
        let path = strongroom::api::path::Path::parse(&format!("written/{number}")).unwrap();
        client.kv("secret").put_pairs(&path, &[("KEY", &"value".into())]).unwrap();
    }
    assert_eq!(daemon.stop(), Some(0));
}
