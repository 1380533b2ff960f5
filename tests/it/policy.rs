//! The policy language: one table per rule, a naive model written from the rules' text, and what must never change.

use std::collections::BTreeMap;

use proptest::prelude::*;
use strongroom::api::path::Path;
use strongroom::policy::{Acl, Ask, Capability, Decision, DenyReason, Policy};

fn path(text: &str) -> Path {
    Path::parse(text).expect(text)
}

fn acl(policies: &[&str]) -> Acl {
    let policies: Vec<_> = policies.iter().map(|text| Policy::parse(text).expect(text)).collect();
    Acl::merge(&policies)
}

fn may(acl: &Acl, capability: Capability, text: &str) -> bool {
    let path = path(text);
    matches!(
        acl.decide(&Ask { path: &path, capability, sudo: false, parameters: None, wrap_ttl: None }),
        Decision::Allow { .. }
    )
}

/// `a/*=read,list` as a block.
fn block(short: &str) -> String {
    let (pattern, words) = short.split_once('=').expect("pattern=words");
    let words: Vec<_> = words.split(',').filter(|word| !word.is_empty()).map(|word| format!("\"{word}\"")).collect();
    format!("path \"{pattern}\" {{ capabilities = [{}] }}\n", words.join(", "))
}

fn short(rules: &[&str]) -> Acl {
    let text: String = rules.iter().map(|rule| block(rule)).collect();
    acl(&[&text])
}

#[test]
fn both_spellings_and_the_old_verbs_parse() {
    use Capability::{Create, Delete, List, Patch, Read, Sudo, Update};
    for text in [
        "path \"a\" { capabilities = [\"read\"] }",
        "path \"/a\" { capabilities = [\"read\",] comment = \"x\" }",
        "name = \"n\"\npath \"a\" {\n  policy = \"read\"\n}",
        r#"{"path":{"a":{"capabilities":["read"]}}}"#,
        r#" {"name":"n","path":[{"a":[{"policy":"read"}]}]}"#,
        "\u{20}\n",
    ] {
        let acl = acl(&[text]);
        assert_eq!(may(&acl, Read, "a"), !text.trim().is_empty(), "{text}");
        assert!(!may(&acl, Update, "a"), "{text}");
    }
    for (word, granted) in [
        ("deny", &[][..]),
        ("read", &[Read, List]),
        ("write", &[Create, Read, Update, Delete, List]),
        ("sudo", &[Create, Read, Update, Delete, List, Sudo]),
    ] {
        let acl = acl(&[&format!("path \"a/\" {{ policy = \"{word}\" }}")]);
        for capability in [Create, Read, Update, Patch, Delete, List, Sudo] {
            assert_eq!(may(&acl, capability, "a/"), granted.contains(&capability), "{word} {capability:?}");
        }
    }
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    for (text, message) in [
        ("pth \"a\" {}", "1:1: unknown key 'pth': a policy has 'path' blocks"),
        ("path \"a\" {\n  capabilites = []\n}", "2:3: unknown key 'capabilites' in a path block"),
        ("path \"a\" { capabilities = [\"raed\"] }", "1:27: unknown capability 'raed'"),
        ("path \"a\" { capabilities = \"read\" }", "1:27: 'capabilities' must be a list of strings"),
        ("path \"a\" { capabilities = [1] }", "1:28: 'capabilities' must be a string"),
        ("path \"a\" { policy = \"all\" }", "1:21: 'policy' must be deny, read, write or sudo"),
        ("path \"a/+*\" {}", "1:6: '+*' in a path is not allowed: '+' matches a whole segment, '*' matches any rest"),
        ("path \"a/{{identity.entity.id}}\" {}", "1:6: templates ({{ }}) in paths are not supported"),
        (
            "path \"a\" { control_group = {} }",
            "1:12: 'control_group' is not supported here, and a rule without it would grant more",
        ),
        (
            "path \"a\" { mfa_methods = [] }",
            "1:12: 'mfa_methods' is not supported here, and a rule without it would grant more",
        ),
        (
            "path \"a\" { expiration = \"x\" }",
            "1:12: 'expiration' is not supported here, and a rule without it would grant more",
        ),
        ("path \"a\" { allowed_parameters = { x = 1 } }", "1:39: the values of parameter 'x' must be a list"),
        ("path \"a\" { allowed_parameters = { x = [] X = [] } }", "1:42: parameter 'X' appears twice"),
        ("path \"a\" { policy = \"read\" policy = \"deny\" }", "1:28: 'policy' appears twice"),
        (
            "path \"a\" { min_wrapping_ttl = \"2s\" max_wrapping_ttl = 1 }",
            "1:6: 'max_wrapping_ttl' is less than 'min_wrapping_ttl'",
        ),
        (
            "path \"a\" { min_wrapping_ttl = \"x\" }",
            "1:31: not a duration: write 60, \"60s\", \"5m\", \"768h\" or \"1h30m\"",
        ),
        ("path \"a\"", "1:9: expected '=', '{' or a quoted label"),
        ("path = 1", "1:8: 'path' needs a pattern and a block"),
        ("{\"path\":{\"a\":1}}", "a path pattern needs a block"),
        ("{\"path\":\n {\"a\":x}}", "2:7: malformed json"),
        ("{\"path\":{\"a\":{},\"a\":{}}}", "1:23: json has an object with a duplicate key"),
    ] {
        assert_eq!(Policy::parse(text).expect_err(text).to_string(), message, "{text}");
    }
    assert!(Policy::parse(&" ".repeat((1 << 20) + 1)).is_err());
}

