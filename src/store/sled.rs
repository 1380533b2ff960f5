//! The second engine: sled 0.34, hardened. This module adds what sled itself does not provide:
//!
//! - sled's `flush` hands pages to the kernel (`sync_file_range`) but never asks the disk to keep them. After it, every
//!   file that the commit touched is synced, and every folder in which a name changed (`durable.rs`).
//! - Values above about 16 KiB can leave a log that no longer opens after a power cut. No stored item exceeds 4 KiB, so
//!   a value is cut into pieces.
//! - Opening and reading the log panic over damaged files. A panic becomes an error here.
//! - A kill can leave a half-written snapshot of the page table (`snap.N.generating`). sled takes it for the newest
//!   complete one and never opens again. Such a file is removed before each opening.
//!
//! sled silently drops what follows a damaged log frame. The layer above notices that, because it authenticates every
//! record and the state of the whole store.
//!
//! One tree holds three kinds of items, so that one `apply_batch` is one transaction:
//!
//! ```text
//! 'm'                                  -> sequence u64 BE
//! 'r' ‖ key                            -> revision u64 BE ‖ length of the value u32 BE ‖ first 3,000 bytes
//! 'c' ‖ key length u16 BE ‖ key ‖ n u32 BE -> the n-th further 3,000 bytes, n from 1
//! ```

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};

use super::durable::Durable;
use super::{Batch, CommitSeq, HEAD_BYTES, Op, Store, StoreError, Stored, Visit, space};

/// Warning in the log at each start with this engine.
pub const WARNING: &str = "the store uses the sled engine: sled 0.34 is beta software without a release since 2021, drops \
    records after a damaged log frame (noticed at start, not repaired) and reclaims space poorly; redb is recommended: \
    move with the command `strongroomd storage migrate --to redb`";

const FOLDER: &str = "strongroom.sled";
const SEQUENCE: &[u8] = b"m";
const RECORD: u8 = b'r';
const PIECE: u8 = b'c';
/// With the longest key and its frame an item stays below 4 KiB.
const PIECE_BYTES: usize = 3_000;
const FRAME_BYTES: usize = 12;
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(25);
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// A vault's records in a sled folder.
pub struct SledStore {
    tree: sled::Tree,
    /// Kept as long as the tree, because dropping it closes the log.
    _database: sled::Db,
    folder: PathBuf,
    /// Held for writing until a commit is durable, so that no reader sees what a power cut could undo.
    gate: RwLock<()>,
    durable: Mutex<Durable>,
    /// A failed sync leaves the disk in an unknown state, so every later commit fails, too.
    failed: AtomicBool,
}

/// Called for each record in a walk over the heads.
type Each<'a> = &'a mut dyn FnMut(&[u8], &Head) -> Result<ControlFlow<()>, StoreError>;

impl SledStore {
    /// Opens or creates the folder `strongroom.sled` in `dir`.
    ///
    /// # Errors
    /// As [`super::open`].
    pub fn open(dir: &Path, create: bool) -> Result<Self, StoreError> {
        let folder = dir.join(FOLDER);
        // sled creates whatever is missing, even in half of a store. Check first that everything is there.
        let missing = ["conf", "db"].iter().find(|name| !folder.join(name).is_file());
        match missing {
            Some(_) if !create => {
                return Err(StoreError::Unavailable(format!("there is no {FOLDER} in the store's folder")));
            }
            Some(_) if folder.join("conf").exists() || folder.join("db").exists() => {
                return Err(StoreError::Corrupt(format!("{FOLDER} has lost a file")));
            }
            _ => {}
        }
        let config = sled::Config::new().path(&folder).flush_every_ms(None).cache_capacity(CACHE_BYTES);
        let config = config.mode(sled::Mode::LowSpace);
        let mut attempts = 0;
        let database = loop {
            match remove_unfinished_snapshots(&folder).and_then(|()| config.open().map_err(opening)) {
                // sled releases its lock from its own thread, a moment after the last handle is gone.
                Err(StoreError::Locked) if attempts < LOCK_ATTEMPTS => {
                    attempts += 1;
                    std::thread::sleep(LOCK_PAUSE);
                }
                opened => break opened?,
            }
        };
        let tree = sled::Tree::clone(&database);
        let store = Self {
            tree,
            _database: database,
            durable: Mutex::new(Durable::new(&folder)),
            folder,
            gate: RwLock::new(()),
            failed: AtomicBool::new(false),
        };
        if missing.is_some() {
            store.tree.insert(SEQUENCE, &0_u64.to_be_bytes()).map_err(reading)?;
        } else if store.tree.get(SEQUENCE).map_err(reading)?.is_none() {
            // Written before the creation was acknowledged. Without it, the log has lost its beginning.
            return Err(StoreError::Corrupt("sled has lost its first records".into()));
        }
        // Recovery writes, too (a snapshot, a shorter log). Make that durable before anything is built on it.
        store.tree.flush().map_err(|error| StoreError::Sync(error.to_string()))?;
        store.durable.lock().sync().map_err(|error| StoreError::Sync(error.to_string()))?;
        if missing.is_some() {
            std::fs::File::open(dir).and_then(|f| f.sync_all()).map_err(|e| StoreError::Sync(e.to_string()))?;
        }
        Ok(store)
    }

