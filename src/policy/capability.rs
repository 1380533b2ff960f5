//! The verbs of the policy language.

/// What a rule can grant. `deny` is a state of the rule, not a verb.
///
/// ```
/// use strongroom::policy::Capability;
///
/// let words: Vec<_> = Capability::ALL.iter().map(|verb| verb.as_str()).collect();
/// assert_eq!(words, ["create", "delete", "list", "patch", "read", "sudo", "update"]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// Write a new item.
    Create,
    /// Read.
    Read,
    /// Write an existing item, and every `POST` of an engine without an existence check.
    Update,
    /// Merge into an existing item.
    Patch,
    /// Delete.
    Delete,
    /// List the names of a folder.
    List,
    /// Use a root-protected path. Required in addition to the verb.
    Sudo,
}

impl Capability {
    /// Every verb, sorted by name.
    pub const ALL: [Self; 7] =
        [Self::Create, Self::Delete, Self::List, Self::Patch, Self::Read, Self::Sudo, Self::Update];

    /// The word in the policy language.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::List => "list",
            Self::Sudo => "sudo",
        }
    }

    pub(super) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|capability| capability.as_str() == word)
    }
}

/// A set of verbs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Grants(u8);

impl Grants {
    pub(super) const NONE: Self = Self(0);

    pub(super) fn of(capabilities: &[Capability]) -> Self {
        capabilities.iter().fold(Self::NONE, |set, one| set.with(*one))
    }

    pub(super) fn with(self, capability: Capability) -> Self {
        Self(self.0 | 1 << capability as u8)
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn has(self, capability: Capability) -> bool {
        self.0 & 1 << capability as u8 != 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
}
