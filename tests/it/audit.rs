//! The audit trail on real files: recovery after every legal crash, rotation, tampering before a start.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use strongroom::audit::verify::{Report, verify};
use strongroom::audit::{
    AuditError, AuditHead, AuditKeys, Broker, Device, Ended, FileDevice, LogKey, Note, Outcome, ReplyFacts,
    RequestFacts, Resume, Syncer,
};
use strongroom::crypto::secret::Key;

const T0: u64 = 1_800_000_000_000;

fn key() -> Key {
    Key::fill_with(|bytes| bytes.copy_from_slice(&[3; 32]))
}

fn log_key(id: u32, mac: &Key) -> LogKey {
    let sign = Key::fill_with(|bytes| *bytes = [u8::try_from(id).unwrap(); 32]);
    LogKey { id, mac: mac.duplicate(), sign }
}

fn keys() -> AuditKeys {
    AuditKeys::one(1, &key())
}

fn request(time_ms: u64) -> RequestFacts<'static> {
    RequestFacts {
        time_ms,
        request_id: "r",
        operation: "update",
        path: "secret/data/app",
        mount_kind: Some("kv"),
        identity: None,
        fingerprint: None,
        remote: "127.0.0.1:1",
        policies: &[],
        decision: "allow",
        rule: None,
        fields: &[("data.k", b"value")],
    }
}

const REPLY: ReplyFacts<'static> =
    ReplyFacts { outcome: Outcome::Ok, status: 200, generation: None, fields: &[], error: None, version: None };

/// A folder with one log.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log(&self) -> PathBuf {
        self.path("audit.log")
    }

    fn start(&self, expected: AuditHead) -> Result<(Broker, Resume), AuditError> {
        let (device, resume) = FileDevice::recover(&self.log(), &keys(), expected, T0)?;
        Ok((Broker::open(Box::new(device), log_key(1, &key()), resume.clone())?, resume))
    }
}

fn prove(paths: &[PathBuf], expected: AuditHead) -> Report {
    let files = paths.iter().map(|path| (path.to_str().unwrap(), fs::File::open(path).unwrap()));
    verify(files, &keys(), Some(expected))
}

fn good(paths: &[PathBuf], expected: AuditHead) -> u64 {
    let report = prove(paths, expected);
    assert!(report.is_good(), "{:?} {:?}", report.findings, report.head);
    report.entries
}

/// `count` reads and one group of two writes, of which the second has no reply. Returns the head of the group.
fn work(broker: &Broker, count: u64) -> AuditHead {
    for at in 0..count {
        broker.exchange(&request(T0 + at), &REPLY).unwrap();
    }
    let head = broker.requests(&[request(T0), request(T0)]).unwrap();
    broker.replies(0, &[], &[(head.seq - 1, REPLY)]).unwrap();
    head
}

#[test]
fn a_chain_goes_on_over_a_restart() {
    let place = Place::new();
    let (broker, _) = place.start(AuditHead::default()).unwrap();
    let head = work(&broker, 5);
    assert_eq!(fs::metadata(place.log()).unwrap().mode() & 0o777, 0o600);
    assert!(matches!(place.start(head), Err(AuditError::File { step: "opening", kind: io::ErrorKind::WouldBlock })));
    drop(broker);
    let (broker, resume) = place.start(head).unwrap();
    assert_eq!((resume.head.seq, resume.pending.as_slice()), (8, [7].as_slice()));
    assert!(resume.torn.is_empty() && !resume.new_file);
    broker.note(T0, &Note::Unfinished { request: 7, ended: Ended::Committed, generation: 3 }).unwrap();
    let end = broker.head();
    drop(broker);
    let (_, resume) = place.start(end).unwrap();
    assert!(resume.pending.is_empty());
    assert_eq!(good(&[place.log()], end), 9);
}

/// Records what reaches the disk and when it is durable.
#[derive(Clone, Default)]
struct Journal(Arc<Mutex<Vec<Option<Vec<u8>>>>>);

