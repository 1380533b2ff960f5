//! The running daemon as its host sees it: readiness, audit rotation, limits, and where a secret must not be found.

use std::io::{Read, Seek, SeekFrom};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Stdio;

use strongroom::api::path::Path as SecretPath;

use crate::support::process::{Init, PASSPHRASE, Running, client, daemon, snapshot, text};

/// A value that occurs nowhere by accident.
const CANARY: &str = "canary-7f3a9c51e0b24d68-canary";

#[test]
fn the_service_manager_is_told_when_the_daemon_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let data = Init::in_folder(folder.path()).run();
    let socket = folder.path().join("notify");
    let receiver = UnixDatagram::bind(&socket).unwrap();
    receiver.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    let mut command = daemon(&["server", "--data", data.to_str().unwrap()]);
    let mut child = command.env("NOTIFY_SOCKET", &socket).stderr(Stdio::null()).spawn().unwrap();
    let mut buffer = [0; 64];
    let length = receiver.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"READY=1");
    strongroom::os::send_signal(child.id(), libc::SIGTERM);
    let length = receiver.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"STOPPING=1");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn init_says_whom_the_vault_can_be_reached_by() {
    let init = |more: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let made = Init::in_folder(folder.path()).with(more).output();
        assert!(made.status.success(), "{}", text(&made.stderr));
        let profile = std::fs::read_to_string(folder.path().join("operator/profile.toml")).unwrap();
        (text(&made.stdout), profile)
    };
    let name = ["--server-name", "vault.example.org"];
    let (said, profile) = init(&name);
    assert!(said.contains("listens on 127.0.0.1:8200 only"), "{said}");
    assert!(
        said.contains("listen = \"0.0.0.0:8200\" in ") && said.contains("addr = \"https://vault.example.org:8200\"")
    );
    assert!(said.contains("the trust domain is strongroom.internal"), "{said}");
    assert!(profile.contains("\"https://127.0.0.1:8200\""), "what works now: {profile}");
    let chosen = [&name[..], &["--listen", "0.0.0.0:8300", "--trust-domain", "example.org"]].concat();
    let (said, profile) = init(&chosen);
    assert!(!said.contains("note:"), "{said}");
    assert!(profile.contains("\"https://vault.example.org:8300\""), "{profile}");
    let (_, profile) = init(&["--listen", "0.0.0.0:8300"]);
    assert!(profile.contains("\"https://127.0.0.1:8300\""), "a name that the certificate has: {profile}");
}

#[test]
fn a_rotated_audit_file_is_reopened_with_the_chain_unbroken() {
    let folder = tempfile::tempdir().unwrap();
    let data = Init::in_folder(folder.path()).run();
    let running = Running::start(&data);
    let operator = client(&running.address, &folder.path().join("operator"));
    operator.sys().unseal(&PASSPHRASE.into()).unwrap();
    operator.kv("secret").list(&SecretPath::root()).unwrap();
    let (log, old) = (data.join("audit/audit.log"), data.join("audit/audit.log.1"));
    std::fs::rename(&log, &old).unwrap();
    strongroom::os::send_signal(running.id(), libc::SIGHUP);
    for _ in 0..200 {
        if log.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    operator.kv("secret").list(&SecretPath::root()).unwrap();
    assert_eq!(running.stop(), Some(0));

    let open = |path: &Path| (path.display().to_string(), std::fs::File::open(path).unwrap());
    let files = [open(&old), open(&log)];
    let keys = strongroom::audit::AuditKeys::none();
    let report = strongroom::audit::verify::verify(files.iter().map(|(name, file)| (name.as_str(), file)), &keys, None);
    assert!(report.is_good(), "{:?}", report.findings);
    assert_eq!(report.first, Some(1));
    assert!(std::fs::metadata(&log).unwrap().len() > 0);
    // A start after a rotation finds the chain in the newer file.
    let again = Running::start(&data);
    client(&again.address, &folder.path().join("operator")).sys().unseal(&PASSPHRASE.into()).unwrap();
}

#[test]
fn a_secret_is_found_neither_on_disk_nor_in_messages_nor_in_memory_after_sealing() {
    let folder = tempfile::tempdir().unwrap();
    let data = Init::in_folder(folder.path()).run();
    let mut command = daemon(&["server", "--data", data.to_str().unwrap()]);
    let log = folder.path().join("log");
    command.stderr(std::fs::File::create(&log).unwrap());
    let mut child = command.spawn().unwrap();
    let address = wait_for_address(&log);
    let path = SecretPath::parse("app/canary").unwrap();
    {
        let operator = client(&address, &folder.path().join("operator"));
        operator.sys().unseal(&PASSPHRASE.into()).unwrap();
        for round in 0..20 {
            operator
                .kv("secret")
                .put_pairs(&path, &[("KEY", &CANARY.into()), ("N", &format!("{round}").as_str().into())])
                .unwrap();
            let pairs = operator.kv("secret").pairs(&path).unwrap().unwrap();
            assert!(pairs.iter().any(|(_, value)| value.reveal() == CANARY));
        }
        assert!(found_in_memory(child.id(), b"app/canary") != Some(0), "the search finds what is there");
        operator.sys().seal().unwrap();
    }
    // The connection's own buffers go with the connection, which the daemon notices a moment later.
    let mut in_memory = None;
    for _ in 0..20 {
        std::thread::sleep(std::time::Duration::from_millis(250));
        in_memory = found_in_memory(child.id(), CANARY.as_bytes());
        if matches!(in_memory, None | Some(0)) {
            break;
        }
    }
    let passphrase = found_in_memory(child.id(), PASSPHRASE.as_bytes());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    strongroom::os::send_signal(child.id(), libc::SIGTERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));

    assert!(
        matches!(in_memory, None | Some(0)),
        "the value is in the memory of the sealed daemon: {in_memory:?} times"
    );
    assert!(matches!(passphrase, None | Some(0)), "the passphrase is in its memory: {passphrase:?} times");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    for (file, bytes) in snapshot(&data).into_iter().chain([(log.clone(), std::fs::read(&log).unwrap())]) {
        for needle in encodings(CANARY).iter().chain(&encodings(PASSPHRASE)) {
            let hit = bytes.windows(needle.len()).any(|window| window == needle);
            assert!(!hit, "{} holds a secret", file.display());
        }
        let name_outside_audit =
            !file.starts_with(data.join("audit")) && bytes.windows(10).any(|window| window == b"app/canary");
        assert!(!name_outside_audit, "{} holds a secret's name", file.display());
    }
}

