//! A caller and its rights: by its certificate, and by the token that it presents.

use std::sync::Arc;

use crate::api::path::Path;
use crate::policy::{Acl, Ask, Capability, Decision};

use crate::core::error::VaultError;
use crate::core::state::barred::Barred;
use crate::core::state::mount::MountTable;
use crate::core::state::tokens::Held;

/// A caller and its rights.
pub(in crate::core) struct Subject {
    /// Names of the policies that decide its requests, including `default`.
    pub policies: Arc<[String]>,
    /// The union of these policies, compiled.
    acl: Arc<Acl>,
    /// With a token: the rights of the certificate alone. The token never exceeds them, even if a denying policy is not
    /// among the token's own.
    ceiling: Option<Arc<Acl>>,
    /// Whether it is an admitted identity or role.
    pub known: bool,
    /// The token that it presents.
    pub token: Option<Held>,
    /// Why its token is rejected. Every request is rejected then, whatever the certificate allows.
    pub refused: Option<&'static str>,
    /// Why its certificate is not admitted.
    pub barred: Option<Barred>,
}

impl Subject {
    /// A subject with these policies. `acl` is their union.
    pub(in crate::core) fn new(policies: Vec<String>, acl: Acl) -> Self {
        let (policies, acl) = (Arc::from(policies), Arc::new(acl));
        Self { policies, acl, ceiling: None, known: true, token: None, refused: None, barred: None }
    }

    /// A subject without any rights.
    pub(in crate::core) fn stranger() -> Self {
        Self { known: false, ..Self::new(Vec::new(), Acl::merge([])) }
    }

    /// A subject whose token belongs to somebody else, or is no longer valid.
    pub(in crate::core) fn refused(why: &'static str) -> Self {
        Self { refused: Some(why), ..Self::stranger() }
    }

    /// This subject, which has no rights, for a caller who is not admitted.
    pub(in crate::core) fn barred(&self, why: Barred) -> Self {
        Self {
            policies: Arc::clone(&self.policies),
            acl: Arc::clone(&self.acl),
            ceiling: None,
            known: false,
            token: None,
            refused: None,
            barred: Some(why),
        }
    }

    /// The error for what it may not do.
    pub(in crate::core) fn denial(&self) -> VaultError {
        self.barred.map_or(VaultError::Forbidden, Barred::denial)
    }

    /// The same caller with a token. `narrow` has the policies that both have.
    pub(in crate::core) fn with_token(&self, narrow: &Self, token: Held) -> Self {
        Self {
            policies: Arc::clone(&narrow.policies),
            acl: Arc::clone(&narrow.acl),
            ceiling: Some(Arc::clone(&self.acl)),
            known: self.known,
            token: Some(token),
            refused: None,
            barred: None,
        }
    }

    /// Whether both have the very same compiled policies. `false` does not mean that their rights differ.
    pub(in crate::core) fn has_rights_of(&self, other: &Self) -> bool {
        let ceiling = match (&self.ceiling, &other.ceiling) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        ceiling && Arc::ptr_eq(&self.acl, &other.acl)
    }

    /// Decides one request.
    pub(in crate::core) fn decide(&self, ask: &Ask<'_>) -> Decision {
        match self.ceiling.as_ref().map(|ceiling| ceiling.decide(ask)) {
            Some(Decision::Deny { reason }) => Decision::Deny { reason },
            _ => self.acl.decide(ask),
        }
    }

    /// Whether `capability` is granted on the data of the secret with this full path. Any other use of a secret than
    /// reading or writing it requires this too; otherwise it would be a way around the policy.
    pub(in crate::core) fn may(&self, mounts: &MountTable, full: &str, capability: Capability) -> bool {
        let Ok(path) = Path::parse(full) else { return false };
        // Where nothing is mounted, the path itself is checked: only callers that may see it learn that there is
        // nothing.
        let data = match mounts.route(&path) {
            Some((mount, relative)) => format!("{}data/{}", mount.path, relative.as_str()),
            None => full.to_owned(),
        };
        let Ok(path) = Path::parse(&data) else { return false };
        let ask = Ask { path: &path, capability, sudo: false, parameters: None, wrap_ttl: None };
        matches!(self.decide(&ask), Decision::Allow { .. })
    }

    /// The capabilities granted on `path`, or only `deny` if there are none.
    pub(in crate::core) fn capabilities(&self, path: &Path) -> Vec<&'static str> {
        let mut verbs = self.acl.capabilities(path);
        if let Some(ceiling) = &self.ceiling {
            let most = ceiling.capabilities(path);
            verbs.retain(|verb| most.contains(verb));
        }
        if verbs.is_empty() { vec!["deny"] } else { verbs }
    }

    /// Whether anything is granted on `prefix` or below.
    pub(in crate::core) fn any_under(&self, prefix: &Path) -> bool {
        self.acl.any_under(prefix) && self.ceiling.as_ref().is_none_or(|ceiling| ceiling.any_under(prefix))
    }
}
