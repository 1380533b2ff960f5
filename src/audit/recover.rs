//! Continues a log, however the process ended: finds the tail, cuts what a crash left half-written, and matches the log
//! with the sealed state.
//!
//! Entries become durable in order, so everything that a power cut may lose or tear follows the last synced entry. The
//! longest run of genuine entries is kept and the rest is cut. The sealed state gives the minimum length of that run.
//! The cut bytes are first saved beside the log (`<file>.torn-<last entry>`), because only a person can tell a torn
//! write from an altered one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::Device;
use super::chain::{AuditHead, AuditKeys};
use super::checkpoint::Coverage;
use super::entry::Role;
use super::error::AuditError;
use super::file::{FileDevice, sync_folder};
use super::verify::{Fault, HeadCheck, LineRead, Lines, Walker};

/// Bytes that were cut from the end of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// Number of bytes.
    pub bytes: u64,
    /// Their SHA-256.
    pub sha256: [u8; 32],
    /// Where they were saved.
    pub saved: PathBuf,
}

/// Where a chain continues.
#[derive(Debug, Clone, Default)]
pub struct Resume {
    /// Last entry.
    pub head: AuditHead,
    /// Request entries without a reply, ascending. Those up to the audit head in the sealed state belong to its group.
    /// Later ones never happened.
    pub pending: Vec<u64>,
    /// Number of notes about each of them.
    pub remarked: BTreeMap<u64, usize>,
    /// What was cut.
    pub torn: Vec<Torn>,
    /// Whether the file is empty although the chain has started. Then the first entry links it to the old file.
    pub new_file: bool,
    /// Whether an operator gave up the log that the sealed state vouches for. Its last entries are unknown.
    pub given_up: bool,
    /// The log ends with records known to be damaged: an alarm said so, and since then no check ended without a finding
    /// and no salvage removed them. Also true for a log that was given up, because nobody knows whether it said so.
    pub damage: bool,
    /// Time for the entries about the start, in Unix milliseconds.
    pub time_ms: u64,
    /// Lines that no checkpoint covers yet.
    pub(super) coverage: Coverage,
    /// Key of the last entry.
    pub(super) last_key: Option<u32>,
}

impl Resume {
    /// Key of the last entry; `None` for a log without entries.
    #[must_use]
    pub fn last_key(&self) -> Option<u32> {
        self.last_key
    }
}

impl FileDevice {
    /// Opens the log at `path`, cuts what a crash left after the last genuine entry, and checks that the log contains
    /// `expected`, the head in the sealed state ([`AuditHead::default`] for a new vault). The log may be longer.
    ///
    /// If the file is missing or has no entry yet (the process ended while the log was rotated), the chain is read from
    /// the rotated file beside it. The name of a rotated file is that of the log, then a dot or hyphen, then anything.
    ///
    /// After an error nothing was changed. After a crash, calling it again gives the same result.
    ///
    /// # Errors
    /// [`AuditError::Cut`], [`AuditError::Damaged`] and [`AuditError::Replaced`] if the log does not contain
    /// `expected`; [`AuditError::UnknownKey`] if `keys` lacks one that the log uses; [`AuditError::File`].
    pub fn recover(
        path: &Path,
        keys: &AuditKeys,
        expected: AuditHead,
        now_ms: u64,
    ) -> Result<(Self, Resume), AuditError> {
        let survey = Survey::of(path, keys, expected)?;
        survey.contains(expected)?;
        let mut resume = Resume {
            head: survey.head,
            pending: survey.pending.iter().copied().collect(),
            remarked: survey.remarked.clone(),
            damage: survey.damage,
            time_ms: now_ms,
            coverage: survey.coverage.clone(),
            last_key: survey.last_key,
            ..Resume::default()
        };
        let device = survey.take_up(path, &mut resume)?;
        Ok((device, resume))
    }

    /// Returns [`FileDevice::recover`] for `path` as a function.
    pub fn opener(path: PathBuf) -> impl Fn(&AuditKeys, AuditHead, u64) -> Result<Opened, AuditError> + Send + Sync {
        move |keys, expected, now_ms| {
            let (device, resume) = Self::recover(&path, keys, expected, now_ms)?;
            let device: Box<dyn Device> = Box::new(device);
            Ok((device, resume))
        }
    }

    /// Checks, read-only, whether [`FileDevice::recover`] would find the log complete.
    ///
    /// # Errors
    /// As [`FileDevice::recover`].
    pub fn check(path: &Path, keys: &AuditKeys, expected: AuditHead) -> Result<(), AuditError> {
        Survey::of(path, keys, expected)?.contains(expected)
    }

