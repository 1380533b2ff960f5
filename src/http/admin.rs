//! The local socket of the daemon's own machine: state, unseal and seal, and a certificate for an operator who can open
//! the vault. It never returns a secret value.
//!
//! Only the daemon's user and root may connect. They could read the data folder anyway, so what the kernel says about
//! the peer is enough.

use std::convert::Infallible;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::response::Response;
use axum::routing::any;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::limits::Limits;
use super::listener::stopped;
use super::pace::{Pace, Paced};
use super::routes::{self, App, Typed};
use super::status::{Refusal, failure};
use super::{ServeError, browser, reply};
use crate::api::error::ErrorCode;
use crate::api::sys::RescueRequest;
use crate::core::{Opener, Vault, VaultError};

/// Largest number of connections at the same time.
const CONNECTIONS: usize = 16;
/// How long a rejected peer has to read the reason.
const TURN_AWAY: Duration = Duration::from_secs(2);
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const FOREIGN: &str = concat!(
    "HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nConnection: close\r\nX-Strongroom-Error: denied\r\n",
    browser::hardened!(),
    "Content-Length: 77\r\n\r\n{\"errors\":[\"permission denied: only the daemon's user and root may do this\"]}",
);

/// Serves the local socket until `shutdown` turns true. `owner` is the user id that may connect, besides root.
///
/// # Errors
/// [`ServeError::Listener`] when the listener cannot be used.
pub async fn serve(
    listener: UnixListener,
    owner: u32,
    vault: Arc<Vault>,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), ServeError> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let limits = Limits::default();
    let router = router(Arc::new(App { vault, limits }));
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        // Waits for a free place first: connections that are not accepted wait in the kernel's queue and cost nothing.
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { break };
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut shutdown) => break,
            accepted = listener.accept() => accepted,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                let (router, shutdown) = (router.clone(), shutdown.clone());
                connections.spawn(async move {
                    connection(stream, owner, router, limits, shutdown).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a local connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    let _ = timeout(limits.drain, async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/sys/health", any(routes::health))
        .route("/v1/sys/seal-status", any(seal_status))
        .route("/v1/sys/unseal", any(unseal))
        .route("/v1/sys/seal", any(seal))
        .route("/v1/sys/strongroom/certificate", any(certificate))
        .fallback(routes::nothing)
        .with_state(app)
}

async fn connection(
    stream: UnixStream,
    owner: u32,
    router: Router,
    limits: Limits,
    mut shutdown: watch::Receiver<bool>,
) {
    // The peer at the moment of connecting, according to the kernel (SO_PEERCRED).
    let peer = stream.peer_cred().map(|peer| peer.uid());
    if !peer.as_ref().is_ok_and(|user| *user == owner || *user == 0) {
        tracing::warn!(user = ?peer.ok(), "rejected another user on the local socket");
        return turn_away(stream).await;
    }
    // Time limits that hyper does not have, as on the network listener.
    let pace = Arc::new(Pace::default());
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let in_work = pace.request();
        let router = router.clone();
        async move {
            let reply = browser::answer(router, request.map(axum::body::Body::new)).await;
            drop(in_work);
            Ok::<_, Infallible>(reply)
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle)
        .max_buf_size(limits.head_bytes)
        .max_headers(64)
        .serve_connection(TokioIo::new(Paced::new(stream, Arc::clone(&pace), limits)), service);
    tokio::pin!(serving);
    tokio::select! {
        _ = serving.as_mut() => return,
        () = stopped(&mut shutdown) => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}

/// Rejects the first request of any other user, whatever it is.
async fn turn_away(mut stream: UnixStream) {
    let told = async {
        let mut request = [0_u8; 2048];
        if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
            let _ = stream.write_all(FOREIGN.as_bytes()).await;
        }
    };
    let _ = timeout(TURN_AWAY, told).await;
}

async fn seal_status(State(app): State<Arc<App>>, request: HttpRequest) -> Response {
    match routes::only(request.method(), &["GET"]) {
        Ok(()) => reply::raw(StatusCode::OK, &app.vault.seal_status_for(Opener::Local)),
        Err(refusal) => refusal.reply(),
    }
}

async fn unseal(State(app): State<Arc<App>>, request: HttpRequest) -> Response {
    routes::unseal_by(&app, request, None).await.unwrap_or_else(|reply| reply)
}

async fn seal(State(app): State<Arc<App>>, request: HttpRequest) -> Response {
    if let Err(refusal) = routes::only(request.method(), &["PUT", "POST"]) {
        return refusal.reply();
    }
    let vault = Arc::clone(&app.vault);
    // Waits for running reads and the last commit.
    match tokio::task::spawn_blocking(move || vault.seal()).await {
        Ok(()) => {
            tracing::info!("sealed over the local socket");
            reply::raw(StatusCode::OK, &app.vault.seal_status())
        }
        Err(_) => Refusal::new(ErrorCode::Internal, "internal error").reply(),
    }
}

/// Issues a certificate to an operator who has no valid one, but can open the vault.
async fn certificate(State(app): State<Arc<App>>, request: HttpRequest) -> Response {
    rescue(&app, request).await.unwrap_or_else(|reply| reply)
}

async fn rescue(app: &Arc<App>, http: HttpRequest) -> Result<Response, Response> {
    let asked = routes::asked(app, http, "", RescueRequest::read).await?;
    let typed = Typed::of(asked.key, asked.key_file)?;
    let (vault, identity, csr) = (Arc::clone(&app.vault), asked.identity, asked.csr);
    // Key derivation takes a second by design.
    let done = tokio::task::spawn_blocking(move || vault.rescue(&typed.key(), &identity, &csr)).await;
    Ok(match done.unwrap_or(Err(VaultError::Internal)) {
        Ok(certified) => reply::raw(StatusCode::OK, &certified),
        Err(error) => failure(&error, ""),
    })
}
