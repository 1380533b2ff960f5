//! Kills at each step of a commit, and a model over reopening.

use super::*;

/// Where the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kill {
    /// The group has run and is nowhere but in memory.
    BeforeStore,
    /// Durable in the engine.
    BeforeAnchor,
    /// Anchored; nobody was told.
    BeforePublish,
    /// Acknowledged.
    AfterPublish,
}

const KILLS: [Kill; 4] = [Kill::BeforeStore, Kill::BeforeAnchor, Kill::BeforePublish, Kill::AfterPublish];

/// Runs a group that writes two secrets with one value, and takes the image that a kill at `kill` leaves.
fn die(engine: &str, vault: &Path, image: &Path, kill: Kill, value: &[u8]) {
    let (barrier, _) = reopen(engine, vault);
    let mut group = barrier.begin();
    group.run(|tx| write(tx, "pair/a", value).and_then(|_| write(tx, "pair/b", value))).unwrap();
    if kill == Kill::BeforeStore {
        copy(vault, image);
        return drop(group);
    }
    let durable = group.store(AuditHead::default(), 20).unwrap();
    if kill != Kill::BeforeAnchor {
        durable.anchor().unwrap();
    }
    if kill == Kill::AfterPublish {
        durable.publish();
        return copy(vault, image);
    }
    copy(vault, image);
    drop(durable);
}

fn two_kills(engine: &str) {
    for first in KILLS {
        for second in KILLS {
            let folder = folder();
            let vaults: Vec<PathBuf> = ["0", "1", "2"].iter().map(|name| folder.path().join(name)).collect();
            let barrier = create(engine, &vaults[0]);
            let mut group = barrier.begin();
            group.run(|tx| write(tx, "kept", b"0")).unwrap();
            finish(group);
            drop(barrier);

            let mut versions = BTreeMap::new();
            for (at, kill) in [first, second].into_iter().enumerate() {
                let value = [u8::try_from(at).unwrap()];
                die(engine, &vaults[at], &vaults[at + 1], kill, &value);
                if kill != Kill::BeforeStore {
                    versions.insert(u64::try_from(versions.len()).unwrap() + 1, value.to_vec());
                }
            }
            let mut truth = Truth::from([("kept".to_owned(), BTreeMap::from([(1, b"0".to_vec())]))]);
            if !versions.is_empty() {
                truth.insert("pair/a".to_owned(), versions.clone());
                truth.insert("pair/b".to_owned(), versions);
            }
            let (barrier, report) = reopen(engine, &vaults[2]);
            assert_eq!(read_all(&barrier).unwrap(), truth, "{engine}: {first:?}, {second:?}");
            assert_eq!(report.anchor_behind, u64::from(second == Kill::BeforeAnchor), "{first:?}, {second:?}");
            // And the vault goes on.
            let mut group = barrier.begin();
            group.run(|tx| write(tx, "after", b"1")).unwrap();
            finish(group);
            drop(barrier);
            truth.insert("after".to_owned(), BTreeMap::from([(1, b"1".to_vec())]));
            assert_eq!(read_all(&reopen(engine, &vaults[2]).0).unwrap(), truth);
        }
    }
}

#[test]
fn two_kills_in_a_row_at_any_steps_lose_and_invent_nothing_on_redb() {
    two_kills("redb");
}

#[test]
fn two_kills_in_a_row_at_any_steps_lose_and_invent_nothing_on_sled() {
    two_kills("sled");
}

/// Random writes, removals, failing closures, dropped groups, reopening and kills, against a map.
fn model(engine: &str, steps: usize) {
    let seed = seed();
    let mut dice = Dice::new(seed, 0);
    let folder = folder();
    let mut vault = folder.path().join("0");
    let mut barrier = create(engine, &vault);
    let mut truth = Truth::new();
    for step in 1..=steps {
        let path = format!("f{}/s{}", dice.below(4), dice.below(6));
        let value = dice.bytes(1 + step % 5_000);
        let mut group = barrier.begin();
        match dice.below(10) {
            0..=4 => {
                let version = group.run(|tx| write(tx, &path, &value)).unwrap();
                finish(group);
                truth.entry(path).or_default().insert(version, value);
            }
            5 => {
                let removed = group.run(|tx| tx.remove_secret(MOUNT, &path)).unwrap();
                finish(group);
                assert_eq!(removed, truth.remove(&path).is_some(), "step {step}, seed {seed}");
            }
            6 => {
                let failed: Result<(), BarrierError> = group.run(|tx| {
                    write(tx, &path, &value)?;
                    Err(BarrierError::Full)
                });
                assert!(failed.is_err());
                finish(group);
            }
            7 => {
                group.run(|tx| tx.remove_secret(MOUNT, &path)).unwrap();
                drop(group);
            }
            8 => {
                drop(group);
                drop(barrier);
                barrier = reopen(engine, &vault).0;
            }
            _ => {
                drop(group);
                let image = folder.path().join(step.to_string());
                copy(&vault, &image);
                drop(barrier);
                std::fs::remove_dir_all(&vault).unwrap();
                vault = image;
                barrier = reopen(engine, &vault).0;
            }
        }
        assert_eq!(read_all(&barrier).unwrap(), truth, "step {step}, seed {seed}");
    }
}

#[test]
fn the_barrier_on_redb_behaves_as_a_map() {
    model("redb", 120);
}

#[test]
fn the_barrier_on_sled_behaves_as_a_map() {
    model("sled", 60);
}
