//! The thread that changes keys: one order at a time, and the work in the background between orders.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::terms::{self, Background};
use crate::core::error::VaultError;
use crate::core::pipeline::audited::Facts;
use crate::core::rotation::desk::{Desk, Outcome};
use crate::core::rotation::orders::{Errand, Key, Order, Secret, SlotOrder};
use crate::core::rotation::worker::{Message, Post, Worker};
use crate::core::{Ports, Settings};

/// Orders that may wait.
const MAX_WAITING: usize = 16;

/// Handle of the thread. It has no helpers that tell it anything.
pub(in crate::core) type Keeper = Worker<Order, Infallible>;

impl Keeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] when the system gives no thread.
    pub(in crate::core) fn spawn(desk: Desk) -> Result<Self, VaultError> {
        let busy = "too many key changes are waiting, try again";
        let post = Post { name: "keeper", room: MAX_WAITING, busy, stopping: Arc::clone(&desk.stopping) };
        Self::start(post, move |waiting, _| serve(&desk, waiting))
    }

    /// Has the slot that `secret` opens made anew at the configured cost, if it is below. Nobody waits for it.
    ///
    /// # Errors
    /// [`VaultError::Internal`] without randomness.
    pub(in crate::core) fn raise_cost(
        &self,
        ports: &Ports,
        settings: &Settings,
        secret: Secret,
    ) -> Result<(), VaultError> {
        let rule = "raising the cost of the key derivation".to_owned();
        let (path, now_ms) = ("sys/strongroom/slots/change", ports.clock.now_ms());
        let facts = Facts::own(&settings.trust_domain, path, rule, now_ms, &*ports.random)?;
        let order = Order::Slot(SlotOrder::Upgrade(Key { slot: None, secret }));
        self.submit(Errand { facts: Arc::new(facts), order, answer: oneshot::channel().0 })
    }
}

fn serve(desk: &Desk, waiting: &Receiver<Message<Order, Infallible>>) {
    let mut background = Background::default();
    let mut wait = Duration::ZERO;
    while !desk.stopping.load(Ordering::SeqCst) {
        match waiting.recv_timeout(wait) {
            Ok(Message::Do(errand)) => perform(desk, &mut background, *errand),
            Ok(Message::Note(never)) => match never {},
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        wait = match terms::step(desk, &mut background) {
            Ok(Some(pause)) => pause,
            Ok(None) => desk.settings.tick,
            Err(VaultError::Sealed) => return,
            Err(error) => {
                tracing::error!(%error, "a rotation could not go on");
                Duration::from_secs(1)
            }
        };
    }
}

fn perform(desk: &Desk, background: &mut Background, errand: Errand) {
    let Errand { facts, order, answer } = errand;
    let outcome = match order {
        Order::Slot(order) => super::slots::perform(desk, &facts, order),
        Order::Term(order) => terms::perform(desk, background, &facts, order),
        Order::Value(_) => Outcome::refused(VaultError::Internal),
    };
    let Outcome { result, audited } = outcome;
    if matches!(&result, Err(VaultError::NotFound)) && !audited && facts.is_own() {
        // Looked whether something is to be done, and nothing is.
        return;
    }
    let result = if audited { result } else { desk.log(&facts, result) };
    // A caller that went away is no fault.
    let _ = answer.send(result);
}
