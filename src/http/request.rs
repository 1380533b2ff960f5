//! Parses HTTP into a request of the core: verb, path, parameters, body.

use std::sync::Arc;

use axum::body::Body as HttpBody;
use http_body_util::BodyExt;
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use hyper::{HeaderMap, Method};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::identity::Claims;
use super::limits::Limits;
use super::status::Refusal;
use crate::api::duration::Ttl;
use crate::api::error::ErrorCode;
use crate::api::json::{self, write_str};
use crate::api::mark::{Mark, SEEN_HEADER};
use crate::api::request::{Body, Operation};
use crate::api::secret::SecretText;
use crate::pki::AuthorityId;
use crate::wiped::Buffer;

/// Largest number of parameters in a query.
const MAX_PARAMETERS: usize = 64;

/// How much is read and discarded before a rejection, as a multiple of the largest body.
const DISCARDED_BODIES: usize = 8;

/// Parameters of the query, decoded.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Parses `a=b&c`; `+` is a space.
    ///
    /// # Errors
    /// 400 for malformed escapes, text that is not UTF-8, or more than 64 parameters.
    pub(super) fn parse(raw: Option<&str>) -> Result<Self, Refusal> {
        let mut found = Vec::new();
        for pair in raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            if found.len() == MAX_PARAMETERS {
                return Err(Refusal::bad("too many query parameters"));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            found.push((decode(name)?, decode(value)?));
        }
        Ok(Self(found))
    }

    /// All parameters, decoded, in the order of the text.
    #[cfg(feature = "testing")]
    pub(super) fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Whether `list` is set.
    ///
    /// # Errors
    /// 400 when its value is not a boolean as Go parses them.
    fn lists(&self) -> Result<bool, Refusal> {
        match self.get("list") {
            None => Ok(false),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
            Some("" | "0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
            Some(_) => Err(Refusal::bad("the value of the query parameter list is not a boolean")),
        }
    }

    /// Returns all parameters except `list` as a JSON object of strings; empty when there are none.
    fn to_json(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Buffer::new();
        for (name, value) in self.0.iter().filter(|(name, _)| name != "list") {
            let mark = if out.is_empty() { b'{' } else { b',' };
            out.push(mark);
            write_str(&mut out, name);
            out.push(b':');
            write_str(&mut out, value);
        }
        if !out.is_empty() {
            out.push(b'}');
        }
        out.into_bytes()
    }
}

fn decode(text: &str) -> Result<String, Refusal> {
    const BAD: Refusal = Refusal::bad("malformed query");
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                let (high, low) = (digit(bytes.next()).ok_or(BAD)?, digit(bytes.next()).ok_or(BAD)?);
                u8::try_from(high * 16 + low).map_err(|_| BAD)?
            }
            byte => byte,
        });
    }
    String::from_utf8(out).map_err(|_| BAD)
}

/// Returns the verb.
///
/// # Errors
/// 405 for any other method; 400 for a malformed `list`.
pub(super) fn operation(method: &Method, query: &Query) -> Result<Operation, Refusal> {
    match method.as_str() {
        "GET" if query.lists()? => Ok(Operation::List),
        "GET" => Ok(Operation::Read),
        "LIST" => Ok(Operation::List),
        "POST" | "PUT" => Ok(Operation::Write),
        "PATCH" => Ok(Operation::Patch),
        "DELETE" => Ok(Operation::Delete),
        _ => Err(Refusal::method()),
    }
}

/// The header with the id of the authorities that the client trusts.
const BUNDLE: &str = "x-strongroom-bundle";

/// Longest accepted token, in bytes.
const MAX_TOKEN: usize = 1024;

/// What the sender says about itself. None of it is trusted. A malformed bundle is ignored.
pub(super) fn claims(headers: &HeaderMap) -> Claims {
    let bundle = headers.get(BUNDLE).and_then(|value| AuthorityId::parse(value.to_str().ok()?)).map(|id| id.0);
    Claims { bundle, token: token(headers).map(|bytes| Arc::new(SecretText::from_utf8_lossy(bytes))) }
}

/// Returns the token of `X-Vault-Token`, or else of `Authorization: Bearer`. A token that is too long is cut, so it
/// matches none.
fn token(headers: &HeaderMap) -> Option<&[u8]> {
    let direct = headers.get("x-vault-token").map(|value| value.as_bytes());
    let mut bearer = headers.get_all(AUTHORIZATION).iter().filter_map(|value| {
        let (scheme, token) = value.as_bytes().split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
    });
    let found =
        direct.filter(|token| !token.is_empty()).or_else(|| bearer.find(|token| !token.trim_ascii().is_empty()));
    found.map(|token| token.trim_ascii()).map(|token| token.get(..MAX_TOKEN).unwrap_or(token))
}

