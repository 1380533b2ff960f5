//! A request to the policies, and their decision.

use std::fmt;

use crate::api::path::Path;

use super::capability::Capability;
use super::rules::RuleId;

/// One request, as the policies see it.
///
/// ```
/// use strongroom::api::path::Path;
/// use strongroom::policy::{Acl, Ask, Capability, Decision, Policy};
///
/// let policy = Policy::parse(r#"path "sys/seal" { capabilities = ["update"] }"#).unwrap();
/// let (acl, path) = (Acl::merge([&policy]), Path::parse("sys/seal").unwrap());
/// let ask = Ask { path: &path, capability: Capability::Update, sudo: false, parameters: None, wrap_ttl: None };
/// assert!(matches!(acl.decide(&ask), Decision::Allow { .. }));
/// // For a root-protected path the verb alone is not enough.
/// assert!(matches!(acl.decide(&Ask { sudo: true, ..ask }), Decision::Deny { .. }));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Full path as in the API, such as `secret/data/x`. A folder for [`Capability::List`].
    pub path: &'a Path,
    /// The verb.
    pub capability: Capability,
    /// Whether the path is root-protected, so that the rule must also grant `sudo`.
    pub sudo: bool,
    /// Top-level fields of the request with their raw JSON values.
    pub parameters: Option<&'a [(&'a str, &'a [u8])]>,
    /// Requested duration of response wrapping, in seconds.
    pub wrap_ttl: Option<u64>,
}

/// The answer.
///
/// ```
/// use strongroom::api::path::Path;
/// use strongroom::policy::{Acl, Ask, Capability, Decision, DenyReason};
///
/// let path = Path::parse("secret/data/app").unwrap();
/// let ask = Ask { path: &path, capability: Capability::Read, sudo: false, parameters: None, wrap_ttl: None };
/// // Without a policy, everything is denied.
/// assert_eq!(Acl::default().decide(&ask), Decision::Deny { reason: DenyReason::NoRule });
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Allow.
    Allow {
        /// The rule that allows it.
        rule: RuleId,
    },
    /// Deny.
    Deny {
        /// The reason, for the audit log and for `explain`, not for the caller.
        reason: DenyReason,
    },
}

/// Why a request is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DenyReason {
    /// No pattern matches the path.
    NoRule,
    /// The rule is a deny.
    Denied(RuleId),
    /// The rule does not grant the verb.
    NotGranted(RuleId),
    /// The path is root-protected and the rule does not grant `sudo`.
    NotSudo(RuleId),
    /// The rule requires response wrapping with a different duration.
    Wrapping(RuleId),
    /// A field of the request is missing or not allowed.
    Parameters(RuleId),
}

impl fmt::Display for DenyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRule => f.write_str("no rule matches"),
            Self::Denied(rule) => write!(f, "denied by {rule}"),
            Self::NotGranted(rule) => write!(f, "not granted by {rule}"),
            Self::NotSudo(rule) => write!(f, "sudo not granted by {rule}"),
            Self::Wrapping(rule) => write!(f, "response wrapping not as required by {rule}"),
            Self::Parameters(rule) => write!(f, "fields not as required by {rule}"),
        }
    }
}
