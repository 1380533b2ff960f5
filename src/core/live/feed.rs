//! Recent changes, for clients that wait for them. Only names, and only in memory.
//!
//! A cursor is the history and the generation that a client has seen. If it is older than the oldest remembered change,
//! the client is told to check everything again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::core::error::VaultError;

/// Number of remembered changes.
const REMEMBERED: usize = 16 * 1024;
/// Number of clients that may wait at the same time: in total, with certificates of outside PKIs together, and for one
/// identity.
const MAX_WAITING: usize = 4_096;
const MAX_WAITING_OUTSIDERS: usize = MAX_WAITING / 2;
const MAX_WAITING_EACH: usize = 64;

/// Recent changes, and the clients that wait for the next one.
pub(in crate::core) struct Feed {
    recent: Mutex<Recent>,
    /// The generation up to which the ring is complete.
    changed: watch::Sender<u64>,
    waiting: Mutex<Places>,
}

/// The clients that wait.
#[derive(Default)]
struct Places {
    all: usize,
    outsiders: usize,
    each: HashMap<String, usize>,
}

#[derive(Default)]
struct Recent {
    /// Ordered by generation. The oldest is forgotten first.
    changes: VecDeque<(u64, Arc<str>)>,
    /// Generation of the last remembered change of each path. So a query costs the same however far back it goes, which
    /// the caller decides.
    newest: HashMap<Arc<str>, u64>,
    /// Changes up to this generation are not remembered.
    forgotten: u64,
}

impl Recent {
    fn push(&mut self, generation: u64, path: Arc<str>) {
        if self.changes.len() >= REMEMBERED
            && let Some((oldest, path)) = self.changes.pop_front()
        {
            self.forgotten = self.forgotten.max(oldest);
            // A path with a later change keeps its place.
            if self.newest.get(&path) == Some(&oldest) {
                self.newest.remove(&path);
            }
        }
        self.newest.insert(Arc::clone(&path), generation);
        self.changes.push_back((generation, path));
    }
}

/// What a client has missed since the generation that it knows.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::core) enum Missed {
    /// Nothing that it asked about.
    Nothing,
    /// These names, in the order of its request.
    Names(Vec<String>),
    /// Unknown, because it was away for too long.
    TooMuch,
}

/// One waiting client. Dropping it ends the wait.
pub(in crate::core) struct Waiting<'a> {
    feed: &'a Feed,
    identity: String,
    outsider: bool,
}

impl Default for Feed {
    fn default() -> Self {
        Self { recent: Mutex::default(), changed: watch::channel(0).0, waiting: Mutex::default() }
    }
}

impl Feed {
    /// Called when the vault was unsealed at `generation`. Earlier changes are unknown.
    pub(in crate::core) fn reset(&self, generation: u64) {
        *self.recent.lock() = Recent { forgotten: generation, ..Recent::default() };
        self.changed.send_replace(generation);
    }

    /// Called when the vault has closed. Wakes all clients.
    pub(in crate::core) fn close(&self) {
        self.changed.send_modify(|_| ());
    }

    /// Called when a group was published, in the order of generations.
    pub(in crate::core) fn publish(&self, generation: u64, secrets: impl Iterator<Item = String>) {
        {
            let mut recent = self.recent.lock();
            for path in secrets {
                recent.push(generation, path.into());
            }
        }
        self.changed.send_replace(generation);
    }

    /// Returns what happened to `names` after `generation`.
    pub(in crate::core) fn missed(&self, names: &[String], generation: u64) -> Missed {
        let recent = self.recent.lock();
        if generation < recent.forgotten {
            return Missed::TooMuch;
        }
        let later = |name: &&String| recent.newest.get(name.as_str()).is_some_and(|at| *at > generation);
        let names: Vec<String> = names.iter().filter(later).cloned().collect();
        if names.is_empty() { Missed::Nothing } else { Missed::Names(names) }
    }

