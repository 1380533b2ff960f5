//! The settings of one mount, stored in its own view under the key `config`.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::api::duration::Ttl;
use crate::api::fields::{FieldError, Fields};
use crate::api::reply::Reply;
use crate::barrier::{MountId, SecretMeta, Tx, View};
use crate::engine::{EngineError, Request};

use super::reply::Render;

const KEY: &str = "config";
/// Number of versions kept when neither the mount nor the secret sets one.
const DEFAULT_VERSIONS: u32 = 10;
/// Largest number of versions of a secret, whatever is requested.
pub(super) const MAX_VERSIONS: u32 = 1_024;

/// Defaults for the secrets of a mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    max_versions: u32,
    cas_required: bool,
    /// Milliseconds; 0 means never.
    delete_after_ms: u64,
    /// Secrets never expire, whatever they set themselves.
    never_delete: bool,
}

impl Config {
    pub(super) fn load(view: &View<'_>) -> Result<Self, EngineError> {
        let Some(entry) = view.entry(KEY)? else { return Ok(Self::default()) };
        // The record is authentic, so a later version of the program has written it.
        serde_json::from_slice(entry.value.reveal())
            .map_err(|_| EngineError::BadRequest("the settings of this mount cannot be read".to_owned()))
    }

    /// How many versions a secret keeps: the larger of both numbers, so that none is below the mount's.
    pub(super) fn kept(&self, meta: &SecretMeta) -> u64 {
        let wanted = meta.max_versions.max(self.max_versions);
        u64::from(if wanted == 0 { DEFAULT_VERSIONS } else { wanted.min(MAX_VERSIONS) })
    }

    pub(super) fn cas_required(&self, meta: &SecretMeta) -> bool {
        self.cas_required || meta.cas_required
    }

    /// Whether the mount requires check-and-set for all secrets.
    pub(super) fn forces_cas(&self) -> bool {
        self.cas_required
    }

    /// When a version that is written (or undeleted) now will expire; 0 means never. The shorter of both durations
    /// applies.
    pub(super) fn expiry(&self, meta: &SecretMeta, now_ms: u64) -> u64 {
        let span = match (self.delete_after_ms, meta.delete_after_ms) {
            _ if self.never_delete => 0,
            (0, own) => own,
            (mount, 0) => mount,
            (mount, own) => mount.min(own),
        };
        if span == 0 { 0 } else { now_ms.saturating_add(span) }
    }
}

pub(super) fn read(view: &View<'_>) -> Result<Reply, EngineError> {
    let config = Config::load(view)?;
    let mut out = Render::with_capacity(128);
    out.text("{\"max_versions\":").number(config.max_versions.into());
    out.text(",\"cas_required\":").boolean(config.cas_required);
    out.text(",\"delete_version_after\":").string(&Ttl(config.delete_after_ms / 1_000).go_text()).text("}");
    Ok(Reply::data(out.finish()))
}

pub(super) fn write(tx: &mut Tx<'_>, mount: MountId, request: &Request) -> Result<Reply, EngineError> {
    let fields = request.body.fields();
    let mut config = Config::load(&tx.view(mount))?;
    if let Some(number) = max_versions(fields)? {
        config.max_versions = number;
    }
    if let Some(required) = fields.flag("cas_required")? {
        config.cas_required = required;
    }
    if let Some(after) = fields.span("delete_version_after")? {
        config.never_delete = after.is_none();
        config.delete_after_ms = after.map_or(0, Ttl::as_ms);
    }
    let text = serde_json::to_vec(&config).expect("numbers and booleans always serialise");
    tx.put_entry(mount, KEY, &Zeroizing::new(text), 0)?;
    Ok(Reply::none())
}

/// Parses a number of versions, limited to [`MAX_VERSIONS`].
pub(super) fn max_versions(fields: Fields<'_>) -> Result<Option<u32>, FieldError> {
    let name = "max_versions";
    let Some(number) = fields.integer(name)? else { return Ok(None) };
    let number = u64::try_from(number).map_err(|_| FieldError::Negative(name))?;
    Ok(Some(u32::try_from(number).unwrap_or(MAX_VERSIONS).min(MAX_VERSIONS)))
}