    /// As [`FileDevice::opener`], for a log whose loss an operator has accepted. A file that does not contain the
    /// expected entry, or that cannot be read ([`AuditError::is_loss`]), is kept under another name (`<file>.lost-<n>`).
    /// A new file continues the chain after that entry, so verifying both shows the gap. After a crash the log is still
    /// rejected, and the call can be repeated.
    pub fn opener_after_loss(
        path: PathBuf,
    ) -> impl Fn(&AuditKeys, AuditHead, u64) -> Result<Opened, AuditError> + Send + Sync {
        move |keys, expected, now_ms| {
            let device: Box<dyn Device>;
            match Self::check(&path, keys, expected) {
                Ok(()) => {
                    let (found, resume) = Self::recover(&path, keys, expected, now_ms)?;
                    device = Box::new(found);
                    return Ok((device, resume));
                }
                Err(error) if error.is_loss() => {}
                Err(error) => return Err(error),
            }
            if std::fs::symlink_metadata(&path).is_ok() {
                set_aside(&path).map_err(AuditError::file("setting the lost log aside"))?;
            }
            device = Box::new(Self::open(&path).map_err(AuditError::file("opening"))?);
            let resume = Resume {
                head: expected,
                new_file: true,
                given_up: true,
                damage: true,
                time_ms: now_ms,
                ..Resume::default()
            };
            Ok((device, resume))
        }
    }
}

/// A device at the end of its log, and where its chain continues.
pub type Opened = (Box<dyn Device>, Resume);

