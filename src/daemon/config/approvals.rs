//! `[approvals]`: operations that need more than one operator.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::ConfigError;
use crate::api::duration::Ttl;
use crate::core::{ApprovalRules, Guarded, IdentityPattern};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawApprovals {
    required: usize,
    approvers: Option<Vec<String>>,
    operations: Option<Vec<String>>,
    ttl: Option<String>,
}

impl RawApprovals {
    pub(super) fn check(self, trust_domain: &str) -> Result<ApprovalRules, ConfigError> {
        let pattern = |text: &String| {
            IdentityPattern::parse(text, trust_domain).map_err(|problem| ConfigError::Value {
                key: "approvals.approvers",
                problem: format!("{text:?}: {problem}; write operator/alice or operator/*"),
            })
        };
        let approvers = self.approvers.unwrap_or_else(|| vec!["operator/*".to_owned()]);
        let approvers: Vec<IdentityPattern> = approvers.iter().map(pattern).collect::<Result<_, _>>()?;
        let class = |text: &String| {
            Guarded::parse(text).ok_or_else(|| ConfigError::Value {
                key: "approvals.operations",
                problem: format!("may contain: {}", Guarded::ALL.map(Guarded::as_str).join(", ")),
            })
        };
        let operations = match &self.operations {
            Some(names) => names.iter().map(class).collect::<Result<_, _>>()?,
            None => BTreeSet::from(Guarded::ALL),
        };
        let ttl = self.ttl.as_deref().unwrap_or("1h");
        let wrong = |_| ConfigError::Value { key: "approvals.ttl", problem: "must be a duration such as 1h".into() };
        let ttl = Ttl::parse(ttl).map_err(wrong)?;
        ApprovalRules::new(self.required, approvers, operations, ttl.0).map_err(|(field, problem)| {
            let key = match field {
                "required" => "approvals.required",
                "approvers" => "approvals.approvers",
                "operations" => "approvals.operations",
                _ => "approvals.ttl",
            };
            ConfigError::Value { key, problem: problem.to_owned() }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    fn parse(section: &str) -> Result<Option<crate::core::ApprovalRules>, String> {
        let text = format!("trust_domain = 'a.b'\n{section}");
        let config = Config::parse(&text, std::path::Path::new("/srv/vault"));
        config.map(|config| config.approvals).map_err(|error| error.to_string())
    }

    #[test]
    fn off_unless_given() {
        assert_eq!(parse("").unwrap(), None);
        let rules = parse("[approvals]\nrequired = 2").unwrap().unwrap();
        let full = "[approvals]\nrequired = 2\napprovers = ['operator/*']\nttl = '1h'\n\
                    operations = ['destroy', 'ca-compromise', 'slot-remove', 'admin-policy', 'export']";
        assert_eq!(parse(full).unwrap().unwrap(), rules);
        assert_eq!(rules.required(), 2);
    }

    #[test]
    fn what_protects_nothing_is_refused() {
        for (text, expected) in [
            ("required = 1", "approvals.required must be between 2 and 8"),
            ("required = 9", "approvals.required must be between 2 and 8"),
            ("approvers = ['x']", "required"),
            ("required = 2\napprovers = []", "approvals.approvers must name who may approve"),
            ("required = 2\napprovers = ['*']", "approvals.approvers \"*\""),
            ("required = 2\noperations = ['destroy']", "approvals.operations must include \"admin-policy\""),
            ("required = 2\noperations = ['everything']", "approvals.operations may contain: destroy"),
            ("required = 2\nttl = '1s'", "approvals.ttl must be between"),
            ("required = 2\nttl = 'soon'", "approvals.ttl must be a duration"),
            ("required = 2\nquorum = 3", "unknown field `quorum`"),
        ] {
            let message = parse(&format!("[approvals]\n{text}")).expect_err(text);
            assert!(message.contains(expected), "{text:?}: {message}");
        }
    }
}
