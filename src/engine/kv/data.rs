//! `data/`, `subkeys/`, `delete/`, `undelete/` and `destroy/`: the versions of a secret.

use zeroize::Zeroizing;

use crate::api::fields::{FieldError, Fields};
use crate::api::json::{self, Limits, Object, Parsed};
use crate::api::path::Path;
use crate::api::reply::{Reply, ReplyStatus, none_match};
use crate::barrier::{MountId, Node, SecretMeta, Tx, VersionMeta, View};
use crate::engine::{EngineError, Request};

use super::config::Config;
use super::fields::{bad, versions};
use super::reply::{self, Render};

/// Longest secret: the JSON text of its `data` object, in bytes.
const MAX_SECRET: usize = 1 << 20;

const CAS_MISSING: &str = "check-and-set parameter required for this call";
const CAS_MISMATCH: &str = "check-and-set parameter did not match the current version";

/// A version that exists according to the metadata of its secret.
struct Found {
    node: Node,
    meta: SecretMeta,
    version: VersionMeta,
}

/// A version that is gone has metadata but no content.
fn is_gone(version: &VersionMeta, now_ms: u64) -> bool {
    version.destroyed || (version.deleted_ms != 0 && version.deleted_ms <= now_ms)
}

/// The version that a request names; 0 means the newest.
fn asked_version(fields: Fields<'_>) -> Result<u64, FieldError> {
    Ok(fields.integer("version")?.and_then(|number| u64::try_from(number).ok()).unwrap_or(0))
}

fn find(view: &View<'_>, path: &Path, fields: Fields<'_>) -> Result<Found, EngineError> {
    let asked = asked_version(fields)?;
    let node = view.node(path.as_str())?.ok_or(EngineError::NotFound)?;
    let meta = node.meta.clone().ok_or(EngineError::NotFound)?;
    let number = if asked == 0 { meta.current } else { asked };
    let version = meta.versions.iter().find(|version| version.version == number).cloned();
    Ok(Found { node, version: version.ok_or(EngineError::NotFound)?, meta })
}

pub(super) fn read(view: &View<'_>, path: &Path, request: &Request, now_ms: u64) -> Result<Reply, EngineError> {
    let fields = request.body.fields();
    // The tag comes from the index, so a caller who already has the version costs no record. It is taken before
    // anything is read, so it may be older than the answer but never newer.
    let tag = view.tag(path.as_str(), asked_version(fields)?);
    let field = request.if_none_match.as_deref().map(str::trim);
    if let (Some(tag), Some(field)) = (&tag, field)
        && none_match(field, tag)
    {
        return Ok(Reply::not_modified(tag.clone()));
    }
    let found = find(view, path, fields)?;
    if is_gone(&found.version, now_ms) {
        return Ok(reply::gone("data", &found.version, &found.meta));
    }
    // A version that expires by itself has no tag, because nothing is written when it expires.
    let tag = tag.filter(|_| found.version.deleted_ms == 0);
    if let (Some(tag), Some("*")) = (&tag, field) {
        return Ok(Reply::not_modified(tag.clone()));
    }
    let value = view.value(path.as_str(), &found.node, found.version.version)?.ok_or(EngineError::NotFound)?;
    Ok(Reply { etag: tag, ..reply::secret(value.reveal(), &found.version, &found.meta) })
}

/// The names in a secret, without their values.
pub(super) fn subkeys(view: &View<'_>, path: &Path, request: &Request, now_ms: u64) -> Result<Reply, EngineError> {
    let fields = request.body.fields();
    let depth = fields.integer("depth")?.unwrap_or(0);
    let depth = usize::try_from(depth).map_err(|_| FieldError::Negative("depth"))?;
    let found = find(view, path, fields)?;
    if is_gone(&found.version, now_ms) {
        return Ok(reply::gone("subkeys", &found.version, &found.meta));
    }
    let value = view.value(path.as_str(), &found.node, found.version.version)?.ok_or(EngineError::NotFound)?;
    // Replacing a one-byte value by `null` adds three bytes, and a field has at least five.
    let mut names = Render::with_capacity(value.reveal().len() * 2);
    let secret = Parsed::of(value.reveal()).ok();
    skeleton(secret.as_ref().map(Parsed::object), if depth == 0 { usize::MAX } else { depth }, &mut names);
    Ok(reply::names(&names.finish(), &found.version, &found.meta))
}

