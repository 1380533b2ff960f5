//! Counts how much each identity has used: one account per identity, in a sharded map of bounded size.
//!
//! A request locks one shard for a lookup, and its identity's account for the arithmetic. No lock is shared by all
//! identities, except for a bucket that a quota makes them share.
//!
//! A caller who is not admitted (revoked, disabled, expired) is charged by certificate. So the holder of a stolen and
//! revoked certificate cannot use up the limits of its identity.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::bucket::Bucket;
use super::table::{Applicable, Rule, Table};
use super::{Class, Rate};

/// Largest number of accounts.
pub const MAX_ACCOUNTS: usize = 65_536;
/// This many records read for one answer count as one list. With the default limits an identity may read 100,000 at
/// once and 50,000 per second, about a quarter of one processor.
pub const RECORDS_OF_A_LIST: u64 = 100;
const SHARDS: usize = 64;
const PER_SHARD: usize = MAX_ACCOUNTS / SHARDS;
/// Allowance of each identity for the few paths that can correct a wrong limit. It applies in addition to every limit.
const RESERVE: Rate = Rate::per_second(20, 40);
/// A refusal is written to the audit log if the last one of the same account and class is at least this old, in
/// milliseconds.
const LINE_EVERY_MS: u64 = 1_000;

/// The caller to charge.
#[derive(Clone, Copy, Debug)]
pub enum Who<'a> {
    /// An admitted identity, registered or not.
    Admitted {
        /// Its full SPIFFE URI.
        uri: &'a str,
        /// Its path, which patterns are matched against.
        path: &'a str,
    },
    /// A rejected certificate, by fingerprint.
    Refused(&'a [u8; 32]),
}

/// A request that is over a limit.
#[derive(Debug, PartialEq, Eq)]
pub struct Over {
    /// Class of the limit.
    pub class: Class,
    /// Milliseconds until a retry can succeed; at least 1.
    pub wait_ms: u64,
    /// What to write to the audit log; `None` when a recent line is enough.
    pub line: Option<(String, u64)>,
}

/// Counts by class, in the order of [`Class::BASIC`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub [u64; 4]);

/// Totals since the vault was unsealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests within their limits. For the class of bytes: number of bytes.
    pub allowed: Counts,
    /// Rejected requests, by the class of the limit.
    pub limited: Counts,
    /// Rejected requests without an audit line of their own.
    pub unwritten: u64,
    /// Number of accounts now.
    pub accounts: usize,
}

/// One identity's account.
struct Account {
    state: Mutex<Usage>,
    counters: Arc<Counters>,
}

struct Usage {
    version: u64,
    plan: Arc<Applicable>,
    buckets: Vec<(Arc<Rule>, Bucket)>,
    reserve: Bucket,
    /// For comparisons of the history.
    compare: Bucket,
    used_ms: u64,
    lines: [Lines; 4],
}

/// The audit lines of one class.
#[derive(Clone, Copy, Default)]
struct Lines {
    last_ms: Option<u64>,
    unwritten: u64,
}

#[derive(Default)]
struct Shard {
    maps: Mutex<Maps>,
    counters: Arc<Counters>,
}

/// Counters of one shard. Each shard has its own, so that processors do not compete for one cache line.
#[derive(Default)]
struct Counters {
    allowed: [AtomicU64; 4],
    limited: [AtomicU64; 4],
    unwritten: AtomicU64,
}

#[derive(Default)]
struct Maps {
    identities: HashMap<Box<str>, Arc<Account>>,
    certificates: HashMap<[u8; 32], Arc<Account>>,
}

/// All accounts.
pub struct Accounts {
    shards: Box<[Shard]>,
    /// Hashes with a random key, so that nobody can choose names that all fall into one shard.
    hasher: RandomState,
}

impl Default for Accounts {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Shard::default()).collect(), hasher: RandomState::new() }
    }
}

/// A request within its limits. [`Bill::settle`] charges its answer.
pub struct Bill {
    account: Arc<Account>,
    rules: Rules,
    /// Number of records read so far.
    records: u64,
    now_ms: u64,
}

