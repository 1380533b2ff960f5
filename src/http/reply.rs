//! Bodies and headers of replies. They are written straight into one buffer that is wiped after sending.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::api::error::{self, ErrorCode, ErrorInfo};
use crate::api::json::write_str;
use crate::api::mark::Mark;
use crate::api::reply::{Reply, ReplyStatus};
use crate::wiped::Buffer;

const ERROR: HeaderName = HeaderName::from_static(error::HEADER);
const EPOCH: HeaderName = HeaderName::from_static("x-strongroom-epoch");
const INCARNATION: HeaderName = HeaderName::from_static("x-strongroom-incarnation");
const GENERATION: HeaderName = HeaderName::from_static("x-strongroom-generation");

/// Encodes a reply of the core. With `legacy`, the endpoint repeats the keys of `data` at the top level.
pub(super) fn success(reply: &Reply, request_id: &str, legacy: bool) -> Response {
    let status = match reply.status {
        ReplyStatus::Ok => StatusCode::OK,
        ReplyStatus::Accepted => StatusCode::ACCEPTED,
        ReplyStatus::NotFoundWithBody => StatusCode::NOT_FOUND,
        ReplyStatus::NotModified => return tagged(finish(StatusCode::NOT_MODIFIED, None), reply),
    };
    let data = reply.data.as_ref().map(|data| data.as_slice());
    let auth = reply.auth.as_ref().map(|auth| auth.as_slice());
    let is_empty = data.is_none() && auth.is_none() && reply.warnings.is_empty();
    if is_empty && status == StatusCode::OK {
        return finish(StatusCode::NO_CONTENT, None);
    }
    if reply.lists_keys && reply.warnings.is_empty() && data == Some(br#"{"keys":[]}"#) {
        return errors(&ErrorCode::NotFound.into(), None);
    }
    let body = enveloped(request_id, Parts { data, auth }, &reply.warnings, legacy);
    let mut response = tagged(finish(status, Some(body)), reply);
    if status == StatusCode::NOT_FOUND {
        // The version is deleted or destroyed; its metadata is in the body.
        add_code(&mut response, &ErrorCode::NotFound.into());
    }
    response
}

fn tagged(mut response: Response, reply: &Reply) -> Response {
    let tag = reply.etag.as_ref().and_then(|tag| HeaderValue::from_str(&format!("\"{tag}\"")).ok());
    if let Some(tag) = tag {
        response.headers_mut().insert(ETAG, tag);
    }
    response
}

/// Encodes gauges in the text format of Prometheus (version 0.0.4).
pub(super) fn prometheus(reply: &Reply) -> Response {
    #[derive(serde::Deserialize)]
    struct Gauge {
        name: String,
        value: u64,
    }
    #[derive(serde::Deserialize)]
    struct Gauges {
        gauges: Vec<Gauge>,
    }
    let read = reply.data.as_ref().and_then(|data| serde_json::from_slice::<Gauges>(data).ok());
    let Some(Gauges { gauges }) = read else {
        return errors(&ErrorCode::Internal.into(), Some("internal error"));
    };
    let lines = gauges.iter().map(|Gauge { name, value }| format!("# TYPE {name} gauge\n{name} {value}\n"));
    let mut response = finish(StatusCode::OK, Some(Zeroizing::new(lines.collect::<String>().into_bytes())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"));
    response
}

/// Rendered content of the envelope.
#[derive(Clone, Copy, Default)]
pub(super) struct Parts<'a> {
    pub data: Option<&'a [u8]>,
    pub auth: Option<&'a [u8]>,
}

/// Vault's envelope.
fn enveloped(request_id: &str, parts: Parts<'_>, warnings: &[String], legacy: bool) -> Zeroizing<Vec<u8>> {
    let (data, auth) = (parts.data.unwrap_or(b"null"), parts.auth.unwrap_or(b"null"));
    let repeated = if legacy { members(data) } else { b"" };
    let mut out = Buffer::with_capacity(256 + data.len() + auth.len() + repeated.len());
    out.put(b"{\"request_id\":\"");
    out.put(request_id.as_bytes());
    out.put(b"\",\"lease_id\":\"\",\"renewable\":false,\"lease_duration\":0,\"data\":");
    out.put(data);
    out.put(b",\"wrap_info\":null,\"warnings\":");
    if warnings.is_empty() {
        out.put(b"null");
    } else {
        write_list(&mut out, warnings.iter().map(String::as_str));
    }
    out.put(b",\"auth\":");
    out.put(auth);
    out.put(b",\"mount_type\":\"\"");
    if !repeated.is_empty() {
        out.push(b',');
        out.put(repeated);
    }
    out.push(b'}');
    out.into_bytes()
}

/// Returns what is between the braces of a rendered object.
fn members(object: &[u8]) -> &[u8] {
    object.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}")).unwrap_or_default().trim_ascii()
}

