//! Time limits inside one connection that hyper does not have.
//!
//! hyper has one limit for both the wait for a request and its head. Here they differ: an idle connection may stay open
//! for a while, but a head that has begun must arrive quickly, and a peer must keep reading its reply.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::limits::Limits;

const IDLE: u8 = 0;
const HEAD: u8 = 1;
const IN_WORK: u8 = 2;

/// Where a connection is between two requests.
#[derive(Default)]
pub(super) struct Pace {
    state: AtomicU8,
    deciding: AtomicBool,
}

/// A request on which the vault is working. It will be done soon.
pub(super) struct Deciding(Arc<Pace>);

/// A request whose head has been read. The connection is idle again when this is dropped.
pub(super) struct InWork(Arc<Pace>);

impl Pace {
    /// Called when a head is complete.
    pub(super) fn request(self: &Arc<Self>) -> InWork {
        self.state.store(IN_WORK, Ordering::Relaxed);
        InWork(Arc::clone(self))
    }

    /// Called when the vault has the request.
    pub(super) fn decide(self: &Arc<Self>) -> Deciding {
        self.deciding.store(true, Ordering::Relaxed);
        Deciding(Arc::clone(self))
    }

    /// Whether a request was read and has not been answered yet.
    pub(super) fn is_in_work(&self) -> bool {
        self.state.load(Ordering::Relaxed) == IN_WORK
    }

    /// Whether the vault is working on a request.
    pub(super) fn is_deciding(&self) -> bool {
        self.deciding.load(Ordering::Relaxed)
    }
}

impl Drop for Deciding {
    fn drop(&mut self) {
        self.0.deciding.store(false, Ordering::Relaxed);
    }
}

impl Drop for InWork {
    fn drop(&mut self) {
        self.0.state.store(IDLE, Ordering::Relaxed);
    }
}

/// A stream that fails with [`io::ErrorKind::TimedOut`] when the peer is too slow.
pub(super) struct Paced<S> {
    stream: S,
    pace: Arc<Pace>,
    head: Duration,
    stall: Duration,
    reading: Pin<Box<Sleep>>,
    writing: Pin<Box<Sleep>>,
    stalled: bool,
    /// Whether the peer has closed without a TLS close alert.
    gone: bool,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, pace: Arc<Pace>, limits: Limits) -> Self {
        Self {
            stream,
            pace,
            head: limits.head,
            stall: limits.stall,
            reading: Box::pin(sleep(limits.head)),
            writing: Box::pin(sleep(limits.stall)),
            stalled: false,
            gone: false,
        }
    }

    /// Passes `result` on, unless it has been pending for too long.
    fn watched<T>(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stalled = false;
            return result;
        }
        if !self.stalled {
            self.stalled = true;
            self.writing.as_mut().reset(Instant::now() + self.stall);
        }
        ready!(self.writing.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.gone |= matches!(result, Poll::Ready(Err(_)));
        let state = self.pace.state.load(Ordering::Relaxed);
        match (&result, state) {
            (Poll::Ready(Ok(())), IDLE) if buffer.filled().len() > before => {
                self.pace.state.store(HEAD, Ordering::Relaxed);
                let end = Instant::now() + self.head;
                self.reading.as_mut().reset(end);
                result
            }
            // This also applies when bytes arrive, so that a peer cannot send one byte at a time forever.
            (Poll::Pending, HEAD) => {
                ready!(self.reading.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            _ => result,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watched(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.watched(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gone {
            // A close alert to a peer that has gone would be answered with a reset.
            return Poll::Ready(Ok(()));
        }
        let result = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watched(cx, result)
    }
}
