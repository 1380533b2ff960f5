use proptest::prelude::*;

use super::*;
use crate::crypto::hash::sha256;
use crate::crypto::hybrid::{PUBLIC_LEN, SEALED_LEN};
use crate::crypto::random::SeededRandom;
use crate::keys::{Share, ShareError};

const VAULT: VaultId = VaultId([3; 16]);
const PASS: &[u8] = b"correct horse battery";
const FILE: &[u8] = &[0x5a; 48];
const CODE: &[u8; 20] = &[0xc3; 20];

fn root(seed: u64) -> RootKey {
    RootKey::random(&VAULT, &SeededRandom::new(seed)).unwrap()
}

fn shares() -> Vec<Share> {
    Share::create(&VAULT, 2, 3, &SeededRandom::new(40)).unwrap()
}

fn make(secret: Unlock<'_>) -> Slot {
    let new = NewSlot { label: "one", secret, params: OPEN_FLOOR };
    let bound = (&VAULT, 0, Suite::Aes256Gcm);
    Slot::seal(&new, 5, bound, &root(1), &SeededRandom::new(2), WeakKdf::Allow).unwrap()
}

fn opens(slot: &Slot, unlock: Unlock<'_>) -> Result<[u8; 32], HeaderError> {
    slot.opens(&unlock, &VAULT, 0).map(|root| *root.vrk().reveal())
}

fn vrk(seed: u64) -> [u8; 32] {
    *root(seed).vrk().reveal()
}

fn encoded(slot: &Slot) -> Vec<u8> {
    let mut out = Writer::new();
    slot.encode(&mut out);
    out.into_public()
}

fn parsed(bytes: &[u8]) -> Result<Slot, HeaderError> {
    Slot::parse(&mut Reader::new(bytes))
}

#[test]
fn each_type_opens_with_its_own_secret_only() {
    let shares = shares();
    let both = Unlock::PassphraseAndFile { passphrase: PASS, file: FILE };
    let (shared, recovery) = (Unlock::Shares(&shares), Unlock::Recovery(CODE));
    let all = [Unlock::Passphrase(PASS), Unlock::KeyFile(FILE), both, recovery, shared, Unlock::Hybrid(PASS)];
    for made in all {
        let slot = make(made);
        assert_eq!(parsed(&encoded(&slot)).unwrap(), slot);
        for tried in all {
            let fits = tried.slot_type() == made.slot_type() || (made.slot_type() == 7 && tried.slot_type() == 1);
            let wanted = if fits { Ok(vrk(1)) } else { Err(HeaderError::NoSlotOfType) };
            assert_eq!(opens(&slot, tried), wanted, "{} with {}", slot.type_name(), tried.slot_type());
        }
        let elsewhere = [(VaultId([4; 16]), 0), (VAULT, 1)];
        for (vault, flags) in elsewhere {
            let refused = slot.opens(&made, &vault, flags).err();
            let foreign = made.slot_type() == SHARES && vault != VAULT;
            let wanted = if foreign { HeaderError::Share(ShareError::Foreign) } else { HeaderError::WrongSecret };
            assert_eq!(refused, Some(wanted), "{}", slot.type_name());
        }
    }
}

#[test]
fn wrong_secrets_are_refused() {
    let both = make(Unlock::PassphraseAndFile { passphrase: PASS, file: FILE });
    let with = |passphrase, file| opens(&both, Unlock::PassphraseAndFile { passphrase, file });
    assert_eq!(with(b"other", FILE), Err(HeaderError::WrongSecret));
    assert_eq!(with(PASS, &[1; 48]), Err(HeaderError::WrongSecret));
    assert_eq!(with(PASS, &[1; 31]), Err(HeaderError::KeyFileSize));
    assert_eq!(opens(&make(Unlock::Recovery(CODE)), Unlock::Recovery(&[0; 20])), Err(HeaderError::WrongSecret));
    let hybrid = make(Unlock::Hybrid(PASS));
    assert_eq!(opens(&hybrid, Unlock::Hybrid(b"other")), Err(HeaderError::WrongSecret));
    let slot = make(Unlock::Shares(&shares()));
    let missing = ShareError::NotEnough { have: 1, need: 2 };
    assert_eq!(opens(&slot, Unlock::Shares(&shares()[..1])), Err(missing.into()));
    assert_eq!(opens(&slot, Unlock::Shares(&shares()[1..])), Ok(vrk(1)));
    let other = Share::create(&VAULT, 2, 3, &SeededRandom::new(41)).unwrap();
    assert_eq!(opens(&slot, Unlock::Shares(&other)), Err(ShareError::OtherSet.into()));
}