/// Rejects headers that must not be silently ignored.
///
/// # Errors
/// 400 for a namespace.
pub(super) fn check_headers(headers: &HeaderMap) -> Result<(), Refusal> {
    let namespace = headers.get("x-vault-namespace").map(|value| value.as_bytes());
    if namespace.is_some_and(|name| name.iter().any(|byte| *byte != b'/')) {
        return Err(Refusal::bad("namespaces are not supported"));
    }
    Ok(())
}

/// Returns the seconds of `X-Vault-Wrap-TTL`.
///
/// # Errors
/// 400 when it is not a duration.
pub(super) fn wrap_ttl(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    const BAD: Refusal = Refusal::bad("the wrap TTL is not a duration");
    let Some(value) = headers.get("x-vault-wrap-ttl") else { return Ok(None) };
    let text = value.to_str().map_err(|_| BAD)?.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let Ttl(seconds) = Ttl::parse(text).map_err(|_| BAD)?;
    Ok(Some(seconds).filter(|seconds| *seconds > 0))
}

/// Returns the mark of `X-Strongroom-Seen`.
///
/// # Errors
/// 400 when it is not exactly one mark: a condition that cannot be parsed must not count as absent.
pub(super) fn seen(headers: &HeaderMap) -> Result<Option<Mark>, Refusal> {
    let mut found = headers.get_all(SEEN_HEADER).iter();
    let Some(value) = found.next() else { return Ok(None) };
    let mark = value.to_str().ok().and_then(Mark::parse).filter(|_| found.next().is_none());
    mark.map(Some).ok_or(Refusal::bad("X-Strongroom-Seen is not epoch.incarnation.generation"))
}

/// Returns `If-None-Match`, at most 1 KiB of it. Our own clients never send more tags than that.
///
/// # Errors
/// 400 when it is not text.
pub(super) fn if_none_match(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get("if-none-match").filter(|value| value.len() <= 1024) else { return Ok(None) };
    value.to_str().map(|text| Some(text.to_owned())).map_err(|_| Refusal::bad("If-None-Match is not text"))
}

/// Returns the body for the core: the JSON body of a write, or else the query.
///
/// # Errors
/// See [`check_media`] and [`read`]; 400 when it is not a JSON object within the limits.
pub(super) async fn body(
    operation: Operation,
    query: &Query,
    headers: &HeaderMap,
    body: HttpBody,
    limits: &Limits,
) -> Result<Body, Refusal> {
    let bytes = match operation {
        Operation::Read | Operation::List | Operation::Delete => query.to_json(),
        Operation::Write | Operation::Patch => {
            check_media(operation, headers)?;
            read(headers, body, limits).await?
        }
    };
    let limits = json::Limits { max_bytes: limits.body_bytes, ..json::Limits::default() };
    Body::from_json(bytes, &limits).map_err(|error| {
        tracing::debug!(%error, "request body");
        Refusal::bad("the request body is not a JSON object within the limits")
    })
}

/// A body for a path that adds no fields of its own.
///
/// # Errors
/// 400 when it is not a JSON object within the limits.
pub(super) fn object(bytes: Zeroizing<Vec<u8>>) -> Result<Body, Refusal> {
    Body::from_json(bytes, &json::Limits::default())
        .map_err(|_| Refusal::bad("the request body is not a JSON object within the limits"))
}

/// Checks the media type of a body.
///
/// # Errors
/// 400 for a form, or for a `PATCH` without a media type; 415 for a `PATCH` that is not a merge patch.
fn check_media(operation: Operation, headers: &HeaderMap) -> Result<(), Refusal> {
    let media = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(|value| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    match (operation, media.as_deref()) {
        (Operation::Patch, Some("application/merge-patch+json")) => Ok(()),
        (Operation::Patch, Some(media)) if media.contains('/') => {
            Err(Refusal::new(ErrorCode::MediaType, "PATCH takes application/merge-patch+json"))
        }
        (Operation::Patch, _) => Err(Refusal::bad("PATCH needs the content type application/merge-patch+json")),
        (_, Some("multipart/form-data")) => Err(Refusal::bad("forms are not supported, send JSON")),
        _ => Ok(()),
    }
}

/// Reads a body within its limits of size and time.
///
/// # Errors
/// 413 when it is too large; 408 when it takes too long; 400 when the connection breaks.
pub(super) async fn read(
    headers: &HeaderMap,
    mut body: HttpBody,
    limits: &Limits,
) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    const TOO_LARGE: Refusal = Refusal::new(ErrorCode::TooLarge, "request body too large");
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limits.body_bytes) {
        if !headers.contains_key(EXPECT) {
            discard(body, limits).await;
        }
        return Err(TOO_LARGE);
    }
    let reading = async {
        let mut bytes = Buffer::with_capacity(announced.unwrap_or(0));
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Refusal::bad("the request body ended early"))?;
            let Ok(data) = frame.into_data() else { continue };
            let length = bytes.len() + data.len();
            if length > limits.body_bytes {
                drop(bytes);
                discard(body, limits).await;
                return Err(TOO_LARGE);
            }
            bytes.put(&data);
        }
        Ok(bytes.into_bytes())
    };
    let late = Refusal::new(ErrorCode::TooSlow, "the request body took too long");
    timeout(limits.body, reading).await.unwrap_or(Err(late))
}

