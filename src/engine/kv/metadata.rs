//! `metadata/`: what is known of a secret besides its content, and the names in a folder.

use zeroize::Zeroizing;

use crate::api::duration::Ttl;
use crate::api::json::Object;
use crate::api::path::Path;
use crate::api::reply::Reply;
use crate::api::time::rfc3339_nano;
use crate::barrier::{MountId, SecretMeta, Tx, View};
use crate::engine::{EngineError, Page, Request};

use super::config::{Config, max_versions};
use super::fields::{Field, bad, boolean, check_labels, field, labels, span};
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

/// The names directly below a folder, sorted, or a page of them. A name that is a secret and a folder comes twice.
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

/// `POST metadata/`: sets what is named; labels are replaced as a whole.
pub(super) fn write(
    tx: &mut Tx<'_>,
    mount: MountId,
    path: &Path,
    request: &Request,
    now_ms: u64,
) -> Result<Reply, EngineError> {
    let body = request.body.object()?;
    let mut meta = tx.secret(mount, path.as_str())?.and_then(|node| node.meta).unwrap_or_default();
    let mut named = plain_fields(&body, &mut meta, false)?;
    if let Field::Value(new) = field(&body, "custom_metadata", labels)? {
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
    let overridden = config.forces_cas() && !meta.cas_required && body.get("cas_required").is_some();
    tx.put_secret(mount, path.as_str(), meta, None, now_ms)?;
    if !overridden {
        return Ok(Reply::none());
    }
    let warning = "cas_required is false here but true for the mount, so it stays required".to_owned();
    Ok(Reply { warnings: vec![warning], ..Reply::data(Zeroizing::new(b"null".to_vec())) })
}

/// `PATCH metadata/`: as a write, but null resets and labels are merged.
pub(super) fn patch(
    tx: &mut Tx<'_>,
    mount: MountId,
    path: &Path,
    request: &Request,
    now_ms: u64,
) -> Result<Reply, EngineError> {
    let body = request.body.object()?;
    let changes = field(&body, "custom_metadata", labels)?;
    // A wrong body is named whether or not there is something that it could change.
    plain_fields(&body, &mut SecretMeta::default(), true)?;
    if let Field::Value(changes) = &changes {
        let set = changes.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
        check_labels(&set.collect())?;
    }
    let node = tx.secret(mount, path.as_str())?.ok_or(EngineError::NotFound)?;
    let mut meta = node.meta.ok_or(EngineError::NotFound)?;
    let mut named = plain_fields(&body, &mut meta, true)?;
    match changes {
        Field::Absent => {}
        Field::Null => {
            meta.custom.clear();
            named = true;
        }
        Field::Value(changes) => {
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

/// Takes over the fields that are single values; tells whether there were any.
fn plain_fields(body: &Object<'_>, meta: &mut SecretMeta, null_resets: bool) -> Result<bool, EngineError> {
    let mut named = false;
    let mut set = |present: bool| named |= present;
    set(take(&mut meta.max_versions, field(body, "max_versions", max_versions)?, null_resets));
    set(take(&mut meta.cas_required, field(body, "cas_required", boolean)?, null_resets));
    let after = field(body, "delete_version_after", |raw, name| match span(raw, name)? {
        Some(span) => Ok(span.as_ms()),
        None => bad(format!("{name} must not be negative")),
    })?;
    set(take(&mut meta.delete_after_ms, after, null_resets));
    Ok(named)
}

fn take<T: Default>(place: &mut T, field: Field<T>, null_resets: bool) -> bool {
    match field {
        Field::Value(value) => *place = value,
        Field::Null if null_resets => *place = T::default(),
        Field::Null | Field::Absent => return false,
    }
    true
}

/// `DELETE metadata/`: the secret with all its versions.
pub(super) fn remove(tx: &mut Tx<'_>, mount: MountId, path: &Path) -> Result<Reply, EngineError> {
    tx.remove_secret(mount, path.as_str())?;
    Ok(Reply::none())
}
