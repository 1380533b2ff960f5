//! Limits how many handshakes one source may begin, before a byte of TLS is read.
//!
//! A handshake costs the server a signature and the peer nothing, and the certificate that names the peer comes last.
//! Until then, a peer is only an address. So that one address cannot take every place, each has a limit of concurrent
//! handshakes and of handshakes per second.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Number of sources that are remembered. About 10 MiB in total.
const MOST_SOURCES: usize = 64 << 10;
/// A burst may use the allowance of this many seconds.
const BURST_SECONDS: u32 = 5;
/// Longest delay after rejections.
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// Rejections are forgotten after this time without another one.
const FORGIVEN: Duration = Duration::from_secs(600);

/// Where connections come from: an IPv4 address, or a /64 of IPv6, because one machine may have every address of a /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// The address.
    V4([u8; 4]),
    /// The first half of the address.
    V6([u8; 8]),
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// Limits of one source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// Handshakes at the same time.
    pub together: usize,
    /// Handshakes per second, sustained; a burst may have five times as many.
    pub per_second: u32,
}

/// All sources seen recently.
pub(super) struct Sources {
    allowance: Allowance,
    most: usize,
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    entries: HashMap<Source, Entry>,
    /// Sources in the order in which they were last used.
    order: BTreeMap<u64, Source>,
    next: u64,
}

struct Entry {
    place: u64,
    active: usize,
    /// What is left of the burst.
    tokens: f64,
    filled: Instant,
    refusals: u32,
    refused: Instant,
}

/// One handshake in progress. It ends when this is dropped.
pub(super) struct Admission {
    sources: Arc<Sources>,
    source: Source,
}

impl Sources {
    pub(super) fn new(allowance: Allowance) -> Arc<Self> {
        Self::with_room_for(MOST_SOURCES, allowance)
    }

    fn with_room_for(most: usize, allowance: Allowance) -> Arc<Self> {
        Arc::new(Self { allowance, most, book: Mutex::default() })
    }

    /// Lets a handshake begin. `None` when its source has too many, or began too many recently, or when so many sources
    /// have handshakes in progress that no other source can be remembered.
    pub(super) fn admit(self: &Arc<Self>, source: Source, now: Instant) -> Option<Admission> {
        let mut book = self.book.lock();
        let burst = self.burst();
        let entry = book.touch(source, self.most, burst, now)?;
        let elapsed = now.saturating_duration_since(entry.filled);
        entry.tokens = (entry.tokens + elapsed.as_secs_f64() * f64::from(self.allowance.per_second)).min(burst);
        entry.filled = now;
        if entry.active >= self.allowance.together || entry.tokens < 1.0 {
            return None;
        }
        entry.tokens -= 1.0;
        entry.active += 1;
        Some(Admission { sources: Arc::clone(self), source })
    }

    /// How long `source` must wait because of earlier rejections.
    pub(super) fn delay(&self, source: Source, now: Instant) -> Option<Duration> {
        let book = self.book.lock();
        let entry = book.entries.get(&source)?;
        let since = now.saturating_duration_since(entry.refused);
        if entry.refusals == 0 || since >= FORGIVEN {
            return None;
        }
        // 1, 2, 4 .. seconds.
        let delay = Duration::from_secs(1_u64 << (entry.refusals - 1).min(6)).min(LONGEST_DELAY);
        delay.checked_sub(since).filter(|left| !left.is_zero())
    }

    /// Records that a request of `source` was rejected. Each time, the source must wait longer.
    pub(super) fn refused(&self, source: Source, now: Instant) {
        let mut book = self.book.lock();
        if let Some(entry) = book.touch(source, self.most, self.burst(), now) {
            let forgiven = now.saturating_duration_since(entry.refused) >= FORGIVEN;
            entry.refusals = if forgiven { 1 } else { entry.refusals.saturating_add(1) };
            entry.refused = now;
        }
    }

    /// Records that a request of `source` was granted, and forgets earlier rejections.
    pub(super) fn granted(&self, source: Source) {
        if let Some(entry) = self.book.lock().entries.get_mut(&source) {
            entry.refusals = 0;
        }
    }

    fn burst(&self) -> f64 {
        f64::from(self.allowance.per_second.saturating_mul(BURST_SECONDS).max(1))
    }
}

