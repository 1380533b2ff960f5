//! Durable writes through the whole core, against what the disk gives bare.
//!
//! `cargo bench --bench commit` builds a vault in a folder on disk (redb, anchor, one audit file) and writes secrets
//! through [`Vault::handle`]: policy, audit, committer, engine, anchor. Beside it, in the same run and in turns, it writes
//! 4 KiB at a fixed offset of a preallocated file with one fdatasync each: the fastest durable write there is. A group of
//! writes costs four syncs, one after the other: audit requests, engine, anchor, audit replies. So one writer can reach a
//! quarter of the bare rate at most, and "per sync" multiplies by four to say how much of the disk the core uses.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, missing_docs)]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use strongroom::api::json::Limits;
use strongroom::api::path;
use strongroom::api::request::{Body, Operation};
use strongroom::api::spiffe::SpiffeId;
use strongroom::audit::FileDevice;
use strongroom::core::lifecycle::init::{InitPlan, InitPorts, initialise};
use strongroom::core::{Caller, Clock, Opener, Origin, Ports, Request, Settings, SystemClock, UnsealKey, Vault};
use strongroom::crypto::envelope::Suite;
use strongroom::crypto::password::WRITE_FLOOR;
use strongroom::crypto::random::SystemRandom;
use strongroom::store;
use strongroom::store::sidecar::{DiskAnchor, DiskHeader};
use zeroize::Zeroizing;

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);
const SYNCS_PER_GROUP: f64 = 4.0;
const DOMAIN: &str = "bench.example";
const KEY_FILE: &[u8] = &[0x5a; 64];
/// Secrets that each writer goes round: old versions fall away, so the store stays small.
const SECRETS: u64 = 32;
const VALUE_BYTES: usize = 100;

/// What one measurement gave.
#[derive(Default)]
struct Series {
    writes_per_s: Vec<f64>,
    groups_per_s: Vec<f64>,
    latencies_us: Vec<u64>,
}

fn main() {
    // Cargo passes `--bench`; under `cargo test --benches` it does not, and one short round shows that it runs.
    let (rounds, round) =
        if std::env::args().any(|arg| arg == "--bench") { (ROUNDS, ROUND) } else { (1, Duration::from_millis(100)) };
    let dir = tempfile::Builder::new().prefix("commit").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let vault = vault(dir.path());
    let (mut fixed, mut grown, mut one, mut many) = Default::default();
    for _ in 0..rounds {
        bare(&dir.path().join("fixed"), false, round, &mut fixed);
        through_core(&vault, 1, round, &mut one);
        bare(&dir.path().join("grown"), true, round, &mut grown);
        through_core(&vault, 16, round, &mut many);
    }
    vault.seal();

    let disk = median(&mut fixed.writes_per_s);
    println!("medians of {rounds} rounds of {round:?}, in turns");
    println!("bare, 4 KiB at a fixed offset + fdatasync: {disk:.0}/s, {}", percentiles(&mut fixed.latencies_us));
    let append = median(&mut grown.writes_per_s);
    println!("bare, 600 bytes appended + fdatasync:      {append:.0}/s, {}", percentiles(&mut grown.latencies_us));
    for (writers, mut series) in [(1, one), (16, many)] {
        let (writes, groups) = (median(&mut series.writes_per_s), median(&mut series.groups_per_s));
        let syncs = groups * SYNCS_PER_GROUP;
        println!(
            "core, {writers} writers: {writes:.0} writes/s, {}; {:.2} x bare per write, {:.2} x bare per sync; \
             {:.2} commits and {:.2} syncs a write",
            percentiles(&mut series.latencies_us),
            writes / disk,
            syncs / disk,
            groups / writes,
            syncs / writes,
        );
    }
}

