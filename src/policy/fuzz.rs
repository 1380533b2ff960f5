//! What must hold for policies, whatever their text (feature `testing`). An input is a policy, a second one and a path, with a
//! NUL byte between them.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use super::capability::Capability;
use super::document::MAX_TEXT;
use super::rules::{Permissions, Policy};
use super::{Acl, Ask, Decision};
use crate::api::path::Path;

/// Patterns of a policy that are asked about; more would only take longer.
const ASKED: usize = 8;
/// Values nested deeper are not printed: the frame around them differs between the two spellings.
const DEEPEST: usize = 6;

pub(crate) fn examples() -> Vec<Vec<u8>> {
    let texts = [
        "path \"secret/data/*\" { capabilities = [\"create\", \"read\", \"update\"] }",
        "# a\nname = \"web\"\npath \"secret/data/+/app\" { capabilities = [\"read\", \"list\"]\n allowed_parameters = \
         { \"ttl\" = [\"1h\", 5, true], \"*\" = [] }\n denied_parameters = { \"x\" = [] } required_parameters = [\"ttl\"] }",
        "path \"/a\" { policy = \"write\" min_wrapping_ttl = \"1m\" max_wrapping_ttl = 300 }\0path \"a\" { capabilities = \
         [\"deny\"] }\0a/b",
        "{\"path\":{\"secret/*\":{\"capabilities\":[\"sudo\",\"patch\",\"delete\"],\"comment\":\"\\u00e9\"}}}\0path \
         \"secret/+/x*\" { capabilities = [\"read\"] }\0secret/data/x",
        "{\"path\":[{\"a/\":[{\"capabilities\":[\"list\"]},{\"policy\":\"sudo\",\"allowed_parameters\":{\"k\":[null,{\"z\":[1]}]}}]}]}",
        "/* x */ path \"a\\u002fb\" \"c\" { } // no",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

pub(crate) fn check(data: &[u8]) -> bool {
    let mut parts = data.splitn(3, |byte| *byte == 0).map(String::from_utf8_lossy);
    let mut next = || parts.next().unwrap_or(Cow::Borrowed(""));
    let (text, other, asked) = (next(), next(), next());
    let policy = match Policy::parse(&text) {
        Ok(policy) => policy,
        Err(error) => {
            assert!(error.line <= text.lines().count() + 1 && !error.message.is_empty(), "{error}");
            return false;
        }
    };
    assert_eq!(Policy::parse(&text).as_ref(), Ok(&policy), "one text has one meaning");
    printed(&policy);
    let other = Policy::parse(&other).unwrap_or(Policy { name: None, rules: Vec::new() });
    decided(&policy, &other, &asked);
    true
}

/// The same policy in HCL and in JSON reads back as itself.
fn printed(policy: &Policy) {
    let values = || policy.rules.iter().flat_map(|rule| [&rule.permissions.allowed, &rule.permissions.denied]);
    let all = || values().flat_map(|map| map.values()).flat_map(|values| &values.0);
    // Floating-point numbers are read to the next but one, so they do not come back to the last bit.
    if all().any(|value| !plain(value, DEEPEST)) {
        return;
    }
    let document = Value::Object(shape(policy));
    let json = document.to_string();
    if json.len() <= MAX_TEXT / 2 {
        assert_eq!(Policy::parse(&json).as_ref(), Ok(policy), "as JSON: {json}");
        if !all().any(has_null) {
            let hcl = hcl(policy);
            assert_eq!(Policy::parse(&hcl).as_ref(), Ok(policy), "as HCL: {hcl}");
        }
    }
}

fn plain(value: &Value, depth: usize) -> bool {
    match value {
        Value::Number(number) => !number.is_f64(),
        Value::Array(items) => depth > 0 && items.iter().all(|item| plain(item, depth - 1)),
        Value::Object(fields) => depth > 0 && fields.values().all(|field| plain(field, depth - 1)),
        _ => true,
    }
}

fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(has_null),
        Value::Object(fields) => fields.values().any(has_null),
        _ => false,
    }
}

