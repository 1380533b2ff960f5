//! A vault on disk with its daemon, which is killed and started again as often as a test likes.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use serde_json::{Value, json};
use strongroom::client::{Client, ClientError};
use strongroom::keys::{Header, Opened, Unlock, WeakKdf};

use crate::support::process::{self, Init, text};

/// What the daemon answered.
pub type Answer = (u16, Value);

/// Vault, operator's bundle and key file in one folder; the running daemon, if it runs.
pub struct House {
    pub data: PathBuf,
    pub bundle: PathBuf,
    pub key_file: PathBuf,
    log: PathBuf,
    child: Mutex<Option<Child>>,
    address: RwLock<String>,
    pub folder: tempfile::TempDir,
}

impl House {
    /// A new vault that opens by its key file when the daemon starts, and by the usual passphrase. `more` stands at the
    /// end of the configuration. Not started.
    pub fn new(engine: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key_file = folder.path().join("unseal.key");
        let data =
            Init::in_folder(folder.path()).with(&["--engine", engine, "--key-file", key_file.to_str().unwrap()]).run();
        let config = data.join("strongroom.toml");
        let settings = fs::read_to_string(&config).unwrap();
        let opened = format!("[unseal]\nkey_file = {:?}\n", key_file.to_str().unwrap());
        let with_key = settings.replacen("[unseal]\n", &opened, 1);
        assert_ne!(with_key, settings);
        fs::write(&config, format!("{with_key}\n{more}\n")).unwrap();
        let (log, bundle) = (folder.path().join("log"), folder.path().join("operator"));
        Self { data, bundle, key_file, log, child: Mutex::default(), address: RwLock::default(), folder }
    }

    /// A started one.
    pub fn open(engine: &str, more: &str) -> Self {
        let house = Self::new(engine, more);
        house.start();
        house
    }

    /// Starts the daemon and waits until it serves.
    pub fn start(&self) {
        let mut command = process::daemon(&["server", "--data", self.data.to_str().unwrap()]);
        let log = fs::OpenOptions::new().create(true).append(true).open(&self.log).unwrap();
        let before = self.log().len();
        let child = command.stderr(log).stdout(Stdio::null()).spawn().unwrap();
        *self.child.lock() = Some(child);
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let log = self.log();
            let fresh = log.get(before..).unwrap_or_default();
            if let Some((_, rest)) = fresh.split_once("serving on ")
                && let Some((address, _)) = rest.split_once('\n')
            {
                *self.address.write() = address.trim().to_owned();
                return;
            }
            assert!(Instant::now() < deadline, "the daemon does not serve: {fresh}");
            sleep(Duration::from_millis(5));
        }
    }

    /// Where it serves, `https://host:port`.
    pub fn address(&self) -> String {
        self.address.read().clone()
    }

    /// Everything that the daemons of this vault have logged.
    pub fn log(&self) -> String {
        text(&fs::read(&self.log).unwrap_or_default())
    }

    pub fn pid(&self) -> u32 {
        self.child.lock().as_ref().unwrap().id()
    }

    /// kill -9.
    pub fn kill(&self) {
        let mut child = self.child.lock().take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM; fails if the daemon does not end well.
    pub fn stop(&self) {
        let mut child = self.child.lock().take().unwrap();
        strongroom::os::send_signal(child.id(), libc::SIGTERM);
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }

    /// A new client as the operator.
    pub fn client(&self) -> Client {
        self.client_of(&self.bundle)
    }

    /// A new client with another certificate.
    pub fn client_of(&self, bundle: &Path) -> Client {
        process::client(&self.address.read().clone(), bundle)
    }

    /// Whether a client talks to the daemon that was started last.
    pub fn is_at(&self, client: &Client) -> bool {
        client.address() == self.address.read().trim_end_matches('/')
    }

    /// One request of a new client.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        ask(&self.client(), method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// A request that is granted; its data.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        let (status, reply) = self.ask("GET", path, &Value::Null);
        assert_eq!(status, 200, "{path}: {reply}");
        reply["data"].clone()
    }

    /// An order that is taken; its data.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Value {
        let (status, reply) = self.ask("POST", path, body);
        assert!(matches!(status, 200 | 204), "{path}: {status} {reply}");
        reply["data"].clone()
    }

    /// Takes over a certificate that came with an answer, and waits until the daemon shows one of the same authority.
    pub fn recertify(&self, certified: &Value, key_pem: &str) {
        let text = |field: &str| certified[field].as_str().unwrap_or_else(|| panic!("{field}: {certified}")).to_owned();
        fs::write(self.bundle.join("cert.pem"), text("certificate")).unwrap();
        fs::write(self.bundle.join("ca.pem"), text("ca")).unwrap();
        fs::write(self.bundle.join("key.pem"), key_pem).unwrap();
        let end = Instant::now() + Duration::from_secs(20);
        while ask(&self.client(), "GET", "sys/strongroom/ca", &Value::Null).is_err() {
            assert!(Instant::now() < end, "the daemon does not answer the new certificate");
            sleep(Duration::from_millis(100));
        }
    }

    /// The header file in force, opened.
    pub fn header(&self, unlock: &Unlock<'_>) -> Opened {
        opened(&self.data, unlock)
    }

    /// Bytes of the key file.
    pub fn key(&self) -> Vec<u8> {
        fs::read(&self.key_file).unwrap()
    }

    /// The key file as an order shows it.
    pub fn by_file(&self) -> Value {
        use base64::Engine as _;
        json!({ "key_file": base64::engine::general_purpose::STANDARD.encode(self.key()) })
    }

    /// Waits until no rotation of a key is under way; the last one.
    pub fn settle(&self) -> Value {
        let deadline = Instant::now() + Duration::from_secs(amount(60, 60, 900));
        loop {
            let runs = self.get("sys/strongroom/rotations")["rotations"].as_array().unwrap().clone();
            let open = runs.iter().any(|run| !matches!(run["state"].as_str(), Some("done" | "aborted")));
            let draining = self.term_states().iter().any(|state| state == "decrypt-only" || state == "compromised");
            if !open && !draining {
                return runs.last().cloned().unwrap_or_default();
            }
            let stuck = runs.iter().any(|run| run["state"] == "needs-operator");
            assert!(!stuck && Instant::now() < deadline, "a rotation does not end: {runs:?}");
            sleep(Duration::from_millis(20));
        }
    }

    /// States of the terms, oldest first.
    pub fn term_states(&self) -> Vec<String> {
        let terms = self.get("sys/strongroom/terms");
        terms["terms"].as_array().unwrap().iter().map(|term| term["state"].as_str().unwrap().to_owned()).collect()
    }

    /// The whole vault folder as it is now, beside it. The daemon is not running.
    pub fn copy(&self, name: &str) -> PathBuf {
        assert!(self.child.lock().is_none());
        let to = self.folder.path().join(name);
        copy(&self.data, &to);
        to
    }

    /// Why the vault stays sealed with `passphrase`, or `None` when it opens.
    pub fn refuses(&self, passphrase: &str) -> Option<String> {
        let (status, reply) = self.ask("POST", "sys/unseal", &json!({ "key": passphrase }));
        (status != 200).then(|| format!("{status} {reply}"))
    }

    /// Removes the key file from the configuration: the next start stays sealed.
    pub fn without_key_file(&self) {
        let config = self.data.join("strongroom.toml");
        let settings = fs::read_to_string(&config).unwrap();
        let kept: Vec<&str> = settings.lines().filter(|line| !line.starts_with("key_file =")).collect();
        fs::write(&config, kept.join("\n")).unwrap();
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.lock().take() {
            let _ended = child.kill();
            let _reaped = child.wait();
        }
        if std::thread::panicking() {
            println!("the daemon's log:\n{}", self.log());
        }
    }
}