#[test]
fn the_most_specific_pattern_alone_counts() {
    use Capability::{Read, Update};
    for (rules, asked, read) in [
        // Nothing matching is a denial.
        (&[][..], "a", false),
        (&["b=read"], "a", false),
        // Exact, prefix with an empty rest, prefix across segments, and no other globbing.
        (&["a=read"], "a", true),
        (&["a=read"], "a/", false),
        (&["a=read"], "a/b", false),
        (&["a*=read"], "a", true),
        (&["a*=read"], "ab/c", true),
        (&["a/*=read"], "a", false),
        (&["a/*=read"], "a/", true),
        (&["*=read"], "x/y", true),
        (&["a*b=read"], "axb", false),
        (&["a*/b=read"], "ax/b", false),
        // One segment, whole.
        (&["a/+=read"], "a/b", true),
        (&["a/+=read"], "a/b/c", false),
        (&["a/+=read"], "a", false),
        (&["+=read"], "a", true),
        (&["+/b=read"], "a/b", true),
        (&["a+=read"], "ab", false),
        (&["a/+b=read"], "a/xb", false),
        (&["a/+/c=read"], "a/b/c", true),
        (&["a/+/c*=read"], "a/b/cd/e", true),
        (&["a/+/c*=read"], "a/b", false),
        (&["a/+/*=read"], "a/b", false),
        (&["a/+/*=read"], "a/b/", true),
        // Exact before all others, to grant less and to grant more.
        (&["a/b=update", "a/*=read"], "a/b", false),
        (&["a/b=read", "a/*=deny", "a/+=deny"], "a/b", true),
        (&["a/b=", "a/*=read"], "a/b", false),
        // The longest prefix.
        (&["a/*=read", "a/b/*=deny"], "a/b/c", false),
        (&["a/*=deny", "a/b/*=read"], "a/b/c", true),
        (&["a/*=read", "a/b/*=deny", "a/bc*=update"], "a/bb", true),
        (&["a*=read", "ab*=deny", "abc*=deny"], "abb", false),
        (&["a*=read", "ab*=deny", "abc*=deny"], "ac", true),
        // A later first wildcard.
        (&["a/+/c=deny", "a/b/*=read"], "a/b/c", true),
        (&["+/b/c=deny", "a/+/c=read"], "a/b/c", true),
        // Then no star at the end.
        (&["a/*=deny", "a/+/c=read"], "a/b/c", true),
        (&["a/*=deny", "a/+=read"], "a/b", true),
        // Then fewer plus.
        (&["a/+/+=deny", "a/+/c=read"], "a/b/c", true),
        (&["a/+/*=deny", "a/*=read"], "a/b/c", true),
        // Then longer.
        (&["a/+/c*=read", "a/+/*=deny"], "a/b/cd", true),
        // Then the larger text.
        (&["+/a/+/b=deny", "+/+/a/b=read"], "x/a/a/b", false),
        (&["+/a/+/b=read", "+/+/a/b=deny"], "x/a/a/b", true),
    ] {
        let acl = short(rules);
        assert_eq!(may(&acl, Read, asked), read, "{rules:?} {asked}");
        let mut turned: Vec<_> = rules.to_vec();
        turned.reverse();
        assert_eq!(may(&short(&turned), Read, asked), read, "order must not matter: {rules:?} {asked}");
        assert!(!may(&acl, Update, asked) || rules.iter().any(|rule| rule.contains("update")), "{rules:?}");
    }
}