/// The rules to charge an answer to, for its bytes and for the records that it went through. For each of them: the rule
/// with a bucket per identity, and the rule with a shared bucket.
struct Rules {
    of_bytes: [Option<Arc<Rule>>; 2],
    of_records: [Option<Arc<Rule>>; 2],
}

impl Accounts {
    /// Charges one request.
    ///
    /// # Errors
    /// [`Over`] when the request is over a limit.
    pub fn admit(&self, table: &Table, who: Who<'_>, class: Class, path: &str, now_ms: u64) -> Result<Bill, Over> {
        let Some(shard) = self.shard(who) else {
            // There is always a shard. Reject the request if that should ever be wrong.
            return Err(Over { class, wait_ms: LINE_EVERY_MS, line: None });
        };
        let account = shard.account(table, who, now_ms);
        let outcome = account.state.lock().admit(table, who, class, path, now_ms);
        match outcome {
            Ok(rules) => {
                count(&shard.counters.allowed, class, 1);
                Ok(Bill { account, rules, records: 0, now_ms })
            }
            Err(over) => {
                count(&shard.counters.limited, over.class, 1);
                shard.counters.unwritten.fetch_add(u64::from(over.line.is_none()), Ordering::Relaxed);
                Err(over)
            }
        }
    }

    /// Charges a request to the reserve, which no quota changes.
    ///
    /// # Errors
    /// [`Over`] when the reserve is used up too.
    pub fn admit_reserved(&self, table: &Table, who: Who<'_>, class: Class, now_ms: u64) -> Result<(), Over> {
        let Some(shard) = self.shard(who) else { return Ok(()) };
        let account = shard.account(table, who, now_ms);
        let outcome = account.state.lock().admit_reserved(class, now_ms);
        let counters = if outcome.is_ok() { &shard.counters.allowed } else { &shard.counters.limited };
        count(counters, class, 1);
        outcome
    }

    /// Whether the allowance for comparisons of the history pays for one more. As large as the reserve and apart from it, so
    /// neither takes from the other. Writes no line and counts nothing: what it does not pay for is a request like any
    /// other.
    pub fn admits_comparison(&self, table: &Table, who: Who<'_>, now_ms: u64) -> bool {
        let Some(shard) = self.shard(who) else { return true };
        let account = shard.account(table, who, now_ms);
        let mut state = account.state.lock();
        state.used_ms = now_ms;
        state.compare.take(&RESERVE, now_ms).is_ok()
    }

    /// Returns the totals so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for shard in &self.shards {
            for (sum, counter) in totals.allowed.0.iter_mut().zip(&shard.counters.allowed) {
                *sum = sum.saturating_add(counter.load(Ordering::Relaxed));
            }
            for (sum, counter) in totals.limited.0.iter_mut().zip(&shard.counters.limited) {
                *sum = sum.saturating_add(counter.load(Ordering::Relaxed));
            }
            totals.unwritten = totals.unwritten.saturating_add(shard.counters.unwritten.load(Ordering::Relaxed));
            let maps = shard.maps.lock();
            totals.accounts += maps.len();
        }
        totals
    }

    fn shard(&self, who: Who<'_>) -> Option<&Shard> {
        let hash = match who {
            Who::Admitted { uri, .. } => self.hasher.hash_one(uri),
            Who::Refused(fingerprint) => self.hasher.hash_one(fingerprint),
        };
        let place = usize::try_from(hash % 64).ok()?;
        self.shards.get(place)
    }
}

impl Bill {
    /// Adds records that were read for the answer. Every [`RECORDS_OF_A_LIST`] of them count as one more list, whatever
    /// the class of the request.
    pub fn looked_at(&mut self, records: u64) {
        self.records = self.records.saturating_add(records);
    }

