//! `sys/quotas`: limits on requests, as objects. The fields are Vault's, and some of our own.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::api::fields::Fields;
use crate::api::json::Value;
use crate::api::path::Path;
use crate::api::reply::Reply;
use crate::barrier::{MountId, Tx};
use crate::limits::{Class, Defaults, Identities, MAX_QUOTAS, Paths, Per, Quota, QuotaError, Rate, milli, milli_text};

use super::{Change, Inquiry, data, keys_of};
use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::state::limits::{self, DEFAULT, Stored};
use crate::core::state::snapshot::{Snapshot, Touch};

const TYPE: &str = "rate-limit";

/// Fields of the quota `default`: rate and burst of each class.
const OF_DEFAULT: [(Class, &str, &str); 4] = [
    (Class::Read, "read", "read_burst"),
    (Class::Write, "write", "write_burst"),
    (Class::List, "list", "list_burst"),
    (Class::Bytes, "bytes", "bytes_burst"),
];

/// Every field of that object.
const FIELDS_OF_DEFAULT: [&str; 10] =
    ["name", "type", "read", "read_burst", "write", "write_burst", "list", "list_burst", "bytes", "bytes_burst"];

/// Every field of the other objects.
const FIELDS: [&str; 12] = [
    "name",
    "type",
    "path",
    "rate",
    "interval",
    "block_interval",
    "inheritable",
    "role",
    "identity",
    "class",
    "per",
    "burst",
];

#[derive(Serialize)]
struct Shown<'a> {
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

