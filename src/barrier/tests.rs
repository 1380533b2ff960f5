//! Round trips, a model, attacks and crashes, on the memory engine.

mod anchors;
mod attacks;
mod belonging;
mod census;
mod drained;
mod faults;
mod groups;
mod limits;
mod loss;
mod losses;
mod rotation;
mod salvage;
mod sweeps;
mod vectors;
mod views;
mod walks;

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::crypto::random::SeededRandom;
use crate::keys::{Header, HeaderError, NewSlot, RootKey, Slot, TermState, Unlock, VaultId, WeakKdf};
use crate::store::sidecar::{AnchorFile, HeaderFiles, MemAnchor, MemHeader};
use crate::store::{CommitSeq, MemoryStore, Store, Stored};

pub(super) const MOUNT: MountId = MountId([9; 16]);
pub(super) const SECRET: &[u8] = &[7; 64];

/// Everything that survives the process.
pub(super) struct Disk {
    pub store: Arc<MemoryStore>,
    pub header: Arc<MemHeader>,
    pub anchor: Arc<MemAnchor>,
}

impl Disk {
    pub(super) fn new() -> (Self, Barrier) {
        let disk = Self { store: Arc::default(), header: Arc::default(), anchor: Arc::default() };
        let barrier = create(disk.parts(2));
        (disk, barrier)
    }

    pub(super) fn parts(&self, seed: u64) -> Parts {
        Parts {
            store: self.store.clone(),
            header: self.header.clone(),
            anchor: self.anchor.clone(),
            random: Arc::new(SeededRandom::new(seed)),
        }
    }

    pub(super) fn open(&self) -> Result<(Barrier, Report), BarrierError> {
        Barrier::unseal(self.parts(99), &Unlock::KeyFile(SECRET), 10)
    }

    /// The same disk at this moment.
    pub(super) fn copy(&self) -> Self {
        Self {
            store: Arc::new(self.store.copy()),
            header: Arc::new(MemHeader::with(self.header.read().unwrap())),
            anchor: Arc::new(MemAnchor::with(self.anchor.read().unwrap())),
        }
    }

    pub(super) fn error(&self) -> BarrierError {
        self.open().map(|_| ()).expect_err("this disk must not open")
    }

    pub(super) fn records(&self) -> BTreeMap<Vec<u8>, Stored> {
        let mut all = BTreeMap::new();
        self.store.tamper(|records| all = records.clone());
        all
    }
}

/// A new vault.
pub(super) fn create(parts: Parts) -> Barrier {
    let random = SeededRandom::new(1);
    let slot = NewSlot { label: "file", secret: Unlock::KeyFile(SECRET), params: crate::crypto::password::WRITE_FLOOR };
    let made = Header::create(VaultId([3; 16]), &[slot], &random, 5, crate::crypto::envelope::Suite::Aes256Gcm);
    let (bytes, opened) = made.unwrap();
    Barrier::create(parts, &bytes, opened, 5).unwrap()
}

pub(super) fn finish(group: Group<'_>) {
    let durable = group.store(AuditHead { seq: 4, hash: [4; 32] }, 20).unwrap();
    durable.anchor().unwrap();
    durable.publish();
}

/// Adds a version with `value` to the secret at `path`.
pub(super) fn write(tx: &mut Tx<'_>, path: &str, value: &[u8]) -> Result<u64, BarrierError> {
    let mut meta = tx.secret(MOUNT, path)?.and_then(|node| node.meta).unwrap_or_default();
    meta.current += 1;
    let version = meta.current;
    meta.versions.push(VersionMeta { version, created_ms: 6, deleted_ms: 0, destroyed: false });
    tx.put_secret(MOUNT, path, meta, Some((version, value)), 6)?;
    Ok(version)
}

pub(super) fn put(barrier: &Barrier, path: &str, value: &[u8]) {
    let mut group = barrier.begin();
    group.run(|tx| write(tx, path, value)).unwrap();
    finish(group);
}

/// The current value at `path`.
pub(super) fn get(view: &View<'_>, path: &str) -> Result<Option<Vec<u8>>, BarrierError> {
    let Some(node) = view.node(path)? else { return Ok(None) };
    let Some(current) = node.meta.as_ref().map(|meta| meta.current) else { return Ok(None) };
    Ok(view.value(path, &node, current)?.map(|value| value.reveal().to_vec()))
}

