//! One connection from the end of its handshake to its close: its holder, its requests, and when it must close.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::server::TlsStream;

use super::browser;
use super::identity::Peer;
use super::limits::Limits;
use super::listener::{Shared, stopped};
use super::pace::{Pace, Paced};
use super::source::Admission;
use crate::core::{Clock, Session, SystemClock, Vault};

/// Reply to a connection over the limit of its identity.
const CROWDED: &str = concat!(
    "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n\
     X-Strongroom-Error: too-many; retry-after=1\r\n",
    browser::hardened!(),
    "Content-Length: 54\r\n\r\n{\"errors\":[\"too many connections with this identity\"]}",
);

/// How often a connection checks whether its holder is still admitted. The clock may jump, so no timer runs for longer.
const REVIEW: Duration = Duration::from_secs(10);
/// How long an idle connection has to close properly.
const FAREWELL: Duration = Duration::from_millis(50);
/// How long a caller that is not admitted has to send a request and read the rejection.
const LAST_WORD: Duration = Duration::from_secs(2);
/// How long a waiting request may continue on a connection that must close.
const CUT: Duration = Duration::from_millis(500);

/// Why the server ends a connection that the peer would have kept open.
enum End {
    /// The server stops, or the connection has reached its maximum age. It ends between two requests.
    Gently,
    /// Its holder is no longer admitted.
    Dismissed,
}

