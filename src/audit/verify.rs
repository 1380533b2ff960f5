//! Verifies a log: finds entries that were edited, deleted, inserted, moved or cut off.
//!
//! Without a key, only the links between entries are checked, and anyone who can write the file can forge those. With
//! the key, every entry is proved to be the vault's own. Entries cut from the end leave no trace in the log. Only the
//! expected head, which the sealed state records, reveals that they are missing.

use std::io::{self, BufRead, BufReader, Read};

use super::chain::{AuditHead, AuditKeys, Line, MAX_LINE};
use super::checkpoint::{Coverage, Judgement};
use super::entry::Role;

/// Largest number of findings in a report. The rest is counted.
pub const MAX_FINDINGS: usize = 1000;

/// The fault at one place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Not a line that the vault could have written.
    #[error("not an audit entry")]
    Malformed,
    /// The file ends within a line.
    #[error("the last line is incomplete")]
    Torn,
    /// The entry was changed, or the vault never wrote it.
    #[error("the entry is not genuine")]
    Forged,
    /// The entry does not link to the one before it.
    #[error("the entry does not continue the one before")]
    Broken,
    /// Entries are missing before this one.
    #[error("entries {from} to {to} are missing")]
    Missing {
        /// First missing entry.
        from: u64,
        /// Last missing entry.
        to: u64,
    },
    /// The entry follows a later one: it was repeated, inserted or moved.
    #[error("the entry follows the later entry {after}")]
    Misplaced {
        /// The later entry before it.
        after: u64,
    },
    /// No key with this id was given.
    #[error("unknown audit key {0}")]
    UnknownKey(u32),
    /// The log ends before the expected entry.
    #[error("the log was cut: entry {expected} must exist, the last one is {found}")]
    Cut {
        /// Entry that must exist.
        expected: u64,
        /// Last entry found.
        found: u64,
    },
    /// The hash of the expected entry differs from the one in the sealed state.
    #[error("entry {seq} is not the one that the vault wrote")]
    Replaced {
        /// The entry.
        seq: u64,
    },
    /// A checkpoint that was not signed by the key.
    #[error("the signature of the checkpoint is not genuine")]
    BadSignature,
    /// A checkpoint that was signed over other lines.
    #[error("entries {from} to {to} are not the ones that were signed")]
    NotSigned {
        /// First entry that the checkpoint covers.
        from: u64,
        /// Last one.
        to: u64,
    },
    /// Entries at the end of a file, or around missing ones, that no checkpoint covers.
    #[error("no checkpoint covers entries {from} to {to}, although the log continues")]
    Unproven {
        /// First such entry.
        from: u64,
        /// Last one.
        to: u64,
    },
    /// The key was replaced before this entry.
    #[error("audit key {0} was replaced before this entry")]
    RetiredKey(u32),
    /// Reading failed.
    #[error("the file cannot be read: {0}")]
    Unreadable(io::ErrorKind),
}

/// A fault and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Name of the file, as given.
    pub file: String,
    /// Line, counted from 1; 0 if the fault is not in a line.
    pub line: u64,
    /// Sequence number in the line, if it can be read.
    pub seq: Option<u64>,
    /// The fault.
    pub fault: Fault,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if let Some(seq) = self.seq {
            write!(f, "entry {seq}: ")?;
        }
        self.fault.fmt(f)
    }
}

/// Result of the check for the expected head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadCheck {
    /// No head was given.
    NotAsked,
    /// The log has that entry. With head 0 nothing was expected.
    Found,
    /// The log starts after that entry. Earlier files are needed to check it.
    BeforeStart,
    /// The log ends before that entry or has another one in its place. The report has a finding.
    Failed,
}

/// The result of a verification.
#[derive(Debug)]
pub struct Report {
    /// Number of valid entries.
    pub entries: u64,
    /// First valid entry.
    pub first: Option<u64>,
    /// Last valid entry.
    pub last: AuditHead,
    /// Whether keys were given, so that valid means genuine.
    pub authenticated: bool,
    /// Whether public keys were given, so that checkpoints were checked.
    pub signed: bool,
    /// Number of valid checkpoints.
    pub checkpoints: u64,
    /// Last entry that a valid checkpoint covers; 0 without one.
    pub signed_to: u64,
    /// Number of entries that no valid checkpoint covers.
    pub unsigned: u64,
    /// Number of request entries without a reply.
    pub open_requests: u64,
    /// Result for the expected head.
    pub head: HeadCheck,
    /// The faults in the order of the log, at most [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// Number of findings that did not fit into the list.
    pub more_findings: u64,
}

