//! Durable commits and the scan of a start, per engine, beside the bare disk: `cargo bench --bench store`.
//! `STRONGROOM_BENCH_RECORDS` sets the size of the scanned store (2*10^5), `STRONGROOM_BENCH_DIR` the folder.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a measurement needs the clock")]

use std::fs::File;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use strongroom::store::conformance::pattern;
use strongroom::store::{self, Batch, Store};

const COMMITS: u64 = 500;
/// Bytes of a value; `STRONGROOM_BENCH_VALUE` changes that of the scanned store.
const VALUE_BYTES: usize = 512;

fn main() {
    let records = std::env::var("STRONGROOM_BENCH_RECORDS").ok().and_then(|n| n.parse().ok()).unwrap_or(200_000);
    let size = std::env::var("STRONGROOM_BENCH_VALUE").ok().and_then(|n| n.parse().ok()).unwrap_or(VALUE_BYTES);
    let root = std::env::var_os("STRONGROOM_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let folder = tempfile::tempdir_in(root).unwrap();
    bare_sync(folder.path());
    for engine in ["redb", "sled"] {
        let folder = tempfile::tempdir_in(folder.path()).unwrap();
        let store = store::open(engine, folder.path(), true).unwrap();
        commits(engine, &*store);
        fill(&*store, records, size);
        println!("{engine}: {} MiB on disk for {records} records of {size} bytes", bytes_below(folder.path()) >> 20);
        drop(store);
        let started = Instant::now();
        let store = store::open(engine, folder.path(), false).unwrap();
        println!("{engine}: opened in {:?}", started.elapsed());
        for _ in 0..2 {
            scan(engine, &*store);
        }
    }
}

/// The least that a durable write costs here: 4 KiB in place and one `fdatasync`.
fn bare_sync(folder: &Path) {
    let file = File::create(folder.join("bare")).unwrap();
    file.write_all_at(&[1; 4096], 0).unwrap();
    file.sync_all().unwrap();
    let times = (0..COMMITS).map(|n| {
        let started = Instant::now();
        file.write_all_at(&pattern(4096, n), 0).unwrap();
        file.sync_data().unwrap();
        started.elapsed()
    });
    report("bare fdatasync", times.collect());
}

fn commits(engine: &str, store: &dyn Store) {
    let times = (0..COMMITS).map(|n| {
        let mut batch = Batch::default();
        batch.put(format!("commit {n}"), pattern(VALUE_BYTES, n));
        let started = Instant::now();
        store.commit(&batch).unwrap();
        started.elapsed()
    });
    report(&format!("{engine}: durable put"), times.collect());
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!("{what}: p50 {:?}, p99 {:?}, n {}", at(50), at(99), times.len());
}

fn fill(store: &dyn Store, records: u64, size: usize) {
    let mut n = 0;
    while n < records {
        let mut batch = Batch::default();
        for _ in 0..2_000.min(records - n) {
            batch.put(pattern(17, n), pattern(size, n));
            n += 1;
        }
        store.commit(&batch).unwrap();
    }
}

fn scan(engine: &str, store: &dyn Store) {
    let mut count = 0_u64;
    let started = Instant::now();
    store
        .scan_heads(b"", &mut |_, _| {
            count += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    let heads = started.elapsed();
    let started = Instant::now();
    store
        .scan(b"", &mut |_, _| {
            count += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    println!("{engine}: scan of {} heads {heads:?}, of the values {:?}", count / 2, started.elapsed());
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|e| if e.path().is_dir() { bytes_below(&e.path()) } else { e.metadata().unwrap().len() }).sum()
}
