//! The engines: one behaviour for all, what they say of files that are locked, missing or damaged, and moving between them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::crash::open_again;
use strongroom::store::conformance::{self, Random, pattern};
use strongroom::store::faulty::{Failure, FaultyStore, Lie};
use strongroom::store::{self, Batch, MemoryStore, Store, StoreError, migrate};

const ENGINES: [&str; 2] = ["redb", "sled"];

fn seed() -> u64 {
    let seed = std::env::var("STRONGROOM_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(0x5eed);
    println!("STRONGROOM_SEED={seed}");
    seed
}

/// Runs the suite on an engine that lives in files, each store in a folder of its own.
fn conforms(engine: &str, batches: u32) {
    let root = tempfile::tempdir().unwrap();
    let current = std::cell::RefCell::new(PathBuf::new());
    let number = std::cell::Cell::new(0);
    let make = || {
        number.set(number.get() + 1);
        let folder = root.path().join(format!("{}", number.get()));
        std::fs::create_dir(&folder).unwrap();
        let store = store::open(engine, &folder, true).unwrap();
        *current.borrow_mut() = folder;
        store
    };
    let reopen = |store: Arc<dyn Store>| {
        assert_eq!(Arc::strong_count(&store), 1);
        drop(store);
        open_again(engine, &current.borrow()).unwrap()
    };
    conformance::run(&make, &reopen, seed(), batches);
}

#[test]
fn memory_conforms() {
    conformance::run(&|| Arc::new(MemoryStore::default()), &|store| store, seed(), 2_000);
}

#[test]
fn redb_conforms() {
    conforms("redb", 400);
}

#[test]
fn sled_conforms() {
    conforms("sled", 400);
}

#[test]
fn a_second_opener_is_told_that_the_folder_is_in_use() {
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let first = store::open(engine, folder.path(), true).unwrap();
        for create in [true, false] {
            assert!(matches!(store::open(engine, folder.path(), create), Err(StoreError::Locked)), "{engine}");
        }
        drop(first);
        open_again(engine, folder.path()).unwrap_or_else(|error| panic!("{engine}: {error}"));
    }
}

#[test]
fn a_missing_store_is_not_made_by_chance() {
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let Err(StoreError::Unavailable(why)) = store::open(engine, folder.path(), false) else { panic!("{engine}") };
        assert!(why.contains(&format!("strongroom.{engine}")), "{why}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{engine} left something behind");
    }
    assert!(matches!(store::open("rocks", Path::new("/"), false), Err(StoreError::Unavailable(_))));
}

