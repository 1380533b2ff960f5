use proptest::prelude::*;

use super::*;
use crate::crypto::random::SeededRandom;

fn example(addresses: &[&str]) -> EnrollString {
    let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
    EnrollString::generate([7; 32], addresses, &SeededRandom::new(1)).unwrap().unwrap()
}

/// The result without what has no `Debug`.
fn refused(text: &str) -> Option<StringError> {
    EnrollString::parse(text).err()
}

/// A text of any bytes with a checksum that fits.
fn text_of(body: &[u8]) -> String {
    let bytes = [body, &checksum(body)].concat();
    PREFIX.chars().chain(base32::to_symbols(&bytes).iter().map(|value| base32::symbol(*value))).collect()
}

#[test]
fn the_form_is_fixed() {
    let string = EnrollString::new([1; 32], [2; 16], Key::fill_with(|out| *out = [3; 32]), vec!["a:1".into()]);
    let text = string.unwrap().print();
    let body = [[1, 0].as_slice(), &[1; 32], &[2; 16], &[3; 32], &[1, 3], b"a:1"].concat();
    assert_eq!(text.reveal(), text_of(&body).to_ascii_lowercase());
    assert!(text.reveal().starts_with("sre1-04"));
}

#[test]
fn copying_by_hand_is_forgiven() {
    let string = example(&["vault.example:8202", "[::1]:8202", "10.0.0.1:1"]);
    let text = string.print();
    for copy in [format!("  {}\n", text.reveal()), text.reveal().to_ascii_uppercase()] {
        assert!(EnrollString::parse(&copy).unwrap().same_as(&string));
    }
}

#[test]
fn other_texts_are_named() {
    let text = example(&["a:1"]).print();
    assert_eq!(refused(""), Some(StringError::Prefix));
    assert_eq!(refused("sre"), Some(StringError::Prefix));
    assert_eq!(refused("sr\u{e9}1-0"), Some(StringError::Prefix));
    assert_eq!(refused(&text.reveal().replace("sre1", "sre2")), Some(StringError::Prefix));
    assert_eq!(refused("hvs.CAESIJ"), Some(StringError::Prefix));
    assert_eq!(refused(PREFIX), Some(StringError::Damaged));
    assert_eq!(refused(&format!("{}{}", text.reveal(), "0".repeat(MAX_TEXT))), Some(StringError::TooLong));
    let fixed = [[1, 0].as_slice(), &[0; 80]].concat();
    let with = |tail: &[u8]| refused(&text_of(&[&fixed, tail].concat()));
    assert_eq!(with(b"\x01\x03a:1"), None);
    assert_eq!(with(b"\x00"), Some(StringError::Address));
    assert_eq!(with(b"\x01\x03a:1\x00"), Some(StringError::Damaged));
    assert_eq!(with(b"\x02\x03a:1"), Some(StringError::Damaged));
    assert_eq!(with(b"\x01\x03a:0"), Some(StringError::Address));
    assert_eq!(with(&[b"\x09".as_slice(), &b"\x03a:1".repeat(9)].concat()), Some(StringError::Address));
    assert_eq!(refused(&text_of(&[2, 0])), Some(StringError::Version));
    assert_eq!(refused(&text_of(&[1, 1])), Some(StringError::Version));
}

#[test]
fn addresses_are_judged() {
    for good in ["a:1", "vault.example.org:8202", "127.0.0.1:65535", "[2001:db8::1]:443"] {
        assert!(is_address(good), "{good}");
    }
    let long = format!("{}:1", ["a"; 128].join("."));
    for bad in
        ["", "a", "a:", ":1", "a:0", "a:65536", "a:+1", "a b:1", "::1:1", "[a]:1", "a/b:1", "\u{e9}:1", "-a:1", &long]
    {
        assert!(!is_address(bad), "{bad}");
    }
    assert_eq!(split_address("[::1]:7"), Some(("::1", 7)));
}

#[test]
fn what_does_not_fit_is_not_made() {
    let host = format!("{}:1", ["a".repeat(63).as_str(); 3].join("."));
    let made = |count: usize| EnrollString::new([0; 32], [0; 16], example(&["a:1"]).secret, vec![host.clone(); count]);
    assert!(made(2).is_ok());
    assert_eq!(made(3).err(), Some(StringError::TooLong));
    assert_eq!(made(0).err(), Some(StringError::Address));
}

prop_compose! {
    /// proptest prints its cases, and a string has no `Debug`: this is its text.
    fn printed()(
        pin: [u8; 32], id: [u8; 16], secret: [u8; 32],
        addresses in proptest::collection::vec("[a-z0-9]{1,20}(\\.[a-z]{1,10})?:[1-9][0-9]{0,3}", 1..=MAX_ADDRESSES),
    ) -> String {
        let string = EnrollString::new(pin, id, Key::fill_with(|out| *out = secret), addresses).unwrap();
        string.print().reveal().to_owned()
    }
}

proptest! {
    #[test]
    fn reads_back(text in printed()) {
        let read = EnrollString::parse(&text).unwrap();
        let printed = read.print();
        prop_assert_eq!(printed.reveal(), text.as_str());
        prop_assert!(text.len() <= MAX_TEXT);
    }

    #[test]
    fn a_part_is_refused(text in printed(), at: prop::sample::Index) {
        prop_assert!(refused(&text[..at.index(text.len())]).is_some());
    }

    #[test]
    fn one_wrong_character_is_found(text in printed(), at: prop::sample::Index, other in "[0-9a-z~]") {
        let at = at.index(text.len());
        let value = |symbol: &str| base32::symbols(symbol).ok().map(|values| values.to_vec());
        let (old, same_prefix) = (&text[at..=at], at < PREFIX.len() && text[at..=at] == other);
        prop_assume!(!same_prefix && (at < PREFIX.len() || value(old) != value(&other)));
        let wrong = format!("{}{other}{}", &text[..at], &text[at + 1..]);
        prop_assert!(refused(&wrong).is_some());
    }

    #[test]
    fn any_text_is_looked_at(text in "\\PC{0,60}|sre1-[0-9a-z -]{0,400}") {
        let _ = EnrollString::parse(&text);
    }

    #[test]
    fn any_content_is_looked_at(body in proptest::collection::vec(any::<u8>(), 0..200), count: u8) {
        let head = [[1, 0].as_slice(), &[0; 80], &[count]].concat();
        let _ = EnrollString::parse(&text_of(&body));
        let _ = EnrollString::parse(&text_of(&[head, body].concat()));
    }
}
