//! Limits to the unit, and what a keyring may hold.

use super::*;
use crate::crypto::CryptoError;
use crate::crypto::envelope::Kind;
use crate::keys::header::{MAX_LEN, MAX_SLOTS};
use crate::keys::slot::{MAX_LABEL, type_name};
use crate::keys::{AuditState, Slot};

fn keyring() -> (Keyring, SeededRandom) {
    let random = SeededRandom::new(3);
    (Keyring::create(&random, Suite::Aes256Gcm, 1).unwrap(), random)
}

fn decoded(keyring: &Keyring) -> Result<Keyring, CryptoError> {
    keyring.encode().and_then(|body| Keyring::decode(body.as_slice()))
}

#[test]
fn a_header_holds_one_to_32_slots_in_64_kib() {
    let random = SeededRandom::new(1);
    let made = |count: usize| {
        let slot = || NewSlot { label: "", secret: Unlock::KeyFile(FILE), params: OPEN_FLOOR };
        let slots: Vec<_> = std::iter::repeat_with(slot).take(count).collect();
        Header::create(VaultId([3; 16]), &slots, &random, 0, Suite::Aes256Gcm).map(|(bytes, _)| bytes)
    };
    assert_eq!(Header::parse(&made(MAX_SLOTS).unwrap()).unwrap().slots.len(), 32);
    for count in [0, MAX_SLOTS + 1] {
        assert_eq!(made(count).err(), Some(HeaderError::Limit("a header has 1 to 32 slots")));
    }
    let bytes = made(2).unwrap();
    let opened = open(&bytes, &Unlock::KeyFile(FILE)).unwrap();
    let mut many = opened.header.clone();
    let ids: Vec<u8> = many.slots.iter().map(Slot::id).collect();
    assert_eq!(ids, [0, 1]);
    many.slots = std::iter::repeat_n(many.slots[0].clone(), MAX_SLOTS + 1).collect();
    let refused = many.encode_next(opened.root.header_keys(), &opened.keyring, &random).err();
    assert_eq!(refused, Some(HeaderError::Limit("more than 32 slots")));
    assert_eq!(Header::parse(&vec![0; MAX_LEN]).err(), Some(HeaderError::Damaged("magic")));
    assert_eq!(Header::parse(&vec![0; MAX_LEN + 1]).err(), Some(HeaderError::Damaged("longer than 65536 bytes")));
}

#[test]
fn slots_have_names_and_bounded_labels() {
    let names = (0..=8).map(type_name).collect::<Vec<_>>();
    let wanted = [
        "unknown",
        "passphrase",
        "key-file",
        "passphrase+key-file",
        "recovery-code",
        "shares",
        "device",
        "hybrid",
        "unknown",
    ];
    assert_eq!(names, wanted);
    let (random, vault) = (SeededRandom::new(1), VaultId([3; 16]));
    let root = crate::keys::RootKey::random(&vault, &random).unwrap();
    let labelled = |length: usize| {
        let label = "x".repeat(length);
        let new = NewSlot { label: &label, secret: Unlock::KeyFile(FILE), params: OPEN_FLOOR };
        Slot::seal(&new, 9, (&vault, 0, Suite::Aes256Gcm), &root, &random, WeakKdf::Refuse)
    };
    let slot = labelled(MAX_LABEL).unwrap();
    assert_eq!((slot.label().len(), slot.id(), slot.slot_type(), slot.type_name()), (64, 9, 2, "key-file"));
    assert!(!slot.is_recovery() && !slot.reseals_absent() && slot.cost().is_none() && slot.share_set().is_none());
    assert_eq!(labelled(MAX_LABEL + 1).err(), Some(HeaderError::Limit("slot label is longer than 64 bytes")));
    assert_eq!(slot.labelled("other").label(), "other");
    assert!(slot.admit(WeakKdf::Refuse, Some(0)).is_ok(), "a key file costs nothing");
}

