//! The open connections, so that those that are no longer admitted can be closed.
//!
//! Every request is decided on its own, whatever its connection. This registry is for connections that are idle or
//! waiting. Code that changes who is admitted must call [`Sessions::review`] once the change is in force, and before it
//! answers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::core::Caller;

/// All open connections that have an identity.
#[derive(Default)]
pub struct Sessions {
    open: Mutex<Open>,
    next: AtomicU64,
}

#[derive(Default)]
struct Open {
    /// By session number.
    sessions: HashMap<u64, Entry>,
    /// Number of connections of each identity, by its path.
    counts: HashMap<String, usize>,
    /// Number of connections with certificates of outside PKIs.
    outsiders: usize,
}

struct Entry {
    caller: Arc<Caller>,
    close: watch::Sender<bool>,
}

/// One registered connection. Dropping it removes it from the registry.
pub struct Session {
    sessions: Arc<Sessions>,
    number: u64,
    caller: Arc<Caller>,
    closing: watch::Receiver<bool>,
}

impl Sessions {
    /// Registers a connection. Returns `None` when its identity already has `limit` connections. Also when its
    /// certificate belongs to an outside PKI and `outsiders` such connections are open, because one person can have
    /// many such certificates, each an identity of its own. `caller` stands for all requests of the connection; its
    /// request id is not used.
    pub fn enter(self: &Arc<Self>, caller: Arc<Caller>, limit: usize, outsiders: usize) -> Option<Session> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (close, closing) = watch::channel(false);
        let mut open = self.open.lock();
        let count = open.counts.get(caller.identity.path()).copied().unwrap_or_default();
        if count >= limit || (caller.is_outsider() && open.outsiders >= outsiders) {
            return None;
        }
        open.counts.insert(caller.identity.path().to_owned(), count + 1);
        open.outsiders += usize::from(caller.is_outsider());
        open.sessions.insert(number, Entry { caller: Arc::clone(&caller), close });
        drop(open);
        Some(Session { sessions: Arc::clone(self), number, caller, closing })
    }

    /// Tells every connection that is no longer `admitted` to close. Returns their number.
    pub fn review(&self, admitted: impl Fn(&Caller) -> bool) -> usize {
        let open = self.open.lock();
        let refused = open.sessions.values().filter(|entry| !admitted(&entry.caller));
        refused.filter(|entry| !entry.close.send_replace(true)).count()
    }

    /// Number of open connections.
    #[must_use]
    pub fn total(&self) -> usize {
        self.open.lock().sessions.len()
    }

    /// Number of open connections of the identity with this path, by the fingerprint of their certificate.
    #[must_use]
    pub fn by_certificate(&self, path: &str) -> HashMap<[u8; 32], usize> {
        let mut counts = HashMap::new();
        let open = self.open.lock();
        for caller in open.sessions.values().map(|entry| &entry.caller).filter(|caller| caller.identity.path() == path)
        {
            *counts.entry(caller.fingerprint).or_default() += 1;
        }
        counts
    }

    /// Number of open connections of the identity with this path.
    #[must_use]
    pub fn count(&self, path: &str) -> usize {
        self.open.lock().counts.get(path).copied().unwrap_or_default()
    }
}

impl Session {
    /// The caller at the other end.
    #[must_use]
    pub fn caller(&self) -> &Arc<Caller> {
        &self.caller
    }

    /// Resolves when the connection must close. Safe to drop and to call again.
    pub async fn closed(&mut self) {
        // The sender lives as long as the entry, which this session owns. The guard must not live across an await.
        let _ = self.closing.wait_for(|close| *close).await.map(|guard| *guard);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut open = self.sessions.open.lock();
        open.sessions.remove(&self.number);
        open.outsiders -= usize::from(self.caller.is_outsider());
        let path = self.caller.identity.path();
        if let Some(count) = open.counts.get_mut(path) {
            *count -= 1;
            if *count == 0 {
                open.counts.remove(path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::spiffe::SpiffeId;
    use crate::core::Origin;

    fn caller(path: &str) -> Arc<Caller> {
        Arc::new(Caller {
            identity: Arc::new(SpiffeId::new("example.org", path).expect("legal")),
            origin: Origin::Internal,
            fingerprint: [0; 32],
            not_before_ms: 0,
            not_after_ms: u64::MAX,
            remote: String::new(),
            request_id: String::new(),
            bundle: None,
            token: None,
        })
    }

    #[test]
    fn counts_connections_by_identity() {
        let sessions = Arc::new(Sessions::default());
        let (a, b) = (caller("a"), caller("b"));
        let first = sessions.enter(Arc::clone(&a), 2, 9);
        let second = sessions.enter(Arc::clone(&a), 2, 9);
        assert!(first.is_some() && second.is_some());
        assert!(sessions.enter(Arc::clone(&a), 2, 9).is_none());
        assert!(sessions.enter(Arc::clone(&b), 2, 9).is_some());
        drop(first);
        assert!(sessions.enter(Arc::clone(&a), 2, 9).is_some());
        assert_eq!(sessions.count("a"), 1);
        drop(second);
        assert!(sessions.open.lock().sessions.is_empty() && sessions.open.lock().counts.is_empty());
    }

    #[test]
    fn outsiders_leave_room_for_identities() {
        use crate::core::state::roles::Outside;
        let authority = rcgen::KeyPair::generate().expect("a key");
        let sessions = Arc::new(Sessions::default());
        let outsider = |n: usize| {
            let params = rcgen::CertificateParams::default();
            let der = params.self_signed(&authority).expect("signed").der().to_vec();
            let facts = crate::pki::outside::OutsideFacts::read(&der, &[]).expect("a client's certificate");
            let origin = Origin::Outside(Arc::new(Outside::new(facts)));
            Arc::new(Caller { origin, ..Caller::clone(&caller(&format!("cert/{n}"))) })
        };
        let mut held: Vec<_> = (0..8).filter_map(|n| sessions.enter(outsider(n), 64, 4)).collect();
        assert_eq!(held.len(), 4, "one person with many certificates has every place");
        assert!(sessions.enter(caller("a"), 64, 4).is_some());
        held.pop();
        let again = sessions.enter(outsider(9), 64, 4);
        assert!(again.is_some());
        drop((held, again));
        assert_eq!(sessions.open.lock().outsiders, 0);
    }

    #[test]
    fn a_review_closes_who_is_not_admitted_once() {
        let sessions = Arc::new(Sessions::default());
        let kept = sessions.enter(caller("kept"), 9, 9).expect("room");
        let gone = sessions.enter(caller("gone"), 9, 9).expect("room");
        let admitted = |caller: &Caller| caller.identity.path() == "kept";
        assert_eq!((sessions.review(admitted), sessions.review(admitted)), (1, 0));
        assert!(*gone.closing.borrow() && !*kept.closing.borrow());
    }
}
