//! The routes: a few without an envelope, and one for everything else, because mounts are runtime data.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use axum::routing::any;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::{HeaderMap, Method, StatusCode};
use serde::Serialize;
use zeroize::Zeroizing;

use super::identity::Peer;
use super::limits::Limits;
use super::pace::Pace;
use super::reply;
use super::request::{self, Query};
use super::status::{Refusal, failure};
use crate::api::error::{ErrorCode, Reason};
use crate::api::fields::FieldError;
use crate::api::mark::Mark;
use crate::api::path::Path;
use crate::api::request::{Body, Operation};
use crate::api::secret::SecretText;
use crate::api::sys::UnsealRequest;
use crate::core::{Caller, Clock, Opener, Request, SystemClock, UnsealKey, Vault, VaultError, canonical};

/// State that every request needs.
pub(super) struct App {
    pub vault: Arc<Vault>,
    pub limits: Limits,
}

/// Endpoints whose `data` keys are repeated at the top level for old clients: this path or everything below it.
const LEGACY: &[&str] = &[
    "audit",
    "audit-hash",
    "auth",
    "capabilities",
    "capabilities-accessor",
    "capabilities-self",
    "key-status",
    "mounts",
    "policy",
    "remount",
    "rotate",
];

/// The one path where a request may wait for a long time.
const WAITING: &str = "sys/strongroom/events";

/// Delay of the reply to a caller over a limit. A rejection costs next to nothing in the core, but a client that does
/// not wait could send thousands of requests per second on each connection, and TLS would take processor time from the
/// others.
const SLOWED: Duration = Duration::from_millis(100);

#[derive(Serialize)]
struct Initialized {
    initialized: bool,
}

pub(super) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/sys/health", any(health))
        .route("/v1/sys/init", any(init))
        .route("/v1/sys/seal-status", any(seal_status))
        .route("/v1/sys/unseal", any(unseal))
        .route("/v1/sys/leader", any(leader))
        .route("/v1/sys/strongroom/mark", any(mark))
        .route("/v1/{*path}", any(everything))
        .fallback(nothing)
        .with_state(app)
}

pub(super) async fn nothing() -> Response {
    reply::errors(&ErrorCode::NotFound.into(), None)
}

/// Returns the caller, if the connection's certificate names one and is still valid.
fn caller(request: &HttpRequest) -> Result<Caller, Refusal> {
    let peer = request.extensions().get::<Arc<Peer>>().ok_or(Refusal::forbidden())?;
    if peer.expired(SystemClock.now_ms()) {
        let text = "permission denied: the client certificate has expired";
        return Err(Refusal::denied(Reason::CertificateExpired, text));
    }
    Ok(peer.caller(request::claims(request.headers())))
}

pub(super) fn only(method: &Method, allowed: &[&str]) -> Result<(), Refusal> {
    if allowed.contains(&method.as_str()) {
        return Ok(());
    }
    Err(Refusal::method())
}

pub(super) async fn health(State(app): State<Arc<App>>, request: HttpRequest) -> Response {
    let answer = || {
        only(request.method(), &["GET", "HEAD"])?;
        let query = Query::parse(request.uri().query())?;
        let health = app.vault.health();
        let (parameter, code) = match (health.initialized, health.sealed) {
            (false, _) => ("uninitcode", 501),
            (true, true) => ("sealedcode", 503),
            (true, false) => ("activecode", 200),
        };
        let status = match query.get(parameter) {
            None => StatusCode::from_u16(code).ok(),
            Some(text) => text
                .parse()
                .ok()
                .filter(|code| (200..600).contains(code))
                .and_then(|code| StatusCode::from_u16(code).ok()),
        };
        Ok(reply::raw(status.ok_or(Refusal::bad("not a status code"))?, &health))
    };
    answer().unwrap_or_else(|refusal: Refusal| refusal.reply())
}

async fn init(State(app): State<Arc<App>>, request: HttpRequest) -> Response {
    let answer = || {
        caller(&request)?;
        only(request.method(), &["GET", "PUT", "POST"])?;
        if request.method() != Method::GET {
            return Err(Refusal::bad("a vault is created on its own machine: strongroomd init"));
        }
        Ok(reply::raw(StatusCode::OK, &Initialized { initialized: app.vault.initialised() }))
    };
    answer().unwrap_or_else(|refusal| refusal.reply())
}

async fn seal_status(State(app): State<Arc<App>>, request: HttpRequest) -> Response {
    match caller(&request).and_then(|caller| only(request.method(), &["GET"]).map(|()| caller)) {
        Ok(caller) => reply::raw(StatusCode::OK, &app.vault.seal_status_for(Opener::Remote(&caller))),
        Err(refusal) => refusal.reply(),
    }
}

