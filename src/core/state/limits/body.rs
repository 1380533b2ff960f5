//! Reads quotas from the fields of a request: Vault's fields, and some of our own.

use crate::api::fields::Fields;
use crate::api::json::Value;
use crate::api::path::Path;
use crate::limits::{Class, Defaults, Identities, Paths, Per, Quota, QuotaError, Rate, milli};

use super::Stored;
use crate::core::error::VaultError;
use crate::core::state::mount::MountTable;

/// The only type of quota.
pub(super) const TYPE: &str = "rate-limit";

/// Fields of the quota `default`: rate and burst of each class.
const OF_DEFAULT: [(Class, &str, &str); 4] = [
    (Class::Read, "read", "read_burst"),
    (Class::Write, "write", "write_burst"),
    (Class::List, "list", "list_burst"),
    (Class::Bytes, "bytes", "bytes_burst"),
];

/// Every field of that object.
pub(in crate::core) const FIELDS_OF_DEFAULT: [&str; 10] =
    ["name", "type", "read", "read_burst", "write", "write_burst", "list", "list_burst", "bytes", "bytes_burst"];

/// Every field of the other objects.
pub(in crate::core) const FIELDS: [&str; 12] = [
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

/// Rejects a quota whose name or type differs from its path.
fn check_name(fields: Fields<'_>, name: &str) -> Result<(), VaultError> {
    let (named, kind) = (fields.text("name")?, fields.text("type")?);
    if named.is_some_and(|named| named != name) || kind.is_some_and(|kind| kind != TYPE) {
        return Err(VaultError::BadRequest("'name' and 'type' cannot differ from those of the path".to_owned()));
    }
    Ok(())
}

/// The quota `default` from [`FIELDS_OF_DEFAULT`]. Absent fields get their defaults.
///
/// # Errors
/// [`VaultError::BadRequest`] for a malformed field or a value outside its range.
pub(in crate::core) fn defaults(fields: Fields<'_>) -> Result<Defaults, VaultError> {
    check_name(fields, super::DEFAULT)?;
    let mut defaults = Defaults::default();
    for (class, rate, burst) in OF_DEFAULT {
        defaults.set(class, fields.number(rate)?, fields.number(burst)?)?;
    }
    Ok(defaults)
}

/// The quota `name` from [`FIELDS`]. Absent fields get their defaults, as in Vault.
///
/// # Errors
/// [`VaultError::BadRequest`] for a malformed field or a value outside its range.
pub(in crate::core) fn quota(fields: Fields<'_>, name: &str, mounts: &MountTable) -> Result<Stored, VaultError> {
    check_name(fields, name)?;
    if fields.text("role")?.is_some_and(|role| !role.is_empty()) {
        return Err(VaultError::BadRequest("'role' is not supported: name the identities instead".to_owned()));
    }
    let paths = paths(&fields.text("path")?.unwrap_or_default(), mounts)?;
    let inheritable = fields.flag("inheritable")?.unwrap_or(paths == Paths::Any);
    if inheritable && paths != Paths::Any {
        return Err(VaultError::BadRequest("only a quota without 'path' can be inheritable".to_owned()));
    }
    let rate = fields.value("rate").map(Value::raw).map(|raw| raw.trim_matches('"')).and_then(milli);
    let rate = rate.ok_or(QuotaError::Rate)?;
    let seconds = |name, wrong: QuotaError| fields.seconds(name).map(Option::unwrap_or_default).map_err(|_| wrong);
    let interval = seconds("interval", QuotaError::Interval)?;
    let block = seconds("block_interval", QuotaError::Block)?;
    // Clients send zero for a field that was not set.
    let (interval, burst) = (interval.max(1), fields.number("burst")?.filter(|burst| *burst > 0));
    let class = fields.word("class", Class::parse, "read, write, list, bytes or all")?.unwrap_or(Class::All);
    let per = fields.word("per", Per::parse, "identity or all")?.unwrap_or(Per::Identity);
    let identities = Identities::parse(&fields.text("identity")?.unwrap_or_else(|| "*".to_owned()))?;
    let rate = Rate::checked(rate, interval, block, burst)?;
    Ok(Stored { quota: Quota { name: name.to_owned(), identities, paths, class, per, rate }, inheritable })
}

/// A mount without its slash means everything below it, as in Vault. A path outside all mounts is an error.
fn paths(text: &str, mounts: &MountTable) -> Result<Paths, VaultError> {
    let paths = Paths::parse(text)?;
    let (Paths::Prefix(stem) | Paths::One(stem)) = &paths else { return Ok(paths) };
    let path = Path::parse(stem).map_err(|_| QuotaError::Path)?;
    let first = path.segments().next().unwrap_or_default();
    let whole = match mounts.route(&path.to_folder()) {
        Some((_, rest)) => rest.is_root(),
        None if matches!(first, "sys" | "auth") => path.segments().count() == 1,
        None => return Err(VaultError::BadRequest(format!("invalid mount path \"{stem}\""))),
    };
    Ok(if whole { Paths::Prefix(path.to_folder().as_str().to_owned()) } else { paths })
}
