//! The content of an entry: typed facts from an allow-list. Nothing else can reach the log.
//!
//! Values are written as keyed hashes only. Field names and, depending on the setting, paths are written in clear. A
//! text longer than its limit is replaced by its keyed hash. So the size of an entry is bounded, and the entry still
//! identifies the exact text.

use super::chain::ChainKeys;
use super::checkpoint::{Checkpoint, KeyChange};
use super::json;
use crate::api::spiffe::SpiffeId;

/// Largest number of fields that one entry names. The rest is counted.
pub const MAX_FIELDS: usize = 128;
/// Longest path written in clear, in bytes.
const MAX_PATH: usize = 4096;
/// Longest other text written in clear, in bytes.
const MAX_TEXT: usize = 256;
/// Longest identity by the SPIFFE standard.
const MAX_IDENTITY: usize = 2048;

/// How paths are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PathMode {
    /// In clear.
    #[default]
    Plain,
    /// As a keyed hash, which can be compared with `audit-hash` of the path.
    Hashed,
}

/// What is known about a request once it is decided.
#[derive(Clone, Copy)]
pub struct RequestFacts<'a> {
    /// When it was decided, in Unix milliseconds.
    pub time_ms: u64,
    /// Id that the server generated.
    pub request_id: &'a str,
    /// `read`, `list`, `create`, `update`, `patch` or `delete`.
    pub operation: &'a str,
    /// Canonical path.
    pub path: &'a str,
    /// Type of the mount that serves the path, if any.
    pub mount_kind: Option<&'a str>,
    /// The caller; `None` before the client is identified.
    pub identity: Option<&'a SpiffeId>,
    /// SHA-256 of the client's certificate.
    pub fingerprint: Option<&'a [u8; 32]>,
    /// Address of the client.
    pub remote: &'a str,
    /// Names of the policies that were merged.
    pub policies: &'a [String],
    /// `allow` or `deny`, with the reason's code.
    pub decision: &'a str,
    /// The rule that decided.
    pub rule: Option<&'a str>,
    /// Field names with their values: for a JSON string its text without quotes and escapes, otherwise the JSON text.
    /// Only a keyed hash of each value is written.
    pub fields: &'a [(&'a str, &'a [u8])],
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Done.
    Ok,
    /// Denied by policy.
    Denied,
    /// Rejected as malformed, or because the state does not allow it (for example, a failed check-and-set).
    Invalid,
    /// Nothing exists at the path.
    NotFound,
    /// Failed inside the vault. Nothing was changed.
    Failed,
}

impl Outcome {
    fn text(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Denied => "denied",
            Self::Invalid => "invalid",
            Self::NotFound => "not_found",
            Self::Failed => "failed",
        }
    }
}

/// What is known about a reply before it is sent.
#[derive(Clone, Copy)]
pub struct ReplyFacts<'a> {
    /// How it ended.
    pub outcome: Outcome,
    /// HTTP status of the reply.
    pub status: u16,
    /// Generation that made the change durable.
    pub generation: Option<u64>,
    /// Field names with values, as in [`RequestFacts::fields`].
    pub fields: &'a [(&'a str, &'a [u8])],
    /// Error code.
    pub error: Option<&'static str>,
    /// Version of the secret that was read or written.
    pub version: Option<u64>,
}

/// Events that are not requests.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Note<'a> {
    /// The vault was unsealed.
    Unsealed {
        /// The identity that unsealed it; `None` on the local console.
        identity: Option<&'a SpiffeId>,
    },
    /// The vault was sealed.
    Sealed {
        /// The identity that sealed it; `None` on the local console or at shutdown.
        identity: Option<&'a SpiffeId>,
    },
    /// The outcome of a request whose reply entry is missing (format amendment M7).
    Unfinished {
        /// Sequence number of the request entry.
        request: u64,
        /// How it ended.
        ended: Ended,
        /// Generation at which this was found.
        generation: u64,
    },
    /// The signing authority issued a certificate.
    Issued {
        /// Sequence number of the entry of the request for it.
        request: Option<u64>,
        /// The identity in the certificate.
        identity: &'a SpiffeId,
        /// SHA-256 of the certificate.
        fingerprint: &'a [u8; 32],
        /// Expiry, in Unix milliseconds.
        not_after_ms: u64,
    },
    /// An event that needs an operator's attention, by a fixed code.
    Alarm {
        /// Sequence number of the request entry that caused it, if a request did.
        request: Option<u64>,
        /// The code.
        code: &'a str,
    },
    /// A check of all records has ended.
    Checked {
        /// Whether it examined every record and found nothing. This settles earlier alarms about damage.
        clean: bool,
        /// Whether it ran to the end.
        complete: bool,
        /// Number of records checked.
        records: u64,
        /// Number of damaged records.
        failed: u64,
    },
}

