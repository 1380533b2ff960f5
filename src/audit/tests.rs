//! Tests of the broker, the bytes of the chain, and the verifier, on devices in memory.

mod durable;
mod signed;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::*;

use super::chain::{ChainKeys, MAX_LINE};
use super::entry::{EntryWriter, Inner, Role};
use super::verify::{Fault, Report, verify};
use super::*;
use crate::api::spiffe::SpiffeId;
use crate::crypto::hash::hmac_sha256;
use crate::crypto::secret::Key;

const T0: u64 = 1_800_000_000_000;

#[derive(Default)]
struct Memory {
    bytes: Vec<u8>,
    syncs: usize,
    fail: Option<io::ErrorKind>,
    fail_sync: bool,
    complaint: Option<&'static str>,
    /// The next reopening finds a new file.
    fresh: bool,
}

#[derive(Clone, Default)]
struct Tape(Arc<Mutex<Memory>>);

impl Tape {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().bytes.clone()).unwrap()
    }

    fn fail(&self, kind: Option<io::ErrorKind>) {
        self.0.lock().fail = kind;
    }

    fn report(&self, expected: Option<AuditHead>) -> Report {
        check(&self.0.lock().bytes, expected)
    }
}

impl Device for Tape {
    fn name(&self) -> &str {
        "tape"
    }
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut memory = self.0.lock();
        if let Some(kind) = memory.fail {
            return Err(kind.into());
        }
        memory.bytes.extend_from_slice(lines);
        Ok(())
    }
    fn syncer(&self) -> Arc<dyn Syncer> {
        Arc::new(self.clone())
    }
    fn reopen(&mut self) -> io::Result<bool> {
        Ok(std::mem::take(&mut self.0.lock().fresh))
    }
    fn check(&mut self) -> Result<(), &'static str> {
        self.0.lock().complaint.map_or(Ok(()), Err)
    }
}

impl Syncer for Tape {
    fn sync(&self) -> io::Result<()> {
        let mut memory = self.0.lock();
        memory.syncs += 1;
        if memory.fail_sync { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
    }
}

fn key() -> Key {
    Key::fill_with(|bytes| bytes.copy_from_slice(&[7; 32]))
}

fn log_key(id: u32, mac: &Key) -> LogKey {
    let sign = Key::fill_with(|bytes| *bytes = [u8::try_from(id).unwrap(); 32]);
    LogKey { id, mac: mac.duplicate(), sign }
}

fn keys() -> AuditKeys {
    AuditKeys::one(1, &key())
}

fn check(log: &[u8], expected: Option<AuditHead>) -> Report {
    verify([("log", log)], &keys(), expected)
}

fn broker(tape: &Tape) -> Broker {
    Broker::open(Box::new(tape.clone()), log_key(1, &key()), Resume::default()).unwrap()
}

fn request<'a>(time_ms: u64, path: &'a str, fields: &'a [(&'a str, &'a [u8])]) -> RequestFacts<'a> {
    RequestFacts {
        time_ms,
        request_id: "r-1",
        operation: "update",
        path,
        mount_kind: Some("kv"),
        identity: None,
        fingerprint: Some(&[0xab; 32]),
        remote: "10.0.0.1:5000",
        policies: &[],
        decision: "allow",
        rule: Some("secret/*"),
        fields,
    }
}

fn reply<'a>(fields: &'a [(&'a str, &'a [u8])]) -> ReplyFacts<'a> {
    ReplyFacts { outcome: Outcome::Ok, status: 200, generation: Some(9), fields, error: None, version: Some(2) }
}

fn read(broker: &Broker, at: u64) -> Result<(), AuditError> {
    broker.exchange(&request(T0 + at, "secret/data/app", &[]), &reply(&[("data.password", b"hunter2")]))
}

