//! `sys/mounts`, `sys/auth`, `sys/audit` and the preflight that clients make before they touch a secret.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::api::path::Path;
use crate::api::reply::Reply;
use crate::api::sys::{Mount, MountConfig};

use super::{Inquiry, data};
use crate::core::error::VaultError;
use crate::core::state::mount::{self, MountRecord};

/// 32 days in seconds: what Vault shows for mounts without lease settings.
const DEFAULT_LEASE_S: u64 = 2_764_800;

/// One mount as Vault shows it.
fn shown(record: &MountRecord, path: Option<&Path>) -> Mount {
    Mount {
        kind: record.kind.clone(),
        description: record.description.clone(),
        accessor: record.accessor.clone(),
        uuid: record.uuid(),
        config: MountConfig {
            default_lease_ttl: DEFAULT_LEASE_S,
            max_lease_ttl: DEFAULT_LEASE_S,
            force_no_cache: false,
        },
        options: (!record.options.is_empty()).then(|| record.options.clone()),
        path: path.map(|path| path.as_str().to_owned()),
        ..Mount::default()
    }
}

/// Fixed entries that clients expect to see in the table and that route nowhere by themselves.
fn built_in(kind: &str) -> MountRecord {
    MountRecord {
        format: 1,
        id: format!("{:032x}", 0),
        kind: kind.to_owned(),
        options: BTreeMap::new(),
        description: String::new(),
        accessor: format!("{kind}_00000000"),
    }
}

pub(super) fn table(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let system = built_in("system");
    let mounts = inquiry.snapshot.mounts.sorted();
    let mut all: BTreeMap<&str, Mount> =
        mounts.iter().map(|mount| (mount.path.as_str(), shown(&mount.record, None))).collect();
    all.insert("sys/", shown(&system, None));
    data(&all)
}

pub(super) fn one(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let path = Path::parse(&inquiry.tail).map_err(|_| VaultError::NotFound)?.to_folder();
    match find(inquiry, &path) {
        Some(mount) if mount.path == path => data(&shown(&mount.record, None)),
        _ => Err(VaultError::BadRequest("cannot fetch sysview for path: no such mount".to_owned())),
    }
}

/// Mounts in which the caller may do anything at all.
pub(super) fn visible(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    #[derive(Serialize)]
    struct Visible<'a> {
        secret: BTreeMap<&'a str, Mount>,
        auth: BTreeMap<&'a str, Mount>,
    }
    let mounts = inquiry.snapshot.mounts.sorted();
    let secret = mounts
        .iter()
        .filter(|mount| inquiry.subject.any_under(&mount.path))
        .map(|mount| (mount.path.as_str(), shown(&mount.record, None)))
        .collect();
    data(&Visible { secret, auth: BTreeMap::new() })
}

/// Tells a client which mount a path belongs to. Never 404: old clients take that for "KV version 1". An unknown mount
/// and one without access answer alike.
pub(super) fn preflight(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let path = Path::parse(&inquiry.tail).map_err(|_| VaultError::Preflight(inquiry.tail.clone()))?;
    let mount = find(inquiry, &path).filter(|mount| inquiry.subject.any_under(&mount.path));
    match mount {
        Some(mount) => data(&shown(&mount.record, Some(&mount.path))),
        None => Err(VaultError::Preflight(inquiry.tail.clone())),
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
        let record = MountRecord { description: description.to_owned(), ..built_in(kind) };
        shown(&record, None)
    };
    data(&BTreeMap::from([
        ("cert/", method("cert", "certificates of outside PKIs")),
        ("token/", method("token", "token based credentials")),
    ]))
}

/// The audit device, which the configuration file defines, by name and health.
pub(super) fn audit(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    #[derive(Serialize)]
    struct Device<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        path: String,
        description: &'a str,
        options: BTreeMap<&'static str, String>,
        local: bool,
    }
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