fn filled(engine: &str, folder: &Path) {
    let store = store::open(engine, folder, true).unwrap();
    for n in 0..40_u64 {
        store
            .commit(Batch::default().put(format!("key {n}"), pattern(200 + usize::try_from(n).unwrap() * 50, n)))
            .unwrap();
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files_below(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// Opens and reads everything. Whatever comes back is a result: a panic would fail the test.
fn open_and_read(engine: &str, folder: &Path) -> Result<u64, StoreError> {
    let store = open_again(engine, folder)?;
    let mut records = 0;
    store.scan(b"", &mut |_, _| {
        records += 1;
        std::ops::ControlFlow::Continue(())
    })?;
    for n in 0..40 {
        store.get(format!("key {n}").as_bytes())?;
    }
    store.sequence()?;
    Ok(records)
}

#[test]
fn files_that_hold_garbage_are_reported_as_damaged() {
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        filled(engine, folder.path());
        assert_eq!(open_and_read(engine, folder.path()).unwrap(), 40);
        for file in files_below(folder.path()) {
            let length = usize::try_from(file.metadata().unwrap().len()).unwrap();
            if file.ends_with("strongroom.redb") || file.ends_with("db") {
                std::fs::write(&file, pattern(length, 7)).unwrap();
            }
        }
        let outcome = open_and_read(engine, folder.path());
        assert!(matches!(outcome, Err(StoreError::Corrupt(_))), "{engine}: {outcome:?}");
    }
}

#[test]
fn cut_and_altered_files_never_panic() {
    for engine in ENGINES {
        let original = tempfile::tempdir().unwrap();
        filled(engine, original.path());
        let mut random = Random::new(seed());
        let files = files_below(original.path());
        let (mut damaged, mut short) = (0, 0);
        for round in 0..60 {
            let copy = tempfile::tempdir().unwrap();
            let victim = usize::try_from(random.below(u32::try_from(files.len()).unwrap())).unwrap();
            for (n, file) in files.iter().enumerate() {
                let target = copy.path().join(file.strip_prefix(original.path()).unwrap());
                std::fs::create_dir_all(target.parent().unwrap()).unwrap();
                let mut bytes = std::fs::read(file).unwrap();
                if n == victim && !bytes.is_empty() {
                    let at = usize::try_from(random.bits() % u64::try_from(bytes.len()).unwrap()).unwrap();
                    match round % 3 {
                        0 => bytes.truncate(at),
                        1 => bytes[at] ^= 1 << random.below(8),
                        _ => {
                            let end = bytes.len().min(at + 512);
                            bytes[at..end].fill(0);
                        }
                    }
                }
                std::fs::write(target, bytes).unwrap();
            }
            if engine == "sled" {
                std::fs::create_dir_all(copy.path().join("strongroom.sled/blobs")).unwrap();
            }
            match open_and_read(engine, copy.path()) {
                Ok(records) if records < 40 => short += 1,
                Ok(_) => {}
                Err(StoreError::Corrupt(_) | StoreError::Unavailable(_)) => damaged += 1,
                Err(other) => panic!("{engine}, round {round}: {other}"),
            }
        }
        println!("{engine}: of 60 damages {damaged} were reported, {short} lost records without a word");
        assert!(damaged > 0, "{engine} noticed nothing");
    }
}

#[test]
fn half_of_a_sled_folder_is_not_taken_for_a_new_store() {
    for lost in ["conf", "db"] {
        let folder = tempfile::tempdir().unwrap();
        filled("sled", folder.path());
        std::fs::remove_file(folder.path().join("strongroom.sled").join(lost)).unwrap();
        assert!(matches!(store::open("sled", folder.path(), true), Err(StoreError::Corrupt(_))), "without {lost}");
        assert!(store::open("sled", folder.path(), false).is_err(), "without {lost}");
    }
}

#[test]
fn a_nearly_full_disk_refuses_a_commit_and_reads_go_on() {
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let store = store::open(engine, folder.path(), true).unwrap();
        let one = store.commit(Batch::default().put("a", "1")).unwrap();
        // More than a thousandth of the free space cannot be held in memory; so the batch names one huge value many times.
        let free = rustix_free(folder.path());
        let size = 64 * 1024 * 1024_u64;
        let times = free / 4 / size + 1;
        if times > 24 {
            println!("{engine}: {free} bytes free are too many to fill from memory; the limit itself has a unit test");
            continue;
        }
        let mut batch = Batch::default();
        for _ in 0..times {
            batch.put("a", vec![0; usize::try_from(size).unwrap()]);
        }
        assert!(matches!(store.commit(&batch), Err(StoreError::Full)), "{engine}");
        assert_eq!(store.sequence().unwrap(), one);
        assert_eq!(store.get(b"a").unwrap().unwrap().value, b"1");
        store.commit(Batch::default().put("a", "2")).unwrap();
    }
}

fn rustix_free(folder: &Path) -> u64 {
    let text = std::process::Command::new("df").args(["--output=avail", "-B1"]).arg(folder).output().unwrap();
    String::from_utf8_lossy(&text.stdout).lines().last().and_then(|line| line.trim().parse().ok()).unwrap_or(u64::MAX)
}

#[test]
fn records_move_between_engines_in_both_directions() {
    for (from, to) in [("redb", "sled"), ("sled", "redb")] {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        filled(from, old.path());
        let source = open_again(from, old.path()).unwrap();
        let target = store::open(to, new.path(), true).unwrap();
        let mut last = (0, 0);
        let report = migrate::copy(&*source, &*target, &mut |done, total| last = (done, total)).unwrap();
        assert_eq!((report.records, last), (40, (40, 40)), "{from} to {to}");
        drop(target);
        assert_eq!(open_and_read(to, new.path()).unwrap(), 40);
        let target = open_again(to, new.path()).unwrap();
        for n in 0..40_u64 {
            let key = format!("key {n}");
            assert!(
                target.get(key.as_bytes()).unwrap().unwrap().value
                    == pattern(200 + usize::try_from(n).unwrap() * 50, n)
            );
        }
        let again = migrate::copy(&*source, &*target, &mut |_, _| {});
        assert!(matches!(again, Err(StoreError::Conflict)), "{to} is not empty: {again:?}");
    }
}

fn many(records: u64) -> Arc<MemoryStore> {
    let source = Arc::new(MemoryStore::default());
    let mut batch = Batch::default();
    for n in 0..records {
        batch.put(format!("key {n}"), pattern(50, n));
    }
    source.commit(&batch).unwrap();
    source
}

#[test]
fn a_migration_that_stops_half_way_leaves_the_source_and_starts_again_in_a_new_folder() {
    let source = many(3_500);
    let before = everything(&*source);
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let target = FaultyStore::new(store::open(engine, folder.path(), true).unwrap());
        target.fail_commit(3, Failure::Before);
        assert!(matches!(migrate::copy(&*source, &target, &mut |_, _| {}), Err(StoreError::Sync(_))));
        drop(target);
        let half = open_again(engine, folder.path()).unwrap();
        assert_eq!(everything(&*half).len(), 2_000, "{engine} kept the batches before the failure");
        assert!(
            matches!(migrate::copy(&*source, &*half, &mut |_, _| {}), Err(StoreError::Conflict)),
            "half is not empty"
        );
        let fresh = tempfile::tempdir().unwrap();
        let target = store::open(engine, fresh.path(), true).unwrap();
        assert_eq!(migrate::copy(&*source, &*target, &mut |_, _| {}).unwrap().records, 3_500);
        assert!(everything(&*target) == before && everything(&*source) == before);
    }
}