#[test]
fn the_same_pattern_in_several_policies_is_one_rule() {
    use Capability::{Read, Update};
    let (read, update, deny) = (block("a=read"), block("/a=update"), block("a=deny,read"));
    let both = acl(&[&read, &update]);
    assert!(may(&both, Read, "a") && may(&both, Update, "a"));
    for order in [[&read, &deny, &update], [&deny, &read, &update], [&read, &update, &deny]] {
        let acl = acl(&order.map(String::as_str));
        assert!(!may(&acl, Read, "a") && !may(&acl, Update, "a"));
        assert_eq!(acl.capabilities(&path("a")), ["deny"]);
    }
}

#[test]
fn lists_try_the_slash_first_and_never_pass_a_deny() {
    use Capability::List;
    for (rules, want) in [
        (&["a/b/=list"][..], true),
        (&["a/b=list"], true),
        (&["a/b/=deny", "a/b=list"], false),
        (&["a/b/=read", "a/b=list"], false),
        (&["a/*=list"], true),
        (&["a/b*=list"], true),
        (&["a/+=list"], true),
        (&["a/+/=list"], true),
        // The bare form is an exact match and comes before wildcards of the slash form.
        (&["a/b=list", "a/*=deny"], true),
        (&["a/b=deny", "a/*=list"], false),
        // A deny on a wildcard that matches the slash form ends the search.
        (&["a/b/*=deny", "a/+=list"], false),
        (&["a/+/*=deny", "a/*=deny", "a/+=list"], false),
    ] {
        assert_eq!(may(&short(rules), List, "a/b/"), want, "{rules:?}");
    }
    assert!(!may(&short(&["a/b=read"]), Capability::Read, "a/b/"), "the fallback is for lists alone");
}

#[test]
fn sudo_is_asked_besides_the_verb() {
    let path = path("sys/seal");
    for (rule, allowed) in [("sys/seal=update,sudo", true), ("sys/seal=update", false), ("sys/seal=sudo", false)] {
        let ask = Ask { path: &path, capability: Capability::Update, sudo: true, parameters: None, wrap_ttl: None };
        assert_eq!(matches!(short(&[rule]).decide(&ask), Decision::Allow { .. }), allowed, "{rule}");
    }
}

