mod edges;

use proptest::prelude::*;

use crate::crypto::Key;
use crate::crypto::envelope::Suite;
use crate::crypto::password::{OPEN_FLOOR, Params};
use crate::crypto::random::SeededRandom;

use super::{
    Header, HeaderError, IntegritySet, Keyring, NewSlot, Opened, Term, TermKey, TermState, Unlock, VaultId, WeakKdf,
};

const PASS: &[u8] = b"correct horse battery";
const FILE: &[u8] = &[0x5a; 48];

fn vault(suite: Suite) -> (Vec<u8>, Opened, SeededRandom) {
    let random = SeededRandom::new(11);
    let slots = [
        NewSlot { label: "file", secret: Unlock::KeyFile(FILE), params: OPEN_FLOOR },
        NewSlot { label: "pass", secret: Unlock::Passphrase(PASS), params: OPEN_FLOOR },
    ];
    let made = Header::create_with(VaultId([3; 16]), &slots, &random, 77, suite, WeakKdf::Allow).unwrap();
    (made.0, made.1, random)
}

fn open(bytes: &[u8], unlock: &Unlock<'_>) -> Result<Opened, HeaderError> {
    Header::parse(bytes)?.open(unlock, WeakKdf::Refuse)
}

#[test]
fn both_slots_open_the_same_vault() {
    for suite in [Suite::Aes256Gcm, Suite::ChaCha20Poly1305] {
        let (bytes, made, _) = vault(suite);
        for unlock in [Unlock::Passphrase(PASS), Unlock::KeyFile(FILE)] {
            let opened = open(&bytes, &unlock).unwrap();
            assert_eq!(opened.header, made.header);
            assert!(opened.keyring.name.ct_eq(&made.keyring.name));
            let (a, b) = (opened.keyring.active_term(), made.keyring.active_term());
            assert!(a.key.live().unwrap().ct_eq(b.key.live().unwrap()) && a.created_ms == 77 && a.suite == suite);
        }
    }
}

#[test]
fn errors_have_names() {
    let (bytes, made, random) = vault(Suite::Aes256Gcm);
    assert_eq!(open(&bytes, &Unlock::Passphrase(b"wrong")).err(), Some(HeaderError::WrongSecret));
    assert_eq!(open(&bytes, &Unlock::KeyFile(&[1; 32])).err(), Some(HeaderError::WrongSecret));
    assert_eq!(open(&bytes, &Unlock::KeyFile(&[1; 31])).err(), Some(HeaderError::KeyFileSize));

    let strict = |params| {
        let slot = NewSlot { label: "", secret: Unlock::Passphrase(PASS), params };
        Header::create(VaultId([3; 16]), &[slot], &random, 0, Suite::Aes256Gcm).err()
    };
    assert_eq!(strict(OPEN_FLOOR), Some(HeaderError::WeakKdf));
    assert!(matches!(strict(Params { t: 65, ..OPEN_FLOOR }), Some(HeaderError::KdfTooCostly(_))));

    let header = Header::parse(&bytes).unwrap();
    let tight = header.open_within(&Unlock::Passphrase(PASS), WeakKdf::Refuse, Some(32 << 20));
    assert!(matches!(tight.err(), Some(HeaderError::KdfTooCostly(_))));

    let mut only_pass = made.header.clone();
    only_pass.slots.remove(0);
    let bytes = only_pass.encode_next(made.root.header_keys(), &made.keyring, &random).unwrap();
    assert_eq!(open(&bytes, &Unlock::KeyFile(FILE)).err(), Some(HeaderError::NoSlotOfType));
}

/// Offset of the cost of the passphrase slot: fixed part, key file slot, head of the slot, LP.
const COST_AT: usize = 108 + 4 + 4 + (4 + 4) + 124 + 4 + 4;

#[test]
fn weak_and_oversized_costs_are_refused_before_any_work() {
    let (bytes, _, _) = vault(Suite::Aes256Gcm);
    let with = |m_kib: u32| {
        let mut bad = bytes.clone();
        bad[COST_AT..COST_AT + 4].copy_from_slice(&m_kib.to_be_bytes());
        open(&bad, &Unlock::Passphrase(PASS)).err()
    };
    assert_eq!(with(OPEN_FLOOR.m_kib), None);
    assert_eq!(with(1024), Some(HeaderError::WeakKdf));
    assert!(matches!(with(4 * 1024 * 1024 + 1), Some(HeaderError::KdfTooCostly(_))));
}