    fn last(&self) -> Result<u64, StoreError> {
        let row = self.tree.get(SEQUENCE).map_err(reading)?.ok_or_else(short)?;
        Ok(u64::from_be_bytes(row.as_ref().try_into().map_err(|_| short())?))
    }

    fn head(&self, key: &[u8]) -> Result<Option<Head>, StoreError> {
        self.tree.get(record_key(key)).map_err(reading)?.map(Head::parse).transpose()
    }

    /// Reads the whole value that begins with `head`.
    fn whole(&self, key: &[u8], head: &Head) -> Result<Vec<u8>, StoreError> {
        let mut value = Vec::with_capacity(head.first().len());
        value.extend_from_slice(head.first());
        for n in 1..=pieces(head.length) {
            let piece = self.tree.get(piece_key(key, n)?).map_err(reading)?.ok_or_else(short)?;
            value.extend_from_slice(&piece);
        }
        if value.len() == head.length { Ok(value) } else { Err(short()) }
    }

    fn apply(&self, batch: &Batch) -> Result<CommitSeq, StoreError> {
        for condition in &batch.preconditions {
            let found = self.head(&condition.key)?.map(|head| head.revision);
            if !condition.expect.holds(found) {
                return Err(StoreError::Conflict);
            }
        }
        let revision = self.last()?.checked_add(1).ok_or_else(short)?;
        // The last change of a key decides. Only then is it known which pieces of the stored value stay.
        let changes: BTreeMap<&[u8], Option<&[u8]>> = batch
            .ops
            .iter()
            .map(|op| match op {
                Op::Put { key, value } => (key.as_slice(), Some(value.as_slice())),
                Op::Delete { key } => (key.as_slice(), None),
            })
            .collect();
        let mut writes = sled::Batch::default();
        writes.insert(SEQUENCE, &revision.to_be_bytes());
        for (key, value) in changes {
            let before = self.head(key)?.map_or(0, |head| pieces(head.length));
            let after = match value {
                Some(value) => put(&mut writes, revision, key, value)?,
                None => {
                    writes.remove(record_key(key));
                    0
                }
            };
            // Remove pieces of the old value that the new one does not overwrite.
            for n in after + 1..=before {
                writes.remove(piece_key(key, n)?);
            }
        }
        let unknown = |error: String| {
            self.failed.store(true, Ordering::SeqCst);
            StoreError::Sync(error)
        };
        // From here on, a failed step means that nobody knows what is on disk.
        let applied = catch_unwind(AssertUnwindSafe(|| {
            self.tree.apply_batch(writes)?;
            self.tree.flush()
        }));
        match applied {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(unknown(error.to_string())),
            Err(_) => return Err(unknown("sled panicked while writing".into())),
        }
        self.durable.lock().sync().map_err(|error| unknown(error.to_string()))?;
        Ok(CommitSeq(revision))
    }