#[test]
fn what_was_written_reads_back_after_reopening() {
    let (disk, barrier) = Disk::new();
    put(&barrier, "a/b", b"one");
    put(&barrier, "a/b", b"two");
    let mut group = barrier.begin();
    group.run(|tx| tx.put_entry(MountId::POLICIES, "p", b"text", 7)).unwrap();
    assert!(barrier.view(MountId::POLICIES).entry("p").unwrap().is_none(), "visible before publish");
    assert_eq!(group.generation(), 4);
    finish(group);
    let check = |barrier: &Barrier| {
        let view = barrier.view(MOUNT);
        let node = view.node("a/b").unwrap().unwrap();
        assert_eq!(view.value("a/b", &node, 1).unwrap().unwrap().reveal(), b"one");
        assert_eq!(view.value("a/b", &node, 2).unwrap().unwrap().reveal(), b"two");
        assert!(view.value("a/b", &node, 3).unwrap().is_none());
        assert!(view.exists("a/b") && !view.exists("a") && !view.exists("b"));
        let entry = barrier.view(MountId::POLICIES).entry("p").unwrap().unwrap();
        assert_eq!((entry.value.reveal(), entry.not_after_ms), (b"text".as_slice(), 7));
        assert!(barrier.view(MountId::IDENTITIES).entries().unwrap().is_empty());
        assert_eq!(barrier.audit_head(), AuditHead { seq: 4, hash: [4; 32] });
        assert_eq!(barrier.record_count(), 5);
    };
    check(&barrier);
    drop(barrier);
    let (barrier, report) = disk.open().unwrap();
    assert_eq!((report.generation, report.anchor_behind, report.header_repaired), (4, 0, false));
    check(&barrier);
}

#[test]
fn a_group_tells_the_entries_it_has_written() {
    let (_disk, barrier) = Disk::new();
    let mut group = barrier.begin();
    group.run(|tx| tx.put_entry(MountId::POLICIES, "before", b"text", 0)).unwrap();
    finish(group);
    let mut group = barrier.begin();
    group.run(|tx| tx.put_entry(MountId::POLICIES, "b", b"text", 0)).unwrap();
    group.run(|tx| tx.put_entry(MountId::IDENTITIES, "other", b"text", 0)).unwrap();
    let written = group.run(|tx| -> Result<_, BarrierError> {
        tx.put_entry(MountId::POLICIES, "a", b"text", 0)?;
        tx.put_entry(MountId::POLICIES, "c", b"text", 0)?;
        tx.remove_entry(MountId::POLICIES, "c")?;
        tx.remove_entry(MountId::POLICIES, "before")?;
        tx.view(MountId::POLICIES).written()
    });
    assert_eq!(written.unwrap(), ["a", "b"]);
    finish(group);
    assert!(barrier.view(MountId::POLICIES).written().unwrap().is_empty());
}

#[test]
fn folders_come_and_go_with_their_secrets() {
    let (_disk, barrier) = Disk::new();
    put(&barrier, "a/b/c", b"1");
    put(&barrier, "a/b", b"2");
    put(&barrier, "z", b"3");
    let child = |name: &str, has_secret, is_folder| Child { name: name.to_owned(), has_secret, is_folder };
    let view = barrier.view(MOUNT);
    assert_eq!(view.children("").unwrap(), [child("a", false, true), child("z", true, false)]);
    assert_eq!(view.children("a").unwrap(), [child("b", true, true)]);
    let mut group = barrier.begin();
    assert!(group.run(|tx| tx.remove_secret(MOUNT, "a/b/c")).unwrap());
    assert!(!group.run(|tx| tx.remove_secret(MOUNT, "a")).unwrap(), "a pure folder is no secret");
    finish(group);
    assert_eq!(view.children("a").unwrap(), [child("b", true, false)]);
    assert_eq!(get(&view, "a/b").unwrap().unwrap(), b"2");
    let mut group = barrier.begin();
    group.run(|tx| tx.remove_secret(MOUNT, "a/b")).unwrap();
    group.run(|tx| tx.remove_secret(MOUNT, "z")).unwrap();
    finish(group);
    assert!(view.children("").unwrap().is_empty());
    assert_eq!(barrier.record_count(), 0);
}

#[test]
fn a_failing_closure_takes_back_only_its_own_changes() {
    let (disk, barrier) = Disk::new();
    put(&barrier, "x", b"old");
    let mut group = barrier.begin();
    group.run(|tx| write(tx, "kept", b"1")).unwrap();
    let failed: Result<(), BarrierError> = group.run(|tx| {
        write(tx, "kept", b"2")?;
        write(tx, "a/new", b"3")?;
        tx.remove_secret(MOUNT, "x")?;
        assert!(!tx.view(MOUNT).exists("x"));
        Err(BarrierError::Full)
    });
    assert!(failed.is_err());
    finish(group);
    drop(barrier);
    let (barrier, _) = disk.open().unwrap();
    let view = barrier.view(MOUNT);
    assert_eq!(get(&view, "kept").unwrap().unwrap(), b"1");
    assert_eq!(get(&view, "x").unwrap().unwrap(), b"old");
    assert!(view.node("a").unwrap().is_none());
}

