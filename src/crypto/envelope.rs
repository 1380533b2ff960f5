//! The record of format v1: one sealed body with a head in clear text that is bound to it (`docs/format.md`, "Record").

use super::aead::{self, NONCE_LEN, TAG_LEN};
use super::codec::Reader;
use super::derive::{label, record_keys};
use super::hash::{MacKey, equal, sha256};
use super::{CryptoError, Key, Random, SecretBytes};

pub use super::aead::Suite;

/// Bytes of the clear head, which is bound as associated data.
pub const HEAD_LEN: usize = 28;
/// Offset of the commitment.
pub const COMMIT_AT: usize = 60;
/// Bytes up to the end of the commitment. An index needs only these.
pub const PREFIX_LEN: usize = 92;
/// Bytes that a record adds to its padded body.
pub const OVERHEAD: usize = 120;
/// Largest padded body: a value of 1 MiB and its frame.
pub const MAX_BODY: usize = (1 << 20) + (64 << 10);

const BODY_AT: usize = PREFIX_LEN + NONCE_LEN;
const FORMAT: u8 = 1;

/// Content of a record. It decides which key opens the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// 01: the keyring inside a header, under K_ring; term field 0.
    Keyring = 1,
    /// 02: the state of a lane, under K_state; the term field is the integrity set.
    State = 2,
    /// 03: a node of the name tree, under the key of its term.
    Node = 3,
    /// 04: one version of a value, under its own data key; term field 0.
    Value = 4,
    /// 06: an entry of any other data, under the key of its term.
    Entry = 6,
}

impl Kind {
    /// The number in the format.
    pub fn byte(self) -> u8 {
        match self {
            Self::Keyring => 1,
            Self::State => 2,
            Self::Node => 3,
            Self::Value => 4,
            Self::Entry => 6,
        }
    }

    /// The padded length of a body of `n` bytes: the smallest bucket that holds it.
    ///
    /// # Errors
    /// [`CryptoError::TooLarge`] when `n` is above [`MAX_BODY`].
    pub fn bucket(self, n: usize) -> Result<usize, CryptoError> {
        let bucket = match self {
            Self::Keyring | Self::State => n.max(1).checked_next_multiple_of(256),
            _ if n <= 4096 => Some(n.max(256).next_power_of_two()),
            _ => n.checked_next_multiple_of(4096),
        };
        bucket.filter(|padded| *padded <= MAX_BODY).ok_or(CryptoError::TooLarge)
    }
}

impl TryFrom<u8> for Kind {
    type Error = CryptoError;

    fn try_from(byte: u8) -> Result<Self, CryptoError> {
        match byte {
            1 => Ok(Self::Keyring),
            2 => Ok(Self::State),
            3 => Ok(Self::Node),
            4 => Ok(Self::Value),
            6 => Ok(Self::Entry),
            _ => Err(CryptoError::Unsupported("kind")),
        }
    }
}

/// Everything that a record is bound to. Opening it with any other value fails.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Cipher suite.
    pub suite: Suite,
    /// Kind of the body.
    pub kind: Kind,
    /// Key term, integrity set or 0, depending on the kind.
    pub term: u32,
    /// Header sequence, generation, revision or KV version, depending on the kind.
    pub version: u64,
    /// Write generation; 0 for a keyring.
    pub generation: u64,
    /// Id of the vault.
    pub vault_id: &'a [u8; 16],
    /// Key under which the engine stores the record; empty for a keyring.
    pub store_key: &'a [u8],
    /// Mount id and path, or empty.
    pub path: &'a [u8],
}

/// The clear head of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Cipher suite.
    pub suite: Suite,
    /// Kind of the body.
    pub kind: Kind,
    /// Always 0 in v1.
    pub flags: u8,
    /// Key term, integrity set or 0.
    pub term: u32,
    /// Header sequence, generation, revision or KV version.
    pub version: u64,
    /// Write generation; 0 for a keyring.
    pub generation: u64,
}