/// Keeps reading for a while and discards the bytes. Closing a connection with unread bytes resets it, and a peer that
/// is still sending would never see the reply.
pub(super) async fn discard(mut body: HttpBody, limits: &Limits) {
    let most = limits.body_bytes.saturating_mul(DISCARDED_BODIES);
    let reading = async {
        let mut seen = 0;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, |data| data.len());
            if seen > most {
                return;
            }
        }
    };
    let _ = timeout(limits.head, reading).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(raw: &str) -> Option<Query> {
        Query::parse(Some(raw)).ok()
    }

    #[test]
    fn maps_verbs() {
        let verb = |method: &str, raw: &str| {
            operation(&Method::from_bytes(method.as_bytes()).expect("legal"), &query(raw).expect("legal"))
                .map_err(|refusal| refusal.status())
        };
        assert_eq!(verb("GET", "version=2"), Ok(Operation::Read));
        assert_eq!(verb("GET", "list=True"), Ok(Operation::List));
        assert_eq!(verb("GET", "list=0"), Ok(Operation::Read));
        assert_eq!(verb("GET", "list=banana"), Err(400));
        assert_eq!(verb("LIST", ""), Ok(Operation::List));
        assert_eq!(verb("PUT", ""), verb("POST", ""));
        assert_eq!(verb("BREW", ""), Err(405));
    }

    #[test]
    fn query_becomes_json() {
        assert_eq!(&*query("a=b%22&list=true&c").expect("legal").to_json(), br#"{"a":"b\"","c":""}"#);
        assert!(query("").expect("legal").to_json().is_empty());
        for bad in ["a=%", "a=%4", "a=%zz", "a=%ff"] {
            assert!(query(bad).is_none(), "{bad}");
        }
        assert!(query(&"a&".repeat(MAX_PARAMETERS)).is_some());
        assert!(query(&"a&".repeat(MAX_PARAMETERS + 1)).is_none());
    }

    #[test]
    fn headers_are_not_ignored() {
        let check = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("legal"));
            check_headers(&headers).map_err(|refusal| refusal.status())
        };
        assert_eq!(check("x-vault-token", ""), Ok(()));
        assert_eq!(check("x-vault-token", "s.x"), Ok(()));
        assert_eq!(check("authorization", "Bearer x"), Ok(()));
        assert_eq!(check("x-vault-namespace", "/"), Ok(()));
        assert_eq!(check("x-vault-namespace", "a/"), Err(400));
    }

    #[test]
    fn a_mark_that_cannot_be_read_is_not_ignored() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(SEEN_HEADER, value.parse().expect("legal"));
            }
            seen(&headers).map_err(|refusal| refusal.status())
        };
        let mark = Mark { epoch: 2, incarnation: "0f".repeat(16), generation: 7 };
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[&mark.to_string()]), Ok(Some(mark.clone())));
        for bad in [&[""][..], &["2.7"], &[&mark.to_string(), &mark.to_string()]] {
            assert_eq!(read(bad), Err(400), "{bad:?}");
        }
    }

    #[test]
    fn claims_are_read_and_malformed_ones_are_not() {
        let read = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().expect("legal"));
            }
            let claims = claims(&headers);
            (claims.bundle, claims.token.map(|token| token.reveal().to_owned()))
        };
        let id = "000102030405060708090a0b0c0d0e0f";
        assert_eq!(read(&[(BUNDLE, id)]).0, Some(std::array::from_fn(|i| u8::try_from(i).expect("small"))));
        for bad in ["", "00", &id.to_uppercase(), &format!("{id}00"), &id.replace('f', "g")] {
            assert_eq!(read(&[(BUNDLE, bad)]), (None, None), "{bad}");
        }
        let token = |text: &str| (None, Some(text.to_owned()));
        assert_eq!(read(&[("x-vault-token", "s.x"), ("authorization", "Bearer y")]), token("s.x"));
        assert_eq!(read(&[("x-vault-token", ""), ("authorization", "bearer  y")]), token("y"));
        assert_eq!(read(&[("authorization", "Basic a"), ("authorization", "Bearer y")]), token("y"));
        assert_eq!(read(&[("authorization", "Bearer "), ("authorization", "Bear")]), (None, None));
        assert_eq!(read(&[("x-vault-token", &"a".repeat(5000))]), token(&"a".repeat(MAX_TOKEN)));
    }

    proptest::proptest! {
        #[test]
        fn no_query_panics(raw in ".{0,200}") {
            let _ = Query::parse(Some(&raw)).map(|query| query.to_json());
        }
    }
}