/// Serves one connection after its handshake.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    stream: TlsStream<TcpStream>,
    remote: SocketAddr,
    admission: Admission,
    mut shutdown: watch::Receiver<bool>,
) {
    let limits = shared.app.limits;
    let Some(chain) = stream.get_ref().1.peer_certificates() else { return };
    let proof = shared.tls.origin_of(chain);
    let peer = Peer::inspect(chain, proof, &shared.trust_domain, remote).map(Arc::new);
    let mut session = None;
    if let Some(peer) = &peer {
        let sessions = shared.app.vault.sessions();
        session = sessions.enter(Arc::clone(peer.facts()), limits.connections_per_identity, limits.outsiders());
        if session.is_none() {
            tracing::warn!(%remote, identity = %peer.identity(), "too many connections of one identity");
            let _ = timeout(limits.handshake, turn_away(stream)).await;
            return;
        }
    }
    let pace = Arc::new(Pace::default());
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let in_work = pace.request();
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(Arc::clone(&pace));
        if let Some(peer) = &peer {
            request.extensions_mut().insert(Arc::clone(peer));
        }
        let router = shared.router.clone();
        async move {
            let reply = browser::answer(router, request).await;
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
    let vault = &shared.app.vault;
    // A caller that is not admitted from the start gets one reply that says so, because a bare close would look like a
    // broken network. The same applies to a peer whose certificate names no identity: no limit of an identity applies to
    // it, and nothing would ever close its connection. An expired certificate is different: it ends the connection.
    let barred = session
        .as_ref()
        .is_none_or(|session| SystemClock.now_ms() < session.caller().not_after_ms && !vault.admits(session.caller()));
    // No limit of an identity applies to an unknown caller, so the limit of its address applies, as during the
    // handshake.
    let _held = if barred {
        // It does not count as a connection of the identity: waiting until its last one closes must not include this
        // one.
        session = None;
        Some(admission)
    } else {
        drop(admission);
        None
    };
    let end = tokio::select! {
        // In this order, so that no request is answered after the certificate has expired.
        biased;
        () = dismissed(vault, &mut session) => End::Dismissed,
        () = stopped(&mut shutdown) => End::Gently,
        () = sleep(age(limits.age)) => End::Gently,
        () = sleep(LAST_WORD), if barred => End::Dismissed,
        ended = serving.as_mut() => return note(remote, ended),
    };
    serving.as_mut().graceful_shutdown();
    if let End::Gently = end {
        // Wait for the request in work, but not if its holder is no longer admitted.
        tokio::select! {
            ended = serving.as_mut() => return note(remote, ended),
            () = dismissed(vault, &mut session) => {}
        }
    }
    tracing::info!(%remote, "closing a connection: its certificate is no longer accepted");
    cut(serving, &pace, &limits).await;
}

fn note(remote: SocketAddr, ended: hyper::Result<()>) {
    if let Err(error) = ended {
        tracing::debug!(%remote, %error, "connection");
    }
}

/// The age at which a connection ends: up to a twelfth less than `most`, so that clients that connected together do not
/// reconnect together.
fn age(most: Duration) -> Duration {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    // An odd step reaches all 256 values and keeps neighbours far apart.
    let draw = NEXT.fetch_add(159, Ordering::Relaxed);
    most - most / 12 * u32::from(draw) / 256
}

/// Resolves when the connection must close: the session was ended, its certificate has expired, or the vault no longer
/// admits its holder. Never resolves for a connection without a session; such a connection ends by itself.
async fn dismissed(vault: &Vault, session: &mut Option<Session>) {
    let Some(session) = session else { return std::future::pending().await };
    let caller = Arc::clone(session.caller());
    loop {
        let now_ms = SystemClock.now_ms();
        if now_ms > caller.not_after_ms || !vault.admits(&caller) {
            return;
        }
        tokio::select! {
            () = session.closed() => return,
            () = sleep(until_review(now_ms, caller.not_after_ms)) => {}
        }
    }
}

/// How long a connection whose certificate expires at `not_after_ms` may go unchecked.
fn until_review(now_ms: u64, not_after_ms: u64) -> Duration {
    Duration::from_millis(not_after_ms.saturating_sub(now_ms).saturating_add(1)).min(REVIEW)
}

/// Ends a connection that was asked to shut down. A request that the vault is working on gets its reply. A request that
/// waits, or whose peer does not read, is cut.
async fn cut<F: Future>(mut serving: Pin<&mut F>, pace: &Pace, limits: &Limits) {
    let grace = if pace.is_in_work() { CUT } else { FAREWELL };
    if timeout(grace, serving.as_mut()).await.is_ok() || !pace.is_in_work() {
        return;
    }
    if !pace.is_deciding() {
        return;
    }
    let last = Instant::now() + limits.drain;
    while pace.is_deciding() && Instant::now() < last {
        if timeout(FAREWELL, serving.as_mut()).await.is_ok() {
            return;
        }
    }
    // The vault has decided, and the reply is on its way.
    let _ = timeout(CUT, serving.as_mut()).await;
}

/// Answers one request without parsing it. Reads it first, because closing with unread bytes would reset the connection,
/// and the peer would lose the reply.
async fn turn_away(mut stream: TlsStream<TcpStream>) {
    let mut request = [0_u8; 2048];
    if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
        let _ = stream.write_all(CROWDED.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_differ_and_stay_near_their_limit() {
        let most = Duration::from_secs(12 * 3600);
        let ages: Vec<Duration> = (0..200).map(|_| age(most)).collect();
        assert!(ages.iter().all(|age| *age <= most && *age >= most - most / 12), "{ages:?}");
        assert!(ages.iter().collect::<std::collections::BTreeSet<_>>().len() > 20);
    }

    #[test]
    fn the_end_of_a_certificate_is_waited_for_and_no_timer_is_trusted_for_long() {
        assert_eq!(until_review(1_000, 3_000), Duration::from_millis(2_001));
        assert_eq!(until_review(3_000, 3_000), Duration::from_millis(1));
        assert_eq!(until_review(0, u64::MAX), Duration::from_secs(10));
        assert_eq!(until_review(1, 0), Duration::from_millis(1), "the clock went on meanwhile");
    }

    /// How long a connection lives on whose service would take `needed`.
    async fn lives(needed: Duration, in_work: bool, deciding: bool) -> Duration {
        let pace = Arc::new(Pace::default());
        let request = in_work.then(|| pace.request());
        let decision = deciding.then(|| pace.decide());
        let start = Instant::now();
        let serving = async {
            sleep(needed).await;
            drop((request, decision));
        };
        tokio::pin!(serving);
        cut(serving, &pace, &Limits { drain: Duration::from_millis(1500), ..Limits::default() }).await;
        start.elapsed()
    }

    #[tokio::test]
    async fn only_what_the_vault_works_on_is_waited_for() {
        let ms = Duration::from_millis;
        let for_ever = Duration::from_secs(60);
        let (idle, waiting, quick, deciding, stuck) = tokio::join!(
            lives(for_ever, false, false),
            lives(for_ever, true, false),
            lives(ms(200), true, false),
            lives(ms(1_000), true, true),
            lives(for_ever, true, true),
        );
        assert!(idle < CUT, "{idle:?}");
        assert!(waiting >= CUT && waiting < ms(900), "{waiting:?}");
        assert!(quick >= ms(200) && quick < CUT, "{quick:?}");
        assert!(deciding >= ms(1_000) && deciding < ms(1_400), "{deciding:?}");
        assert!(stuck >= ms(2_000) && stuck < ms(4_000), "{stuck:?}");
    }
}
