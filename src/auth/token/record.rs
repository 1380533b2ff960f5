//! The stored record of a token.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::cidr::Cidr;
use super::TokenError;

/// Version of the on-disk form.
pub(super) const VERSION: u8 = 1;

/// A token as stored, in JSON. Times are Unix milliseconds, durations seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRecord {
    /// Version of this form: 1.
    pub(super) v: u8,
    /// Handle for lookups and revocation.
    pub accessor: String,
    /// The only identity that may use the token, as a SPIFFE URI.
    pub identity: String,
    /// The only certificate that may use it, SHA-256 of the DER in 64 hexadecimal digits; `None` allows any of the
    /// identity.
    pub certificate: Option<String>,
    /// Name for people.
    pub display_name: String,
    /// Path that created it, such as `auth/cert/login`.
    pub path: String,
    /// All policies, including `default` where it applies. Sorted.
    pub policies: Vec<String>,
    /// Whether `default` was left out.
    pub no_default: bool,
    /// When it was created.
    pub created_ms: u64,
    /// When it was last renewed; 0 means never.
    pub renewed_ms: u64,
    /// When it expires. Every token expires.
    pub expires_ms: u64,
    /// Its original life.
    pub ttl_s: u64,
    /// Maximum life with renewals; 0 means the server's.
    pub max_ttl_s: u64,
    /// Maximum life that also limits a periodic token; 0 means none.
    pub explicit_max_s: u64,
    /// Life after each renewal; 0 means not periodic.
    pub period_s: u64,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// Number of requests left; `None` means unlimited.
    pub uses_left: Option<u32>,
    /// Networks that it may be used from; empty means any.
    pub bound_cidrs: Vec<Cidr>,
    /// Accessor of its parent, with which it is revoked; `None` means an orphan.
    pub parent: Option<String>,
    /// Metadata.
    pub meta: BTreeMap<String, String>,
    /// The role of `auth/cert` that created it.
    pub role: Option<String>,
}

impl TokenRecord {
    /// Reads the stored form.
    ///
    /// # Errors
    /// [`TokenError::Record`] when the record is damaged or of a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self, TokenError> {
        let record: Self = serde_json::from_slice(bytes).map_err(|_| TokenError::Record)?;
        if record.v == VERSION { Ok(record) } else { Err(TokenError::Record) }
    }

    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers are always JSON")
    }

    /// Whether it survives the revocation of every other token.
    #[must_use]
    pub fn is_orphan(&self) -> bool {
        self.parent.is_none()
    }

    /// The latest time known from the record, Unix milliseconds.
    #[must_use]
    pub fn seen_ms(&self) -> u64 {
        self.created_ms.max(self.renewed_ms)
    }
}
