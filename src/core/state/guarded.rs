//! What the configuration says of approvals.

use std::collections::BTreeSet;

use crate::api::spiffe::SpiffeId;

use crate::core::caller::IdentityPattern;
use crate::core::state::identity::OUTSIDE;

/// A class of operations that several operators can be asked to agree to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Guarded {
    /// Content of secrets goes away for good: destroyed versions, removed secrets, and limits that remove versions.
    Destroy,
    /// Certificates of an authority stop counting at once: `ca/compromise`, `ca/<id>/revoke`, every forced step, and
    /// `rekey` with a compromised slot.
    CaCompromise,
    /// A way to open the vault goes away: `slots/remove` and `rekey`.
    SlotRemove,
    /// What administrators and approvers are and may do changes, or somebody gets a certificate in their name.
    AdminPolicy,
    /// The keys that all values in the audit trail are hashed with.
    Export,
}

impl Guarded {
    /// Every class.
    pub const ALL: [Self; 5] = [Self::Destroy, Self::CaCompromise, Self::SlotRemove, Self::AdminPolicy, Self::Export];

    /// Its name in the configuration and on the wire.
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

    /// The class of that name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == text)
    }
}

/// Which operations need how many operators, and who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalRules {
    required: usize,
    approvers: Vec<IdentityPattern>,
    operations: BTreeSet<Guarded>,
    ttl_ms: u64,
}

impl ApprovalRules {
    /// `required` operators, whoever asked among them, of those that match `approvers`, must agree within `ttl_s` seconds.
    ///
    /// # Errors
    /// The name of the field and what is wrong with it: `required` is not 2 to 8; `approvers` is empty; `operations` lacks
    /// [`Guarded::AdminPolicy`], without which one operator could make a second one and approve in its name; `ttl` is not
    /// a minute to a week.
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

    /// How many must agree.
    #[must_use]
    pub fn required(&self) -> usize {
        self.required
    }

    /// How long a request waits, milliseconds.
    pub(in crate::core) fn ttl_ms(&self) -> u64 {
        self.ttl_ms
    }

    /// Whether operations of this class are guarded.
    pub(in crate::core) fn guards(&self, class: Guarded) -> bool {
        self.operations.contains(&class)
    }

    /// Whether an identity of this name may approve, if its policies allow it. Certificates of outside PKIs may not: one
    /// person can have many.
    pub(in crate::core) fn names(&self, identity: &SpiffeId) -> bool {
        !identity.path().starts_with(OUTSIDE) && self.approvers.iter().any(|pattern| pattern.matches(identity))
    }

    /// As [`ApprovalRules::names`], for a path in a trust domain.
    pub(in crate::core) fn names_path(&self, trust_domain: &str, path: &str) -> bool {
        SpiffeId::new(trust_domain, path).is_ok_and(|identity| self.names(&identity))
    }
}
