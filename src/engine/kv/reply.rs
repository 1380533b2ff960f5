//! Rendering replies: straight into one buffer that is wiped on drop.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::api::json::write_str;
use crate::api::reply::{Reply, ReplyStatus};
use crate::api::time::rfc3339_nano;
use crate::barrier::{SecretMeta, VersionMeta};

/// A buffer for one JSON text. The capacity must cover it, or growing leaves a copy of the secret behind.
pub(super) struct Render(Zeroizing<Vec<u8>>);

impl Render {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(Zeroizing::new(Vec::with_capacity(bytes)))
    }

    pub(super) fn text(&mut self, json: &str) -> &mut Self {
        self.0.extend_from_slice(json.as_bytes());
        self
    }

    pub(super) fn raw(&mut self, json: &[u8]) -> &mut Self {
        self.0.extend_from_slice(json);
        self
    }

    pub(super) fn string(&mut self, text: &str) -> &mut Self {
        write_str(&mut self.0, text);
        self
    }

    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        self.text(&number.to_string())
    }

    pub(super) fn boolean(&mut self, value: bool) -> &mut Self {
        self.text(if value { "true" } else { "false" })
    }

    /// `null` when there are none.
    pub(super) fn labels(&mut self, labels: &BTreeMap<String, String>) -> &mut Self {
        if labels.is_empty() {
            return self.text("null");
        }
        for (index, (key, value)) in labels.iter().enumerate() {
            self.text(if index == 0 { "{" } else { "," }).string(key).text(":").string(value);
        }
        self.text("}")
    }

    /// The flat description of a version, with the labels of its secret.
    pub(super) fn version(&mut self, version: &VersionMeta, meta: &SecretMeta) -> &mut Self {
        self.text("{\"version\":").number(version.version).text(",");
        self.state(version).text(",\"custom_metadata\":").labels(&meta.custom).text("}")
    }

    /// The three fields that every description of a version has.
    pub(super) fn state(&mut self, version: &VersionMeta) -> &mut Self {
        self.text("\"created_time\":").string(&rfc3339_nano(version.created_ms));
        self.text(",\"deletion_time\":").string(&rfc3339_nano(version.deleted_ms));
        self.text(",\"destroyed\":").boolean(version.destroyed)
    }

    pub(super) fn finish(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

/// Room for the rendered labels: escaping at most doubles printable text.
pub(super) fn labels_room(meta: &SecretMeta) -> usize {
    meta.custom.iter().map(|(key, value)| 2 * (key.len() + value.len()) + 8).sum()
}

/// Reply of a write: the version alone.
pub(super) fn version(version: &VersionMeta, meta: &SecretMeta) -> Zeroizing<Vec<u8>> {
    let mut out = Render::with_capacity(256 + labels_room(meta));
    out.version(version, meta);
    out.finish()
}

/// Reply of a read: `name` holds the content, or null for a version without; then the status is 404 with a body.
pub(super) fn content(name: &str, content: Option<&[u8]>, version: &VersionMeta, meta: &SecretMeta) -> Reply {
    let mut out = Render::with_capacity(content.map_or(4, <[u8]>::len) + 320 + labels_room(meta));
    out.text("{").string(name).text(":").raw(content.unwrap_or(b"null"));
    out.text(",\"metadata\":").version(version, meta).text("}");
    let status = if content.is_some() { ReplyStatus::Ok } else { ReplyStatus::NotFoundWithBody };
    Reply { status, ..Reply::data(out.finish()) }
}