impl Book {
    /// Returns the entry of `source` and makes it the youngest. To make room, it forgets the oldest entry without a
    /// handshake in progress.
    fn touch(&mut self, source: Source, most: usize, burst: f64, now: Instant) -> Option<&mut Entry> {
        let place = self.next;
        if let Some(entry) = self.entries.get(&source) {
            self.order.remove(&entry.place);
        } else if self.entries.len() >= most {
            let idle = |source: &Source| self.entries.get(source).is_none_or(|entry| entry.active == 0);
            let (old, forgotten) = self.order.iter().find(|(_, source)| idle(source)).map(|(at, who)| (*at, *who))?;
            self.order.remove(&old);
            self.entries.remove(&forgotten);
        }
        self.next += 1;
        self.order.insert(place, source);
        let new = Entry { place, active: 0, tokens: burst, filled: now, refusals: 0, refused: now };
        let entry = self.entries.entry(source).or_insert(new);
        entry.place = place;
        Some(entry)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if let Some(entry) = self.sources.book.lock().entries.get_mut(&self.source) {
            entry.active = entry.active.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn source(number: u32) -> Source {
        Source::V4(number.to_be_bytes())
    }

    fn sources(most: usize, together: usize, per_second: u32) -> Arc<Sources> {
        Sources::with_room_for(most, Allowance { together, per_second })
    }

    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn an_address_of_ipv6_stands_for_its_network() {
        let of = |text: &str| Source::from(text.parse::<IpAddr>().expect("legal"));
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::2"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    #[test]
    fn handshakes_at_the_same_time_are_limited_by_source() {
        let (book, now) = (sources(8, 2, 100), start());
        let first = book.admit(source(1), now);
        let second = book.admit(source(1), now);
        assert!(first.is_some() && second.is_some());
        assert!(book.admit(source(1), now).is_none());
        assert!(book.admit(source(2), now).is_some());
        drop(first);
        assert!(book.admit(source(1), now).is_some());
    }

    #[test]
    fn handshakes_a_second_are_limited_by_source() {
        let (book, now) = (sources(8, 100, 2), start());
        let granted = |now| (0..50).filter(|_| book.admit(source(1), now).is_some()).count();
        assert_eq!(granted(now), 10);
        assert_eq!(granted(now + Duration::from_secs(1)), 2);
        assert_eq!(granted(now + Duration::from_millis(1500)), 1);
        assert_eq!(granted(now + Duration::from_secs(1000)), 10);
        assert!(book.admit(source(2), now).is_some());
    }

    #[test]
    fn the_oldest_idle_source_is_forgotten() {
        let (book, now) = (sources(3, 1, 1), start());
        let busy = book.admit(source(1), now).expect("room");
        drop(book.admit(source(2), now));
        drop(book.admit(source(3), now));
        drop(book.admit(source(2), now));
        drop(book.admit(source(4), now));
        let known: Vec<bool> = (1..=4).map(|n| book.book.lock().entries.contains_key(&source(n))).collect();
        assert_eq!(known, [true, true, false, true]);
        assert!(book.admit(source(1), now).is_none(), "the busy one was forgotten");
        let others = [book.admit(source(2), now), book.admit(source(4), now)];
        assert!(others.iter().all(Option::is_some));
        assert!(book.admit(source(5), now).is_none(), "there is no room");
        drop((busy, others));
        assert!(book.admit(source(5), now).is_some());
    }

    #[test]
    fn the_delay_after_refusals_grows_and_ends() {
        let (book, now) = (sources(8, 1, 1), start());
        let seconds = |at| book.delay(source(1), at).map(|delay| delay.as_secs());
        assert_eq!(seconds(now), None);
        for expected in [1, 2, 4, 8, 16, 32, 60, 60] {
            book.refused(source(1), now);
            assert_eq!(seconds(now), Some(expected));
        }
        assert_eq!(seconds(now + Duration::from_secs(59)), Some(1));
        assert_eq!(seconds(now + Duration::from_secs(60)), None);
        assert_eq!(book.delay(source(2), now), None);
        book.refused(source(1), now + FORGIVEN);
        assert_eq!(seconds(now + FORGIVEN), Some(1));
        book.granted(source(1));
        assert_eq!(seconds(now + FORGIVEN), None);
    }

    proptest! {
        #[test]
        fn memory_is_bounded_and_both_books_agree(steps in prop::collection::vec((0_u32..30, 0_u64..50, 0_u8..3), 0..300)) {
            let (book, mut now) = (sources(7, 2, 5), start());
            let mut held = Vec::new();
            for (who, wait, what) in steps {
                now += Duration::from_millis(wait);
                match what {
                    0 => held.extend(book.admit(source(who), now)),
                    1 => { held.pop(); }
                    _ => book.refused(source(who), now),
                }
                let book = book.book.lock();
                prop_assert!(book.entries.len() <= 7);
                prop_assert_eq!(book.entries.len(), book.order.len());
                prop_assert!(book.order.iter().all(|(at, who)| book.entries[who].place == *at));
                let active: usize = book.entries.values().map(|entry| entry.active).sum();
                prop_assert_eq!(active, held.len());
            }
        }
    }
}