    fn visit(&self, prefix: &[u8], each: Each<'_>) -> Result<(), StoreError> {
        // Recursive, because a visitor may read while a writer waits.
        let _open = self.gate.read_recursive();
        for row in self.tree.scan_prefix(record_key(prefix)) {
            let (key, row) = row.map_err(reading)?;
            let key = key.get(1..).ok_or_else(short)?;
            if each(key, &Head::parse(row)?)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Store for SledStore {
    fn engine(&self) -> &'static str {
        "sled"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        let _open = self.gate.read_recursive();
        let Some(head) = self.head(key)? else { return Ok(None) };
        Ok(Some(Stored { value: self.whole(key, &head)?, revision: head.revision }))
    }

    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.visit(prefix, &mut |key, head| Ok(visit(key, &self.whole(key, head)?)))
    }

    fn scan_heads(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.visit(prefix, &mut |key, head| Ok(visit(key, head.first().get(..HEAD_BYTES).unwrap_or(head.first()))))
    }

    fn admits(&self, batch: &Batch) -> Result<(), StoreError> {
        batch.check()?;
        space::require(&self.folder, batch)
    }

    fn commit(&self, batch: &Batch) -> Result<CommitSeq, StoreError> {
        batch.check()?;
        let _closed = self.gate.write();
        if self.failed.load(Ordering::SeqCst) {
            return Err(StoreError::Sync("an earlier write failed".into()));
        }
        space::require(&self.folder, batch)?;
        self.apply(batch)
    }

    #[cfg(any(test, feature = "testing"))]
    fn sequence(&self) -> Result<CommitSeq, StoreError> {
        let _open = self.gate.read_recursive();
        self.last().map(CommitSeq)
    }
}

/// The item under 'r'.
struct Head {
    revision: CommitSeq,
    length: usize,
    item: sled::IVec,
}

impl Head {
    fn parse(item: sled::IVec) -> Result<Self, StoreError> {
        let (revision, rest) = item.split_first_chunk().ok_or_else(short)?;
        let (length, first) = rest.split_first_chunk().ok_or_else(short)?;
        let revision = CommitSeq(u64::from_be_bytes(*revision));
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| short())?;
        if first.len() != length.min(PIECE_BYTES) {
            return Err(short());
        }
        Ok(Self { revision, length, item })
    }

    fn first(&self) -> &[u8] {
        self.item.get(FRAME_BYTES..).unwrap_or_default()
    }
}

/// Adds the items of a value to `writes` and returns the number of pieces after the first.
fn put(writes: &mut sled::Batch, revision: u64, key: &[u8], value: &[u8]) -> Result<usize, StoreError> {
    let length = u32::try_from(value.len()).map_err(|_| StoreError::Unavailable("a value is too long".into()))?;
    let first = value.get(..PIECE_BYTES).unwrap_or(value);
    let mut item = Vec::with_capacity(FRAME_BYTES + first.len());
    item.extend_from_slice(&revision.to_be_bytes());
    item.extend_from_slice(&length.to_be_bytes());
    item.extend_from_slice(first);
    writes.insert(record_key(key), item);
    for (n, piece) in value.chunks(PIECE_BYTES).enumerate().skip(1) {
        writes.insert(piece_key(key, n)?, piece);
    }
    Ok(pieces(value.len()))
}

/// Number of pieces of a value of this length, after the first.
fn pieces(length: usize) -> usize {
    length.div_ceil(PIECE_BYTES).saturating_sub(1)
}

fn record_key(key: &[u8]) -> Vec<u8> {
    let mut item = Vec::with_capacity(1 + key.len());
    item.push(RECORD);
    item.extend_from_slice(key);
    item
}

/// The key's length comes first, so the pieces of one key never lie among those of another.
fn piece_key(key: &[u8], n: usize) -> Result<Vec<u8>, StoreError> {
    let length = u16::try_from(key.len()).map_err(|_| short())?;
    let n = u32::try_from(n).map_err(|_| short())?;
    let mut item = Vec::with_capacity(7 + key.len());
    item.push(PIECE);
    item.extend_from_slice(&length.to_be_bytes());
    item.extend_from_slice(key);
    item.extend_from_slice(&n.to_be_bytes());
    Ok(item)
}

fn short() -> StoreError {
    StoreError::Corrupt("a sled item is missing or shorter than its frame".into())
}

/// Removes the snapshot files that sled was writing when its process ended.
///
/// sled writes a snapshot while it opens, under a temporary name, and renames it when it is complete. Its search for
/// the newest snapshot skips temporary files by a suffix that it no longer uses, so an unfinished one (empty, or
/// without its checksum) counts as the newest, and every later opening fails with "read corrupted data". Removing the
/// file loses nothing: the earlier snapshot stays until the rename, and the log contains everything after it.
///
/// # Errors
/// [`StoreError::Locked`] when a process has the store open, because that process may be writing the file.
fn remove_unfinished_snapshots(folder: &Path) -> Result<(), StoreError> {
    let log = match std::fs::File::open(folder.join("db")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        log => log.map_err(|error| StoreError::reading(&error))?,
    };
    // The same lock that sled takes.
    match log.try_lock() {
        Err(std::fs::TryLockError::WouldBlock) => return Err(StoreError::Locked),
        Err(std::fs::TryLockError::Error(error)) => return Err(StoreError::reading(&error)),
        Ok(()) => {}
    }
    let removed = std::fs::read_dir(folder).and_then(|mut entries| {
        entries.try_for_each(|entry| {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("snap.") && name.ends_with(".generating") {
                std::fs::remove_file(entry.path())?;
            }
            Ok(())
        })
    });
    // Released explicitly: a process that is being started may still hold a copy of the descriptor.
    removed.and(log.unlock()).map_err(|error| StoreError::reading(&error))
}