impl Report {
    /// Whether there is no fault, the expected head exists (if one was given), and the log has at least one checkpoint
    /// (if only public keys were given).
    pub fn is_good(&self) -> bool {
        let proven = self.authenticated || !self.signed || self.checkpoints > 0;
        let expected = matches!(self.head, HeadCheck::NotAsked | HeadCheck::Found);
        self.findings.is_empty() && proven && expected
    }

    fn add(&mut self, file: &str, line: u64, seq: Option<u64>, fault: Fault) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding { file: file.to_owned(), line, seq, fault });
        } else {
            self.more_findings += 1;
        }
    }
}

/// Verifies the files of one log, oldest first, each with the name to report. Accepts any bytes. Memory is bounded by
/// the longest line (1 MiB) and the list of findings.
pub fn verify<'n, R: Read>(
    files: impl IntoIterator<Item = (&'n str, R)>,
    keys: &AuditKeys,
    expected: Option<AuditHead>,
) -> Report {
    let mut report = Report {
        entries: 0,
        first: None,
        last: AuditHead::default(),
        authenticated: !keys.is_empty(),
        signed: !keys.publics().is_empty(),
        checkpoints: 0,
        signed_to: 0,
        unsigned: 0,
        open_requests: 0,
        head: HeadCheck::NotAsked,
        findings: Vec::new(),
        more_findings: 0,
    };
    let mut walker = Walker::new(keys, expected);
    let mut last_place = (String::new(), 0);
    for (name, reader) in files {
        let mut lines = Lines::new(reader);
        while let Some(line) = lines.next() {
            match line {
                LineRead::Whole(bytes) => match walker.step(bytes) {
                    Ok(step) => {
                        report.entries += 1;
                        report.first.get_or_insert(step.seq);
                        match step.role {
                            Role::Request => report.open_requests += 1,
                            // A reply to a request in an earlier file that was not given would make the count negative.
                            Role::Closes(_) => report.open_requests = report.open_requests.saturating_sub(1),
                            _ => {}
                        }
                    }
                    Err(fault) => {
                        let seq = Line::parse(bytes).map(|line| line.seq);
                        // Continue after the faulty line, so that one fault does not hide the next.
                        walker.skip(bytes, &fault);
                        report.add(name, lines.number, seq, fault);
                    }
                },
                LineRead::TooLong => report.add(name, lines.number, None, Fault::Malformed),
                LineRead::Torn => report.add(name, lines.number, None, Fault::Torn),
                LineRead::Failed(kind) => report.add(name, lines.number, None, Fault::Unreadable(kind)),
            }
        }
        last_place = (name.to_owned(), lines.number);
    }
    report.last = walker.head.unwrap_or_default();
    (report.checkpoints, report.signed_to) = (walker.checkpoints, walker.signed_to);
    report.unsigned = walker.lost.saturating_add(walker.coverage.open);
    if let Some(expected) = expected {
        report.head = walker.check_head(report.first);
        let fault = match report.head {
            HeadCheck::Failed if report.last.seq < expected.seq => {
                Some(Fault::Cut { expected: expected.seq, found: report.last.seq })
            }
            HeadCheck::Failed => Some(Fault::Replaced { seq: expected.seq }),
            _ => None,
        };
        if let Some(fault) = fault {
            report.add(&last_place.0, last_place.1, None, fault);
        }
    }
    report
}

/// A valid entry.
pub(super) struct ValidEntry<'a> {
    pub(super) seq: u64,
    pub(super) role: Role<'a>,
}

/// Follows a chain line by line. Used by the verifier and by recovery.
pub(super) struct Walker<'k> {
    keys: &'k AuditKeys,
    expected: Option<AuditHead>,
    /// Last entry; `None` before the first.
    pub(super) head: Option<AuditHead>,
    /// Hash that the log has for the expected entry.
    seen: Option<[u8; 32]>,
    /// Public keys by id: those given, and those that they signed.
    publics: Vec<(u32, [u8; 32])>,
    /// Lines that the next checkpoint must cover.
    pub(super) coverage: Coverage,
    /// Key of the last entry.
    pub(super) last_key: Option<u32>,
    checkpoints: u64,
    signed_to: u64,
    /// Lines that ended a file without a checkpoint.
    lost: u64,
    /// The key named by a genuine change of key. Older keys must not be used any more.
    key: Option<u32>,
}