#[test]
fn parameters_are_checked_by_name_and_value() {
    use Capability::{Create, Delete, List, Patch, Read, Update};
    let cases: &[(&str, &[(&str, &str)], bool)] = &[
        ("required_parameters = [\"Ttl\"]", &[], false),
        ("required_parameters = [\"Ttl\"]", &[("ttl", "1")], true),
        ("required_parameters = [\"TTL\"]", &[("TTL", "1")], false),
        ("required_parameters = [\"max_versions\"]", &[("MAX_versions", "5")], false),
        ("required_parameters = [\"max_versions\"]", &[("MAX_versions", "5"), ("max_versions", "5")], true),
        ("denied_parameters = { i = [] }", &[("\u{130}", "1")], false),
        ("denied_parameters = { \"*\" = [] }", &[], true),
        ("denied_parameters = { \"*\" = [] }", &[("x", "1")], false),
        ("denied_parameters = { X = [] }", &[("x", "1")], false),
        ("denied_parameters = { x = [] }", &[("y", "1")], true),
        ("denied_parameters = { x = [\"a*\"] }", &[("x", "\"ab\"")], false),
        ("denied_parameters = { x = [\"a*\"] }", &[("x", "\"b\"")], true),
        ("denied_parameters = { x = [\"ab\"] }", &[("x", "\"\\u0061b\"")], false),
        ("denied_parameters = { x = [1] }", &[("x", "1.0")], false),
        ("denied_parameters = { x = [1] }", &[("x", "1e999")], false),
        ("allowed_parameters = {}", &[("x", "1")], true),
        ("allowed_parameters = { x = [] }", &[("X", "1")], true),
        ("allowed_parameters = { x = [] }", &[("y", "1")], false),
        ("allowed_parameters = { x = [] }", &[("x", "1"), ("y", "1")], false),
        ("allowed_parameters = { x = [\"a\", 2, true, [1]] }", &[("x", "[1]")], true),
        ("allowed_parameters = { x = [\"a\", 2, true, [1]] }", &[("x", "\"true\"")], false),
        ("allowed_parameters = { x = [\"*a*\"] }", &[("x", "\"bab\"")], true),
        ("allowed_parameters = { x = [1], \"*\" = [] }", &[("y", "9")], true),
        ("allowed_parameters = { x = [1], \"*\" = [] }", &[("x", "9")], false),
        ("allowed_parameters = { \"*\" = [1] }", &[("x", "9")], true),
        ("allowed_parameters = { x = [] } denied_parameters = { x = [] }", &[("x", "9")], false),
    ];
    let path = path("a/");
    for (keys, fields, want) in cases {
        let acl = acl(&[&format!(
            "path \"a/\" {{ capabilities = [\"create\",\"read\",\"update\",\"patch\",\"delete\",\"list\"] {keys} }}"
        )]);
        let fields: Vec<_> = fields.iter().map(|(name, raw)| (*name, raw.as_bytes())).collect();
        for capability in [Create, Read, Update, Patch, Delete, List] {
            let ask = Ask { path: &path, capability, sudo: false, parameters: Some(&fields), wrap_ttl: None };
            let want = *want || matches!(capability, Delete | List);
            assert_eq!(matches!(acl.decide(&ask), Decision::Allow { .. }), want, "{keys} {capability:?} {fields:?}");
        }
    }
}

#[test]
fn parameters_and_wrapping_merge() {
    let rule = |keys: &str| format!("path \"a\" {{ capabilities = [\"update\"] {keys} }}");
    let path = path("a");
    let ask = |first: &str, second: &str, field: Option<(&str, &[u8])>, wrap_ttl| {
        let acl = acl(&[&rule(first), &rule(second)]);
        let fields: Vec<_> = field.into_iter().collect();
        let ask = Ask { path: &path, capability: Capability::Update, sudo: false, parameters: Some(&fields), wrap_ttl };
        matches!(acl.decide(&ask), Decision::Allow { .. })
    };
    let allow = |values: &str| format!("allowed_parameters = {{ x = {values} }}");
    assert!(ask(&allow("[1]"), &allow("[2]"), Some(("x", b"1")), None));
    assert!(ask(&allow("[1]"), &allow("[2]"), Some(("x", b"2")), None));
    assert!(!ask(&allow("[1]"), &allow("[2]"), Some(("x", b"3")), None));
    assert!(ask(&allow("[1]"), &allow("[]"), Some(("x", b"3")), None), "an empty list wins");
    assert!(!ask("", &allow("[1]"), Some(("x", b"3")), None));
    assert!(!ask("required_parameters = [\"x\"]", "required_parameters = [\"y\"]", Some(("x", b"3")), None));
    assert!(!ask("min_wrapping_ttl = 5", "", None, None), "an unwrapped request");
    assert!(ask("min_wrapping_ttl = \"5s\"", "min_wrapping_ttl = 9", None, Some(5)));
    assert!(!ask("min_wrapping_ttl = 5", "", None, Some(4)));
    assert!(ask("max_wrapping_ttl = 5", "max_wrapping_ttl = 9", None, Some(5)));
    assert!(!ask("max_wrapping_ttl = 5", "max_wrapping_ttl = 9", None, Some(6)));
    assert!(!ask("max_wrapping_ttl = 5", "min_wrapping_ttl = 9", None, Some(7)), "no length satisfies both");
}