fn opening(error: sled::Error) -> StoreError {
    match error {
        // sled reports a held lock as an error without its own kind.
        sled::Error::Io(error) if error.to_string().contains("could not acquire lock") => StoreError::Locked,
        other => reading(other),
    }
}

fn reading(error: sled::Error) -> StoreError {
    match error {
        sled::Error::Io(error) => StoreError::reading(&error),
        sled::Error::Unsupported(why) => StoreError::Corrupt(why),
        sled::Error::Corruption { at, .. } => StoreError::Corrupt(format!(
            "sled cannot read what it wrote (at {at:?}; after restoring, leave this engine: \
            `strongroomd storage migrate --to redb`)"
        )),
        other => StoreError::Corrupt(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::pattern;
    use super::*;

    /// Reads cannot show pieces that outlived their value: the length hides them. They would be secrets kept and space lost.
    #[test]
    fn no_piece_outlives_its_value_and_no_item_exceeds_4_kib() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = SledStore::open(folder.path(), true).expect("opens");
        let key = vec![b'k'; super::super::MAX_KEY_BYTES];
        for (size, items) in [(40_000, 14), (3_001, 2), (3_000, 1), (0, 1), (9_000, 3)] {
            store.commit(Batch::default().put(key.clone(), pattern(size, 1))).expect("commits");
            assert_eq!(store.tree.len(), 1 + items, "items of the sequence and of a value of {size} bytes");
            for item in &store.tree {
                let (name, value) = item.expect("reads");
                assert!(name.len() + value.len() <= 4_096);
            }
        }
        store.commit(Batch::default().delete(key)).expect("commits");
        assert_eq!(store.tree.len(), 1, "only the sequence is left");
    }

    /// A kill while sled writes the snapshot of its opening leaves one of these; each was seen to end in "corrupt" for ever.
    #[test]
    fn a_half_written_snapshot_does_not_keep_the_store_closed() {
        for left in [&b""[..], b"half", &pattern(5_000, 3)] {
            let folder = tempfile::tempdir().expect("a folder");
            for n in 0..4_u64 {
                let store = SledStore::open(folder.path(), n == 0).expect("opens");
                for slot in 0..8_u64 {
                    store
                        .commit(Batch::default().put(format!("k{slot}"), pattern(4_000, n << 8 | slot)))
                        .expect("commits");
                }
            }
            let inner = folder.path().join(FOLDER);
            let newest = std::fs::read_dir(&inner)
                .expect("lists")
                .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
                .filter(|name| name.starts_with("snap."))
                .max()
                .expect("sled has written a snapshot");
            std::fs::write(inner.join(format!("{newest}.generating")), left).expect("writes");
            std::fs::write(inner.join("snap.00000000FFFFFFFF.generating"), left).expect("writes");
            let store = SledStore::open(folder.path(), false).expect("opens past what was left half written");
            for slot in 0..8_u64 {
                let stored = store.get(format!("k{slot}").as_bytes()).expect("reads").expect("is there");
                assert_eq!(stored.value, pattern(4_000, 3 << 8 | slot));
            }
            assert_eq!(store.sequence().expect("reads"), CommitSeq(32));
            assert!(!inner.join(format!("{newest}.generating")).exists());
        }
    }

    /// What another process is writing at this moment is not ours to remove.
    #[test]
    fn an_open_store_keeps_the_snapshot_it_writes() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = SledStore::open(folder.path(), true).expect("opens");
        let writing = folder.path().join(FOLDER).join("snap.00000000FFFFFFFF.generating");
        std::fs::write(&writing, b"half").expect("writes");
        assert!(matches!(SledStore::open(folder.path(), false), Err(StoreError::Locked)));
        assert!(writing.exists());
        drop(store);
    }

    #[test]
    fn after_a_failed_write_no_commit_is_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = SledStore::open(folder.path(), true).expect("opens");
        store.failed.store(true, Ordering::SeqCst);
        assert!(matches!(store.commit(Batch::default().put("a", "1")), Err(StoreError::Sync(_))));
        assert_eq!(store.get(b"a").expect("reads"), None);
    }
}
