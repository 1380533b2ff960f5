//! What rotations cost: `cargo bench --bench rewrap [-- SECRETS]` (100,000 if not given), on redb with the real audit file.
//!
//! - Re-wrap at full speed: secrets a second of wall time and of processor time, drain only.
//! - Reads of two threads while a throttled rotation runs, against the same reads without one, in turns.
//! - A change of a passphrase against two runs of its Argon2id.
//! - A rotation of a value without a target against an ordinary write.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, missing_docs)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use strongroom::api::hex::unhex;
use strongroom::api::json::Limits;
use strongroom::api::path;
use strongroom::api::request::{Body, Operation};
use strongroom::api::secret::SecretText;
use strongroom::api::spiffe::SpiffeId;
use strongroom::audit::FileDevice;
use strongroom::barrier::{Barrier, BarrierError, MountId, Parts, SecretMeta, VersionMeta};
use strongroom::core::lifecycle::init::{InitPlan, InitPorts, initialise};
use strongroom::core::{Caller, Clock, Opener, Origin, Ports, Request, Settings, SystemClock, UnsealKey, Vault};
use strongroom::crypto::envelope::Suite;
use strongroom::crypto::password::{WRITE_FLOOR, argon2id};
use strongroom::crypto::random::SystemRandom;
use strongroom::keys::Unlock;
use strongroom::store::sidecar::{DiskAnchor, DiskHeader};
use strongroom::store::{self, Store};
use zeroize::Zeroizing;

const DOMAIN: &str = "example.org";
const KEY_FILE: &[u8] = &[0x5a; 64];
const PASSPHRASE: &str = "correct horse battery staple";
const FOLDER: u64 = 1_000;
const GROUP: u64 = 10_000;
const VALUE: &[u8] = br#"{"K":"a value of the usual length, forty"}"#;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let measured = arguments.iter().any(|text| text == "--bench");
    let secrets = arguments.iter().find_map(|text| text.parse().ok()).unwrap_or(if measured { 100_000 } else { 500 });
    let dir = tempfile::Builder::new().prefix("rewrap").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    create(dir.path());
    fill(dir.path(), secrets);
    let vault = open(dir.path());

    for round in 1..=3 {
        let (start, cpu) = (Instant::now(), cpu_seconds());
        let run = ask(&vault, Operation::Write, "sys/rotate", &json!({ "full_speed": true }));
        let id = run["id"].as_str().unwrap().to_owned();
        let drained = until(&vault, &id, |run| run["state"] != "draining");
        let (wall, cpu) = (start.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        let done = drained["done"].as_f64().unwrap();
        println!("re-wrap {round}: {done} records, {:.0}/s wall, {:.0}/s processor time", done / wall, done / cpu);
        until(&vault, &id, |run| run["state"] == "done");
        println!("  with proof and destruction: {:.2} s", start.elapsed().as_secs_f64());
    }

    let span = if measured { Duration::from_secs(4) } else { Duration::from_millis(100) };
    let mut quiet = Vec::new();
    let mut busy = Vec::new();
    for _ in 0..3 {
        quiet.extend(reads(&vault, secrets, span));
        let run = ask(&vault, Operation::Write, "sys/rotate", &json!({}));
        busy.extend(reads(&vault, secrets, span));
        let id = run["id"].as_str().unwrap().to_owned();
        let faster = json!({ "full_speed": true });
        if ask(&vault, Operation::Read, &format!("sys/strongroom/rotations/{id}"), &json!({}))["state"] != "done" {
            ask(&vault, Operation::Write, &format!("sys/strongroom/rotations/{id}/resume"), &faster);
        }
        until(&vault, &id, |run| run["state"] == "done");
    }
    let (before, during) = (percentile(&mut quiet, 99), percentile(&mut busy, 99));
    println!(
        "reads, p50 and p99: {} and {before} us quiet, {} and {during} us during a throttled rotation: {:.2} x",
        percentile(&mut quiet, 50),
        percentile(&mut busy, 50),
        during as f64 / before as f64
    );

    let mut over = Vec::new();
    for round in 0..5 {
        let start = Instant::now();
        for _ in 0..2 {
            argon2id(&WRITE_FLOOR, &[7; 32], PASSPHRASE.as_bytes()).unwrap();
        }
        let derivations = start.elapsed();
        let (old, new) = (format!("{PASSPHRASE}{round}"), format!("{PASSPHRASE}{}", round + 1));
        let body = json!({ "unlock": { "passphrase": old }, "new": { "type": "passphrase", "passphrase": new } });
        let start = Instant::now();
        ask(&vault, Operation::Write, "sys/strongroom/slots/change", &body);
        over.push((start.elapsed().as_secs_f64() - derivations.as_secs_f64()) * 1e3);
    }
    over.sort_by(f64::total_cmp);
    println!("a passphrase is changed in two derivations and {:.1} ms (median of 5)", over[2]);

    let policy = json!({ "key": "K", "policy": { "generator": { "type": "token" } } });
    ask(&vault, Operation::Write, "sys/strongroom/values/secret/folder-0/secret-0", &policy);
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..if measured { 200 } else { 3 } {
        let start = Instant::now();
        ask(
            &vault,
            Operation::Write,
            "sys/strongroom/values/secret/folder-0/secret-0",
            &json!({ "key": "K", "action": "rotate" }),
        );
        times[0].push(micros(start.elapsed()));
        let start = Instant::now();
        ask(&vault, Operation::Write, "secret/data/folder-0/secret-1", &json!({ "data": { "K": "v" } }));
        times[1].push(micros(start.elapsed()));
    }
    let [rotation, write] = times.map(|mut times| percentile(&mut times, 50));
    println!("a value is rotated in {rotation} us, an ordinary write takes {write} us (medians)");
    vault.seal();
}

