//! Limits on requests: the stored quotas, and the step of the pipeline that charges an identity's account.
//!
//! Rejections are audited at most once per second, identity and class. So a flood costs one line per second, not one per
//! request. The audit log is durable and hashed: a caller that could make it grow at will could fill the disk and stop
//! the vault. A rejected request has not touched the store. The number of requests without a line is in the next line
//! and in `sys/metrics`.

pub(in crate::core) mod body;
pub(in crate::core) mod view;

use serde::{Deserialize, Serialize};

use crate::api::path::Path;
use crate::api::reply::Reply;
use crate::api::request::Operation;
use crate::barrier::{MountId, Tx, View};
use crate::limits::{
    Accounts, Bill, Class, Defaults, Identities, MAX_QUOTAS, Over, Paths, Per, Quota, Rate, Table, Who,
};

use crate::core::caller::Caller;
use crate::core::error::VaultError;

/// Name of the quota that changes the default limits.
pub(in crate::core) const DEFAULT: &str = "default";

/// On-disk form of one quota, in JSON. Unknown fields are an error.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    /// Layout of this record: 1.
    format: u8,
    /// `*`, `app/*`, `app/web`.
    identity: String,
    /// As in the API.
    path: String,
    class: String,
    per: String,
    /// Thousandths of a token per interval.
    milli: u64,
    interval_ms: u64,
    burst: u64,
    block_ms: u64,
    /// Kept for clients. There are no namespaces that could inherit it.
    inheritable: bool,
}

/// On-disk form of the quota `default`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DefaultRecord {
    /// Layout of this record: 1.
    format: u8,
    defaults: Defaults,
}

/// One quota with the fields that only clients use.
pub(in crate::core) struct Stored {
    pub quota: Quota,
    pub inheritable: bool,
}

impl Stored {
    /// The stored form.
    ///
    /// # Errors
    /// [`VaultError::Internal`] when it cannot be serialised.
    fn bytes(&self) -> Result<Vec<u8>, VaultError> {
        let Quota { identities, paths, class, per, rate, .. } = &self.quota;
        let record = Record {
            format: 1,
            identity: identities.text(),
            path: paths.text(),
            class: class.as_str().to_owned(),
            per: per.as_str().to_owned(),
            milli: rate.milli,
            interval_ms: rate.interval_ms,
            burst: rate.burst,
            block_ms: rate.block_ms,
            inheritable: self.inheritable,
        };
        serde_json::to_vec(&record).map_err(|_| VaultError::Internal)
    }
}

/// Writes a quota, replacing one of the same name.
///
/// # Errors
/// [`VaultError::BadRequest`] when another quota has the same key, or there are too many; the errors of the barrier.
pub(in crate::core) fn put(tx: &mut Tx<'_>, stored: &Stored) -> Result<(), VaultError> {
    let quota = &stored.quota;
    let others = all(&tx.view(MountId::LIMITS))?;
    let mut others = others.iter().filter(|other| other.name != quota.name);
    if let Some(twin) = others.clone().find(|other| other.key() == quota.key()) {
        let name = &twin.name;
        let text = format!("quota rule with similar properties exists under the name \"{name}\"");
        return Err(VaultError::BadRequest(text));
    }
    if others.nth(MAX_QUOTAS - 1).is_some() {
        return Err(VaultError::BadRequest(format!(
            "there are already {MAX_QUOTAS} quotas, the maximum: delete one first"
        )));
    }
    tx.put_entry(MountId::LIMITS, &quota.name, &stored.bytes()?, 0)?;
    Ok(())
}

/// Writes the quota `default`.
///
/// # Errors
/// The errors of the barrier when a record cannot be read or written.
pub(in crate::core) fn put_default(tx: &mut Tx<'_>, defaults: Defaults) -> Result<(), VaultError> {
    let bytes = serde_json::to_vec(&DefaultRecord { format: 1, defaults }).map_err(|_| VaultError::Internal)?;
    tx.put_entry(MountId::LIMITS, DEFAULT, &bytes, 0)?;
    Ok(())
}

/// Reads one quota.
///
/// # Errors
/// [`VaultError::Integrity`] when it cannot be parsed: an unknown limit must not count as none.
pub(in crate::core) fn read(view: &View<'_>, name: &str) -> Result<Option<Stored>, VaultError> {
    let Some(entry) = view.entry(name)? else { return Ok(None) };
    let stored = || {
        let record: Record = serde_json::from_slice(entry.value.reveal()).ok()?;
        let quota = Quota {
            name: name.to_owned(),
            identities: Identities::parse(&record.identity).ok()?,
            paths: Paths::parse(&record.path).ok()?,
            class: Class::parse(&record.class)?,
            per: Per::parse(&record.per)?,
            rate: Rate {
                milli: record.milli,
                interval_ms: record.interval_ms,
                burst: record.burst,
                block_ms: record.block_ms,
            },
        };
        (record.format == 1).then_some(Stored { quota, inheritable: record.inheritable })
    };
    stored().map(Some).ok_or(VaultError::Integrity)
}

