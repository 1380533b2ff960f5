mod edges;

use proptest::prelude::*;

use super::aead::seal_in_place;
use super::codec::{Reader, Writer};
use super::derive::hkdf;
use super::envelope::{self, COMMIT_AT, Context, Kind, MAX_BODY, OVERHEAD, PREFIX_LEN, Suite};
use super::hash::{MacKey, SetHash, hmac_sha256, sha256};
use super::password::{CEILING, OPEN_FLOOR, Params, WRITE_FLOOR, argon2id, calibrate, normalise};
use super::random::{Random, SeededRandom, SystemRandom};
use super::{CryptoError, Key};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

const VAULT: [u8; 16] = [7; 16];
const SUITES: [Suite; 2] = [Suite::Aes256Gcm, Suite::ChaCha20Poly1305];

fn context(suite: Suite, kind: Kind) -> Context<'static> {
    let (term, version, generation) = match kind {
        Kind::Keyring => (0, 9, 0),
        Kind::State => (2, 9, 9),
        Kind::Value => (0, 3, 9),
        Kind::Node | Kind::Entry => (5, 3, 9),
    };
    Context { suite, kind, term, version, generation, vault_id: &VAULT, store_key: b"v-key", path: b"mount/a/b" }
}

fn sealed(suite: Suite, kind: Kind, body: &[u8]) -> (Key, Vec<u8>) {
    let random = SeededRandom::new(1);
    let ikm = Key::random(&random).unwrap();
    let record = envelope::seal(&ikm, &context(suite, kind), &MacKey::from_bytes(b"hedge"), &random, body).unwrap();
    (ikm, record)
}

