//! Renders replies directly into one buffer that is wiped on drop.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::api::json::{Parsed, write_str};
use crate::api::reply::{Reply, ReplyStatus};
use crate::api::time::rfc3339_nano;
use crate::barrier::{SecretMeta, VersionMeta};
use crate::wiped::Buffer;

/// One JSON text.
pub(super) struct Render(Buffer);

impl Render {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(Buffer::with_capacity(bytes))
    }

    pub(super) fn text(&mut self, json: &str) -> &mut Self {
        self.0.put(json.as_bytes());
        self
    }

    pub(super) fn raw(&mut self, json: &[u8]) -> &mut Self {
        self.0.put(json);
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

    /// Writes the labels, or `null` if there are none.
    pub(super) fn labels(&mut self, labels: &BTreeMap<String, String>) -> &mut Self {
        if labels.is_empty() {
            return self.text("null");
        }
        for (index, (key, value)) in labels.iter().enumerate() {
            self.text(if index == 0 { "{" } else { "," }).string(key).text(":").string(value);
        }
        self.text("}")
    }

    /// Writes the flat description of a version, with the labels of its secret.
    pub(super) fn version(&mut self, version: &VersionMeta, meta: &SecretMeta) -> &mut Self {
        self.text("{\"version\":").number(version.version).text(",");
        self.state(version).text(",\"custom_metadata\":").labels(&meta.custom).text("}")
    }

    /// Writes the three fields that every description of a version has.
    pub(super) fn state(&mut self, version: &VersionMeta) -> &mut Self {
        self.text("\"created_time\":").string(&rfc3339_nano(version.created_ms));
        self.text(",\"deletion_time\":").string(&rfc3339_nano(version.deleted_ms));
        self.text(",\"destroyed\":").boolean(version.destroyed)
    }

    /// Number of bytes so far.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn finish(self) -> Zeroizing<Vec<u8>> {
        self.0.into_bytes()
    }
}

/// Space for the rendered labels. Escaping at most doubles printable text.
pub(super) fn labels_room(meta: &SecretMeta) -> usize {
    meta.custom.iter().map(|(key, value)| 2 * (key.len() + value.len()) + 8).sum()
}

/// Reply to a write: only the version.
pub(super) fn version(version: &VersionMeta, meta: &SecretMeta) -> Reply {
    let mut out = Render::with_capacity(256 + labels_room(meta));
    out.version(version, meta);
    Reply { version: Some(version.version), ..Reply::data(out.finish()) }
}

/// Reply of a read: the secret with its version.
pub(super) fn secret(text: &[u8], version: &VersionMeta, meta: &SecretMeta) -> Reply {
    let (data, start) = framed("data", text, version, meta);
    let shown = match Parsed::of(text) {
        Ok(secret) => Reply::showing(data, start, secret),
        // Only objects are ever written.
        Err(_) => Reply::data(data),
    };
    Reply { version: Some(version.version), ..shown }
}

/// Reply to `subkeys/`: the names in a secret, with its version.
pub(super) fn names(skeleton: &[u8], version: &VersionMeta, meta: &SecretMeta) -> Reply {
    Reply { version: Some(version.version), ..Reply::data(framed("subkeys", skeleton, version, meta).0) }
}

/// Reply of both for a version without content: null instead of it, and status 404 with a body.
pub(super) fn gone(name: &str, version: &VersionMeta, meta: &SecretMeta) -> Reply {
    let reply = Reply::data(framed(name, b"null", version, meta).0);
    Reply { status: ReplyStatus::NotFoundWithBody, version: Some(version.version), ..reply }
}

/// `{"NAME":CONTENT,"metadata":{}}`, and the byte at which the content starts.
fn framed(name: &str, content: &[u8], version: &VersionMeta, meta: &SecretMeta) -> (Zeroizing<Vec<u8>>, usize) {
    let mut out = Render::with_capacity(content.len() + 320 + labels_room(meta));
    out.text("{").string(name).text(":");
    let start = out.len();
    out.raw(content).text(",\"metadata\":").version(version, meta).text("}");
    (out.finish(), start)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_reply_says_where_its_secret_is(label in "\\PC{0,9}", name in "\\PC{0,9}", value in "\\PC{0,9}") {
            let text = serde_json::json!({ &name: value, "more": { "a": [1, { "b": 2 }] } }).to_string();
            let meta = SecretMeta { custom: [("data".to_owned(), label)].into(), ..SecretMeta::default() };
            let version = VersionMeta { version: 7, created_ms: 1, deleted_ms: 0, destroyed: false };
            let reply = secret(text.as_bytes(), &version, &meta);
            let shown = reply.secret().expect("a secret");
            let raw = serde_json::to_string(&value).expect("a string");
            prop_assert_eq!(shown.get(&name).map(|value| value.raw()), Some(raw.as_str()));
            prop_assert_eq!(reply.version, Some(7));
            let others = [gone("data", &version, &meta), names(text.as_bytes(), &version, &meta)];
            prop_assert!(others.iter().all(|reply| reply.secret().is_none() && reply.version == Some(7)));
        }
    }
}
