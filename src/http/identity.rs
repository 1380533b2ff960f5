//! Who is at the other end of a connection, found out once per connection.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use uuid::Uuid;

use crate::api::spiffe::SpiffeId;
use crate::core::Caller;
use crate::pki::peer;

/// Facts about the peer that hold for the whole connection.
pub(super) struct Peer {
    identity: Arc<SpiffeId>,
    fingerprint: [u8; 32],
    not_before_ms: u64,
    not_after_ms: u64,
    remote: String,
}

impl Peer {
    /// Reads the certificate that TLS has verified. `None`: it names no identity of the trust domain.
    pub(super) fn inspect(der: &[u8], trust_domain: &str, remote: SocketAddr) -> Option<Self> {
        match peer::inspect(der, trust_domain) {
            Ok(found) => Some(Self {
                identity: Arc::new(found.identity),
                fingerprint: found.fingerprint,
                not_before_ms: found.not_before_ms,
                not_after_ms: found.not_after_ms,
                remote: remote.to_string(),
            }),
            Err(error) => {
                tracing::warn!(%remote, %error, "client certificate without a usable identity");
                None
            }
        }
    }

    pub(super) fn identity(&self) -> &Arc<SpiffeId> {
        &self.identity
    }

    /// TLS checked the dates at the handshake only; an open connection must not outlive its certificate.
    pub(super) fn expired(&self, now_ms: u64) -> bool {
        now_ms > self.not_after_ms
    }

    /// The caller of one request.
    pub(super) fn caller(&self) -> Caller {
        Caller {
            identity: Arc::clone(&self.identity),
            origin: crate::core::Origin::Internal,
            fingerprint: self.fingerprint,
            not_before_ms: self.not_before_ms,
            not_after_ms: self.not_after_ms,
            remote: self.remote.clone(),
            request_id: Uuid::new_v4().to_string(),
            bundle: None,
            token: None,
        }
    }
}

/// Counts open connections of each identity.
#[derive(Default)]
pub(super) struct Census(Mutex<HashMap<Arc<SpiffeId>, usize>>);

/// One counted connection.
pub(super) struct Seat {
    census: Arc<Census>,
    identity: Arc<SpiffeId>,
}

impl Census {
    /// Takes a seat; `None` when the identity has `limit` connections already.
    pub(super) fn enter(self: &Arc<Self>, identity: &Arc<SpiffeId>, limit: usize) -> Option<Seat> {
        let mut seats = self.0.lock();
        let taken = seats.entry(Arc::clone(identity)).or_default();
        if *taken >= limit {
            return None;
        }
        *taken += 1;
        Some(Seat { census: Arc::clone(self), identity: Arc::clone(identity) })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.census.0.lock();
        if let Some(taken) = seats.get_mut(&self.identity) {
            *taken -= 1;
            if *taken == 0 {
                seats.remove(&self.identity);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_connections_by_identity() {
        let census = Arc::new(Census::default());
        let a = Arc::new(SpiffeId::new("example.org", "a").expect("legal"));
        let b = Arc::new(SpiffeId::new("example.org", "b").expect("legal"));
        let first = census.enter(&a, 2);
        let second = census.enter(&a, 2);
        assert!(first.is_some() && second.is_some());
        assert!(census.enter(&a, 2).is_none());
        assert!(census.enter(&b, 2).is_some());
        drop(first);
        assert!(census.enter(&a, 2).is_some());
        drop(second);
        assert!(census.0.lock().is_empty());
    }
}