/// Copies a folder with everything below it; what stood at `to` goes.
pub fn copy(from: &Path, to: &Path) {
    let _absent = fs::remove_dir_all(to);
    assert!(std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// The header of a vault's folder, opened in this process.
pub fn opened(data: &Path, unlock: &Unlock<'_>) -> Opened {
    Header::parse(&header_bytes(data)).unwrap().open(unlock, WeakKdf::Allow).unwrap()
}

/// Bytes of the first copy of the header that there is.
pub fn header_bytes(data: &Path) -> Vec<u8> {
    header_files(data).iter().map(|path| fs::read(path).unwrap()).next().unwrap()
}

/// Names of the header's copies.
pub fn header_files(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data).unwrap().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("vault.hdr")).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// One request. `Null` is no body.
pub fn ask(client: &Client, method: &str, path: &str, body: &Value) -> Result<Answer, ClientError> {
    let bytes = (!body.is_null()).then(|| body.to_string().into_bytes());
    let reply = client.request(method, path, bytes.as_deref())?;
    Ok((reply.status, serde_json::from_slice(&reply.body).unwrap_or_default()))
}

/// A number that the environment may set: less when the tests are to be fast, more when they are to be full.
pub fn amount(fast: u64, usual: u64, full: u64) -> u64 {
    match (std::env::var_os("STRONGROOM_FAST"), std::env::var_os("STRONGROOM_FULL")) {
        (_, Some(_)) => full,
        (Some(_), None) => fast,
        (None, None) => usual,
    }
}

/// How often `needle` stands in the readable, writable memory of a process, and whether all of it could be read.
pub fn in_memory(pid: u32, needle: &[u8]) -> (usize, bool) {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut memory = fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let (mut hits, mut whole) = (0, true);
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (range, mode) = (fields.next().unwrap(), fields.next().unwrap());
        if !mode.starts_with('r') || line.contains("[v") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        if memory.seek(SeekFrom::Start(from)).is_ok() && memory.read_exact(&mut bytes).is_ok() {
            hits += bytes.windows(needle.len()).filter(|window| window == &needle).count();
        } else {
            whole = false;
        }
    }
    (hits, whole)
}