impl<'k> Walker<'k> {
    pub(super) fn new(keys: &'k AuditKeys, expected: Option<AuditHead>) -> Self {
        Self {
            keys,
            expected,
            head: None,
            seen: None,
            publics: keys.publics().to_vec(),
            coverage: Coverage::default(),
            last_key: None,
            checkpoints: 0,
            signed_to: 0,
            lost: 0,
            key: None,
        }
    }

    /// Checks that `bytes`, a line without its line feed, is the next entry, and moves on to it.
    pub(super) fn step<'a>(&mut self, bytes: &'a [u8]) -> Result<ValidEntry<'a>, Fault> {
        let line = Line::parse(bytes).ok_or(Fault::Malformed)?;
        let role = Role::parse(line.body).ok_or(Fault::Malformed)?;
        if self.key.is_some_and(|key| key != line.key) {
            return Err(Fault::RetiredKey(line.key));
        }
        if !self.keys.is_empty() {
            let keys = self.keys.find(line.key).ok_or(Fault::UnknownKey(line.key))?;
            if !line.genuine(keys) {
                return Err(Fault::Forged);
            }
        }
        match self.head {
            None if line.seq == 1 => {
                if line.prev != [0; 32] {
                    return Err(Fault::Broken);
                }
            }
            None if matches!(role, Role::Reopened { new: true, .. }) && line.seq > 0 => {
                // The link to the previous entry shows the hash of the entry before the file.
                if self.expected.is_some_and(|expected| expected.seq == line.seq - 1) {
                    self.seen = Some(line.prev);
                }
            }
            None => return Err(Fault::Missing { from: 1, to: line.seq.saturating_sub(1) }),
            Some(head) if line.seq <= head.seq => return Err(Fault::Misplaced { after: head.seq }),
            Some(head) if line.seq == head.seq + 1 => {
                if line.prev != head.hash {
                    return Err(Fault::Broken);
                }
            }
            Some(head) => return Err(Fault::Missing { from: head.seq + 1, to: line.seq - 1 }),
        }
        self.moved(&line);
        let fault = self.cover(&line, &role, bytes);
        match fault {
            Some(fault) => Err(fault),
            None => Ok(ValidEntry { seq: line.seq, role }),
        }
    }

    /// Follows what checkpoints cover. With public keys it also verifies them.
    fn cover(&mut self, line: &Line<'_>, role: &Role<'_>, bytes: &[u8]) -> Option<Fault> {
        let public = self.publics.iter().find(|(id, _)| *id == line.key).map(|(_, public)| *public);
        // Without the secret key nothing proves that the lines between two checkpoints are the vault's own.
        let only_public = self.keys.is_empty() && !self.publics.is_empty();
        self.last_key = Some(line.key);
        match role {
            Role::Checkpoint(checkpoint) => {
                // The checkpoint is judged before the coverage starts again with it.
                let judged = public.map(|public| checkpoint.judge(line.seq, &self.coverage, line.key, &public));
                let left = self.coverage.open;
                self.coverage.restart(line.seq, bytes);
                match judged {
                    Some(Judgement::Good) => {
                        self.checkpoints += 1;
                        self.signed_to = checkpoint.to;
                        return None;
                    }
                    Some(Judgement::BadSignature) => return Some(Fault::BadSignature),
                    Some(Judgement::OtherLines) => {
                        return Some(Fault::NotSigned { from: checkpoint.from, to: checkpoint.to });
                    }
                    Some(Judgement::Holed) if only_public => {
                        return Some(Fault::Unproven { from: checkpoint.from, to: checkpoint.to });
                    }
                    Some(Judgement::Holed) | None => self.lost = self.lost.saturating_add(left),
                }
                (judged.is_none() && !self.publics.is_empty()).then_some(Fault::UnknownKey(line.key))
            }
            Role::Key(change) => {
                self.coverage.add(line.seq, bytes);
                match public {
                    Some(public) if change.genuine(line.key, &public) => {
                        self.publics.push((change.new, change.public));
                        self.key = Some(change.new);
                    }
                    Some(_) => return Some(Fault::BadSignature),
                    // The caller has checked that the entry itself is genuine.
                    None if !self.keys.is_empty() => self.key = Some(change.new),
                    None => {}
                }
                None
            }
            Role::Reopened { new: true, .. } => {
                // No checkpoint can cover lines of two files, so the open lines at the end of a file stay unproven.
                let (open, to) = (self.coverage.open, line.seq.saturating_sub(1));
                self.lost = self.lost.saturating_add(open);
                self.coverage = Coverage::default();
                self.coverage.add(line.seq, bytes);
                let from = to.saturating_sub(open.saturating_sub(1));
                (only_public && open > 0).then_some(Fault::Unproven { from, to })
            }
            _ => {
                self.coverage.add(line.seq, bytes);
                None
            }
        }
    }

    /// Continues after a faulty line, so that one fault causes only one finding where possible.
    fn skip(&mut self, bytes: &[u8], fault: &Fault) {
        let Some(line) = Line::parse(bytes) else { return };
        // A rejected line is still in the file, so a signature over it must not verify.
        if !matches!(fault, Fault::BadSignature | Fault::NotSigned { .. } | Fault::Unproven { .. }) {
            self.coverage.add(line.seq, bytes);
        }
        let follows = self.head.is_none_or(|head| line.seq == head.seq + 1);
        if matches!(fault, Fault::Missing { .. } | Fault::Broken) || (matches!(fault, Fault::Forged) && follows) {
            self.moved(&line);
        }
    }

    fn moved(&mut self, line: &Line<'_>) {
        self.head = Some(line.head());
        if self.expected.is_some_and(|expected| expected.seq == line.seq) {
            self.seen = Some(line.hash);
        }
    }

    /// Checks the expected head. `first` is the first entry of the log.
    pub(super) fn check_head(&self, first: Option<u64>) -> HeadCheck {
        let Some(expected) = self.expected else { return HeadCheck::NotAsked };
        if expected.seq == 0 {
            return HeadCheck::Found;
        }
        match self.seen {
            Some(hash) if hash == expected.hash => HeadCheck::Found,
            Some(_) => HeadCheck::Failed,
            None if first.is_some_and(|first| first > expected.seq) => HeadCheck::BeforeStart,
            None => HeadCheck::Failed,
        }
    }
}

