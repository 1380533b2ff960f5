//! A rotation of the data key of a real vault: readers and writers beside it, the daemon killed again and again, and at
//! the end nothing lost, nothing under the old key, and the old key nowhere.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use strongroom::api::path::Path as SecretPath;
use strongroom::api::rotation::{RotateBody, RotationInfo};
use strongroom::audit::AuditKeys;
use strongroom::audit::verify::verify;
use strongroom::barrier::{Barrier, BarrierError, MountId, Parts, SecretMeta, VersionMeta};
use strongroom::client::{Client, ClientError};
use strongroom::crypto::random::SystemRandom;
use strongroom::keys::{Header, Unlock, WeakKdf};
use strongroom::store::sidecar::{DiskAnchor, DiskHeader};

use crate::support::process::{Init, PASSPHRASE, Running, client};

const FOLDER: u64 = 500;

/// Secrets and kills: 10^5 and 20 with `STRONGROOM_FULL`.
fn size() -> (u64, usize) {
    let set = |name| std::env::var_os(name).is_some();
    match (set("STRONGROOM_FULL"), set("STRONGROOM_FAST")) {
        (true, _) => (100_000, 20),
        (_, true) => (400, 3),
        _ => (4_000, 20),
    }
}

fn parts(data: &Path) -> Parts {
    Parts {
        store: crate::crash::open_again("redb", &data.join("store/redb")).unwrap(),
        header: Arc::new(DiskHeader::new(data)),
        anchor: Arc::new(DiskAnchor::new(&data.join("anchor"))),
        random: Arc::new(SystemRandom),
    }
}

fn path(n: u64) -> SecretPath {
    SecretPath::parse(&format!("kept/f{}/s{n}", n / FOLDER)).unwrap()
}

