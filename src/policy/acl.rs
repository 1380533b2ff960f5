//! The union of a caller's policies, and the decision.

use std::collections::HashMap;
use std::sync::Arc;

use crate::api::path::Path;

use super::capability::Capability;
use super::decision::{Ask, Decision, DenyReason};
use super::index::Index;
use super::parameters;
use super::rules::{Pattern, Permissions, Policy, RuleId};

/// A caller's policies, merged by pattern and indexed.
///
/// ```
/// use strongroom::api::path::Path;
/// use strongroom::policy::{Acl, Ask, Capability, Decision, Policy};
///
/// let policy = Policy::parse(
///     r#"
///     path "secret/data/app/*"    { capabilities = ["create", "read", "update"] }
///     path "secret/data/app/root" { capabilities = ["deny"] }
///     "#,
/// )
/// .unwrap();
/// let acl = Acl::merge([&policy.named("web")]);
/// let may = |text: &str, capability| {
///     let path = Path::parse(text).unwrap();
///     acl.decide(&Ask { path: &path, capability, sudo: false, parameters: None, wrap_ttl: None })
/// };
/// assert!(matches!(may("secret/data/app/db", Capability::Read), Decision::Allow { .. }));
/// assert!(matches!(may("secret/data/app/db", Capability::Delete), Decision::Deny { .. }));
/// // The most specific pattern alone counts.
/// assert!(matches!(may("secret/data/app/root", Capability::Read), Decision::Deny { .. }));
/// assert_eq!(acl.capabilities(&Path::parse("secret/data/app/db").unwrap()), ["create", "read", "update"]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Acl {
    rules: Vec<(RuleId, Permissions)>,
    index: Index,
}

/// A pattern, the names of the policies that contain it, and their combined permissions.
struct Merged<'a> {
    pattern: &'a Pattern,
    names: Vec<&'a str>,
    permissions: Permissions,
}

impl Acl {
    /// Compiles the union of `policies`. Rules with the same pattern become one. If one of them denies, the result
    /// denies.
    #[must_use]
    pub fn merge<'a>(policies: impl IntoIterator<Item = &'a Policy>) -> Self {
        let mut place: HashMap<&str, usize> = HashMap::new();
        let mut merged: Vec<Merged<'_>> = Vec::new();
        for policy in policies {
            for rule in &policy.rules {
                let pattern = &rule.pattern;
                let at = *place.entry(&pattern.text).or_insert(merged.len());
                match merged.get_mut(at) {
                    Some(known) => known.permissions.merge(&rule.permissions),
                    None => {
                        merged.push(Merged { pattern, names: Vec::new(), permissions: rule.permissions.clone() });
                    }
                }
                if let (Some(known), Some(name)) = (merged.get_mut(at), policy.name.as_deref())
                    && !known.names.contains(&name)
                {
                    known.names.push(name);
                }
            }
        }
        let index = Index::new(merged.iter().map(|rule| rule.pattern));
        let rules = merged
            .into_iter()
            .map(|rule| {
                let policies = Arc::from(rule.names.join(","));
                (RuleId { policies, pattern: Arc::clone(&rule.pattern.text) }, rule.permissions)
            })
            .collect();
        Self { rules, index }
    }

    /// Returns the one rule that applies to `path`, most specific first.
    ///
    /// A list also uses rules for the folder's name without its slash, but only if no rule matches the form with the
    /// slash. Falling back past a deny would undo it.
    fn select(&self, path: &str, list: bool) -> Option<&(RuleId, Permissions)> {
        let bare = if list { path.strip_suffix('/') } else { None };
        let rule = self
            .index
            .exact(path)
            .or_else(|| bare.and_then(|bare| self.index.exact(bare)))
            .or_else(|| self.index.other(path))
            .or_else(|| bare.and_then(|bare| self.index.other(bare)))?;
        self.rules.get(rule)
    }

    /// Decides. Pure, and allocates only when a rule with parameter values has to read a field.
    #[must_use]
    pub fn decide(&self, ask: &Ask<'_>) -> Decision {
        let Some((rule, permissions)) = self.select(ask.path.as_str(), ask.capability == Capability::List) else {
            return Decision::Deny { reason: DenyReason::NoRule };
        };
        let reason = if permissions.deny {
            DenyReason::Denied
        } else if !permissions.grants.has(ask.capability) {
            DenyReason::NotGranted
        } else if ask.sudo && !permissions.grants.has(Capability::Sudo) {
            DenyReason::NotSudo
        } else if !wrapping_permits(permissions, ask.wrap_ttl) {
            DenyReason::Wrapping
        } else if !parameters::permit(permissions, ask) {
            DenyReason::Parameters
        } else {
            return Decision::Allow { rule: rule.clone() };
        };
        Decision::Deny { reason: reason(rule.clone()) }
    }

    /// The capabilities granted on `path`, sorted, or only `deny` if there are none.
    #[must_use]
    pub fn capabilities(&self, path: &Path) -> Vec<&'static str> {
        let verbs: Vec<_> = match self.select(path.as_str(), true) {
            Some((_, permissions)) if !permissions.deny => {
                Capability::ALL.into_iter().filter(|one| permissions.grants.has(*one)).map(Capability::as_str).collect()
            }
            _ => Vec::new(),
        };
        if verbs.is_empty() { vec!["deny"] } else { verbs }
    }

    /// Whether anything is granted on `prefix` or below. May return true even if a narrower deny takes it all away. It
    /// gives access only to a mount's description.
    ///
    /// ```
    /// use strongroom::api::path::Path;
    /// use strongroom::policy::{Acl, Policy};
    ///
    /// let policy = Policy::parse(r#"path "secret/data/app/*" { capabilities = ["read"] }"#).unwrap();
    /// let acl = Acl::merge([&policy]);
    /// assert!(acl.any_under(&Path::parse("secret/").unwrap()));
    /// assert!(!acl.any_under(&Path::parse("other/").unwrap()));
    /// ```
    #[must_use]
    pub fn any_under(&self, prefix: &Path) -> bool {
        let grants = |permissions: &Permissions| !permissions.deny && !permissions.grants.is_empty();
        let direct = self.select(prefix.as_str(), true).is_some_and(|(_, permissions)| grants(permissions));
        let folder = prefix.to_folder();
        direct
            || self
                .index
                .below(folder.as_str())
                .any(|rule| self.rules.get(rule).is_some_and(|(_, permissions)| grants(permissions)))
    }
}

fn wrapping_permits(permissions: &Permissions, ttl: Option<u64>) -> bool {
    let (min, max) = (permissions.min_wrap, permissions.max_wrap);
    if min == 0 && max == 0 {
        return true;
    }
    // Merging two policies can leave a maximum below the minimum. Then no duration is allowed.
    ttl.is_some_and(|ttl| ttl >= min && (max == 0 || ttl <= max))
}
