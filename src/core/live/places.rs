//! Slots for work that grows with the stored data: how much of it runs at a time, and how much one identity may queue.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Largest number of slots on any machine.
const MAX_PLACES: usize = 8;
/// How much work one identity may have waiting or running.
const MAX_EACH: usize = 8;

/// The slots: half as many as processors, so that short work always finds a free processor.
pub(in crate::core) struct Places {
    free: Arc<Semaphore>,
    taken: Mutex<HashMap<String, usize>>,
}

impl Default for Places {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self { free: Arc::new(Semaphore::new((processors / 2).clamp(1, MAX_PLACES))), taken: Mutex::default() }
    }
}

/// One piece of work of an identity, waiting or running. Dropping it ends it.
pub(in crate::core) struct Turn<'a> {
    places: &'a Places,
    identity: String,
}

impl Places {
    /// Joins the queue. `None` when this identity has too much work in it.
    pub(in crate::core) fn enter(&self, identity: &str) -> Option<Turn<'_>> {
        let mut taken = self.taken.lock();
        let own = taken.entry(identity.to_owned()).or_default();
        if *own >= MAX_EACH {
            return None;
        }
        *own += 1;
        Some(Turn { places: self, identity: identity.to_owned() })
    }
}

impl Turn<'_> {
    /// Waits for a slot, first come, first served. Dropping the result frees the slot.
    pub(in crate::core) async fn come(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places.free).acquire_owned().await.ok()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        if let Some(own) = taken.get_mut(&self.identity) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.identity);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_identity_cannot_fill_the_line() {
        let places = Places::default();
        let all: Vec<_> = (0..MAX_EACH).filter_map(|_| places.enter("a")).collect();
        assert_eq!(all.len(), MAX_EACH);
        assert!(places.enter("a").is_none() && places.enter("b").is_some());
        drop(all);
        assert!(places.enter("a").is_some() && places.taken.lock().is_empty());
    }
}
