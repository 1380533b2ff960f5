//! The enrolment listener: few connections, one small request on each, and growing delays after rejections.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use axum::routing::any;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::refusal::EnrollError;
use crate::api::enroll::{Certified, EnrollRequest, GraceRequest};
use crate::api::error::ErrorCode;
use crate::api::fields::FieldError;
use crate::api::request::Body;
use crate::core::{Channel, Vault, VaultError};
use crate::http::limits::Limits;
use crate::http::listener::{accept_all, handshake, stopped};
use crate::http::pace::{Pace, Paced};
use crate::http::source::{Source, Sources};
use crate::http::status::Refusal;
use crate::http::tls::Tls;
use crate::http::{ServeError, browser, reply, request};
use crate::pki::AuthorityId;

/// RFC 9266 section 2.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
const CRL: &str = "/v1/sys/strongroom/crl";
/// Longest life of a connection after its handshake.
const WHOLE: Duration = Duration::from_secs(60);

struct Desk {
    vault: Arc<Vault>,
    /// Port of the API, which machines use afterwards.
    port: u16,
    sources: Arc<Sources>,
    limits: Limits,
}

/// Serves enrolment until `shutdown` turns true, then finishes requests in work for at most [`Limits::drain`].
/// [`Limits::enrolment`] has what fits. `port` is the port of the API on the hosts that an enrolment string names.
///
/// # Errors
/// [`ServeError::Listener`] when the listener cannot be used.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<Tls>,
    limits: Limits,
    (vault, port): (Arc<Vault>, u16),
    shutdown: watch::Receiver<bool>,
) -> Result<(), ServeError> {
    let sources = Sources::new(limits.allowance());
    let desk = Arc::new(Desk { vault, port, sources: Arc::clone(&sources), limits });
    let router = Router::new()
        .route("/v1/sys/strongroom/enroll", any(enroll))
        .route("/v1/sys/strongroom/enroll/renew", any(renew))
        .route(CRL, any(revoked))
        .route("/v1/sys/strongroom/crl/{authority}", any(revoked))
        .fallback(nothing)
        .with_state(desk);
    accept_all(listener, limits, sources, shutdown, move |stream, remote, admission, shutdown| {
        let (tls, router) = (Arc::clone(&tls), router.clone());
        async move {
            let _ = timeout(WHOLE, connection(&tls, router, limits, stream, remote, shutdown)).await;
            // Held until the end, because a connection here counts as much as a handshake.
            drop(admission);
        }
    })
    .await
}

