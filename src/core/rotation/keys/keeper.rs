//! The thread that changes keys: one order at a time, and the work in the background between orders.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::oneshot;

use super::compromised::Debt;
use super::terms::{self, Background};
use crate::core::error::VaultError;
use crate::core::pipeline::audited::Facts;
use crate::core::request::Reply;
use crate::core::rotation::desk::{Desk, Outcome};
use crate::core::rotation::orders::{Errand, Key, Order, Secret, SlotOrder};
use crate::core::rotation::worker::{Message, Post, Worker};
use crate::core::{Ports, Settings};

/// Orders that may wait.
const MAX_WAITING: usize = 16;
/// What a caller learns meanwhile.
const OWED: &str = "the removal of a compromised slot is not complete: see the alarms in the audit log, try again";

/// Handle of the thread. It has no helpers that tell it anything.
pub(in crate::core) type Keeper = Worker<Order, Infallible>;

impl Keeper {
    /// Starts the thread. It completes what is owed after a compromised slot before anything else.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] when the system gives no thread.
    pub(in crate::core) fn spawn(desk: Desk, debt: Debt) -> Result<Self, VaultError> {
        let busy = "too many key changes are waiting, try again";
        let post = Post { name: "keeper", room: MAX_WAITING, busy, stopping: Arc::clone(&desk.stopping) };
        Self::start(post, move |waiting, _| serve(&desk, debt, waiting))
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
        // Each time: an order of this process may have failed between its header and its transaction, too.
        let owed = match debt.settle(desk) {
            Ok(settled) => !settled,
            Err(VaultError::Sealed) => return,
            Err(error) => {
                tracing::error!(%error, "the alarm of an unfinished removal of a compromised slot");
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
    self::answer(desk, &facts, outcome, answer);
}

/// Ends an order.
fn answer(desk: &Desk, facts: &Facts, outcome: Outcome, answer: oneshot::Sender<Result<Reply, VaultError>>) {
    let Outcome { result, audited } = outcome;
    if matches!(&result, Err(VaultError::NotFound)) && !audited && facts.is_own() {
        // Looked whether something is to be done, and nothing is.
        return;
    }
    let result = if audited { result } else { desk.log(facts, result) };
    // A caller that went away is no fault.
    let _ = answer.send(result);
}
