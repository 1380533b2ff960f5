//! The broker: one chain, one device, fail closed.
//!
//! An entry exists once the device has accepted it. If the device rejects it, the entry does not exist and the request
//! must fail. The next entry tries the device again and gets the same number. So a log has no gaps, and a sync covers
//! every existing entry (`docs/decisions/0007-audit-devices.md`).

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::{Mutex, MutexGuard};

use super::chain::{self, AuditHead, KeySet, LogKey};
use super::checkpoint::{self, Coverage, KeyChange};
use super::entry::{EntryWriter, Inner, Note, PathMode, ReplyFacts, RequestFacts};
use super::error::AuditError;
use super::recover::Resume;
use super::{CUT_ALARM, Device};
use crate::crypto::sign;

/// Milliseconds between two checks of the device.
const INTERVAL_MS: u64 = 1000;

/// When exchanges become durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncMode {
    /// With the next [`Broker::sync`], which the daemon calls each second.
    #[default]
    Periodic,
    /// Before [`Broker::exchange`] returns.
    Always,
}

/// State of the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceHealth {
    /// Name from the configuration.
    pub name: String,
    /// Whether the device accepts entries.
    pub working: bool,
    /// What an operator should check even if the device works, for example that the file was removed.
    pub complaint: Option<&'static str>,
}

struct State {
    head: AuditHead,
    device: Box<dyn Device>,
    /// Whether the device rejected the last entry.
    refused: bool,
    /// Whether entries that were written are no longer on the device. Stays set until the device has a new file.
    cut: bool,
    /// Whether the alarm about this must still be written.
    alarm_due: bool,
    /// Result of the last check of the device.
    complaint: Option<&'static str>,
    /// Lines under construction. Kept between calls to avoid allocations.
    lines: Vec<u8>,
    /// Request entries without a reply.
    pending: BTreeSet<u64>,
    /// Latest time seen, Unix milliseconds.
    last_ms: u64,
    checked_ms: u64,
    /// Number of the last durable entry.
    synced: u64,
    /// Whether a sync failed. Nothing may be written any more then.
    dead: bool,
    /// The lines that the next checkpoint covers.
    coverage: Coverage,
}

impl State {
    /// Checks whether the device still holds what was written to it.
    fn look(&mut self) {
        if self.device.shrank() {
            tracing::error!(
                "the audit file was cut from outside: entries are missing, and the vault will not unseal with it. \
                 Keep every copy, rename the file and send SIGHUP before you restart the daemon (docs/operations.md, \
                 \"Rotate the audit file\")"
            );
            (self.cut, self.alarm_due) = (true, true);
        }
    }
}

/// The bodies of one batch, one after the other.
#[derive(Default)]
struct Bodies {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Bodies {
    fn end(&mut self) {
        self.ends.push(self.bytes.len());
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(self.ends.iter().copied()).map(|(start, end)| self.bytes.get(start..end).unwrap_or_default())
    }
}

/// Writes the audit log. A running vault has one broker, which all threads share.
pub struct Broker {
    keys: ArcSwap<KeySet>,
    paths: PathMode,
    mode: SyncMode,
    state: Mutex<State>,
    /// Allows one sync at a time. The system reports a failed sync only once and to one caller, so later callers must
    /// learn about it here.
    syncing: Mutex<()>,
}

impl Broker {
    /// Continues the chain where `resume` says it ended, and records what happened at the start: the first entry of a
    /// new file, or a torn tail that was cut. Requests without a reply are in [`pending`](Self::pending). The caller
    /// answers each of them with [`Note::Unfinished`].
    ///
    /// # Errors
    /// [`AuditError::Refused`] when the device does not accept the entries; [`AuditError::Sync`] when they cannot be
    /// made durable: stop the process.
    pub fn open(device: Box<dyn Device>, key: LogKey, resume: Resume) -> Result<Self, AuditError> {
        let state = State {
            head: resume.head,
            device,
            refused: false,
            cut: false,
            alarm_due: false,
            complaint: None,
            lines: Vec::with_capacity(4096),
            pending: resume.pending.iter().copied().collect(),
            last_ms: resume.time_ms,
            checked_ms: 0,
            synced: 0,
            dead: false,
            coverage: resume.coverage,
        };
        let broker = Self {
            keys: ArcSwap::from_pointee(KeySet::from(key)),
            paths: PathMode::default(),
            mode: SyncMode::default(),
            state: Mutex::new(state),
            syncing: Mutex::default(),
        };
        let keys = broker.keys.load_full();
        let mut bodies = Bodies::default();
        if resume.new_file {
            let note = Inner::Reopened { new: true, pending: &resume.pending, damage: resume.damage };
            broker.writer(&keys, &mut bodies.bytes).inner(resume.time_ms, &note);
            bodies.end();
        }
        for torn in &resume.torn {
            let note = Inner::TornTail { bytes: torn.bytes, digest: &torn.sha256 };
            broker.writer(&keys, &mut bodies.bytes).inner(resume.time_ms, &note);
            bodies.end();
        }
        if !bodies.ends.is_empty() {
            // These entries describe files that exist already, so they must be durable before the vault serves
            // anything.
            let mut state = broker.state.lock();
            // The first line of a new file starts a new coverage, because a checkpoint never reaches back into another
            // file.
            if resume.new_file {
                state.coverage = Coverage::default();
            }
            broker.append(&mut state, &keys, resume.time_ms, &bodies)?;
            drop(state);
            broker.sync()?;
        }
        Ok(broker)
    }