#[test]
fn rfc_5869_appendix_a() {
    use hkdf::Hkdf;
    use sha2::Sha256;
    let cases = [
        (
            "0b".repeat(22),
            "000102030405060708090a0b0c".to_owned(),
            "f0f1f2f3f4f5f6f7f8f9".to_owned(),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            data_encoding::HEXLOWER.encode(&(0..80).collect::<Vec<u8>>()),
            data_encoding::HEXLOWER.encode(&(0x60..0xb0).collect::<Vec<u8>>()),
            data_encoding::HEXLOWER.encode(&(0xb0..=0xff).collect::<Vec<u8>>()),
            "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09\
          da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
        ),
        (
            "0b".repeat(22),
            String::new(),
            String::new(),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ];
    for (ikm, salt, info, okm) in cases {
        let okm = hex(okm);
        let mut out = vec![0; okm.len()];
        Hkdf::<Sha256>::new(Some(&hex(&salt)), &hex(&ikm)).expand(&hex(&info), &mut out).unwrap();
        assert_eq!(out, okm);
        assert_eq!(hkdf(&hex(&salt), &hex(&ikm), &[&hex(&info)]).reveal()[..], okm[..32]);
    }
}

#[test]
fn rfc_4231_hmac_sha256() {
    let tag = |key: &[u8], data: &[u8]| hmac_sha256(key, &[data]).to_vec();
    assert_eq!(tag(&[0x0b; 20], b"Hi There"), hex("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"));
    assert_eq!(
        tag(b"Jefe", b"what do ya want for nothing?"),
        hex("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
    );
    assert_eq!(
        tag(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First"),
        hex("60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54")
    );
    assert_eq!(
        sha256(&[b"a", b"bc"]).to_vec(),
        hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    );
}

#[test]
fn rfc_9106_section_5_3() {
    // The vector has a secret and associated data, so it runs on the crate; the tag proves the build.
    use argon2::{Algorithm, Argon2, AssociatedData, ParamsBuilder, Version};
    let mut builder = ParamsBuilder::new();
    builder.m_cost(32).t_cost(3).p_cost(4).data(AssociatedData::new(&[4; 12]).unwrap());
    let secret = [3; 8];
    let argon =
        Argon2::new_with_secret(&secret, Algorithm::Argon2id, Version::V0x13, builder.build().unwrap()).unwrap();
    let mut out = [0; 32];
    argon.hash_password_into(&[1; 32], &[2; 16], &mut out).unwrap();
    assert_eq!(out.to_vec(), hex("0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"));
}

#[test]
fn own_matrix_gives_the_same_tag() {
    use argon2::{Algorithm, Argon2, Version};
    let params = Params { m_kib: 64, t: 2, p: 2 };
    let mut out = [0; 32];
    let inner = argon2::Params::new(64, 2, 2, Some(32)).unwrap();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, inner).hash_password_into(b"pass", &[9; 32], &mut out).unwrap();
    assert_eq!(argon2id(&params, &[9; 32], b"pass").unwrap().reveal(), &out);
}

#[test]
fn rfc_8439_section_2_8_2() {
    let key: Vec<u8> = (0x80..0xa0).collect();
    let text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
    let mut buffer = text.to_vec();
    let tag = seal_in_place(
        Suite::ChaCha20Poly1305,
        key[..].try_into().unwrap(),
        hex("070000004041424344454647")[..].try_into().unwrap(),
        &hex("50515253c0c1c2c3c4c5c6c7"),
        &mut buffer,
    );
    assert_eq!(tag.unwrap().to_vec(), hex("1ae10b594f09e26a7e902ecbd0600691"));
    assert_eq!(buffer[..16], hex("d31a8d34648e60db7b86afbc53ef7ec2")[..]);
}

#[test]
fn every_bucket_border_round_trips() {
    let borders = [0, 1, 255, 256, 257, 511, 512, 513, 1023, 1024, 1025, 2048, 2049, 4096, 4097, 8192, 8193, MAX_BODY];
    for suite in SUITES {
        for kind in [Kind::Keyring, Kind::State, Kind::Node, Kind::Value, Kind::Entry] {
            for n in borders {
                let body = vec![0xa5; n];
                let (ikm, record) = sealed(suite, kind, &body);
                let padded = kind.bucket(n).unwrap();
                assert_eq!(record.len(), padded + OVERHEAD);
                let opened = envelope::open(&ikm, &context(suite, kind), &record).unwrap();
                assert_eq!(opened.reveal()[..n], body[..]);
                assert!(opened.reveal()[n..].iter().all(|byte| *byte == 0));
            }
        }
    }
    let sizes = [0, 256, 257, 513, 1025, 2049, 4096, 4097, 8193].map(|n| Kind::Value.bucket(n).unwrap());
    assert_eq!(sizes, [256, 256, 512, 1024, 2048, 4096, 4096, 8192, 12288]);
    assert_eq!(Kind::State.bucket(513).unwrap(), 768);
    assert_eq!(Kind::Value.bucket(MAX_BODY + 1), Err(CryptoError::TooLarge));
}

#[test]
fn every_flipped_bit_is_refused() {
    for suite in SUITES {
        let (ikm, record) = sealed(suite, Kind::Node, b"body");
        for at in 0..record.len() * 8 {
            let mut bad = record.clone();
            bad[at / 8] ^= 1 << (at % 8);
            assert!(envelope::open(&ikm, &context(suite, Kind::Node), &bad).is_err(), "bit {at}");
        }
        assert!(envelope::open(&ikm, &context(suite, Kind::Node), &record[..record.len() - 1]).is_err());
        let mut long = record.clone();
        long.push(0);
        assert!(envelope::open(&ikm, &context(suite, Kind::Node), &long).is_err());
    }
}

#[test]
fn every_context_field_is_bound() {
    let (ikm, record) = sealed(Suite::Aes256Gcm, Kind::Node, b"body");
    let right = context(Suite::Aes256Gcm, Kind::Node);
    let wrong = [
        (Context { suite: Suite::ChaCha20Poly1305, ..right }, CryptoError::Context("suite")),
        (Context { kind: Kind::Entry, ..right }, CryptoError::Context("kind")),
        (Context { term: 6, ..right }, CryptoError::Context("term")),
        (Context { version: 4, ..right }, CryptoError::Context("version")),
        (Context { generation: 8, ..right }, CryptoError::Context("generation")),
        (Context { vault_id: &[8; 16], ..right }, CryptoError::WrongKey),
        (Context { store_key: b"v-kez", ..right }, CryptoError::WrongKey),
        (Context { path: b"mount/a/c", ..right }, CryptoError::WrongKey),
        // The border between the two fields is bound as well.
        (Context { store_key: b"v-keym", path: b"ount/a/b", ..right }, CryptoError::WrongKey),
    ];
    for (ctx, error) in wrong {
        assert_eq!(envelope::open(&ikm, &ctx, &record).err(), Some(error));
    }
    let other = Key::fill_with(|out| out.fill(1));
    assert_eq!(envelope::open(&other, &right, &record).err(), Some(CryptoError::WrongKey));
    assert_eq!(envelope::commitment(&record[..PREFIX_LEN]).unwrap(), record[COMMIT_AT..PREFIX_LEN]);
}

#[test]
fn a_term_that_does_not_fit_its_kind_is_refused() {
    let random = SeededRandom::new(1);
    let (ikm, hedge) = (Key::random(&random).unwrap(), MacKey::from_bytes(b"h"));
    let right = |kind| context(Suite::Aes256Gcm, kind);
    for ctx in [
        Context { term: 1, ..right(Kind::Keyring) },
        Context { term: 0, ..right(Kind::State) },
        Context { version: 8, ..right(Kind::State) },
        Context { term: 0, ..right(Kind::Node) },
        Context { term: 1, ..right(Kind::Value) },
        Context { version: 0, ..right(Kind::Value) },
        Context { term: 0, ..right(Kind::Entry) },
    ] {
        assert!(matches!(envelope::seal(&ikm, &ctx, &hedge, &random, b""), Err(CryptoError::Malformed(_))));
    }
}

struct Stuck;
impl Random for Stuck {
    fn fill(&self, out: &mut [u8]) -> Result<(), CryptoError> {
        out.fill(0);
        Ok(())
    }
}

#[test]
fn a_stuck_random_source_never_repeats_a_salt_for_other_content() {
    let ikm = Key::fill_with(|out| out.fill(4));
    let (ctx, hedge) = (context(Suite::Aes256Gcm, Kind::Node), MacKey::from_bytes(b"hedge"));
    let salt =
        |ctx: &Context<'_>, body: &[u8]| envelope::seal(&ikm, ctx, &hedge, &Stuck, body).unwrap()[28..60].to_vec();
    assert_eq!(salt(&ctx, b"one"), salt(&ctx, b"one"));
    assert_ne!(salt(&ctx, b"one"), salt(&ctx, b"two"));
    assert_ne!(salt(&ctx, b"one"), salt(&Context { path: b"other", ..ctx }, b"one"));
}

#[test]
fn set_hash_is_a_sum_modulo_2_256() {
    let mut sum = SetHash::empty();
    sum.add([0xff; 32]);
    let mut one = [0; 32];
    one[31] = 1;
    sum.add(one);
    assert_eq!(sum.reveal(), &[0; 32]);
    sum.sub(one);
    assert_eq!(sum.reveal(), &[0xff; 32]);
    let (a, b) = (sha256(&[b"a"]), sha256(&[b"b"]));
    let (mut left, mut right) = (SetHash::empty(), SetHash::empty());
    left.add(a);
    left.add(b);
    right.add(b);
    right.add(a);
    assert!(left.ct_eq(&right));
    left.sub(b);
    assert_eq!(left.reveal(), &a);
}

#[test]
fn password_bounds() {
    for params in [
        Params { m_kib: CEILING.m_kib + 1, ..WRITE_FLOOR },
        Params { t: 65, ..WRITE_FLOOR },
        Params { t: 0, ..WRITE_FLOOR },
        Params { p: 17, ..WRITE_FLOOR },
        Params { p: 0, ..WRITE_FLOOR },
        Params { m_kib: 15, t: 3, p: 2 },
    ] {
        assert!(matches!(argon2id(&params, &[0; 32], b"x"), Err(CryptoError::Parameters(_))), "{params:?}");
    }
    assert!(WRITE_FLOOR.reaches(&OPEN_FLOOR) && !OPEN_FLOOR.reaches(&WRITE_FLOOR));
    assert!(WRITE_FLOOR.check_within(Some(128 << 20)).is_ok());
    assert!(WRITE_FLOOR.check_within(Some((128 << 20) - 1)).is_err());
}

#[test]
fn calibration_raises_memory_before_passes() {
    // One millisecond for each MiB and pass.
    let mut timer = |p: &Params| Ok(u64::from(p.m_kib / 1024) * u64::from(p.t));
    let some = calibrate(1000, 1 << 20, &mut timer).unwrap();
    assert!(some.t == 3 && some.p == 1 && (300 * 1024..=340 * 1024).contains(&some.m_kib), "{some:?}");
    let capped = calibrate(1000, 128 * 1024, &mut timer).unwrap();
    assert!(capped.m_kib == 128 * 1024 && capped.t >= 7, "{capped:?}");
    assert_eq!(calibrate(10, 1 << 20, &mut timer).unwrap(), WRITE_FLOOR);
    let instant = calibrate(1000, 1 << 20, &mut |_| Ok(0)).unwrap();
    assert!(instant.check().is_ok());
}

#[test]
fn passphrases_are_normalised() {
    let bytes = |text: &str| normalise(text).unwrap().reveal().to_vec();
    assert_eq!(bytes("e\u{301}\u{fb01}\u{ff11}"), "\u{e9}fi1".as_bytes());
    assert_eq!(bytes("\u{fdfa}").len(), "\u{fdfa}".chars().count() * 33);
    assert!(normalise("\u{378}").is_err() && normalise("").is_err() && normalise(&"x".repeat(4097)).is_err());
}

#[test]
fn random_sources() {
    let draw = |random: &dyn Random| {
        let mut out = [0; 48];
        random.fill(&mut out).unwrap();
        out
    };
    assert_eq!(draw(&SeededRandom::new(3)), draw(&SeededRandom::new(3)));
    assert_ne!(draw(&SeededRandom::new(3)), draw(&SeededRandom::new(4)));
    assert_ne!(draw(&SystemRandom), draw(&SystemRandom));
}

proptest! {
    #[test]
    fn parsing_arbitrary_records_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..700)) {
        let ikm = Key::fill_with(|out| out.fill(1));
        let _ = envelope::head(&bytes);
        let _ = envelope::commitment(&bytes);
        prop_assert!(envelope::open(&ikm, &context(Suite::Aes256Gcm, Kind::Node), &bytes).is_err());
    }

    #[test]
    fn mutated_records_are_refused(at in 0usize..376, byte in 1u8.., cut in 0usize..376) {
        let (ikm, mut record) = sealed(Suite::Aes256Gcm, Kind::Node, b"body");
        record[at] ^= byte;
        prop_assert!(envelope::open(&ikm, &context(Suite::Aes256Gcm, Kind::Node), &record).is_err());
        prop_assert!(envelope::open(&ikm, &context(Suite::Aes256Gcm, Kind::Node), &record[..cut]).is_err());
    }

    #[test]
    fn codec_round_trips(a: u8, b: u16, c: u32, d: u64, text in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut out = Writer::new();
        out.u8(a).u16(b).u32(c).u64(d).lp(&text);
        let mut padded = out.as_slice().to_vec();
        padded.extend_from_slice(&[0; 9]);
        let mut reader = Reader::new(&padded);
        prop_assert_eq!((reader.u8(), reader.u16(), reader.u32(), reader.u64()), (Ok(a), Ok(b), Ok(c), Ok(d)));
        prop_assert_eq!(reader.lp(), Ok(&text[..]));
        prop_assert!(reader.finish().is_ok());
        *padded.last_mut().unwrap() = 1;
        let mut reader = Reader::new(&padded);
        reader.bytes(out.len()).unwrap();
        prop_assert!(reader.finish().is_err());
    }
}
