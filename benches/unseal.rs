//! What a start costs: time and memory of opening a large store.
//!
//! `cargo bench --bench unseal [-- SECRETS]` (100,000 if not given) fills a store on redb in bulk, one version of 100 bytes
//! each, closes it and opens it again, once with the file's pages forgotten by the system and once with them in its cache, and
//! measures [`Barrier::unseal`] with a key file.
//! A passphrase adds its Argon2id guess, which does not depend on the size.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout, missing_docs)]

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use strongroom::barrier::{AuditHead, Barrier, BarrierError, MountId, Parts, SecretMeta, VersionMeta};
use strongroom::crypto::envelope::Suite;
use strongroom::crypto::password::WRITE_FLOOR;
use strongroom::crypto::random::SystemRandom;
use strongroom::keys::{Header, NewSlot, Unlock, VaultId};
use strongroom::store::sidecar::{DiskAnchor, DiskHeader};
use strongroom::store::{self, Store};

const MOUNT: MountId = MountId([9; 16]);
const KEY_FILE: &[u8] = &[0x5a; 64];
const VALUE: &[u8] = &[b'x'; 100];
const GROUP: u64 = 10_000;
const FOLDER: u64 = 1_000;
const ROUNDS: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = arguments.iter().find_map(|text| text.parse().ok());
    // Cargo passes `--bench`; under `cargo test --benches` it does not, and a small store shows that it runs.
    let usual = if arguments.iter().any(|text| text == "--bench") { 100_000 } else { 1_000 };
    let secrets: u64 = given.unwrap_or(usual);

    if let Some(dir) = arguments.iter().find_map(|text| text.strip_prefix("--fill=")) {
        return fill(Path::new(dir), secrets);
    }
    let dir = tempfile::Builder::new().prefix("unseal").tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let start = Instant::now();
    // In a process of its own, so that this one's memory is that of a start.
    let mut filler = std::process::Command::new(std::env::current_exe().unwrap());
    filler.arg(format!("--fill={}", dir.path().display())).arg(secrets.to_string());
    assert!(filler.status().unwrap().success());
    let file = dir.path().join("store/strongroom.redb");
    let mib = file.metadata().unwrap().len() >> 20;
    println!("{secrets} secrets written in {:.1} s, {mib} MiB on disk", start.elapsed().as_secs_f64());

    for (name, cold) in [("from the disk", true), ("from the page cache", false)] {
        let mut times: Vec<f64> =
            (0..ROUNDS).map(|round| measure(dir.path(), &file, cold, cold && round == 0)).collect();
        times.sort_by(f64::total_cmp);
        let (least, median) = (times[0], times[ROUNDS / 2]);
        let million = 1e6 / secrets as f64;
        println!("{name}: median {median:.3} s, least {least:.3} s; {:.2} s a million secrets", median * million);
    }
}

/// Seconds that one opening takes. The first one also tells its memory: later ones start from what the allocator kept.
fn measure(dir: &Path, file: &Path, cold: bool, tell: bool) -> f64 {
    if cold {
        forget(file);
    }
    let store = open(dir, false);
    let before = resident_kib();
    let start = Instant::now();
    let (barrier, report) = Barrier::unseal(parts(dir, store), &Unlock::KeyFile(KEY_FILE), 2).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    if tell {
        let grown = (resident_kib().saturating_sub(before)) * 1024;
        let per_record = grown / report.records;
        println!("{} records, {} MiB more in memory, {per_record} bytes a record", report.records, grown >> 20);
    }
    drop(barrier);
    seconds
}

fn parts(dir: &Path, store: Arc<dyn Store>) -> Parts {
    Parts {
        store,
        header: Arc::new(DiskHeader::new(dir)),
        anchor: Arc::new(DiskAnchor::new(&dir.join("anchor"))),
        random: Arc::new(SystemRandom),
    }
}

fn open(dir: &Path, create: bool) -> Arc<dyn Store> {
    store::open("redb", &dir.join("store"), create).unwrap()
}

/// Makes a vault in `dir` and fills it with `secrets` secrets.
fn fill(dir: &Path, secrets: u64) {
    std::fs::create_dir(dir.join("store")).unwrap();
    let slot = NewSlot { label: "file", secret: Unlock::KeyFile(KEY_FILE), params: WRITE_FLOOR };
    let (bytes, opened) = Header::create(VaultId([3; 16]), &[slot], &SystemRandom, 1, Suite::Aes256Gcm).unwrap();
    let barrier = Barrier::create(parts(dir, open(dir, true)), &bytes, opened, 1).unwrap();
    for first in (0..secrets).step_by(usize::try_from(GROUP).unwrap()) {
        let mut group = barrier.begin();
        group
            .run(|tx| {
                for n in first..secrets.min(first + GROUP) {
                    let version = VersionMeta { version: 1, created_ms: 1, deleted_ms: 0, destroyed: false };
                    let meta = SecretMeta { current: 1, versions: vec![version], ..SecretMeta::default() };
                    let path = format!("folder-{}/secret-{n}", n / FOLDER);
                    tx.put_secret(MOUNT, &path, meta, Some((1, VALUE)), 1)?;
                }
                Ok::<(), BarrierError>(())
            })
            .unwrap();
        let durable = group.store(AuditHead::default(), 1).unwrap();
        durable.anchor().unwrap();
        durable.publish();
    }
}

/// Drops the file from the page cache, so that opening reads the disk.
fn forget(file: &Path) {
    let file = File::open(file).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

/// Memory of this process that is in RAM, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}