/// Writes and syncs for `round`: over the same 4 KiB, or at the end of the file as a log does.
fn bare(path: &Path, append: bool, round: Duration, series: &mut Series) {
    let file = OpenOptions::new().create(true).append(append).write(true).truncate(false).open(path).unwrap();
    if !append {
        file.write_all_at(&vec![0; 1 << 20], 0).unwrap();
        file.sync_all().unwrap();
    }
    let block = [0xa5; 4096];
    let (start, mut done) = (Instant::now(), 0_u32);
    while start.elapsed() < round {
        let before = Instant::now();
        write_once(&file, append, &block);
        series.latencies_us.push(micros(before.elapsed()));
        done += 1;
    }
    series.writes_per_s.push(f64::from(done) / start.elapsed().as_secs_f64());
}

fn write_once(mut file: &File, append: bool, block: &[u8; 4096]) {
    if append {
        std::io::Write::write_all(&mut file, &block[..600]).unwrap();
    } else {
        file.write_all_at(block, 0).unwrap();
    }
    file.sync_data().unwrap();
}

/// Writes from `writers` threads for `round`, each with one write in flight.
fn through_core(vault: &Arc<Vault>, writers: u64, round: Duration, series: &mut Series) {
    let before = generation(vault);
    let (start, count) = (Instant::now(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..writers)
            .map(|writer| {
                let count = &count;
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    let caller = operator();
                    let mut latencies = Vec::new();
                    while start.elapsed() < round {
                        let turn = latencies.len() as u64;
                        let request = write_of(writer, turn);
                        let before = Instant::now();
                        runtime.block_on(vault.handle(&caller, request)).unwrap();
                        latencies.push(micros(before.elapsed()));
                    }
                    count.fetch_add(latencies.len() as u64, Ordering::Relaxed);
                    latencies
                })
            })
            .collect();
        for thread in threads {
            series.latencies_us.extend(thread.join().unwrap());
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    series.writes_per_s.push(count.into_inner() as f64 / seconds);
    series.groups_per_s.push((generation(vault) - before) as f64 / seconds);
}

/// Groups ever committed: each is one generation.
fn generation(vault: &Vault) -> u64 {
    vault.mark().unwrap().generation
}

fn write_of(writer: u64, turn: u64) -> Request {
    let path = path::Path::parse(&format!("secret/data/bench/w{writer}/s{}", turn % SECRETS)).unwrap();
    let body = format!(r#"{{"data":{{"value":"{}"}}}}"#, "x".repeat(VALUE_BYTES));
    let body = Body::from_json(Zeroizing::new(body.into_bytes()), &Limits::default()).unwrap();
    Request { operation: Operation::Write, path, body, wrap_ttl: None, if_none_match: None, seen: None }
}

fn operator() -> Caller {
    Caller {
        identity: Arc::new(SpiffeId::new(DOMAIN, "operator/bench").unwrap()),
        origin: Origin::Internal,
        fingerprint: [1; 32],
        not_before_ms: 0,
        not_after_ms: u64::MAX,
        remote: "127.0.0.1:1".to_owned(),
        request_id: "bench".to_owned(),
        bundle: None,
        token: None,
    }
}

/// A new vault in `dir`, unsealed.
fn vault(dir: &Path) -> Arc<Vault> {
    let folder = dir.join("store");
    std::fs::create_dir(&folder).unwrap();
    let store = store::open("redb", &folder, true).unwrap();
    let ports = InitPorts {
        store: Arc::clone(&store),
        header: Arc::new(DiskHeader::new(dir)),
        anchor: Arc::new(DiskAnchor::new(&dir.join("anchor"))),
        random: Arc::new(SystemRandom),
    };
    let plan = InitPlan {
        passphrase: None,
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
    let log = dir.join("audit.log");
    let ports = Ports {
        store,
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

fn micros(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_micros()).unwrap()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn percentiles(values: &mut [u64]) -> String {
    values.sort_unstable();
    let at = |share: usize| values[(values.len() - 1) * share / 100];
    format!("p50 {} us, p99 {} us", at(50), at(99))
}