/// The exact bytes of a line; a change here is a change of the format.
#[test]
fn a_line_has_these_bytes() {
    let tape = Tape::default();
    let broker = broker(&tape);
    let policies = ["a\"b".to_owned(), "c".to_owned()];
    let identity = SpiffeId::new("example.org", "app/web").unwrap();
    let mut facts = request(T0 + 7, "secret/data/\u{e9}\n", &[("data.k", b"v")]);
    facts.policies = &policies;
    facts.identity = Some(&identity);
    broker.exchange(&facts, &reply(&[])).unwrap();

    let chain = hmac_sha256(&[7; 32], &[b"sr1 audit chain"]);
    let value = hmac_sha256(&[7; 32], &[b"sr1 audit value"]);
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let covered = format!(
        "{{\"seq\":1,\"prev\":\"{}\",\"key\":1,\"type\":\"exchange\",\"time\":\"2027-01-15T08:00:00.007Z\",\
         \"id\":\"r-1\",\"operation\":\"update\",\"path\":\"secret/data/\u{e9}\\u000a\",\"mount\":\"kv\",\
         \"identity\":\"spiffe://example.org/app/web\",\"fingerprint\":\"{}\",\"remote\":\"10.0.0.1:5000\",\
         \"policies\":[\"a\\\"b\",\"c\"],\"decision\":\"allow\",\"rule\":\"secret/*\",\
         \"request_fields\":{{\"data.k\":\"hmac-sha256:{}\"}},\"outcome\":\"ok\",\"status\":200,\"generation\":9,\
         \"version\":2",
        "0".repeat(64),
        "ab".repeat(32),
        hex(&hmac_sha256(&value, &[b"v"])),
    );
    let hash = hmac_sha256(&chain, &[b"sr1 audit entry", &[0; 32], covered.as_bytes()]);
    assert_eq!(tape.text(), format!("{covered},\"hash\":\"{}\"}}\n", hex(&hash)));
    assert_eq!(broker.hash(b"v"), format!("hmac-sha256:{}", hex(&hmac_sha256(&value, &[b"v"]))));
    assert_eq!(broker.head(), AuditHead { seq: 1, hash });
}

#[test]
fn the_next_start_learns_of_damage_from_the_end_of_a_check_and_from_the_first_line_of_a_file() {
    let body = |write: &dyn Fn(&mut EntryWriter<'_, '_>)| {
        let (mut out, keys) = (Vec::new(), ChainKeys::new(&key()));
        write(&mut EntryWriter { out: &mut out, keys: &keys, paths: PathMode::Plain });
        out
    };
    let checked = |clean, complete, failed| {
        body(&|writer| writer.note(T0, &Note::Checked { clean, complete, records: 40, failed }))
    };
    assert_eq!(Role::parse(&checked(true, true, 0)), Some(Role::Damage(false)));
    assert_eq!(Role::parse(&checked(false, true, 2)), Some(Role::Damage(true)));
    assert_eq!(Role::parse(&checked(false, false, 2)), Some(Role::Damage(true)), "it was stopped after that");
    for (complete, why) in [(false, "it was stopped"), (true, "something was found beside it, with an alarm")] {
        assert_eq!(Role::parse(&checked(false, complete, 0)), Some(Role::Plain), "{why}");
    }
    for damage in [false, true] {
        let line = body(&|writer| writer.inner(T0, &Inner::Reopened { new: true, pending: &[3, 5], damage }));
        let Some(Role::Reopened { new: true, pending, damage: read }) = Role::parse(&line) else { panic!("{line:?}") };
        assert_eq!((Role::pending(pending).collect::<Vec<_>>(), read), (vec![3, 5], damage));
        assert_eq!(line.ends_with(b"\"damage\":true"), damage, "without damage, the line is as it always was");
    }
}

#[test]
fn times_are_utc_of_one_length() {
    for (ms, text) in [
        (0, "\"1970-01-01T00:00:00.000Z\""),
        (951_782_400_000, "\"2000-02-29T00:00:00.000Z\""),
        (1_709_251_199_999, "\"2024-02-29T23:59:59.999Z\""),
        (4_107_542_400_000, "\"2100-03-01T00:00:00.000Z\""),
        (u64::MAX, "\"9999-12-31T23:59:59.999Z\""),
    ] {
        let mut out = Vec::new();
        json::time(&mut out, ms);
        assert_eq!(String::from_utf8(out).unwrap(), text);
        assert_eq!(text.len(), json::TIME_LEN);
    }
}

