//! Limits to the unit: the values at both sides of each border, and what a type says about itself.

use super::*;
use crate::crypto::base32::{MAX_TEXT, TextError, symbols};
use crate::crypto::password::{MAX_PASSPHRASE, share_of};
use crate::crypto::{SecretBytes, sign};

#[test]
fn costs_are_in_kibibytes_and_bounded_to_the_unit() {
    assert_eq!((WRITE_FLOOR.m_kib, OPEN_FLOOR.m_kib, CEILING.m_kib), (65_536, 19_456, 4_194_304));
    assert!(CEILING.check().is_ok(), "the ceiling itself is allowed");
    assert!(Params { m_kib: 128, t: 1, p: 16 }.check().is_ok() && Params { m_kib: 127, t: 1, p: 16 }.check().is_err());
    assert!(Params { m_kib: 8, t: 1, p: 1 }.check().is_ok() && Params { m_kib: 7, t: 1, p: 1 }.check().is_err());
    let least = WRITE_FLOOR;
    assert!(least.reaches(&least));
    assert!(!Params { m_kib: least.m_kib - 1, t: 64, p: 1 }.reaches(&least), "passes do not replace memory");
    assert!(!Params { m_kib: CEILING.m_kib, t: least.t - 1, p: 1 }.reaches(&least), "memory does not replace passes");
    assert!(CEILING.check_within(None).is_ok());
    assert!(Params { m_kib: 1024, t: 1, p: 1 }.check_within(Some(2 << 20)).is_ok());
    assert!(Params { m_kib: 1024, t: 1, p: 1 }.check_within(Some((2 << 20) - 2)).is_err());
    assert!(Params { m_kib: 0, t: 1, p: 1 }.check_within(None).is_err());
}

#[test]
fn calibration_stops_at_nine_tenths_and_at_each_limit() {
    // Exactly nine tenths is enough, less is not.
    let costs = |took: u64| calibrate(100, 1 << 20, &mut move |_| Ok(took)).unwrap();
    assert_eq!(costs(90), WRITE_FLOOR);
    assert!(costs(89).m_kib > WRITE_FLOOR.m_kib && costs(89).t == WRITE_FLOOR.t);
    // Memory grows by whole MiB, in proportion to what is missing.
    let mut asked = Vec::new();
    let mut timer = |params: &Params| {
        asked.push(*params);
        Ok(u64::from(params.m_kib) / 1000)
    };
    calibrate(130, 1 << 20, &mut timer).unwrap();
    assert_eq!(asked[1].m_kib, 65_536 * 130 / 65 / 1024 * 1024);
    // With all the memory that there is, passes grow, and the timer is not asked for the same twice.
    let mut asked = Vec::new();
    let all = calibrate(1_000_000, WRITE_FLOOR.m_kib, &mut |params| {
        asked.push(*params);
        Ok(1)
    });
    assert_eq!(all.unwrap(), Params { t: CEILING.t, ..WRITE_FLOOR });
    assert_eq!(asked.len(), 2);
    let failed: Result<Params, _> = calibrate(1, 0, &mut |_| Err(CryptoError::Memory));
    assert_eq!(failed, Err(CryptoError::Memory));
}

#[test]
fn a_run_that_was_held_up_makes_no_cheap_passphrase() {
    let mut runs = 0;
    let mut timer = |params: &Params| {
        runs += 1;
        let took = u64::from(params.m_kib) / 1024 * u64::from(params.t);
        Ok(if runs == 1 { took * 10 } else { took })
    };
    let cost = calibrate(1_000, 1 << 20, &mut timer).unwrap();
    assert!(cost.work() > 4 * WRITE_FLOOR.work(), "{cost:?}");
}

#[test]
fn measured_costs_take_a_quarter_of_the_memory() {
    let mib = |mib: u64| share_of(Some(mib << 20)) / 1024;
    assert_eq!((mib(512), mib(1023), mib(4096)), (128, 255, 1024));
    assert_eq!((mib(1), mib(u64::MAX >> 20)), (64, 1024), "never below the floor, never above 1 GiB");
    assert_eq!(share_of(None), 256 * 1024);
}

#[test]
fn as_dear_means_as_much_memory_and_as_much_work() {
    let cost = |mib: u32, t| Params { m_kib: mib * 1024, t, p: 1 };
    assert!(cost(128, 3).as_dear_as(&cost(64, 6)), "twice the memory makes up for half of the passes");
    assert!(!cost(128, 3).as_dear_as(&cost(64, 7)) && !cost(64, 64).as_dear_as(&cost(65, 3)));
    assert!(cost(64, 3).as_dear_as(&Params { p: 4, ..cost(64, 3) }));
    // Memory and passes of two costs are not multiplied with each other.
    assert_eq!(Params::dearest([cost(1024, 3), cost(64, 64)]), cost(1024, 4));
    assert_eq!(Params::dearest([cost(512, 3), cost(64, 3)]), cost(512, 3));
    assert_eq!((Params::dearest([]), Params::dearest([OPEN_FLOOR])), (WRITE_FLOOR, WRITE_FLOOR));
    assert_eq!(Params::dearest([CEILING]), Params { p: 1, ..CEILING });
    // A slot that was dear enough stays so, and none is raised for ever.
    assert_eq!(Params::dearest([cost(1024, 4), cost(64, 64), cost(1024, 3)]), cost(1024, 4));
}

