use std::collections::BTreeMap;

use proptest::prelude::*;

use super::class::Class;
use super::password::Alphabet;
use super::token::Encoding;
use super::*;
use crate::crypto::CryptoError;
use crate::crypto::random::SeededRandom;

fn read(json: &str) -> Generator {
    serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn make(json: &str, random: &dyn Random) -> Generated {
    read(json).generate(random).unwrap_or_else(|error| panic!("{json}: {error}"))
}

fn refused(json: &str) -> GenerateError {
    read(json).check().expect_err(json)
}

#[test]
fn options_have_defaults_and_print_back() {
    let random = SeededRandom::new(1);
    for (json, length) in [
        (r#"{"type":"password"}"#, 32),
        (r#"{"type":"password","length":20,"alphabet":["digits"]}"#, 20),
        (r#"{"type":"token"}"#, 43),
        (r#"{"type":"token","encoding":"hex","bits":129}"#, 34),
        (r#"{"type":"token","encoding":"base62","prefix":"srm_","checksum":true,"bits":160}"#, 4 + 27 + 6),
        (r#"{"type":"token","encoding":"crockford","bits":128}"#, 26),
        (r#"{"type":"uuid"}"#, 36),
    ] {
        let made = make(json, &random);
        assert_eq!(made.value.reveal().len(), length, "{json}");
        assert!(made.public.is_none());
        let again = serde_json::to_string(&read(json)).unwrap();
        assert_eq!(read(&again), read(json));
    }
    let digits = Password { length: 20, alphabet: Alphabet::Classes(vec![Class::Digits]), ..Password::default() };
    let bits = password::tests_only::bits;
    assert_eq!((bits(&Password::default()), bits(&digits)), (190, 66));
}

#[test]
fn refuses_by_name() {
    for (json, error) in [
        (r#"{"type":"password","length":7}"#, GenerateError::Length),
        (r#"{"type":"password","length":1025}"#, GenerateError::Length),
        (r#"{"type":"password","alphabet":[]}"#, GenerateError::AlphabetEmpty),
        (r#"{"type":"password","alphabet":"aba"}"#, GenerateError::Duplicate),
        (r#"{"type":"password","alphabet":["lower","lower"]}"#, GenerateError::Duplicate),
        (r#"{"type":"password","alphabet":"a b"}"#, GenerateError::NotPrintable("alphabet")),
        (r#"{"type":"password","exclude":"ä"}"#, GenerateError::NotPrintable("exclude")),
        (r#"{"type":"password","alphabet":"abc","exclude":"abc"}"#, GenerateError::AlphabetEmpty),
        (r#"{"type":"password","require":{"symbols":1}}"#, GenerateError::ClassMissing(Class::Symbols)),
        (
            r#"{"type":"password","exclude":"0123456789","require":{"digits":1}}"#,
            GenerateError::ClassMissing(Class::Digits),
        ),
        (r#"{"type":"password","require":{"digits":20,"lower":13}}"#, GenerateError::RequireTooMany),
        (r#"{"type":"password","require":{"digits":4294967295,"lower":4294967295}}"#, GenerateError::RequireTooMany),
        (r#"{"type":"password","length":8}"#, GenerateError::Weak { bits: 47 }),
        (r#"{"type":"password","alphabet":"a"}"#, GenerateError::Weak { bits: 0 }),
        // Wide alphabet, but all characters are required to be digits: 19 of them are 63.1 bits.
        (r#"{"type":"password","length":19,"require":{"digits":19}}"#, GenerateError::Weak { bits: 63 }),
        (r#"{"type":"token","bits":127}"#, GenerateError::Bits),
        (r#"{"type":"token","bits":4097}"#, GenerateError::Bits),
        (r#"{"type":"token","prefix":"a b"}"#, GenerateError::Prefix),
        (r#"{"type":"command","target":"../x"}"#, GenerateError::Target),
        (r#"{"type":"certificate","ttl":"1h"}"#, GenerateError::Nameless),
        (r#"{"type":"certificate","ttl":"1h","sans":["a..b"]}"#, GenerateError::Name("sans")),
        (r#"{"type":"certificate","ttl":"1s","sans":["a.b"]}"#, GenerateError::Ttl),
    ] {
        assert_eq!(refused(json), error, "{json}");
        assert_eq!(read(json).generate(&SeededRandom::new(1)).err(), Some(error), "{json}");
    }
    for json in [
        r#"{"type":"password","lenght":32}"#,
        r#"{"type":"uuid","x":1}"#,
        r#"{"type":"ed25519","bits":1}"#,
        r#"{"type":"rsa","bits":1024}"#,
        r#"{"type":"ecdsa","curve":"p521"}"#,
        r#"{"type":"password","require":{"emoji":1}}"#,
        r#"{"type":"password","length":-1}"#,
        r#"{"type":"magic"}"#,
        "{}",
    ] {
        assert!(serde_json::from_str::<Generator>(json).is_err(), "{json}");
    }
    for json in [
        r#"{"type":"command","target":"legacy"}"#,
        r#"{"type":"certificate","common_name":"a","sans":["*.a.example","10.0.0.1","spiffe://a.example/b"],"ttl":"24h"}"#,
    ] {
        let generator = read(json);
        assert_eq!(generator.check(), Ok(()));
        let error = generator.generate(&SeededRandom::new(1)).err();
        assert_eq!(error, Some(GenerateError::Elsewhere(generator.kind())));
    }
}

/// Chi-square of observed counts against equal ones.
fn chi_square(counts: &[u32]) -> f64 {
    let expected = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
    counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum()
}

#[test]
fn characters_are_equally_likely() {
    let random = SeededRandom::new(7);
    // 62 does not divide 256 or 65,536: `byte % 62` would give about 3,400 here.
    let mut counts = [0u32; 128];
    for _ in 0..100 {
        for byte in make(r#"{"type":"password","length":1024}"#, &random).value.reveal().bytes() {
            counts[usize::from(byte)] += 1;
        }
    }
    let seen: Vec<u32> = counts.iter().copied().filter(|count| *count > 0).collect();
    assert_eq!(seen.len(), 62);
    // 61 degrees of freedom: above 110 with a probability of 10^-4.
    assert!(chi_square(&seen) < 110.0, "{}", chi_square(&seen));
}

#[test]
fn required_classes_leave_every_text_equally_likely() {
    // All texts of length 8 over {a, 0, 1} with at least one letter: more digits than letters, so place-and-shuffle
    // would be far off. Reference: the number of texts with k letters is C(8,k) * 2^(8-k).
    let password = Password {
        length: 8,
        alphabet: Alphabet::Custom("a01".to_owned()),
        exclude: String::new(),
        require: BTreeMap::from([(Class::Lower, 2)]),
    };
    assert_eq!(password.check(), Err(GenerateError::Weak { bits: 12 })); // 3^8 - 2^8 - 8 * 2^7 = 5281
    let plan = password::tests_only::splits(&password, &SeededRandom::new(3), 40_000);
    let ways = [28.0 * 64.0, 56.0 * 32.0, 70.0 * 16.0, 56.0 * 8.0, 28.0 * 4.0, 8.0 * 2.0, 1.0];
    let mut chi = 0.0;
    for (count, ways) in plan.iter().skip(2).zip(ways) {
        let expected = 40_000.0 * ways / 5281.0;
        chi += (f64::from(*count) - expected).powi(2) / expected;
    }
    assert_eq!(plan.iter().take(2).sum::<u32>(), 0);
    // 6 degrees of freedom: above 28 with a probability of 10^-4.
    assert!(chi < 28.0, "{chi}: {plan:?}");
}

#[test]
fn key_pairs_open_again_and_match() {
    use aws_lc_rs::signature::KeyPair;
    use base64::Engine;
    let der = |pem: &str| {
        let body: String = pem.lines().take_while(|line| !line.starts_with("-----END")).skip(1).collect();
        base64::engine::general_purpose::STANDARD.decode(body).unwrap()
    };
    let random = SeededRandom::new(9);
    for json in [
        r#"{"type":"ed25519"}"#,
        r#"{"type":"ecdsa"}"#,
        r#"{"type":"ecdsa","curve":"p384"}"#,
        r#"{"type":"rsa","bits":2048}"#,
    ] {
        let made = make(json, &random);
        assert!(made.value.reveal().starts_with("-----BEGIN PRIVATE KEY-----\n"));
        assert!(made.value.reveal().lines().all(|line| line.len() <= 64));
        // A second implementation of the reading: rcgen recognises the algorithm by itself.
        let pair = rcgen::KeyPair::from_pem(made.value.reveal()).unwrap();
        let public = made.public.unwrap();
        assert_eq!(rcgen::PublicKeyData::subject_public_key_info(&pair), der(&public), "{json}");
        assert_eq!(public.contains("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"), json.contains("ed25519"));
    }
    // RFC 8032 section 7.1, test 1: the seed is used as it is.
    struct Fixed(Vec<u8>);
    impl Random for Fixed {
        fn fill(&self, out: &mut [u8]) -> Result<(), CryptoError> {
            out.copy_from_slice(&self.0);
            Ok(())
        }
    }
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    };
    let seed = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
    let made = make(r#"{"type":"ed25519"}"#, &Fixed(seed));
    let pair = aws_lc_rs::signature::Ed25519KeyPair::from_pkcs8(&der(made.value.reveal())).unwrap();
    let expected = hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    assert_eq!(pair.public_key().as_ref(), expected);
}

#[test]
fn a_broken_source_is_an_error_and_no_endless_loop() {
    struct Stuck(Option<u8>);
    impl Random for Stuck {
        fn fill(&self, out: &mut [u8]) -> Result<(), CryptoError> {
            out.fill(self.0.ok_or(CryptoError::Random)?);
            Ok(())
        }
    }
    for source in [Stuck(None), Stuck(Some(0xff))] {
        assert_eq!(read(r#"{"type":"password"}"#).generate(&source).err(), Some(GenerateError::Random));
    }
}

proptest! {
    #[test]
    fn a_password_satisfies_its_rules(
        length in 40u32..120, symbols in 0u32..10, digits in 0u32..10, upper in 0u32..10, exclude in "[0O1lI~]{0,6}", seed: u64,
    ) {
        let require = BTreeMap::from([(Class::Symbols, symbols), (Class::Digits, digits), (Class::Upper, upper)]);
        let alphabet = Alphabet::Classes(Class::ALL.to_vec());
        let password = Password { length, alphabet, exclude: exclude.clone(), require: require.clone() };
        let made = password.generate(&SeededRandom::new(seed)).unwrap();
        let text = made.value.reveal().as_bytes();
        prop_assert_eq!(text.len(), length as usize);
        prop_assert!(!text.iter().any(|byte| exclude.as_bytes().contains(byte)));
        for (class, least) in require {
            prop_assert!(text.iter().filter(|byte| class.holds(**byte)).count() >= least as usize);
        }
        prop_assert!(f64::from(password::tests_only::bits(&password)) <= f64::from(length) * 94f64.log2());
    }

    #[test]
    fn a_checksum_belongs_to_its_token(bits in 128u32..600, seed: u64) {
        let token = Token { bits, encoding: Encoding::Base62, prefix: "t_".to_owned(), checksum: true };
        let made = token.generate(&SeededRandom::new(seed)).unwrap();
        let (part, sum) = made.value.reveal()[2..].split_at(made.value.reveal().len() - 8);
        let held = f64::from(u32::try_from(part.len()).unwrap()) * 62f64.log2();
        prop_assert!(held >= f64::from(bits) && held < f64::from(bits + 6), "the fewest characters that hold the bits");
        prop_assert_eq!(sum.as_bytes(), &token::checksum(part.as_bytes())[..]);
    }

    #[test]
    fn reading_never_panics(text in r#"\PC{0,40}|\{"type":"(password|token|rsa)"(,"(length|bits|alphabet|exclude|prefix)":([0-9]{1,6}|"\PC{0,9}")){0,3}\}"#) {
        if let Ok(generator) = serde_json::from_str::<Generator>(&text) {
            let _ = generator.check();
        }
    }
}