#[test]
fn types_without_parameters_have_none() {
    for kind in [KEY_FILE, RECOVERY] {
        assert!(SlotParams::parse(kind, &[]).is_ok());
        assert!(matches!(SlotParams::parse(kind, &[0]), Err(HeaderError::Damaged(_))), "{kind}");
    }
}

#[test]
fn a_reserved_slot_says_so() {
    let refused = kek::kek((DEVICE, 0), &SlotParams::Reserved, &Unlock::KeyFile(FILE), &VAULT);
    assert_eq!(refused.err(), Some(HeaderError::ReservedSlot(DEVICE)));
}

#[test]
fn listings_tell_what_a_slot_is() {
    let slot = make(Unlock::Shares(&shares()));
    let set = slot.share_set().unwrap();
    assert_eq!((set.k, set.n, &set.set_id), (2, 3, shares()[0].set_id()));
    assert!(slot.is_recovery() && slot.cost().is_none() && slot.type_name() == "shares");
    assert_eq!(set.check(&shares()[1], &VAULT), Ok(()));
    let hybrid = make(Unlock::Hybrid(PASS));
    assert!(hybrid.reseals_absent() && !hybrid.is_recovery() && hybrid.share_set().is_none());
    assert_eq!(hybrid.cost(), Some(OPEN_FLOOR));
    let both = make(Unlock::PassphraseAndFile { passphrase: PASS, file: FILE });
    assert_eq!((both.cost(), both.type_name()), (Some(OPEN_FLOOR), "passphrase+key-file"));
    assert!(make(Unlock::Recovery(CODE)).is_recovery() && !both.reseals_absent());
    let names: std::collections::BTreeSet<_> = (0..=8).map(type_name).collect();
    assert_eq!(names.len(), 8);
}

#[test]
fn making_keeps_the_floors_and_the_whole_set() {
    let random = SeededRandom::new(2);
    let seal = |secret, params, policy| {
        let new = NewSlot { label: "", secret, params };
        Slot::seal(&new, 0, (&VAULT, 0, Suite::Aes256Gcm), &root(1), &random, policy).err()
    };
    for secret in [Unlock::PassphraseAndFile { passphrase: PASS, file: FILE }, Unlock::Hybrid(PASS)] {
        assert_eq!(seal(secret, OPEN_FLOOR, WeakKdf::Refuse), Some(HeaderError::WeakKdf));
        let low = Params { t: 1, ..OPEN_FLOOR };
        assert_eq!(seal(secret, low, WeakKdf::Allow), Some(HeaderError::WeakKdf));
        let high = Params { t: 65, ..OPEN_FLOOR };
        assert!(matches!(seal(secret, high, WeakKdf::Allow), Some(HeaderError::KdfTooCostly(_))));
    }
    let part = ShareError::NotEnough { have: 2, need: 3 };
    let shares = shares();
    assert_eq!(seal(Unlock::Shares(&shares[1..]), OPEN_FLOOR, WeakKdf::Refuse), Some(part.into()));
    assert_eq!(seal(Unlock::Shares(&shares), OPEN_FLOOR, WeakKdf::Refuse), None);
}

#[test]
fn a_hybrid_slot_is_sealed_again_without_its_holder() {
    let slot = make(Unlock::Hybrid(PASS));
    let next = slot.reseal_absent(&root(9), &VAULT, 0, &SeededRandom::new(3)).unwrap();
    assert_eq!(opens(&next, Unlock::Passphrase(PASS)), Ok(vrk(9)));
    assert_eq!(opens(&slot, Unlock::Passphrase(PASS)), Ok(vrk(1)));
    assert_eq!((next.id(), next.label(), next.cost()), (slot.id(), slot.label(), slot.cost()));
    assert_eq!(next.params[..44 + PUBLIC_LEN + WRAPPED_LEN], slot.params[..44 + PUBLIC_LEN + WRAPPED_LEN]);
    assert_ne!((&next.params, &next.wrapped), (&slot.params, &slot.wrapped));
    for secret in [Unlock::KeyFile(FILE), Unlock::Recovery(CODE), Unlock::Passphrase(PASS)] {
        let refused = make(secret).reseal_absent(&root(9), &VAULT, 0, &SeededRandom::new(3)).err();
        assert_eq!(refused, Some(HeaderError::SecretNeeded));
    }
}