proptest! {
    #[test]
    fn the_dearest_cost_is_as_dear_as_each_and_hardly_dearer(
        costs in proptest::collection::vec((OPEN_FLOOR.m_kib..=CEILING.m_kib, 2u32..=64, 1u32..=16), 1..=32)
    ) {
        let costs: Vec<Params> = costs.into_iter().map(|(m_kib, t, p)| Params { m_kib, t, p }).collect();
        let made = Params::dearest(costs.iter().copied());
        prop_assert!(made.check().is_ok() && made.reaches(&WRITE_FLOOR));
        prop_assert!(costs.iter().all(|cost| made.as_dear_as(cost)));
        let most = costs.iter().chain([&WRITE_FLOOR]).map(Params::work).max().unwrap();
        prop_assert!(made.work() <= most + most / 2, "{made:?}");
        prop_assert_eq!(Params::dearest(costs.into_iter().chain([made])), made, "nothing is raised twice");
    }
}

#[test]
fn the_largest_body_is_a_mebibyte_and_64_kibibytes() {
    for kind in [Kind::Keyring, Kind::Value] {
        assert_eq!(kind.bucket(1_114_112), Ok(1_114_112));
        assert_eq!(kind.bucket(1_114_113), Err(CryptoError::TooLarge));
    }
}

#[test]
fn the_longest_passphrase_is_taken() {
    assert_eq!(normalise(&"x".repeat(MAX_PASSPHRASE)).unwrap().len(), MAX_PASSPHRASE);
    assert_eq!(MAX_PASSPHRASE, 4096);
    assert!(symbols(&"0".repeat(MAX_TEXT)).is_ok());
    assert_eq!(symbols(&"0".repeat(MAX_TEXT + 1)), Err(TextError::TooLong));
}

#[test]
fn fields_and_padding_are_read_to_the_byte() {
    let mut out = Writer::new();
    assert_eq!((out.is_empty(), out.len()), (true, 0));
    out.lp(b"four");
    assert_eq!((out.is_empty(), out.len()), (false, 8));
    let bytes = out.into_public();
    let limited = |max| Reader::new(&bytes).lp_max(max);
    assert_eq!((limited(4), limited(5)), (Ok(&b"four"[..]), Ok(&b"four"[..])));
    assert_eq!(limited(3), Err(CryptoError::Malformed("field is too long")));
    let mut reader = Reader::new(&bytes);
    assert_eq!(reader.remaining(), 8);
    reader.bytes(7).unwrap();
    assert_eq!(reader.remaining(), 1);
    assert!(reader.end().is_err() && Reader::new(&[]).end().is_ok());
    // Equal bytes must not cancel each other out.
    for padding in [&[1, 1][..], &[0x80, 0x80, 0], &[0, 0, 2], &[3, 0, 0]] {
        assert!(Reader::new(padding).finish().is_err(), "{padding:?}");
    }
    // Growing keeps what was there.
    let mut out = Writer::with_capacity(0);
    (0..=255).for_each(|byte| {
        out.u8(byte);
    });
    assert!(out.as_slice().iter().copied().eq(0..=255));
}

#[test]
fn padding_is_the_least_bucket_or_none() {
    let check = |kind: Kind, length: usize, fields: usize| {
        let body = vec![0; length];
        let mut reader = Reader::new(&body);
        reader.bytes(fields).unwrap();
        envelope::finish(kind, &body, reader)
    };
    assert_eq!(
        (check(Kind::Node, 256, 10), check(Kind::Node, 10, 10), check(Kind::Node, 256, 256)),
        (Ok(()), Ok(()), Ok(()))
    );
    for (kind, length, fields) in
        [(Kind::Node, 512, 10), (Kind::Node, 11, 10), (Kind::State, 512, 256), (Kind::Entry, 257, 256)]
    {
        assert_eq!(check(kind, length, fields), Err(CryptoError::Malformed("padding")), "{kind:?} {length} {fields}");
    }
    assert_eq!(check(Kind::State, 512, 257), Ok(()));
    assert!(envelope::finish(Kind::Node, &[1, 0], Reader::new(&[1, 0])).is_err());
}

