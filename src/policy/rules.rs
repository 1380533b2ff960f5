//! Rules, and how rules with the same pattern are combined.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::capability::Grants;

/// A parsed policy document.
///
/// ```
/// use strongroom::policy::Policy;
///
/// let policy = Policy::parse("path \"secret/data/app/*\" {\n  capabilities = [\"read\"]\n}").unwrap();
/// assert_eq!(policy.patterns().collect::<Vec<_>>(), ["secret/data/app/*"]);
/// let error = Policy::parse("path \"x\" {\n  capabilities = [\"fly\"]\n}").unwrap_err();
/// assert!(error.to_string().contains("2:"), "{error}");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub(super) name: Option<String>,
    pub(super) rules: Vec<Rule>,
}

impl Policy {
    /// Sets the name under which the policy is stored, which [`RuleId`]s contain.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// The patterns in the order of the text.
    ///
    /// ```
    /// use strongroom::policy::Policy;
    ///
    /// let policy = Policy::parse(r#"path "secret/data/*" { capabilities = ["read"] }"#).unwrap();
    /// assert_eq!(policy.patterns().collect::<Vec<_>>(), ["secret/data/*"]);
    /// ```
    #[cfg(any(test, feature = "testing"))]
    pub fn patterns(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.pattern.text.as_ref())
    }
}

/// One `path` block.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rule {
    pub pattern: Pattern,
    pub permissions: Permissions,
}

/// A path pattern without leading slash.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pattern {
    /// The text as written.
    pub text: Arc<str>,
    pub kind: Kind,
}

/// How a pattern matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only this path.
    Exact,
    /// Every path with this prefix. The `*` is the last character.
    Prefix,
    /// Some segments are `+`. May also end in `*`.
    Segments,
}

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        let wild = text == "+" || text.contains("/+") || text.starts_with("+/");
        let kind = match (wild, text.ends_with('*')) {
            (true, _) => Kind::Segments,
            (false, true) => Kind::Prefix,
            (false, false) => Kind::Exact,
        };
        Self { text: Arc::from(text), kind }
    }
}

/// Values that a parameter may have or must not have; empty means any.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Values(pub Vec<Value>);

/// The permissions of a rule for the paths that it matches.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Permissions {
    /// Deny everything. The other fields are empty then.
    pub deny: bool,
    pub grants: Grants,
    /// Folded names.
    pub required: BTreeSet<String>,
    pub allowed: BTreeMap<String, Values>,
    pub denied: BTreeMap<String, Values>,
    /// Seconds; 0 means not set.
    pub min_wrap: u64,
    /// Seconds; 0 means not set.
    pub max_wrap: u64,
}

impl Permissions {
    /// Adds the permissions of another policy for the same pattern.
    pub(super) fn merge(&mut self, other: &Self) {
        if self.deny {
            return;
        }
        if other.deny {
            *self = other.clone();
            return;
        }
        self.grants = self.grants.union(other.grants);
        self.min_wrap = smaller(self.min_wrap, other.min_wrap);
        self.max_wrap = smaller(self.max_wrap, other.max_wrap);
        merge_values(&mut self.allowed, &other.allowed);
        merge_values(&mut self.denied, &other.denied);
        self.required.extend(other.required.iter().cloned());
    }
}

/// The smaller of two values that are set.
fn smaller(a: u64, b: u64) -> u64 {
    if a == 0 || (b != 0 && b < a) { b } else { a }
}

/// For each key: the values of both, or any value if one of them allows any.
fn merge_values(own: &mut BTreeMap<String, Values>, other: &BTreeMap<String, Values>) {
    for (key, values) in other {
        match own.get_mut(key) {
            None => {
                own.insert(key.clone(), values.clone());
            }
            Some(mine) if mine.0.is_empty() || values.0.is_empty() => mine.0.clear(),
            Some(mine) => mine.0.extend_from_slice(&values.0),
        }
    }
}

/// The rule that decided: its policies, if known, and its pattern. Prints as `web,ops:secret/data/*`.
///
/// ```
/// use strongroom::api::path::Path;
/// use strongroom::policy::{Acl, Ask, Capability, Decision, Policy};
///
/// let policy = Policy::parse(r#"path "secret/data/*" { capabilities = ["read"] }"#).unwrap().named("web");
/// let path = Path::parse("secret/data/app").unwrap();
/// let ask = Ask { path: &path, capability: Capability::Read, sudo: false, parameters: None, wrap_ttl: None };
/// let Decision::Allow { rule } = Acl::merge([&policy]).decide(&ask) else { panic!("denied") };
/// assert_eq!((rule.policies(), rule.pattern()), ("web", "secret/data/*"));
/// assert_eq!(rule.to_string(), "web:secret/data/*");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RuleId {
    pub(super) policies: Arc<str>,
    pub(super) pattern: Arc<str>,
}

impl RuleId {
    /// Names of the policies with this pattern, separated by commas; empty if they have no names.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn policies(&self) -> &str {
        &self.policies
    }

    /// The pattern as written, without leading slash.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn pattern(&self) -> &str {
        &self.pattern
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.policies.is_empty() {
            write!(f, "{}:", self.policies)?;
        }
        f.write_str(&self.pattern)
    }
}
