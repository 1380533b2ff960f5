//! The edges of the language: limits to the byte, what is given twice, and names of rules.

use super::document::{MAX_DEPTH, MAX_TEXT, shown};
use super::{Acl, Ask, Capability, Decision, Policy};
use crate::api::path::Path;

fn refused(text: &str) -> String {
    Policy::parse(text).expect_err("should be refused").to_string()
}

fn path(text: &str) -> Path {
    Path::parse(text).expect(text)
}

fn reads(policies: &[&str], text: &str) -> bool {
    let policies: Vec<_> = policies.iter().map(|text| Policy::parse(text).expect(text)).collect();
    let ask = Ask { path: &path(text), capability: Capability::Read, sudo: false, parameters: None, wrap_ttl: None };
    matches!(Acl::merge(&policies).decide(&ask), Decision::Allow { .. })
}

#[test]
fn of_two_windows_of_wrapping_the_smaller_ends_count() {
    let window = |min: u64, max: u64| {
        let text = format!("path \"a\" {{ policy = \"read\" min_wrapping_ttl = {min} max_wrapping_ttl = {max} }}");
        Policy::parse(&text).expect(&text)
    };
    let allowed = |policies: [(u64, u64); 2], ttl: u64| {
        let acl = Acl::merge(&policies.map(|(min, max)| window(min, max)));
        let wrap_ttl = Some(ttl);
        let ask = Ask { path: &path("a"), capability: Capability::Read, sudo: false, parameters: None, wrap_ttl };
        matches!(acl.decide(&ask), Decision::Allow { .. })
    };
    for policies in [[(60, 300), (30, 100)], [(30, 100), (60, 300)]] {
        let found = [29, 30, 100, 101].map(|ttl| allowed(policies, ttl));
        assert_eq!(found, [false, true, true, false], "{policies:?}");
    }
}

#[test]
fn a_folder_is_reached_by_patterns_that_go_on_below_it() {
    let under = |pattern: &str, folder: &str| {
        let text = format!("path \"{pattern}\" {{ policy = \"read\" }}");
        Acl::merge([&Policy::parse(&text).expect(&text)]).any_under(&path(folder))
    };
    assert!(under("a/+/b", "a/x/") && under("a/+/b/c", "a/x/b/") && under("a/+/b*", "a/x/bc/"));
    for folder in ["a/x/c/", "a/x/bc/", "b/"] {
        assert!(!under("a/+/b", folder), "{folder}");
    }
    assert!(!under("a/+/b*", "a/x/cb/") && !under("a/+/b/c", "a/x/bc/"));
}

#[test]
fn limits_are_exact() {
    assert!(Policy::parse(&" ".repeat(MAX_TEXT)).is_ok());
    assert_eq!(refused(&" ".repeat(MAX_TEXT + 1)), "policy is longer than 1 MiB");
    let pattern = |length: usize| format!("path \"{}\" {{}}", "a".repeat(length));
    assert!(Policy::parse(&pattern(2048)).is_ok());
    assert_eq!(refused(&pattern(2049)), "1:6: path is too long");
    let keys = format!("{{\"path\":{{{}\"a\":{{}}}}}}", "\"\":1,".repeat(200_000));
    assert_eq!(refused(&keys), "json has too many keys", "the text as a whole is meant");
}

#[test]
fn nesting_is_limited_to_the_level() {
    let lists = |count: usize| format!("{}{}", "[".repeat(count), "]".repeat(count));
    let deep = |text: String| super::hcl::parse(&text).map(drop).map_err(|error| error.message);
    let too_deep = Err("nested too deeply".to_owned());
    assert_eq!(deep(format!("a = {}", lists(MAX_DEPTH))), Ok(()));
    assert_eq!(deep(format!("a = {}", lists(MAX_DEPTH + 1))), too_deep);
    assert_eq!(deep(format!("a \"x\" = {}", lists(MAX_DEPTH - 1))), Ok(()));
    assert_eq!(deep(format!("a \"x\" = {}", lists(MAX_DEPTH))), too_deep);
    assert_eq!(deep(format!("a \"x\" \"y\" {{ b = {} }}", lists(MAX_DEPTH - 3))), Ok(()));
    assert_eq!(deep(format!("a \"x\" \"y\" {{ b = {} }}", lists(MAX_DEPTH - 2))), too_deep);
    assert_eq!(deep(format!("a {} {{ }}", "\"x\" ".repeat(MAX_DEPTH))), too_deep);
    let labels = format!("a {} {{ }}", "\"x\" ".repeat(MAX_DEPTH + 1));
    assert_eq!(deep(labels), Err("expected '=', '{' or a quoted label".to_owned()));
}

#[test]
fn what_is_given_twice() {
    assert_eq!(refused("name = \"a\" name = \"b\""), "1:12: 'name' appears twice");
    assert!(reads(&["path \"a\" { capabilities = [\"read\", \"read\"] }"], "a"), "a verb may be");
    let deny = "path \"a\" { policy = \"deny\" capabilities = [\"read\"] }";
    let read = "path \"a\" { policy = \"read\" }";
    assert!(!reads(&[deny], "a") && !reads(&[deny, read], "a") && !reads(&[read, deny], "a"));
}

#[test]
fn a_window_of_wrapping_may_be_one_length() {
    let window = |min: u64, max: u64| format!("path \"a\" {{ min_wrapping_ttl = {min} max_wrapping_ttl = {max} }}");
    assert!(Policy::parse(&window(60, 300)).is_ok() && Policy::parse(&window(60, 60)).is_ok());
    assert!(Policy::parse(&window(60, 0)).is_ok() && Policy::parse(&window(0, 60)).is_ok());
    assert_eq!(refused(&window(61, 60)), "1:6: 'max_wrapping_ttl' is less than 'min_wrapping_ttl'");
}

#[test]
fn rules_have_names_and_patterns() {
    let policy = |text: &str, name: &str| Policy::parse(text).expect(text).named(name);
    let text = "path \"/a/*\" { policy = \"read\" } path \"b\" { policy = \"write\" }";
    let policies = [policy(text, "web"), policy(text, "ops")];
    assert_eq!(policies[0].patterns().collect::<Vec<_>>(), ["a/*", "b"]);
    let ask = Ask { path: &path("a/x"), capability: Capability::Read, sudo: false, parameters: None, wrap_ttl: None };
    let Decision::Allow { rule } = Acl::merge(&policies).decide(&ask) else { panic!("should be allowed") };
    assert_eq!((rule.policies(), rule.pattern()), ("web,ops", "a/*"));
}

#[test]
fn a_rule_that_grants_nothing_opens_nothing() {
    let policy = Policy::parse("path \"e/*\" { } path \"w/+/abc*\" { policy = \"read\" }").expect("parses");
    let acl = Acl::merge([&policy]);
    for (folder, want) in [("e/", false), ("w/", true), ("w/q/abcd/", true), ("w/q/abd/", false), ("v/q/abc/", false)] {
        assert_eq!(acl.any_under(&path(folder)), want, "{folder}");
    }
}

#[test]
fn places_count_characters() {
    assert_eq!(refused("{\"path\":\n {\"\u{e9}\":x}}"), "2:7: malformed json");
    assert_eq!(refused("\n\n{\"\u{e9}@\":1"), "3:8: malformed json");
    assert_eq!(shown(&"x".repeat(64)), "x".repeat(64));
    assert_eq!(shown(&"x".repeat(65)), format!("{}...", "x".repeat(64)));
    assert_eq!(shown("a\u{7}b"), "ab", "no control character reaches a terminal");
}