/// The keys of a rule's block.
fn block(permissions: &Permissions) -> Map<String, Value> {
    let mut block = Map::new();
    let words: Vec<&str> = if permissions.deny {
        vec!["deny"]
    } else {
        Capability::ALL.into_iter().filter(|one| permissions.grants.has(*one)).map(Capability::as_str).collect()
    };
    block.insert("capabilities".to_owned(), json!(words));
    for (key, map) in [("allowed_parameters", &permissions.allowed), ("denied_parameters", &permissions.denied)] {
        if !map.is_empty() {
            let fields = map.iter().map(|(name, values)| (name.clone(), Value::Array(values.0.clone())));
            block.insert(key.to_owned(), Value::Object(fields.collect()));
        }
    }
    if !permissions.required.is_empty() {
        block.insert("required_parameters".to_owned(), json!(permissions.required));
    }
    for (key, seconds) in [("min_wrapping_ttl", permissions.min_wrap), ("max_wrapping_ttl", permissions.max_wrap)] {
        if seconds != 0 {
            block.insert(key.to_owned(), json!(seconds));
        }
    }
    block
}

/// A pattern as it may be written: one leading slash is taken off when it is read.
fn written(pattern: &str) -> String {
    if pattern.starts_with('/') { format!("/{pattern}") } else { pattern.to_owned() }
}

fn shape(policy: &Policy) -> Map<String, Value> {
    let rules = policy.rules.iter().map(|rule| json!({ written(&rule.pattern.text): block(&rule.permissions) }));
    let mut document = Map::new();
    document.insert("path".to_owned(), Value::Array(rules.collect()));
    if let Some(name) = &policy.name {
        document.insert("name".to_owned(), json!(name));
    }
    document
}

fn hcl(policy: &Policy) -> String {
    let mut out = policy.name.as_ref().map_or_else(String::new, |name| format!("name = {}\n", quoted(name)));
    for rule in &policy.rules {
        out.push_str(&format!("path {} {{\n", quoted(&written(&rule.pattern.text))));
        for (key, value) in block(&rule.permissions) {
            out.push_str(&format!("  {key} = {}\n", value_of(&value)));
        }
        out.push_str("}\n");
    }
    out
}

fn value_of(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Array(items) => format!("[{}]", items.iter().map(value_of).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(key, value)| format!("{} = {}", quoted(key), value_of(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        scalar => scalar.to_string(),
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' | '$' | '\0'..' ' => out.push_str(&format!("\\u{:04x}", u32::from(character))),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

fn decided(policy: &Policy, other: &Policy, asked: &str) {
    let one = Acl::merge([policy]);
    let twice = Acl::merge([policy, policy]);
    let (both, swapped) = (Acl::merge([policy, other]), Acl::merge([other, policy]));
    let matching = policy.patterns().chain(other.patterns()).take(ASKED);
    let texts = matching.map(|pattern| pattern.replace('+', "x").replace('*', "y"));
    for path in texts.chain([asked.to_owned()]).filter_map(|text| Path::parse(&text).ok()) {
        let refusing = Policy { name: None, rules: Vec::new() };
        let refusing = if path.is_root() { refusing } else { Policy { rules: vec![deny(&path)], ..refusing } };
        let refused = Acl::merge([policy, &refusing]);
        let granted = one.capabilities(&path);
        for capability in Capability::ALL {
            for (parameters, wrap_ttl) in [
                (None, None),
                (Some([("ttl", &b"\"1h\""[..])].as_slice()), None),
                (Some([("k", &b"1"[..]), ("TTL", b"5")].as_slice()), Some(60)),
            ] {
                let ask = Ask { path: &path, capability, sudo: false, parameters, wrap_ttl };
                let decision = one.decide(&ask);
                let yes = allows(&decision);
                assert_eq!(one.decide(&ask), decision, "a decision is stable");
                assert_eq!(allows(&twice.decide(&ask)), yes, "a policy that is given twice grants the same");
                assert_eq!(
                    allows(&both.decide(&ask)),
                    allows(&swapped.decide(&ask)),
                    "the order of policies is nothing"
                );
                assert!(!yes || one.any_under(&path), "what is allowed is visible");
                // A list looks at the folder's name without its slash as well, and capabilities are those of a list.
                let same_rule = !path.is_folder() || capability == Capability::List;
                assert!(!yes || !same_rule || granted.contains(&capability.as_str()), "what is allowed is listed");
                assert!(yes || !allows(&one.decide(&Ask { sudo: true, ..ask })), "sudo is asked for besides the verb");
                assert!(path.is_root() || !allows(&refused.decide(&ask)), "a deny of exactly this path counts");
            }
        }
    }
}

fn deny(path: &Path) -> super::rules::Rule {
    super::rules::Rule {
        pattern: super::rules::Pattern::new(path.as_str()),
        permissions: Permissions { deny: true, ..Permissions::default() },
    }
}

fn allows(decision: &Decision) -> bool {
    matches!(decision, Decision::Allow { .. })
}