#[test]
fn every_line_is_json_and_every_entry_good() {
    let tape = Tape::default();
    let broker = broker(&tape);
    let hostile = "\u{0}\u{1f}\u{7f}\"\\/\u{2028}\u{1F600}";
    let long = "x".repeat(10_000);
    let many: Vec<(&str, &[u8])> = (0..500).map(|_| (hostile, b"v".as_slice())).collect();
    broker.exchange(&request(T0, hostile, &many), &reply(&many)).unwrap();
    broker.exchange(&request(T0, &long, &[(&long, b"")]), &reply(&[])).unwrap();
    let head = broker.requests(&[request(T0, "a", &[]), request(T0, "b", &[])]).unwrap();
    assert_eq!((head.seq, broker.pending()), (4, vec![3, 4]));
    broker.replies(0, &[], &[(3, reply(&[]))]).unwrap();
    broker.note(T0, &Note::Unfinished { request: 4, ended: Ended::Committed, generation: 9 }).unwrap();
    broker.note(T0, &Note::Unsealed { identity: None }).unwrap();
    broker.note(T0, &Note::Alarm { request: Some(3), code: "anchor_behind" }).unwrap();
    broker.reopen().unwrap();
    assert!(broker.pending().is_empty());
    for line in tape.text().lines() {
        let fields: BTreeMap<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        assert!(fields.contains_key("hash") && line.len() < MAX_LINE);
        assert!(line.bytes().all(|byte| byte >= 0x20));
    }
    assert!(!tape.text().contains("xxxx"), "a long text is replaced by its hash");
    let report = tape.report(Some(broker.head()));
    assert!(report.is_good(), "{:?}", report.findings);
    assert_eq!((report.entries, report.open_requests), (10, 0));
}

/// Values must not be found in any form that a search for leaked secrets would try.
#[test]
fn values_never_occur_in_any_encoding() {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    let tape = Tape::default();
    let broker = broker(&tape);
    let canaries: [&[u8]; 3] = [b"canary-Qz7!\"\\pass", b"hvs.CANARYTOKENabcdef", "g\u{e9}heim\n\u{1F511}".as_bytes()];
    for canary in canaries {
        let fields = [("data.password", canary), ("token", canary)];
        broker.exchange(&request(T0, "secret/data/app", &fields), &reply(&fields)).unwrap();
        broker.requests(&[request(T0, "secret/data/app", &fields)]).unwrap();
        let last = broker.head().seq;
        broker.replies(0, &[], &[(last, reply(&fields))]).unwrap();
    }
    let log = tape.text();
    assert!(log.contains("data.password") && log.contains("hmac-sha256:"));
    for canary in canaries {
        let hex = data_encoding::HEXLOWER.encode(canary);
        let json = serde_json::to_string(std::str::from_utf8(canary).unwrap()).unwrap();
        let digest = crate::crypto::hash::sha256(&[canary]);
        let plain_hash = data_encoding::HEXLOWER.encode(&digest);
        for form in [
            String::from_utf8(canary.to_vec()).unwrap(),
            json.trim_matches('"').to_owned(),
            hex.to_uppercase(),
            hex,
            STANDARD.encode(canary).trim_end_matches('=').to_owned(),
            URL_SAFE_NO_PAD.encode(canary),
            plain_hash,
        ] {
            assert!(!log.contains(&form), "{form}");
        }
    }
}

#[test]
fn hashed_paths_do_not_show_the_path() {
    let tape = Tape::default();
    let broker = broker(&tape).with_path_mode(PathMode::Hashed);
    read(&broker, 0).unwrap();
    assert!(!tape.text().contains("data/app"));
    assert!(tape.text().contains(&format!("\"path\":\"{}\"", broker.hash(b"secret/data/app"))));
}

