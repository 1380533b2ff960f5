use proptest::prelude::*;

use super::*;
use crate::crypto::random::SeededRandom;

const VAULT: VaultId = VaultId([3; 16]);

fn shares(seed: u64) -> Vec<Share> {
    Share::create(&VAULT, 3, 5, &SeededRandom::new(seed)).unwrap()
}

fn text(share: &Share) -> String {
    String::from_utf8(share.render().reveal().to_vec()).unwrap()
}

fn copy(share: &Share) -> Share {
    Share::parse(&text(share)).unwrap()
}

#[test]
fn printed_shares_are_read_again() {
    for share in shares(1) {
        let typed = text(&share);
        assert_eq!((typed.len(), &typed[..5]), (4 + 29 * 5, "srs1-"));
        let noisy = format!(" {}\n", typed.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "L"));
        for typed in [typed, noisy] {
            let read = Share::parse(&typed).unwrap();
            assert_eq!((read.vault(), read.set_id()), (&VAULT, share.set_id()));
            assert_eq!((read.needed(), read.total(), read.number()), (3, 5, share.number()));
            assert!(read.point.y.ct_eq(&share.point.y));
        }
    }
}

#[test]
fn every_wrong_symbol_is_found() {
    let whole = text(&shares(1)[0]);
    for (at, now) in whole.char_indices().skip(5).filter(|(_, c)| *c != '-') {
        for other in ['0', '7', 'Z'].into_iter().filter(|other| *other != now) {
            let mut typed = whole.clone();
            typed.replace_range(at..=at, &other.to_string());
            assert_eq!(Share::parse(&typed).err(), Some(ShareError::Damaged), "{at}");
        }
    }
    assert_eq!(Share::parse(&whole[..whole.len() - 1]).err(), Some(ShareError::NotAShare));
    assert_eq!(Share::parse(&whole.replace("srs1", "srr1")).err(), Some(ShareError::NotAShare));
    assert_eq!(Share::parse("").err(), Some(ShareError::NotAShare));
    assert_eq!(Share::parse(&"srs1".repeat(1000)).err(), Some(ShareError::NotAShare));
}

/// A share with a good check but fields that no set has.
#[test]
fn fields_are_checked_behind_the_check() {
    let with = |version: u8, k: u8, n: u8, x: u8| {
        let mut bytes = [0u8; LEN];
        bytes[0] = version;
        bytes[33..36].copy_from_slice(&[k, n, x]);
        let check = check_of(&bytes[..BODY]);
        bytes[BODY..].copy_from_slice(&check);
        Share::decode(&bytes).err()
    };
    assert_eq!(with(1, 2, 3, 3), None);
    assert_eq!(with(2, 2, 3, 3), Some(ShareError::TooNew));
    for (k, n, x) in [(1, 3, 1), (4, 3, 1), (2, 33, 1), (2, 3, 0), (2, 3, 4)] {
        assert_eq!(with(1, k, n, x), Some(ShareError::Damaged), "{k} {n} {x}");
    }
}

#[test]
fn a_set_names_what_is_wrong() {
    let all = shares(1);
    assert_eq!(all.iter().map(Share::number).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let (set, secret) = ShareSet::of_all(&all, &VAULT).unwrap();
    let combine = |shares: &[Share]| set.combine(shares, &VAULT);
    assert!(combine(&[copy(&all[4]), copy(&all[0]), copy(&all[2])]).unwrap().ct_eq(&secret));
    assert!(combine(&all).unwrap().ct_eq(&secret));
    assert_eq!(combine(&[]).err(), Some(ShareError::NotEnough { have: 0, need: 3 }));
    assert_eq!(combine(&all[..2]).err(), Some(ShareError::NotEnough { have: 2, need: 3 }));
    let twice = [copy(&all[0]), copy(&all[1]), copy(&all[1])];
    assert_eq!(combine(&twice).err(), Some(ShareError::Duplicate(2)));
    assert_eq!(set.combine(&all, &VaultId([4; 16])).err(), Some(ShareError::Foreign));
    assert_eq!(combine(&shares(2)).err(), Some(ShareError::OtherSet));
    // Right names, wrong value: a forged share, or y of another number.
    let mut forged = copy(&all[1]);
    forged.point.y = Key::fill_with(|out| out.fill(9));
    assert_eq!(combine(&[copy(&all[0]), forged, copy(&all[2])]).err(), Some(ShareError::Wrong(2)));
    let mut moved = copy(&all[1]);
    moved.point.x = 4;
    assert_eq!(set.check(&moved, &VAULT), Err(ShareError::Wrong(4)));
}

#[test]
fn a_new_set_must_be_whole() {
    let all = shares(1);
    let make = |shares: &[Share]| ShareSet::of_all(shares, &VAULT).err();
    assert_eq!(make(&[]), Some(ShareError::NotEnough { have: 0, need: 2 }));
    assert_eq!(make(&all[1..]), Some(ShareError::NotEnough { have: 4, need: 5 }));
    let mut bad: Vec<Share> = all.iter().map(copy).collect();
    bad[0].point.x = 2;
    assert_eq!(make(&bad), Some(ShareError::Duplicate(2)));
    bad = all.iter().map(copy).collect();
    bad[2] = shares(2).swap_remove(2);
    assert_eq!(make(&bad), Some(ShareError::OtherSet));
    bad = all.iter().map(copy).collect();
    bad[4].point.y = Key::fill_with(|out| out.fill(9));
    assert_eq!(make(&bad), Some(ShareError::Wrong(5)));
    assert_eq!(ShareSet::of_all(&all, &VaultId([4; 16])).err(), Some(ShareError::Foreign));
    for (k, n) in [(1, 2), (3, 2), (2, 33)] {
        assert!(Share::create(&VAULT, k, n, &SeededRandom::new(1)).is_err());
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(typed in "\\PC{0,200}", tail in "[0-9A-HJKMNP-TV-Z]{116}") {
        let _ = Share::parse(&typed);
        let typed = format!("srs1{tail}");
        prop_assert_eq!(Share::parse(&typed).err(), Some(ShareError::Damaged));
    }

    #[test]
    fn any_parameters_are_read_without_panic(params in proptest::collection::vec(any::<u8>(), 0..1200), k: u8, n: u8) {
        let _ = ShareSet::parse(&params);
        let mut shaped = vec![7; 18 + 32 * usize::from(n)];
        shaped[16..18].copy_from_slice(&[k, n]);
        prop_assert_eq!(ShareSet::parse(&shaped).is_ok(), (2..=32).contains(&k) && (k..=32).contains(&n));
        shaped.push(0);
        prop_assert!(ShareSet::parse(&shaped).is_err());
    }

    #[test]
    fn sets_round_trip(seed: u64, n in 2u8..=32, k in 2u8..=32) {
        let k = 2 + k % (n - 1);
        let all = Share::create(&VAULT, k, n, &SeededRandom::new(seed)).unwrap();
        let (set, secret) = ShareSet::of_all(&all, &VAULT).unwrap();
        let mut params = Writer::new();
        set.encode(&mut params);
        prop_assert_eq!(&ShareSet::parse(params.as_slice()).unwrap(), &set);
        let last: Vec<Share> = all.iter().rev().take(usize::from(k)).map(copy).collect();
        prop_assert!(set.combine(&last, &VAULT).unwrap().ct_eq(&secret));
    }
}