async fn leader(State(app): State<Arc<App>>, request: HttpRequest) -> Response {
    match caller(&request).and_then(|_| only(request.method(), &["GET"])) {
        Ok(()) => reply::raw(StatusCode::OK, &app.vault.leader()),
        Err(refusal) => refusal.reply(),
    }
}

/// Returns the vault's mark. Every reply of an open vault has it in its headers, but this one causes no line in the
/// audit log, so that a client can compare before it sends anything that matters.
async fn mark(State(app): State<Arc<App>>, request: HttpRequest) -> Response {
    // Apart, because the request must not be borrowed while this waits.
    fn asked(request: &HttpRequest) -> Result<(Caller, Option<Mark>), Refusal> {
        let caller = caller(request)?;
        only(request.method(), &["GET"])?;
        Ok((caller, request::seen(request.headers())?))
    }
    let (caller, seen) = match asked(&request) {
        Ok(asked) => asked,
        Err(refusal) => return refusal.reply(),
    };
    match app.vault.mark_for(&caller, seen) {
        Ok(mark) => {
            let mut reply = reply::raw(StatusCode::OK, &mark);
            reply::add_mark(&mut reply, &mark);
            reply
        }
        Err(error) => rejected(&error, &caller).await,
    }
}

/// The reply for a request that the vault rejected.
async fn rejected(error: &VaultError, caller: &Caller) -> Response {
    if matches!(error, VaultError::RateLimited { .. }) {
        tokio::time::sleep(SLOWED).await;
    }
    failure(error, &caller.request_id)
}

async fn unseal(State(app): State<Arc<App>>, request: HttpRequest) -> Response {
    let done = match caller(&request) {
        Ok(caller) => unseal_by(&app, request, Some(caller)).await,
        Err(refusal) => Err(refusal.reply()),
    };
    done.unwrap_or_else(|reply| reply)
}

/// Reads the body of a `PUT` or `POST`.
///
/// # Errors
/// The reply: 405 for another method; 400 for a malformed body.
pub(super) async fn asked<T>(
    app: &App,
    http: HttpRequest,
    request_id: &str,
    read: impl FnOnce(&Body) -> Result<T, FieldError>,
) -> Result<T, Response> {
    only(http.method(), &["PUT", "POST"])?;
    let (parts, body) = http.into_parts();
    let bytes = request::read(&parts.headers, body, &app.limits).await?;
    read(&request::object(bytes)?).map_err(|error| failure(&error.into(), request_id))
}

/// Opens the vault with the secret in the body, for a caller over the network or, without one, for the machine itself.
///
/// # Errors
/// The errors of [`asked`]; 400 for a field that this vault does not support.
pub(super) async fn unseal_by(app: &Arc<App>, http: HttpRequest, caller: Option<Caller>) -> Result<Response, Response> {
    let request_id = caller.as_ref().map(|caller| caller.request_id.clone()).unwrap_or_default();
    let asked = asked(app, http, &request_id, UnsealRequest::read).await?;
    if asked.migrate {
        return Err(Refusal::bad("seal migration is not supported").reply());
    }
    if asked.reset {
        return Ok(match app.vault.reset_unseal(caller.as_ref().map_or(Opener::Local, Opener::Remote)) {
            Ok(()) => reply::raw(StatusCode::OK, &app.vault.seal_status()),
            Err(error) => failure(&error, &request_id),
        });
    }
    let typed = Typed::of(asked.key, asked.key_file)?;
    let vault = Arc::clone(&app.vault);
    // Key derivation takes a second by design. It must not hold up other connections.
    let done = tokio::task::spawn_blocking(move || {
        vault.unseal(caller.as_ref().map_or(Opener::Local, Opener::Remote), &typed.key())
    })
    .await;
    Ok(match done.unwrap_or(Err(VaultError::Internal)) {
        Ok(status) => reply::raw(StatusCode::OK, &status),
        Err(error) => failure(&error, &request_id),
    })
}

/// A secret that opens the vault, as it was sent.
pub(super) struct Typed {
    text: Option<SecretText>,
    file: Option<Zeroizing<Vec<u8>>>,
}