/// Writes an object with everything that is not an object replaced by null. Its depth was bounded when it was stored.
fn skeleton(object: Option<Object<'_>>, depth: usize, out: &mut Render) {
    let (Some(object), Some(deeper)) = (object, depth.checked_sub(1)) else {
        out.text("null");
        return;
    };
    out.text("{");
    for (index, (name, value)) in object.entries().enumerate() {
        out.text(if index == 0 { "" } else { "," }).string(name).text(":");
        skeleton(value.object(), deeper, out);
    }
    out.text("}");
}

/// The new fields of the secret, as they were sent.
fn payload(fields: Fields<'_>) -> Result<&[u8], EngineError> {
    let Some(data) = fields.value("data") else { return bad("no data provided") };
    match data.object() {
        Some(_) => Ok(data.raw().as_bytes()),
        None => Err(FieldError::Must("data", "an object").into()),
    }
}

/// The version that a write expects to be the newest.
fn cas(fields: Fields<'_>) -> Result<Option<i64>, FieldError> {
    match fields.object("options")? {
        Some(options) => Fields::any(options).integer("cas"),
        None => Ok(None),
    }
}

fn check_cas(cas: Option<i64>, config: &Config, meta: &SecretMeta) -> Result<(), EngineError> {
    match cas {
        Some(cas) if u64::try_from(cas) == Ok(meta.current) => Ok(()),
        Some(_) => Err(EngineError::CheckAndSet(CAS_MISMATCH)),
        _ if config.cas_required(meta) => Err(EngineError::CheckAndSet(CAS_MISSING)),
        _ => Ok(()),
    }
}

pub(super) fn write(
    tx: &mut Tx<'_>,
    mount: MountId,
    path: &Path,
    request: &Request,
    now_ms: u64,
) -> Result<Reply, EngineError> {
    let fields = request.body.fields();
    let data = payload(fields)?;
    let config = Config::load(&tx.view(mount))?;
    let meta = tx.secret(mount, path.as_str())?.and_then(|node| node.meta).unwrap_or_default();
    check_cas(cas(fields)?, &config, &meta)?;
    add_version(tx, mount, path, &config, meta, data, now_ms)
}

pub(super) fn patch(
    tx: &mut Tx<'_>,
    mount: MountId,
    path: &Path,
    request: &Request,
    now_ms: u64,
) -> Result<Reply, EngineError> {
    let fields = request.body.fields();
    let patch = payload(fields)?;
    // Errors in the body are reported whether or not there is something to change.
    let cas = cas(fields)?;
    let config = Config::load(&tx.view(mount))?;
    let node = tx.secret(mount, path.as_str())?.ok_or(EngineError::NotFound)?;
    let meta = node.meta.clone().ok_or(EngineError::NotFound)?;
    let current = meta.versions.iter().find(|version| version.version == meta.current);
    let current = current.ok_or(EngineError::NotFound)?;
    check_cas(cas, &config, &meta)?;
    if is_gone(current, now_ms) {
        return Ok(Reply { status: ReplyStatus::NotFoundWithBody, ..reply::version(current, &meta) });
    }
    let old = tx.view(mount).value(path.as_str(), &node, meta.current)?.ok_or(EngineError::NotFound)?;
    let merged: Zeroizing<Vec<u8>> = json::merge_patch(old.reveal(), patch)
        .map_err(|error| EngineError::BadRequest(format!("the patch cannot be applied: {}", error.code)))?;
    // Two texts within the limits can exceed them together.
    if let Err(error) = json::check(&merged, &Limits { max_bytes: usize::MAX, ..Limits::default() }) {
        return bad(format!("the patched secret is over a limit: {}", error.code));
    }
    add_version(tx, mount, path, &config, meta, &merged, now_ms)
}

