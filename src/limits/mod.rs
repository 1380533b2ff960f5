//! Limits of what one identity may ask for in a while: token buckets, the objects that set them, and the accounts that
//! are charged.
//!
//! Pure: time comes as an argument, nothing is read or written. `core` stores the objects, compiles them into one
//! [`Table`] per state of the vault and charges one account of [`Accounts`] per request.

mod accounts;
mod bucket;
mod quota;
mod table;

pub use accounts::{Accounts, Bill, Counts, MAX_ACCOUNTS, Over, RECORDS_OF_A_LIST, Totals, Who};
pub use bucket::{Bucket, Rate};
pub use quota::{Defaults, Identities, MAX_QUOTAS, Paths, Per, Quota, QuotaError, milli, milli_text};
pub use table::{Rule, Table};

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Requests that read one thing.
    Read,
    /// Requests that change something.
    Write,
    /// Requests that list names.
    List,
    /// Bytes of answers.
    Bytes,
    /// Requests of every kind, counted together.
    All,
}

impl Class {
    /// The classes that a default exists for; in this order wherever there is an array of them.
    pub const BASIC: [Self; 4] = [Self::Read, Self::Write, Self::List, Self::Bytes];

    /// The word on the wire.
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

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Read, Self::Write, Self::List, Self::Bytes, Self::All].into_iter().find(|class| class.as_str() == word)
    }

    /// Whether a limit for `self` limits what is of the basic class `other`. Bytes are no requests: `all` leaves them.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self == other || (self == Self::All && other != Self::Bytes)
    }

    /// Place in [`Class::BASIC`]; the one after the last for [`Class::All`].
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
