//! Rules about request fields.

use std::collections::BTreeMap;

use serde_json::Value;

use super::capability::Capability;
use super::decision::Ask;
use super::rules::{Permissions, Values};

/// The form in which a policy's names are stored, and in which a request's names are looked up among the allowed and
/// denied ones.
pub(super) fn fold(name: &str) -> String {
    name.chars().flat_map(lower).collect()
}

/// Maps each character to one, as OpenBao does: the one letter whose lower case has two characters becomes a plain `i`.
fn lower(character: char) -> impl Iterator<Item = char> {
    if character == '\u{130}' { 'I' } else { character }.to_lowercase()
}

/// Whether `name` folds to `folded`. Does not allocate.
fn folds_to(name: &str, folded: &str) -> bool {
    name.chars().flat_map(lower).eq(folded.chars())
}

fn lookup<'a>(map: &'a BTreeMap<String, Values>, name: &str) -> Option<&'a Values> {
    map.iter().find(|(folded, _)| folds_to(name, folded)).map(|(_, values)| values)
}

impl Values {
    /// Whether the raw JSON value is in the list. `None` if that cannot be decided; the request is denied then, whether
    /// the list allows or denies.
    fn contain(&self, raw: &[u8]) -> Option<bool> {
        if self.0.is_empty() {
            return Some(true);
        }
        let value: Value = serde_json::from_slice(raw).ok()?;
        Some(self.0.iter().any(|own| equal(own, &value)))
    }
}

fn equal(own: &Value, value: &Value) -> bool {
    match (own, value) {
        (Value::String(glob), Value::String(text)) => glob_matches(glob, text),
        (Value::Number(own), Value::Number(other)) => own == other || own.as_f64() == other.as_f64(),
        _ => own == value,
    }
}

/// `*` is special only at either end. A single `*` stands for itself.
fn glob_matches(glob: &str, text: &str) -> bool {
    if glob.len() < 2 {
        return glob == text;
    }
    match (glob.strip_prefix('*'), glob.strip_suffix('*')) {
        (Some(rest), Some(_)) => text.contains(rest.strip_suffix('*').unwrap_or(rest)),
        (Some(end), None) => text.ends_with(end),
        (None, Some(start)) => text.starts_with(start),
        (None, None) => glob == text,
    }
}

/// Whether the fields of a request satisfy the rule. The fields of deletes and lists are not checked.
pub(super) fn permit(permissions: &Permissions, ask: &Ask<'_>) -> bool {
    use Capability::{Create, Patch, Read, Update};
    if !matches!(ask.capability, Create | Read | Update | Patch) {
        return true;
    }
    let fields = ask.parameters.unwrap_or_default();
    // Compared exactly: a backend that knows `ttl` does not accept `TTL`, so `TTL` would not provide it.
    let present = |wanted: &String| fields.iter().any(|(name, _)| name == wanted);
    if !permissions.required.iter().all(present) {
        return false;
    }
    if fields.is_empty() {
        return true;
    }
    let denied = &permissions.denied;
    if denied.contains_key("*") {
        return false;
    }
    let hit =
        |(name, raw): &(&str, &[u8])| lookup(denied, name).is_some_and(|values| values.contain(raw).unwrap_or(true));
    if !denied.is_empty() && fields.iter().any(hit) {
        return false;
    }
    let allowed = &permissions.allowed;
    let all = allowed.contains_key("*");
    if allowed.is_empty() || (all && allowed.len() == 1) {
        return true;
    }
    fields.iter().all(|(name, raw)| lookup(allowed, name).map_or(all, |values| values.contain(raw).unwrap_or(false)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_at_the_ends_only() {
        for (glob, text, want) in [
            ("*", "a", false),
            ("*", "*", true),
            ("a*", "ab", true),
            ("a*", "ba", false),
            ("*a", "ba", true),
            ("*a*", "bab", true),
            ("*a*", "bb", false),
            ("a*b", "aab", false),
            ("a*b", "a*b", true),
            ("**", "x", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(glob_matches(glob, text), want, "{glob} {text}");
        }
    }

    #[test]
    fn numbers_compare_by_value() {
        let values = Values(vec![Value::from(1), Value::Bool(true), serde_json::json!({"a": [1]})]);
        for (raw, want) in [
            ("1", Some(true)),
            ("1.0", Some(true)),
            ("\"1\"", Some(false)),
            ("true", Some(true)),
            ("2", Some(false)),
            ("{\"a\":[1]}", Some(true)),
            ("1e999", None),
        ] {
            assert_eq!(values.contain(raw.as_bytes()), want, "{raw}");
        }
    }
}