    /// Whether the records read for earlier answers are paid for. Asked before a report reads many more.
    ///
    /// # Errors
    /// How long to wait, in milliseconds, when they are not.
    pub fn may_look(&self) -> Result<(), u64> {
        let [own, shared] = &self.rules.of_records;
        if let Some(rule) = own {
            let mut state = self.account.state.lock();
            state.bucket(rule, self.now_ms).map_or(Ok(()), |bucket| bucket.settled(rule.rate(), self.now_ms))?;
        }
        shared.as_ref().map_or(Ok(()), |rule| rule.shared.lock().settled(rule.rate(), self.now_ms))
    }

    /// Charges the size of the answer and the records that were read for it.
    pub fn settle(self, bytes: u64) {
        count(&self.account.counters.allowed, Class::Bytes, bytes);
        self.charge(&self.rules.of_bytes, bytes);
        self.charge(&self.rules.of_records, self.records / RECORDS_OF_A_LIST);
    }

    fn charge(&self, [own, shared]: &[Option<Arc<Rule>>; 2], tokens: u64) {
        if tokens == 0 {
            return;
        }
        if let Some(rule) = own {
            let mut state = self.account.state.lock();
            if let Some(bucket) = state.bucket(rule, self.now_ms) {
                bucket.charge(rule.rate(), self.now_ms, tokens);
            }
        }
        if let Some(rule) = shared {
            rule.shared.lock().charge(rule.rate(), self.now_ms, tokens);
        }
    }
}

fn count(counters: &[AtomicU64; 4], class: Class, by: u64) {
    if let Some(counter) = counters.get(class.index()) {
        counter.fetch_add(by, Ordering::Relaxed);
    }
}

impl Shard {
    fn account(&self, table: &Table, who: Who<'_>, now_ms: u64) -> Arc<Account> {
        let mut maps = self.maps.lock();
        let known = match who {
            Who::Admitted { uri, .. } => maps.identities.get(uri),
            Who::Refused(fingerprint) => maps.certificates.get(fingerprint),
        };
        if let Some(account) = known {
            return Arc::clone(account);
        }
        maps.make_room(now_ms);
        let account = Arc::new(Account::open(table, who, Arc::clone(&self.counters), now_ms));
        match who {
            Who::Admitted { uri, .. } => maps.identities.insert(uri.into(), Arc::clone(&account)),
            Who::Refused(fingerprint) => maps.certificates.insert(*fingerprint, Arc::clone(&account)),
        };
        account
    }
}

impl Maps {
    fn len(&self) -> usize {
        self.identities.len() + self.certificates.len()
    }

    /// Forgets accounts that are as good as new. If there are none, forgets the eighth that was unused for longest.
    fn make_room(&mut self, now_ms: u64) {
        if self.len() < PER_SHARD {
            return;
        }
        self.retain(|state| !state.is_idle(now_ms));
        if self.len() < PER_SHARD {
            return;
        }
        let accounts = self.identities.values().chain(self.certificates.values());
        let mut used: Vec<u64> = accounts.map(|account| account.state.lock().used_ms).collect();
        let (_, limit_ms, _) = used.select_nth_unstable(PER_SHARD / 8);
        let limit_ms = *limit_ms;
        let mut spare = PER_SHARD / 8;
        self.retain(|state| {
            let goes = state.used_ms <= limit_ms && spare > 0;
            spare -= usize::from(goes);
            !goes
        });
    }

    fn retain(&mut self, mut keep: impl FnMut(&Usage) -> bool) {
        self.identities.retain(|_, account| keep(&account.state.lock()));
        self.certificates.retain(|_, account| keep(&account.state.lock()));
    }
}

impl Account {
    fn open(table: &Table, who: Who<'_>, counters: Arc<Counters>, now_ms: u64) -> Self {
        let state = Usage {
            version: table.version,
            plan: table.plan(path_of(who)),
            buckets: Vec::new(),
            reserve: Bucket::full(&RESERVE, now_ms),
            compare: Bucket::full(&RESERVE, now_ms),
            used_ms: now_ms,
            lines: <[Lines; 4]>::default(),
        };
        Self { state: Mutex::new(state), counters }
    }
}

