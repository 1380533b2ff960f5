//! Keeps changes off connections on which the vault's mark has not been compared yet.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a request of this thread may do when there is no open connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Connecting {
    Allowed,
    /// It must use the connection that is open.
    Forbidden,
    /// It would have needed a new one.
    Refused,
}

thread_local! {
    // The connector runs on the thread of the request and is told only the address.
    static CONNECTING: Cell<Connecting> = const { Cell::new(Connecting::Allowed) };
}

/// Whether the mark was compared on the newest connection of one client.
#[derive(Default)]
pub(super) struct Gate {
    compared: AtomicBool,
}

impl Gate {
    /// Called by the connector before it opens a connection. Returns whether it may. On a new connection another server
    /// may answer, or the same one after a restart.
    pub(super) fn opens(&self) -> bool {
        if CONNECTING.get() != Connecting::Allowed {
            CONNECTING.set(Connecting::Refused);
            return false;
        }
        self.compared.store(false, Ordering::SeqCst);
        true
    }

    /// Notes the outcome of a comparison.
    pub(super) fn note(&self, fine: bool) {
        self.compared.store(fine, Ordering::SeqCst);
    }

    /// Sends a request if it can use a connection on which the mark was compared; otherwise sends nothing.
    pub(super) fn over_known<T>(&self, send: impl FnOnce() -> T) -> Option<T> {
        if !self.compared.load(Ordering::SeqCst) {
            return None;
        }
        CONNECTING.set(Connecting::Forbidden);
        let outcome = send();
        let connecting = CONNECTING.replace(Connecting::Allowed);
        (connecting != Connecting::Refused).then_some(outcome)
    }
}