#[test]
fn decisions_name_their_rule() {
    let policies = [
        Policy::parse(&block("a/*=read")).expect("parses").named("web"),
        Policy::parse(&block("/a/*=list")).expect("parses").named("ops"),
        Policy::parse(&block("b=deny")).expect("parses"),
    ];
    let acl = Acl::merge(&policies);
    let decide = |text: &str, capability| {
        let path = path(text);
        match acl.decide(&Ask { path: &path, capability, sudo: false, parameters: None, wrap_ttl: None }) {
            Decision::Allow { rule } => format!("allow {rule}"),
            Decision::Deny { reason } => reason.to_string(),
        }
    };
    assert_eq!(decide("a/x", Capability::Read), "allow web,ops:a/*");
    assert_eq!(decide("a/x", Capability::Delete), "not granted by web,ops:a/*");
    assert_eq!(decide("b", Capability::Read), "denied by b");
    assert_eq!(decide("c", Capability::Read), DenyReason::NoRule.to_string());
}

#[test]
fn capabilities_and_reach() {
    let acl = short(&["a/*=read,update,sudo", "a/b=deny", "m/data/x=read", "n/+/y=read", "o/*=deny"]);
    assert_eq!(acl.capabilities(&path("a/x")), ["read", "sudo", "update"]);
    for none in ["a/b", "z"] {
        assert_eq!(acl.capabilities(&path(none)), ["deny"]);
    }
    for (folder, want) in [
        ("a/", true),
        ("m/", true),
        ("m/data/", true),
        ("m/meta/", false),
        ("n/", true),
        ("n/q/", true),
        ("n/q/z/", false),
        ("o/", false),
        ("z/", false),
        ("", true),
        ("n", true),
        ("a/x/y/", true),
    ] {
        assert_eq!(acl.any_under(&path(folder)), want, "{folder}");
    }
    assert!(!Acl::merge([]).any_under(&Path::root()));
}

/// The rules of the language once more, as plainly as they can be said.
mod model {
    pub struct Rule {
        pub pattern: String,
        pub words: Vec<&'static str>,
    }

    fn matches(pattern: &str, path: &str) -> bool {
        let (open, body) = (pattern.ends_with('*'), pattern.trim_end_matches('*'));
        if !pattern.split('/').any(|s| s.starts_with('+')) {
            return if open { path.starts_with(body) } else { path == body };
        }
        let (own, names): (Vec<_>, Vec<_>) = (body.split('/').collect(), path.split('/').collect());
        let fits = |i: usize| {
            own[i] == "+" || own[i] == names[i] || (open && i + 1 == own.len() && names[i].starts_with(own[i]))
        };
        (if open { names.len() >= own.len() } else { names.len() == own.len() }) && (0..own.len()).all(fits)
    }

    pub fn allows(rules: &[Rule], path: &str, verb: &str) -> bool {
        let exact = |path: &str| rules.iter().find(|rule| rule.pattern == path).map(|rule| rule.pattern.as_str());
        let best = |path: &str| {
            let hits = rules.iter().map(|rule| rule.pattern.as_str()).filter(|pattern| matches(pattern, path));
            hits.max_by_key(|p| {
                let body = p.trim_end_matches('*');
                let plus = body.split('/').filter(|segment| *segment == "+").count();
                (p.find(['+', '*']), !p.ends_with('*'), -(plus as i64), body.len(), *p)
            })
        };
        let bare = if verb == "list" { path.strip_suffix('/') } else { None };
        let found = exact(path).or(bare.and_then(exact)).or(best(path)).or(bare.and_then(best));
        let words: Vec<_> = rules.iter().filter(|r| Some(r.pattern.as_str()) == found).flat_map(|r| &r.words).collect();
        words.contains(&&verb) && !words.contains(&&"deny")
    }
}