/// Reads the quota `default`.
///
/// # Errors
/// As [`read`].
pub(in crate::core) fn read_default(view: &View<'_>) -> Result<Option<Defaults>, VaultError> {
    let Some(entry) = view.entry(DEFAULT)? else { return Ok(None) };
    let record: DefaultRecord = serde_json::from_slice(entry.value.reveal()).map_err(|_| VaultError::Integrity)?;
    if record.format == 1 { Ok(Some(record.defaults)) } else { Err(VaultError::Integrity) }
}

/// Reads all quotas except `default`.
///
/// # Errors
/// As [`read`].
pub(in crate::core) fn all(view: &View<'_>) -> Result<Vec<Quota>, VaultError> {
    let names = view.entries()?;
    let names = names.iter().filter(|name| *name != DEFAULT);
    names.map(|name| read(view, name)?.map(|stored| stored.quota).ok_or(VaultError::Integrity)).collect()
}

/// Reads and compiles everything.
///
/// # Errors
/// As [`read`].
pub(in crate::core) fn table(view: &View<'_>, previous: &Table) -> Result<Table, VaultError> {
    let defaults = read_default(view)?.unwrap_or_default();
    Ok(Table::compile(all(view)?, &defaults, previous))
}

/// A request before it is decided.
pub(in crate::core) struct Asked<'a> {
    pub caller: &'a Caller,
    /// Whether the certificate is admitted.
    pub admitted: bool,
    pub operation: Operation,
    pub path: &'a Path,
    pub now_ms: u64,
}

/// A request over its limit.
pub(in crate::core) struct Refused {
    /// Rule for the audit log; `None` when this second already has its line.
    pub rule: Option<String>,
    /// The error for the caller.
    pub outcome: VaultError,
}

/// Charges a request. The returned bill charges the size of the reply.
///
/// # Errors
/// [`Refused`] when the request is over a limit.
pub(in crate::core) fn admit(accounts: &Accounts, table: &Table, asked: &Asked<'_>) -> Result<Option<Bill>, Refused> {
    let identity = &asked.caller.identity;
    let who = match asked.admitted {
        true => Who::Admitted { uri: identity.uri(), path: identity.path() },
        false => Who::Refused(&asked.caller.fingerprint),
    };
    let class = match asked.operation {
        Operation::Read => Class::Read,
        Operation::List => Class::List,
        Operation::Write | Operation::Patch | Operation::Delete => Class::Write,
    };
    let path = asked.path.as_str();
    let compares = asked.operation == Operation::Read && path == MARK;
    let outcome = if leads_out(path) {
        accounts.admit_reserved(table, who, class, asked.now_ms).map(|()| None)
    } else if compares && accounts.admits_comparison(table, who, asked.now_ms) {
        Ok(None)
    } else {
        accounts.admit(table, who, class, path, asked.now_ms).map(Some)
    };
    outcome.map_err(|Over { class, wait_ms, line }| Refused {
        rule: line.map(|(quota, unwritten)| match unwritten {
            0 => format!("quota {quota} ({})", class.as_str()),
            more => format!("quota {quota} ({}); {more} more rejected since the last line", class.as_str()),
        }),
        outcome: VaultError::RateLimited { path: path.to_owned(), retry_after_s: wait_ms.div_ceil(1_000) },
    })
}

/// A client asks this before it changes anything, also before it corrects a wrong limit. So it has an allowance of its
/// own.
pub(in crate::core) const MARK: &str = "sys/strongroom/mark";

/// Whether no quota limits this path. Through these paths an operator can correct a wrong limit, or stop the vault.
fn leads_out(path: &str) -> bool {
    path == "sys/seal" || path.starts_with("sys/quotas/")
}

/// Charges the size of a reply, if there is one, and the records that were read for it.
pub(in crate::core) fn settle(bill: Option<Bill>, reply: Option<&Reply>) {
    if let Some(bill) = bill {
        let bytes = reply.and_then(|reply| reply.data.as_ref()).map_or(0, |data| data.len());
        bill.settle(u64::try_from(bytes).unwrap_or(u64::MAX));
    }
}
