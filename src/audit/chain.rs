//! The hash chain: keys, and the exact bytes of a line.
//!
//! A log is a sequence of lines, each one JSON object ended by one line feed:
//!
//! ```text
//! {"seq":7,"prev":"<64 hex>","key":1,"type":"exchange","time":"2026-11-21T05:12:08.123Z", ... ,"hash":"<64 hex>"}
//! |<------------------------------- covered bytes --------------------------------->|<---- 75 bytes ---->| LF
//! ```
//!
//! - `seq` counts from 1 without gaps; `prev` is the `hash` of entry `seq - 1`, 64 zeros for entry 1; `key` is the
//!   id of the audit key that the entry was made with.
//! - `hash` = HMAC-SHA-256(K_chain, "sr1 audit entry" ‖ prev as 32 raw bytes ‖ covered bytes). The covered bytes run
//!   from `{` to the byte before the comma of `,"hash":"`, exactly as they stand in the file; nothing is parsed and
//!   written again.
//! - Numbers have no sign and no leading zero, hexadecimal is lower case, fields stand in the order the writer
//!   gives them, and no byte stands between tokens. A line of any other shape is not an entry.
//! - K_chain = HMAC-SHA-256(K_audit, "sr1 audit chain"); K_value = HMAC-SHA-256(K_audit, "sr1 audit value") hashes
//!   values. Nobody can compute K_audit or the other key from one of them.
//!
//! A file starts with entry 1 or with a note of kind `reopened` and `"new":true`, which carries the chain over.

use subtle::ConstantTimeEq;

use super::json;
use crate::api::hex::unhex;
use crate::crypto::hash::{MacKey, hmac_sha256};
use crate::crypto::secret::Key;

/// Label of K_chain under K_audit.
const LABEL_CHAIN: &[u8] = b"sr1 audit chain";
/// Label of K_value under K_audit.
const LABEL_VALUE: &[u8] = b"sr1 audit value";
/// Domain of the entry hash.
const DOMAIN_ENTRY: &[u8] = b"sr1 audit entry";
const TAIL: &[u8] = b",\"hash\":\"";
/// Bytes after the covered part, without the line feed.
pub(super) const TAIL_LEN: usize = 9 + 64 + 2;
/// Longest line that is an entry, without the line feed.
pub(super) const MAX_LINE: usize = 1 << 20;

/// The last entry of a log, which the sealed state records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AuditHead {
    /// Sequence number; 0 before the first entry.
    pub seq: u64,
    /// Hash of that entry; zeros before the first.
    pub hash: [u8; 32],
}

/// The two keys derived from one audit key. Wiped on drop; no `Debug`, no `Clone`.
pub(super) struct ChainKeys {
    chain: MacKey,
    value: MacKey,
}

impl ChainKeys {
    pub(super) fn new(key: &Key) -> Self {
        let derive = |label: &[u8]| {
            let derived = Key::fill_with(|out| {
                let mut mac = hmac_sha256(key.reveal(), &[label]);
                out.copy_from_slice(&mac);
                zeroize::Zeroize::zeroize(&mut mac);
            });
            MacKey::from(&derived)
        };
        Self { chain: derive(LABEL_CHAIN), value: derive(LABEL_VALUE) }
    }

    pub(super) fn entry(&self, prev: &[u8; 32], covered: &[u8]) -> [u8; 32] {
        self.chain.mac(&[DOMAIN_ENTRY, prev, covered])
    }

    /// Appends `hmac-sha256:<hex>` of a value, without quotes.
    pub(super) fn write_value(&self, out: &mut Vec<u8>, value: &[u8]) {
        out.extend_from_slice(b"hmac-sha256:");
        json::hex(out, &self.value.mac(&[value]));
    }
}

/// One audit key, as stored in the keyring.
pub struct LogKey {
    /// Its number, which entries name.
    pub id: u32,
    /// K_audit, from which [`ChainKeys`] are derived.
    pub mac: Key,
    /// Seed of the Ed25519 key that signs checkpoints.
    pub sign: Key,
}

/// An audit key prepared for writing.
pub(super) struct KeySet {
    pub(super) id: u32,
    pub(super) chain: ChainKeys,
    pub(super) sign: Key,
}

