//! Signed checkpoints, which prove a log to a verifier without any secret.
//!
//! A checkpoint is a note in the chain. It covers the lines since the last one:
//!
//! ```text
//! {"seq":1001,...,"type":"note","time":"...","kind":"checkpoint","from":1,"to":1000,"digest":"<64 hex>",
//!  "signature":"<128 hex>","hash":"..."}
//! ```
//!
//! - `digest` = SHA-256 over the lines `from` to `to`, line feeds included, exactly as they stand in the file.
//! - `from` is the previous checkpoint (it is covered too, which links the signatures), or the first line of the file.
//!   `to` is the line before this one.
//! - `signature` = Ed25519 by the audit key named in `key`, over "sr1 audit checkpoint" ‖ u32 key ‖ u64 from ‖ u64 to ‖
//!   the 26 bytes of the time with its quotes ‖ digest.
//!
//! A change of the audit key is a note made with the old key: `"kind":"key","new":2,"old_public":"..","public":"..",
//! "old_signature":"..","signature":".."`; both keys sign "sr1 audit key" ‖ u32 old ‖ u32 new ‖ old public ‖ new public.

use sha2::{Digest, Sha256};

use super::json;
use crate::api::hex::unhex;
use crate::crypto::secret::Key;
use crate::crypto::sign::{self, PUBLIC_LEN, SIGNATURE_LEN};

/// Number of entries after which a checkpoint is due.
pub(super) const EVERY: u64 = 1_000;
const DOMAIN_CHECKPOINT: &[u8] = b"sr1 audit checkpoint";
const DOMAIN_KEY: &[u8] = b"sr1 audit key";

/// The lines that the next checkpoint will cover.
#[derive(Clone, Debug, Default)]
pub(super) struct Coverage {
    hash: Sha256,
    /// First line; 0 while there is none.
    from: u64,
    /// Last line.
    to: u64,
    /// Lines that no checkpoint covers yet.
    pub(super) open: u64,
    /// Whether lines in this range are known to be missing.
    holed: bool,
}

impl Coverage {
    /// Adds one line, given without its line feed.
    pub(super) fn add(&mut self, seq: u64, line: &[u8]) {
        self.holed |= self.from != 0 && seq != self.to + 1;
        if self.from == 0 {
            self.from = seq;
        }
        self.hash.update(line);
        self.hash.update(b"\n");
        self.to = seq;
        self.open += 1;
    }

    /// Starts again with a checkpoint, which is the first line of the next coverage.
    pub(super) fn restart(&mut self, seq: u64, line: &[u8]) {
        *self = Self::default();
        self.add(seq, line);
        self.open = 0;
    }

    pub(super) fn digest(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }

    /// Writes the body of the checkpoint that covers everything so far.
    pub(super) fn write(&self, out: &mut Vec<u8>, time_ms: u64, key_id: u32, seed: &Key) {
        let start = out.len() + b"\"type\":\"note\",\"time\":".len();
        out.extend_from_slice(b"\"type\":\"note\",\"time\":");
        json::time(out, time_ms);
        let time = out.get(start..).unwrap_or_default().to_vec();
        let digest = self.digest();
        out.extend_from_slice(b",\"kind\":\"checkpoint\",\"from\":");
        json::number(out, self.from);
        out.extend_from_slice(b",\"to\":");
        json::number(out, self.to);
        quoted(out, "digest", &digest);
        let (id, from, to) = (key_id.to_be_bytes(), self.from.to_be_bytes(), self.to.to_be_bytes());
        let signature = sign::sign(seed, &[DOMAIN_CHECKPOINT, &id, &from, &to, &time, &digest]);
        quoted(out, "signature", &signature);
    }
}

fn quoted(out: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":\"");
    json::hex(out, bytes);
    out.push(b'"');
}

/// A checkpoint as read from a log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) from: u64,
    pub(super) to: u64,
    time: [u8; json::TIME_LEN],
    digest: [u8; 32],
    signature: [u8; SIGNATURE_LEN],
}

/// What a checkpoint proves about the lines before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    Good,
    /// The signature was not made by the key.
    BadSignature,
    /// The signature is valid, but for other lines.
    OtherLines,
    /// Lines are known to be missing here, so nothing can be proved.
    Holed,
}

