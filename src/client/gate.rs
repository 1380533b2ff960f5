//! Keeps changes off connections on which the vault has not said yet which point of its history it has reached.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a request of this thread may do when there is no open connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Connecting {
    Allowed,
    /// It must go over the connection that is open.
    Forbidden,
    /// It tried.
    Refused,
}

thread_local! {
    // The connector runs on the thread of the request, and learns of the request nothing but the address.
    static CONNECTING: Cell<Connecting> = const { Cell::new(Connecting::Allowed) };
}

/// Whether the history was compared on the newest connection of one client.
#[derive(Default)]
pub(super) struct Gate {
    compared: AtomicBool,
}

impl Gate {
    /// For the connector, before it opens a connection. Returns whether it may. On a new connection another server may
    /// answer, or the same one since a restart.
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

    /// Sends a request if it can go over a connection on which the history was compared; otherwise nothing is sent.
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