/// A text as bytes, hexadecimal, base64 (three alignments are one here: the needle is the inner part) and UTF-16.
fn encodings(secret: &str) -> Vec<Vec<u8>> {
    use base64::Engine;
    let encoded = base64::engine::general_purpose::STANDARD.encode(secret);
    let hexadecimal = strongroom::api::hex::hex(secret.as_bytes());
    let wide = secret.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let inner = encoded.trim_end_matches('=');
    vec![secret.into(), hexadecimal.into(), inner[..inner.len() - 4].into(), wide]
}

fn wait_for_address(log: &Path) -> String {
    for _ in 0..500 {
        let text = text(&std::fs::read(log).unwrap());
        if let Some((_, rest)) = text.split_once("serving on ")
            && let Some((address, _)) = rest.split_once('\n')
        {
            return address.trim().to_owned();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    panic!("the daemon does not serve");
}

/// How often `needle` stands in the writable memory of a process; `None` where this user may not look.
pub fn found_in_memory(pid: u32, needle: &[u8]) -> Option<usize> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let mut memory = std::fs::File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut hits = 0;
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let (range, mode) = (fields.next()?, fields.next()?);
        if !mode.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-')?;
        let (from, to) = (u64::from_str_radix(from, 16).ok()?, u64::from_str_radix(to, 16).ok()?);
        let length = usize::try_from(to - from).ok().filter(|length| *length < 1 << 30)?;
        let mut bytes = vec![0; length];
        // Pages of memfd_secret cannot be read, which is their purpose.
        if memory.seek(SeekFrom::Start(from)).is_ok() && memory.read_exact(&mut bytes).is_ok() {
            hits += bytes.windows(needle.len()).filter(|window| window == &needle).count();
        }
    }
    Some(hits)
}

#[test]
fn a_vault_moves_between_engines_and_back_with_every_secret() {
    let folder = tempfile::tempdir().unwrap();
    let data = Init::in_folder(folder.path()).run();
    crate::support::process::write_some_secrets(&data, folder.path(), 5);
    let migrate =
        |to: &str| daemon(&["storage", "migrate", "--data", data.to_str().unwrap(), "--to", to]).output().unwrap();
    let config = data.join("strongroom.toml");
    let check_all = || {
        let running = Running::start(&data);
        let operator = client(&running.address, &folder.path().join("operator"));
        operator.sys().unseal(&PASSPHRASE.into()).unwrap();
        for number in 0..5 {
            let path = SecretPath::parse(&format!("written/{number}")).unwrap();
            let pairs = operator.kv("secret").pairs(&path).unwrap().unwrap();
            assert_eq!(pairs[0].1.reveal(), "value");
        }
        let locked = migrate("redb");
        assert!(text(&locked.stderr).contains("uses"), "{}", text(&locked.stderr));
        assert_eq!(running.stop(), Some(0));
    };
    let same = migrate("redb");
    assert!(!same.status.success() && text(&same.stderr).contains("nothing to do"), "{}", text(&same.stderr));
    let moved = migrate("sled");
    assert!(moved.status.success(), "{}", text(&moved.stderr));
    assert!(text(&moved.stdout).contains("storage.engine = \"sled\""), "{}", text(&moved.stdout));
    let twice = migrate("sled");
    assert!(!twice.status.success() && text(&twice.stderr).contains("already exists"), "{}", text(&twice.stderr));
    let settings = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, settings.replace("engine = \"redb\"", "engine = \"sled\"")).unwrap();
    check_all();
    // The copy that stayed behind is older than the anchor by now only if something was written; going back to it after
    // a write is refused like any other rollback.
    crate::support::process::write_some_secrets(&data, folder.path(), 1);
    std::fs::write(&config, settings).unwrap();
    let running = Running::start(&data);
    let refused = client(&running.address, &folder.path().join("operator")).sys().unseal(&PASSPHRASE.into());
    assert!(refused.is_err(), "an outdated store was opened");
}
