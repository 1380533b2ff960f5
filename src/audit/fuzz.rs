//! What must hold for the audit log, whatever the bytes (feature `testing`). An input counts as a line, as a whole log, as
//! edits to a genuine log, and as a text to be written into one.

use std::sync::LazyLock;

use super::chain::{AuditHead, AuditKeys, ChainKeys, Line, MAX_LINE, TAIL_LEN, seal};
use super::checkpoint::{Coverage, KeyChange};
use super::entry::{Ended, EntryWriter, Inner, Note, Outcome, PathMode, ReplyFacts, RequestFacts, Role};
use super::json;
use super::verify::{HeadCheck, MAX_FINDINGS, Report, verify};
use crate::api::spiffe::SpiffeId;
use crate::crypto::secret::Key;
use crate::crypto::sign;
use crate::testing::alter::alter;

const T0: u64 = 1_800_000_000_000;

/// A log with every kind of entry, a checkpoint, and a change of the audit key.
struct Genuine {
    log: Vec<u8>,
    head: AuditHead,
    keys: AuditKeys,
}

static GENUINE: LazyLock<Genuine> = LazyLock::new(|| {
    let mac = |id: u8| Key::fill_with(|out| *out = [id; 32]);
    let sign = |id: u8| Key::fill_with(|out| *out = [id + 100; 32]);
    let mut keys = AuditKeys::one(1, &mac(1));
    keys.add(2, &mac(2));
    keys.add_public(1, sign::public(&sign(1)));
    let (mut log, mut head, mut coverage) = (Vec::new(), AuditHead::default(), Coverage::default());
    for entry in 0..13 {
        let id = if entry < 11 { 1 } else { 2 };
        let chain = ChainKeys::new(&mac(id));
        let mut body = Vec::new();
        match entry {
            9 | 12 => coverage.write(&mut body, T0, id.into(), &sign(id)),
            10 => KeyChange::write(&mut body, T0, (1, &sign(1)), (2, &sign(2))),
            _ => write(&mut EntryWriter { out: &mut body, keys: &chain, paths: PathMode::Plain }, entry),
        }
        let start = log.len();
        head = seal(&mut log, &head, id.into(), &chain, &body);
        let line = log.get(start..log.len() - 1).unwrap_or_default();
        if matches!(entry, 9 | 12) { coverage.restart(head.seq, line) } else { coverage.add(head.seq, line) }
    }
    Genuine { log, head, keys }
});

fn write(out: &mut EntryWriter<'_, '_>, entry: u8) {
    let identity = SpiffeId::new("vault.example", "web").expect("a good name");
    let fields: &[(&str, &[u8])] = &[("data", b"{}"), ("o\"p", b"1")];
    let request = RequestFacts {
        time_ms: T0,
        request_id: "r-1",
        operation: "update",
        path: "secret/data/a",
        mount_kind: Some("kv"),
        identity: Some(&identity),
        fingerprint: Some(&[0xab; 32]),
        remote: "10.0.0.1:5000",
        policies: &["web".to_owned(), "ops".to_owned()],
        decision: "allow",
        rule: Some("secret/*"),
        fields,
    };
    let reply =
        ReplyFacts { outcome: Outcome::Ok, status: 200, generation: Some(9), fields, error: None, version: Some(2) };
    let identity = &identity;
    match entry {
        0 => out.inner(T0, &Inner::Reopened { new: true, pending: &[], damage: true }),
        1 => out.note(T0, &Note::Unsealed { identity: Some(identity) }),
        2 => out.request(&request),
        3 => out.note(T0, &Note::Issued { request: Some(3), identity, fingerprint: &[1; 32], not_after_ms: T0 }),
        4 => out.reply(T0, 3, &reply),
        5 => out.exchange(&request, &reply),
        6 => out.inner(T0, &Inner::TornTail { bytes: 7, digest: &[2; 32] }),
        7 => out.note(T0, &Note::Alarm { request: None, code: "test" }),
        8 => out.note(T0, &Note::Unfinished { request: 3, ended: Ended::Absent, generation: 4 }),
        _ => out.note(T0, &Note::Sealed { identity: None }),
    }
}