    /// Returns a receiver that wakes at each change.
    pub(in crate::core) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Reserves a place to wait. An `outsider` has a certificate of an outside PKI. One person can have many of those,
    /// each an identity of its own, so together they get at most half of the places.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] when too many clients wait: in total, outsiders, or with this identity.
    pub(in crate::core) fn enter(&self, identity: &str, outsider: bool) -> Result<Waiting<'_>, VaultError> {
        let mut waiting = self.waiting.lock();
        if waiting.all >= MAX_WAITING || (outsider && waiting.outsiders >= MAX_WAITING_OUTSIDERS) {
            return Err(VaultError::Unavailable("too many clients are waiting for changes; ask without wait"));
        }
        let own = waiting.each.entry(identity.to_owned()).or_default();
        if *own >= MAX_WAITING_EACH {
            return Err(VaultError::Unavailable(
                "this identity has too many requests waiting for changes; ask without wait",
            ));
        }
        *own += 1;
        waiting.all += 1;
        waiting.outsiders += usize::from(outsider);
        Ok(Waiting { feed: self, identity: identity.to_owned(), outsider })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.feed.waiting.lock();
        let waiting = &mut *waiting;
        waiting.all -= 1;
        waiting.outsiders -= usize::from(self.outsider);
        if let Some(own) = waiting.each.get_mut(&self.identity) {
            *own -= 1;
            if *own == 0 {
                waiting.each.remove(&self.identity);
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
        let all: Vec<_> = (0..MAX_WAITING_EACH).filter_map(|_| feed.enter("a", false).ok()).collect();
        assert_eq!(all.len(), MAX_WAITING_EACH);
        assert!(feed.enter("a", false).is_err() && feed.enter("b", false).is_ok());
        drop(all);
        assert!(feed.enter("a", false).is_ok() && feed.waiting.lock().each.is_empty());
    }

    #[test]
    fn outsiders_leave_half_of_the_places_to_identities() {
        let feed = Feed::default();
        let mut held: Vec<_> = (0..MAX_WAITING).filter_map(|n| feed.enter(&format!("cert/{n}"), true).ok()).collect();
        assert_eq!(held.len(), MAX_WAITING / 2, "one person with many certificates has taken every place");
        assert!(feed.enter("a", false).is_ok());
        held.pop();
        assert!(feed.enter("cert/x", true).is_ok());
        drop(held);
        let waiting = feed.waiting.lock();
        assert_eq!((waiting.all, waiting.outsiders), (0, 0));
    }

    #[test]
    #[allow(clippy::disallowed_methods)] // measures real work
    fn a_question_far_back_costs_no_more_than_one_of_now() {
        let feed = Feed::default();
        feed.reset(1);
        let path = |kind: &str, n: usize| format!("secret/a/folder/that/many/secrets/share/{kind}{n:06}");
        feed.publish(2, (0..REMEMBERED).map(|n| path("x", n)));
        let asked: Vec<String> = (0..64).map(|n| path("y", n)).collect();
        let begun = std::time::Instant::now();
        for _ in 0..200 {
            assert_eq!(feed.missed(&asked, 1), Missed::Nothing);
        }
        assert!(begun.elapsed() < std::time::Duration::from_millis(500), "{:?}", begun.elapsed());
    }

    proptest::proptest! {
        #[test]
        fn what_was_missed_is_what_the_list_of_changes_says(
            changes in proptest::collection::vec((0_u64..3, 0_usize..6), 0..60), from in 0_u64..60,
        ) {
            let (feed, mut generation, mut all) = (Feed::default(), 1, Vec::new());
            feed.reset(1);
            for (step, name) in changes {
                generation += step;
                feed.publish(generation, std::iter::once(format!("n{name}")));
                all.push((generation, format!("n{name}")));
            }
            let asked: Vec<String> = (0..6).map(|name| format!("n{name}")).collect();
            let later = |name: &&String| all.iter().any(|(at, path)| *at > from && path == *name);
            let want: Vec<String> = asked.iter().filter(later).cloned().collect();
            let want = match want.is_empty() {
                _ if from < 1 => Missed::TooMuch,
                true => Missed::Nothing,
                false => Missed::Names(want),
            };
            proptest::prop_assert_eq!(feed.missed(&asked, from), want);
        }
    }
}
