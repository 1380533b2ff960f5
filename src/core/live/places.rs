//! Slots for work that grows with the stored data: how much of it runs at a time, and how much one identity may queue.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Largest number of slots on any machine.
const MAX_PLACES: usize = 8;
/// Number of jobs that one identity may have waiting or running.
const MAX_EACH: usize = 8;

/// Number of jobs that all certificates of outside PKIs together may have waiting or running. One person can have many
/// of them, each an identity of its own, and must not make the identities of the vault wait for all of them.
const MAX_OUTSIDERS: usize = 2 * MAX_EACH;

/// The slots: half as many as processors, so that short jobs always find a free processor.
pub(in crate::core) struct Places {
    free: Arc<Semaphore>,
    taken: Mutex<Taken>,
}

/// The queue.
#[derive(Default)]
struct Taken {
    outsiders: usize,
    each: HashMap<String, usize>,
}

impl Default for Places {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self { free: Arc::new(Semaphore::new((processors / 2).clamp(1, MAX_PLACES))), taken: Mutex::default() }
    }
}

/// One job of an identity, waiting or running. Dropping this ends it.
pub(in crate::core) struct Turn<'a> {
    places: &'a Places,
    identity: String,
    outsider: bool,
}

impl Places {
    /// Joins the queue. `None` when this identity has too many jobs in it. An `outsider` has a certificate of an
    /// outside PKI: `None` also when all of those together have too many.
    pub(in crate::core) fn enter(&self, identity: &str, outsider: bool) -> Option<Turn<'_>> {
        let mut taken = self.taken.lock();
        let own = taken.each.get(identity).copied().unwrap_or_default();
        if own >= MAX_EACH || (outsider && taken.outsiders >= MAX_OUTSIDERS) {
            return None;
        }
        taken.each.insert(identity.to_owned(), own + 1);
        taken.outsiders += usize::from(outsider);
        Some(Turn { places: self, identity: identity.to_owned(), outsider })
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
        taken.outsiders -= usize::from(self.outsider);
        if let Some(own) = taken.each.get_mut(&self.identity) {
            *own -= 1;
            if *own == 0 {
                taken.each.remove(&self.identity);
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
        let all: Vec<_> = (0..MAX_EACH).filter_map(|_| places.enter("a", false)).collect();
        assert_eq!(all.len(), MAX_EACH);
        assert!(places.enter("a", false).is_none() && places.enter("b", false).is_some());
        drop(all);
        assert!(places.enter("a", false).is_some() && places.taken.lock().each.is_empty());
    }

    #[test]
    fn outsiders_cannot_fill_the_line_together() {
        let places = Places::default();
        let mut all: Vec<_> = (0..1_000).filter_map(|n| places.enter(&format!("cert/{n}"), true)).collect();
        assert_eq!(all.len(), MAX_OUTSIDERS, "one person with many certificates is everywhere in the line");
        assert!(places.enter("a", false).is_some());
        all.pop();
        assert!(places.enter("cert/x", true).is_some());
        drop(all);
        let taken = places.taken.lock();
        assert!(taken.outsiders == 0 && taken.each.is_empty());
    }
}
