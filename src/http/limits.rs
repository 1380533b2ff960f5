//! Every limit of the listener in one place.

use std::time::Duration;

use super::source::Allowance;

/// Limits of time, size and number. They act before anything is parsed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections, handshakes included; more wait in the kernel's queue.
    pub connections: usize,
    /// Open connections of one identity; more are closed after the handshake.
    pub connections_per_identity: usize,
    /// Handshakes of one source (an IPv4 address, or a /64 of IPv6) at the same time, together with its connections that
    /// are only told that they may not be here; more are closed unread. By default at
    /// most an eighth of all connections: eight sources must work together before others wait.
    pub handshakes_per_source: usize,
    /// Handshakes of one source a second, sustained; five times as many in a burst.
    pub handshake_rate_per_source: u32,
    /// Request body, bytes (413).
    pub body_bytes: usize,
    /// Request head, bytes (431).
    pub head_bytes: usize,
    /// TLS handshake.
    pub handshake: Duration,
    /// Request head, from its first byte.
    pub head: Duration,
    /// Wait for the first byte of a request on an open connection.
    pub idle: Duration,
    /// Longest time that a reply may make no progress because the peer does not read.
    pub stall: Duration,
    /// Request body (408).
    pub body: Duration,
    /// Requests in work at shutdown.
    pub drain: Duration,
    /// Longest life of a connection; it ends between two requests, up to a twelfth earlier.
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
    /// For the listener of enrolment: one small request a connection, from peers that nothing is known about.
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

    /// Open connections of all certificates of outside PKIs together: one person can have many of those, each an identity
    /// of its own, and must leave room for the identities of the vault.
    pub(super) fn outsiders(&self) -> usize {
        self.connections / 2
    }

    /// What one source may do before it is known.
    pub(super) fn allowance(&self) -> Allowance {
        Allowance { together: self.handshakes_per_source, per_second: self.handshake_rate_per_source }
    }
}
