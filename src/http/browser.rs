//! Rejects browsers: a page must not use the certificate in its visitor's browser.
//!
//! A browser with a client certificate presents it to any address that a page names. Nothing here is meant for pages.
//! So every request that a page could have caused is rejected, whatever its origin, and every reply forbids caching,
//! sniffing, framing and scripts. No reply has a CORS header, so there is no way around this. hyper itself rejects what
//! it cannot parse as a request with 400, 414 or 431, without these headers and without a body.

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, HeaderName, HeaderValue, ORIGIN, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{HeaderMap, Request};
use tower::ServiceExt;

use super::status::Refusal;
use crate::api::error::Reason;

/// The same headers, for replies that are written by hand.
macro_rules! hardened {
    () => {
        "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nContent-Security-Policy: default-src 'none'; \
         frame-ancestors 'none'\r\nReferrer-Policy: no-referrer\r\n"
    };
}
pub(super) use hardened;

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Headers of every reply.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

/// Answers one request, unless a page could have caused it.
pub(super) async fn answer(router: Router, request: Request<Body>) -> Response {
    let mut reply = match check(request.headers()) {
        Ok(()) => router.oneshot(request).await.unwrap_or_else(|never| match never {}),
        Err(refusal) => refusal.reply(),
    };
    for (name, value) in HEADERS {
        reply.headers_mut().insert(name, value);
    }
    reply
}

/// Checks that no page caused the request.
///
/// # Errors
/// 403 for a request from a page: it has an origin, a cookie or another site (Fetch Metadata), or it is the request that
/// a browser sends before a cross-origin request (CORS preflight).
fn check(headers: &HeaderMap) -> Result<(), Refusal> {
    let sites = headers.get_all(FETCH_SITE);
    let foreign = sites.iter().any(|site| !matches!(site.as_bytes(), b"none" | b"same-origin"));
    let preflight = headers.keys().any(|name| name.as_str().starts_with("access-control-request-"));
    if foreign || preflight || headers.contains_key(ORIGIN) || headers.contains_key(COOKIE) {
        return Err(Refusal::denied(Reason::WebPage, "permission denied: requests from web pages are not answered"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headers_by_hand_are_the_same() {
        let written: String =
            HEADERS.iter().map(|(name, value)| format!("{name}: {}\r\n", value.to_str().expect("text"))).collect();
        assert_eq!(written.to_lowercase(), hardened!().to_lowercase());
    }

    #[test]
    fn pages_are_told_by_their_headers() {
        for (name, value, refused) in [
            ("origin", "https://vault.example.org", true),
            ("origin", "null", true),
            ("cookie", "a=b", true),
            ("sec-fetch-site", "cross-site", true),
            ("sec-fetch-site", "same-site", true),
            ("sec-fetch-site", "", true),
            ("sec-fetch-site", "none", false),
            ("sec-fetch-site", "same-origin", false),
            ("access-control-request-method", "GET", true),
            ("access-control-request-headers", "x-vault-token", true),
            ("access-control-request-private-network", "true", true),
            ("accept", "text/html", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().expect("legal"));
            assert_eq!(check(&headers).is_err(), refused, "{name}: {value}");
        }
        let mut headers = HeaderMap::new();
        headers.append("sec-fetch-site", HeaderValue::from_static("none"));
        headers.append("sec-fetch-site", HeaderValue::from_static("cross-site"));
        assert!(check(&headers).is_err());
    }
}
