//! The rules for approvals in the configuration.

use std::collections::BTreeSet;

use crate::api::spiffe::SpiffeId;

use crate::core::caller::IdentityPattern;
use crate::core::state::identity::OUTSIDE;

/// A class of operations that several operators may have to approve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Guarded {
    /// Deletes content of secrets for good: destroyed versions, removed secrets, and limits that remove versions.
    Destroy,
    /// Invalidates certificates of an authority at once: `ca/compromise`, `ca/<id>/revoke`, every forced step, and
    /// `rekey` with a compromised slot.
    CaCompromise,
    /// Removes a way to open the vault: `slots/remove`, `slots/change` when it confirms a new share set, and `rekey`.
    SlotRemove,
    /// Changes who is an administrator or approver or what they may do, or issues a certificate in their name.
    AdminPolicy,
    /// Exports the keys with which all values in the audit log are hashed.
    Export,
}

impl Guarded {
    /// Every class.
    pub const ALL: [Self; 5] = [Self::Destroy, Self::CaCompromise, Self::SlotRemove, Self::AdminPolicy, Self::Export];

    /// Its name in the configuration and in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Destroy => "destroy",
            Self::CaCompromise => "ca-compromise",
            Self::SlotRemove => "slot-remove",
            Self::AdminPolicy => "admin-policy",
            Self::Export => "export",
        }
    }

    /// Parses that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == text)
    }
}

/// Which operations need approval, by how many operators, and who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalRules {
    required: usize,
    approvers: Vec<IdentityPattern>,
    operations: BTreeSet<Guarded>,
    ttl_ms: u64,
}

impl ApprovalRules {
    /// `required` of the operators that match `approvers`, including the requester, must approve within `ttl_s`
    /// seconds.
    ///
    /// # Errors
    /// The name of the field and what is wrong with it: `required` is not 2 to 8; `approvers` is empty; `operations`
    /// lacks [`Guarded::AdminPolicy`], without which one operator could create a second one and approve in its name;
    /// `ttl` is not a minute to a week.
    pub fn new(
        required: usize,
        approvers: Vec<IdentityPattern>,
        operations: BTreeSet<Guarded>,
        ttl_s: u64,
    ) -> Result<Self, (&'static str, &'static str)> {
        if !(2..=8).contains(&required) {
            return Err(("required", "must be between 2 and 8"));
        }
        if approvers.is_empty() {
            return Err(("approvers", "must name who may approve, for example operator/*"));
        }
        if !operations.contains(&Guarded::AdminPolicy) {
            return Err((
                "operations",
                "must include \"admin-policy\": without it one operator can create a second one and approve in its name",
            ));
        }
        if !(60..=7 * 86_400).contains(&ttl_s) {
            return Err(("ttl", "must be between one minute and seven days"));
        }
        Ok(Self { required, approvers, operations, ttl_ms: ttl_s.saturating_mul(1_000) })
    }

    /// Number of operators who must approve.
    #[must_use]
    pub fn required(&self) -> usize {
        self.required
    }

    /// How long a request waits, in milliseconds.
    pub(in crate::core) fn ttl_ms(&self) -> u64 {
        self.ttl_ms
    }

    /// Whether operations of this class are guarded.
    pub(in crate::core) fn guards(&self, class: Guarded) -> bool {
        self.operations.contains(&class)
    }

    /// Whether an identity of this name may approve, if its policies allow it. Certificates of outside PKIs may not,
    /// because one person can have many.
    pub(in crate::core) fn names(&self, identity: &SpiffeId) -> bool {
        !identity.path().starts_with(OUTSIDE) && self.approvers.iter().any(|pattern| pattern.matches(identity))
    }

    /// As [`ApprovalRules::names`], for a path in a trust domain.
    pub(in crate::core) fn names_path(&self, trust_domain: &str, path: &str) -> bool {
        SpiffeId::new(trust_domain, path).is_ok_and(|identity| self.names(&identity))
    }
}
