//! The default engine: redb, one file, copy-on-write B-trees.
//!
//! Durability: `Durability::Immediate`, so a commit returns after `fdatasync`. Two-phase commit is off. With it, redb
//! syncs twice per commit so that a crash cannot leave a half-written root that happens to pass a non-cryptographic
//! checksum. Every record and the state are authenticated above the store, so such a root is detected, and one sync per
//! commit is enough (`docs/decisions/0001-store.md`). Quick repair is off because of its cost at each commit. After an
//! unclean end, redb reads its whole file once (`docs/decisions/0008-unclean-start.md`).
//!
//! `records` maps key -> revision u64 BE ‖ value. `heads` maps key -> first 92 bytes, written in the same transaction,
//! so that a start reads about 130 bytes per record instead of every value.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};

use super::{Batch, CommitSeq, HEAD_BYTES, Op, Store, StoreError, Stored, Visit, space};

const FILE: &str = "strongroom.redb";
const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
const HEADS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("heads");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const SEQUENCE: &str = "sequence";
const REVISION_BYTES: usize = 8;
/// redb's page cache. The index above answers questions of existence and listing, so a small cache is enough.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// A vault's records in one redb file.
pub struct RedbStore {
    database: Database,
    /// Folder of the file, to ask for free space.
    folder: PathBuf,
}

impl RedbStore {
    /// Opens or creates the file in `dir`.
    ///
    /// # Errors
    /// As [`super::open`].
    pub fn open(dir: &Path, create: bool) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        if !create && !path.exists() {
            return Err(StoreError::Unavailable(format!("there is no {FILE} in the store's folder")));
        }
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        builder.set_repair_callback(|repair| {
            let percent = repair.progress() * 100.0;
            tracing::warn!("the store was not closed properly: redb reads its whole file, {percent:.0} % done");
        });
        let database = if create { builder.create(&path) } else { builder.open(&path) }.map_err(opening)?;
        let store = Self { database, folder: dir.to_owned() };
        if create {
            // The tables exist from the start, so that a read never finds a store without them.
            let transaction = store.database.begin_write().map_err(writing)?;
            transaction.open_table(RECORDS).map_err(writing)?;
            transaction.open_table(HEADS).map_err(writing)?;
            transaction.open_table(META).map_err(writing)?;
            transaction.commit().map_err(writing)?;
            std::fs::File::open(dir)
                .and_then(|folder| folder.sync_all())
                .map_err(|e| StoreError::Sync(e.to_string()))?;
        }
        Ok(store)
    }

    fn visit(
        &self,
        table: TableDefinition<'_, &[u8], &[u8]>,
        skip: usize,
        prefix: &[u8],
        visit: Visit<'_>,
    ) -> Result<(), StoreError> {
        let transaction = self.database.begin_read().map_err(reading)?;
        let table = transaction.open_table(table).map_err(reading)?;
        for row in table.range::<&[u8]>(prefix..).map_err(reading)? {
            let (key, value) = row.map_err(reading)?;
            if !key.value().starts_with(prefix) {
                break;
            }
            let value = value.value().get(skip..).ok_or_else(short)?;
            if let ControlFlow::Break(()) = visit(key.value(), value) {
                break;
            }
        }
        Ok(())
    }
}

impl Store for RedbStore {
    fn engine(&self) -> &'static str {
        "redb"
    }

    fn get(&self, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        self.read_one(key)
    }

    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.visit(RECORDS, REVISION_BYTES, prefix, visit)
    }

    fn scan_heads(&self, prefix: &[u8], visit: Visit<'_>) -> Result<(), StoreError> {
        self.visit(HEADS, 0, prefix, visit)
    }

    fn admits(&self, batch: &Batch) -> Result<(), StoreError> {
        batch.check()?;
        space::require(&self.folder, batch)
    }

    fn commit(&self, batch: &Batch) -> Result<CommitSeq, StoreError> {
        self.apply(batch)
    }

    #[cfg(any(test, feature = "testing"))]
    fn sequence(&self) -> Result<CommitSeq, StoreError> {
        self.last()
    }
}

impl RedbStore {
    fn read_one(&self, key: &[u8]) -> Result<Option<Stored>, StoreError> {
        let transaction = self.database.begin_read().map_err(reading)?;
        let table = transaction.open_table(RECORDS).map_err(reading)?;
        let Some(row) = table.get(key).map_err(reading)? else { return Ok(None) };
        let (revision, value) = row.value().split_first_chunk::<REVISION_BYTES>().ok_or_else(short)?;
        Ok(Some(Stored { value: value.to_vec(), revision: CommitSeq(u64::from_be_bytes(*revision)) }))
    }

