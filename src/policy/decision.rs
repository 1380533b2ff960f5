//! The question and the answer.

use std::fmt;

use crate::api::path::Path;

use super::capability::Capability;
use super::rules::RuleId;

/// One question.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Full path as in the API, `secret/data/x`; for [`Capability::List`] a folder.
    pub path: &'a Path,
    /// The verb.
    pub capability: Capability,
    /// Whether the path is root-protected, so that the rule must grant `sudo` as well.
    pub sudo: bool,
    /// Top-level fields of the request with their raw JSON values.
    pub parameters: Option<&'a [(&'a str, &'a [u8])]>,
    /// Seconds of response wrapping, when it was asked for.
    pub wrap_ttl: Option<u64>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Do it.
    Allow {
        /// Because of this rule.
        rule: RuleId,
    },
    /// Refuse.
    Deny {
        /// Why; for the audit log and for `explain`, not for the caller.
        reason: DenyReason,
    },
}

/// Why the answer is no.
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
    /// The rule wants response wrapping of another length.
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
            Self::Wrapping(rule) => write!(f, "response wrapping not as wanted by {rule}"),
            Self::Parameters(rule) => write!(f, "fields not as wanted by {rule}"),
        }
    }
}
