//! The accept loop: number of connections, handshake time, identity, then HTTP/1.1 with its own limits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::limits::Limits;
use super::routes::{self, App};
use super::source::{Admission, Sources};
use super::tls::Tls;
use super::{ServeError, browser, connection};

/// Pause after a failed accept, which most likely means that no file descriptors are left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Shorter than every time limit of a connection.
const PULSE: Duration = Duration::from_millis(500);

/// Reply to a peer that does not speak TLS.
pub(super) const PLAINTEXT: &str = concat!(
    "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\nX-Strongroom-Error: bad-request\r\n",
    browser::hardened!(),
    "Content-Length: 38\r\n\r\nThis port speaks TLS only: use https.\n",
);

/// State that every connection needs.
pub(super) struct Shared {
    pub tls: Arc<Tls>,
    pub trust_domain: String,
    pub app: Arc<App>,
    pub router: axum::Router,
}

/// Serves the vault until `shutdown`, then drains.
pub(super) async fn run(
    listener: std::net::TcpListener,
    tls: Arc<Tls>,
    trust_domain: String,
    app: Arc<App>,
    shutdown: watch::Receiver<bool>,
) -> Result<(), ServeError> {
    let limits = app.limits;
    let router = routes::router(Arc::clone(&app));
    let shared = Arc::new(Shared { tls, trust_domain, app, router });
    let sources = Sources::new(limits.allowance());
    accept_all(listener, limits, sources, shutdown, move |stream, remote, admission, shutdown| {
        let shared = Arc::clone(&shared);
        async move { connection(&shared, stream, remote, admission, shutdown).await }
    })
    .await
}

/// Accepts connections within the limits of number and source until `shutdown`, then waits for requests in work.
pub(super) async fn accept_all<F: Future<Output = ()> + Send + 'static>(
    listener: std::net::TcpListener,
    limits: Limits,
    sources: Arc<Sources>,
    shutdown: watch::Receiver<bool>,
    serve: impl Fn(TcpStream, SocketAddr, Admission, watch::Receiver<bool>) -> F + Send + 'static,
) -> Result<(), ServeError> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    // Ends with this future.
    let mut tasks = JoinSet::new();
    // Runs as a task on the runtime's own threads. On the thread that blocks on the runtime, every new connection would
    // have to be handed over, which costs two thread switches.
    tasks.spawn(accept_until(listener, limits, sources, shutdown, serve));
    let ended = tokio::select! {
        ended = tasks.join_next() => ended,
        () = pulse() => None,
    };
    match ended {
        Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        _ => Ok(()),
    }
}

/// Keeps a timer that is always due soon. Whenever a new timer is due before all others, the runtime wakes the thread
/// that waits for I/O. With this one, no connection sets such a timer.
async fn pulse() {
    loop {
        sleep(PULSE).await;
    }
}

async fn accept_until<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    limits: Limits,
    sources: Arc<Sources>,
    mut shutdown: watch::Receiver<bool>,
    serve: impl Fn(TcpStream, SocketAddr, Admission, watch::Receiver<bool>) -> F,
) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        // The stop is checked first, so that clients that keep arriving cannot delay it.
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
        let Some(admission) = sources.admit(remote.ip().into(), Instant::now()) else {
            tracing::debug!(%remote, "too many handshakes from one source");
            continue;
        };
        let serving = serve(stream, remote, admission, shutdown.clone());
        // The place is occupied until the connection has ended, not only until it is accepted.
        connections.spawn(async move {
            serving.await;
            drop(permit);
        });
    }
    // Closed before the wait for the old connections, so that new clients are rejected at once instead of waiting for a
    // server that is stopping.
    drop(listener);
    let drained = timeout(limits.drain, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::warn!(left = connections.len(), "closing connections that did not finish in time");
        connections.shutdown().await;
    }
}

/// Resolves when shutdown is requested, or can no longer be requested.
pub(super) async fn stopped(shutdown: &mut watch::Receiver<bool>) {
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
            tracing::warn!(%error, "cannot accept a connection");
            None
        }
    }
}

async fn connection(
    shared: &Arc<Shared>,
    stream: TcpStream,
    remote: SocketAddr,
    admission: Admission,
    mut shutdown: watch::Receiver<bool>,
) {
    let limits = shared.app.limits;
    let opened = tokio::select! {
        opened = timeout(limits.handshake, handshake(shared.tls.mutual(), stream, remote)) => opened,
        () = stopped(&mut shutdown) => return,
    };
    let Ok(Some(stream)) = opened else { return };
    connection::serve(shared, stream, remote, admission, shutdown).await;
}

/// Performs the TLS handshake. `None` when the peer does not speak TLS, or no version or cipher suite that is accepted
/// here.
pub(super) async fn handshake(
    config: Arc<ServerConfig>,
    mut stream: TcpStream,
    remote: SocketAddr,
) -> Option<TlsStream<TcpStream>> {
    let _ = stream.set_nodelay(true);
    let mut first = [0_u8; 1];
    match stream.peek(&mut first).await {
        Ok(1) if first[0].is_ascii_uppercase() => {
            let _ = stream.write_all(PLAINTEXT.as_bytes()).await;
            let _ = stream.shutdown().await;
            return None;
        }
        Ok(1) => {}
        _ => return None,
    }
    match TlsAcceptor::from(config).accept(stream).await {
        Ok(stream) => Some(stream),
        Err(error) => {
            tracing::debug!(%remote, %error, "handshake");
            None
        }
    }
}