#[test]
fn present_holders_are_sealed_again_once_they_opened() {
    let shares = shares();
    let both = Unlock::PassphraseAndFile { passphrase: PASS, file: FILE };
    for secret in [both, Unlock::Recovery(CODE), Unlock::Shares(&shares), Unlock::Hybrid(PASS)] {
        let slot = make(secret);
        let again = |secret| slot.reseal(&secret, &root(9), &VAULT, 0, &SeededRandom::new(3));
        let next = again(secret).unwrap();
        assert_eq!((opens(&next, secret), next.id(), next.label()), (Ok(vrk(9)), 5, "one"));
        assert_eq!(next.share_set(), slot.share_set());
        assert!(next.wrapped != slot.wrapped);
    }
    let slot = make(Unlock::Recovery(CODE));
    let refused = slot.reseal(&Unlock::Recovery(&[0; 20]), &root(9), &VAULT, 0, &SeededRandom::new(3));
    assert_eq!(refused.err(), Some(HeaderError::WrongSecret));
}

/// Whoever can write the header before it is authenticated must not win anything by the public key.
#[test]
fn a_hybrid_slot_with_a_foreign_public_key_does_not_open() {
    let slot = make(Unlock::Hybrid(PASS));
    let SlotParams::Hybrid(mut hybrid) = slot.parsed().unwrap() else { panic!("another type") };
    hybrid.public = Private::generate(&SeededRandom::new(66)).unwrap().public();
    let mut out = Writer::new();
    hybrid.encode(&mut out);
    let forged = Slot { params: out.into_public(), ..slot };
    assert_eq!(opens(&forged, Unlock::Hybrid(PASS)), Err(HeaderError::WrongSecret));
}

#[test]
fn every_changed_byte_is_refused() {
    let shares = shares();
    // Two of three shares: the hash of the third is authenticated by the associated data alone.
    let cases =
        [(Unlock::Recovery(CODE), Unlock::Recovery(CODE)), (Unlock::Shares(&shares), Unlock::Shares(&shares[..2]))];
    for (made, secret) in cases {
        let bytes = encoded(&make(made));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // The label is under the header MAC only.
            let outcome = parsed(&bad).and_then(|slot| Ok((opens(&slot, secret)?, slot)));
            assert!(outcome.is_err() || outcome.is_ok_and(|(_, slot)| slot.label() != "one"), "bit {bit}");
        }
    }
    // Argon2 runs for each change here, so only some: public key, private half, encapsulation, wrap.
    let bytes = encoded(&make(Unlock::Hybrid(PASS)));
    let params = 4 + 4;
    let starts = [44, 44 + 32, 44 + PUBLIC_LEN, 44 + PUBLIC_LEN + 70, 44 + PUBLIC_LEN + WRAPPED_LEN];
    for at in starts.into_iter().chain([44 + PUBLIC_LEN + WRAPPED_LEN + 40]) {
        let mut bad = bytes.clone();
        bad[params + at] ^= 1;
        assert_eq!(opens(&parsed(&bad).unwrap(), Unlock::Hybrid(PASS)), Err(HeaderError::WrongSecret), "{at}");
    }
    let mut bad = bytes;
    *bad.last_mut().unwrap() ^= 1;
    assert_eq!(opens(&parsed(&bad).unwrap(), Unlock::Hybrid(PASS)), Err(HeaderError::WrongSecret));
}

#[test]
fn sizes_are_those_of_the_format() {
    let params = |secret| make(secret).params.len();
    assert_eq!(params(Unlock::PassphraseAndFile { passphrase: PASS, file: FILE }), 44);
    assert_eq!(params(Unlock::Recovery(CODE)), 0);
    let shares = shares();
    assert_eq!(params(Unlock::Shares(&shares)), 18 + 3 * 32);
    assert_eq!(params(Unlock::Hybrid(PASS)), 2504);
    assert_eq!((PUBLIC_LEN, SEALED_LEN, WRAPPED_LEN), (1216, 1120, 124));
}

