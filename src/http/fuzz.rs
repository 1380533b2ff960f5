//! What must hold for a request on its way to the core, whatever its bytes (feature `testing`). An input is a request as it
//! stands on the wire; hyper's own reading of it is not repeated here.

use axum::body::Body as HttpBody;
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Uri};

use super::limits::Limits;
use super::request::{Query, claims};
use super::routes::translate;
use crate::api::json;
use crate::api::mark::Mark;
use crate::api::path::{MAX_BYTES, Path};
use crate::api::request::Operation;
use crate::core::{Request, canonical};

/// Small, so that inputs reach it.
const MAX_BODY: usize = 512;
/// Longest token that is looked at.
const MAX_TOKEN: usize = 1024;
/// Statuses with which a request is refused before the core sees it.
const REFUSALS: [u16; 5] = [400, 405, 408, 413, 415];

pub(crate) fn examples() -> Vec<Vec<u8>> {
    let texts = [
        "GET /v1/secret/data/app?version=2 HTTP/1.1\r\nHost: v\r\nX-Vault-Token: s.x\r\n\r\n",
        "LIST /v1/secret/metadata/a HTTP/1.1\r\nAuthorization: Bearer y\r\nX-Vault-Wrap-TTL: 60s\r\n\r\n",
        "GET /v1/secret/metadata/a/?list=true&after=b%20c&limit=+5 HTTP/1.1\r\nIf-None-Match: \"x\"\r\n\r\n",
        "POST /v1/secret/data/app HTTP/1.1\r\nContent-Type: application/json\r\n\
         X-Strongroom-Seen: 1.000102030405060708090a0b0c0d0e0f.7\r\n\r\n{\"data\":{\"a\":\"b\"}}",
        "PATCH /v1/secret/data/app HTTP/1.1\r\nContent-Type: application/merge-patch+json; charset=utf-8\r\n\r\n{\"data\":null}",
        "PUT /v1/sys/policies/acl/Web/ HTTP/1.1\r\nX-Vault-Namespace: /\r\n\r\n ",
        "DELETE /v1/auth/token/accessors/?list=0 HTTP/1.1\r\nX-Strongroom-Bundle: 000102030405060708090a0b0c0d0e0f\r\n\r\n",
        "POST /v1/a HTTP/1.1\r\nContent-Type: multipart/form-data\r\nContent-Length: 700\r\n\r\n",
    ];
    texts.map(|text| text.as_bytes().to_vec()).to_vec()
}

/// The parts of a request; `None` for what hyper would refuse.
fn parts(data: &[u8]) -> Option<(Method, Uri, HeaderMap, &[u8])> {
    let end = data.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, body) = (data.get(..end)?, data.get(end + 4..)?);
    let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let mut first = lines.next()?.split(|byte| *byte == b' ');
    let method = Method::from_bytes(first.next()?).ok()?;
    let uri = Uri::try_from(first.next()?).ok()?;
    let mut headers = HeaderMap::new();
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(line.get(..colon)?).ok()?;
        headers.append(name, HeaderValue::from_bytes(line.get(colon + 1..)?.trim_ascii()).ok()?);
    }
    Some((method, uri, headers, body))
}

pub(crate) fn check(data: &[u8]) -> bool {
    // Without hyper's frame: the query and nothing else.
    query(std::str::from_utf8(data).ok());
    let Some((method, uri, headers, body)) = parts(data) else { return false };
    query(uri.query());
    let token = claims(&headers).token;
    assert!(token.as_ref().is_none_or(|token| token.reveal().len() <= 3 * MAX_TOKEN), "a token is cut");
    let limits = Limits { body_bytes: MAX_BODY, ..Limits::default() };
    let once = || translated(&method, &uri, &headers, body, &limits);
    let (first, second) = (once(), once());
    match (first, second) {
        (Ok(first), Ok(second)) => {
            accepted(&first, body);
            let say = |request: &Request| {
                let Request { operation, path, body, wrap_ttl, if_none_match, seen } = request;
                (*operation, path.clone(), body.bytes().to_vec(), *wrap_ttl, if_none_match.clone(), seen.clone())
            };
            assert!(say(&first) == say(&second), "one request is always the same");
            true
        }
        (Err(first), Err(second)) => {
            assert!(first == second && REFUSALS.contains(&first), "a refusal of its own: {first}");
            false
        }
        _ => panic!("one request, two answers"),
    }
}

fn translated(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8], limits: &Limits) -> Result<Request, u16> {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime of one thread");
    }
    let body = HttpBody::from(body.to_vec());
    RUNTIME
        .with(|runtime| runtime.block_on(translate(method, uri, headers, body, limits)))
        .map(|(request, _)| request)
        .map_err(|refusal| refusal.status())
}

/// What reaches the core has its one form.
fn accepted(request: &Request, sent: &[u8]) {
    let Request { operation, path, body, wrap_ttl, if_none_match, seen } = request;
    assert_eq!(Path::parse(path.as_str()).as_ref(), Ok(path), "a path of the core is a path");
    assert!(path.leaf_str().len() <= MAX_BYTES);
    assert_eq!(canonical(*operation, path.clone()), *path, "and in its canonical form");
    assert!(*operation != Operation::List || path.is_folder(), "a list names a folder");
    assert!(body.bytes().len() <= json::Limits::default().max_bytes);
    assert!(body.is_empty() || json::check(body.bytes(), &json::Limits::default()).is_ok(), "the body is checked");
    let text = if body.is_empty() { b"{}" } else { body.bytes() };
    let parsed = json::Parsed::of(text).expect("and an object");
    let fields = |object: json::Object<'_>| -> Vec<(String, String)> {
        object.entries().map(|(name, value)| (name.to_owned(), value.raw().to_owned())).collect()
    };
    assert_eq!(fields(body.object()), fields(parsed.object()), "with the fields that it was sent with");
    if matches!(operation, Operation::Write | Operation::Patch) {
        assert!(body.is_empty() || body.bytes() == sent, "a body is not rewritten");
        assert!(sent.len() <= MAX_BODY);
    }
    assert!(seen.as_ref().is_none_or(|mark| Mark::parse(&mark.to_string()).as_ref() == Some(mark)), "a mark is a mark");
    assert!(*wrap_ttl != Some(0) && if_none_match.as_ref().is_none_or(|tag| tag.len() <= 1024));
}

/// Parameters written again are read as the same.
fn query(raw: Option<&str>) {
    let Ok(query) = Query::parse(raw) else { return };
    let escape = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    let again: Vec<String> =
        query.pairs().iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
    let again = Query::parse(Some(&again.join("&"))).ok();
    assert!(again.is_some_and(|again| again.pairs() == query.pairs()), "written and read again it is the same");
}
