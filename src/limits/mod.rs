//! Limits on what one identity may request in a period: token buckets, the quotas that set them, and the accounts that
//! are charged.
//!
//! Pure: the time is an argument, and nothing is read or written. `core` stores the quotas and compiles them into one
//! [`Table`] per state of the vault. It charges one account of [`Accounts`] per request.

mod accounts;
mod bucket;
mod quota;
mod table;

#[cfg(test)]
pub use accounts::MAX_ACCOUNTS;
pub use accounts::{Accounts, Bill, Over, Who};
pub use bucket::Rate;
pub use quota::{Defaults, Identities, MAX_QUOTAS, Paths, Per, Quota, QuotaError, milli, milli_text};
pub use table::Table;

/// The kind of request that is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Requests that read one item.
    Read,
    /// Requests that change something.
    Write,
    /// Requests that list names.
    List,
    /// Bytes in answers.
    Bytes,
    /// All requests, counted together.
    All,
}

impl Class {
    /// The classes that have a default limit. Every array by class has this order.
    pub const BASIC: [Self; 4] = [Self::Read, Self::Write, Self::List, Self::Bytes];

    /// The name used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::List => "list",
            Self::Bytes => "bytes",
            Self::All => "all",
        }
    }

    /// Parses that name.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Read, Self::Write, Self::List, Self::Bytes, Self::All].into_iter().find(|class| class.as_str() == word)
    }

    /// Whether a limit for `self` applies to the basic class `other`. Bytes are not requests, so `all` does not cover
    /// them.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self == other || (self == Self::All && other != Self::Bytes)
    }

    /// Index in [`Class::BASIC`]; one past the end for [`Class::All`].
    #[must_use]
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::List => 2,
            Self::Bytes => 3,
            Self::All => 4,
        }
    }
}