/// The rules about fields once more, as OpenBao's `internal/vault/policy/acl.go` has them: names of a policy are put in lower
/// case, also the required ones; a field of a request is looked up in lower case among the denied and the allowed ones, but
/// must be there under exactly the required name.
#[derive(Clone, Debug)]
struct Fields {
    required: Vec<&'static str>,
    denied: BTreeMap<&'static str, Vec<u8>>,
    allowed: BTreeMap<&'static str, Vec<u8>>,
}

impl Fields {
    fn permit(&self, request: &BTreeMap<&str, u8>) -> bool {
        let own = |map: &BTreeMap<&str, Vec<u8>>, name: &str| {
            map.iter().find(|(own, _)| own.to_lowercase() == name.to_lowercase()).map(|(_, values)| values.clone())
        };
        let holds = |values: &[u8], value: &u8| values.is_empty() || values.contains(value);
        if self.required.iter().any(|name| !request.contains_key(&*name.to_lowercase())) {
            return false;
        }
        if request.is_empty() {
            return true;
        }
        if self.denied.contains_key("*")
            || request.iter().any(|(name, value)| own(&self.denied, name).is_some_and(|values| holds(&values, value)))
        {
            return false;
        }
        let all = self.allowed.contains_key("*");
        self.allowed.is_empty()
            || (all && self.allowed.len() == 1)
            || request.iter().all(|(name, value)| own(&self.allowed, name).map_or(all, |values| holds(&values, value)))
    }

    fn text(&self) -> String {
        let map = |name: &str, map: &BTreeMap<&str, Vec<u8>>| match map.is_empty() {
            true => String::new(),
            false => format!("{name} = {{ {} }}\n", {
                map.iter().map(|(name, values)| format!("\"{name}\" = {values:?}")).collect::<Vec<_>>().join(", ")
            }),
        };
        let (denied, allowed) = (map("denied_parameters", &self.denied), map("allowed_parameters", &self.allowed));
        format!(
            "path \"a\" {{ capabilities = [\"update\"]\n{denied}{allowed}required_parameters = {:?}\n}}",
            self.required
        )
    }
}

/// Names that differ by more than case: a policy says nothing twice.
fn any_names(most: usize) -> impl Strategy<Value = Vec<&'static str>> {
    let spelled =
        [["ttl", "TTL", "Ttl"], ["max_versions", "MAX_versions", "max_VERSIONS"], ["\u{e9}", "\u{c9}", "\u{c9}"]];
    let names: Vec<_> = spelled.into_iter().map(|names| prop::sample::select(names.to_vec())).collect();
    (names, 0..=most).prop_map(|(names, most)| names.into_iter().take(most).collect())
}

fn any_values() -> impl Strategy<Value = BTreeMap<&'static str, Vec<u8>>> {
    let values = prop::collection::vec(prop::collection::vec(0..3_u8, 0..2), 4);
    (any_names(3), any::<bool>(), values)
        .prop_map(|(names, star, values)| names.into_iter().chain(star.then_some("*")).zip(values).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn fields_are_decided_as_the_model_does(
        required in any_names(2),
        denied in prop_oneof![Just(BTreeMap::new()), any_values()],
        allowed in any_values(),
        (names, more) in (any_names(3), any_names(3)),
        values in prop::collection::vec(0..3_u8, 6),
    ) {
        let fields = Fields { required, denied, allowed };
        let request: BTreeMap<_, _> = names.into_iter().chain(more).zip(values).collect();
        let raw: Vec<_> = request.iter().map(|(name, value)| (*name, value.to_string())).collect();
        let raw: Vec<_> = raw.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        let (acl, path) = (acl(&[&fields.text()]), path("a"));
        let ask = Ask { path: &path, capability: Capability::Update, sudo: false, parameters: Some(&raw), wrap_ttl: None };
        let may = matches!(acl.decide(&ask), Decision::Allow { .. });
        prop_assert_eq!(may, fields.permit(&request), "{} {:?}", fields.text(), request);
    }
}