/// Latencies of two threads that read for `span`, in microseconds.
fn reads(vault: &Arc<Vault>, secrets: u64, span: Duration) -> Vec<u64> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2u64)
            .map(|reader| {
                let stop = &stop;
                scope.spawn(move || {
                    let mut times = Vec::new();
                    let mut n = reader * 7_919;
                    while !stop.load(Ordering::Relaxed) {
                        n = (n * 6_364_136 + 1_442_695) % secrets;
                        let path = format!("secret/data/folder-{}/secret-{n}", n / FOLDER);
                        let start = Instant::now();
                        ask(vault, Operation::Read, &path, &Value::Null);
                        times.push(micros(start.elapsed()));
                        // One in a hundred of what a thread could do: latency is measured, not throughput.
                        std::thread::sleep(Duration::from_micros(500));
                    }
                    times
                })
            })
            .collect();
        std::thread::sleep(span);
        stop.store(true, Ordering::Relaxed);
        readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect()
    })
}

fn until(vault: &Vault, id: &str, good: impl Fn(&Value) -> bool) -> Value {
    loop {
        let run = ask(vault, Operation::Read, &format!("sys/strongroom/rotations/{id}"), &Value::Null);
        if good(&run) {
            return run;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn ask(vault: &Vault, operation: Operation, path: &str, body: &Value) -> Value {
    let text = if body.is_null() { String::new() } else { body.to_string() };
    let body = Body::from_json(Zeroizing::new(text.into_bytes()), &Limits::default()).unwrap();
    let path = path::Path::parse(path).unwrap();
    let request = Request { operation, path, body, wrap_ttl: None, if_none_match: None, seen: None };
    let caller = Caller {
        identity: Arc::new(SpiffeId::new(DOMAIN, "operator/bench").unwrap()),
        origin: Origin::Internal,
        fingerprint: [1; 32],
        not_before_ms: 0,
        not_after_ms: u64::MAX,
        remote: "127.0.0.1:1".to_owned(),
        request_id: "bench".to_owned(),
        bundle: None,
        token: None,
    };
    let reply = futures(vault.handle(&caller, request));
    reply.data.map_or(Value::Null, |data| serde_json::from_slice(&data).unwrap())
}

/// Runs a request to its end on this thread.
fn futures(
    answer: impl Future<Output = Result<strongroom::api::reply::Reply, strongroom::core::VaultError>>,
) -> strongroom::api::reply::Reply {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(answer)).unwrap()
}

fn create(dir: &Path) {
    let folder = dir.join("store");
    std::fs::create_dir(&folder).unwrap();
    let ports = InitPorts {
        store: store::open("redb", &folder, true).unwrap(),
        header: Arc::new(DiskHeader::new(dir)),
        anchor: Arc::new(DiskAnchor::new(&dir.join("anchor"))),
        random: Arc::new(SystemRandom),
    };
    let passphrase = SecretText::new(format!("{PASSPHRASE}0"));
    let plan = InitPlan {
        passphrase: Some(&passphrase),
        key_file: Some(KEY_FILE),
        params: WRITE_FLOOR,
        trust_domain: DOMAIN,
        operator: SpiffeId::new(DOMAIN, "operator/bench").unwrap(),
        server_names: vec!["localhost".to_owned()],
        suite: Suite::Aes256Gcm,
        server_life_s: 86_400,
        operator_life_s: 86_400,
    };
    initialise(ports, &plan, SystemClock.now_ms()).unwrap();
}

/// Puts `secrets` secrets below `secret/` in large groups.
fn fill(dir: &Path, secrets: u64) {
    let store: Arc<dyn Store> = store::open("redb", &dir.join("store"), false).unwrap();
    let parts = Parts {
        store,
        header: Arc::new(DiskHeader::new(dir)),
        anchor: Arc::new(DiskAnchor::new(&dir.join("anchor"))),
        random: Arc::new(SystemRandom),
    };
    let (barrier, _) = Barrier::unseal(parts, &Unlock::KeyFile(KEY_FILE), SystemClock.now_ms()).unwrap();
    let entry = barrier.view(MountId::MOUNTS).entry("secret/").unwrap().unwrap();
    let record: Value = serde_json::from_slice(entry.value.reveal()).unwrap();
    let id = unhex(record["id"].as_str().unwrap()).unwrap();
    for first in (0..secrets).step_by(usize::try_from(GROUP).unwrap()) {
        let mut group = barrier.begin();
        group
            .run(|tx| {
                for n in first..secrets.min(first + GROUP) {
                    let version = VersionMeta { version: 1, created_ms: 1, deleted_ms: 0, destroyed: false };
                    let meta = SecretMeta { current: 1, versions: vec![version], ..SecretMeta::default() };
                    let path = format!("folder-{}/secret-{n}", n / FOLDER);
                    tx.put_secret(MountId(id), &path, meta, Some((1, VALUE)), 1)?;
                }
                Ok::<(), BarrierError>(())
            })
            .unwrap();
        let durable = group.store(barrier.audit_head(), 1).unwrap();
        durable.anchor().unwrap();
        durable.publish();
    }
}

fn open(dir: &Path) -> Arc<Vault> {
    let log = dir.join("audit.log");
    let ports = Ports {
        store: store::open("redb", &dir.join("store"), false).unwrap(),
        header: Arc::new(DiskHeader::new(dir)),
        anchor: Arc::new(DiskAnchor::new(&dir.join("anchor"))),
        random: Arc::new(SystemRandom),
        clock: Arc::new(SystemClock),
        audit: Box::new(FileDevice::opener(log)),
        on_fatal: Box::new(|why| panic!("{why}")),
    };
    let vault = Vault::new(ports, Settings::new(DOMAIN));
    vault.unseal(Opener::Local, &UnsealKey::KeyFile(KEY_FILE)).unwrap();
    vault
}

/// Processor time of this process so far.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks as f64 / 100.0
}

fn micros(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_micros()).unwrap()
}

fn percentile(values: &mut [u64], share: usize) -> u64 {
    values.sort_unstable();
    values[(values.len() - 1) * share / 100]
}
