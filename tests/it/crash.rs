//! Kills a process in the middle of its commits, many times over the same folder, and checks what is left.
//!
//! The test binary runs itself again as the victim. The victim commits numbered batches from four threads and writes one
//! line for each acknowledged one. After one kill or two the parent opens the store and compares it with the lines: what was
//! acknowledged is there and whole, what was not is whole or absent, and nothing else exists.
//!
//! A kill loses nothing that reached the kernel, so a missing sync does not show here; `syncs_before_it_acknowledges` and
//! the disk images of `store::journal` are for that.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use strongroom::store::conformance::{Random, pattern};
use strongroom::store::{self, Batch, Expect, Op, Store, StoreError};

const CHILD: &str = "STRONGROOM_CRASH_CHILD";
const CHILD_WRITERS: &str = "STRONGROOM_CRASH_CHILD_WRITERS";
const CHILD_BATCHES: &str = "STRONGROOM_CRASH_CHILD_BATCHES";
const WRITERS: u64 = 4;
/// Batches of a writer go round over so many slots, so that later batches replace and shorten earlier values.
const SLOTS: u64 = 6;
const SIZES: [usize; 7] = [0, 40, 300, 2_990, 3_100, 9_500, 20_000];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Batch `n` of writer `w`: one to four records in one slot, and a counter that names the slot's batch.
fn batch(w: u64, n: u64) -> Batch {
    let slot = n % SLOTS;
    let mut random = Random::new(w << 48 | n);
    let records = u64::from(random.below(4)) + 1;
    let mut batch = Batch::default();
    for r in 0..4 {
        let key = format!("w{w}/s{slot}/r{r}");
        if r < records {
            let size = SIZES[usize::try_from(random.below(7)).unwrap()];
            batch.put(key, pattern(size, w << 48 | n << 8 | r));
        } else {
            batch.delete(key);
        }
    }
    batch.put(format!("w{w}/s{slot}/n"), n.to_be_bytes());
    batch.put(format!("w{w}/last"), n.to_be_bytes());
    batch
}

/// Opens a store that this or a killed process had open. sled's lock goes with its last descriptor, and a process that another
/// test starts at that moment holds copies of all descriptors until it runs its program; so "locked" is asked again.
pub fn open_again(engine: &str, folder: &Path) -> Result<Arc<dyn Store>, StoreError> {
    let started = Instant::now();
    loop {
        match store::open(engine, folder, false) {
            Err(StoreError::Locked) if started.elapsed() < Duration::from_secs(5) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            outcome => return outcome,
        }
    }
}

/// The victim. Without its variable this is a test that does nothing.
#[test]
fn crash_child() {
    let Ok(task) = std::env::var(CHILD) else { return };
    let (engine, folder) = task.split_once(':').unwrap();
    let store = open_again(engine, Path::new(folder)).unwrap();
    let writers = number(CHILD_WRITERS).unwrap_or(WRITERS);
    let batches = number(CHILD_BATCHES).unwrap_or(u64::MAX);
    std::thread::scope(|scope| {
        for w in 0..writers {
            let store = &store;
            scope.spawn(move || {
                let last = store.get(format!("w{w}/last").as_bytes()).unwrap();
                let first = last.map_or(1, |stored| u64::from_be_bytes(stored.value.try_into().unwrap()) + 1);
                for n in (first..).take_while(|n| *n <= batches) {
                    let sequence = store.commit(&batch(w, n)).unwrap().0;
                    // One write call: a kill leaves whole lines, and at most one line without its end.
                    std::io::stdout().lock().write_all(format!("\nack {w} {n} {sequence}\n").as_bytes()).unwrap();
                }
            });
        }
    });
}

/// What a writer was told, over all kills so far.
#[derive(Default)]
struct Told {
    /// Last acknowledged batch of each writer.
    last: BTreeMap<u64, u64>,
    /// Highest acknowledged sequence.
    sequence: u64,
    acknowledged: u64,
    /// Kills since the store was looked at.
    kills: u64,
}