#[test]
fn without_its_device_nothing_is_accepted() {
    let tape = Tape::default();
    let broker = broker(&tape);
    read(&broker, 0).unwrap();
    tape.fail(Some(io::ErrorKind::StorageFull));
    assert_eq!(read(&broker, 1), Err(AuditError::Refused));
    assert_eq!(broker.requests(&[request(T0 + 2, "a", &[])]), Err(AuditError::Refused));
    assert_eq!((broker.head().seq, broker.pending()), (1, vec![]));
    assert!(!broker.health().working);
    // The device is tried again with each entry, and nothing is missing in its log.
    tape.fail(None);
    read(&broker, 3).unwrap();
    assert!(broker.health().working);
    let report = tape.report(Some(broker.head()));
    assert!(report.is_good() && report.entries == 2, "{report:?}");
}

#[test]
fn a_failed_sync_is_final() {
    let tape = Tape::default();
    let broker = broker(&tape);
    tape.0.lock().fail_sync = true;
    assert_eq!(broker.requests(&[request(T0, "a", &[])]), Err(AuditError::Sync));
    tape.0.lock().fail_sync = false;
    let written = tape.text();
    assert_eq!(read(&broker, 1), Err(AuditError::Sync));
    assert_eq!(broker.requests(&[]), Err(AuditError::Sync));
    assert_eq!(broker.replies(0, &[], &[(1, reply(&[]))]), Err(AuditError::Sync));
    assert_eq!(broker.note(T0, &Note::Sealed { identity: None }), Err(AuditError::Sync));
    assert_eq!(broker.sync(), Err(AuditError::Sync));
    assert_eq!(broker.reopen(), Err(AuditError::Sync));
    assert_eq!((tape.text(), tape.0.lock().syncs), (written, 1));
}

#[test]
fn a_batch_is_synced_once_and_a_read_not_at_all() {
    let tape = Tape::default();
    let broker = broker(&tape);
    read(&broker, 0).unwrap();
    assert_eq!(tape.0.lock().syncs, 0);
    let group: Vec<_> = (0..50).map(|_| request(T0, "a", &[])).collect();
    broker.requests(&group).unwrap();
    assert_eq!(tape.0.lock().syncs, 1);
    let replies: Vec<_> = broker.pending().into_iter().map(|seq| (seq, reply(&[]))).collect();
    broker.replies(0, &[], &replies).unwrap();
    broker.sync().unwrap();
    assert_eq!(tape.0.lock().syncs, 2, "nothing new, nothing synced");
    let broker = broker.with_sync_mode(SyncMode::Always);
    read(&broker, 1).unwrap();
    assert_eq!(tape.0.lock().syncs, 3);
}

#[test]
fn a_device_that_points_elsewhere_is_reported_within_a_second() {
    let tape = Tape::default();
    let broker = broker(&tape);
    read(&broker, 0).unwrap();
    tape.0.lock().complaint = Some("file was replaced");
    read(&broker, 999).unwrap();
    assert_eq!(broker.health().complaint, None);
    read(&broker, 1000).unwrap();
    assert_eq!(broker.health().complaint, Some("file was replaced"));
    assert!(broker.health().working);
}

/// A log of `count` entries of all types, and its head.
fn log(count: usize) -> (Vec<u8>, AuditHead) {
    let tape = Tape::default();
    let broker = broker(&tape);
    for at in 0u64.. {
        let used = usize::try_from(broker.head().seq).unwrap();
        if used == count {
            break;
        }
        match at % 4 {
            0 if used + 2 <= count => {
                let head = broker.requests(&[request(T0 + at, "secret/data/a", &[("data.k", b"v")])]).unwrap();
                broker.replies(0, &[], &[(head.seq, reply(&[]))]).unwrap();
            }
            1 => broker.note(T0 + at, &Note::Sealed { identity: None }).unwrap(),
            _ => read(&broker, at).unwrap(),
        }
    }
    (tape.0.lock().bytes.clone(), broker.head())
}

