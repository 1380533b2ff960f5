//! Headers: what is parsed has one encoding, and nothing but the genuine bytes are believed.

use std::sync::LazyLock;

use crate::crypto::codec::{Reader, Writer};
use crate::crypto::envelope::Suite;
use crate::crypto::password::OPEN_FLOOR;
use crate::crypto::random::SeededRandom;
use crate::keys::header::{MAGIC, MAX_LEN, MAX_SLOTS};
use crate::keys::{Header, NewSlot, Opened, Unlock, VaultId, WeakKdf};
use crate::testing::alter::alter;

const FILE: &[u8] = &[0x5a; 48];

/// A vault with a key file, a recovery code and a passphrase, and its second header.
struct Genuine {
    headers: [Vec<u8>; 2],
    opened: Opened,
}

static GENUINE: LazyLock<Genuine> = LazyLock::new(|| {
    let random = SeededRandom::new(11);
    let slot = |label, secret| NewSlot { label, secret, params: OPEN_FLOOR };
    let slots = [
        slot("file", Unlock::KeyFile(FILE)),
        slot("code", Unlock::Recovery(&[0xc3; 20])),
        slot("pass", Unlock::Passphrase(b"correct horse battery")),
    ];
    let made = Header::create_with(VaultId([3; 16]), &slots, &random, 77, Suite::ChaCha20Poly1305, WeakKdf::Allow);
    let (first, opened) = made.expect("the slots are within every limit");
    let second = opened.header.encode_next(opened.root.header_keys(), &opened.keyring, &random);
    Genuine { headers: [first, second.expect("a second header is within every limit")], opened }
});

pub(crate) fn examples() -> Vec<Vec<u8>> {
    // Edits, too: a label, the epoch, the MAC.
    GENUINE.headers.iter().cloned().chain([vec![0, 130, 3, b'x'], vec![0, 43, 4, 1], vec![255, 255, 4, 1]]).collect()
}

pub(crate) fn check(data: &[u8]) -> bool {
    let accepted = judged(data);
    for genuine in &GENUINE.headers {
        let altered = alter(genuine, data);
        assert!(judged(&altered) || altered != *genuine, "the genuine header opens");
    }
    accepted
}

/// Whether the bytes parse; asserts that only a genuine header opens.
fn judged(bytes: &[u8]) -> bool {
    let Ok(header) = Header::parse(bytes) else { return false };
    assert!(bytes.len() <= MAX_LEN && (1..=MAX_SLOTS).contains(&header.slots.len()));
    assert_eq!(Header::parse(bytes).as_ref(), Ok(&header), "parsing is stable");
    one_encoding(&header, bytes);
    let genuine = GENUINE.headers.iter().any(|genuine| *genuine == bytes);
    let keys = GENUINE.opened.root.header_keys();
    assert_eq!(header.verify(keys).is_ok(), genuine, "the MAC");
    assert_eq!(header.open_keyring(keys).is_ok(), genuine, "the keyring");
    // A key file costs next to nothing; a passphrase of a forged slot would cost what the forger wants.
    assert_eq!(header.open(&Unlock::KeyFile(FILE), WeakKdf::Refuse).is_ok(), genuine, "slot, MAC and keyring");
    true
}

/// The fields that were read are the bytes that were read; only keyring and MAC are left.
fn one_encoding(header: &Header, bytes: &[u8]) {
    let mut out = Writer::new();
    let length = u32::try_from(bytes.len()).expect("at most 65,536");
    out.bytes(MAGIC).u32(length).u64(header.seq).bytes(header.vault_id.as_bytes()).u16(1).u16(header.flags);
    out.u32(header.epoch).u16(u16::try_from(header.slots.len()).expect("at most 32"));
    out.u8(header.min_suite.byte()).u8(0).u32(header.floor_epoch).u64(header.floor_generation);
    out.bytes(&header.incarnation).bytes(&header.prev_mac);
    for slot in &header.slots {
        slot.encode(&mut out);
    }
    let rest = bytes.strip_prefix(out.as_slice()).expect("the fields are as they were read");
    let mut rest = Reader::new(rest);
    assert!(rest.lp().is_ok() && rest.array() == Ok(&header.mac) && rest.remaining() == 0);
}
