//! Sealed records and the bodies inside them. An input counts three times: as a record, as a body, and as a body with the
//! edits to make to its record.

use std::sync::LazyLock;

use crate::barrier::fuzz::padded;
use crate::barrier::node::{Node, decode_entry, decode_value, encode_entry, encode_value};
use crate::crypto::codec::Writer;
use crate::crypto::envelope::{self, Context, HEAD_LEN, Head, Kind, OVERHEAD, Suite};
use crate::crypto::hash::MacKey;
use crate::crypto::random::SeededRandom;
use crate::crypto::{CryptoError, Key, SecretBytes};
use crate::testing::alter::alter;

const KINDS: [Kind; 5] = [Kind::Keyring, Kind::State, Kind::Node, Kind::Value, Kind::Entry];
const SUITES: [Suite; 2] = [Suite::Aes256Gcm, Suite::ChaCha20Poly1305];
const VAULT: [u8; 16] = [7; 16];

static KEY: LazyLock<Key> = LazyLock::new(|| Key::fill_with(|out| *out = [9; 32]));
static GENUINE: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let bodies = bodies();
    let made = |(number, body): (usize, &Vec<u8>)| {
        let kind = KINDS[(number + 2) % KINDS.len()];
        sealed(&context(kind, SUITES[number % SUITES.len()]), body)
    };
    bodies.iter().enumerate().map(made).collect()
});

/// A node, a value and an entry, not padded.
fn bodies() -> Vec<Vec<u8>> {
    let mut node = Writer::new();
    node.u8(1).lp(b"app").u8(1).u32(2).u64(5).u64(6);
    node.u64(2).u64(1).u32(0).u8(1).u64(0).u32(1).lp(b"owner").lp(b"web");
    node.u32(2).u64(1).u64(3).u64(9).u8(1).bytes(&[0; 32]).u64(2).u64(4).u64(0).u8(0).bytes(&[8; 32]);
    let mut folder = Writer::new();
    folder.u8(1).lp(b"team").u8(0).u32(3).u64(5).u64(6);
    let (value, entry) = (encode_value(3, b"{\"a\":1}"), encode_entry("mounts/1", b"{}", 0));
    vec![node.into_public(), value.reveal().to_vec(), entry.reveal().to_vec(), folder.into_public()]
}

pub(crate) fn examples() -> Vec<Vec<u8>> {
    GENUINE.iter().cloned().chain(bodies()).collect()
}

pub(crate) fn check(data: &[u8]) -> bool {
    let accepted = record(data);
    let body = nodes(data) | values(data) | entries(data);
    let (kind, edits) = (data.first().copied().map_or(0, usize::from), data.get(1..).unwrap_or_default());
    sealing(KINDS[kind % KINDS.len()], SUITES[kind / 8 % SUITES.len()], edits);
    accepted || body
}

fn context(kind: Kind, suite: Suite) -> Context<'static> {
    let (term, version, generation) = match kind {
        Kind::Keyring => (0, 9, 0),
        Kind::State => (2, 9, 9),
        Kind::Value => (0, 3, 9),
        Kind::Node | Kind::Entry => (5, 3, 9),
    };
    Context { suite, kind, term, version, generation, vault_id: &VAULT, store_key: b"v-key", path: b"mount/a/b" }
}

fn sealed(context: &Context<'_>, body: &[u8]) -> Vec<u8> {
    envelope::seal(&KEY, context, &MacKey::from_bytes(b"hedge"), &SeededRandom::new(1), body)
        .expect("the body is small, and the context fits its kind")
}

fn opened(context: &Context<'_>, record: &[u8]) -> Result<SecretBytes, CryptoError> {
    envelope::open(&KEY, context, record)
}

/// The clear head has one encoding, and only a genuine record opens.
fn record(bytes: &[u8]) -> bool {
    let Ok(head) = envelope::head(bytes) else { return false };
    let Head { suite, kind, flags, term, version, generation } = head;
    let mut again = Writer::new();
    again.bytes(b"sr").u8(1).u8(suite.byte()).u8(kind.byte()).u8(flags).u16(0).u32(term).u64(version).u64(generation);
    assert_eq!(bytes.get(..HEAD_LEN), Some(again.as_slice()), "one head has one encoding");
    let claimed = Context { suite, kind, term, version, generation, ..context(kind, suite) };
    let genuine = GENUINE.iter().any(|genuine| genuine == bytes);
    assert_eq!(opened(&claimed, bytes).is_ok(), genuine, "only a genuine record opens");
    assert!(opened(&Context { path: b"mount/a/c", ..claimed }, bytes).is_err(), "the path is bound");
    true
}

/// What is sealed opens as it was; anything changed about it does not.
fn sealing(kind: Kind, suite: Suite, body: &[u8]) {
    let context = context(kind, suite);
    let body = body.get(..4 << 10).unwrap_or(body);
    let record = sealed(&context, body);
    assert_eq!(sealed(&context, body), record, "with a broken random source equal inputs give equal records");
    let inside = opened(&context, &record).expect("what was sealed opens");
    let (front, padding) = inside.reveal().split_at(body.len());
    assert!(front == body && padding.iter().all(|byte| *byte == 0), "the body comes back, padded with zeros");
    assert_eq!(kind.bucket(body.len()), Ok(inside.len()), "the padding reaches the least bucket");
    assert_eq!(record.len(), inside.len() + OVERHEAD);
    let altered = alter(&record, body);
    assert!(altered == record || opened(&context, &altered).is_err(), "an altered record is refused");
}

fn nodes(body: &[u8]) -> bool {
    let Ok((segment, node)) = Node::decode(body) else { return false };
    let again = node.encode(&segment).expect("what is accepted can be written");
    padded(Kind::Node, body, again.reveal());
    true
}

fn values(body: &[u8]) -> bool {
    let Ok(value) = decode_value(body) else { return false };
    let created = body.get(1..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_be_bytes(*bytes));
    padded(Kind::Value, body, encode_value(created, value.reveal()).reveal());
    true
}

fn entries(body: &[u8]) -> bool {
    let Ok((key, not_after_ms, value)) = decode_entry(body) else { return false };
    padded(Kind::Entry, body, encode_entry(&key, value.reveal(), not_after_ms).reveal());
    true
}