    fn apply(&self, batch: &Batch) -> Result<CommitSeq, StoreError> {
        batch.check()?;
        space::require(&self.folder, batch)?;
        let mut transaction = self.database.begin_write().map_err(writing)?;
        transaction.set_durability(Durability::Immediate).map_err(writing)?;
        let revision = {
            let mut records = transaction.open_table(RECORDS).map_err(writing)?;
            let mut heads = transaction.open_table(HEADS).map_err(writing)?;
            let mut meta = transaction.open_table(META).map_err(writing)?;
            // Check the conditions inside the transaction, so that no other commit can come between.
            for condition in &batch.preconditions {
                let found = records.get(condition.key.as_slice()).map_err(writing)?;
                let found = found.and_then(|row| row.value().first_chunk().copied().map(u64::from_be_bytes));
                if !condition.expect.holds(found.map(CommitSeq)) {
                    return Err(StoreError::Conflict);
                }
            }
            let last = meta.get(SEQUENCE).map_err(writing)?.map_or(0, |row| row.value());
            let revision = last.checked_add(1).ok_or_else(short)?;
            meta.insert(SEQUENCE, revision).map_err(writing)?;
            let mut row = Vec::new();
            for op in &batch.ops {
                match op {
                    Op::Put { key, value } => {
                        row.clear();
                        row.extend_from_slice(&revision.to_be_bytes());
                        row.extend_from_slice(value);
                        records.insert(key.as_slice(), row.as_slice()).map_err(writing)?;
                        let head = value.get(..HEAD_BYTES).unwrap_or(value);
                        heads.insert(key.as_slice(), head).map_err(writing)?;
                    }
                    Op::Delete { key } => {
                        records.remove(key.as_slice()).map_err(writing)?;
                        heads.remove(key.as_slice()).map_err(writing)?;
                    }
                }
            }
            revision
        };
        // After this call, a failure leaves the file in a state that only the next start can judge.
        transaction.commit().map_err(committing)?;
        Ok(CommitSeq(revision))
    }

    #[cfg(any(test, feature = "testing"))]
    fn last(&self) -> Result<CommitSeq, StoreError> {
        let transaction = self.database.begin_read().map_err(reading)?;
        let table = transaction.open_table(META).map_err(reading)?;
        let row = table.get(SEQUENCE).map_err(reading)?;
        Ok(CommitSeq(row.map_or(0, |row| row.value())))
    }
}

fn short() -> StoreError {
    StoreError::Corrupt("a redb row is shorter than its frame".into())
}

fn opening(error: redb::DatabaseError) -> StoreError {
    match error {
        redb::DatabaseError::DatabaseAlreadyOpen => StoreError::Locked,
        other => reading(other),
    }
}

fn reading(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Io(error) => StoreError::reading(&error),
        // After one error of the disk the engine refuses every access until it is opened again. That says nothing about its
        // files; the next write ends the process.
        error @ (redb::Error::PreviousIo | redb::Error::DatabaseClosed | redb::Error::LockPoisoned(_)) => {
            StoreError::Unavailable(error.to_string())
        }
        other => StoreError::Corrupt(other.to_string()),
    }
}

/// Before the commit call, nothing of the transaction is visible, so a full disk only means a rejected commit.
fn writing(error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Io(error) if is_full(&error) => StoreError::Full,
        redb::Error::Io(error) => StoreError::Sync(error.to_string()),
        redb::Error::PreviousIo => StoreError::Sync("an earlier write failed".into()),
        other => StoreError::Corrupt(other.to_string()),
    }
}

fn committing(error: redb::CommitError) -> StoreError {
    StoreError::Sync(error.to_string())
}

fn is_full(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_disk_is_not_damage() {
        let unavailable = |error| matches!(reading(error), StoreError::Unavailable(_));
        assert!(unavailable(redb::Error::Io(std::io::Error::other("the disk does not answer"))));
        assert!(unavailable(redb::Error::PreviousIo) && unavailable(redb::Error::DatabaseClosed));
        assert!(matches!(reading(redb::Error::Corrupted("a page".into())), StoreError::Corrupt(_)));
        assert!(matches!(writing(redb::Error::PreviousIo), StoreError::Sync(_)), "and the next write ends the process");
    }
}
