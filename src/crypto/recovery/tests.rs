use proptest::prelude::*;

use super::*;
use crate::crypto::random::SeededRandom;

fn code() -> RecoveryCode {
    RecoveryCode::generate(&SeededRandom::new(8)).unwrap()
}

fn text(code: &RecoveryCode) -> String {
    String::from_utf8(code.render().reveal().to_vec()).unwrap()
}

fn parse(text: &str) -> Result<[u8; LEN], RecoveryError> {
    RecoveryCode::parse(text).map(|code| *code.reveal())
}

#[test]
fn layout_is_fixed() {
    let zeros = RecoveryCode(Zeroizing::new([0; LEN]));
    // Groups of zeros check to their own number: 0, 1, 2 and so on.
    assert!(text(&zeros).starts_with("srr1-00000-00001-00002-00003-00004-00005-00006-00007-"));
    assert_eq!(text(&code()).len(), 4 + 9 * 6);
    assert_eq!(parse(&text(&code())).unwrap(), *code().reveal());
}

#[test]
fn typing_is_tolerant() {
    let zeros = text(&RecoveryCode(Zeroizing::new([0; LEN])));
    for typed in [
        zeros.to_lowercase(),
        zeros.replace('-', " "),
        zeros.replace('-', ""),
        zeros.replace('0', "O").replace('1', "l"),
        zeros.replace('0', "o").replace('1', "I"),
        format!("\n\t {zeros} \r\n"),
    ] {
        assert_eq!(parse(&typed), Ok([0; LEN]), "{typed}");
    }
}

#[test]
fn every_single_error_and_swap_names_its_group() {
    let whole = text(&code());
    let symbols: Vec<char> = whole.chars().filter(|c| *c != '-').skip(4).collect();
    let join = |symbols: &[char]| format!("srr1{}", symbols.iter().collect::<String>());
    for at in 0..symbols.len() {
        let group = at / GROUP + 1;
        for value in 0..32 {
            let mut typed = symbols.clone();
            typed[at] = symbol(value);
            let wanted = if typed == symbols { Ok(*code().reveal()) } else { Err(RecoveryError::Group(group)) };
            assert_eq!(parse(&join(&typed)), wanted, "symbol {at}");
        }
        let mut typed = symbols.clone();
        typed[at] = 'U';
        assert_eq!(parse(&join(&typed)), Err(RecoveryError::Symbol(group)));
        for other in (at + 1)..group * GROUP {
            let mut typed = symbols.clone();
            typed.swap(at, other);
            let wanted = if typed == symbols { Ok(*code().reveal()) } else { Err(RecoveryError::Group(group)) };
            assert_eq!(parse(&join(&typed)), wanted, "{at} with {other}");
        }
    }
    let mut swapped = symbols.clone();
    (0..GROUP).for_each(|at| swapped.swap(at, GROUP + at));
    assert_eq!(parse(&join(&swapped)), Err(RecoveryError::Group(1)));
    assert_eq!(parse(&join(&symbols[1..])), Err(RecoveryError::Length(44)));
    assert_eq!(parse(""), Err(RecoveryError::Prefix));
    assert_eq!(parse("srs1-00000"), Err(RecoveryError::Prefix));
    assert_eq!(parse(&"0".repeat(5000)), Err(RecoveryError::Length(MAX_TEXT)));
}

/// Two errors in one group that its check does not see are caught by the check of the whole.
#[test]
fn the_whole_is_checked_too() {
    let mut typed: Vec<u8> = vec![0; 45];
    let group: Vec<u8> = vec![0, 0, 1, 2];
    assert_eq!(group_check(0, &group), 0);
    typed[..4].copy_from_slice(&group);
    for at in 1..8u8 {
        typed[usize::from(at) * 5 + 4] = at;
    }
    let zeros = text(&RecoveryCode(Zeroizing::new([0; LEN])));
    let tail: String = zeros.chars().rev().take(5).collect::<Vec<_>>().into_iter().rev().collect();
    let head: String = typed[..40].iter().map(|value| symbol(*value)).collect();
    assert_eq!(parse(&format!("srr1{head}{tail}")), Err(RecoveryError::Checksum));
}

proptest! {
    #[test]
    fn any_code_round_trips(bytes: [u8; LEN]) {
        let code = RecoveryCode(Zeroizing::new(bytes));
        prop_assert_eq!(parse(&text(&code)), Ok(bytes));
    }

    #[test]
    fn any_text_is_read_without_panic(typed in "\\PC{0,80}", tail in "[0-9A-Za-z -]{0,80}") {
        let _ = RecoveryCode::parse(&typed);
        let typed = format!("srr1-{tail}");
        prop_assert!(RecoveryCode::parse(&typed).is_err());
    }
}