#[test]
fn any_missing_moved_or_repeated_line_is_found() {
    let (bytes, head) = log(200);
    assert!(check(&bytes, Some(head)).is_good());
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let bad = |what: &str, at: usize, lines: &[&[u8]]| {
        let report = check(&lines.concat(), Some(head));
        assert!(!report.is_good(), "{what} {at}");
        let unlinked = verify([("log", lines.concat().as_slice())], &AuditKeys::none(), Some(head));
        assert!(!unlinked.is_good(), "{what} {at}, without key");
    };
    for at in 0..lines.len() {
        let mut changed = lines.clone();
        changed.remove(at);
        bad("deleted", at, &changed);
        changed = lines.clone();
        changed.insert(at, lines[at]);
        bad("repeated", at, &changed);
        changed = lines.clone();
        let other = (at * 7 + 1) % lines.len();
        if at != other {
            changed.swap(at, other);
            bad("swapped", at, &changed);
        }
        bad("cut", at, &lines[..at]);
        if at > 0 {
            bad("head cut", at, &lines[at..]);
        }
    }
    let cut = check(&lines[..150].concat(), Some(head));
    assert_eq!(cut.findings[0].fault, Fault::Cut { expected: 200, found: 150 });
    let gone = check(&[&lines[..9], &lines[10..]].concat().concat(), Some(head));
    assert_eq!(gone.findings[0].fault, Fault::Missing { from: 10, to: 10 });
    assert_eq!(gone.findings[0].to_string(), "log:10: entry 11: entries 10 to 10 are missing");
    let wrong = check(&bytes, Some(AuditHead { seq: 200, hash: [0; 32] }));
    assert_eq!(wrong.findings[0].fault, Fault::Replaced { seq: 200 });
}

#[test]
fn every_changed_byte_of_a_log_is_found() {
    let (bytes, head) = log(6);
    for at in 0..bytes.len() {
        for flip in [1, 0x20, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            assert!(!check(&changed, Some(head)).is_good(), "byte {at} ^ {flip}");
        }
        assert!(!check(&bytes[..at], Some(head)).is_good(), "cut at {at}");
    }
}

#[test]
fn an_entry_made_without_the_key_is_found() {
    let (bytes, head) = log(5);
    let forger = ChainKeys::new(&Key::fill_with(|bytes| bytes.copy_from_slice(&[8; 32])));
    let mut forged = bytes.clone();
    let body = b"\"type\":\"note\",\"time\":\"2027-01-15T08:00:00.000Z\",\"kind\":\"sealed\"";
    chain::seal(&mut forged, &head, 1, &forger, body);
    assert_eq!(check(&forged, Some(head)).findings[0].fault, Fault::Forged);
    let mut unknown = bytes;
    chain::seal(&mut unknown, &head, 2, &forger, body);
    assert_eq!(check(&unknown, Some(head)).findings[0].fault, Fault::UnknownKey(2));
}

fn long_log() -> &'static (Vec<u8>, AuditHead) {
    static LOG: std::sync::OnceLock<(Vec<u8>, AuditHead)> = std::sync::OnceLock::new();
    LOG.get_or_init(|| log(200))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_changed_byte_of_a_long_log_is_found(at in any::<prop::sample::Index>(), flip in 1u8..) {
        let (bytes, head) = long_log();
        let mut changed = bytes.clone();
        let at = at.index(changed.len());
        changed[at] ^= flip;
        prop_assert!(!check(&changed, Some(*head)).is_good());
        changed.remove(at);
        prop_assert!(!check(&changed, Some(*head)).is_good());
    }

    #[test]
    fn any_bytes_give_a_report(bytes in prop::collection::vec(any::<u8>(), 0..2000), cut in any::<prop::sample::Index>()) {
        prop_assert!(bytes.is_empty() || !check(&bytes, None).is_good());
        let (log, _) = long_log();
        let mut mixed = log[..cut.index(log.len())].to_vec();
        mixed.extend_from_slice(&bytes);
        let _ = check(&mixed, None);
        let _ = verify([("a", bytes.as_slice()), ("b", mixed.as_slice())], &AuditKeys::none(), None);
    }
}