/// `{"errors":[..]}` with one text or none.
pub(super) fn errors(info: &ErrorInfo, text: Option<&str>) -> Response {
    let mut out = Buffer::with_capacity(16 + text.map_or(0, |text| text.len() + 2));
    out.put(b"{\"errors\":");
    write_list(&mut out, text.into_iter());
    out.push(b'}');
    failed(info, Some(out.into_bytes()))
}

/// An error without a body.
pub(super) fn empty(info: &ErrorInfo) -> Response {
    failed(info, None)
}

/// An error with an envelope.
pub(super) fn failed_envelope(info: &ErrorInfo, request_id: &str, parts: Parts<'_>, warnings: &[String]) -> Response {
    failed(info, Some(enveloped(request_id, parts, warnings, false)))
}

/// All error replies are built here, so that none is sent without its code.
fn failed(info: &ErrorInfo, body: Option<Zeroizing<Vec<u8>>>) -> Response {
    let status = StatusCode::from_u16(info.code().status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut reply = finish(status, body);
    add_code(&mut reply, info);
    reply
}

fn add_code(reply: &mut Response, info: &ErrorInfo) {
    if let Ok(line) = HeaderValue::from_str(&info.to_string()) {
        reply.headers_mut().insert(ERROR, line);
    }
}

/// A body without an envelope.
pub(super) fn raw<T: Serialize>(status: StatusCode, body: &T) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => finish(status, Some(Zeroizing::new(body))),
        Err(_) => errors(&ErrorCode::Internal.into(), Some("internal error")),
    }
}

fn write_list<'a>(out: &mut Buffer, texts: impl Iterator<Item = &'a str>) {
    out.push(b'[');
    for (index, text) in texts.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_str(out, text);
    }
    out.push(b']');
}

fn finish(status: StatusCode, body: Option<Zeroizing<Vec<u8>>>) -> Response {
    let with_body = body.is_some();
    let mut reply = Response::new(body.map_or_else(Body::empty, |body| Body::from(Bytes::from_owner(body))));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    if with_body {
        // Exactly this text: clients compare the whole value before they look for `errors`.
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    reply
}

/// Adds the vault's epoch, incarnation and generation.
pub(super) fn add_mark(reply: &mut Response, mark: &Mark) {
    let headers = reply.headers_mut();
    headers.insert(EPOCH, mark.epoch.into());
    headers.insert(GENERATION, mark.generation.into());
    if let Ok(incarnation) = HeaderValue::from_str(&mark.incarnation) {
        headers.insert(INCARNATION, incarnation);
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn text(reply: Response) -> (u16, String) {
        let status = reply.status().as_u16();
        let body = reply.into_body().collect().await.expect("in memory").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    fn data(json: &str) -> Reply {
        Reply::data(Zeroizing::new(json.as_bytes().to_vec()))
    }

    #[tokio::test]
    async fn gauges_are_written_for_prometheus() {
        let reply = data(r#"{"gauges":[{"name":"a","value":3}]}"#);
        assert_eq!(text(prometheus(&reply)).await, (200, "# TYPE a gauge\na 3\n".to_owned()));
        assert_eq!(text(prometheus(&Reply::none())).await.0, 500);
    }

    #[tokio::test]
    async fn has_the_shapes_of_the_protocol() {
        assert_eq!(text(success(&Reply::none(), "id", false)).await, (204, String::new()));
        let (status, body) = text(success(&data(r#"{"a":1.50}"#), "id", true)).await;
        assert_eq!(status, 200);
        assert_eq!(
            body,
            r#"{"request_id":"id","lease_id":"","renewable":false,"lease_duration":0,"data":{"a":1.50},"wrap_info":null,"warnings":null,"auth":null,"mount_type":"","a":1.50}"#
        );
        let auth = Reply::auth(Zeroizing::new(br#"{"client_token":"t"}"#.to_vec()));
        let (status, body) = text(success(&auth, "id", false)).await;
        assert_eq!(status, 200);
        assert!(body.contains(r#""data":null,"#) && body.contains(r#""auth":{"client_token":"t"},"#), "{body}");
        let mut list = data(r#"{"keys":[]}"#);
        list.lists_keys = true;
        assert_eq!(text(success(&list, "id", false)).await, (404, r#"{"errors":[]}"#.to_owned()));
        assert_eq!(
            text(errors(&ErrorCode::Denied.into(), Some("a\n"))).await,
            (403, r#"{"errors":["a\n"]}"#.to_owned())
        );
        assert_eq!(members(b"{}"), b"");
        assert_eq!(members(b"null"), b"");
    }
}
