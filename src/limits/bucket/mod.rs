//! The token bucket, in integers.
//!
//! A bucket holds up to one burst of tokens and gains `rate` tokens per interval, evenly. Its level is counted in units
//! of `1 / (1000 * interval in ms)` of a token. So every millisecond adds an integer and nothing is ever rounded. The
//! time is an argument and may be anything:
//!
//! - It moves forwards, by any amount: the bucket holds at most one burst afterwards.
//! - It moves backwards by up to an interval (threads pass times that are slightly out of order): no token is given
//!   twice, and the bucket waits until the clock has caught up.
//! - It moves backwards by more (somebody set the clock): the bucket continues from the new time with its current
//!   level.

/// A rate with its burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    /// Thousandths of a token gained per interval; at least 1.
    pub milli: u64,
    /// Length of the interval in milliseconds; at least 1.
    pub interval_ms: u64,
    /// Tokens that a full bucket holds; at least 1.
    pub burst: u64,
    /// After a refusal, everything is rejected for this long, in milliseconds. With 0 only until the next token.
    pub block_ms: u64,
}

/// Longest time in milliseconds that one charge afterwards can delay later requests. The size of an answer is known
/// only once it exists, and one large answer at a small rate must not block its reader for days.
pub const MAX_DEBT_MS: u64 = 60_000;

impl Rate {
    /// A rate of `tokens` per second with bursts of `burst`.
    #[must_use]
    pub const fn per_second(tokens: u64, burst: u64) -> Self {
        Self { milli: tokens.saturating_mul(1_000), interval_ms: 1_000, burst, block_ms: 0 }
    }

    /// Weight of one token.
    fn token(&self) -> i128 {
        1_000 * i128::from(self.interval_ms.max(1))
    }

    /// Weight of a full bucket.
    fn full(&self) -> i128 {
        i128::from(self.burst.max(1)).saturating_mul(self.token())
    }

    /// Weight gained in `span_ms`.
    fn gain(&self, span_ms: u64) -> i128 {
        i128::from(self.milli.max(1)).saturating_mul(i128::from(span_ms))
    }

    /// Milliseconds to gain `weight`, rounded up.
    fn time_for(&self, weight: i128) -> u64 {
        let milli = i128::from(self.milli.max(1));
        u64::try_from(weight.max(0).saturating_add(milli - 1) / milli).unwrap_or(u64::MAX)
    }
}

/// One token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// The level. Negative when an answer was charged that is not yet paid for.
    level: i128,
    /// Time up to which tokens were added, in milliseconds.
    at_ms: u64,
    /// Time since which everything is rejected, in milliseconds.
    blocked_ms: Option<u64>,
}

impl Bucket {
    /// Makes a full bucket.
    #[must_use]
    pub fn full(rate: &Rate, now_ms: u64) -> Self {
        Self { level: rate.full(), at_ms: now_ms, blocked_ms: None }
    }

    /// Takes one token.
    ///
    /// # Errors
    /// The time to wait in milliseconds, at least 1, when there is no token.
    pub fn take(&mut self, rate: &Rate, now_ms: u64) -> Result<(), u64> {
        self.check(rate, now_ms, rate.token())?;
        self.level -= rate.token();
        Ok(())
    }

    /// Checks that the bucket is not empty, and takes nothing. For answers that [`Bucket::charge`] charges once their
    /// size is known.
    ///
    /// # Errors
    /// As [`Bucket::take`].
    pub fn peek(&mut self, rate: &Rate, now_ms: u64) -> Result<(), u64> {
        self.check(rate, now_ms, 1)
    }

    /// Whether all that was charged after the fact is paid for; an empty bucket is.
    ///
    /// # Errors
    /// As [`Bucket::take`].
    pub fn settled(&mut self, rate: &Rate, now_ms: u64) -> Result<(), u64> {
        self.check(rate, now_ms, 0)
    }

    /// Takes `tokens` after the fact, if necessary into debt. Paying a debt never takes longer than [`MAX_DEBT_MS`] or
    /// one interval, whichever is longer.
    pub fn charge(&mut self, rate: &Rate, now_ms: u64, tokens: u64) {
        self.turn(rate, now_ms);
        let deepest = -rate.gain(MAX_DEBT_MS.max(rate.interval_ms));
        self.level = self.level.saturating_sub(i128::from(tokens).saturating_mul(rate.token())).max(deepest);
    }

    /// Whether the bucket is as good as new: full and not blocked.
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

    /// Adds the tokens gained since the last call.
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

    /// Ends or moves a block, and returns how much of it is left.
    fn blocked_for(&mut self, rate: &Rate, now_ms: u64) -> Option<u64> {
        let since_ms = self.blocked_ms?;
        let left_ms = match now_ms.checked_sub(since_ms) {
            Some(passed_ms) => rate.block_ms.saturating_sub(passed_ms),
            // A time slightly out of order counts as the same time. A clock that was set back must not lengthen the
            // block.
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
