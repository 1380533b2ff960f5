//! What changed lately, for clients that wait: names only, in memory only.
//!
//! A cursor is the history and the generation that a client has seen. What lies before the oldest change in memory is
//! answered with "look at everything again", never with silence.

use std::collections::{HashMap, HashSet, VecDeque};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::core::error::VaultError;

/// Changes that are remembered.
const REMEMBERED: usize = 16 * 1024;
/// Clients that may wait at the same time, in all and for one identity.
const MAX_WAITING: usize = 4_096;
const MAX_WAITING_EACH: usize = 64;

/// Recent changes, and who waits for the next.
pub(in crate::core) struct Feed {
    recent: Mutex<Recent>,
    /// The generation up to which the ring is complete.
    changed: watch::Sender<u64>,
    waiting: Mutex<HashMap<String, usize>>,
}

#[derive(Default)]
struct Recent {
    changes: VecDeque<(u64, String)>,
    /// Changes of generations up to this one are not remembered.
    forgotten: u64,
}

/// What a client that has seen a generation has missed.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::core) enum Missed {
    /// Nothing of what it asked for.
    Nothing,
    /// These names, in the order of its question.
    Names(Vec<String>),
    /// It was away for too long.
    TooMuch,
}

/// One waiting client, until it is dropped.
pub(in crate::core) struct Waiting<'a> {
    feed: &'a Feed,
    identity: String,
}

impl Default for Feed {
    fn default() -> Self {
        Self { recent: Mutex::default(), changed: watch::channel(0).0, waiting: Mutex::default() }
    }
}

impl Feed {
    /// A vault was opened at `generation`: what was before is not known.
    pub(in crate::core) fn reset(&self, generation: u64) {
        *self.recent.lock() = Recent { changes: VecDeque::new(), forgotten: generation };
        self.changed.send_replace(generation);
    }

    /// Wakes everybody, for the vault has closed.
    pub(in crate::core) fn close(&self) {
        self.changed.send_modify(|_| ());
    }

    /// A group was published. Called in the order of generations.
    pub(in crate::core) fn publish(&self, generation: u64, secrets: impl Iterator<Item = String>) {
        {
            let mut recent = self.recent.lock();
            for path in secrets {
                if recent.changes.len() >= REMEMBERED
                    && let Some((oldest, _)) = recent.changes.pop_front()
                {
                    recent.forgotten = recent.forgotten.max(oldest);
                }
                recent.changes.push_back((generation, path));
            }
        }
        self.changed.send_replace(generation);
    }

    /// What happened to `names` after `generation`.
    pub(in crate::core) fn missed(&self, names: &[String], generation: u64) -> Missed {
        let recent = self.recent.lock();
        if generation < recent.forgotten {
            return Missed::TooMuch;
        }
        // Ascending by generation: only the end is looked at.
        let later = recent.changes.iter().rev().take_while(|(at, _)| *at > generation);
        let later: HashSet<&str> = later.map(|(_, path)| path.as_str()).collect();
        let names: Vec<String> = names.iter().filter(|name| later.contains(name.as_str())).cloned().collect();
        if names.is_empty() { Missed::Nothing } else { Missed::Names(names) }
    }

    /// Wakes at each change.
    pub(in crate::core) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// A place to wait in.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] when too many wait, in all or of this identity.
    pub(in crate::core) fn enter(&self, identity: &str) -> Result<Waiting<'_>, VaultError> {
        let mut waiting = self.waiting.lock();
        if waiting.values().sum::<usize>() >= MAX_WAITING {
            return Err(VaultError::Unavailable("too many clients are waiting for changes, ask without wait"));
        }
        let own = waiting.entry(identity.to_owned()).or_default();
        if *own >= MAX_WAITING_EACH {
            return Err(VaultError::Unavailable("this identity waits for changes too many times, ask without wait"));
        }
        *own += 1;
        Ok(Waiting { feed: self, identity: identity.to_owned() })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.feed.waiting.lock();
        if let Some(own) = waiting.get_mut(&self.identity) {
            *own -= 1;
            if *own == 0 {
                waiting.remove(&self.identity);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_client_misses_nothing_or_is_told_so() {
        let feed = Feed::default();
        feed.reset(10);
        let asked = names(&["a", "b"]);
        assert_eq!(feed.missed(&asked, 9), Missed::TooMuch);
        assert_eq!(feed.missed(&asked, 10), Missed::Nothing);
        feed.publish(11, names(&["c"]).into_iter());
        assert_eq!(feed.missed(&asked, 10), Missed::Nothing);
        feed.publish(12, names(&["b", "c"]).into_iter());
        assert_eq!(feed.missed(&asked, 10), Missed::Names(names(&["b"])));
        assert_eq!(feed.missed(&asked, 12), Missed::Nothing);
        for generation in 13..13 + u64::try_from(REMEMBERED).expect("fits") {
            feed.publish(generation, names(&["x"]).into_iter());
        }
        assert_eq!(feed.missed(&asked, 10), Missed::TooMuch);
        assert_eq!(feed.missed(&asked, 20), Missed::Nothing);
    }

    #[test]
    fn the_places_to_wait_are_bounded_and_given_back() {
        let feed = Feed::default();
        let all: Vec<_> = (0..MAX_WAITING_EACH).filter_map(|_| feed.enter("a").ok()).collect();
        assert_eq!(all.len(), MAX_WAITING_EACH);
        assert!(feed.enter("a").is_err() && feed.enter("b").is_ok());
        drop(all);
        assert!(feed.enter("a").is_ok() && feed.waiting.lock().is_empty());
    }
}