    /// Sets how paths are written.
    #[must_use]
    pub fn with_path_mode(mut self, paths: PathMode) -> Self {
        self.paths = paths;
        self
    }

    /// Sets when exchanges become durable.
    #[must_use]
    pub fn with_sync_mode(mut self, mode: SyncMode) -> Self {
        self.mode = mode;
        self
    }

    /// Records a request together with its reply, in one line and one write. After `Ok` the reply may be sent. The entry
    /// survives the end of the process. It survives a power cut after the next sync, or at once with
    /// [`SyncMode::Always`].
    ///
    /// # Errors
    /// [`AuditError::Refused`]: nothing was recorded, the reply must not be sent. [`AuditError::Sync`]: stop the
    /// process.
    pub fn exchange(&self, request: &RequestFacts<'_>, reply: &ReplyFacts<'_>) -> Result<(), AuditError> {
        let (mut state, keys, bodies) = self.written(1024, |writer| writer.exchange(request, reply));
        self.append(&mut state, &keys, request.time_ms, &bodies)?;
        drop(state);
        match self.mode {
            SyncMode::Periodic => Ok(()),
            SyncMode::Always => self.sync(),
        }
    }

    /// Records the requests of one group and makes them durable with one sync. Returns the head for the sealed state,
    /// which is the last request. The other requests directly precede it, so request `i` of `n` has the number
    /// `head.seq - n + 1 + i`.
    ///
    /// # Errors
    /// [`AuditError::Refused`]: nothing was recorded, the group must not run. [`AuditError::Sync`]: stop the process.
    pub fn requests(&self, requests: &[RequestFacts<'_>]) -> Result<AuditHead, AuditError> {
        let time_ms = requests.iter().map(|facts| facts.time_ms).max().unwrap_or(0);
        let head = {
            let (mut state, keys, bodies) = self.written_each(requests.iter(), |writer, facts| writer.request(facts));
            if requests.is_empty() {
                return if state.dead { Err(AuditError::Sync) } else { Ok(state.head) };
            }
            let head = self.append(&mut state, &keys, time_ms, &bodies)?;
            let count = u64::try_from(requests.len()).expect("a length fits");
            state.pending.extend(head.seq - count + 1..=head.seq);
            head
        };
        self.sync()?;
        Ok(head)
    }

    /// Records how requests ended, at `time_ms` in Unix milliseconds. `notes` come first. Everything goes
    /// out in one write and becomes durable with one sync. Each reply names the number of its request entry.
    ///
    /// # Errors
    /// [`AuditError::Refused`]: nothing was recorded, but the change itself is durable and stays. [`AuditError::Sync`]:
    /// stop the process.
    pub fn replies(
        &self,
        time_ms: u64,
        notes: &[Note<'_>],
        replies: &[(u64, ReplyFacts<'_>)],
    ) -> Result<(), AuditError> {
        if notes.is_empty() && replies.is_empty() {
            return Ok(());
        }
        {
            let mut state = self.state.lock();
            // A clock that was set back must not make the log go back.
            let time_ms = time_ms.max(state.last_ms);
            let keys = self.keys.load_full();
            let mut bodies = Bodies::default();
            for note in notes {
                self.writer(&keys, &mut bodies.bytes).note(time_ms, note);
                bodies.end();
            }
            for (request, facts) in replies {
                self.writer(&keys, &mut bodies.bytes).reply(time_ms, *request, facts);
                bodies.end();
            }
            self.append(&mut state, &keys, time_ms, &bodies)?;
            // Only now, because after a rejected write these requests are still without a reply.
            let noted = notes.iter().filter_map(|note| match note {
                Note::Unfinished { request, .. } => Some(request),
                _ => None,
            });
            for request in replies.iter().map(|(request, _)| request).chain(noted) {
                state.pending.remove(request);
            }
        }
        self.sync()
    }

    /// Records events in one write and makes them durable. `time_ms` is in Unix milliseconds.
    ///
    /// # Errors
    /// [`AuditError::Refused`]: nothing was recorded. [`AuditError::Sync`]: stop the process.
    pub fn notes(&self, time_ms: u64, notes: &[Note<'_>]) -> Result<(), AuditError> {
        self.replies(time_ms, notes, &[])
    }

    /// Records an event and makes it durable. `time_ms` is in Unix milliseconds.
    ///
    /// # Errors
    /// As [`notes`](Self::notes).
    pub fn note(&self, time_ms: u64, note: &Note<'_>) -> Result<(), AuditError> {
        self.notes(time_ms, std::slice::from_ref(note))
    }

    /// Makes all entries so far durable. Does nothing if they are durable. Entries can be appended meanwhile.
    ///
    /// # Errors
    /// [`AuditError::Sync`]: the content of the disk is unknown. The process must stop. From now on every call fails.
    pub fn sync(&self) -> Result<(), AuditError> {
        let durable = |state: &State, seq: u64| match (state.dead, state.synced >= seq) {
            (true, _) => Err(AuditError::Sync),
            (false, done) => Ok(done),
        };
        let wanted = {
            let state = self.state.lock();
            if durable(&state, state.head.seq)? {
                return Ok(());
            }
            state.head.seq
        };
        let _turn = self.syncing.lock();
        let (seq, syncer) = {
            let state = self.state.lock();
            if durable(&state, wanted)? {
                // The previous holder of the lock synced these entries as well.
                return Ok(());
            }
            (state.head.seq, state.device.syncer())
        };
        let result = syncer.sync();
        let mut state = self.state.lock();
        // Or a sync of [`Broker::reopen`], which does not wait for its turn, was told of the failure instead of this
        // one.
        if result.is_err() || state.dead {
            state.dead = true;
            return Err(AuditError::Sync);
        }
        state.synced = state.synced.max(seq);
        Ok(())
    }

    /// Opens the device again after its file was renamed. The chain continues in the new file, whose first entry links
    /// it to the old one. That entry carries the latest time seen.
    ///
    /// # Errors
    /// [`AuditError::File`] if the device could not be reopened (it continues with the old file);
    /// [`AuditError::Refused`] if it does not accept the first entry; [`AuditError::Sync`]: stop the process.
    pub fn reopen(&self) -> Result<(), AuditError> {
        self.reopen_at(0, false)
    }

    /// As [`reopen`](Self::reopen), at a given time in Unix milliseconds. `damage` says that stored records are known to be
    /// damaged, so that the first entry of the new file says so as well.
    ///
    /// # Errors
    /// As [`reopen`](Self::reopen).
    pub fn reopen_at(&self, time_ms: u64, damage: bool) -> Result<(), AuditError> {
        let mut failed = None;
        {
            let mut state = self.state.lock();
            if state.dead {
                return Err(AuditError::Sync);
            }
            let time_ms = time_ms.max(state.last_ms);
            self.sign_open(&mut state, time_ms)?;
            // The old file is completed before the new one starts, because only the last file may have a torn tail.
            if state.device.syncer().sync().is_err() {
                state.dead = true;
                return Err(AuditError::Sync);
            }
            let new = match state.device.reopen() {
                Ok(new) => new,
                Err(error) => {
                    failed = Some(error.kind());
                    false
                }
            };
            let pending: Vec<u64> = state.pending.iter().copied().collect();
            let keys = self.keys.load_full();
            if new {
                (state.cut, state.alarm_due, state.complaint) = (false, false, None);
                state.coverage = Coverage::default();
            }
            let mut bodies = Bodies::default();
            self.writer(&keys, &mut bodies.bytes).inner(time_ms, &Inner::Reopened { new, pending: &pending, damage });
            bodies.end();
            self.append(&mut state, &keys, time_ms, &bodies)?;
        }
        self.sync()?;
        match failed {
            Some(kind) => Err(AuditError::File { step: "reopen", kind }),
            None => Ok(()),
        }
    }

    /// Signs everything since the last checkpoint, if there is anything, and makes it durable. The daemon calls this
    /// each second. A checkpoint also follows every thousandth entry.
    ///
    /// # Errors
    /// [`AuditError::Refused`]: nothing was recorded. [`AuditError::Sync`]: stop the process.
    pub fn checkpoint(&self, time_ms: u64) -> Result<(), AuditError> {
        {
            let mut state = self.state.lock();
            self.sign_open(&mut state, time_ms)?;
        }
        self.sync()
    }

    /// Switches to another audit key. The note about this is signed by both keys and chained with the old one.
    ///
    /// # Errors
    /// [`AuditError::Refused`]: nothing changed. [`AuditError::Sync`]: stop the process.
    pub fn switch_key(&self, time_ms: u64, key: LogKey) -> Result<(), AuditError> {
        {
            let mut state = self.state.lock();
            let old = self.keys.load_full();
            if old.id == key.id {
                return Ok(());
            }
            let mut bodies = Bodies::default();
            KeyChange::write(&mut bodies.bytes, time_ms, (old.id, &old.sign), (key.id, &key.sign));
            bodies.end();
            let time_ms = time_ms.max(state.last_ms);
            self.append(&mut state, &old, time_ms, &bodies)?;
            self.keys.store(Arc::new(KeySet::from(key)));
        }
        self.sync()
    }

    /// Number and public half of the signing key.
    pub fn public_key(&self) -> (u32, [u8; 32]) {
        let keys = self.keys.load();
        (keys.id, sign::public(&keys.sign))
    }

    /// Appends a checkpoint over all lines that no checkpoint covers, and the alarm about a file that was cut.
    fn sign_open(&self, state: &mut State, time_ms: u64) -> Result<(), AuditError> {
        state.look();
        if state.coverage.open == 0 && !state.alarm_due {
            return Ok(());
        }
        let (keys, time_ms) = (self.keys.load_full(), time_ms.max(state.last_ms));
        self.append_and(state, &keys, time_ms, &Bodies::default(), 1).map(|_| ())
    }

    /// Returns the keyed hash under which a value or path appears in entries: `hmac-sha256:<hex>`.
    pub fn hash(&self, input: &[u8]) -> String {
        let mut out = Vec::with_capacity(76);
        self.keys.load().chain.write_value(&mut out, input);
        String::from_utf8(out).expect("hexadecimal is text")
    }

    /// Returns the last entry.
    pub fn head(&self) -> AuditHead {
        self.state.lock().head
    }

    /// Returns the request entries without a reply, ascending.
    pub fn pending(&self) -> Vec<u64> {
        self.state.lock().pending.iter().copied().collect()
    }

    /// Returns the state of the device.
    pub fn health(&self) -> DeviceHealth {
        let state = self.state.lock();
        DeviceHealth {
            name: state.device.name().to_owned(),
            working: !state.refused && !state.dead,
            complaint: match (state.dead, state.refused, state.cut) {
                (true, ..) => Some("sync failed"),
                (_, true, _) => Some("device refused an entry"),
                (.., true) => Some("file was cut: entries are missing"),
                _ => state.complaint,
            },
        }
    }

    /// Writes one body and takes the lock.
    fn written(
        &self,
        room: usize,
        write: impl Fn(&mut EntryWriter<'_, '_>),
    ) -> (MutexGuard<'_, State>, Arc<KeySet>, Bodies) {
        let bodies = || Bodies { bytes: Vec::with_capacity(room), ends: Vec::with_capacity(1) };
        self.written_into(bodies, std::iter::once(()), |writer, ()| write(writer))
    }

    /// Writes a body for each item and takes the lock.
    fn written_each<T>(
        &self,
        items: impl Iterator<Item = T> + Clone,
        write: impl Fn(&mut EntryWriter<'_, '_>, T),
    ) -> (MutexGuard<'_, State>, Arc<KeySet>, Bodies) {
        self.written_into(Bodies::default, items, write)
    }

    /// Writes the bodies outside the lock. If the key changes meanwhile, writes them again, because no entry with the
    /// old key may follow the note that names the next one.
    fn written_into<T>(
        &self,
        bodies: impl Fn() -> Bodies,
        items: impl Iterator<Item = T> + Clone,
        write: impl Fn(&mut EntryWriter<'_, '_>, T),
    ) -> (MutexGuard<'_, State>, Arc<KeySet>, Bodies) {
        loop {
            let keys = self.keys.load_full();
            let mut bodies = bodies();
            for item in items.clone() {
                write(&mut self.writer(&keys, &mut bodies.bytes), item);
                bodies.end();
            }
            let state = self.state.lock();
            if self.keys.load().id == keys.id {
                return (state, keys, bodies);
            }
        }
    }

    fn writer<'o, 'k>(&self, keys: &'k KeySet, out: &'o mut Vec<u8>) -> EntryWriter<'o, 'k> {
        EntryWriter { out, keys: &keys.chain, paths: self.paths }
    }

    /// Links `bodies` to the head and passes them to the device. Returns the head after the last of them.
    fn append(&self, state: &mut State, keys: &KeySet, time_ms: u64, bodies: &Bodies) -> Result<AuditHead, AuditError> {
        self.append_and(state, keys, time_ms, bodies, checkpoint::EVERY)
    }

    /// As [`Broker::append`], followed by a checkpoint when at least `due` lines are not covered.
    fn append_and(
        &self,
        state: &mut State,
        keys: &KeySet,
        time_ms: u64,
        bodies: &Bodies,
        due: u64,
    ) -> Result<AuditHead, AuditError> {
        if state.dead {
            return Err(AuditError::Sync);
        }
        state.look();
        let State { head, device, lines, coverage, .. } = state;
        lines.clear();
        let mut next = *head;
        let mut covered = coverage.clone();
        // The alarm goes first: the file was cut before the entries that follow it.
        if state.alarm_due {
            let mut body = Vec::with_capacity(128);
            self.writer(keys, &mut body).note(time_ms, &Note::Alarm { request: None, code: CUT_ALARM });
            next = seal_covered(lines, &mut covered, &next, keys, &body);
        }
        for body in bodies.iter() {
            next = seal_covered(lines, &mut covered, &next, keys, body);
        }
        let last = next;
        if covered.open >= due {
            next = seal_checkpoint(lines, &mut covered, &next, keys, time_ms);
        }

        // The head moves only if the device took the bytes, because the next line must link to the last one in the file.
        state.refused = device.append(lines).is_err();
        if !state.refused {
            (*head, *coverage) = (next, covered);
            state.alarm_due = false;
        }
        state.last_ms = state.last_ms.max(time_ms);
        if time_ms.abs_diff(state.checked_ms) >= INTERVAL_MS {
            state.checked_ms = time_ms;
            state.complaint = state.device.check().err();
        }
        if state.refused { Err(AuditError::Refused) } else { Ok(last) }
    }
}

/// Seals one line and adds it to the coverage of the next checkpoint.
fn seal_covered(
    lines: &mut Vec<u8>,
    covered: &mut Coverage,
    head: &AuditHead,
    keys: &KeySet,
    body: &[u8],
) -> AuditHead {
    let start = lines.len();
    let next = chain::seal(lines, head, keys.id, &keys.chain, body);
    covered.add(next.seq, line_from(lines, start));
    next
}

/// Signs everything since the last checkpoint.
fn seal_checkpoint(
    lines: &mut Vec<u8>,
    covered: &mut Coverage,
    head: &AuditHead,
    keys: &KeySet,
    time_ms: u64,
) -> AuditHead {
    let (start, mut body) = (lines.len(), Vec::with_capacity(384));
    covered.write(&mut body, time_ms, keys.id, &keys.sign);
    let next = chain::seal(lines, head, keys.id, &keys.chain, &body);
    covered.restart(next.seq, line_from(lines, start));
    next
}

/// Returns the last line without its line feed.
fn line_from(lines: &[u8], start: usize) -> &[u8] {
    lines.get(start..lines.len().saturating_sub(1)).unwrap_or_default()
}
