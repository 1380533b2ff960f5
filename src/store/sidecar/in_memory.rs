//! Header copies and anchor in memory, for tests and benches.

use std::io;
use std::sync::Mutex;

use super::{ANCHOR_BYTES, AnchorFile, HeaderFiles, SidecarError, slot_offset};

/// Header copies in memory.
#[derive(Default)]
pub struct MemHeader(Mutex<[Option<Vec<u8>>; 2]>);

impl MemHeader {
    /// No copies yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Copies as an attacker or a crash left them.
    #[must_use]
    pub fn with(copies: [Option<Vec<u8>>; 2]) -> Self {
        Self(Mutex::new(copies))
    }
}

const POISONED: SidecarError = SidecarError::Io { step: "locking", kind: io::ErrorKind::Other };

impl HeaderFiles for MemHeader {
    fn read(&self) -> Result<[Option<Vec<u8>>; 2], SidecarError> {
        Ok(self.0.lock().map_err(|_| POISONED)?.clone())
    }

    fn write(&self, copy: usize, bytes: &[u8]) -> Result<(), SidecarError> {
        let mut copies = self.0.lock().map_err(|_| POISONED)?;
        *copies.get_mut(copy).ok_or(SidecarError::OutOfRange)? = Some(bytes.to_vec());
        Ok(())
    }
}

/// The anchor in memory.
#[derive(Default)]
pub struct MemAnchor(Mutex<Option<Vec<u8>>>);

impl MemAnchor {
    /// No file yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A file as an attacker or a crash left it.
    #[must_use]
    pub fn with(bytes: Option<Vec<u8>>) -> Self {
        Self(Mutex::new(bytes))
    }
}

impl AnchorFile for MemAnchor {
    fn read(&self) -> Result<Option<Vec<u8>>, SidecarError> {
        Ok(self.0.lock().map_err(|_| POISONED)?.clone())
    }

    fn create(&self) -> Result<(), SidecarError> {
        *self.0.lock().map_err(|_| POISONED)? = Some(vec![0; ANCHOR_BYTES]);
        Ok(())
    }

    fn write_slot(&self, slot: usize, bytes: &[u8]) -> Result<(), SidecarError> {
        let offset = usize::try_from(slot_offset(slot, bytes)?).map_err(|_| SidecarError::OutOfRange)?;
        let mut file = self.0.lock().map_err(|_| POISONED)?;
        let missing = SidecarError::Io { step: "writing the anchor", kind: io::ErrorKind::NotFound };
        let target = file.as_mut().ok_or(missing)?.get_mut(offset..offset + bytes.len());
        target.ok_or(SidecarError::OutOfRange)?.copy_from_slice(bytes);
        Ok(())
    }
}
