//! A caller as the policy sees it: by its certificate, and by the token that it shows besides.

use std::sync::Arc;

use crate::api::path::Path;
use crate::policy::{Acl, Ask, Capability, Decision};

use crate::core::state::mount::MountTable;
use crate::core::state::tokens::Held;

/// Who asks, in terms of rights.
pub(in crate::core) struct Subject {
    /// Names of the policies that it is decided by, `default` included.
    pub policies: Arc<[String]>,
    /// Their union, compiled.
    acl: Arc<Acl>,
    /// With a token: what the certificate alone may do. The token gives nothing beyond it, even where a policy that
    /// denies is not among its own.
    ceiling: Option<Arc<Acl>>,
    /// Whether it is an admitted identity or role at all.
    pub known: bool,
    /// The token that it shows.
    pub token: Option<Held>,
    /// Why the token that it shows is worth nothing: then nothing is answered, whatever the certificate may do.
    pub refused: Option<&'static str>,
}

impl Subject {
    /// Somebody with these policies; `acl` is their union.
    pub(in crate::core) fn new(policies: Vec<String>, acl: Acl) -> Self {
        let (policies, acl) = (Arc::from(policies), Arc::new(acl));
        Self { policies, acl, ceiling: None, known: true, token: None, refused: None }
    }

    /// Somebody without any right.
    pub(in crate::core) fn stranger() -> Self {
        Self { known: false, ..Self::new(Vec::new(), Acl::merge([])) }
    }

    /// Somebody with a token that is not theirs, or none any more.
    pub(in crate::core) fn refused(why: &'static str) -> Self {
        Self { refused: Some(why), ..Self::stranger() }
    }

    /// The same caller with a token; `narrow` are the policies that they have in common.
    pub(in crate::core) fn with_token(&self, narrow: &Self, token: Held) -> Self {
        Self {
            policies: Arc::clone(&narrow.policies),
            acl: Arc::clone(&narrow.acl),
            ceiling: Some(Arc::clone(&self.acl)),
            known: self.known,
            token: Some(token),
            refused: None,
        }
    }

    /// Decides one question.
    pub(in crate::core) fn decide(&self, ask: &Ask<'_>) -> Decision {
        match self.ceiling.as_ref().map(|ceiling| ceiling.decide(ask)) {
            Some(Decision::Deny { reason }) => Decision::Deny { reason },
            _ => self.acl.decide(ask),
        }
    }

    /// Whether `capability` on the data of the secret with this full path is granted. What is done with a secret in
    /// another way than by reading or writing it needs that, too, or it would be a way around.
    pub(in crate::core) fn may(&self, mounts: &MountTable, full: &str, capability: Capability) -> bool {
        let Ok(path) = Path::parse(full) else { return false };
        // Where nothing is mounted the path itself is asked for: only those who might see it learn that there is nothing.
        let data = match mounts.route(&path) {
            Some((mount, relative)) => format!("{}data/{}", mount.path, relative.as_str()),
            None => full.to_owned(),
        };
        let Ok(path) = Path::parse(&data) else { return false };
        let ask = Ask { path: &path, capability, sudo: false, parameters: None, wrap_ttl: None };
        matches!(self.decide(&ask), Decision::Allow { .. })
    }

    /// The verbs granted on `path`; `deny` alone when there are none.
    pub(in crate::core) fn capabilities(&self, path: &Path) -> Vec<&'static str> {
        let mut verbs = self.acl.capabilities(path);
        if let Some(ceiling) = &self.ceiling {
            let most = ceiling.capabilities(path);
            verbs.retain(|verb| most.contains(verb));
        }
        if verbs.is_empty() { vec!["deny"] } else { verbs }
    }

    /// Whether something is granted on `prefix` or below.
    pub(in crate::core) fn any_under(&self, prefix: &Path) -> bool {
        self.acl.any_under(prefix) && self.ceiling.as_ref().is_none_or(|ceiling| ceiling.any_under(prefix))
    }
}