#[test]
fn costs_are_admitted_at_the_floor() {
    let (bytes, _, _) = vault(Suite::Aes256Gcm);
    let slot = Header::parse(&bytes).unwrap().slots.remove(1);
    assert_eq!(slot.cost(), Some(OPEN_FLOOR));
    assert_eq!((slot.admit(WeakKdf::Refuse, None), slot.admit(WeakKdf::Allow, None)), (Ok(()), Ok(())));
    let twice = u64::from(OPEN_FLOOR.m_kib) * 1024 * 2;
    assert_eq!(slot.admit(WeakKdf::Refuse, Some(twice)), Ok(()));
    assert!(matches!(slot.admit(WeakKdf::Allow, Some(twice - 1)), Err(HeaderError::KdfTooCostly(_))));
    let mut weak = bytes;
    weak[COST_AT..COST_AT + 4].copy_from_slice(&1024_u32.to_be_bytes());
    let weak = Header::parse(&weak).unwrap().slots.remove(1);
    assert_eq!(
        (weak.admit(WeakKdf::Refuse, None), weak.admit(WeakKdf::Allow, None)),
        (Err(HeaderError::WeakKdf), Ok(()))
    );
}

#[test]
fn terms_change_their_state_in_order() {
    let (mut keyring, random) = keyring();
    let states = |keyring: &Keyring| keyring.terms.iter().map(|term| term.state).collect::<Vec<_>>();
    assert_eq!(keyring.add_term(&random, 5, false), Ok(2));
    assert_eq!(states(&keyring), [TermState::DecryptOnly, TermState::Active]);
    assert_eq!(keyring.add_term(&random, 6, true), Ok(3));
    assert_eq!(states(&keyring), [TermState::Compromised, TermState::Compromised, TermState::Active]);
    assert_eq!(keyring.add_term(&random, 7, false), Ok(4));
    assert_eq!(
        states(&keyring),
        [TermState::Compromised, TermState::Compromised, TermState::DecryptOnly, TermState::Active]
    );
    assert!(
        keyring.destroy_term(2) && !keyring.destroy_term(2) && !keyring.destroy_term(4) && !keyring.destroy_term(9)
    );
    assert_eq!(keyring.term(2).map(|term| term.state), Some(TermState::Destroyed));
    assert_eq!(keyring.add_term(&random, 8, true), Ok(5));
    assert_eq!(keyring.term(2).map(|term| term.state), Some(TermState::Destroyed), "what is destroyed stays so");
    assert_eq!(states(&decoded(&keyring).unwrap()), states(&keyring));
    assert_eq!((keyring.active_term().id, keyring.term(9).is_none()), (5, true));
}

#[test]
fn a_keyring_holds_1024_terms_two_sets_and_255_audit_keys() {
    let (mut keyring, random) = keyring();
    for id in 2..=1024 {
        assert_eq!(keyring.add_term(&random, 1, false), Ok(id));
    }
    assert_eq!(decoded(&keyring).unwrap().terms.len(), 1024);
    assert_eq!(keyring.add_term(&random, 1, false), Err(CryptoError::TooLarge));
    assert_eq!(keyring.add_integrity(&random), Ok(2));
    assert_eq!(keyring.add_integrity(&random), Err(CryptoError::Malformed("integrity sets")));
    assert_eq!(keyring.integrity(1).map(|set| set.id), Some(1));
    keyring.drop_old_integrity();
    assert!(keyring.integrity(1).is_none() && keyring.newest_integrity().id == 2);
    assert_eq!(keyring.add_integrity(&random), Ok(3));
    let active = |keyring: &Keyring| -> Vec<u32> {
        let active = keyring.audit.iter().filter(|key| key.state == AuditState::Active);
        active.map(|key| key.id).collect()
    };
    for id in 2..=255 {
        assert_eq!(keyring.add_audit(&random), Ok(id));
        assert_eq!(active(&keyring), [id]);
    }
    assert_eq!(keyring.add_audit(&random), Err(CryptoError::TooLarge));
    assert_eq!(active(&decoded(&keyring).unwrap()), [255]);
}