impl Typed {
    /// Takes the fields `key` and `key_file`.
    ///
    /// # Errors
    /// 400 when there is neither, or the file is not base64.
    pub(super) fn of(text: Option<SecretText>, file: Option<SecretText>) -> Result<Self, Refusal> {
        let file = file.map(|text| STANDARD.decode(text.reveal().trim()).map(Zeroizing::new)).transpose();
        let file = file.map_err(|_| Refusal::bad("'key_file' must be base64"))?;
        if text.is_none() && file.is_none() {
            return Err(Refusal::bad("'key' must be specified in request body as JSON, or 'reset' set to true"));
        }
        Ok(Self { text, file })
    }

    /// Converts it for the vault.
    pub(super) fn key(&self) -> UnsealKey<'_> {
        match (&self.text, &self.file) {
            (Some(passphrase), Some(file)) => UnsealKey::Both { passphrase, file },
            (Some(text), None) => UnsealKey::Typed(text),
            (None, file) => UnsealKey::KeyFile(file.as_deref().map_or(&[], Vec::as_slice)),
        }
    }
}

async fn everything(State(app): State<Arc<App>>, http: HttpRequest) -> Response {
    let caller = match caller(&http) {
        Ok(caller) => caller,
        Err(refusal) => return refusal.reply(),
    };
    let (mut reply, mark) = match answer(&app, &caller, http).await {
        Ok(reply) => (reply, app.vault.mark()),
        // The vault was not asked, so no limit and no audit line counts the request itself. For an admitted caller
        // the mark is charged as a read of it; over the limit that limit's line is written and no mark is sent.
        Err(refusal) => {
            let mark = app.vault.admits(&caller).then(|| app.vault.mark_for(&caller, None));
            (refusal.reply(), mark.and_then(Result::ok))
        }
    };
    if let Some(mark) = mark {
        reply::add_mark(&mut reply, &mark);
    }
    reply
}

async fn answer(app: &App, caller: &Caller, http: HttpRequest) -> Result<Response, Refusal> {
    let (parts, body) = http.into_parts();
    let (request, legacy) = translate(&parts.method, &parts.uri, &parts.headers, body, &app.limits).await?;
    let metrics =
        request.path.as_str() == "sys/metrics" && Query::parse(parts.uri.query())?.get("format") == Some("prometheus");
    let patches = request.operation == Operation::Patch;
    // Every request except the one that waits on purpose. These take only a moment, so they get their reply.
    let waits = request.path.as_str() == WAITING;
    let _deciding = parts.extensions.get::<Arc<Pace>>().filter(|_| !waits).map(Pace::decide);
    Ok(match app.vault.handle(caller, request).await {
        Ok(reply) if metrics => reply::prometheus(&reply),
        Ok(reply) => reply::success(&reply, &caller.request_id, legacy),
        // As in Vault; every other verb gets `{"errors":[]}`.
        Err(VaultError::NotFound) if patches => reply::empty(&ErrorCode::NotFound.into()),
        Err(error) => rejected(&error, caller).await,
    })
}

/// Parses the request, and returns whether the endpoint repeats its keys.
pub(super) async fn translate(
    method: &Method,
    uri: &hyper::Uri,
    headers: &HeaderMap,
    body: axum::body::Body,
    limits: &Limits,
) -> Result<(Request, bool), Refusal> {
    let query = Query::parse(uri.query())?;
    let operation = request::operation(method, &query)?;
    request::check_headers(headers)?;
    let wrap_ttl = request::wrap_ttl(headers)?;
    let seen = request::seen(headers)?;
    let raw = uri.path().strip_prefix("/v1/").ok_or(Refusal::bad("malformed path"))?;
    let path = Path::parse_uri(raw).map_err(|_| Refusal::bad("malformed path"))?;
    let path = canonical(operation, path);
    let body = request::body(operation, &query, headers, body, limits).await?;
    let legacy = repeats_keys(&path);
    let if_none_match = request::if_none_match(headers)?;
    Ok((Request { operation, path, body, wrap_ttl, if_none_match, seen }, legacy))
}

fn repeats_keys(path: &Path) -> bool {
    let mut segments = path.segments();
    segments.next() == Some("sys")
        && match segments.next() {
            Some("config") => segments.next() == Some("cors"),
            Some("wrapping") => segments.next() == Some("wrap"),
            Some(second) => LEGACY.contains(&second),
            None => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_endpoints_that_repeat_their_keys() {
        for (path, repeated) in [
            ("sys/mounts", true),
            ("sys/mounts/secret/tune", true),
            ("sys/policy/a", true),
            ("sys/policies/acl/a", false),
            ("sys/config/cors", true),
            ("sys/config/ui", false),
            ("secret/data/sys", false),
            ("sys", false),
        ] {
            assert_eq!(repeats_keys(&Path::parse(path).expect("legal")), repeated, "{path}");
        }
    }
}