impl Head {
    fn encode(&self) -> [u8; HEAD_LEN] {
        let mut out = [0; HEAD_LEN];
        let [_, _, _, _, _, _, _, _, tail @ ..] = &mut out;
        tail[..4].copy_from_slice(&self.term.to_be_bytes());
        tail[4..12].copy_from_slice(&self.version.to_be_bytes());
        tail[12..].copy_from_slice(&self.generation.to_be_bytes());
        out[..6].copy_from_slice(&[b's', b'r', FORMAT, self.suite.byte(), self.kind.byte(), self.flags]);
        out
    }

    fn check(&self) -> Result<(), CryptoError> {
        let fits = match self.kind {
            Kind::Keyring => self.term == 0 && self.generation == 0,
            Kind::State => self.term != 0 && self.generation == self.version,
            Kind::Value => self.term == 0 && self.generation != 0,
            Kind::Node | Kind::Entry => self.term != 0 && self.generation != 0,
        };
        if fits && self.version != 0 { Ok(()) } else { Err(CryptoError::Malformed("head does not fit its kind")) }
    }
}

impl Context<'_> {
    fn head(&self) -> Head {
        Head {
            suite: self.suite,
            kind: self.kind,
            flags: 0,
            term: self.term,
            version: self.version,
            generation: self.generation,
        }
    }

    /// Names the first field in which the stored head differs, so the caller learns what was swapped.
    fn compare(&self, head: &Head) -> Result<(), CryptoError> {
        let differs = [
            (head.suite != self.suite, "suite"),
            (head.kind != self.kind, "kind"),
            (head.term != self.term, "term"),
            (head.version != self.version, "version"),
            (head.generation != self.generation, "generation"),
        ];
        match differs.iter().find(|(differs, _)| *differs) {
            Some((_, field)) => Err(CryptoError::Context(field)),
            None => Ok(()),
        }
    }

    fn aad(&self, head: &[u8; HEAD_LEN]) -> Vec<u8> {
        let lengths = label::RECORD.len() + HEAD_LEN + 16 + 4 + self.store_key.len() + 4 + self.path.len();
        let mut aad = Vec::with_capacity(lengths);
        aad.extend_from_slice(label::RECORD);
        aad.extend_from_slice(head);
        aad.extend_from_slice(self.vault_id);
        for field in [self.store_key, self.path] {
            let length = u32::try_from(field.len()).expect("store keys and paths are far shorter than 4 GiB");
            aad.extend_from_slice(&length.to_be_bytes());
            aad.extend_from_slice(field);
        }
        aad
    }
}

/// Parses the clear head. `record` may be cut anywhere after [`HEAD_LEN`] bytes.
///
/// # Errors
/// [`CryptoError::Malformed`] for wrong magic, set flags, non-zero reserved bytes, or a term, version or generation
/// that is not valid for the kind. [`CryptoError::Unsupported`] for an unknown format, suite or kind.
pub fn head(record: &[u8]) -> Result<Head, CryptoError> {
    let mut reader = Reader::new(record);
    if reader.array::<2>()? != b"sr" {
        return Err(CryptoError::Malformed("record magic"));
    }
    if reader.u8()? != FORMAT {
        return Err(CryptoError::Unsupported("record format"));
    }
    let suite = Suite::try_from(reader.u8()?)?;
    let kind = Kind::try_from(reader.u8()?)?;
    let flags = reader.u8()?;
    if flags != 0 || reader.u16()? != 0 {
        return Err(CryptoError::Malformed("reserved bits are set"));
    }
    let head = Head { suite, kind, flags, term: reader.u32()?, version: reader.u64()?, generation: reader.u64()? };
    head.check()?;
    Ok(head)
}

/// Returns the commitment of a record. The first [`PREFIX_LEN`] bytes are enough.
///
/// # Errors
/// [`CryptoError::Malformed`] when `record` is shorter.
pub fn commitment(record: &[u8]) -> Result<[u8; 32], CryptoError> {
    record
        .get(COMMIT_AT..)
        .and_then(|rest| rest.first_chunk::<32>())
        .copied()
        .ok_or(CryptoError::Malformed("data ends too early"))
}

