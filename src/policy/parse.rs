//! Converts a document to rules: the allowed keys and their meaning.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::api::duration::Ttl;
use crate::api::json::{self, JsonCode, Limits};

use super::capability::{Capability, Grants};
use super::document::{Item, MAX_DEPTH, MAX_TEXT, Node, Place, PolicyError, Tree, shown};
use super::hcl;
use super::parameters::fold;
use super::rules::{Pattern, Permissions, Policy, Rule, Values};

impl Policy {
    /// Parses a policy in HCL or, if it starts with `{`, in JSON. At most 1 MiB, nested at most 16 levels deep.
    ///
    /// # Errors
    /// [`PolicyError`] with line and column for a syntax error, an unknown key or capability, `+*`, a template, or a
    /// restriction that is not supported and would be lost.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.len() > MAX_TEXT {
            return Place::default().error("policy is longer than 1 MiB");
        }
        let items = if text.trim_start().starts_with('{') { json_items(text)? } else { hcl::parse(text)? };
        let mut name = None;
        let mut rules = Vec::new();
        for item in items {
            match item.key.as_str() {
                "path" => path_items(item.node, &mut rules)?,
                "name" if name.is_none() => name = Some(string(&item.node, "name")?.to_owned()),
                "name" => return item.place.error("'name' appears twice"),
                other => {
                    return item.place.error(format!("unknown key '{}': a policy has 'path' blocks", shown(other)));
                }
            }
        }
        Ok(Policy { name, rules })
    }
}

fn json_items(text: &str) -> Result<Vec<Item>, PolicyError> {
    let limits = Limits { max_bytes: MAX_TEXT, max_depth: MAX_DEPTH, max_keys: 200_000, max_string_bytes: MAX_TEXT };
    json::check(text.as_bytes(), &limits).or_else(|error| {
        let place = match error.code {
            JsonCode::TooLong | JsonCode::TooManyKeys => Place::default(),
            _ => Place::of(text, error.at),
        };
        place.error(error.code.to_string())
    })?;
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => return Place(error.line(), error.column()).error("malformed JSON"),
    };
    match Node::from_json(value).value {
        Tree::Object(items) => Ok(items),
        _ => Place::default().error("a policy must be an object"),
    }
}

/// Reads the patterns in one `path`. JSON may contain a list of objects.
fn path_items(node: Node, rules: &mut Vec<Rule>) -> Result<(), PolicyError> {
    match node.value {
        Tree::Object(items) => {
            for item in items {
                rule_items(&item.key, item.place, item.node, rules)?;
            }
            Ok(())
        }
        Tree::List(nodes) => nodes.into_iter().try_for_each(|node| match node.value {
            Tree::Object(_) => path_items(node, rules),
            _ => node.place.error("'path' needs a pattern and a block"),
        }),
        Tree::Scalar(_) => node.place.error("'path' needs a pattern and a block"),
    }
}

fn rule_items(pattern: &str, place: Place, node: Node, rules: &mut Vec<Rule>) -> Result<(), PolicyError> {
    match node.value {
        Tree::Object(items) => {
            rules.push(rule(pattern, place, &items)?);
            Ok(())
        }
        Tree::List(nodes) => nodes.into_iter().try_for_each(|node| match node.value {
            Tree::Object(items) => {
                rules.push(rule(pattern, place, &items)?);
                Ok(())
            }
            _ => node.place.error("a path pattern needs a block"),
        }),
        Tree::Scalar(_) => node.place.error("a path pattern needs a block"),
    }
}

