//! `metadata/`: everything about a secret except its content, and the names in a folder.

use zeroize::Zeroizing;

use crate::api::duration::Ttl;
use crate::api::fields::{FieldError, Fields};
use crate::api::page::Page;
use crate::api::path::Path;
use crate::api::reply::Reply;
use crate::api::time::rfc3339_nano;
use crate::barrier::{MountId, SecretMeta, Tx, View};
use crate::engine::{EngineError, Request};

use super::config::{Config, max_versions};
use super::fields::{bad, check_labels, labels};
use super::reply::{Render, labels_room};

pub(super) fn read(view: &View<'_>, path: &Path) -> Result<Reply, EngineError> {
    let node = view.node(path.as_str())?.ok_or(EngineError::NotFound)?;
    let meta = node.meta.as_ref().ok_or(EngineError::NotFound)?;
    let mut out = Render::with_capacity(512 + meta.versions.len() * 160 + labels_room(meta));
    out.text("{\"versions\":{");
    for (index, version) in meta.versions.iter().enumerate() {
        out.text(if index == 0 { "\"" } else { ",\"" }).number(version.version).text("\":{").state(version).text("}");
    }
    out.text("},\"current_version\":").number(meta.current);
    out.text(",\"oldest_version\":").number(meta.oldest);
    out.text(",\"created_time\":").string(&rfc3339_nano(node.created_ms));
    out.text(",\"updated_time\":").string(&rfc3339_nano(node.updated_ms));
    out.text(",\"max_versions\":").number(meta.max_versions.into());
    out.text(",\"cas_required\":").boolean(meta.cas_required);
    out.text(",\"delete_version_after\":").string(&Ttl(meta.delete_after_ms / 1_000).go_text());
    out.text(",\"custom_metadata\":").labels(&meta.custom).text("}");
    Ok(Reply::data(out.finish()))
}

/// The names directly below a folder, sorted, or a page of them. A name that is both a secret and a folder appears
/// twice.
pub(super) fn list(view: &View<'_>, folder: &Path, page: &Page) -> Result<Reply, EngineError> {
    let mut names = Vec::new();
    for child in view.children(folder.leaf_str())? {
        if child.is_folder {
            names.push(format!("{}/", child.name));
        }
        if child.has_secret {
            names.push(child.name);
        }
    }
    names.sort_unstable();
    let names = page.cut(&names);
    let mut out = Render::with_capacity(16 + names.iter().map(|name| name.len() + 3).sum::<usize>());
    out.text("{\"keys\":[");
    for (index, name) in names.iter().enumerate() {
        out.text(if index == 0 { "" } else { "," }).string(name);
    }
    out.text("]}");
    Ok(Reply { lists_keys: true, ..Reply::data(out.finish()) })
}

/// `POST metadata/`: sets the given fields. Labels are replaced as a whole.
pub(super) fn write(
    tx: &mut Tx<'_>,
    mount: MountId,
    path: &Path,
    request: &Request,
    now_ms: u64,
) -> Result<Reply, EngineError> {
    let fields = request.body.fields();
    let mut meta = tx.secret(mount, path.as_str())?.and_then(|node| node.meta).unwrap_or_default();
    let mut named = plain_fields(fields, &mut meta, false)?;
    if let Some(new) = labels(fields)? {
        meta.custom = new
            .into_iter()
            .map(|(key, value)| value.map(|value| (key, value)))
            .collect::<Option<_>>()
            .map_or_else(|| bad("custom_metadata validation failed: values must be strings"), Ok)?;
        named = true;
    }
    if !named {
        return Ok(Reply::none());
    }
    check_labels(&meta.custom)?;
    let config = Config::load(&tx.view(mount))?;
    let overridden = config.forces_cas() && !meta.cas_required && request.body.object().get("cas_required").is_some();
    tx.put_secret(mount, path.as_str(), meta, None, now_ms)?;
    if !overridden {
        return Ok(Reply::none());
    }
    let warning = "cas_required is false here but true for the mount, so it stays required".to_owned();
    Ok(Reply { warnings: vec![warning], ..Reply::data(Zeroizing::new(b"null".to_vec())) })
}

/// `PATCH metadata/`: like a write, but null resets a field and labels are merged.
pub(super) fn patch(
    tx: &mut Tx<'_>,
    mount: MountId,
    path: &Path,
    request: &Request,
    now_ms: u64,
) -> Result<Reply, EngineError> {
    let fields = request.body.fields();
    let changes = labels(fields)?;
    // Errors in the body are reported whether or not there is something to change.
    plain_fields(fields, &mut SecretMeta::default(), true)?;
    if let Some(changes) = &changes {
        let set = changes.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
        check_labels(&set.collect())?;
    }
    let node = tx.secret(mount, path.as_str())?.ok_or(EngineError::NotFound)?;
    let mut meta = node.meta.ok_or(EngineError::NotFound)?;
    let mut named = plain_fields(fields, &mut meta, true)?;
    match changes {
        None if fields.is_null("custom_metadata") => {
            meta.custom.clear();
            named = true;
        }
        None => {}
        Some(changes) => {
            for (key, value) in changes {
                match value {
                    Some(value) => meta.custom.insert(key, value),
                    None => meta.custom.remove(&key),
                };
            }
            named = true;
        }
    }
    if named {
        check_labels(&meta.custom)?;
        tx.put_secret(mount, path.as_str(), meta, None, now_ms)?;
    }
    Ok(Reply::none())
}

/// Takes over the fields with single values. Returns whether there were any.
fn plain_fields(fields: Fields<'_>, meta: &mut SecretMeta, null_resets: bool) -> Result<bool, FieldError> {
    let after = match fields.span("delete_version_after")? {
        Some(None) => return Err(FieldError::Negative("delete_version_after")),
        Some(Some(span)) => Some(span.as_ms()),
        None => None,
    };
    let resets = |name: &str| null_resets && fields.is_null(name);
    let named = [
        take(&mut meta.max_versions, max_versions(fields)?, resets("max_versions")),
        take(&mut meta.cas_required, fields.flag("cas_required")?, resets("cas_required")),
        take(&mut meta.delete_after_ms, after, resets("delete_version_after")),
    ];
    Ok(named.contains(&true))
}

fn take<T: Default>(place: &mut T, given: Option<T>, resets: bool) -> bool {
    match given {
        Some(value) => *place = value,
        None if resets => *place = T::default(),
        None => return false,
    }
    true
}

/// `DELETE metadata/`: removes the secret with all its versions.
pub(super) fn remove(tx: &mut Tx<'_>, mount: MountId, path: &Path) -> Result<Reply, EngineError> {
    tx.remove_secret(mount, path.as_str())?;
    Ok(Reply::none())
}
