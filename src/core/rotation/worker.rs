//! The handle of a thread that executes orders one after the other, and its messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use super::orders::Errand;
use crate::core::error::VaultError;

/// A message to such a thread.
pub(in crate::core::rotation) enum Message<O, N> {
    Do(Box<Errand<O>>),
    /// A message from the thread's own helpers.
    Note(N),
    Stop,
}

/// How a thread is started.
pub(in crate::core::rotation) struct Post {
    /// Its name.
    pub name: &'static str,
    /// Largest number of waiting messages.
    pub room: usize,
    /// The error when too many orders are waiting.
    pub busy: &'static str,
    /// Set when the thread must end.
    pub stopping: Arc<AtomicBool>,
}

/// Handle of a thread that receives orders `O`, and notes `N` from its own helpers.
pub(in crate::core) struct Worker<O, N> {
    queue: SyncSender<Message<O, N>>,
    busy: &'static str,
    stopping: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<O: Send + 'static, N: Send + 'static> Worker<O, N> {
    /// Starts the thread. `serve` gets the receiving end of the queue, and a sender for the helpers.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] when the system cannot start a thread.
    pub(in crate::core::rotation) fn start(
        post: Post,
        serve: impl FnOnce(&Receiver<Message<O, N>>, SyncSender<Message<O, N>>) + Send + 'static,
    ) -> Result<Self, VaultError> {
        let Post { name, room, busy, stopping } = post;
        let (queue, waiting) = sync_channel(room);
        let own = queue.clone();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || serve(&waiting, own))
            .map_err(|_| VaultError::Unavailable("no thread could be started for rotations"))?;
        Ok(Self { queue, busy, stopping, thread: Mutex::new(Some(thread)) })
    }

    /// Queues an order.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] when too many are waiting; [`VaultError::Sealed`] when the thread has ended.
    pub(in crate::core) fn submit(&self, errand: Errand<O>) -> Result<(), VaultError> {
        self.queue.try_send(Message::Do(Box::new(errand))).map_err(|error| match error {
            TrySendError::Full(_) => VaultError::Unavailable(self.busy),
            TrySendError::Disconnected(_) => VaultError::Sealed,
        })
    }

    /// Ends the thread after its current step, and waits for that.
    pub(in crate::core) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        let Some(thread) = self.thread.lock().take() else { return };
        let _ = self.queue.try_send(Message::Stop);
        if thread.join().is_err() {
            tracing::error!("a rotation thread panicked; please report it");
        }
    }
}

impl<O, N> Drop for Worker<O, N> {
    /// Only tells the thread to end. Waiting could block the thread that drops this.
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = self.queue.try_send(Message::Stop);
    }
}