impl From<LogKey> for KeySet {
    fn from(LogKey { id, mac, sign }: LogKey) -> Self {
        Self { id, chain: ChainKeys::new(&mac), sign }
    }
}

/// Audit keys by id, for verification: the newest and those that it replaced.
#[derive(Default)]
pub struct AuditKeys {
    keys: Vec<(u32, ChainKeys)>,
    publics: Vec<(u32, [u8; 32])>,
}

impl AuditKeys {
    /// Creates an empty set. Only the structure of a log can be checked with it.
    pub fn none() -> Self {
        Self::default()
    }

    /// Creates a set with one key.
    pub fn one(id: u32, key: &Key) -> Self {
        let mut keys = Self::default();
        keys.add(id, key);
        keys
    }

    /// Adds a key. Replaces a key with the same id.
    pub fn add(&mut self, id: u32, key: &Key) {
        self.keys.retain(|(known, _)| *known != id);
        self.keys.push((id, ChainKeys::new(key)));
    }

    /// Adds the public half of a signing key. One is enough, because later keys are taken from the log if a trusted key
    /// signed them.
    pub fn add_public(&mut self, id: u32, public: [u8; 32]) {
        self.publics.retain(|(known, _)| *known != id);
        self.publics.push((id, public));
    }

    /// Public keys that are trusted from the start.
    pub(super) fn publics(&self) -> &[(u32, [u8; 32])] {
        &self.publics
    }

    /// Whether there is no secret key. Then links are checked, but not who wrote them.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn find(&self, id: u32) -> Option<&ChainKeys> {
        self.keys.iter().find(|(known, _)| *known == id).map(|(_, keys)| keys)
    }
}

/// Appends one complete line for the entry after `head` and returns the new head. `body` is the text from `"type"` to
/// the last field.
pub(super) fn seal(out: &mut Vec<u8>, head: &AuditHead, key_id: u32, keys: &ChainKeys, body: &[u8]) -> AuditHead {
    let seq = head.seq + 1;
    let start = out.len();
    out.extend_from_slice(b"{\"seq\":");
    json::number(out, seq);
    out.extend_from_slice(b",\"prev\":\"");
    json::hex(out, &head.hash);
    out.extend_from_slice(b"\",\"key\":");
    json::number(out, u64::from(key_id));
    out.push(b',');
    out.extend_from_slice(body);
    let hash = keys.entry(&head.hash, out.get(start..).unwrap_or_default());
    out.extend_from_slice(TAIL);
    json::hex(out, &hash);
    out.extend_from_slice(b"\"}\n");
    AuditHead { seq, hash }
}

/// One parsed line. Nothing in it is authenticated yet.
pub(super) struct Line<'a> {
    pub(super) seq: u64,
    pub(super) prev: [u8; 32],
    pub(super) key: u32,
    pub(super) hash: [u8; 32],
    /// From `"type"` to the last field.
    pub(super) body: &'a [u8],
    covered: &'a [u8],
}

impl<'a> Line<'a> {
    /// Parses a line without its line feed. Returns `None` unless it has the form that [`seal`] writes.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let (covered, tail) = line.split_at_checked(line.len().checked_sub(TAIL_LEN)?)?;
        let hash = unhex(tail.strip_prefix(TAIL)?.strip_suffix(b"\"}")?)?;
        let (seq, rest) = json::take_number(covered.strip_prefix(b"{\"seq\":")?)?;
        let (prev, rest) = rest.strip_prefix(b",\"prev\":\"")?.split_at_checked(64)?;
        let prev = unhex(prev)?;
        let (key, rest) = json::take_number(rest.strip_prefix(b"\",\"key\":")?)?;
        let body = rest.strip_prefix(b",")?;
        if !body.starts_with(b"\"type\":\"") || body.contains(&b'\n') {
            return None;
        }
        Some(Self { seq, prev, key: u32::try_from(key).ok()?, hash, body, covered })
    }

    /// Whether the line's hash was made with `keys`.
    pub(super) fn genuine(&self, keys: &ChainKeys) -> bool {
        keys.entry(&self.prev, self.covered).ct_eq(&self.hash).into()
    }

    pub(super) fn head(&self) -> AuditHead {
        AuditHead { seq: self.seq, hash: self.hash }
    }
}
