//! `sys/mounts`, `sys/auth`, `sys/audit` and the preflight request that clients make before they use a secret.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::api::path::Path;
use crate::api::reply::Reply;
use crate::api::sys::Mount;

use super::{Inquiry, data};
use crate::core::error::VaultError;
use crate::core::state::mount::{self, MountRecord};

#[derive(Serialize)]
struct Visible<'a> {
    secret: BTreeMap<&'a str, Mount>,
    auth: BTreeMap<&'a str, Mount>,
}

#[derive(Serialize)]
struct Device<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    path: String,
    description: &'a str,
    options: BTreeMap<&'static str, String>,
    local: bool,
}

pub(super) fn table(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let system = MountRecord::built_in("system");
    let mounts = inquiry.snapshot.mounts.sorted();
    let mut all: BTreeMap<&str, Mount> =
        mounts.iter().map(|mount| (mount.path.as_str(), mount.record.shown(None))).collect();
    all.insert("sys/", system.shown(None));
    data(&all)
}

pub(super) fn one(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let path = Path::parse(&inquiry.tail).map_err(|_| VaultError::NotFound)?.to_folder();
    match find(inquiry, &path) {
        Some(mount) if mount.path == path => data(&mount.record.shown(None)),
        _ => Err(VaultError::BadRequest("cannot fetch sysview for path: no such mount".to_owned())),
    }
}

/// Mounts in which the caller may do anything at all.
pub(super) fn visible(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let mounts = inquiry.snapshot.mounts.sorted();
    let secret = mounts
        .iter()
        .filter(|mount| inquiry.subject.any_under(&mount.path))
        .map(|mount| (mount.path.as_str(), mount.record.shown(None)))
        .collect();
    data(&Visible { secret, auth: BTreeMap::new() })
}

/// Tells a client which mount a path belongs to. Never 404, which old clients take for "KV version 1". The reply is the
/// same for an unknown mount and for one without access.
pub(super) fn preflight(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let denial = || match inquiry.subject.barred {
        Some(why) => why.denial(),
        None => VaultError::Preflight(inquiry.tail.clone()),
    };
    let path = Path::parse(&inquiry.tail).map_err(|_| denial())?;
    let mount = find(inquiry, &path).filter(|mount| inquiry.subject.any_under(&mount.path));
    match mount {
        Some(mount) => data(&mount.record.shown(Some(&mount.path))),
        None => Err(denial()),
    }
}

/// The mount of `path`, or of `path` taken as a folder.
fn find<'a>(inquiry: &Inquiry<'a>, path: &Path) -> Option<&'a mount::Mount> {
    let mounts = &inquiry.snapshot.mounts;
    mounts.route(path).or_else(|| mounts.route(&path.to_folder())).map(|(mount, _)| &**mount)
}

/// Auth methods: both always exist, and neither is required.
pub(super) fn auth(_: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let method = |kind, description: &str| {
        let record = MountRecord { description: description.to_owned(), ..MountRecord::built_in(kind) };
        record.shown(None)
    };
    data(&BTreeMap::from([
        ("cert/", method("cert", "certificates of outside PKIs")),
        ("token/", method("token", "token based credentials")),
    ]))
}

/// The audit device, which the configuration file defines, by name and health.
pub(super) fn audit(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let device = inquiry.live.audit.health();
    let path = format!("{}/", device.name);
    let shown = Device {
        kind: "file",
        path: path.clone(),
        description: device.complaint.unwrap_or(""),
        options: BTreeMap::from([("working", device.working.to_string())]),
        local: false,
    };
    data(&BTreeMap::from([(path, shown)]))
}
