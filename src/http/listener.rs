//! The accept loop: number of connections, handshake time, identity, then HTTP/1.1 with its own limits.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;

use super::ServeError;
use super::identity::Peer;
use super::pace::{Pace, Paced};
use super::routes::{self, App};
use super::tls::Tls;

/// Pause after a failed accept: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const PLAINTEXT: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\
    Content-Length: 38\r\n\r\nThis port speaks TLS only: use https.\n";

/// What a connection over the limit of its identity is told.
const CROWDED: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n\
    Retry-After: 1\r\nConnection: close\r\nContent-Length: 54\r\n\r\n\
    {\"errors\":[\"too many connections with this identity\"]}";

struct Shared {
    tls: Arc<Tls>,
    trust_domain: String,
    app: Arc<App>,
    router: axum::Router,
}

/// Accepts until `shutdown`, then drains.
pub(super) async fn run(
    listener: std::net::TcpListener,
    tls: Arc<Tls>,
    trust_domain: String,
    app: Arc<App>,
    mut shutdown: watch::Receiver<bool>,
) -> Result<(), ServeError> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let limits = app.limits;
    let room = Arc::new(Semaphore::new(limits.connections));
    let router = routes::router(Arc::clone(&app));
    let shared = Arc::new(Shared { tls, trust_domain, app, router });
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stopped(&mut shutdown) => break,
            accepted = accept(&listener, &room) => accepted,
        };
        while connections.try_join_next().is_some() {}
        let Some((stream, remote, permit)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let (shared, shutdown) = (Arc::clone(&shared), shutdown.clone());
        connections.spawn(async move {
            connection(&shared, stream, remote, shutdown).await;
            drop(permit);
        });
    }
    drop(listener);
    let drained = timeout(limits.drain, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!(left = connections.len(), "closing connections that did not finish in time");
        connections.shutdown().await;
    }
    Ok(())
}

/// Resolves when the shutdown is asked for, or can no longer be.
async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // The guard inside the result must not live across an await.
    let _ = shutdown.wait_for(|stop| *stop).await.map(|guard| *guard);
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, remote)) => Some((stream, remote, permit)),
        Err(error) => {
            tracing::warn!(%error, "accepting a connection");
            None
        }
    }
}

async fn connection(shared: &Arc<Shared>, stream: TcpStream, remote: SocketAddr, mut shutdown: watch::Receiver<bool>) {
    let limits = shared.app.limits;
    let opened = tokio::select! {
        opened = timeout(limits.handshake, handshake(shared, stream, remote)) => opened,
        () = stopped(&mut shutdown) => return,
    };
    let Ok(Some(stream)) = opened else { return };
    let Some(chain) = stream.get_ref().1.peer_certificates() else { return };
    let proof = shared.tls.origin_of(chain);
    let peer = Peer::inspect(chain, proof, &shared.trust_domain, remote).map(Arc::new);
    let session = match &peer {
        Some(peer) => {
            let session = shared.app.vault.sessions().enter(Arc::clone(peer.facts()), limits.connections_per_identity);
            if session.is_none() {
                tracing::warn!(%remote, identity = %peer.identity(), "too many connections of one identity");
                let _ = timeout(limits.handshake, turn_away(stream)).await;
                return;
            }
            session
        }
        None => None,
    };
    let pace = Arc::new(Pace::default());
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let in_work = pace.request();
        let mut request = request.map(axum::body::Body::new);
        if let Some(peer) = &peer {
            request.extensions_mut().insert(Arc::clone(peer));
        }
        let router = shared.router.clone();
        async move {
            let reply = router.oneshot(request).await.unwrap_or_else(|never| match never {});
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
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stopped(&mut shutdown) => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%remote, %error, "connection");
    }
    drop(session);
}

/// Answers one request without looking at it. Reading first: closing with unread bytes would reset the connection, and
/// the peer would lose the answer.
async fn turn_away(mut stream: TlsStream<TcpStream>) {
    let mut request = [0_u8; 2048];
    if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
        let _ = stream.write_all(CROWDED).await;
        let _ = stream.shutdown().await;
    }
}

async fn handshake(shared: &Shared, mut stream: TcpStream, remote: SocketAddr) -> Option<TlsStream<TcpStream>> {
    let _ = stream.set_nodelay(true);
    let mut first = [0_u8; 1];
    match stream.peek(&mut first).await {
        Ok(1) if first[0].is_ascii_uppercase() => {
            let _ = stream.write_all(PLAINTEXT).await;
            let _ = stream.shutdown().await;
            return None;
        }
        Ok(1) => {}
        _ => return None,
    }
    match TlsAcceptor::from(shared.tls.mutual()).accept(stream).await {
        Ok(stream) => Some(stream),
        Err(error) => {
            tracing::debug!(%remote, %error, "handshake");
            None
        }
    }
}