/// Puts secrets into a vault that nobody serves.
fn fill(data: &Path, secrets: u64) {
    let (barrier, _) = Barrier::unseal(parts(data), &Unlock::Passphrase(PASSPHRASE.as_bytes()), 1).unwrap();
    let entry = barrier.view(MountId::MOUNTS).entry("secret/").unwrap().unwrap();
    let record: serde_json::Value = serde_json::from_slice(entry.value.reveal()).unwrap();
    let hex = record["id"].as_str().unwrap();
    let mount = std::array::from_fn(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap());
    for first in (0..secrets).step_by(5_000) {
        let mut group = barrier.begin();
        group
            .run(|tx| {
                for n in first..secrets.min(first + 5_000) {
                    let version = VersionMeta { version: 1, created_ms: 1, deleted_ms: 0, destroyed: false };
                    let meta = SecretMeta { current: 1, versions: vec![version], ..SecretMeta::default() };
                    let value = format!(r#"{{"K":"value {n}"}}"#);
                    tx.put_secret(MountId(mount), path(n).as_str(), meta, Some((1, value.as_bytes())), 1)?;
                }
                Ok::<(), BarrierError>(())
            })
            .unwrap();
        let durable = group.store(barrier.audit_head(), 1).unwrap();
        durable.anchor().unwrap();
        durable.publish();
    }
}

/// What the readers and writers share with the one who kills.
struct Load {
    address: RwLock<String>,
    stop: AtomicBool,
    reads: AtomicU64,
    wrong: Mutex<Vec<String>>,
    /// Last acknowledged number of each writer.
    written: [AtomicU64; 2],
}

/// The daemon is away or sealed: no fault of the rotation.
fn away(error: &ClientError) -> bool {
    error.is_sealed() || !matches!(error, ClientError::Refused { .. } | ClientError::RolledBack { .. })
}

impl Load {
    /// Calls `turn` with a client of the daemon that runs now, until told to stop.
    fn with_client(&self, bundle: &Path, mut turn: impl FnMut(&Client) -> Result<(), ClientError>) {
        let mut connected: Option<(String, Client)> = None;
        while !self.stop.load(Ordering::SeqCst) {
            let address = self.address.read().unwrap().clone();
            if connected.as_ref().is_none_or(|(known, _)| *known != address) {
                connected = Some((address.clone(), client(&address, bundle)));
            }
            match turn(&connected.as_ref().unwrap().1) {
                Ok(()) => {}
                Err(error) if away(&error) => std::thread::sleep(Duration::from_millis(20)),
                Err(error) => self.wrong.lock().unwrap().push(error.to_string()),
            }
        }
    }

    fn read(&self, bundle: &Path, secrets: u64, seed: u64) {
        let mut n = seed;
        self.with_client(bundle, |client| {
            n = (n * 6_364_136 + 1_442_695) % secrets;
            let pairs = client.kv("secret").pairs(&path(n))?;
            let value = pairs.as_ref().and_then(|pairs| pairs.first()).map(|(_, value)| value.reveal().to_owned());
            if value.as_deref() != Some(format!("value {n}").as_str()) {
                self.wrong.lock().unwrap().push(format!("secret {n} reads {value:?}"));
            }
            self.reads.fetch_add(1, Ordering::SeqCst);
            Ok(())
        });
    }

    fn write(&self, bundle: &Path, writer: usize) {
        let path = SecretPath::parse(&format!("written/{writer}")).unwrap();
        let mut n = 0;
        self.with_client(bundle, |client| {
            n += 1;
            client.kv("secret").put_pairs(&path, &[("N", &n.to_string().into())])?;
            self.written[writer].store(n, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(2));
            Ok(())
        });
    }
}

fn start(data: &Path, bundle: &Path) -> (Running, Client) {
    let daemon = Running::start(data);
    let client = client(&daemon.address, bundle);
    client.sys().unseal(&PASSPHRASE.into()).unwrap();
    (daemon, client)
}

fn the_run(client: &Client) -> RotationInfo {
    client.rotation().rotations().unwrap().into_iter().find(|run| run.kind == "data-key").expect("one rotation")
}

#[test]
fn a_rotation_of_the_data_key_survives_kills_under_load_and_leaves_no_old_key() {
    let (secrets, kills) = size();
    let folder = tempfile::tempdir().unwrap();
    let data = Init::in_folder(folder.path()).run();
    let bundle = folder.path().join("operator");
    let old_key = {
        let bytes = std::fs::read(data.join("vault.hdr.0")).unwrap();
        let opened = Header::parse(&bytes).unwrap().open(&Unlock::Passphrase(PASSPHRASE.as_bytes()), WeakKdf::Allow);
        *opened.unwrap().keyring.term(1).unwrap().key.live().unwrap().reveal()
    };
    fill(&data, secrets);
    let public_key = {
        let (daemon, client) = start(&data, &bundle);
        let key = client.rotation().audit_public_key().unwrap();
        assert_eq!(daemon.stop(), Some(0));
        (key.id, std::array::from_fn(|at| u8::from_str_radix(&key.public_key[2 * at..2 * at + 2], 16).unwrap()))
    };

    let (daemon, client_) = start(&data, &bundle);
    let load = Load {
        address: RwLock::new(daemon.address.clone()),
        stop: AtomicBool::new(false),
        reads: AtomicU64::new(0),
        wrong: Mutex::default(),
        written: [AtomicU64::new(0), AtomicU64::new(0)],
    };
    client_.rotation().rotate(RotateBody::default()).unwrap();
    let half_way = folder.path().join("half-way");
    let mut serving = Some(daemon);
    let finished = std::thread::scope(|scope| {
        for seed in 1..3 {
            scope.spawn({
                let (load, bundle) = (&load, &bundle);
                move || load.read(bundle, secrets, seed)
            });
        }
        for writer in 0..2 {
            scope.spawn({
                let (load, bundle) = (&load, &bundle);
                move || load.write(bundle, writer)
            });
        }
        let mut killed_while_draining = 0;
        for kill in 0..kills {
            let pause_ms = 20 + (u64::try_from(kill).unwrap() * 7_919 + 31) % 180;
            std::thread::sleep(Duration::from_millis(pause_ms));
            drop(serving.take()); // SIGKILL
            if kill == 0 {
                copy(&data.join("store"), &half_way.join("store"));
                std::fs::copy(data.join("anchor"), half_way.join("anchor")).unwrap();
            }
            let (next, client) = start(&data, &bundle);
            *load.address.write().unwrap() = next.address.clone();
            killed_while_draining += usize::from(the_run(&client).state == "draining");
            serving = Some(next);
        }
        assert!(killed_while_draining > 0, "no kill came while records were sealed anew");
        let client = client(&serving.as_ref().unwrap().address, &bundle);
        let late = Instant::now() + Duration::from_secs(300);
        let run = loop {
            let run = the_run(&client);
            if run.state == "done" || Instant::now() > late {
                break run;
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        load.stop.store(true, Ordering::SeqCst);
        run
    });
    assert_eq!(finished.state, "done", "{finished:?}");
    assert!(finished.proofs[0].records >= 2 * secrets && finished.proofs[0].opened >= secrets, "{finished:?}");
    let wrong = load.wrong.lock().unwrap();
    assert!(
        wrong.is_empty(),
        "{} of {} reads and writes: {:?}",
        wrong.len(),
        load.reads.load(Ordering::SeqCst),
        &wrong[..1]
    );
    assert!(load.reads.load(Ordering::SeqCst) > 100);

    let daemon = serving.unwrap();
    let client = client(&daemon.address, &bundle);
    let terms = client.rotation().terms().unwrap();
    let states: Vec<(&str, u64)> = terms.iter().map(|term| (term.state.as_str(), term.live)).collect();
    assert_eq!((states[0], states[1].0), (("destroyed", 0), "active"));
    for writer in 0..2 {
        let path = SecretPath::parse(&format!("written/{writer}")).unwrap();
        let pairs = client.kv("secret").pairs(&path).unwrap().unwrap();
        let stored: u64 = pairs[0].1.reveal().parse().unwrap();
        let told = load.written[writer].load(Ordering::SeqCst);
        assert!(stored >= told, "writer {writer} was told {told}, the vault has {stored}");
    }
    // This user may not always look; where it may, the key must not be there.
    if let Some(hits) = crate::daemon::found_in_memory(daemon.id(), &old_key) {
        assert_eq!(hits, 0, "the destroyed key is in the daemon's memory");
    }
    assert_eq!(daemon.stop(), Some(0));

    // The log proves it to somebody who has one public key and no secret.
    let mut keys = AuditKeys::none();
    keys.add_public(public_key.0, public_key.1);
    let log = std::fs::read(data.join("audit/audit.log")).unwrap();
    let report = verify([("audit.log", log.as_slice())], &keys, None);
    assert!(report.is_good() && report.checkpoints > 0, "{:?}", report.findings.first());
    let proof = String::from_utf8_lossy(&log).lines().position(|line| line.contains("proof: term 1 drained")).unwrap();
    assert!(report.signed_to > u64::try_from(proof).unwrap(), "the proof stands under a checkpoint");

    // Store and anchor of the first kill, put back under the header that has forgotten the key.
    let now = folder.path().join("now");
    std::fs::rename(data.join("store"), &now).unwrap();
    copy(&half_way.join("store"), &data.join("store"));
    std::fs::copy(half_way.join("anchor"), data.join("anchor")).unwrap();
    match Barrier::unseal(parts(&data), &Unlock::Passphrase(PASSPHRASE.as_bytes()), 1).err().expect("refused") {
        BarrierError::TermDestroyed(1) => {}
        other => panic!("not refused by name: {other}"),
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
