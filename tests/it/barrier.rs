//! The barrier over real engines in real folders: what damage, kills and reopening do to a vault.

mod campaign;
mod crashes;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use strongroom::barrier::{AuditHead, Barrier, BarrierError, Group, MountId, Parts, Report, Tx, VersionMeta};
use strongroom::crypto::envelope::Suite;
use strongroom::crypto::password::WRITE_FLOOR;
use strongroom::crypto::random::{Random, SeededRandom};
use strongroom::keys::{Header, NewSlot, Unlock, VaultId};
use strongroom::store::sidecar::{DiskAnchor, DiskHeader};
use strongroom::store::{self, Store, StoreError};

const MOUNT: MountId = MountId([9; 16]);
const KEY_FILE: &[u8] = &[7; 64];

/// What must be read: the value of each version of each secret.
type Truth = BTreeMap<String, BTreeMap<u64, Vec<u8>>>;

/// Numbers from a seed, so that every run can be repeated.
struct Dice(SeededRandom);

impl Dice {
    /// Dice number `stream` of a seed; each stream is independent of the others.
    fn new(seed: u64, stream: u64) -> Self {
        Self(SeededRandom::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ stream))
    }

    /// A number below `end`, which must not be 0.
    fn below(&mut self, end: usize) -> usize {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes).unwrap();
        usize::try_from(u64::from_le_bytes(bytes) % u64::try_from(end).unwrap()).unwrap()
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.fill(&mut bytes).unwrap();
        bytes
    }
}

/// The seed of this run: `STRONGROOM_SEED`, or a new one. Printed, so that a failure can be repeated.
fn seed() -> u64 {
    let given = std::env::var("STRONGROOM_SEED").ok().map(|text| text.parse().expect("STRONGROOM_SEED is a number"));
    let seed = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos())
    });
    println!("STRONGROOM_SEED={seed}");
    seed
}

/// A folder in memory if the system has one: the tests do thousands of copies and no power is cut.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("barrier").tempdir_in(parent).unwrap()
}

fn store_folder(vault: &Path) -> PathBuf {
    vault.join("store")
}

fn parts(vault: &Path, store: Arc<dyn Store>) -> Parts {
    Parts {
        store,
        header: Arc::new(DiskHeader::new(vault)),
        anchor: Arc::new(DiskAnchor::new(&vault.join("anchor"))),
        random: Arc::new(strongroom::crypto::random::SystemRandom),
    }
}

/// A new vault in `vault`, which must be empty.
fn create(engine: &str, vault: &Path) -> Barrier {
    std::fs::create_dir_all(store_folder(vault)).unwrap();
    let store = store::open(engine, &store_folder(vault), true).unwrap();
    let slot = NewSlot { label: "file", secret: Unlock::KeyFile(KEY_FILE), params: WRITE_FLOOR };
    let random = SeededRandom::new(1);
    let (bytes, opened) = Header::create(VaultId([3; 16]), &[slot], &random, 5, Suite::Aes256Gcm).unwrap();
    Barrier::create(parts(vault, store), &bytes, opened, 5).unwrap()
}

fn unseal(vault: &Path, store: Arc<dyn Store>) -> Result<(Barrier, Report), BarrierError> {
    Barrier::unseal(parts(vault, store), &Unlock::KeyFile(KEY_FILE), 10)
}

fn reopen(engine: &str, vault: &Path) -> (Barrier, Report) {
    // sled's own threads give the lock back a moment after the store is dropped.
    for _ in 0..500 {
        match store::open(engine, &store_folder(vault), false) {
            Err(StoreError::Locked) => std::thread::sleep(std::time::Duration::from_millis(10)),
            opened => return unseal(vault, opened.unwrap()).unwrap(),
        }
    }
    panic!("the store stays locked");
}

/// Adds a version with `value` to the secret at `path`; gives its number.
fn write(tx: &mut Tx<'_>, path: &str, value: &[u8]) -> Result<u64, BarrierError> {
    let mut meta = tx.secret(MOUNT, path)?.and_then(|node| node.meta).unwrap_or_default();
    meta.current += 1;
    let version = meta.current;
    meta.versions.push(VersionMeta { version, created_ms: 6, deleted_ms: 0, destroyed: false });
    tx.put_secret(MOUNT, path, meta, Some((version, value)), 6)?;
    Ok(version)
}

/// The rest of a commit.
fn finish(group: Group<'_>) {
    let durable = group.store(AuditHead { seq: 4, hash: [4; 32] }, 20).unwrap();
    durable.anchor().unwrap();
    durable.publish();
}

/// Everything readable: the whole tree, found by listing. Any error on the way ends it.
fn read_all(barrier: &Barrier) -> Result<Truth, BarrierError> {
    let view = barrier.view(MOUNT);
    let mut found = Truth::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for child in view.children(&folder)? {
            let path = if folder.is_empty() { child.name } else { format!("{folder}/{}", child.name) };
            if child.has_secret {
                let node = view.node(&path)?.ok_or(BarrierError::Integrity("listed but not there"))?;
                let versions = found.entry(path.clone()).or_default();
                for listed in node.meta.iter().flat_map(|meta| &meta.versions) {
                    if let Some(value) = view.value(&path, &node, listed.version)? {
                        versions.insert(listed.version, value.reveal().to_vec());
                    }
                }
            }
            if child.is_folder {
                folders.push(path);
            }
        }
    }
    Ok(found)
}

/// All files below `root`, as paths relative to it, sorted.
fn files(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path.strip_prefix(root).unwrap().to_owned()) }
        }
    }
    found.sort();
    found
}

/// Copies a folder with everything below it. Of an open vault that is what a kill at this moment leaves.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}