fn path_of(who: Who<'_>) -> Option<&str> {
    match who {
        Who::Admitted { path, .. } => Some(path),
        Who::Refused(_) => None,
    }
}

impl Usage {
    /// Takes a token, and returns the rules that the answer will be charged to.
    fn admit(&mut self, table: &Table, who: Who<'_>, class: Class, path: &str, now_ms: u64) -> Result<Rules, Over> {
        self.used_ms = now_ms;
        // A request that started before a change of the limits may arrive after one that started later.
        if self.version < table.version {
            self.plan = table.plan(path_of(who));
            self.version = table.version;
            let plan = Arc::clone(&self.plan);
            self.buckets.retain(|(rule, _)| plan.holds(rule));
        }
        let plan = Arc::clone(&self.plan);
        let bytes = plan.rules(Class::Bytes, path);
        // What only looks comes first: a refusal must cost nothing. Then what is the identity's own, so that somebody
        // over his own limit takes nothing of what all share.
        for (limited, [own, shared]) in [(Class::Bytes, bytes), (class, plan.rules(class, path))] {
            let ask = |bucket: &mut Bucket, rule: &Rule| match limited {
                Class::Bytes => bucket.peek(rule.rate(), now_ms),
                _ => bucket.take(rule.rate(), now_ms),
            };
            if let Some(rule) = own
                && let Some(Err(wait_ms)) = self.bucket(rule, now_ms).map(|bucket| ask(bucket, rule))
            {
                return Err(self.over(limited, wait_ms, &rule.quota.name, now_ms));
            }
            if let Some(rule) = shared {
                let outcome = ask(&mut rule.shared.lock(), rule);
                if let Err(wait_ms) = outcome {
                    return Err(self.over(limited, wait_ms, &rule.quota.name, now_ms));
                }
            }
        }
        let held = |rules: [Option<&Arc<Rule>>; 2]| rules.map(Option::<&Arc<Rule>>::cloned);
        Ok(Rules { of_bytes: held(bytes), of_records: held(plan.rules(Class::List, path)) })
    }

    fn admit_reserved(&mut self, class: Class, now_ms: u64) -> Result<(), Over> {
        self.used_ms = now_ms;
        self.reserve.take(&RESERVE, now_ms).map_err(|wait_ms| self.over(class, wait_ms, "reserve", now_ms))
    }

    /// The account's bucket for a rule, made when it is first needed.
    fn bucket(&mut self, rule: &Arc<Rule>, now_ms: u64) -> Option<&mut Bucket> {
        let place = match self.buckets.iter().position(|(held, _)| Arc::ptr_eq(held, rule)) {
            Some(place) => place,
            None => {
                self.buckets.push((Arc::clone(rule), Bucket::full(rule.rate(), now_ms)));
                self.buckets.len() - 1
            }
        };
        self.buckets.get_mut(place).map(|(_, bucket)| bucket)
    }

    fn over(&mut self, class: Class, wait_ms: u64, quota: &str, now_ms: u64) -> Over {
        let line = self.lines.get_mut(class.index()).and_then(|lines| {
            // Compared in both directions, so that changing the clock does not silence the log.
            if lines.last_ms.is_some_and(|last_ms| now_ms.abs_diff(last_ms) < LINE_EVERY_MS) {
                lines.unwritten = lines.unwritten.saturating_add(1);
                return None;
            }
            lines.last_ms = Some(now_ms);
            Some((quota.to_owned(), std::mem::take(&mut lines.unwritten)))
        });
        Over { class, wait_ms, line }
    }

    fn is_idle(&self, now_ms: u64) -> bool {
        self.reserve.is_idle(&RESERVE, now_ms)
            && self.compare.is_idle(&RESERVE, now_ms)
            && self.buckets.iter().all(|(rule, bucket)| bucket.is_idle(rule.rate(), now_ms))
            && self.lines.iter().all(|lines| lines.unwritten == 0)
    }
}

#[cfg(test)]
mod tests;