impl Device for Journal {
    fn name(&self) -> &str {
        "journal"
    }
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap().push(Some(lines.to_vec()));
        Ok(())
    }
    fn syncer(&self) -> Arc<dyn Syncer> {
        Arc::new(self.clone())
    }
    fn reopen(&mut self) -> io::Result<bool> {
        Ok(false)
    }
}

impl Syncer for Journal {
    fn sync(&self) -> io::Result<()> {
        self.0.lock().unwrap().push(None);
        Ok(())
    }
}

/// Every disk image that a power cut may leave after `synced` bytes were made durable and `all` were written: cut
/// anywhere, and any 512-byte sector of the rest never written.
fn images(all: &[u8], synced: usize) -> Vec<Vec<u8>> {
    let mut images: Vec<Vec<u8>> = (synced..=all.len())
        .filter(|len| len % 61 == 0 || *len < synced + 3 || *len + 3 > all.len())
        .map(|len| all[..len].to_vec())
        .collect();
    let sectors: Vec<usize> = (synced / 512..=all.len() / 512).collect();
    for pattern in 0u32..1 << sectors.len().min(5) {
        let mut image = all.to_vec();
        for (bit, sector) in sectors.iter().enumerate() {
            if pattern >> (bit % 5) & 1 == 1 {
                let (from, to) = ((sector * 512).max(synced), ((sector + 1) * 512).min(image.len()));
                image.get_mut(from..to).into_iter().for_each(|part| part.fill(0));
            }
        }
        images.push(image);
    }
    images
}

/// After a power cut at any point, in any legal state of the disk, the log is taken up, no
/// synced entry is lost, and the result proves itself.
#[test]
fn every_legal_crash_image_is_recovered() {
    let journal = Journal::default();
    let broker = Broker::open(Box::new(journal.clone()), log_key(1, &key()), Resume::default()).unwrap();
    // For each head that a sealed state may hold: from which event on it may.
    let mut heads = vec![(0, AuditHead::default())];
    for round in 0..4 {
        let head = work(&broker, round);
        let events = journal.0.lock().unwrap();
        // The state is sealed after the sync of the requests, which is three events before the end.
        heads.push((events.len() - 2, head));
    }
    let events = journal.0.lock().unwrap().clone();
    let (mut written, mut synced, mut tried) = (Vec::new(), 0, 0);
    for (at, event) in events.iter().enumerate() {
        match event {
            Some(lines) => written.extend_from_slice(lines),
            None => synced = written.len(),
        }
        let durable = written[..synced].iter().filter(|byte| **byte == b'\n').count();
        let expected = heads.iter().rev().find(|(from, _)| *from <= at + 1).unwrap().1;
        for image in images(&written, synced) {
            let place = Place::new();
            fs::write(place.log(), &image).unwrap();
            fs::set_permissions(place.log(), fs::Permissions::from_mode(0o600)).unwrap();
            let (broker, resume) = place.start(expected).unwrap_or_else(|error| panic!("event {at}: {error}"));
            assert!(resume.head.seq >= u64::try_from(durable).unwrap(), "event {at}: a synced entry was lost");
            for request in resume.pending {
                let ended = if request <= expected.seq { Ended::Committed } else { Ended::Absent };
                let note = Note::Unfinished { request, ended, generation: 1 };
                broker.note(T0, &note).unwrap();
            }
            let end = broker.head();
            drop(broker);
            let report = prove(&[place.log()], end);
            assert!(report.is_good() && report.open_requests == 0, "event {at}: {:?}", report.findings);
            // A second start finds nothing left to do.
            let (_, again) = FileDevice::recover(&place.log(), &keys(), end, T0).unwrap();
            assert!(again.torn.is_empty() && again.pending.is_empty());
            tried += 1;
        }
    }
    assert!(tried > 300, "only {tried} images");
}

