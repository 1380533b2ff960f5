//! How quotas are shown: Vault's fields, and some of our own.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::limits::{Defaults, Per, milli_text};

use super::body::TYPE;
use super::{DEFAULT, Stored};
use crate::core::error::VaultError;

/// One quota.
#[derive(Serialize)]
pub(in crate::core) struct QuotaShown<'a> {
    name: &'a str,
    r#type: &'static str,
    path: String,
    rate: Box<RawValue>,
    interval: u64,
    block_interval: u64,
    inheritable: bool,
    role: &'static str,
    identity: String,
    class: &'static str,
    per: &'static str,
    burst: u64,
}

impl<'a> QuotaShown<'a> {
    /// Shows a quota.
    ///
    /// # Errors
    /// [`VaultError::Internal`] when the rate cannot be written as a number.
    pub(in crate::core) fn of(stored: &'a Stored) -> Result<Self, VaultError> {
        let Stored { quota, inheritable } = stored;
        // A number with the digits that were sent.
        let rate = RawValue::from_string(milli_text(quota.rate.milli)).map_err(|_| VaultError::Internal)?;
        Ok(Self {
            name: &quota.name,
            r#type: TYPE,
            path: quota.paths.text(),
            rate,
            interval: quota.rate.interval_ms / 1_000,
            block_interval: quota.rate.block_ms / 1_000,
            inheritable: *inheritable,
            role: "",
            identity: quota.identities.text(),
            class: quota.class.as_str(),
            per: quota.per.as_str(),
            burst: quota.rate.burst,
        })
    }
}

/// The quota `default`, stored or not.
#[derive(Serialize)]
pub(in crate::core) struct DefaultShown {
    name: &'static str,
    r#type: &'static str,
    path: &'static str,
    identity: &'static str,
    per: &'static str,
    interval: u64,
    stored: bool,
    read: u64,
    read_burst: u64,
    write: u64,
    write_burst: u64,
    list: u64,
    list_burst: u64,
    bytes: u64,
    bytes_burst: u64,
}

impl DefaultShown {
    /// Shows the stored limits, or the built-in ones.
    pub(in crate::core) fn of(stored: Option<Defaults>) -> Self {
        let defaults = stored.unwrap_or_default();
        let ([read, write, list, bytes], [read_burst, write_burst, list_burst, bytes_burst]) =
            (defaults.rates, defaults.bursts);
        Self {
            name: DEFAULT,
            r#type: TYPE,
            path: "",
            identity: "*",
            per: Per::Identity.as_str(),
            interval: 1,
            stored: stored.is_some(),
            read,
            read_burst,
            write,
            write_burst,
            list,
            list_burst,
            bytes,
            bytes_burst,
        }
    }
}