fn rule(pattern: &str, place: Place, items: &[Item]) -> Result<Rule, PolicyError> {
    let pattern = compile(pattern, place)?;
    let mut seen: Vec<&str> = Vec::new();
    let mut permissions = Permissions::default();
    let mut old = None;
    for item in items {
        if seen.contains(&item.key.as_str()) {
            return item.place.error(format!("'{}' appears twice", shown(&item.key)));
        }
        seen.push(&item.key);
        let node = &item.node;
        match item.key.as_str() {
            "capabilities" => (permissions.grants, permissions.deny) = capabilities(node)?,
            "policy" => old = Some(old_policy(node)?),
            "allowed_parameters" => permissions.allowed = parameters(node)?,
            "denied_parameters" => permissions.denied = parameters(node)?,
            "required_parameters" => {
                permissions.required = strings(node, "required_parameters")?.into_iter().map(fold).collect();
            }
            "min_wrapping_ttl" => permissions.min_wrap = ttl(node)?,
            "max_wrapping_ttl" => permissions.max_wrap = ttl(node)?,
            "comment" => {
                string(node, "comment")?;
            }
            key @ ("control_group"
            | "mfa_methods"
            | "expiration"
            | "pagination_limit"
            | "list_scan_response_keys_filter_path"
            | "subscribe_event_types") => {
                // Ignoring a restriction would grant more than its author intended.
                return item
                    .place
                    .error(format!("'{key}' is not supported here, and a rule without it would grant more"));
            }
            other => return item.place.error(format!("unknown key '{}' in a path block", shown(other))),
        }
    }
    // The old syntax adds to the capabilities of the new one, as in Vault.
    if let Some((grants, deny)) = old {
        permissions.deny |= deny;
        permissions.grants = permissions.grants.union(grants);
    }
    if permissions.deny {
        permissions = Permissions { deny: true, ..Permissions::default() };
    }
    if permissions.min_wrap != 0 && permissions.max_wrap != 0 && permissions.max_wrap < permissions.min_wrap {
        return place.error("'max_wrapping_ttl' is less than 'min_wrapping_ttl'");
    }
    Ok(Rule { pattern, permissions })
}

fn compile(pattern: &str, place: Place) -> Result<Pattern, PolicyError> {
    if pattern.contains("{{") {
        return place.error("templates ({{ }}) in paths are not supported");
    }
    if pattern.contains("+*") {
        return place.error("'+*' in a path is not allowed: '+' matches a whole segment, '*' matches any rest");
    }
    // A longer pattern cannot match, because no request path is that long. And no pattern may cost more than a path.
    if pattern.len() > 2 * crate::api::path::MAX_BYTES {
        return place.error("path is too long");
    }
    Ok(Pattern::new(pattern.strip_prefix('/').unwrap_or(pattern)))
}

fn capabilities(node: &Node) -> Result<(Grants, bool), PolicyError> {
    let mut grants = Grants::NONE;
    let mut deny = false;
    for word in strings(node, "capabilities")? {
        match (word, Capability::parse(word)) {
            ("deny", _) => deny = true,
            (_, Some(capability)) => grants = grants.with(capability),
            _ => return node.place.error(format!("unknown capability '{}'", shown(word))),
        }
    }
    Ok((grants, deny))
}

fn old_policy(node: &Node) -> Result<(Grants, bool), PolicyError> {
    use Capability::{Create, Delete, List, Read, Sudo, Update};
    Ok(match string(node, "policy")? {
        "deny" => (Grants::NONE, true),
        "read" => (Grants::of(&[Read, List]), false),
        "write" => (Grants::of(&[Create, Read, Update, Delete, List]), false),
        "sudo" => (Grants::of(&[Create, Read, Update, Delete, List, Sudo]), false),
        _ => return node.place.error("'policy' must be deny, read, write or sudo"),
    })
}

fn parameters(node: &Node) -> Result<BTreeMap<String, Values>, PolicyError> {
    let Tree::Object(items) = &node.value else {
        return node.place.error("parameters must be an object of lists");
    };
    let mut parameters = BTreeMap::new();
    for item in items {
        let Tree::List(nodes) = &item.node.value else {
            return item.node.place.error(format!("the values of parameter '{}' must be a list", shown(&item.key)));
        };
        let values = Values(nodes.iter().map(Node::to_json).collect());
        if parameters.insert(fold(&item.key), values).is_some() {
            return item.place.error(format!("parameter '{}' appears twice", shown(&item.key)));
        }
    }
    Ok(parameters)
}

fn ttl(node: &Node) -> Result<u64, PolicyError> {
    match &node.value {
        Tree::Scalar(value @ (Value::String(_) | Value::Number(_))) => {
            Ttl::parse_json(&value.to_string()).map(|ttl| ttl.0).or_else(|error| node.place.error(error.to_string()))
        }
        _ => node.place.error("expected a duration"),
    }
}

fn string<'a>(node: &'a Node, key: &str) -> Result<&'a str, PolicyError> {
    match &node.value {
        Tree::Scalar(Value::String(text)) => Ok(text),
        _ => node.place.error(format!("'{key}' must be a string")),
    }
}

fn strings<'a>(node: &'a Node, key: &str) -> Result<Vec<&'a str>, PolicyError> {
    match &node.value {
        Tree::List(nodes) => nodes.iter().map(|node| string(node, key)).collect(),
        _ => node.place.error(format!("'{key}' must be a list of strings")),
    }
}
