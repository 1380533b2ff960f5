//! Places for work that grows with what is stored: how much of it runs at a time, and how much one identity may have waiting.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most places, on any machine.
const MAX_PLACES: usize = 8;
/// How much one identity may have waiting or running.
const MAX_EACH: usize = 8;

/// The places: half as many as there are processors, so that what is done in a moment always finds one free.
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

/// One piece of work of an identity, waiting or running, until it is dropped.
pub(in crate::core) struct Turn<'a> {
    places: &'a Places,
    identity: String,
}

impl Places {
    /// Gets into line; `None` when this identity is there too many times.
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
    /// Waits for a place, first come, first served. It is given back when what is returned is dropped.
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
