//! Reads and writes the keys of one version of a secret, for rotations.

use std::sync::Arc;

use crate::api::json::{Limits, Parsed, write_str};
use crate::api::path::Path;
use crate::api::reply::ReplyStatus;
use crate::api::request::{Body, Operation};
use crate::api::secret::SecretText;
use crate::barrier::{Tx, View};
use crate::connect::Credential;
use crate::engine;
use crate::wiped::Buffer;

use super::record::ValueRow;
use crate::core::error::VaultError;
use crate::core::state::mount::Mount;
use crate::core::state::snapshot::Snapshot;

/// Splits a secret's full path into its mount and the path below it.
pub(super) fn place(snapshot: &Snapshot, full: &str) -> Result<(Arc<Mount>, Path), VaultError> {
    let unknown = || VaultError::BadRequest(format!("{full} is not a path of a mounted secrets engine"));
    let path = Path::parse(full).map_err(|_| unknown())?;
    let (mount, relative) = snapshot.mounts.route(&path).ok_or_else(unknown)?;
    Ok((Arc::clone(mount), relative))
}

/// Login and value of one version. Without a number, of the current one.
pub(super) fn credential(
    view: &View<'_>,
    relative: &Path,
    version: Option<u64>,
    row: &ValueRow,
) -> Result<Option<Credential>, VaultError> {
    let user = match &row.policy.user_key {
        Some(key) => field(view, relative, version, key)?.map(|text| text.reveal().to_owned()).unwrap_or_default(),
        None => String::new(),
    };
    Ok(field(view, relative, version, &row.key)?.map(|secret| Credential { user, secret }))
}

/// One key of one version of a secret. `None` when it does not exist or is not a text.
pub(super) fn field(
    view: &View<'_>,
    relative: &Path,
    version: Option<u64>,
    key: &str,
) -> Result<Option<SecretText>, VaultError> {
    let Some(node) = view.node(relative.as_str())? else { return Ok(None) };
    let Some(meta) = node.meta.as_ref() else { return Ok(None) };
    let number = version.unwrap_or(meta.current);
    if meta.versions.iter().any(|version| version.version == number && version.deleted_ms != 0) {
        return Ok(None);
    }
    let Some(value) = view.value(relative.as_str(), &node, number)? else { return Ok(None) };
    let secret = Parsed::of(value.reveal()).map_err(|_| VaultError::Integrity)?;
    Ok(secret.object().get(key).and_then(|value| serde_json::from_str(value.raw()).ok()))
}

/// Replaces some keys of a secret in a new version, based on the current one. Creates the secret if it does not exist.
/// Returns the numbers of the previous version (0 if none) and of the new one.
pub(super) fn write(
    tx: &mut Tx<'_>,
    mount: &Mount,
    relative: &Path,
    fields: &[(String, SecretText)],
    now_ms: u64,
) -> Result<(u64, u64), VaultError> {
    let node = tx.secret(mount.id, relative.as_str())?;
    let current = node.as_ref().and_then(|node| node.meta.as_ref()).map_or(0, |meta| meta.current);
    let mut body = Buffer::with_capacity(256);
    body.text(&format!("{{\"options\":{{\"cas\":{current}}},\"data\":{{"));
    for (at, (name, value)) in fields.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        write_str(&mut body, name);
        body.push(b':');
        write_str(&mut body, value.reveal());
    }
    body.text("}}");
    let operation = if current == 0 { Operation::Write } else { Operation::Patch };
    let path = Path::parse(&format!("data/{}", relative.as_str())).map_err(|_| VaultError::Internal)?;
    let body = Body::from_json(body.into_bytes(), &Limits::default()).map_err(|_| VaultError::Internal)?;
    let reply =
        mount.engine.write(tx, mount.id, &engine::Request { operation, path, body, if_none_match: None }, now_ms)?;
    if reply.status == ReplyStatus::NotFoundWithBody {
        return Err(VaultError::BadRequest(
            "the current version is deleted: undelete it or write a new one".to_owned(),
        ));
    }
    Ok((current, reply.version.ok_or(VaultError::Internal)?))
}