#[test]
fn every_flipped_bit_of_a_header_is_refused() {
    let (bytes, _, _) = vault(Suite::Aes256Gcm);
    for at in 0..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[at / 8] ^= 1 << (at % 8);
        assert!(open(&bad, &Unlock::KeyFile(FILE)).is_err(), "bit {at}");
    }
    let mut bad = bytes.clone();
    *bad.last_mut().unwrap() ^= 1;
    assert!(matches!(open(&bad, &Unlock::KeyFile(FILE)).err(), Some(HeaderError::Damaged(_))));
}

#[test]
fn the_next_header_names_its_predecessor() {
    let (_, made, random) = vault(Suite::Aes256Gcm);
    let Opened { mut header, root, mut keyring } = made;
    assert_eq!((header.seq, header.prev_mac), (1, [0; 32]));
    keyring.terms[0].state = TermState::DecryptOnly;
    keyring.terms[0].destroy();
    let key = TermKey::Live(Key::random(&random).unwrap());
    let suite = Suite::ChaCha20Poly1305;
    keyring.terms.push(Term { id: 2, state: TermState::Active, suite, created_ms: 5, key });
    keyring.integrity.push(IntegritySet::random(2, &random).unwrap());
    header.floor_generation = 40;
    let bytes = header.encode_next(root.header_keys(), &keyring, &random).unwrap();
    let next = open(&bytes, &Unlock::KeyFile(FILE)).unwrap();
    assert_eq!((next.header.seq, next.header.prev_mac, next.header.floor_generation), (2, header.mac, 40));
    assert!(next.keyring.terms[0].key.live().is_none() && next.keyring.newest_integrity().id == 2);
    assert!(next.header.verify(root.header_keys()).is_ok());
    keyring.terms[1].id = 1;
    assert!(matches!(header.encode_next(root.header_keys(), &keyring, &random), Err(HeaderError::Limit(_))));
}

#[test]
fn reserved_slots_round_trip_and_cannot_be_opened() {
    let (bytes, _, _) = vault(Suite::Aes256Gcm);
    let mut reserved = bytes.clone();
    reserved[108] = 6;
    let header = Header::parse(&reserved).unwrap();
    assert_eq!(header.open(&Unlock::KeyFile(FILE), WeakKdf::Refuse).err(), Some(HeaderError::ReservedSlot(6)));
    assert_eq!(header.slots[0].slot_type(), 6);
    let made = Header::parse(&bytes).unwrap().open(&Unlock::KeyFile(FILE), WeakKdf::Refuse).unwrap();
    let mut mixed = made.header.clone();
    mixed.slots[0] = header.slots[0].clone();
    let again = mixed.encode_next(made.root.header_keys(), &made.keyring, &SeededRandom::new(1)).unwrap();
    assert_eq!(open(&again, &Unlock::Passphrase(PASS)).unwrap().header.slots, mixed.slots);
    reserved[108] = 8;
    assert_eq!(Header::parse(&reserved).err(), Some(HeaderError::TooNew("slot type")));
}

proptest! {
    #[test]
    fn parsing_arbitrary_headers_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..900)) {
        prop_assert!(Header::parse(&bytes).is_err());
    }

    #[test]
    fn mutated_headers_never_panic(at in 0usize..1100, byte: u8, cut in 0usize..1100) {
        let (mut bytes, _, _) = { static V: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
            (V.get_or_init(|| vault(Suite::Aes256Gcm).0).clone(), (), ()) };
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = Header::parse(&bytes);
        prop_assert!(Header::parse(&bytes[..cut.min(bytes.len() - 1)]).is_err());
    }
}

#[test]
fn the_oldest_destroyed_terms_are_forgotten_and_their_numbers_never_used_again() {
    let random = SeededRandom::new(3);
    let mut keyring = Keyring::create(&random, Suite::Aes256Gcm, 1).unwrap();
    for n in 2..400 {
        assert_eq!(keyring.add_term(&random, 1, false).unwrap(), n);
        assert!(keyring.destroy_term(n - 1) && !keyring.destroy_term(n));
    }
    assert_eq!(keyring.terms.len(), 128);
    assert!(keyring.term(1).is_none() && keyring.active_term().id == 399);
    let again = Keyring::decode(keyring.encode().unwrap().as_slice()).unwrap();
    assert_eq!(again.active_term().id, 399);
}
