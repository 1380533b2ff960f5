//! Rejects a commit before it starts when the file system is nearly full. An engine that runs out of space half-way
//! cannot say what it wrote, and sled then no longer opens.

use std::path::Path;

use super::{Batch, Op, StoreError};

/// Free space that stays unused, in bytes: room for an engine's own pages, and for a deletion to free more.
const RESERVE: u64 = 4 * 1024 * 1024;
/// Bytes that an engine may write per byte of a batch: pages of a copy-on-write tree, and a log and its rewriting.
const FACTOR: u64 = 4;

/// `Ok` when the file system of `folder` has room for four times the batch plus 4 MiB, or reports no size. Some network
/// and user-space file systems do not know how large they are, and unknown is not full.
///
/// # Errors
/// [`StoreError::Full`] when there is not enough room; [`StoreError::Unavailable`] when the system does not answer.
pub(super) fn require(folder: &Path, batch: &Batch) -> Result<(), StoreError> {
    let system = rustix::fs::statvfs(folder).map_err(|error| StoreError::Unavailable(error.to_string()))?;
    match free(system.f_blocks, system.f_bavail, system.f_frsize) {
        Some(free) if free < needed(batch) => Err(StoreError::Full),
        _ => Ok(()),
    }
}

/// Free bytes: `available` blocks of `block` bytes, out of `blocks`. `None` when the file system reports no size.
fn free(blocks: u64, available: u64, block: u64) -> Option<u64> {
    (blocks != 0 && block != 0).then(|| available.saturating_mul(block))
}

fn needed(batch: &Batch) -> u64 {
    let bytes = batch.ops.iter().map(|op| match op {
        Op::Put { key, value } => key.len().saturating_add(value.len()),
        Op::Delete { key } => key.len(),
    });
    let bytes = bytes.fold(0, usize::saturating_add);
    u64::try_from(bytes).unwrap_or(u64::MAX).saturating_mul(FACTOR).saturating_add(RESERVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_needs_four_times_its_bytes_and_the_reserve() {
        let mut batch = Batch::default();
        assert_eq!(needed(&batch), RESERVE);
        batch.put("key", vec![0; 97]).delete("other");
        assert_eq!(needed(&batch), RESERVE + 4 * 105);
    }

    #[test]
    fn a_system_without_a_size_is_not_full() {
        assert_eq!(free(0, 0, 4096), None);
        assert_eq!(free(0, 0, 0), None);
        assert_eq!(free(100, 50, 0), None);
        assert_eq!(free(100, 0, 4096), Some(0));
        assert_eq!(free(100, 50, 4096), Some(50 * 4096));
        // A real one: it has no blocks at all.
        require(Path::new("/proc"), &Batch::default()).expect("unknown is not full");
    }

    #[test]
    fn a_system_with_room_takes_a_small_batch() {
        let folder = tempfile::tempdir().expect("a folder");
        require(folder.path(), &Batch::default()).expect("4 MiB are free");
        assert!(matches!(require(&folder.path().join("missing"), &Batch::default()), Err(StoreError::Unavailable(_))));
    }
}