fn run_and_kill(task: &str, after: Duration, told: &mut Told) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &child_name(), "--nocapture", "--test-threads=1"])
        .env(CHILD, task)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let lines = std::thread::spawn(move || output.lines().map_while(Result::ok).collect::<Vec<_>>());
    std::thread::sleep(after);
    child.kill().unwrap();
    told.kills += 1;
    let end = child.wait_with_output().unwrap();
    let complaint = String::from_utf8_lossy(&end.stderr);
    assert!(!complaint.contains("panicked"), "the victim failed before it was killed: {complaint}");
    let mut numbers = BTreeSet::new();
    for line in lines.join().unwrap() {
        let Some(rest) = line.strip_prefix("ack ") else { continue };
        let fields: Vec<u64> = rest.split(' ').map(|field| field.parse().unwrap()).collect();
        let [w, n, sequence] = fields[..] else { panic!("an acknowledgement reads {line:?}") };
        let last = told.last.entry(w).or_default();
        assert!(n > *last, "batch {n} of writer {w} was acknowledged after {last}");
        *last = n;
        assert!(numbers.insert(sequence), "two batches were given the sequence {sequence}");
        told.sequence = told.sequence.max(sequence);
        told.acknowledged += 1;
    }
}

/// `crash_child` with the path of this module in whichever test binary this is.
fn child_name() -> String {
    let path = module_path!();
    let module = path.split_once("::").map_or("", |(_, module)| module);
    format!("{module}::crash_child")
}

fn check(engine: &str, folder: &Path, told: &mut Told, context: &str) {
    let store = open_again(engine, folder).unwrap_or_else(|error| panic!("{context}: {error}"));
    let mut found = BTreeMap::new();
    let read = store.scan(b"", &mut |key, value| {
        found.insert(key.to_vec(), value.to_vec());
        ControlFlow::Continue(())
    });
    read.unwrap_or_else(|error| panic!("{context}: {error}"));
    let count = |key: String| {
        let value = store.get(key.as_bytes()).unwrap_or_else(|error| panic!("{context}: {error}"));
        value.map_or(0, |stored| u64::from_be_bytes(stored.value.try_into().unwrap()))
    };
    let mut commits = 0;
    let mut expected = BTreeMap::new();
    for w in 0..WRITERS {
        let last = count(format!("w{w}/last"));
        let acknowledged = told.last.get(&w).copied().unwrap_or(0);
        assert!(last >= acknowledged, "{context}: writer {w} was told {acknowledged}, the store has {last}");
        // A kill may come between the commit and the line of one batch; then that batch is there as a whole.
        assert!(
            last <= acknowledged + told.kills,
            "{context}: writer {w} was told {acknowledged}, the store has {last}"
        );
        told.last.insert(w, last);
        commits += last;
        for n in last.saturating_sub(SLOTS - 1).max(1)..=last {
            for op in batch(w, n).ops {
                match op {
                    Op::Put { key, value } => expected.insert(key, value),
                    Op::Delete { key } => expected.remove(&key),
                };
            }
        }
    }
    if found != expected {
        let differs = found.iter().find(|(key, value)| expected.get(*key) != Some(value)).map(|(key, _)| key);
        let lost = expected.keys().find(|key| !found.contains_key(*key));
        let show = |key: Option<&Vec<u8>>| key.map(|key| String::from_utf8_lossy(key).into_owned());
        panic!("{context}: altered or invented {:?}, lost {:?}", show(differs), show(lost));
    }
    told.kills = 0;
    let sequence = store.sequence().unwrap().0;
    assert_eq!(sequence, commits, "{context}: the sequence does not count the batches that are there");
    assert!(sequence >= told.sequence, "{context}: sequence {sequence}, acknowledged {}", told.sequence);
    // And the engine still takes commits: one that must not, one that changes nothing.
    let refused =
        store.commit(Batch::default().put("x", "x").require("w0/none", Expect::Revision(store::CommitSeq(1))));
    assert!(matches!(refused, Err(StoreError::Conflict)), "{context}");
}