/// The KEK of types 3 and 4 written out by hand from `docs/format.md`.
#[test]
fn keks_follow_the_document() {
    let expand = |ikm: &[u8], kind: u8| crate::crypto::derive::hkdf(&VAULT.0, ikm, &[b"sr1 slot", &[kind, 5]]);
    let slot = make(Unlock::Recovery(CODE));
    let key = slot.wrapping_key(&Unlock::Recovery(CODE), &VAULT, 0).unwrap();
    assert!(key.ct_eq(&expand(CODE, 4)));
    let both = Unlock::PassphraseAndFile { passphrase: PASS, file: FILE };
    let slot = make(both);
    let salt = slot.params[12..].try_into().unwrap();
    let argon = crate::crypto::password::argon2id(&OPEN_FLOOR, salt, PASS).unwrap();
    let ikm = [*argon.reveal(), sha256(&[b"sr1 kf", FILE])].concat();
    assert!(slot.wrapping_key(&both, &VAULT, 0).unwrap().ct_eq(&expand(&ikm, 3)));
}

/// The private half of a hybrid slot by hand, as `docs/format.md` has it ("Hybrid slots").
#[test]
fn private_half_follows_the_document() {
    let slot = make(Unlock::Hybrid(PASS));
    let (head, rest) = slot.params.split_at(44 + PUBLIC_LEN);
    let aad = [b"sr1 prv", &MAGIC[..], &VAULT.0, &[0, 0, 7, 5, 1], head].concat();
    let argon = crate::crypto::password::argon2id(&OPEN_FLOOR, head[12..44].try_into().unwrap(), PASS).unwrap();
    let kek = crate::crypto::derive::hkdf(&VAULT.0, argon.reveal(), &[b"sr1 slot", &[7, 5]]);
    let private = rest[..WRAPPED_LEN].try_into().unwrap();
    let seed = wrap::open(&kek, Suite::Aes256Gcm, &aad, private).unwrap();
    assert_eq!(Private::from_seed(seed).public().as_bytes()[..], head[44..]);
}

proptest! {
    #[test]
    fn parsing_arbitrary_slots_never_panics(kind in 0u8..=8, params in proptest::collection::vec(any::<u8>(), 0..300), rest in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut out = Writer::new();
        out.u8(kind).u8(0).u8(1).u8(1).lp(&params).bytes(&rest);
        let _ = parsed(out.as_slice());
        let _ = parsed(&rest);
    }

    #[test]
    fn slots_with_the_right_lengths_survive(kind in 3u8..=7, n in 2u8..=32, fill: u8, label in "[a-z]{0,64}") {
        let mut params = Writer::new();
        match kind {
            3 => { params.u32(19456).u32(2).u32(1).bytes(&[fill; 32]); }
            5 => { params.bytes(&[fill; 16]).u8(2).u8(n).bytes(&vec![fill; 32 * usize::from(n)]); }
            7 => { params.u32(19456).u32(2).u32(1).bytes(&[fill; 32 + PUBLIC_LEN + WRAPPED_LEN + SEALED_LEN]); }
            _ => {}
        }
        let mut out = Writer::new();
        out.u8(kind).u8(0).u8(1).u8(1).lp(params.as_slice()).lp(label.as_bytes()).bytes(&[fill; WRAPPED_LEN]);
        let slot = parsed(out.as_slice()).unwrap();
        prop_assert_eq!(encoded(&slot), out.as_slice());
        let refused = slot.opens(&Unlock::Recovery(CODE), &VAULT, 0).err();
        prop_assert!(refused.is_some());
        // One byte more in the parameters is an error for every type that this version opens.
        params.u8(0);
        let mut out = Writer::new();
        out.u8(kind).u8(0).u8(1).u8(1).lp(params.as_slice()).lp(&[]).bytes(&[fill; WRAPPED_LEN]);
        prop_assert_eq!(parsed(out.as_slice()).is_err(), kind != DEVICE);
    }
}
