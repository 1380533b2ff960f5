//! The thread that changes keys: one order at a time, and background work between orders.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::compromised::Debt;
use super::terms::{self, Background};
use crate::api::reply::Reply;
use crate::core::error::VaultError;
use crate::core::pipeline::audited::Facts;
use crate::core::rotation::desk::{Desk, Outcome};
use crate::core::rotation::orders::{Errand, Key, Order, Secret, SlotOrder};
use crate::core::rotation::worker::{Message, Post, Worker};
use crate::core::{Ports, Settings};

/// Largest number of waiting orders.
const MAX_WAITING: usize = 16;
/// Rejects orders while a removal is incomplete.
const OWED: &str = "the removal of a compromised slot is not complete: see the alarms in the audit log, try again";

/// Handle of the thread. It has no helper threads.
pub(in crate::core) type Keeper = Worker<Order, Infallible>;

impl Keeper {
    /// Starts the thread. Before anything else it completes a pending removal of a compromised slot.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] when the system cannot start a thread.
    pub(in crate::core) fn spawn(desk: Desk, debt: Debt) -> Result<Self, VaultError> {
        let busy = "too many key changes are waiting; try again";
        let post = Post { name: "keeper", room: MAX_WAITING, busy, stopping: Arc::clone(&desk.stopping) };
        Self::start(post, move |waiting, _| serve(&desk, debt, waiting))
    }

    /// Recreates the slot that `secret` opens with the cost of the dearest slot and of the configuration, if its own is
    /// lower. Does not wait for the result.
    ///
    /// # Errors
    /// [`VaultError::Internal`] when the random source fails.
    pub(in crate::core) fn raise_cost(
        &self,
        ports: &Ports,
        settings: &Settings,
        secret: Secret,
    ) -> Result<(), VaultError> {
        let rule = "raising the cost of the key derivation".to_owned();
        let (path, now_ms) = ("sys/strongroom/slots/change", ports.clock.now_ms());
        let facts = Facts::by_vault(&settings.trust_domain, path, rule, now_ms, &*ports.random)?;
        let order = Order::Slot(SlotOrder::Upgrade(Key { slot: None, secret }));
        self.submit(Errand { facts: Arc::new(facts), order, answer: oneshot::channel().0 })
    }
}

fn serve(desk: &Desk, mut debt: Debt, waiting: &Receiver<Message<Order, Infallible>>) {
    let mut background = Background::default();
    let mut wait = Duration::ZERO;
    while !desk.stopping.load(Ordering::SeqCst) {
        let errand = match waiting.recv_timeout(wait) {
            Ok(Message::Do(errand)) => Some(*errand),
            Ok(Message::Note(never)) => match never {},
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => None,
        };
        // Checked each time, because an order of this process may also have failed between its header and its
        // transaction.
        let owed = match debt.settle(desk) {
            Ok(settled) => !settled,
            Err(VaultError::Sealed) => return,
            Err(error) => {
                tracing::error!(%error, "the alarm about an unfinished removal of a compromised slot could not be written");
                true
            }
        };
        if owed {
            if let Some(errand) = errand {
                let outcome = Outcome::refused(VaultError::Unavailable(OWED));
                answer(desk, &errand.facts, outcome, errand.answer);
            }
            wait = desk.settings.tick;
            continue;
        }
        if let Some(errand) = errand {
            perform(desk, &mut background, errand);
        }
        wait = match terms::step(desk, &mut background) {
            Ok(Some(pause)) => pause,
            Ok(None) => desk.settings.tick,
            Err(VaultError::Sealed) => return,
            Err(error) => {
                tracing::error!(%error, "a rotation of keys could not continue; the vault retries");
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
    self::answer(desk, &facts, outcome, answer);
}

/// Finishes an order.
fn answer(desk: &Desk, facts: &Facts, outcome: Outcome, answer: oneshot::Sender<Result<Reply, VaultError>>) {
    let Outcome { result, audited } = outcome;
    if matches!(&result, Err(VaultError::NotFound)) && !audited && facts.is_by_vault() {
        // A check that found nothing to do.
        return;
    }
    let result = if audited { result } else { desk.log(facts, result) };
    // A caller that is gone is not an error.
    let _ = answer.send(result);
}
