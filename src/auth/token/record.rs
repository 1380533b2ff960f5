//! What is stored of a token.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::cidr::Cidr;
use super::TokenError;

/// Version of the on-disk form.
pub(super) const VERSION: u8 = 1;

/// A token as stored, JSON. Times are Unix milliseconds, spans seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRecord {
    /// Version of this form: 1.
    pub(super) v: u8,
    /// Handle for lookups and revocation.
    pub accessor: String,
    /// The only identity that the token serves, as a SPIFFE URI.
    pub identity: String,
    /// The only certificate that it serves, SHA-256 of the DER in 64 hexadecimal digits; `None` is any of the identity.
    pub certificate: Option<String>,
    /// Name for people.
    pub display_name: String,
    /// Where it was made, such as `auth/cert/login`.
    pub path: String,
    /// All policies, `default` included where it counts; sorted.
    pub policies: Vec<String>,
    /// `default` was not wanted.
    pub no_default: bool,
    /// When it was made.
    pub created_ms: u64,
    /// When it was renewed last; 0 is never.
    pub renewed_ms: u64,
    /// When it ends. Every token ends.
    pub expires_ms: u64,
    /// Life that it was made with.
    pub ttl_s: u64,
    /// Longest life with renewals; 0 is the server's.
    pub max_ttl_s: u64,
    /// Longest life that not even a period exceeds; 0 is none.
    pub explicit_max_s: u64,
    /// Life after each renewal; 0 is "not periodic".
    pub period_s: u64,
    /// Whether it may be renewed.
    pub renewable: bool,
    /// Requests that are left; `None` is unlimited.
    pub uses_left: Option<u32>,
    /// Where it may be used from; empty is anywhere.
    pub bound_cidrs: Vec<Cidr>,
    /// Accessor of the token that it dies with; `None` is an orphan.
    pub parent: Option<String>,
    /// Texts that go with it.
    pub meta: BTreeMap<String, String>,
    /// The role of `auth/cert` that it came from.
    pub role: Option<String>,
}

impl TokenRecord {
    /// Reads the stored form.
    ///
    /// # Errors
    /// [`TokenError::Record`].
    pub fn decode(bytes: &[u8]) -> Result<Self, TokenError> {
        let record: Self = serde_json::from_slice(bytes).map_err(|_| TokenError::Record)?;
        if record.v == VERSION { Ok(record) } else { Err(TokenError::Record) }
    }

    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers are always JSON")
    }

    /// Whether no other token takes it along when it ends.
    #[must_use]
    pub fn is_orphan(&self) -> bool {
        self.parent.is_none()
    }

    /// The latest time that is known to have been, Unix milliseconds.
    #[must_use]
    pub fn seen_ms(&self) -> u64 {
        self.created_ms.max(self.renewed_ms)
    }
}
