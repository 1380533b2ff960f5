//! Replies, independent of HTTP, and the envelopes of Vault's protocol around them.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::json::{Layout, Object, Parsed};

/// A reply.
///
/// ```
/// use strongroom::api::reply::{Reply, ReplyStatus};
///
/// let reply = Reply::data(br#"{"keys":["db"]}"#.to_vec().into());
/// assert!(reply.status == ReplyStatus::Ok && reply.warnings.is_empty());
/// assert!(Reply::none().data.is_none(), "answered with 204");
/// ```
pub struct Reply {
    /// Status class.
    pub status: ReplyStatus,
    /// Rendered JSON of the envelope's `data`; `None` means "no content" (204).
    pub data: Option<Zeroizing<Vec<u8>>>,
    /// Texts for the envelope's `warnings`.
    pub warnings: Vec<String>,
    /// Whether this is a list: an empty `keys` array is answered with 404, as in Vault.
    pub lists_keys: bool,
    /// Rendered JSON of the envelope's `auth`: a token that was created or renewed.
    pub auth: Option<Zeroizing<Vec<u8>>>,
    /// Strong entity tag (RFC 9110, 8.8.3) of the content, without quotes.
    pub etag: Option<String>,
    /// The version of a secret that the reply shows or the request created.
    pub version: Option<u64>,
    /// Where `data` contains a secret, for the audit log.
    pub secret: Option<Shown>,
}

/// Where a reply contains a secret, and where the secret's fields are. Set by the engine that renders the reply, so that
/// nothing has to parse it again.
pub struct Shown {
    at: Range<usize>,
    layout: Layout,
}

impl Reply {
    /// 204.
    #[must_use]
    pub fn none() -> Self {
        Self {
            status: ReplyStatus::Ok,
            data: None,
            warnings: Vec::new(),
            lists_keys: false,
            auth: None,
            etag: None,
            version: None,
            secret: None,
        }
    }

    /// 200 with rendered `data`.
    #[must_use]
    pub fn data(data: Zeroizing<Vec<u8>>) -> Self {
        Self { data: Some(data), ..Self::none() }
    }

    /// As [`Reply::data`], for data that contains the text of `secret` at the byte offset `start`.
    #[must_use]
    pub fn showing(data: Zeroizing<Vec<u8>>, start: usize, secret: Parsed<'_>) -> Self {
        let at = start..start + secret.len();
        Self { secret: Some(Shown { at, layout: secret.into_layout() }), ..Self::data(data) }
    }

    /// The fields of the secret in the reply.
    #[must_use]
    pub fn secret(&self) -> Option<Object<'_>> {
        let (shown, data) = (self.secret.as_ref()?, self.data.as_ref()?);
        let text = std::str::from_utf8(data.get(shown.at.clone())?).ok()?;
        Some(Object::new(text, &shown.layout))
    }

    /// 200 with rendered `auth`.
    #[must_use]
    pub fn auth(auth: Zeroizing<Vec<u8>>) -> Self {
        Self { auth: Some(auth), ..Self::none() }
    }

    /// 304 for content with this tag.
    #[must_use]
    pub fn not_modified(etag: String) -> Self {
        Self { status: ReplyStatus::NotModified, etag: Some(etag), ..Self::none() }
    }
}

/// Whether an `If-None-Match` field lists `etag` (RFC 9110, 13.1.2: weak comparison). The caller must handle `*`,
/// because only the caller knows whether there is any content.
///
/// ```
/// use strongroom::api::reply::none_match;
///
/// assert!(none_match(r#""v6", W/"v7""#, "v7"));
/// assert!(!none_match("v7", "v7"), "a tag stands in quotes");
/// ```
#[must_use]
pub fn none_match(field: &str, etag: &str) -> bool {
    field.split(',').any(|tag| {
        let tag = tag.trim().strip_prefix("W/").unwrap_or(tag.trim());
        tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) == Some(etag)
    })
}

/// Status class of a [`Reply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyStatus {
    /// 200, or 204 without data.
    Ok,
    /// 202 with the full envelope: accepted, with nothing to return.
    Accepted,
    /// 404 with the full envelope: a deleted or destroyed version (KV v2).
    NotFoundWithBody,
    /// 304: the caller already has the content.
    NotModified,
}

/// The envelope of every reply with content. The server always sends all keys; missing ones are read as empty.
///
/// ```
/// use strongroom::api::kv::Keys;
/// use strongroom::api::reply::Envelope;
///
/// let reply: Envelope<Keys> = serde_json::from_str(r#"{"data":{"keys":["db","web/"]},"warnings":null}"#).unwrap();
/// assert_eq!(reply.data.unwrap().keys, ["db", "web/"]);
/// ```
#[derive(Serialize, Deserialize)]
pub struct Envelope<T> {
    /// Random id of the request, as in the audit log.
    #[serde(default)]
    pub request_id: String,
    /// Always empty, because there are no leases.
    #[serde(default)]
    pub lease_id: String,
    /// Always false.
    #[serde(default)]
    pub renewable: bool,
    /// Seconds; 0 without a lease.
    #[serde(default)]
    pub lease_duration: u64,
    /// The content.
    #[serde(default = "none")]
    pub data: Option<T>,
    /// Always null, because wrapping is not supported.
    #[serde(default)]
    pub wrap_info: Option<Box<RawValue>>,
    /// Warnings for people.
    #[serde(default)]
    pub warnings: Option<Vec<String>>,
    /// A token that was created or renewed; otherwise null.
    #[serde(default)]
    pub auth: Option<Box<RawValue>>,
}

fn none<T>() -> Option<T> {
    None
}

/// The body of every error reply.
///
/// ```
/// use strongroom::api::reply::ErrorBody;
///
/// let body: ErrorBody = serde_json::from_str(r#"{"errors":["1 error occurred"]}"#).unwrap();
/// assert_eq!(body.errors, ["1 error occurred"]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Messages for people; may be empty.
    #[serde(default)]
    pub errors: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_all_keys_and_reads_few() {
        let envelope: Envelope<u8> = serde_json::from_str(r#"{"data":7,"new_key":1}"#).expect("reads");
        assert_eq!(envelope.data, Some(7));
        assert_eq!(
            serde_json::to_string(&envelope).expect("writes"),
            r#"{"request_id":"","lease_id":"","renewable":false,"lease_duration":0,"data":7,"wrap_info":null,"warnings":null,"auth":null}"#
        );
        assert_eq!(serde_json::from_str::<ErrorBody>("{}").expect("reads"), ErrorBody::default());
    }
}