#[test]
fn destroying_a_version_removes_its_record_and_key() {
    let (disk, barrier) = Disk::new();
    put(&barrier, "x", b"one");
    put(&barrier, "x", b"two");
    let stale = barrier.view(MOUNT).node("x").unwrap().unwrap();
    let mut group = barrier.begin();
    group
        .run(|tx| {
            let mut meta = tx.secret(MOUNT, "x")?.and_then(|node| node.meta).unwrap();
            meta.versions[0].destroyed = true;
            tx.put_secret(MOUNT, "x", meta.clone(), None, 8)?;
            meta.versions[0].destroyed = false;
            assert!(matches!(tx.put_secret(MOUNT, "x", meta, None, 8), Err(BarrierError::Versions(_))));
            Ok::<(), BarrierError>(())
        })
        .unwrap();
    finish(group);
    let view = barrier.view(MOUNT);
    let node = view.node("x").unwrap().unwrap();
    assert!(!node.keys.contains_key(&1));
    assert!(view.value("x", &node, 1).unwrap().is_none());
    assert!(view.value("x", &stale, 1).unwrap().is_none(), "an old node is no integrity error");
    assert_eq!(view.value("x", &node, 2).unwrap().unwrap().reveal(), b"two");
    assert_eq!(disk.records().keys().filter(|key| key[0] == b'v').count(), 1);
    assert_eq!(barrier.health(), Health::Serving);
}

#[test]
fn readers_see_the_published_state_while_a_group_is_in_flight() {
    let (_disk, barrier) = Disk::new();
    put(&barrier, "x", b"old");
    put(&barrier, "gone", b"here");
    let mut group = barrier.begin();
    group.run(|tx| write(tx, "x", b"new")).unwrap();
    group.run(|tx| tx.remove_secret(MOUNT, "gone")).unwrap();
    let durable = group.store(AuditHead::default(), 20).unwrap();
    let view = barrier.view(MOUNT);
    assert_eq!(get(&view, "x").unwrap().unwrap(), b"old");
    assert_eq!(get(&view, "gone").unwrap().unwrap(), b"here");
    durable.anchor().unwrap();
    durable.publish();
    assert_eq!(get(&view, "x").unwrap().unwrap(), b"new");
    assert!(get(&view, "gone").unwrap().is_none());
}

#[test]
fn a_group_dropped_unpublished_stops_writes_and_reopens_complete() {
    let (disk, barrier) = Disk::new();
    for (round, anchored) in [(1u64, false), (2, true), (3, false)] {
        let barrier = if round == 1 { &barrier } else { &disk.open().unwrap().0 };
        let mut group = barrier.begin();
        let path = format!("round{round}");
        group.run(|tx| write(tx, &path, b"v")).unwrap();
        let durable = group.store(AuditHead::default(), 20).unwrap();
        if anchored {
            durable.anchor().unwrap();
        }
        drop(durable);
        assert!(matches!(barrier.begin().run(|tx| write(tx, "late", b"v")), Err(BarrierError::Fatal(_))));
        assert!(matches!(barrier.begin().store(AuditHead::default(), 1), Err(BarrierError::Fatal(_))));
        let (again, report) = disk.copy().open().unwrap();
        assert_eq!(report.anchor_behind, u64::from(!anchored));
        assert_eq!(get(&again.view(MOUNT), &path).unwrap().unwrap(), b"v");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn it_behaves_as_a_map(steps in proptest::collection::vec((0u8..5, 0u8..3, 0u8..3, any::<u8>()), 1..24)) {
        let (disk, mut barrier) = Disk::new();
        let mut model: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for (action, first, second, value) in steps {
            let path = if second == 0 { format!("f{first}") } else { format!("f{first}/s{second}") };
            match action {
                0..=1 => {
                    put(&barrier, &path, &[value]);
                    model.insert(path, vec![value]);
                }
                2..=3 => {
                    let mut group = barrier.begin();
                    let removed = group.run(|tx| tx.remove_secret(MOUNT, &path)).unwrap();
                    finish(group);
                    prop_assert_eq!(removed, model.remove(&path).is_some());
                }
                _ => {
                    drop(barrier);
                    barrier = disk.open().unwrap().0;
                }
            }
            let view = barrier.view(MOUNT);
            let mut found = BTreeMap::new();
            for child in view.children("").unwrap() {
                let below = view.children(&child.name).unwrap();
                prop_assert_eq!(child.is_folder, !below.is_empty());
                let names = below.into_iter().map(|below| format!("{}/{}", child.name, below.name));
                for path in names.chain(child.has_secret.then(|| child.name.clone())) {
                    let value = get(&view, &path).unwrap();
                    found.insert(path, value.unwrap());
                }
            }
            prop_assert_eq!(&found, &model);
        }
    }
}

#[test]
fn a_wrong_secret_is_told_from_damage() {
    let (disk, _) = Disk::new();
    let wrong = Barrier::unseal(disk.parts(1), &Unlock::KeyFile(&[8; 64]), 1).map(|_| ());
    assert!(matches!(wrong, Err(BarrierError::Header(HeaderError::WrongSecret))));
}