/// One line as read from a file.
pub(super) enum LineRead<'a> {
    /// A complete line, without its line feed.
    Whole(&'a [u8]),
    /// A line longer than any entry. It was skipped.
    TooLong,
    /// The file ends without a line feed.
    Torn,
    /// Reading failed. No more lines follow.
    Failed(io::ErrorKind),
}

/// Reads lines with bounded memory.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    /// Number of the last line that was read, counted from 1.
    pub(super) number: u64,
    /// Number of bytes up to the end of the last line that was read.
    pub(super) offset: u64,
    ended: bool,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader: BufReader::with_capacity(1 << 16, reader), line: Vec::new(), number: 0, offset: 0, ended: false }
    }

    pub(super) fn next(&mut self) -> Option<LineRead<'_>> {
        if self.ended {
            return None;
        }
        self.line.clear();
        let mut too_long = false;
        loop {
            let available = match self.reader.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.ended = true;
                    self.number += 1;
                    return Some(LineRead::Failed(error.kind()));
                }
            };
            if available.is_empty() {
                self.ended = true;
                // Bytes without a line end are a write that a crash cut off, not an entry.
                if self.line.is_empty() && !too_long {
                    return None;
                }
                self.number += 1;
                return Some(LineRead::Torn);
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let part = available.get(..end.unwrap_or(available.len())).unwrap_or_default();
            too_long |= self.line.len() + part.len() > MAX_LINE;
            // The rest of a line that is too long is read and dropped: memory stays bounded, and the next line is
            // found.
            if !too_long {
                self.line.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            self.reader.consume(used);
            self.offset += u64::try_from(used).expect("a length fits");
            if end.is_some() {
                self.number += 1;
                return Some(if too_long { LineRead::TooLong } else { LineRead::Whole(&self.line) });
            }
        }
    }
}