#[test]
fn heads_are_read_strictly() {
    let (_, record) = sealed(Suite::Aes256Gcm, Kind::Node, b"body");
    for at in [6, 7] {
        let mut bad = record.clone();
        bad[at] = 1;
        assert_eq!(envelope::head(&bad), Err(CryptoError::Malformed("reserved bits are set")));
    }
    // Each number of a head must fit its kind: term, version and generation.
    let with = |kind: u8, numbers: (u32, u64, u64)| {
        let mut head = record[..28].to_vec();
        head[4] = kind;
        head[8..12].copy_from_slice(&numbers.0.to_be_bytes());
        head[12..20].copy_from_slice(&numbers.1.to_be_bytes());
        head[20..].copy_from_slice(&numbers.2.to_be_bytes());
        envelope::head(&head).is_ok()
    };
    for (kind, good, bad) in [
        (1, (0, 9, 0), [(1, 9, 0), (0, 9, 9), (0, 0, 0)]),
        (2, (1, 9, 9), [(0, 9, 9), (1, 9, 8), (1, 0, 0)]),
        (3, (1, 2, 3), [(0, 2, 3), (1, 2, 0), (1, 0, 3)]),
        (4, (0, 2, 3), [(1, 2, 3), (0, 2, 0), (0, 0, 3)]),
        (6, (1, 2, 3), [(0, 2, 3), (1, 2, 0), (1, 0, 3)]),
    ] {
        assert!(with(kind, good) && !bad.into_iter().any(|numbers| with(kind, numbers)), "{kind}");
    }
    assert!(!with(0, (1, 2, 3)) && !with(5, (1, 2, 3)) && !with(7, (1, 2, 3)));
    for (kind, byte) in [(Kind::Keyring, 1_u8), (Kind::State, 2), (Kind::Node, 3), (Kind::Value, 4), (Kind::Entry, 6)] {
        assert_eq!((kind.byte(), Kind::try_from(byte)), (byte, Ok(kind)));
    }
    assert_eq!(SUITES.map(Suite::byte), [1, 2]);
    assert_eq!([1_u8, 2].map(Suite::try_from), [Ok(SUITES[0]), Ok(SUITES[1])]);
    assert!(Suite::try_from(0_u8).is_err() && Suite::try_from(3_u8).is_err());
}

#[test]
fn a_record_without_a_body_is_refused() {
    let (ikm, record) = sealed(Suite::Aes256Gcm, Kind::Node, b"body");
    let bare = &record[..OVERHEAD];
    let refused = envelope::open(&ikm, &context(Suite::Aes256Gcm, Kind::Node), bare).err();
    assert_eq!(refused, Some(CryptoError::Malformed("length is no bucket")));
}

#[test]
fn secrets_say_their_length_and_compare_whole() {
    let mut secret = SecretBytes::from_vec(b"secret".to_vec());
    assert!(!secret.is_empty() && SecretBytes::from_vec(Vec::new()).is_empty());
    secret.reveal_mut()[0] = b'S';
    secret.truncate(9);
    assert_eq!((secret.reveal(), secret.len()), (&b"Secret"[..], 6));
    secret.truncate(3);
    assert_eq!((secret.reveal(), secret.len()), (&b"Sec"[..], 3));
    let key = Key::fill_with(|out| out.fill(7));
    for at in [0, 15, 31] {
        let other = Key::fill_with(|out| {
            out.fill(7);
            out[at] = 8;
        });
        assert!(!key.ct_eq(&other) && !other.ct_eq(&key));
    }
    assert!(key.ct_eq(&key.duplicate()) && key.reveal() == &[7; 32]);
    let (public, part) = (sign::public(&key), [&b"a"[..], b"b"]);
    assert!(sign::verify(&public, &part, &sign::sign(&key, &[b"ab"])), "parts are joined");
}

#[test]
fn sums_borrow_and_carry_over_every_byte() {
    let number = |low: u8, rest: u8| {
        let mut bytes = [rest; 32];
        bytes[31] = low;
        bytes
    };
    let mut sum = SetHash::from_bytes(number(0, 0));
    sum.sub(number(1, 0));
    assert_eq!(sum.reveal(), &[0xff; 32], "under zero it goes on from the top");
    sum.sub(number(0xff, 0xff));
    assert_eq!(sum.reveal(), &[0; 32]);
    let mut sum = SetHash::from_bytes(number(0, 1));
    sum.sub(number(1, 0));
    assert_eq!((sum.reveal()[31], sum.reveal()[30], sum.reveal()[29]), (0xff, 0, 1));
    // A borrow that comes from a byte and from the one below it at once.
    let mut sum = SetHash::from_bytes(number(0, 0));
    sum.sub(number(1, 1));
    sum.add(number(1, 1));
    assert!(sum.ct_eq(&SetHash::empty()) && !sum.ct_eq(&SetHash::from_bytes(number(1, 0))));
}

#[test]
fn a_mac_is_of_one_key_and_one_text() {
    let key = MacKey::from_bytes(b"k");
    let tag = key.mac(&[b"a"]);
    assert!(key.verify(&[b"a"], &tag) && key.duplicate().verify(&[b"a"], &tag));
    assert!(!key.verify(&[b"b"], &tag) && !MacKey::from_bytes(b"l").verify(&[b"a"], &tag));
}
