//! Keeps changes off connections on which the vault has not said yet which point of its history it has reached.
//!
//! Several threads may share a client, and each may have a connection of its own. So every connection carries its own
//! note, and what is decided here is decided when a request is about to be sent over one.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Which connections the request of this thread may use.
#[derive(Clone, Copy, PartialEq, Eq)]
enum May {
    /// Any, also a new one.
    UseAny,
    /// Only one on which the history was compared.
    UseCompared,
    /// As before, and there was none: nothing was sent.
    NotBeSent,
}

thread_local! {
    // The transport runs on the thread of the request, and learns of the request nothing but its bytes.
    static MAY: Cell<May> = const { Cell::new(May::UseAny) };
    /// The connection that the last request of this thread was sent over.
    static USED: RefCell<Option<Compared>> = const { RefCell::new(None) };
}

/// Whether the history was compared on one connection.
#[derive(Clone, Default)]
pub(super) struct Compared(Arc<AtomicBool>);

impl Compared {
    /// For the transport, before it sends anything over this connection. Returns whether it may.
    pub(super) fn may_send(&self) -> bool {
        if MAY.get() != May::UseAny && !self.0.load(Ordering::SeqCst) {
            MAY.set(May::NotBeSent);
            return false;
        }
        USED.set(Some(self.clone()));
        true
    }
}

/// The connection of one client on which the history was compared last.
#[derive(Default)]
pub(super) struct Gate {
    last: Mutex<Option<Compared>>,
}

impl Gate {
    /// For the connector, before it opens a connection; `None` if it must not. On a new connection another server may
    /// answer, or the same one since a restart.
    pub(super) fn opens(&self) -> Option<Compared> {
        if MAY.get() != May::UseAny {
            MAY.set(May::NotBeSent);
            return None;
        }
        Some(Compared::default())
    }

    /// Sends a request if it can go over a connection on which the history was compared; otherwise nothing is sent.
    pub(super) fn over_compared<T>(&self, send: impl FnOnce() -> T) -> Option<T> {
        /// A panic must not leave the thread with a rule for its next request.
        struct Reset;
        impl Drop for Reset {
            fn drop(&mut self) {
                MAY.set(May::UseAny);
            }
        }
        // Only saves a try that would close the connection: what counts is decided by the transport.
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !last.is_some_and(|last| last.0.load(Ordering::SeqCst)) {
            return None;
        }
        MAY.set(May::UseCompared);
        let reset = Reset;
        let outcome = send();
        let sent = MAY.get() != May::NotBeSent;
        drop(reset);
        sent.then_some(outcome)
    }

    /// Notes the outcome of a comparison for the connection that the request of this thread was sent over.
    pub(super) fn note(&self, fine: bool) {
        let Some(used) = USED.with_borrow(Clone::clone) else { return };
        used.0.store(fine, Ordering::SeqCst);
        if fine {
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(used);
        }
    }
}

/// Before a request of this thread, so that its outcome is not noted for another one's connection.
pub(super) fn begin() {
    USED.set(None);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(gate: &Gate) -> Compared {
        let connection = gate.opens().expect("allowed");
        assert!(connection.may_send());
        connection
    }

    #[test]
    fn a_comparison_counts_for_its_own_connection_alone() {
        let gate = Gate::default();
        begin();
        let mine = opened(&gate);
        // Another thread opens one, and this thread's reply comes after that.
        std::thread::scope(|scope| {
            let other = scope.spawn(|| opened(&gate)).join().expect("no panic");
            gate.note(true);
            assert_eq!(gate.over_compared(|| other.may_send()), None, "nothing was compared on it");
            assert!(!other.0.load(Ordering::SeqCst));
        });
        // The newest one is compared too, but the request gets another one.
        let newest = opened(&gate);
        gate.note(true);
        let fresh = Compared::default();
        assert_eq!(gate.over_compared(|| fresh.may_send()), None, "not sent");
        assert_eq!(gate.over_compared(|| gate.opens().is_some()), None, "not opened");
        assert_eq!(gate.over_compared(|| newest.may_send()), Some(true));
        assert_eq!(gate.over_compared(|| mine.may_send()), Some(true));
    }

    #[test]
    fn a_connection_that_fails_takes_nothing_from_one_that_was_compared() {
        let gate = Gate::default();
        let mine = opened(&gate);
        gate.note(true);
        // Another thread's handshake fails.
        drop(gate.opens());
        assert_eq!(gate.over_compared(|| mine.may_send()), Some(true));
    }

    #[test]
    fn a_panic_leaves_no_rule_behind() {
        let gate = Gate::default();
        opened(&gate);
        gate.note(true);
        let send = || -> u8 { panic!("of a test") };
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| gate.over_compared(send)));
        assert!(panicked.is_err());
        assert!(gate.opens().is_some());
    }
}