/// Seals `body`, padded to its bucket, into a record.
///
/// The salt is hedged. If the random source is broken, equal inputs give equal records, but never two different
/// plaintexts with one key and nonce.
///
/// # Errors
/// [`CryptoError::TooLarge`] above [`MAX_BODY`]; [`CryptoError::Malformed`] when the context is not valid for its kind;
/// [`CryptoError::Random`] when the random source fails.
pub fn seal(
    ikm: &Key,
    ctx: &Context<'_>,
    hedge: &MacKey,
    random: &dyn Random,
    body: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    let head = ctx.head();
    head.check()?;
    let padded = ctx.kind.bucket(body.len())?;
    let head = head.encode();
    let aad = ctx.aad(&head);
    let context = sha256(&[&aad]);

    let mut noise = [0u8; 32 + NONCE_LEN];
    random.fill(&mut noise)?;
    let (rnd, nonce) = noise.split_first_chunk::<32>().expect("44 bytes hold 32");
    let nonce: &[u8; NONCE_LEN] = nonce.first_chunk().expect("12 bytes are left");

    // Allocated once at full size and encrypted in place, so no copy of the plaintext is freed without wiping.
    let mut record = Vec::with_capacity(padded + OVERHEAD);
    record.resize(BODY_AT, 0);
    record.extend_from_slice(body);
    record.resize(BODY_AT + padded, 0);
    let (front, plain) = record.split_at_mut(BODY_AT);

    let salt = hedge.mac(&[label::HEDGE, rnd, &context, plain]);
    let keys = record_keys(ikm, &salt, ctx.suite.byte(), &context);
    let tag = aead::seal_in_place(ctx.suite, &keys.encrypt, nonce, &aad, plain)?;

    front[..HEAD_LEN].copy_from_slice(&head);
    front[HEAD_LEN..COMMIT_AT].copy_from_slice(&salt);
    front[COMMIT_AT..PREFIX_LEN].copy_from_slice(&keys.commitment);
    front[PREFIX_LEN..].copy_from_slice(nonce);
    record.extend_from_slice(&tag);
    Ok(record)
}

/// Ends the body of a record. `reader` is positioned after the last field of `body`. The rest must be zero padding up
/// to the smallest bucket and no further, so that one content has only one length. A body without padding is accepted
/// too.
///
/// # Errors
/// [`CryptoError::Malformed`] for any other padding.
pub fn finish(kind: Kind, body: &[u8], reader: Reader<'_>) -> Result<(), CryptoError> {
    let left = reader.remaining();
    reader.finish()?;
    let least = kind.bucket(body.len().saturating_sub(left))?;
    if left == 0 || least == body.len() { Ok(()) } else { Err(CryptoError::Malformed("padding")) }
}

/// Opens a record and returns its body with its zero padding. The codec of the body must end with [`finish`], which
/// checks the padding. Nothing is returned before the tag is verified.
///
/// # Errors
/// [`CryptoError::Malformed`] and [`CryptoError::Unsupported`] as for [`head`], and for a length that is not a bucket.
/// [`CryptoError::Context`] when a clear field differs. [`CryptoError::WrongKey`] when the commitment differs (other
/// key, vault, store key or path, or a damaged salt). [`CryptoError::Damaged`] when the tag does not verify.
pub fn open(ikm: &Key, ctx: &Context<'_>, record: &[u8]) -> Result<SecretBytes, CryptoError> {
    let head = head(record)?;
    ctx.compare(&head)?;
    let mut reader = Reader::new(record);
    let head: &[u8; HEAD_LEN] = reader.array()?;
    let salt: &[u8; 32] = reader.array()?;
    let committed: &[u8; 32] = reader.array()?;
    let nonce: &[u8; NONCE_LEN] = reader.array()?;
    let padded = reader.remaining().checked_sub(TAG_LEN).ok_or(CryptoError::Malformed("data ends too early"))?;
    if padded == 0 || ctx.kind.bucket(padded)? != padded {
        return Err(CryptoError::Malformed("length is no bucket"));
    }
    let sealed = reader.bytes(padded)?;
    let tag: &[u8; TAG_LEN] = reader.array()?;

    let aad = ctx.aad(head);
    let keys = record_keys(ikm, salt, ctx.suite.byte(), &sha256(&[&aad]));
    if !equal(&keys.commitment, committed) {
        return Err(CryptoError::WrongKey);
    }
    let mut body = SecretBytes::from_vec(sealed.to_vec());
    aead::open_in_place(ctx.suite, &keys.encrypt, nonce, &aad, body.reveal_mut(), tag)?;
    Ok(body)
}
