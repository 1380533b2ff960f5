//! What must hold for enrolment strings, whatever the text (feature `testing`). An input counts as a text, as the bytes below
//! the base32 of one, as edits to a genuine one, and as an address.

use std::sync::LazyLock;

use super::string::{EnrollString, MAX_ADDRESSES, PREFIX, is_address, split_address};
use crate::crypto::base32;
use crate::crypto::hash::sha256;
use crate::crypto::random::SeededRandom;
use crate::testing::alter::alter;

static GENUINE: LazyLock<EnrollString> = LazyLock::new(|| example(&["vault.example:8202", "[::1]:8202", "10.0.0.1:1"]));

fn example(addresses: &[&str]) -> EnrollString {
    let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
    let made = EnrollString::generate([7; 32], addresses, &SeededRandom::new(1));
    made.ok().and_then(Result::ok).expect("the addresses are good, and the seeded source does not fail")
}

fn printed(string: &EnrollString) -> String {
    string.print().reveal().to_owned()
}

pub(crate) fn examples() -> Vec<Vec<u8>> {
    let body = [&[1, 0][..], &[1; 32], &[2; 16], &[3; 32], &[2, 3], b"a:1", &[8], b"[::1]:80"].concat();
    let texts = [printed(&GENUINE), printed(&example(&["a:1"])), "vault.example:8202".to_owned()];
    texts.into_iter().map(String::into_bytes).chain([body, vec![0, 3, 3, b'E'], vec![0, 20, 4, 1]]).collect()
}

pub(crate) fn check(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let accepted = judged(&text).is_some();
    address(&text);
    // The same with a checksum that fits, so that it is not the checksum alone that refuses.
    let body = data.get(..512).unwrap_or(data);
    let [a, b, c, d, ..] = sha256(&[body]);
    let symbols = base32::to_symbols(&[body, &[a, b, c, d]].concat());
    let made: String = PREFIX.chars().chain(symbols.iter().map(|symbol| base32::symbol(*symbol))).collect();
    let inside = judged(&made);
    if let Some(string) = &inside {
        assert_eq!(printed(string), made.to_ascii_lowercase(), "one string has one spelling but for capitals");
    }
    // Changed where it is copied by hand, it says the same or is refused: the checksum misses one in four thousand million.
    let altered = alter(printed(&GENUINE).as_bytes(), data);
    if let Some(string) = judged(&String::from_utf8_lossy(&altered)) {
        assert!(string.same_as(&GENUINE), "a miscopied string is taken for another one");
    }
    accepted || inside.is_some()
}

fn judged(text: &str) -> Option<EnrollString> {
    let string = EnrollString::parse(text).ok()?;
    let print = printed(&string);
    assert!(print.len() <= base32::MAX_TEXT && print.starts_with(PREFIX));
    let again = EnrollString::parse(&print).expect("what is printed can be read");
    assert!(again.same_as(&string) && printed(&again) == print, "printed and read again it is the same");
    assert_eq!(again.proof_key().reveal(), string.proof_key().reveal());
    assert!((1..=MAX_ADDRESSES).contains(&string.addresses().len()));
    assert!(string.addresses().iter().all(|address| is_address(address)));
    Some(string)
}

/// An address is one host and one port, which a resolver is given as they are.
fn address(text: &str) {
    let Some((host, port)) = split_address(text) else { return };
    assert!(port != 0 && !host.is_empty() && text.len() <= 255 && text.is_ascii());
    assert!(!host.contains(['/', '@', '[', ']', ' ', '%', '\\']), "nothing that means more than a name");
    let rest = text.trim_start_matches('[').strip_prefix(host).expect("the host stands in front");
    assert!(rest.trim_start_matches(']').strip_prefix(':').is_some_and(|digits| digits.parse() == Ok(port)));
}
