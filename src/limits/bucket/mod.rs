//! The token bucket, in whole numbers.
//!
//! A bucket holds up to a burst of tokens and gets `rate` of them per interval, evenly. The level counts the
//! `1 / (1000 * interval in ms)`-th part of a token, so that every millisecond adds a whole number and nothing is ever
//! rounded. Time comes as an argument and may be anything:
//!
//! - forwards by however much: at most one burst is there afterwards;
//! - backwards by up to an interval (requests on several threads carry times that are a little out of order): no token
//!   is given twice, the bucket waits until the clock has caught up;
//! - backwards by more (somebody set the clock): the bucket goes on from the new time with what it holds.

/// How fast and how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Thousandths of a token that come per interval; at least 1.
    pub milli: u64,
    /// Length of the interval, ms; at least 1.
    pub interval_ms: u64,
    /// Tokens that a full bucket holds; at least 1.
    pub burst: u64,
    /// After a refusal everything is refused for this long, ms; 0: only until the next token.
    pub block_ms: u64,
}

/// Longest time that one charge after the fact can hold up what comes next, ms. An answer's size is known only when it
/// is made; one big answer at a small rate must not lock its reader out for days.
pub const MAX_DEBT_MS: u64 = 60_000;

impl Rate {
    /// `tokens` a second with bursts of `burst`.
    #[must_use]
    pub const fn per_second(tokens: u64, burst: u64) -> Self {
        Self { milli: tokens.saturating_mul(1_000), interval_ms: 1_000, burst, block_ms: 0 }
    }

    /// What one token weighs.
    fn token(&self) -> i128 {
        1_000 * i128::from(self.interval_ms.max(1))
    }

    /// What a full bucket weighs.
    fn full(&self) -> i128 {
        i128::from(self.burst.max(1)).saturating_mul(self.token())
    }

    /// What `span_ms` adds.
    fn gain(&self, span_ms: u64) -> i128 {
        i128::from(self.milli.max(1)).saturating_mul(i128::from(span_ms))
    }

    /// How long `weight` takes to come, ms, rounded up.
    fn time_for(&self, weight: i128) -> u64 {
        let milli = i128::from(self.milli.max(1));
        u64::try_from(weight.max(0).saturating_add(milli - 1) / milli).unwrap_or(u64::MAX)
    }

    /// Time from empty to full, ms.
    #[must_use]
    pub fn fill_ms(&self) -> u64 {
        self.time_for(self.full())
    }
}

/// One bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Negative: what was answered already and is still to be waited for.
    level: i128,
    /// Time up to which tokens were added, ms.
    at_ms: u64,
    /// Since when everything is refused, ms.
    blocked_ms: Option<u64>,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub fn full(rate: &Rate, now_ms: u64) -> Self {
        Self { level: rate.full(), at_ms: now_ms, blocked_ms: None }
    }

    /// Takes one token.
    ///
    /// # Errors
    /// How long to wait, ms, at least 1, when there is none.
    pub fn take(&mut self, rate: &Rate, now_ms: u64) -> Result<(), u64> {
        self.check(rate, now_ms, rate.token())?;
        self.level -= rate.token();
        Ok(())
    }

    /// Whether anything may be had; for what is charged by [`Bucket::charge`] when its size is known.
    ///
    /// # Errors
    /// As [`Bucket::take`].
    pub fn peek(&mut self, rate: &Rate, now_ms: u64) -> Result<(), u64> {
        self.check(rate, now_ms, 1)
    }

    /// Takes `tokens` after the fact, into debt if need be; a debt never takes longer than [`MAX_DEBT_MS`] or an
    /// interval to pay, whichever is longer.
    pub fn charge(&mut self, rate: &Rate, now_ms: u64, tokens: u64) {
        self.turn(rate, now_ms);
        let deepest = -rate.gain(MAX_DEBT_MS.max(rate.interval_ms));
        self.level = self.level.saturating_sub(i128::from(tokens).saturating_mul(rate.token())).max(deepest);
    }

    /// Whether it is as good as a new one: full and not blocked.
    #[must_use]
    pub fn is_idle(&self, rate: &Rate, now_ms: u64) -> bool {
        let mut later = *self;
        later.turn(rate, now_ms);
        later.level >= rate.full() && later.blocked_for(rate, now_ms).is_none()
    }

    fn check(&mut self, rate: &Rate, now_ms: u64, weight: i128) -> Result<(), u64> {
        self.turn(rate, now_ms);
        if let Some(wait_ms) = self.blocked_for(rate, now_ms) {
            return Err(wait_ms);
        }
        if self.level >= weight {
            return Ok(());
        }
        let mut wait_ms = rate.time_for(weight.saturating_sub(self.level));
        if rate.block_ms > 0 {
            self.blocked_ms = Some(now_ms);
            wait_ms = wait_ms.max(rate.block_ms);
        }
        Err(wait_ms.max(1))
    }

    /// Adds what has come since.
    fn turn(&mut self, rate: &Rate, now_ms: u64) {
        match now_ms.checked_sub(self.at_ms) {
            Some(span_ms) => {
                self.level = self.level.saturating_add(rate.gain(span_ms)).min(rate.full());
                self.at_ms = now_ms;
            }
            None if self.at_ms - now_ms > rate.interval_ms => self.at_ms = now_ms,
            None => {}
        }
    }

    /// Ends or moves a block, and tells how much of it is left.
    fn blocked_for(&mut self, rate: &Rate, now_ms: u64) -> Option<u64> {
        let since_ms = self.blocked_ms?;
        let left_ms = match now_ms.checked_sub(since_ms) {
            Some(passed_ms) => rate.block_ms.saturating_sub(passed_ms),
            // A little out of order is as if at the same time; a clock that was set back must not make the block longer
            // than it is.
            None => {
                if since_ms - now_ms > rate.interval_ms {
                    self.blocked_ms = Some(now_ms);
                }
                rate.block_ms
            }
        };
        if left_ms == 0 {
            self.blocked_ms = None;
            return None;
        }
        Some(left_ms)
    }
}

#[cfg(test)]
mod tests;
