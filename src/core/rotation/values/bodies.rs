//! Converts request bodies to orders about values, if the caller may give them.

use crate::api::fields::Fields;
use crate::api::json::Value;
use crate::api::path::Path;
use crate::policy::{Ask, Capability, Decision};
use crate::rotate::generate::Generator;
use crate::rotate::policy::Policy;

use crate::core::error::VaultError;
use crate::core::rotation::orders::ValueOrder;
use crate::core::state::mount::MountTable;
use crate::core::state::subject::Subject;

/// Longest key of a secret, in bytes.
const MAX_KEY: usize = 256;

impl ValueOrder {
    /// The order that `subject` gives for the secret at `path`: `{key, policy}` stores a policy, `{key, action}`
    /// requests one action.
    ///
    /// # Errors
    /// [`VaultError::BadRequest`] for malformed fields; [`VaultError::Forbidden`] when the subject may not write the
    /// secret, or may not use a target in the policy.
    pub(in crate::core) fn read(
        fields: Fields<'_>,
        path: &str,
        subject: &Subject,
        mounts: &MountTable,
    ) -> Result<Self, VaultError> {
        let (key, policy, action) = (fields.required("key")?, fields.value("policy"), fields.text("action")?);
        if key.is_empty() || key.len() > MAX_KEY {
            return Err(bad(format!("field \"key\" must name a key of the secret, 1 to {MAX_KEY} bytes")));
        }
        if !subject.may(mounts, path, Capability::Update) {
            return Err(VaultError::Forbidden);
        }
        let path = path.to_owned();
        Ok(match (policy, action.as_deref()) {
            (Some(policy), None) => Self::Set { path, key, policy: Box::new(usable(policy, subject)?) },
            (None, Some("rotate")) => Self::Rotate { path, key },
            (None, Some("abort")) => Self::Abort { path, key },
            (None, Some("pause")) => Self::Pause { path, key },
            (None, Some("resume")) => Self::Resume { path, key },
            (None, Some("forget")) => Self::Forget { path, key },
            _ => {
                return Err(
                    bad("give either a policy or an action: rotate, abort, pause, resume or forget".to_owned()),
                );
            }
        })
    }
}

/// Parses a policy and checks that the subject may use its targets. A target acts with its own rights, not the caller's.
/// A caller that could name any target could set the password of somebody else's database to a value that it can read.
fn usable(policy: Value<'_>, subject: &Subject) -> Result<Policy, VaultError> {
    let policy = Policy::parse(policy.raw().as_bytes()).map_err(|error| bad(error.to_string()))?;
    let maker = match &policy.generator {
        Generator::Command(command) => Some(&command.target),
        _ => None,
    };
    let may = |name: &String| {
        let Ok(path) = Path::parse(&format!("sys/strongroom/targets/{name}")) else { return false };
        let ask = Ask { path: &path, capability: Capability::Update, sudo: false, parameters: None, wrap_ttl: None };
        matches!(subject.decide(&ask), Decision::Allow { .. })
    };
    if maker.into_iter().chain(&policy.target).all(may) { Ok(policy) } else { Err(VaultError::Forbidden) }
}

fn bad(text: String) -> VaultError {
    VaultError::BadRequest(text)
}
