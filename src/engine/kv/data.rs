//! `data/`, `subkeys/`, `delete/`, `undelete/` and `destroy/`: the versions of a secret.

use zeroize::Zeroizing;

use crate::api::json::{self, Limits, Object};
use crate::api::path::Path;
use crate::api::reply::{Reply, ReplyStatus, none_match};
use crate::barrier::{MountId, Node, SecretMeta, Tx, VersionMeta, View};
use crate::engine::{EngineError, Request};

use super::config::Config;
use super::fields::{Field, bad, field, integer, versions};
use super::reply::{self, Render};

/// Longest secret: the JSON text of its `data` object, in bytes.
const MAX_SECRET: usize = 1 << 20;

const CAS_MISSING: &str = "check-and-set parameter required for this call";
const CAS_MISMATCH: &str = "check-and-set parameter did not match the current version";

/// A version that is there, as far as its secret's description goes.
struct Found {
    node: Node,
    meta: SecretMeta,
    version: VersionMeta,
}

/// What is gone is described but has no content.
fn is_gone(version: &VersionMeta, now_ms: u64) -> bool {
    version.destroyed || (version.deleted_ms != 0 && version.deleted_ms <= now_ms)
}

/// The version that a request names; 0 is the newest.
fn asked_version(body: &Object<'_>) -> Result<u64, EngineError> {
    Ok(match field(body, "version", integer)? {
        Field::Value(number) => u64::try_from(number).unwrap_or(0),
        Field::Absent | Field::Null => 0,
    })
}

fn find(view: &View<'_>, path: &Path, body: &Object<'_>) -> Result<Found, EngineError> {
    let asked = asked_version(body)?;
    let node = view.node(path.as_str())?.ok_or(EngineError::NotFound)?;
    let meta = node.meta.clone().ok_or(EngineError::NotFound)?;
    let number = if asked == 0 { meta.current } else { asked };
    let version = meta.versions.iter().find(|version| version.version == number).cloned();
    Ok(Found { node, version: version.ok_or(EngineError::NotFound)?, meta })
}

pub(super) fn read(view: &View<'_>, path: &Path, request: &Request, now_ms: u64) -> Result<Reply, EngineError> {
    let body = request.body.object()?;
    // The tag is made from the index: a caller who has it already costs no record. It is taken before anything is read,
    // so it can only be older than the answer, never newer.
    let tag = view.tag(path.as_str(), asked_version(&body)?);
    let field = request.if_none_match.as_deref().map(str::trim);
    if let (Some(tag), Some(field)) = (&tag, field)
        && none_match(field, tag)
    {
        return Ok(Reply::not_modified(tag.clone()));
    }
    let found = find(view, path, &body)?;
    if is_gone(&found.version, now_ms) {
        return Ok(reply::content("data", None, &found.version, &found.meta));
    }
    // What ends by itself at some time has no tag: nothing would be written when it ends.
    let tag = tag.filter(|_| found.version.deleted_ms == 0);
    if let (Some(tag), Some("*")) = (&tag, field) {
        return Ok(Reply::not_modified(tag.clone()));
    }
    let value = view.value(path.as_str(), &found.node, found.version.version)?.ok_or(EngineError::NotFound)?;
    Ok(Reply { etag: tag, ..reply::content("data", Some(value.reveal()), &found.version, &found.meta) })
}

/// The names inside a secret, without what they hold.
pub(super) fn subkeys(view: &View<'_>, path: &Path, request: &Request, now_ms: u64) -> Result<Reply, EngineError> {
    let body = request.body.object()?;
    let depth = match field(&body, "depth", integer)? {
        Field::Value(depth) => match usize::try_from(depth) {
            Ok(depth) => depth,
            Err(_) => return bad("depth must not be negative"),
        },
        Field::Absent | Field::Null => 0,
    };
    let found = find(view, path, &body)?;
    if is_gone(&found.version, now_ms) {
        return Ok(reply::content("subkeys", None, &found.version, &found.meta));
    }
    let value = view.value(path.as_str(), &found.node, found.version.version)?.ok_or(EngineError::NotFound)?;
    // Replacing a one-byte value by `null` makes it three longer; a field has at least five bytes.
    let mut names = Render::with_capacity(value.reveal().len() * 2);
    skeleton(value.reveal(), if depth == 0 { usize::MAX } else { depth }, &mut names);
    Ok(reply::content("subkeys", Some(&names.finish()), &found.version, &found.meta))
}

