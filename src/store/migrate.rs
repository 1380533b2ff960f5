//! Copies the records of one store to another, and proves that the copy is identical.

use std::ops::ControlFlow;

use super::{Batch, Store, StoreError};

/// Result of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Records copied and compared.
    pub records: u64,
}

/// Copies every record of `from` into the empty store `to` in batches of limited size, then compares both stores record
/// by record. `progress` gets the number of records done and the total. If it is killed at any moment, `from` is
/// untouched and `to` is incomplete, so the caller makes `to` visible only after this has returned `Ok`.
///
/// # Errors
/// [`StoreError::Conflict`] when `to` is not empty; [`StoreError::Corrupt`] when the stores differ afterwards; the
/// errors of reading and committing.
pub fn copy(from: &dyn Store, to: &dyn Store, progress: &mut dyn FnMut(u64, u64)) -> Result<Report, StoreError> {
    // A copy over existing records could mix two vaults.
    let mut occupied = false;
    to.scan(b"", &mut |_, _| {
        occupied = true;
        ControlFlow::Break(())
    })?;
    if occupied {
        return Err(StoreError::Conflict);
    }
    let mut total = 0;
    from.scan_heads(b"", &mut |_, _| {
        total += 1;
        ControlFlow::Continue(())
    })?;
    // Commits in batches, so that a large store does not have to fit in memory.
    let (mut done, mut bytes) = (0, 0);
    let mut batch = Batch::default();
    let mut failure = None;
    from.scan(b"", &mut |key, value| {
        batch.put(key, value);
        bytes += key.len() + value.len();
        done += 1;
        if batch.ops.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
            return ControlFlow::Continue(());
        }
        bytes = 0;
        progress(done, total);
        match to.commit(&std::mem::take(&mut batch)) {
            Ok(_) => ControlFlow::Continue(()),
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(error) = failure {
        return Err(error);
    }
    if !batch.ops.is_empty() {
        to.commit(&batch)?;
    }
    progress(done, total);
    compare(from, to)?;
    Ok(Report { records: done })
}

/// Compares two stores record by record.
///
/// # Errors
/// [`StoreError::Corrupt`] at the first difference, in either direction.
fn compare(from: &dyn Store, to: &dyn Store) -> Result<(), StoreError> {
    let differs = || StoreError::Corrupt("the copy differs from the original".into());
    let mut same = Ok(());
    let mut compared = 0_u64;
    from.scan(b"", &mut |key, value| match to.get(key) {
        Ok(Some(copy)) if copy.value == value => {
            compared += 1;
            ControlFlow::Continue(())
        }
        Ok(_) => {
            same = Err(differs());
            ControlFlow::Break(())
        }
        Err(error) => {
            same = Err(error);
            ControlFlow::Break(())
        }
    })?;
    same?;
    let mut copied = 0_u64;
    to.scan_heads(b"", &mut |_, _| {
        copied += 1;
        ControlFlow::Continue(())
    })?;
    if copied == compared { Ok(()) } else { Err(differs()) }
}

const BATCH_RECORDS: usize = 1_000;
const BATCH_BYTES: usize = 4 * 1024 * 1024;