#[test]
fn an_inconsistent_keyring_is_neither_written_nor_read() {
    let broken = |change: &dyn Fn(&mut Keyring, &SeededRandom)| {
        let (mut keyring, random) = keyring();
        keyring.add_term(&random, 1, false).unwrap();
        keyring.add_integrity(&random).unwrap();
        keyring.add_audit(&random).unwrap();
        assert!(decoded(&keyring).is_ok());
        change(&mut keyring, &random);
        decoded(&keyring).is_err()
    };
    assert!(broken(&|ring, _| ring.terms[1].state = TermState::DecryptOnly), "no active term");
    assert!(broken(&|ring, _| ring.terms[0].state = TermState::Active), "two active terms");
    assert!(broken(&|ring, _| ring.terms[0].id = 0), "number 0");
    assert!(broken(&|ring, _| ring.terms[1].id = 1), "one number twice");
    assert!(broken(&|ring, _| ring.terms.swap(0, 1)), "falling numbers");
    assert!(broken(&|ring, _| ring.terms.clear()), "no term");
    assert!(broken(&|ring, _| ring.terms[0].state = TermState::Destroyed), "destroyed, and the key is there");
    assert!(broken(&|ring, _| ring.integrity.clear()), "no integrity set");
    assert!(broken(&|ring, _| ring.integrity[1].id = 1), "one set twice");
    assert!(broken(&|ring, random| ring.integrity.push(IntegritySet::random(3, random).unwrap())), "three sets");
    assert!(broken(&|ring, _| ring.audit.clear()), "no audit key");
    assert!(broken(&|ring, _| ring.audit[0].state = AuditState::Active), "two active audit keys");
    assert!(broken(&|ring, _| ring.audit[1].state = AuditState::VerifyOnly), "no active audit key");
    assert!(broken(&|ring, _| ring.audit[1].id = 1), "one audit key twice");
    assert!(broken(&|ring, _| ring.audit[0].sign_alg = 2), "an unknown algorithm");
}

#[test]
fn what_is_damaged_and_what_is_too_new_are_told_apart() {
    let (bytes, _, _) = vault(Suite::Aes256Gcm);
    // Magic, length, sequence and number of the vault stand before the reader version.
    const READER_AT: usize = 8 + 4 + 8 + 16;
    let with = |version: u16| {
        let mut bad = bytes.clone();
        bad[READER_AT..READER_AT + 2].copy_from_slice(&version.to_be_bytes());
        Header::parse(&bad).err()
    };
    assert_eq!(with(0), Some(HeaderError::Damaged("reader version")));
    assert_eq!(with(2), Some(HeaderError::TooNew("reader version")));
}

#[test]
fn a_keyring_of_another_header_is_damage() {
    let (bytes, _, _) = vault(Suite::ChaCha20Poly1305);
    // The last record in the header, before its MAC.
    let at = bytes.windows(6).rposition(|window| window[..5] == *b"sr\x01\x02\x01").unwrap();
    // Offsets in the head of a record: suite, kind, and the last byte of its version.
    let with = |offset: usize, byte: u8| {
        let mut bad = bytes.clone();
        bad[at + offset] = byte;
        Header::parse(&bad).err()
    };
    assert_eq!(with(19, 1), None, "as it was");
    assert_eq!(with(19, 2), Some(HeaderError::Damaged("keyring head")), "another sequence");
    let mut state = bytes.clone();
    state[at + 4] = Kind::State.byte();
    state[at + 11] = 1; // A record of a state has a term, and its version is its generation.
    state[at + 27] = 1;
    assert_eq!(Header::parse(&state).err(), Some(HeaderError::Damaged("keyring head")), "another kind");
}

#[test]
fn every_state_of_a_term_is_read_again() {
    let (mut keyring, random) = keyring();
    keyring.add_term(&random, 1, false).unwrap();
    for state in [TermState::PreActive, TermState::DecryptOnly, TermState::Compromised] {
        keyring.terms[0].state = state;
        assert_eq!(decoded(&keyring).unwrap().terms[0].state, state);
    }
}