async fn connection(
    tls: &Tls,
    router: Router,
    limits: Limits,
    stream: TcpStream,
    remote: SocketAddr,
    mut shutdown: watch::Receiver<bool>,
) {
    let opened = tokio::select! {
        opened = timeout(limits.handshake, handshake(tls.anonymous(), stream, remote)) => opened,
        () = stopped(&mut shutdown) => return,
    };
    let Ok(Some(stream)) = opened else { return };
    // Binds every proof to this connection: one that was intercepted or passed on is valid on no other.
    let Ok(exporter) = stream.get_ref().1.export_keying_material([0; 32], EXPORTER_LABEL, None) else { return };
    let channel = Channel { exporter, remote };
    let pace = Arc::new(Pace::default());
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let in_work = pace.request();
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(channel);
        let router = router.clone();
        async move {
            let reply = browser::answer(router, request).await;
            drop(in_work);
            Ok::<_, Infallible>(reply)
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        // One request per connection, because strangers share few places.
        .keep_alive(false)
        .header_read_timeout(limits.idle)
        .max_buf_size(limits.head_bytes)
        .max_headers(64)
        .serve_connection(TokioIo::new(Paced::new(stream, Arc::clone(&pace), limits)), service);
    if let Err(error) = serving.await {
        tracing::debug!(%remote, %error, "enrolment connection");
    }
}

async fn nothing() -> Response {
    // Not 404: a client that requests a secret here must not believe that there is none.
    reply::errors(
        &ErrorCode::EnrolmentListener.into(),
        Some("this is the enrolment listener, not the API of the vault"),
    )
}

async fn enroll(State(desk): State<Arc<Desk>>, http: HttpRequest) -> Response {
    let (channel, body) = match desk.read(http).await {
        Ok(read) => read,
        Err(reply) => return reply,
    };
    match EnrollRequest::read(&body) {
        Ok(asked) => desk.answer(channel, desk.vault.enroll(asked, channel).await),
        Err(error) => desk.malformed(channel, &error),
    }
}

async fn renew(State(desk): State<Arc<Desk>>, http: HttpRequest) -> Response {
    let (channel, body) = match desk.read(http).await {
        Ok(read) => read,
        Err(reply) => return reply,
    };
    match GraceRequest::read(&body) {
        Ok(asked) => desk.answer(channel, desk.vault.renew_expired(asked, channel).await),
        Err(error) => desk.malformed(channel, &error),
    }
}

async fn revoked(State(desk): State<Arc<Desk>>, http: HttpRequest) -> Response {
    if !matches!(*http.method(), Method::GET | Method::HEAD) {
        return not_allowed();
    }
    let authority = match http.uri().path().strip_prefix(CRL) {
        None | Some("") => None,
        Some(id) => match AuthorityId::parse(id.strip_prefix('/').unwrap_or(id)) {
            None => return EnrollError::Unknown.reply(),
            found => found,
        },
    };
    let vault = Arc::clone(&desk.vault);
    let list = tokio::task::spawn_blocking(move || vault.revocation_list(authority)).await;
    match list.unwrap_or(Err(VaultError::Internal)) {
        Ok(list) => {
            let mut reply = Response::new(axum::body::Body::from(list));
            reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/pkix-crl"));
            reply
        }
        Err(VaultError::NotFound) => EnrollError::Unknown.reply(),
        Err(error) => EnrollError::of(&error).reply(),
    }
}

impl Desk {
    /// Reads the body of a `POST` from a source that need not wait.
    async fn read(&self, http: HttpRequest) -> Result<(Channel, Body), Response> {
        let (parts, body) = http.into_parts();
        let channel = parts.extensions.get::<Channel>().copied();
        let channel = channel.ok_or_else(|| Refusal::forbidden().reply())?;
        let early = if parts.method != Method::POST {
            Some(not_allowed())
        } else {
            let delay = self.sources.delay(Source::from(channel.remote.ip()), Instant::now());
            delay.map(|delay| EnrollError::TooMany { retry_after_s: delay.as_secs().saturating_add(1) }.reply())
        };
        if let Some(reply) = early {
            request::discard(body, &self.limits).await;
            return Err(reply);
        }
        let body = request::read(&parts.headers, body, &self.limits).await.map_err(|refusal| refusal.reply())?;
        let body = request::object(body).map_err(|refusal| {
            self.count(channel);
            refusal.reply()
        })?;
        Ok((channel, body))
    }

    /// Answers a body with a wrong field. The vault does not see it.
    fn malformed(&self, channel: Channel, error: &FieldError) -> Response {
        self.count(channel);
        reply::errors(&ErrorCode::BadRequest.into(), Some(&error.to_string()))
    }

    /// Makes the source of a rejected request wait. A body that cannot be parsed costs work too, and an honest client
    /// sends one at most once.
    fn count(&self, channel: Channel) {
        self.sources.refused(Source::from(channel.remote.ip()), Instant::now());
        tracing::warn!(remote = %channel.remote, "enrolment rejected");
    }

    fn answer(&self, channel: Channel, decision: Result<Certified, VaultError>) -> Response {
        let source = Source::from(channel.remote.ip());
        match decision.map_err(|error| EnrollError::of(&error)) {
            Ok(enrolled) => {
                let enrolled = self.with_our_port(enrolled);
                self.sources.granted(source);
                tracing::info!(remote = %channel.remote, identity = enrolled.identity, "enrolled");
                reply::raw(StatusCode::OK, &enrolled)
            }
            Err(error) => {
                if matches!(error, EnrollError::Refused | EnrollError::Malformed(_)) {
                    self.count(channel);
                }
                error.reply()
            }
        }
    }

    /// Replaces the ports of the addresses, which are those of this listener, with the port of the API.
    fn with_our_port(&self, enrolled: Certified) -> Certified {
        let hosts = enrolled.addresses.iter().filter_map(|address| address.rsplit_once(':'));
        Certified { addresses: hosts.map(|(host, _)| format!("{host}:{}", self.port)).collect(), ..enrolled }
    }
}

fn not_allowed() -> Response {
    Refusal::method().reply()
}
