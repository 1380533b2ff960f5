//! What redb's quick repair costs at a commit and saves at a start after an unclean end: `cargo bench --bench repair`.
//! `STRONGROOM_BENCH_MIB` sets the size of the store (1,024), `STRONGROOM_BENCH_DIR` the folder.
//!
//! Two stores of one size and of the tables that `store::redb` has, one with and one without. Rounds of commits take
//! turns. Then each file is copied while it is open, which is what a kill leaves, and the copy is opened.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, missing_docs, reason = "a measurement needs the clock")]

use std::path::Path;
use std::time::{Duration, Instant};

use redb::{Database, Durability, ReadableDatabase, TableDefinition};

const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
const HEADS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("heads");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// As in `store::redb`.
const CACHE_BYTES: usize = 8 << 20;
const HEAD_BYTES: usize = 92;
/// Bytes of a value of the store, and of each of the three records that a write of a secret puts.
const FILLED: usize = 4_096;
const WRITTEN: usize = 512;
const ROUNDS: u64 = 5;

fn main() {
    let measured = std::env::args().any(|text| text == "--bench");
    let given = std::env::var("STRONGROOM_BENCH_MIB").ok().and_then(|n| n.parse::<u64>().ok());
    let mib = given.unwrap_or(if measured { 1_024 } else { 4 });
    let commits = if measured { 400 } else { 4 };
    let root = std::env::var_os("STRONGROOM_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let folder = tempfile::tempdir_in(root).unwrap();
    let stores = [false, true].map(|quick| {
        let path = folder.path().join(if quick { "quick" } else { "full" });
        let store = open(&path);
        fill(&store, mib, quick);
        (quick, path, store)
    });
    let mut at = 0;
    for round in 1..=ROUNDS {
        for (quick, _, store) in &stores {
            let (started, cpu) = (Instant::now(), cpu());
            for _ in 0..commits {
                at += 1;
                commit(store, *quick, (0..3).map(|n| scattered(at * 3 + n)), at, WRITTEN);
            }
            let (wall, cpu) = (started.elapsed(), cpu_since(cpu));
            let each = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(commits);
            println!(
                "round {round}, {}: {:.0} commits/s, {:.0} us wall and {:.0} us processor time a commit",
                name(*quick),
                f64::from(commits) / wall.as_secs_f64(),
                each(wall),
                each(cpu)
            );
        }
    }
    for round in 1..=3 {
        for (quick, path, _) in &stores {
            let copy = folder.path().join("copy");
            std::fs::copy(path, &copy).unwrap();
            let gib = std::fs::metadata(&copy).unwrap().len() as f64 / f64::from(1 << 30);
            let started = Instant::now();
            let unclean = open(&copy);
            let took = started.elapsed().as_secs_f64();
            println!("unclean start {round}, {}: {took:.3} s, {gib:.2} GiB, {:.2} s/GiB", name(*quick), took / gib);
            assert!(unclean.begin_read().unwrap().open_table(META).is_ok());
            drop(unclean);
            let started = Instant::now();
            drop(open(&copy));
            println!("clean start {round}, {}: {:.3} s with its end", name(*quick), started.elapsed().as_secs_f64());
            std::fs::remove_file(&copy).unwrap();
        }
    }
}

fn name(quick: bool) -> &'static str {
    if quick { "quick repair" } else { "full repair" }
}

fn open(path: &Path) -> Database {
    Database::builder().set_cache_size(CACHE_BYTES).create(path).unwrap()
}

fn fill(store: &Database, mib: u64, quick: bool) {
    let records = mib * (1 << 20) / 4_096 * 4 / 5;
    let mut n = 0;
    while n < records {
        let batch = 4_000.min(records - n);
        // In the order of the keys, which fills a large store in seconds.
        let keys = (n..n + batch).map(|n| {
            let mut key = [b'd'; 33];
            key[1..9].copy_from_slice(&(n << 44).to_be_bytes());
            key[9..17].copy_from_slice(&n.to_be_bytes());
            key
        });
        commit(store, quick, keys, n, FILLED);
        n += batch;
    }
}

/// Records under `keys` in one commit like that of the vault.
fn commit(store: &Database, quick: bool, keys: impl Iterator<Item = [u8; 33]>, sequence: u64, size: usize) {
    let mut transaction = store.begin_write().unwrap();
    transaction.set_durability(Durability::Immediate).unwrap();
    transaction.set_quick_repair(quick);
    {
        let mut rows = transaction.open_table(RECORDS).unwrap();
        let mut heads = transaction.open_table(HEADS).unwrap();
        let mut meta = transaction.open_table(META).unwrap();
        let value = vec![u8::try_from(sequence % 251).unwrap(); size];
        for key in keys {
            rows.insert(key.as_slice(), value.as_slice()).unwrap();
            heads.insert(key.as_slice(), &value[..HEAD_BYTES]).unwrap();
        }
        // The state record.
        rows.insert(b"s00".as_slice(), vec![7; 512].as_slice()).unwrap();
        heads.insert(b"s00".as_slice(), vec![7; HEAD_BYTES].as_slice()).unwrap();
        meta.insert("sequence", sequence).unwrap();
    }
    transaction.commit().unwrap();
}

/// A key of the usual length, anywhere in the tree: the vault's keys are hashes.
fn scattered(n: u64) -> [u8; 33] {
    let mut key = [b'd'; 33];
    let mut x = n.wrapping_add(1);
    for part in key[1..].chunks_mut(8) {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        part.copy_from_slice(&x.to_be_bytes());
    }
    key
}

/// User and system time of this process, in ticks of 10 ms.
fn cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

fn cpu_since(before: u64) -> Duration {
    Duration::from_millis((cpu() - before) * 10)
}
