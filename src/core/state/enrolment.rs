//! Records of the enrolment strings.
//!
//! A record is in built-in mount 11 under the token id in hexadecimal. It does not contain the string's secret, only the
//! proof key derived from it. [`super::strings`] finds the records.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::api::identities::EnrollmentInfo;
use crate::api::time::rfc3339_nano;
use crate::auth::cidr::Cidr;
use crate::barrier::{MountId, Tx, View};
use crate::core::error::VaultError;
use crate::pki::AuthorityId;

/// How long used or expired strings are kept, in milliseconds, so that an attempt to use them again is noticed.
pub(in crate::core) const KEEP_MS: u64 = 7 * 86_400_000;
/// Largest number of strings on record.
pub(in crate::core) const MAX_STRINGS: usize = 100_000;

/// On-disk form, in JSON.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub(in crate::core) struct EnrollRecord {
    /// Format, 1.
    pub v: u8,
    /// Path of the identity.
    pub identity: String,
    /// Proof key, base64.
    pub key: String,
    pub created_ms: u64,
    pub created_by: String,
    pub expires_ms: u64,
    pub uses: u32,
    /// Networks that may use it; empty means any.
    pub cidrs: Vec<String>,
    /// Lifetime of its certificates in seconds; 0 means the identity's default.
    pub certificate_life_s: u64,
    pub used: Vec<Use>,
    /// Addresses of the vault that the string names.
    pub addresses: Vec<String>,
    /// Id of the authority whose key the string names, in hexadecimal. The string works only while that authority
    /// signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

/// State of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) enum StringStatus {
    /// It can enrol at least one more key.
    Open,
    /// All its uses are spent.
    Used,
    /// It has expired.
    Expired,
    /// A host with this string would not trust the listener, because a different authority signs now.
    Void,
}

impl StringStatus {
    /// The name of the state in lists.
    pub(in crate::core) fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Used => "used",
            Self::Expired => "expired",
            Self::Void => "void",
        }
    }
}

impl EnrollRecord {
    /// Its state while `active` signs.
    pub(in crate::core) fn state(&self, active: Option<AuthorityId>, now_ms: u64) -> StringStatus {
        if self.is_used_up() {
            StringStatus::Used
        } else if self.expires_ms <= now_ms {
            StringStatus::Expired
        } else if self.authority.is_some() && self.authority != active.map(|id| id.hex()) {
            StringStatus::Void
        } else {
            StringStatus::Open
        }
    }

    /// What lists show about it while `active` signs.
    pub(in crate::core) fn info(&self, active: Option<AuthorityId>, now_ms: u64) -> EnrollmentInfo {
        EnrollmentInfo {
            identity: self.identity.clone(),
            created: rfc3339_nano(self.created_ms),
            created_by: self.created_by.clone(),
            expires: rfc3339_nano(self.expires_ms),
            uses: self.uses,
            used: self.used.len(),
            cidr: self.cidrs.clone(),
            state: self.state(active, now_ms).as_str().to_owned(),
        }
    }

    /// Whether a host at `address` may use it. An older version may have stored a text that is not a valid network
    /// today, or an IPv4 network written as IPv6. Neither admits anybody, so a string never admits more than before.
    pub(in crate::core) fn admits(&self, address: IpAddr) -> bool {
        let covers = |text: &String| {
            Cidr::parse(text).is_ok_and(|network| network.is_ipv4() != text.contains(':') && network.contains(address))
        };
        self.cidrs.is_empty() || self.cidrs.iter().any(covers)
    }

    /// Whether it cannot enrol another key.
    pub(in crate::core) fn is_used_up(&self) -> bool {
        self.used.len() >= usize::try_from(self.uses).unwrap_or(usize::MAX)
    }
}

/// One use of a string.
#[derive(Clone, Serialize, Deserialize, Zeroize)]
#[serde(deny_unknown_fields)]
pub(in crate::core) struct Use {
    pub at_ms: u64,
    /// SHA-256 of the public key, hexadecimal.
    pub key: String,
    /// Fingerprint of the certificate, hexadecimal.
    pub certificate: String,
}

/// Reads the record of a string.
///
/// # Errors
/// [`VaultError::Integrity`] when it cannot be parsed.
pub(in crate::core) fn read(view: &View<'_>, id: &str) -> Result<Option<EnrollRecord>, VaultError> {
    let Some(entry) = view.entry(id)? else { return Ok(None) };
    let record: EnrollRecord = serde_json::from_slice(entry.value.reveal()).map_err(|_| VaultError::Integrity)?;
    if record.v == 1 { Ok(Some(record)) } else { Err(VaultError::Integrity) }
}

/// Writes the record of a string.
///
/// # Errors
/// The errors of the barrier when a record cannot be read or written.
pub(in crate::core) fn put(tx: &mut Tx<'_>, id: &str, record: &EnrollRecord) -> Result<(), VaultError> {
    let bytes = Zeroizing::new(serde_json::to_vec(record).map_err(|_| VaultError::Internal)?);
    tx.put_entry(MountId::ENROLMENTS, id, &bytes, 0)?;
    Ok(())
}