/// Writes `text` with everything that is not an object replaced by null. Its depth was bounded when it was stored.
fn skeleton(text: &[u8], depth: usize, out: &mut Render) {
    let Some(deeper) = depth.checked_sub(1) else {
        out.text("null");
        return;
    };
    let Ok(object) = Object::parse(text) else {
        out.text("null");
        return;
    };
    out.text("{");
    for (index, (name, raw)) in object.entries().enumerate() {
        out.text(if index == 0 { "" } else { "," }).string(name).text(":");
        skeleton(raw.get().as_bytes(), deeper, out);
    }
    out.text("}");
}

/// The secret's new fields, as they were written.
fn payload<'a>(body: &Object<'a>) -> Result<&'a [u8], EngineError> {
    let Some(raw) = body.get("data").filter(|raw| raw.get() != "null") else {
        return bad("no data provided");
    };
    if !raw.get().starts_with('{') {
        return bad("data must be an object");
    }
    Ok(raw.get().as_bytes())
}

/// The version that a write expects to be the newest.
fn cas(body: &Object<'_>) -> Result<Field<i64>, EngineError> {
    match body.get("options").filter(|raw| raw.get() != "null") {
        None => Ok(Field::Absent),
        Some(raw) => match Object::parse(raw.get().as_bytes()) {
            Ok(options) => field(&options, "cas", integer),
            Err(_) => bad("options must be an object"),
        },
    }
}

fn check_cas(cas: &Field<i64>, config: &Config, meta: &SecretMeta) -> Result<(), EngineError> {
    match *cas {
        Field::Value(cas) if u64::try_from(cas) == Ok(meta.current) => Ok(()),
        Field::Value(_) => bad(CAS_MISMATCH),
        _ if config.cas_required(meta) => bad(CAS_MISSING),
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
    let body = request.body.object()?;
    let data = payload(&body)?;
    let config = Config::load(&tx.view(mount))?;
    let meta = tx.secret(mount, path.as_str())?.and_then(|node| node.meta).unwrap_or_default();
    check_cas(&cas(&body)?, &config, &meta)?;
    add_version(tx, mount, path, &config, meta, data, now_ms)
}

pub(super) fn patch(
    tx: &mut Tx<'_>,
    mount: MountId,
    path: &Path,
    request: &Request,
    now_ms: u64,
) -> Result<Reply, EngineError> {
    let body = request.body.object()?;
    let patch = payload(&body)?;
    // A wrong body is named whether or not there is something that it could change.
    let cas = cas(&body)?;
    let config = Config::load(&tx.view(mount))?;
    let node = tx.secret(mount, path.as_str())?.ok_or(EngineError::NotFound)?;
    let meta = node.meta.clone().ok_or(EngineError::NotFound)?;
    let current = meta.versions.iter().find(|version| version.version == meta.current);
    let current = current.ok_or(EngineError::NotFound)?;
    check_cas(&cas, &config, &meta)?;
    if is_gone(current, now_ms) {
        let data = reply::version(current, &meta);
        return Ok(Reply { status: ReplyStatus::NotFoundWithBody, ..Reply::data(data) });
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
    Ok(Reply::data(answer))
}

/// `DELETE data/`: the current version counts as deleted from now on.
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
    let numbers = versions(&request.body.object()?)?;
    change(tx, mount, path, now_ms, |version, _| numbers.contains(&version.version) && delete(version, now_ms))
}

fn delete(version: &mut VersionMeta, now_ms: u64) -> bool {
    if is_gone(version, now_ms) {
        return false;
    }
    version.deleted_ms = now_ms;
    true
}

/// `POST undelete/`: an expiry that the settings demand starts anew.
pub(super) fn undelete(
    tx: &mut Tx<'_>,
    mount: MountId,
    path: &Path,
    request: &Request,
    now_ms: u64,
) -> Result<Reply, EngineError> {
    let numbers = versions(&request.body.object()?)?;
    let config = Config::load(&tx.view(mount))?;
    change(tx, mount, path, now_ms, |version, meta| {
        let concerned = numbers.contains(&version.version) && !version.destroyed;
        if concerned {
            version.deleted_ms = config.expiry(meta, now_ms);
        }
        concerned
    })
}

/// `POST destroy/`: the content goes with this commit, the description stays.
pub(super) fn destroy(
    tx: &mut Tx<'_>,
    mount: MountId,
    path: &Path,
    request: &Request,
    now_ms: u64,
) -> Result<Reply, EngineError> {
    let numbers = versions(&request.body.object()?)?;
    change(tx, mount, path, now_ms, |version, _| {
        let concerned = numbers.contains(&version.version) && !version.destroyed;
        version.destroyed |= concerned;
        concerned
    })
}

/// Runs `edit` over the versions of a secret and writes it when one of them changed. No secret is no work.
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
