use proptest::prelude::*;

use super::*;

#[test]
fn identities_end_at_segment_borders() {
    let check = |pattern: &str, identity: Option<&str>, want: bool| {
        let read = Identities::parse(pattern).expect("a pattern");
        assert_eq!(read.matches(identity), want, "{pattern} {identity:?}");
        assert_eq!(read.text(), pattern);
    };
    check("*", Some("app/web"), true);
    check("*", None, true);
    check("app/*", Some("app/web/a"), true);
    check("app/*", Some("app"), false);
    check("app/*", Some("apps/web"), false);
    check("app/*", None, false);
    check("app/web", Some("app/web"), true);
    check("app/web", Some("app/web/a"), false);
    for text in ["", "app*", "/app", "app/", "a//b", "app/**", "*/app", "app/*/x"] {
        assert_eq!(Identities::parse(text), Err(QuotaError::Identity), "{text}");
    }
}

#[test]
fn paths_are_one_or_everything_below() {
    let check = |pattern: &str, path: &str, want: bool| {
        assert_eq!(Paths::parse(pattern).expect("a pattern").matches(path), want, "{pattern} {path}");
    };
    check("", "sys/mounts", true);
    check("*", "sys/mounts", true);
    check("secret/", "secret/data/a", true);
    check("secret/", "secrets/data/a", false);
    check("secret/data/a", "secret/data/a", true);
    check("secret/metadata/a", "secret/metadata/a/", true);
    check("secret/data/a", "secret/data/a/b", false);
    check("secret/data/a/*", "secret/data/a/b", true);
    check("secret/data/a*", "secret/data/ab/c", true);
    check("/secret/", "secret/x", true);
    for text in ["a//b", "../x", "a*b", "a/*/b", "**"] {
        assert_eq!(Paths::parse(text), Err(QuotaError::Path), "{text}");
    }
}

#[test]
fn amounts_are_checked() {
    assert_eq!(Rate::checked(897_300, 120, 300, None).map(|rate| rate.burst), Ok(898));
    assert_eq!(Rate::checked(1, 1, 0, None).map(|rate| rate.burst), Ok(1));
    assert_eq!(Rate::checked(0, 1, 0, None), Err(QuotaError::Rate));
    assert_eq!(Rate::checked(u64::MAX, 1, 0, None), Err(QuotaError::Rate));
    assert_eq!(Rate::checked(1, 0, 0, None), Err(QuotaError::Interval));
    assert_eq!(Rate::checked(1, u64::MAX, 0, None), Err(QuotaError::Interval));
    assert_eq!(Rate::checked(1, 1, u64::MAX, None), Err(QuotaError::Block));
    assert_eq!(Rate::checked(1, 1, 0, Some(0)), Err(QuotaError::Burst));
}

#[test]
fn numbers_are_read_in_thousandths() {
    let good = [("0", 0), ("1", 1_000), ("897.3", 897_300), ("0.001", 1), ("0.0019", 1), ("5.25", 5_250)];
    for (text, want) in good {
        assert_eq!(milli(text), Some(want), "{text}");
    }
    for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", " 1", "99999999999999999999", "1.2.3", "0x10", "١"] {
        assert_eq!(milli(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn texts_read_back(value in any::<u64>()) {
        prop_assert_eq!(milli(&milli_text(value)), Some(value));
        prop_assert!(serde_json::from_str::<f64>(&milli_text(value)).is_ok());
    }

    #[test]
    fn parsing_is_total(text in "\\PC{0,40}") {
        let _ = (Identities::parse(&text), milli(&text), Quota::check_name(&text));
        if let Ok(paths) = Paths::parse(&text) {
            prop_assert_eq!(Paths::parse(&paths.text()), Ok(paths));
        }
    }

    #[test]
    fn paths_read_back(text in "[a-c]{1,3}(/[a-c]{1,3}){0,3}(/|\\*|/\\*|)") {
        let paths = Paths::parse(&text).expect("a pattern");
        prop_assert_eq!(Paths::parse(&paths.text()), Ok(paths));
    }
}