/// The quota `default`, stored or not.
#[derive(Serialize)]
struct ShownDefault {
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

#[derive(Serialize)]
struct Config {
    enable_rate_limit_audit_logging: bool,
    enable_rate_limit_response_headers: bool,
    rate_limit_exempt_paths: [&'static str; 5],
    reserved_paths: [&'static str; 2],
}

/// Settings that are the same for all quotas and cannot be changed.
pub(super) fn config(_: &Inquiry<'_>) -> Result<Reply, VaultError> {
    data(&Config {
        enable_rate_limit_audit_logging: true,
        enable_rate_limit_response_headers: false,
        rate_limit_exempt_paths: ["sys/health", "sys/init", "sys/leader", "sys/seal-status", "sys/unseal"],
        reserved_paths: ["sys/quotas/*", "sys/seal"],
    })
}

pub(super) fn list(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    keys_of(inquiry.body, &inquiry.view(MountId::LIMITS).entries()?)
}

pub(super) fn read(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let view = inquiry.live.barrier.view(MountId::LIMITS);
    if inquiry.tail == DEFAULT {
        let stored = limits::read_default(&view)?;
        return show_default(stored.unwrap_or_default(), stored.is_some());
    }
    let Stored { quota, inheritable } = limits::read(&view, &inquiry.tail)?.ok_or(VaultError::NotFound)?;
    let rate = RawValue::from_string(milli_text(quota.rate.milli)).map_err(|_| VaultError::Internal)?;
    data(&Shown {
        name: &quota.name,
        r#type: TYPE,
        path: quota.paths.text(),
        rate,
        interval: quota.rate.interval_ms / 1_000,
        block_interval: quota.rate.block_ms / 1_000,
        inheritable,
        role: "",
        identity: quota.identities.text(),
        class: quota.class.as_str(),
        per: quota.per.as_str(),
        burst: quota.rate.burst,
    })
}

fn show_default(defaults: Defaults, stored: bool) -> Result<Reply, VaultError> {
    let ([read, write, list, bytes], [read_burst, write_burst, list_burst, bytes_burst]) =
        (defaults.rates, defaults.bursts);
    data(&ShownDefault {
        name: DEFAULT,
        r#type: TYPE,
        path: "",
        identity: "*",
        per: Per::Identity.as_str(),
        interval: 1,
        stored,
        read,
        read_burst,
        write,
        write_burst,
        list,
        list_burst,
        bytes,
        bytes_burst,
    })
}

/// Creates or replaces a quota. Absent fields get their default values, as in Vault.
pub(super) fn write(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    Quota::check_name(&change.tail).map_err(bad)?;
    let of_default = change.tail == DEFAULT;
    let fields = change.body.only(if of_default { &FIELDS_OF_DEFAULT } else { &FIELDS })?;
    let (named, kind) = (fields.text("name")?, fields.text("type")?);
    if named.is_some_and(|name| name != change.tail) || kind.is_some_and(|kind| kind != TYPE) {
        return Err(VaultError::BadRequest("'name' and 'type' cannot differ from those of the path".to_owned()));
    }
    let bytes = if of_default {
        limits::default_bytes(defaults_in(fields)?)?
    } else {
        let stored = stored_in(fields, &change.tail, change.snapshot)?;
        let others = limits::all(&tx.view(MountId::LIMITS))?;
        let mut others = others.iter().filter(|other| other.name != change.tail);
        if let Some(twin) = others.clone().find(|other| other.key() == stored.quota.key()) {
            let name = &twin.name;
            let text = format!("quota rule with similar properties exists under the name \"{name}\"");
            return Err(VaultError::BadRequest(text));
        }
        if others.nth(MAX_QUOTAS - 1).is_some() {
            return Err(VaultError::BadRequest(format!("there are {MAX_QUOTAS} quotas already")));
        }
        stored.bytes()?
    };
    tx.put_entry(MountId::LIMITS, &change.tail, &bytes, 0)?;
    Ok(Done::touching(Reply::none(), vec![Touch::Limits]))
}

/// As in Vault, deleting something that does not exist is not an error. Without `default` the built-in limits apply.
pub(super) fn delete(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    tx.remove_entry(MountId::LIMITS, &change.tail)?;
    Ok(Done::touching(Reply::none(), vec![Touch::Limits]))
}

fn defaults_in(fields: Fields<'_>) -> Result<Defaults, VaultError> {
    let mut defaults = Defaults::default();
    for (class, rate, burst) in OF_DEFAULT {
        let (rate, burst) = (fields.number(rate)?, fields.number(burst)?);
        defaults.set(class, rate, burst).map_err(bad)?;
    }
    Ok(defaults)
}

fn stored_in(fields: Fields<'_>, name: &str, snapshot: &Snapshot) -> Result<Stored, VaultError> {
    if fields.text("role")?.is_some_and(|role| !role.is_empty()) {
        return Err(VaultError::BadRequest("'role' is not offered: name the identities instead".to_owned()));
    }
    let paths = paths_in(&fields.text("path")?.unwrap_or_default(), snapshot)?;
    let inheritable = fields.flag("inheritable")?.unwrap_or(paths == Paths::Any);
    if inheritable && paths != Paths::Any {
        return Err(VaultError::BadRequest("only a quota without 'path' can be inheritable".to_owned()));
    }
    let rate = fields.value("rate").map(Value::raw).map(|raw| raw.trim_matches('"')).and_then(milli);
    let rate = rate.ok_or(VaultError::BadRequest(QuotaError::Rate.to_string()))?;
    let seconds = |name, wrong| fields.seconds(name).map(Option::unwrap_or_default).map_err(|_| bad(wrong));
    let interval = seconds("interval", QuotaError::Interval)?;
    let block = seconds("block_interval", QuotaError::Block)?;
    // Clients send zero for a field that was not set.
    let (interval, burst) = (interval.max(1), fields.number("burst")?.filter(|burst| *burst > 0));
    let class = fields.word("class", Class::parse, "read, write, list, bytes or all")?.unwrap_or(Class::All);
    let per = fields.word("per", Per::parse, "identity or all")?.unwrap_or(Per::Identity);
    let identities = Identities::parse(&fields.text("identity")?.unwrap_or_else(|| "*".to_owned()));
    let quota = Quota {
        name: name.to_owned(),
        identities: identities.map_err(bad)?,
        paths,
        class,
        per,
        rate: Rate::checked(rate, interval, block, burst).map_err(bad)?,
    };
    Ok(Stored { quota, inheritable })
}

/// A mount without its slash means everything below it, as in Vault. A path below no mount is an error.
fn paths_in(text: &str, snapshot: &Snapshot) -> Result<Paths, VaultError> {
    let paths = Paths::parse(text).map_err(bad)?;
    let (Paths::Prefix(stem) | Paths::One(stem)) = &paths else { return Ok(paths) };
    let path = Path::parse(stem).map_err(|_| bad(QuotaError::Path))?;
    let first = path.segments().next().unwrap_or_default();
    let whole = match snapshot.mounts.route(&path.to_folder()) {
        Some((_, rest)) => rest.is_root(),
        None if matches!(first, "sys" | "auth") => path.segments().count() == 1,
        None => return Err(VaultError::BadRequest(format!("invalid mount path \"{stem}\""))),
    };
    Ok(if whole { Paths::Prefix(path.to_folder().as_str().to_owned()) } else { paths })
}

fn bad(error: QuotaError) -> VaultError {
    VaultError::BadRequest(error.to_string())
}