pub(crate) fn examples() -> Vec<Vec<u8>> {
    let log = &GENUINE.log;
    let lines = log.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(<[u8]>::to_vec);
    lines.chain([log.clone(), vec![1, 0, 4, 1], vec![2, 9, 1, 0]]).collect()
}

pub(crate) fn check(data: &[u8]) -> bool {
    let accepted = line(data);
    log(data);
    let Genuine { log, head, keys } = &*GENUINE;
    let altered = alter(log, data);
    let report = verify([("log", altered.as_slice())], keys, Some(*head));
    bounded(&report, &altered);
    let whole = report.is_good() && report.head == HeadCheck::Found;
    assert_eq!(whole, altered == *log, "whole if and only if nothing was changed: {report:?}");
    text(&String::from_utf8_lossy(data));
    accepted
}

/// One line without its line feed.
fn line(data: &[u8]) -> bool {
    let Some(line) = Line::parse(data) else { return false };
    let mut again = b"{\"seq\":".to_vec();
    json::number(&mut again, line.seq);
    again.extend_from_slice(b",\"prev\":\"");
    json::hex(&mut again, &line.prev);
    again.extend_from_slice(b"\",\"key\":");
    json::number(&mut again, line.key.into());
    again.push(b',');
    again.extend_from_slice(line.body);
    again.extend_from_slice(b",\"hash\":\"");
    json::hex(&mut again, &line.hash);
    again.extend_from_slice(b"\"}");
    assert_eq!(again, data, "one entry has one spelling");
    assert!(data.len() > TAIL_LEN);
    let known = GENUINE.log.split(|byte| *byte == b'\n').any(|genuine| genuine == data);
    if let Some(chain) = GENUINE.keys.find(line.key) {
        assert_eq!(line.genuine(chain), known, "only a genuine line has a hash that fits");
    }
    match Role::parse(line.body) {
        Some(Role::Reopened { pending, .. }) => {
            assert!(Role::pending(pending).count() <= pending.len().div_ceil(2));
        }
        Some(_) => {}
        None => assert!(!known, "every entry that is written has a role"),
    }
    true
}

fn log(data: &[u8]) {
    let report = verify([("log", data)], &GENUINE.keys, None);
    bounded(&report, data);
    // Without an expected head nothing says that lines were cut off from the end.
    assert!(!report.is_good() || GENUINE.log.starts_with(data), "nothing but our own lines is a good log");
    bounded(&verify([("log", data)], &AuditKeys::none(), None), data);
}

fn bounded(report: &Report, log: &[u8]) {
    let lines = log.split(|byte| *byte == b'\n').count();
    let lines = u64::try_from(lines).unwrap_or(u64::MAX);
    assert!(report.entries <= lines && report.findings.len() <= MAX_FINDINGS);
    assert!(report.findings.iter().all(|finding| finding.line <= lines && !finding.to_string().contains('\n')));
}

/// A text of any kind stands in the log as one literal on one line, and reads back as itself.
fn text(text: &str) {
    let mut out = Vec::new();
    json::string(&mut out, text);
    assert!(out.iter().all(|byte| !byte.is_ascii_control()), "an entry is one line");
    assert_eq!(serde_json::from_slice::<String>(&out).as_deref().ok(), Some(text));
    // However long its parts are, an entry fits into a line.
    let mut body = Vec::new();
    let chain = ChainKeys::new(&Key::fill_with(|out| *out = [1; 32]));
    let field = (text, text.as_bytes());
    let facts = RequestFacts {
        time_ms: text.len() as u64,
        request_id: text,
        operation: text,
        path: text,
        mount_kind: Some(text),
        identity: None,
        fingerprint: None,
        remote: text,
        policies: &[text.to_owned(), text.to_owned()],
        decision: text,
        rule: Some(text),
        fields: &[field, field],
    };
    EntryWriter { out: &mut body, keys: &chain, paths: PathMode::Plain }.request(&facts);
    let mut sealed = Vec::new();
    let head = seal(&mut sealed, &AuditHead::default(), 1, &chain, &body);
    assert!(sealed.len() <= MAX_LINE && sealed.iter().filter(|byte| **byte == b'\n').count() == 1);
    let written = sealed.strip_suffix(b"\n").and_then(Line::parse).expect("what is written is an entry");
    assert!(written.genuine(&chain) && written.head() == head && Role::parse(written.body) == Some(Role::Request));
}