impl Checkpoint {
    /// Reads the text after `"kind":"checkpoint"`.
    pub(super) fn parse(time: &[u8], rest: &[u8]) -> Option<Self> {
        let (from, rest) = json::take_number(rest.strip_prefix(b",\"from\":")?)?;
        let (to, rest) = json::take_number(rest.strip_prefix(b",\"to\":")?)?;
        let (digest, rest) = take(rest, b",\"digest\":\"")?;
        let (signature, rest) = take(rest, b",\"signature\":\"")?;
        rest.is_empty().then_some(Self { from, to, time: *time.first_chunk()?, digest, signature })
    }

    /// Compares the checkpoint with the lines that were read. `line` is its own number.
    pub(super) fn judge(&self, line: u64, coverage: &Coverage, key_id: u32, public: &[u8; PUBLIC_LEN]) -> Judgement {
        let (id, from, to) = (key_id.to_be_bytes(), self.from.to_be_bytes(), self.to.to_be_bytes());
        let parts: &[&[u8]] = &[DOMAIN_CHECKPOINT, &id, &from, &to, &self.time, &self.digest];
        if !sign::verify(public, parts, &self.signature) {
            return Judgement::BadSignature;
        }
        let same = self.from == coverage.from && self.to == coverage.to && line == self.to + 1;
        match (coverage.holed, same && self.digest == coverage.digest()) {
            (true, _) => Judgement::Holed,
            (false, true) => Judgement::Good,
            (false, false) => Judgement::OtherLines,
        }
    }
}

/// A change of the audit key as read from a log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct KeyChange {
    pub(super) new: u32,
    pub(super) old_public: [u8; PUBLIC_LEN],
    pub(super) public: [u8; PUBLIC_LEN],
    old_signature: [u8; SIGNATURE_LEN],
    signature: [u8; SIGNATURE_LEN],
}

impl KeyChange {
    /// Writes the body of the note.
    pub(super) fn write(out: &mut Vec<u8>, time_ms: u64, (old, old_seed): (u32, &Key), (new, seed): (u32, &Key)) {
        let (old_public, public) = (sign::public(old_seed), sign::public(seed));
        let (from, to) = (old.to_be_bytes(), new.to_be_bytes());
        let parts: &[&[u8]] = &[DOMAIN_KEY, &from, &to, &old_public, &public];
        out.extend_from_slice(b"\"type\":\"note\",\"time\":");
        json::time(out, time_ms);
        out.extend_from_slice(b",\"kind\":\"key\",\"new\":");
        json::number(out, u64::from(new));
        quoted(out, "old_public", &old_public);
        quoted(out, "public", &public);
        quoted(out, "old_signature", &sign::sign(old_seed, parts));
        quoted(out, "signature", &sign::sign(seed, parts));
    }

    /// Reads the text after `"kind":"key"`.
    pub(super) fn parse(rest: &[u8]) -> Option<Self> {
        let (new, rest) = json::take_number(rest.strip_prefix(b",\"new\":")?)?;
        let (old_public, rest) = take(rest, b",\"old_public\":\"")?;
        let (public, rest) = take(rest, b",\"public\":\"")?;
        let (old_signature, rest) = take(rest, b",\"old_signature\":\"")?;
        let (signature, rest) = take(rest, b",\"signature\":\"")?;
        let new = u32::try_from(new).ok()?;
        rest.is_empty().then_some(Self { new, old_public, public, old_signature, signature })
    }

    /// Whether both the trusted key `old` and the new key signed.
    pub(super) fn genuine(&self, old: u32, trusted: &[u8; PUBLIC_LEN]) -> bool {
        let (from, to) = (old.to_be_bytes(), self.new.to_be_bytes());
        let parts: &[&[u8]] = &[DOMAIN_KEY, &from, &to, &self.old_public, &self.public];
        self.old_public == *trusted
            && sign::verify(trusted, parts, &self.old_signature)
            && sign::verify(&self.public, parts, &self.signature)
    }
}

/// Reads `N` bytes of hexadecimal between `prefix` and a quote.
fn take<'a, const N: usize>(text: &'a [u8], prefix: &[u8]) -> Option<([u8; N], &'a [u8])> {
    let (hex, rest) = text.strip_prefix(prefix)?.split_at_checked(2 * N)?;
    Some((unhex(hex)?, rest.strip_prefix(b"\"")?))
}