/// Code of the alarm for a record that is damaged.
pub const DAMAGED: &str = "record-damaged";
/// Code of the alarm for a checksum over all records that does not match the state.
pub const SUM_DIFFERS: &str = "set-hash-differs";
/// Code of the alarm for damaged records that a salvage has removed.
pub const SALVAGED: &str = "records-salvaged";

/// How a request without a reply entry ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Its change is in the store.
    Committed,
    /// It was rejected.
    Refused,
    /// The store contains nothing of it.
    Absent,
}

impl Ended {
    fn text(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Refused => "refused",
            Self::Absent => "absent",
        }
    }
}

/// Entries about the log itself. The order of the fields is part of the format, because the verifier reads them.
#[derive(Clone, Copy)]
pub(super) enum Inner<'a> {
    /// First entry of a file (`new`), or of a file that was only reopened. Lists the requests without a reply, and says
    /// whether stored records are known to be damaged: what the next start must know of the files before.
    Reopened { new: bool, pending: &'a [u64], damage: bool },
    /// Bytes after the last genuine entry were cut.
    TornTail { bytes: u64, digest: &'a [u8; 32] },
}

/// Writes the part of a line between the key id and the hash.
pub(super) struct EntryWriter<'o, 'k> {
    pub(super) out: &'o mut Vec<u8>,
    pub(super) keys: &'k ChainKeys,
    pub(super) paths: PathMode,
}

impl EntryWriter<'_, '_> {
    /// Writes a request whose reply follows later.
    pub(super) fn request(&mut self, facts: &RequestFacts<'_>) {
        self.open("request", facts.time_ms);
        self.request_facts(facts);
    }

    /// Writes the reply to the request entry `request`.
    pub(super) fn reply(&mut self, time_ms: u64, request: u64, facts: &ReplyFacts<'_>) {
        self.open("reply", time_ms);
        self.number("request", request);
        self.reply_facts(facts);
    }

    /// Writes a request with its reply.
    pub(super) fn exchange(&mut self, request: &RequestFacts<'_>, reply: &ReplyFacts<'_>) {
        self.open("exchange", request.time_ms);
        self.request_facts(request);
        self.reply_facts(reply);
    }

    pub(super) fn note(&mut self, time_ms: u64, note: &Note<'_>) {
        self.open("note", time_ms);
        match *note {
            Note::Unsealed { identity } => {
                self.raw("kind", "unsealed");
                self.identity(identity);
            }
            Note::Sealed { identity } => {
                self.raw("kind", "sealed");
                self.identity(identity);
            }
            Note::Unfinished { request, ended, generation } => {
                self.raw("kind", "unfinished");
                self.number("request", request);
                self.raw("outcome", ended.text());
                self.number("generation", generation);
            }
            Note::Issued { request, identity, fingerprint, not_after_ms } => {
                self.raw("kind", "issued");
                self.request_of(request);
                self.identity(Some(identity));
                self.digest("fingerprint", fingerprint);
                self.name("not_after");
                json::time(self.out, not_after_ms);
            }
            Note::Alarm { request, code } => {
                self.raw("kind", "alarm");
                self.request_of(request);
                self.text("code", code, MAX_TEXT);
            }
            Note::Checked { clean, complete, records, failed } => {
                self.raw("kind", "checked");
                self.truth("clean", clean);
                self.truth("complete", complete);
                self.number("records", records);
                self.number("failed", failed);
            }
        }
    }

    pub(super) fn inner(&mut self, time_ms: u64, note: &Inner<'_>) {
        self.open("note", time_ms);
        match *note {
            Inner::Reopened { new, pending, damage } => {
                self.raw("kind", "reopened");
                self.truth("new", new);
                self.name("pending");
                self.out.push(b'[');
                for (at, request) in pending.iter().enumerate() {
                    if at > 0 {
                        self.out.push(b',');
                    }
                    json::number(self.out, *request);
                }
                self.out.push(b']');
                if damage {
                    self.truth("damage", true);
                }
            }
            Inner::TornTail { bytes, digest } => {
                self.raw("kind", "torn_tail");
                self.number("bytes", bytes);
                self.digest("sha256", digest);
            }
        }
    }

    fn open(&mut self, kind: &str, time_ms: u64) {
        self.out.extend_from_slice(b"\"type\":\"");
        self.out.extend_from_slice(kind.as_bytes());
        self.out.extend_from_slice(b"\",\"time\":");
        json::time(self.out, time_ms);
    }

    fn request_facts(&mut self, facts: &RequestFacts<'_>) {
        self.text("id", facts.request_id, MAX_TEXT);
        self.text("operation", facts.operation, MAX_TEXT);
        match self.paths {
            PathMode::Plain => self.text("path", facts.path, MAX_PATH),
            PathMode::Hashed => self.hashed("path", facts.path.as_bytes()),
        }
        if let Some(kind) = facts.mount_kind {
            self.text("mount", kind, MAX_TEXT);
        }
        self.identity(facts.identity);
        if let Some(fingerprint) = facts.fingerprint {
            self.digest("fingerprint", fingerprint);
        }
        self.text("remote", facts.remote, MAX_TEXT);
        self.name("policies");
        self.out.push(b'[');
        for (at, policy) in facts.policies.iter().take(MAX_FIELDS).enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            self.literal(policy, MAX_TEXT);
        }
        self.out.push(b']');
        self.text("decision", facts.decision, MAX_TEXT);
        if let Some(rule) = facts.rule {
            self.text("rule", rule, MAX_PATH);
        }
        self.fields("request_fields", facts.fields);
    }

    fn reply_facts(&mut self, facts: &ReplyFacts<'_>) {
        self.raw("outcome", facts.outcome.text());
        self.number("status", u64::from(facts.status));
        if let Some(generation) = facts.generation {
            self.number("generation", generation);
        }
        if let Some(version) = facts.version {
            self.number("version", version);
        }
        if let Some(error) = facts.error {
            self.text("error", error, MAX_TEXT);
        }
        self.fields("reply_fields", facts.fields);
    }

    fn fields(&mut self, name: &str, fields: &[(&str, &[u8])]) {
        if fields.is_empty() {
            return;
        }
        self.name(name);
        self.out.push(b'{');
        for (at, (field, value)) in fields.iter().take(MAX_FIELDS).enumerate() {
            if at > 0 {
                self.out.push(b',');
            }
            self.literal(field, MAX_TEXT);
            self.out.extend_from_slice(b":\"");
            self.keys.write_value(self.out, value);
            self.out.push(b'"');
        }
        self.out.push(b'}');
        if let Some(more) = fields.len().checked_sub(MAX_FIELDS).filter(|more| *more > 0) {
            self.number("more_fields", u64::try_from(more).unwrap_or(u64::MAX));
        }
    }

    fn identity(&mut self, identity: Option<&SpiffeId>) {
        if let Some(identity) = identity {
            self.text("identity", identity.uri(), MAX_IDENTITY);
        }
    }

    fn name(&mut self, name: &str) {
        self.out.extend_from_slice(b",\"");
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// Writes a word of this file, which needs no escaping.
    fn raw(&mut self, name: &str, word: &'static str) {
        self.name(name);
        self.out.push(b'"');
        self.out.extend_from_slice(word.as_bytes());
        self.out.push(b'"');
    }

    fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        json::number(self.out, value);
    }

    fn truth(&mut self, name: &str, value: bool) {
        self.name(name);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    /// Writes the request that a note is about. It is always the first field, for [`Role`].
    fn request_of(&mut self, request: Option<u64>) {
        if let Some(request) = request {
            self.number("request", request);
        }
    }

    fn digest(&mut self, name: &str, digest: &[u8; 32]) {
        self.name(name);
        self.out.push(b'"');
        json::hex(self.out, digest);
        self.out.push(b'"');
    }

    fn hashed(&mut self, name: &str, value: &[u8]) {
        self.name(name);
        self.out.push(b'"');
        self.keys.write_value(self.out, value);
        self.out.push(b'"');
    }

    fn text(&mut self, name: &str, text: &str, limit: usize) {
        self.name(name);
        self.literal(text, limit);
    }

    fn literal(&mut self, text: &str, limit: usize) {
        if text.len() <= limit {
            json::string(self.out, text);
        } else {
            self.out.push(b'"');
            self.keys.write_value(self.out, text.as_bytes());
            self.out.push(b'"');
        }
    }
}

/// What the chain must know about an entry's body.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Role<'a> {
    /// Opens a request.
    Request,
    /// Closes the request with this number.
    Closes(u64),
    /// Starts a file (`new`), lists the open requests, and may say that stored records are damaged.
    Reopened { new: bool, pending: &'a [u8], damage: bool },
    /// Adds information about the request with this number.
    Remark(u64),
    /// Says that stored records are damaged, or that they no longer are.
    Damage(bool),
    /// Signs the lines before it.
    Checkpoint(Checkpoint),
    /// Names the next audit key.
    Key(Box<KeyChange>),
    /// Any other entry.
    Plain,
}

impl<'a> Role<'a> {
    /// Reads the role from the body of a line. Returns `None` unless the body has a form that this module writes.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let rest = body.strip_prefix(b"\"type\":\"")?;
        let (kind, rest) = rest.split_at(rest.iter().position(|byte| *byte == b'"')?);
        let rest = rest.strip_prefix(b"\",\"time\":")?;
        let (time, rest) = rest.split_at_checked(json::TIME_LEN)?;
        if !is_time(time) {
            return None;
        }
        match kind {
            b"request" => Some(Self::Request),
            b"exchange" => Some(Self::Plain),
            b"reply" => json::take_number(rest.strip_prefix(b",\"request\":")?).map(|(seq, _)| Self::Closes(seq)),
            b"note" => Self::parse_note(time, rest.strip_prefix(b",\"kind\":\"")?),
            _ => None,
        }
    }

    fn parse_note(time: &[u8], rest: &'a [u8]) -> Option<Self> {
        if let Some(rest) = rest.strip_prefix(b"checkpoint\"") {
            return Checkpoint::parse(time, rest).map(Self::Checkpoint);
        }
        if let Some(rest) = rest.strip_prefix(b"key\"") {
            return KeyChange::parse(rest).map(|change| Self::Key(Box::new(change)));
        }
        if let Some(rest) = rest.strip_prefix(b"reopened\",\"new\":") {
            let (new, rest) = match rest.strip_prefix(b"true") {
                Some(rest) => (true, rest),
                None => (false, rest.strip_prefix(b"false")?),
            };
            let rest = rest.strip_prefix(b",\"pending\":[")?;
            let end = rest.iter().position(|byte| *byte == b']')?;
            let (pending, rest) = (rest.get(..end)?, rest.get(end..)?);
            return Some(Self::Reopened { new, pending, damage: rest.starts_with(b"],\"damage\":true") });
        }
        if let Some(rest) = rest.strip_prefix(b"unfinished\",\"request\":") {
            return json::take_number(rest).map(|(seq, _)| Self::Closes(seq));
        }
        for prefix in [b"issued\",\"request\":".as_slice(), b"alarm\",\"request\":"] {
            if let Some(rest) = rest.strip_prefix(prefix) {
                return json::take_number(rest).map(|(seq, _)| Self::Remark(seq));
            }
        }
        if let Some(rest) = rest.strip_prefix(b"checked\",\"clean\":") {
            return Some(Self::checked(rest));
        }
        if let Some(code) = rest.strip_prefix(b"alarm\",\"code\":\"") {
            let is = |known: &str| code.strip_prefix(known.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'"'));
            if is(SALVAGED) || is(DAMAGED) || is(SUM_DIFFERS) {
                return Some(Self::Damage(!is(SALVAGED)));
            }
        }
        Some(Self::Plain)
    }

    /// The end of a check, after `"clean":`. One that is not clean and found nothing bad settles nothing: it was stopped, or
    /// something was found beside it, and that has an alarm of its own.
    fn checked(rest: &[u8]) -> Self {
        if rest.starts_with(b"true") {
            return Self::Damage(false);
        }
        let failed = b"\"failed\":";
        let at = rest.windows(failed.len()).position(|window| window == failed);
        let failed = at.and_then(|at| rest.get(at + failed.len()..)).and_then(json::take_number);
        if failed.is_some_and(|(failed, _)| failed > 0) { Self::Damage(true) } else { Self::Plain }
    }

    /// Reads the numbers of a `pending` list. Anything else is skipped.
    pub(super) fn pending(list: &[u8]) -> impl Iterator<Item = u64> + '_ {
        list.split(|byte| *byte == b',').filter_map(|item| json::take_number(item).map(|(seq, _)| seq))
    }
}

/// Whether the text has the form that [`json::time`] writes, quotes included.
fn is_time(text: &[u8]) -> bool {
    let fits = |(byte, model): (&u8, &u8)| if *model == b'0' { byte.is_ascii_digit() } else { byte == model };
    text.iter().zip(b"\"0000-00-00T00:00:00.000Z\"").all(fits)
}