/// Renames `path` to the first free name `<path>.lost-<n>`, durably.
fn set_aside(path: &Path) -> io::Result<()> {
    for number in 1..=MAX_LOST {
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!("{LOST}{number}"));
        if std::fs::symlink_metadata(&aside).is_err() {
            std::fs::rename(path, &aside)?;
            return sync_folder(path);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Suffix of a log whose loss was accepted.
const LOST: &str = ".lost-";
const MAX_LOST: u32 = 1_000;

/// Content of one log.
struct Survey {
    /// File that holds the last entry.
    file: Option<PathBuf>,
    /// Whether that file is a rotated one and not the log itself.
    rotated: bool,
    head: AuditHead,
    check: HeadCheck,
    /// Length in bytes of the genuine entries, and of the whole file.
    good: u64,
    len: u64,
    /// Line at which the genuine entries end, if anything follows.
    stop: Option<u64>,
    pending: BTreeSet<u64>,
    remarked: BTreeMap<u64, usize>,
    damage: bool,
    coverage: Coverage,
    last_key: Option<u32>,
}

impl Survey {
    fn of(path: &Path, keys: &AuditKeys, expected: AuditHead) -> Result<Self, AuditError> {
        let own = match Self::scan(path, keys, expected)? {
            Some(own) if own.head.seq > 0 => return Ok(own),
            own => own,
        };
        let mut best: Option<Self> = None;
        for rotated in rotated_files(path).map_err(AuditError::file("listing the folder"))? {
            let found = match Self::scan(&rotated, keys, expected) {
                Ok(found) => found,
                Err(AuditError::UnknownKey(_)) => continue,
                Err(error) => return Err(error),
            };
            if let Some(found) = found.filter(|found| found.head.seq > best.as_ref().map_or(0, |best| best.head.seq)) {
                best = Some(Self { rotated: true, ..found });
            }
        }
        Ok(best.or(own).unwrap_or(Self {
            file: None,
            rotated: false,
            head: AuditHead::default(),
            check: if expected.seq == 0 { HeadCheck::Found } else { HeadCheck::Failed },
            good: 0,
            len: 0,
            stop: None,
            pending: BTreeSet::new(),
            remarked: BTreeMap::new(),
            damage: false,
            coverage: Coverage::default(),
            last_key: None,
        }))
    }

    /// Reads one file. Returns `None` if it does not exist.
    fn scan(path: &Path, keys: &AuditKeys, expected: AuditHead) -> Result<Option<Self>, AuditError> {
        let mut options = OpenOptions::new();
        // Never follows a link or blocks on a pipe, because the path may have been replaced by something else.
        options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = match options.open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(AuditError::file("opening")(error)),
        };
        let meta = file.metadata().map_err(AuditError::file("examining"))?;
        if !meta.is_file() {
            return Err(AuditError::File { step: "opening", kind: io::ErrorKind::InvalidInput });
        }
        let mut walker = Walker::new(keys, Some(expected));
        let mut lines = Lines::new(file);
        let (mut good, mut stop, mut first) = (0, None, None);
        let (mut pending, mut remarked, mut damage) = (BTreeSet::new(), BTreeMap::new(), false);
        while let Some(line) = lines.next() {
            let bytes = match line {
                LineRead::Whole(bytes) => bytes,
                LineRead::Failed(kind) => return Err(AuditError::File { step: "reading", kind }),
                // A crash leaves an incomplete last line. Everything from here on is cut once it is saved.
                LineRead::TooLong | LineRead::Torn => {
                    stop = Some(lines.number);
                    break;
                }
            };
            match walker.step(bytes) {
                Ok(step) => {
                    first.get_or_insert(step.seq);
                    match step.role {
                        Role::Request => drop(pending.insert(step.seq)),
                        Role::Remark(request) if pending.contains(&request) => {
                            *remarked.entry(request).or_insert(0) += 1;
                        }
                        Role::Closes(request) => {
                            pending.remove(&request);
                            remarked.remove(&request);
                        }
                        Role::Reopened { pending: open, damage: known, .. } => {
                            pending.extend(Role::pending(open));
                            damage |= known;
                        }
                        Role::Damage(found) => damage = found,
                        _ => {}
                    }
                    good = lines.offset;
                }
                // Anybody can append such a line. After the expected entry, it is a torn tail like any other.
                Err(Fault::UnknownKey(_)) if first.is_some() && walker.check_head(first) != HeadCheck::Failed => {
                    stop = Some(lines.number);
                    break;
                }
                // The vault lacks a key; the log is not torn. So nothing may be cut.
                Err(Fault::UnknownKey(id)) => return Err(AuditError::UnknownKey(id)),
                Err(_) => {
                    stop = Some(lines.number);
                    break;
                }
            }
        }
        Ok(Some(Self {
            file: Some(path.to_owned()),
            rotated: false,
            head: walker.head.unwrap_or_default(),
            check: walker.check_head(first),
            good,
            len: meta.len(),
            stop,
            pending,
            remarked,
            damage,
            coverage: walker.coverage,
            last_key: walker.last_key,
        }))
    }

    fn contains(&self, expected: AuditHead) -> Result<(), AuditError> {
        match self.check {
            HeadCheck::Failed => Err(match self.stop {
                _ if self.head.seq >= expected.seq => AuditError::Replaced { seq: expected.seq },
                Some(line) => AuditError::Damaged { line, expected: expected.seq, found: self.head.seq },
                None => AuditError::Cut { expected: expected.seq, found: self.head.seq },
            }),
            _ => Ok(()),
        }
    }

    /// Whether the log itself has no entry yet.
    fn starts_file(&self) -> bool {
        self.rotated || self.head.seq == 0
    }

    /// Cuts the torn tail and opens the log for appending.
    fn take_up(self, path: &Path, resume: &mut Resume) -> Result<FileDevice, AuditError> {
        if let Some(file) = &self.file {
            if self.len > self.good {
                resume.torn.push(cut(file, self.good, self.head.seq)?);
            }
            if self.rotated && path.exists() {
                // The first entry of the new file is half-written.
                let len = std::fs::metadata(path).map_err(AuditError::file("examining"))?.len();
                if len > 0 {
                    resume.torn.push(cut(path, 0, self.head.seq)?);
                }
            }
        }
        if self.starts_file() && resume.head.seq > 0 {
            resume.new_file = true;
        }
        FileDevice::open(path).map_err(AuditError::file("opening"))
    }
}

/// Saves everything from `good` on beside the file, then cuts it. Repeating this after a crash is safe.
fn cut(path: &Path, good: u64, seq: u64) -> Result<Torn, AuditError> {
    let mut saved = path.as_os_str().to_owned();
    saved.push(format!(".torn-{seq}"));
    let saved = PathBuf::from(saved);
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(libc::O_NOFOLLOW);
    let mut file = options.open(path).map_err(AuditError::file("opening"))?;
    file.seek(SeekFrom::Start(good)).map_err(AuditError::file("seeking"))?;

    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut copy = options.open(&saved).map_err(AuditError::file("saving the torn tail"))?;
    let (mut digest, mut bytes, mut buffer) = (Sha256::new(), 0u64, vec![0u8; 1 << 16]);
    loop {
        let count = file.read(&mut buffer).map_err(AuditError::file("reading"))?;
        let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else { break };
        digest.update(part);
        copy.write_all(part).map_err(AuditError::file("saving the torn tail"))?;
        bytes += u64::try_from(count).expect("a length fits");
    }
    copy.sync_all().map_err(AuditError::file("saving the torn tail"))?;
    sync_folder(&saved).map_err(AuditError::file("saving the torn tail"))?;
    file.set_len(good).map_err(AuditError::file("cutting"))?;
    File::sync_all(&file).map_err(AuditError::file("cutting"))?;
    Ok(Torn { bytes, sha256: digest.finalize().into(), saved })
}

/// Files beside `path` that may be rotated logs: its name, a dot or hyphen, and more. Leaves out saved tails and lost
/// logs.
fn rotated_files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(Vec::new()) };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let name = name.as_encoded_bytes();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let other = entry.file_name();
        let rest = other.as_encoded_bytes().strip_prefix(name).unwrap_or_default();
        let kept = rest.starts_with(b".torn-") || rest.starts_with(LOST.as_bytes());
        if matches!(rest.first(), Some(b'.' | b'-')) && !kept && entry.file_type()?.is_file() {
            found.push(entry.path());
        }
    }
    Ok(found)
}
