//! Every limit of the listener in one place.

use std::time::Duration;

use super::source::Allowance;

/// Limits of time, size and number. They apply before anything is parsed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections, including handshakes. Further ones wait in the kernel's queue.
    pub connections: usize,
    /// Open connections of one identity. Further ones are closed after the handshake.
    pub connections_per_identity: usize,
    /// Handshakes of one source (an IPv4 address, or a /64 of IPv6) at the same time, plus its connections that only
    /// wait for a rejection. Further ones are closed unread. The default is at most an eighth of all connections, so
    /// others have to wait only if eight sources act together.
    pub handshakes_per_source: usize,
    /// Handshakes of one source per second, sustained; a burst may have five times as many.
    pub handshake_rate_per_source: u32,
    /// Largest request body, in bytes (413).
    pub body_bytes: usize,
    /// Largest request head, in bytes (431).
    pub head_bytes: usize,
    /// Time for a TLS handshake.
    pub handshake: Duration,
    /// Time for a request head, from its first byte.
    pub head: Duration,
    /// Time to wait for the first byte of a request on an open connection.
    pub idle: Duration,
    /// Longest time that a reply may make no progress because the peer does not read.
    pub stall: Duration,
    /// Time for a request body (408).
    pub body: Duration,
    /// Time for requests in work at shutdown.
    pub drain: Duration,
    /// Maximum age of a connection. It ends between two requests, up to a twelfth earlier.
    pub age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_identity: 64,
            handshakes_per_source: 128,
            handshake_rate_per_source: 200,
            body_bytes: (1 << 20) + (64 << 10),
            head_bytes: 16 << 10,
            handshake: Duration::from_secs(5),
            head: Duration::from_secs(5),
            idle: Duration::from_secs(75),
            stall: Duration::from_secs(30),
            body: Duration::from_secs(30),
            drain: Duration::from_secs(10),
            age: Duration::from_secs(12 * 3600),
        }
    }
}

impl Limits {
    /// Limits for the enrolment listener: one small request per connection, from unknown peers.
    #[must_use]
    pub fn enrolment() -> Self {
        Self {
            connections: 128,
            handshakes_per_source: 16,
            handshake_rate_per_source: 20,
            body_bytes: 64 << 10,
            idle: Duration::from_secs(5),
            stall: Duration::from_secs(10),
            body: Duration::from_secs(10),
            ..Self::default()
        }
    }

    /// Open connections of all certificates of outside PKIs together. One person can have many of those, each with its
    /// own identity, and must leave room for the identities of the vault.
    pub(super) fn outsiders(&self) -> usize {
        self.connections / 2
    }

    /// Limits of one source before its identity is known.
    pub(super) fn allowance(&self) -> Allowance {
        Allowance { together: self.handshakes_per_source, per_second: self.handshake_rate_per_source }
    }
}