const WORDS: [&str; 5] = ["read", "list", "update", "sudo", "deny"];

fn any_rule() -> impl Strategy<Value = (String, Vec<&'static str>)> {
    let segment = prop_oneof![3 => Just("a"), 2 => Just("b"), 1 => Just("ab"), 3 => Just("+")];
    let end = prop_oneof![4 => Just(""), 1 => Just("/"), 2 => Just("*"), 2 => Just("/*")];
    let words = prop::collection::vec(prop::sample::select(&WORDS[..]), 0..3);
    (prop::collection::vec(segment, 1..4), end, words).prop_map(|(segments, end, words)| {
        let pattern = format!("{}{end}", segments.join("/")).replace("+*", "+/*");
        (pattern, words)
    })
}

fn any_path() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(&["a", "b", "ab", "c"][..]);
    (prop::collection::vec(segment, 1..5), any::<bool>())
        .prop_map(|(segments, folder)| segments.join("/") + if folder { "/" } else { "" })
}

fn text_of(rules: &[(String, Vec<&'static str>)]) -> String {
    rules.iter().map(|(pattern, words)| block(&format!("{pattern}={}", words.join(",")))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// 10,000 policies of up to eight rules, each asked about four paths and three verbs: 120,000 decisions.
    #[test]
    fn agrees_with_the_model(
        rules in prop::collection::vec(any_rule(), 0..9),
        paths in prop::collection::vec(any_path(), 4),
        split in any::<prop::sample::Index>(),
    ) {
        let at = split.index(rules.len() + 1);
        let acl = acl(&[&text_of(&rules[..at]), &text_of(&rules[at..])]);
        let plain: Vec<_> =
            rules.iter().map(|(p, words)| model::Rule { pattern: p.clone(), words: words.clone() }).collect();
        for path in &paths {
            for (verb, capability) in
                [("read", Capability::Read), ("list", Capability::List), ("update", Capability::Update)]
            {
                prop_assert_eq!(
                    may(&acl, capability, path), model::allows(&plain, path, verb), "{} {} {}", text_of(&rules), path, verb
                );
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// A deny takes away on its own pattern or on what it is the most specific for; it opens nothing.
    #[test]
    fn a_deny_never_adds_access(
        rules in prop::collection::vec(any_rule(), 0..6),
        deny in any_rule(),
        asked in any_path(),
    ) {
        let before = acl(&[&text_of(&rules)]);
        let after = acl(&[&text_of(&rules), &text_of(&[(deny.0, vec!["deny"])])]);
        for capability in [Capability::Read, Capability::List, Capability::Update, Capability::Sudo] {
            prop_assert!(may(&before, capability, &asked) || !may(&after, capability, &asked));
        }
    }

    /// What the tree opens, the summary shows.
    #[test]
    fn summaries_agree(rules in prop::collection::vec(any_rule(), 0..6), asked in any_path()) {
        let acl = acl(&[&text_of(&rules)]);
        let verbs = acl.capabilities(&path(&asked));
        prop_assert_eq!(verbs.contains(&"list"), may(&acl, Capability::List, &asked));
        if verbs != ["deny"] {
            let root = asked.split('/').next().expect("one segment");
            prop_assert!(!asked.contains('/') || acl.any_under(&path(&format!("{root}/"))), "{}", asked);
        }
    }

    #[test]
    fn any_text_is_answered(text in "\\PC{0,60}|(path|\"|[ab/+*]|\\{|\\}|=|capabilities|\\[|\\]|deny|,| ){0,30}") {
        let _ = Policy::parse(&text);
        let _ = Policy::parse(&format!("{{{text}"));
    }
}