#[test]
fn a_wrong_copy_is_noticed() {
    let source = many(1_200);
    let older = store::Stored { value: b"older".to_vec(), revision: store::CommitSeq(1) };
    for lie in [Lie::Altered, Lie::Absent, Lie::Old(older)] {
        let target = FaultyStore::new(Arc::new(MemoryStore::default()));
        target.lie("key 1100", lie.clone());
        let outcome = migrate::copy(&*source, &target, &mut |_, _| {});
        assert!(matches!(outcome, Err(StoreError::Corrupt(_))), "{lie:?}: {outcome:?}");
    }
    // A source that changes between copying and comparing is noticed as well.
    let source = FaultyStore::new(source);
    let outcome = migrate::copy(&source, &MemoryStore::default(), &mut |done, total| {
        if done == total {
            source.lie("key 7", Lie::Altered);
        }
    });
    assert!(matches!(outcome, Err(StoreError::Corrupt(_))), "{outcome:?}");
}

fn everything(store: &dyn Store) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut records = Vec::new();
    store
        .scan(b"", &mut |key, value| {
            records.push((key.to_vec(), value.to_vec()));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    records
}

/// Needs a small file system, named by `STRONGROOM_SMALL_DISK` (a tmpfs of 40 MiB does); without it, nothing is tested.
#[test]
fn a_disk_that_fills_up_refuses_and_opens_again() {
    let Some(root) = std::env::var_os("STRONGROOM_SMALL_DISK") else {
        println!("skipped: STRONGROOM_SMALL_DISK is not set");
        return;
    };
    for engine in ENGINES {
        let folder = tempfile::tempdir_in(&root).unwrap();
        let mut store = store::open(engine, folder.path(), true).unwrap();
        let mut written = 0_u64;
        for round in 0..3 {
            let end = loop {
                assert!(written < 100_000, "the disk is not small");
                match store.commit(Batch::default().put(format!("key {written}"), pattern(5_000, written))) {
                    Ok(_) => written += 1,
                    Err(error) => break error,
                }
            };
            assert!(matches!(end, StoreError::Full), "{engine}, round {round}: {end}");
            drop(store);
            store = open_again(engine, folder.path()).unwrap_or_else(|error| panic!("{engine}, while full: {error}"));
            for n in 0..written {
                let stored = store.get(format!("key {n}").as_bytes()).unwrap();
                assert!(stored.is_some_and(|stored| stored.value == pattern(5_000, n)), "{engine}: key {n}");
            }
        }
        println!("{engine}: full after {written} values of 5,000 bytes, opened again, nothing lost");
        assert!(written > 100, "{engine} was full at once");
    }
}