fn survives_kills(engine: &str) {
    if std::env::var_os("STRONGROOM_FAST").is_some() {
        println!("skipped: STRONGROOM_FAST is set");
        return;
    }
    let usual = if std::env::var_os("STRONGROOM_FULL").is_some() { 2_000 } else { 200 };
    let kills = number("STRONGROOM_CRASH_KILLS").unwrap_or(usual);
    let seed = number("STRONGROOM_SEED").unwrap_or_else(|| std::process::id().into());
    println!("STRONGROOM_SEED={seed}");
    let mut random = Random::new(seed);
    let started = Instant::now();
    let (mut acknowledged, mut kill) = (0, 0);
    while kill < kills {
        let mut folder = tempfile::tempdir().unwrap();
        drop(store::open(engine, folder.path(), true).unwrap());
        let task = format!("{engine}:{}", folder.path().display());
        let mut told = Told::default();
        // The seed alone does not bring a failure back: the store that shows it stays for a look.
        folder.disable_cleanup(true);
        for _ in 0..20.min(kills.saturating_sub(kill)) {
            kill += 1;
            run_and_kill(&task, Duration::from_millis(random.below(200).into()), &mut told);
            // Some of the next victims end while they recover from that kill, which writes, too.
            if random.below(2) == 0 {
                kill += 1;
                run_and_kill(&task, Duration::from_millis(random.below(60).into()), &mut told);
            }
            let context = format!("{engine}, seed {seed}, kill {kill}, kept in {}", folder.path().display());
            check(engine, folder.path(), &mut told, &context);
        }
        folder.disable_cleanup(false);
        acknowledged += told.acknowledged;
    }
    println!("{engine}: {kills} kills in {:?}, {acknowledged} acknowledged batches, none lost", started.elapsed());
    // On a busy machine many die before their first batch.
    assert!(acknowledged > kills / 10, "the victims were killed before they did anything");
}

#[test]
fn redb_survives_kills() {
    survives_kills("redb");
}

#[test]
fn sled_survives_kills() {
    survives_kills("sled");
}

/// What no kill can show: between two acknowledgements the engine asks the disk to keep what it wrote.
#[test]
fn syncs_before_it_acknowledges() {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        println!("skipped: there is no strace");
        return;
    }
    for (engine, file) in [("redb", "strongroom.redb"), ("sled", "strongroom.sled/db")] {
        let folder = tempfile::tempdir().unwrap();
        drop(store::open(engine, folder.path(), true).unwrap());
        let trace = folder.path().join("trace");
        let status = Command::new("strace")
            .args(["-f", "-y", "-s", "32", "-e", "trace=fsync,fdatasync,write", "-o"])
            .arg(&trace)
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", &child_name(), "--nocapture", "--test-threads=1"])
            .env(CHILD, format!("{engine}:{}", folder.path().display()))
            .env(CHILD_WRITERS, "1")
            .env(CHILD_BATCHES, "8")
            .stdout(Stdio::null())
            .status()
            .unwrap();
        if !status.success() {
            println!("skipped: this system does not let strace trace");
            return;
        }
        let (mut synced, mut acknowledged) = (false, 0);
        for line in std::fs::read_to_string(&trace).unwrap().lines() {
            if line.contains("sync(") && line.contains(file) && line.contains("= 0") {
                synced = true;
            } else if line.contains("write(") && line.contains("\\nack ") {
                assert!(synced, "{engine} acknowledged without a sync: {line}");
                (synced, acknowledged) = (false, acknowledged + 1);
            }
        }
        assert_eq!(acknowledged, 8, "{engine}: the trace misses acknowledgements");
    }
}