#[test]
fn a_torn_tail_is_saved_cut_and_noted() {
    let place = Place::new();
    let (broker, _) = place.start(AuditHead::default()).unwrap();
    let head = work(&broker, 3);
    drop(broker);
    let whole = fs::read(place.log()).unwrap();
    fs::write(place.log(), [whole.as_slice(), b"{\"seq\":7,\"pre"].concat()).unwrap();
    let (broker, resume) = place.start(head).unwrap();
    assert_eq!(resume.torn[0].bytes, 13);
    assert_eq!(fs::read(&resume.torn[0].saved).unwrap(), b"{\"seq\":7,\"pre");
    assert!(fs::read_to_string(place.log()).unwrap().contains("\"kind\":\"torn_tail\",\"bytes\":13"));
    good(&[place.log()], broker.head());
}

#[test]
fn a_log_that_was_tampered_with_is_not_taken_up() {
    let place = Place::new();
    let (broker, _) = place.start(AuditHead::default()).unwrap();
    let head = work(&broker, 6);
    drop(broker);
    let whole = fs::read(place.log()).unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let refused = |bytes: &[u8]| {
        fs::write(place.log(), bytes).unwrap();
        let result = place.start(head).map(|_| ());
        assert_eq!(fs::read(place.log()).unwrap(), bytes, "a refused log is left as it is");
        result
    };
    assert_eq!(refused(&lines[..5].concat()), Err(AuditError::Cut { expected: 8, found: 5 }));
    assert_eq!(refused(b""), Err(AuditError::Cut { expected: 8, found: 0 }));
    let deleted = [&lines[..3], &lines[4..]].concat().concat();
    assert_eq!(refused(&deleted), Err(AuditError::Damaged { line: 4, expected: 8, found: 3 }));
    let mut edited = whole.clone();
    edited[200] ^= 1;
    assert_eq!(refused(&edited), Err(AuditError::Damaged { line: 1, expected: 8, found: 0 }));
    let mut other = head;
    other.hash[0] ^= 1;
    fs::write(place.log(), &whole).unwrap();
    assert_eq!(place.start(other).map(|_| ()), Err(AuditError::Replaced { seq: 8 }));
    let unknown = AuditKeys::one(2, &key());
    assert_eq!(
        FileDevice::recover(&place.log(), &unknown, head, T0).map(|_| ()).err(),
        Some(AuditError::UnknownKey(1))
    );
    fs::remove_file(place.log()).unwrap();
    assert_eq!(place.start(head).map(|_| ()), Err(AuditError::Cut { expected: 8, found: 0 }));
    fs::write(place.log(), &whole).unwrap();
    fs::set_permissions(place.log(), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(place.start(head).is_ok());
}

/// Such a line needs no key: anybody who can write the file can append one. Behind the entry that the state vouches for, it is
/// a torn tail like any other; in place of that entry it is not.
#[test]
fn a_line_of_an_unknown_key_does_not_keep_the_log_from_opening() {
    let place = Place::new();
    let (broker, _) = place.start(AuditHead::default()).unwrap();
    let head = work(&broker, 3);
    drop(broker);
    let whole = fs::read(place.log()).unwrap();
    let zeros = "0".repeat(64);
    let time = r#""type":"note","time":"2027-01-15T08:00:00.000Z","kind":"sealed""#;
    let line = format!("{{\"seq\":1,\"prev\":\"{zeros}\",\"key\":99,{time},\"hash\":\"{zeros}\"}}\n");
    fs::write(place.log(), [&whole[..], line.as_bytes()].concat()).unwrap();
    let (broker, resume) = place.start(head).unwrap();
    assert_eq!(resume.torn.iter().map(|torn| torn.bytes).collect::<Vec<_>>(), [line.len() as u64]);
    assert_eq!(fs::read(&resume.torn[0].saved).unwrap(), line.as_bytes());
    let end = broker.head();
    drop(broker);
    good(&[place.log()], end);
    // Before that entry, the vault may lack a key, and nothing may be cut.
    fs::write(place.log(), line.as_bytes()).unwrap();
    assert_eq!(place.start(head).map(|_| ()), Err(AuditError::UnknownKey(99)));
    assert_eq!(fs::read(place.log()).unwrap(), line.as_bytes());
}

#[test]
fn rotation_carries_the_chain_over() {
    let place = Place::new();
    let (broker, _) = place.start(AuditHead::default()).unwrap();
    let head = work(&broker, 3);
    let old = place.path("audit.log.1");
    fs::rename(place.log(), &old).unwrap();
    broker.reopen().unwrap();
    let new = fs::read_to_string(place.log()).unwrap();
    assert!(new.contains("\"kind\":\"reopened\",\"new\":true,\"pending\":[5]"), "{new}");
    broker.exchange(&request(T0), &REPLY).unwrap();
    let end = broker.head();
    drop(broker);
    good(&[place.log()], end);
    assert_eq!(good(&[old.clone(), place.log()], head), 9);
    assert!(!prove(&[place.log(), old.clone()], end).is_good(), "wrong order");
    assert!(!prove(std::slice::from_ref(&old), end).is_good(), "new file missing");
    // The head of the state lies in the old file; the new one is the vault's own and goes on behind it.
    let (broker, resume) = place.start(head).unwrap();
    assert_eq!((resume.head, resume.pending.as_slice(), resume.new_file), (end, [5].as_slice(), false));
    drop(broker);
    // A file cut down to its first lines is found once the state remembers more.
    let cut: String = new.split_inclusive('\n').take(1).collect();
    fs::write(place.log(), cut).unwrap();
    assert!(matches!(place.start(end), Err(AuditError::Cut { .. })));
}

/// The process may end between the rename from outside and the first entry of the new file.
#[test]
fn a_crash_during_rotation_is_taken_up_from_the_old_file() {
    for leftover in [None, Some(b"".as_slice()), Some(b"{\"seq\":6,".as_slice())] {
        let place = Place::new();
        let (broker, _) = place.start(AuditHead::default()).unwrap();
        let head = work(&broker, 2);
        drop(broker);
        let old = place.path("audit.log-20270115");
        fs::rename(place.log(), &old).unwrap();
        fs::write(place.path("audit.log.0"), b"something else\n").unwrap();
        if let Some(bytes) = leftover {
            fs::write(place.log(), bytes).unwrap();
            fs::set_permissions(place.log(), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let (broker, resume) = place.start(head).unwrap();
        assert!(resume.new_file);
        assert_eq!(broker.pending(), [4]);
        let end = broker.head();
        good(&[place.log()], end);
        good(&[old, place.log()], end);
    }
}

#[test]
fn a_removed_or_replaced_file_is_reported_and_reopening_heals_it() {
    let place = Place::new();
    let (broker, _) = place.start(AuditHead::default()).unwrap();
    broker.exchange(&request(T0), &REPLY).unwrap();
    fs::remove_file(place.log()).unwrap();
    broker.exchange(&request(T0 + 1000), &REPLY).unwrap();
    assert_eq!(broker.health().complaint, Some("file was removed"));
    fs::write(place.log(), b"").unwrap();
    broker.exchange(&request(T0 + 2000), &REPLY).unwrap();
    assert_eq!(broker.health().complaint, Some("file was replaced"));
    fs::set_permissions(place.log(), fs::Permissions::from_mode(0o600)).unwrap();
    broker.reopen_at(T0 + 3000, false).unwrap();
    broker.exchange(&request(T0 + 4000), &REPLY).unwrap();
    assert_eq!(broker.health().complaint, None);
    good(&[place.log()], broker.head());
}

/// What `copytruncate` of a log rotation does: copies the file, then cuts the one that is open.
fn copytruncate(place: &Place) {
    fs::copy(place.log(), place.path("audit.log.1")).unwrap();
    fs::OpenOptions::new().write(true).open(place.log()).unwrap().set_len(0).unwrap();
}

#[test]
fn a_file_that_shrank_is_alarmed_with_the_next_entry_and_a_rename_heals_it() {
    let place = Place::new();
    let (broker, _) = place.start(AuditHead::default()).unwrap();
    work(&broker, 3);
    copytruncate(&place);
    // Within the same second as the entry before: nothing waits for the look once a second.
    broker.exchange(&request(T0), &REPLY).unwrap();
    let text = fs::read_to_string(place.log()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("\"kind\":\"alarm\",\"code\":\"audit-file-cut\""), "{text}");
    assert!(lines.len() == 2 && lines[1].contains("\"type\":\"exchange\""), "{text}");
    assert_eq!(broker.health().complaint, Some("file was cut: entries are missing"));
    broker.exchange(&request(T0 + 5_000), &REPLY).unwrap();
    assert!(broker.health().working && broker.health().complaint.is_some(), "it stays until there is a new file");
    assert_eq!(fs::read_to_string(place.log()).unwrap().matches("audit-file-cut").count(), 1);

    // What the manual says: rename, then reopen. Copy, rest and new file are one good trail, and the vault starts.
    let rest = place.path("audit.log.2");
    fs::rename(place.log(), &rest).unwrap();
    broker.reopen().unwrap();
    assert_eq!(broker.health().complaint, None);
    let head = work(&broker, 1);
    drop(broker);
    assert_eq!(good(&[place.path("audit.log.1"), rest, place.log()], head), 15);
    place.start(head).unwrap();
}

#[test]
fn a_file_that_shrank_is_alarmed_without_an_entry_too() {
    let place = Place::new();
    let (broker, _) = place.start(AuditHead::default()).unwrap();
    let head = work(&broker, 3);
    broker.checkpoint(T0).unwrap();
    copytruncate(&place);
    broker.checkpoint(T0).unwrap();
    let text = fs::read_to_string(place.log()).unwrap();
    assert!(text.lines().next().unwrap().contains("audit-file-cut"), "{text}");
    assert!(broker.head().seq > head.seq);
    let head = work(&broker, 1);
    drop(broker);
    // Left alone, the next start refuses. The copy and the rest, joined, are the log again.
    assert!(matches!(place.start(head).map(|_| ()), Err(AuditError::Cut { .. })));
    let text = fs::read_to_string(place.log()).unwrap();
    let joined = [fs::read(place.path("audit.log.1")).unwrap(), text.into_bytes()].concat();
    fs::write(place.log(), joined).unwrap();
    place.start(head).unwrap();
}

#[test]
fn a_cut_file_is_told_of_once_and_goes_on_at_its_end() {
    let place = Place::new();
    let mut device = FileDevice::open(&place.log()).unwrap();
    device.append(b"0123456789\n").unwrap();
    assert!(!device.shrank());
    fs::OpenOptions::new().write(true).open(place.log()).unwrap().set_len(4).unwrap();
    assert!(device.shrank());
    assert!(!device.shrank(), "told once");
    device.append(b"x\n").unwrap();
    assert_eq!(fs::read(place.log()).unwrap(), b"0123x\n");
    assert!(!device.shrank());
}

#[test]
fn links_pipes_and_files_of_others_are_not_opened() {
    let place = Place::new();
    let open = |path: &Path| FileDevice::open(path).map(|_| ()).map_err(|error| error.kind());
    fs::write(place.path("target"), b"").unwrap();
    std::os::unix::fs::symlink(place.path("target"), place.log()).unwrap();
    assert!(open(&place.log()).is_err());
    assert!(place.start(AuditHead::default()).is_err());
    fs::set_permissions(place.path("target"), fs::Permissions::from_mode(0o620)).unwrap();
    assert_eq!(open(&place.path("target")), Err(io::ErrorKind::InvalidInput));
    assert!(open(Path::new("/dev/null")).is_err());
}