fn add_version(
    tx: &mut Tx<'_>,
    mount: MountId,
    path: &Path,
    config: &Config,
    mut meta: SecretMeta,
    data: &[u8],
    now_ms: u64,
) -> Result<Reply, EngineError> {
    if data.len() > MAX_SECRET {
        return bad("the secret is larger than 1 MiB");
    }
    // Format v1 numbers versions up to 2^32.
    let Some(number) = meta.current.checked_add(1).filter(|number| *number <= 1 << 32) else {
        return bad("the secret has no version numbers left");
    };
    let version =
        VersionMeta { version: number, created_ms: now_ms, deleted_ms: config.expiry(&meta, now_ms), destroyed: false };
    let answer = reply::version(&version, &meta);
    meta.current = number;
    meta.versions.push(version);
    let oldest = (number + 1).saturating_sub(config.kept(&meta));
    if oldest > 1 {
        meta.versions.retain(|version| version.version >= oldest);
        meta.oldest = meta.versions.first().map_or(number, |version| version.version);
    }
    tx.put_secret(mount, path.as_str(), meta, Some((number, data)), now_ms)?;
    Ok(answer)
}

/// `DELETE data/`: the newest version counts as deleted from now on.
pub(super) fn delete_latest(tx: &mut Tx<'_>, mount: MountId, path: &Path, now_ms: u64) -> Result<Reply, EngineError> {
    change(tx, mount, path, now_ms, |version, meta| version.version == meta.current && delete(version, now_ms))
}

/// `POST delete/`.
pub(super) fn delete_versions(
    tx: &mut Tx<'_>,
    mount: MountId,
    path: &Path,
    request: &Request,
    now_ms: u64,
) -> Result<Reply, EngineError> {
    let numbers = versions(request.body.fields())?;
    change(tx, mount, path, now_ms, |version, _| numbers.contains(&version.version) && delete(version, now_ms))
}

fn delete(version: &mut VersionMeta, now_ms: u64) -> bool {
    if is_gone(version, now_ms) {
        return false;
    }
    version.deleted_ms = now_ms;
    true
}

/// `POST undelete/`: an expiry from the settings starts again.
pub(super) fn undelete(
    tx: &mut Tx<'_>,
    mount: MountId,
    path: &Path,
    request: &Request,
    now_ms: u64,
) -> Result<Reply, EngineError> {
    let numbers = versions(request.body.fields())?;
    let config = Config::load(&tx.view(mount))?;
    change(tx, mount, path, now_ms, |version, meta| {
        let concerned = numbers.contains(&version.version) && !version.destroyed;
        if concerned {
            version.deleted_ms = config.expiry(meta, now_ms);
        }
        concerned
    })
}

/// `POST destroy/`: this commit removes the content. The metadata stays.
pub(super) fn destroy(
    tx: &mut Tx<'_>,
    mount: MountId,
    path: &Path,
    request: &Request,
    now_ms: u64,
) -> Result<Reply, EngineError> {
    let numbers = versions(request.body.fields())?;
    change(tx, mount, path, now_ms, |version, _| {
        let concerned = numbers.contains(&version.version) && !version.destroyed;
        version.destroyed |= concerned;
        concerned
    })
}

/// Runs `edit` on the versions of a secret and writes it if one of them changed. Does nothing if there is no secret.
fn change(
    tx: &mut Tx<'_>,
    mount: MountId,
    path: &Path,
    now_ms: u64,
    mut edit: impl FnMut(&mut VersionMeta, &SecretMeta) -> bool,
) -> Result<Reply, EngineError> {
    let Some(mut meta) = tx.secret(mount, path.as_str())?.and_then(|node| node.meta) else {
        return Ok(Reply::none());
    };
    let mut versions = std::mem::take(&mut meta.versions);
    let mut changed = false;
    for version in &mut versions {
        changed |= edit(version, &meta);
    }
    meta.versions = versions;
    if changed {
        tx.put_secret(mount, path.as_str(), meta, None, now_ms)?;
    }
    Ok(Reply::none())
}
