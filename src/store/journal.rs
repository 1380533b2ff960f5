//! A file system in memory that remembers every operation, and rebuilds each disk image that a power cut may leave.
//!
//! The model of the disk is the one that POSIX allows and file systems use. Content is safe only after the sync of its
//! file, a name only after the sync of its folder. Before that, each 512-byte sector of a write is kept or lost on its
//! own. Each change of a name (creation, rename) is kept or lost, in any combination that leaves earlier changes of the
//! same name in place. A file whose name is kept but whose content was never synced may have any part of that content.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use super::conformance::Random;
use super::fs::RawFs;

/// The unit that a disk keeps or loses as a whole.
pub const SECTOR: usize = 512;

/// One remembered operation. Files have numbers, and a name points to a number, as a folder entry points to an inode.
#[derive(Debug, Clone)]
enum Step {
    /// Content of a file from an offset onwards.
    Write {
        file: usize,
        offset: usize,
        bytes: Vec<u8>,
    },
    /// The file ends here. On creation, this comes before the writes.
    Truncate {
        file: usize,
    },
    Sync {
        file: usize,
    },
    /// A name now points to this file.
    Link {
        name: String,
        file: usize,
    },
    /// `from` no longer exists and `to` points to its file, in one step.
    Rename {
        from: String,
        to: String,
        file: usize,
    },
    SyncDir,
}

#[derive(Default, Clone)]
struct State {
    names: BTreeMap<String, usize>,
    files: Vec<Vec<u8>>,
    journal: Vec<Step>,
}

/// Content of a folder after a power cut: names and contents.
pub type Image = BTreeMap<String, Vec<u8>>;

/// A file system in memory with a journal. Clones share it.
#[derive(Default, Clone)]
pub struct JournalFs(Arc<Mutex<State>>);

impl JournalFs {
    /// A folder that holds `image`, all of it durable.
    #[must_use]
    pub fn from_image(image: &Image) -> Self {
        let mut state = State::default();
        for (name, bytes) in image {
            let file = state.files.len();
            state.files.push(bytes.clone());
            state.names.insert(name.clone(), file);
            state.journal.push(Step::Write { file, offset: 0, bytes: bytes.clone() });
            state.journal.push(Step::Sync { file });
            state.journal.push(Step::Link { name: name.clone(), file });
        }
        state.journal.push(Step::SyncDir);
        Self(Arc::new(Mutex::new(state)))
    }

    /// Number of operations so far, for use as a mark in [`JournalFs::legal_images`].
    #[must_use]
    pub fn mark(&self) -> usize {
        self.0.lock().journal.len()
    }

    /// Images that a power cut may leave at any point from `since` (a [`JournalFs::mark`]) on. At each point these are
    /// the two extremes (nothing unsynced is kept, everything is kept) and seeded samples between them. At most `cap`
    /// images in all, each one once.
    #[must_use]
    pub fn legal_images(&self, since: usize, cap: usize, seed: u64) -> Vec<Image> {
        let journal = self.0.lock().journal.clone();
        let mut random = Random::new(seed);
        let mut images = BTreeSet::new();
        let points = since.min(journal.len())..=journal.len();
        for keep in [Keep::Nothing, Keep::Everything] {
            for end in points.clone() {
                images.insert(image(&journal[..end], keep, &mut random));
            }
        }
        // Short journals have fewer images than the cap. A limited number of draws finds nearly all of them.
        for _ in 0..cap.saturating_mul(4) {
            for end in points.clone() {
                if images.len() < cap {
                    images.insert(image(&journal[..end], Keep::Some, &mut random));
                }
            }
        }
        images.into_iter().take(cap).collect()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Nothing,
    Everything,
    Some,
}

impl Keep {
    fn decide(self, random: &mut Random) -> bool {
        match self {
            Self::Nothing => false,
            Self::Everything => true,
            Self::Some => random.below(2) == 1,
        }
    }
}

/// One image of the disk after the power failed at the end of `journal`.
fn image(journal: &[Step], keep: Keep, random: &mut Random) -> Image {
    let last_sync =
        |file: usize| journal.iter().rposition(|step| matches!(step, Step::Sync { file: synced } if *synced == file));
    let last_dir = journal.iter().rposition(|step| matches!(step, Step::SyncDir));
    let mut files: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    for (at, step) in journal.iter().enumerate() {
        match step {
            Step::Write { file, offset, bytes } => {
                let durable = last_sync(*file).is_some_and(|sync| sync > at);
                write(files.entry(*file).or_default(), *offset, bytes, |random| durable || keep.decide(random), random);
            }
            Step::Truncate { file } => {
                if last_sync(*file).is_some_and(|sync| sync > at) || keep.decide(random) {
                    files.entry(*file).or_default().clear();
                }
            }
            Step::Link { name, file } => {
                if last_dir.is_some_and(|sync| sync > at) || keep.decide(random) {
                    names.insert(name.clone(), *file);
                }
            }
            Step::Rename { from, to, file } => {
                if last_dir.is_some_and(|sync| sync > at) || keep.decide(random) {
                    names.remove(from);
                    names.insert(to.clone(), *file);
                }
            }
            Step::Sync { .. } | Step::SyncDir => {}
        }
    }
    names.into_iter().map(|(name, file)| (name, files.get(&file).cloned().unwrap_or_default())).collect()
}

/// Writes sector by sector. A lost sector keeps its old content, or zeros where there was none.
fn write(file: &mut Vec<u8>, offset: usize, bytes: &[u8], kept: impl Fn(&mut Random) -> bool, random: &mut Random) {
    let mut done = 0;
    while done < bytes.len() {
        let start = offset + done;
        let length = (SECTOR - start % SECTOR).min(bytes.len() - done);
        if kept(random) {
            if file.len() < start + length {
                file.resize(start + length, 0);
            }
            file[start..start + length].copy_from_slice(&bytes[done..done + length]);
        }
        done += length;
    }
}

fn missing() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl RawFs for JournalFs {
    fn read(&self, name: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let state = self.0.lock();
        let content = state.names.get(name).and_then(|file| state.files.get(*file));
        Ok(content.map(|bytes| bytes.get(..limit).unwrap_or(bytes).to_vec()))
    }

    fn create(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock();
        let file = match state.names.get(name).copied() {
            Some(file) => file,
            None => {
                let file = state.files.len();
                state.files.push(Vec::new());
                state.names.insert(name.to_owned(), file);
                state.journal.push(Step::Link { name: name.to_owned(), file });
                file
            }
        };
        state.journal.push(Step::Truncate { file });
        state.journal.push(Step::Write { file, offset: 0, bytes: bytes.to_vec() });
        *state.files.get_mut(file).ok_or_else(missing)? = bytes.to_vec();
        Ok(())
    }

    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock();
        let file = *state.names.get(name).ok_or_else(missing)?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let mut always = Random::new(0);
        write(state.files.get_mut(file).ok_or_else(missing)?, offset, bytes, |_| true, &mut always);
        state.journal.push(Step::Write { file, offset, bytes: bytes.to_vec() });
        Ok(())
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        let file = *state.names.get(name).ok_or_else(missing)?;
        state.journal.push(Step::Sync { file });
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.0.lock();
        let file = state.names.remove(from).ok_or_else(missing)?;
        state.names.insert(to.to_owned(), file);
        state.journal.push(Step::Rename { from: from.to_owned(), to: to.to_owned(), file });
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.0.lock().journal.push(Step::SyncDir);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
