//! When the next rotation is due. All times are milliseconds since 1970, UTC. Every function returns a result for every
//! input in bounded time, so a clock that jumps by years does no harm.

mod cron;

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use cron::Cron;

use super::span;
use crate::api::duration::Ttl;

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 86_400_000;

/// 9999-12-31T23:59:59.999Z. Later times cannot be written (RFC 3339).
const LAST_MS: u64 = 253_402_300_799_999;

/// Shortest interval, in seconds.
pub const LEAST_INTERVAL_S: u64 = 60;

/// Why a schedule is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The schedule has neither an interval nor a cron expression.
    #[error("schedule: has neither \"every\" nor \"cron\"; add one of them")]
    Nothing,
    /// The schedule has both.
    #[error("schedule: has both \"every\" and \"cron\"; remove one of them")]
    Both,
    /// The interval is too short.
    #[error("schedule.every: less than 60 seconds; write a longer span, for example \"30d\"")]
    TooOften,
    /// No date matches the expression, or only dates more than eight years apart.
    #[error("schedule.cron: never fires within eight years; change the day or month field")]
    NeverFires,
    /// The jitter could move a start past the next one.
    #[error("schedule.jitter: longer than the shortest interval of {0} seconds; write at most that")]
    Jitter(u64),
    /// Every value would become overdue before its successor is due.
    #[error("schedule.max_age: values of this schedule can become {0} seconds old; write at least that")]
    MaxAge(u64),
}

/// The text is not a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("schedule.window: write two different times of day in UTC, for example \"22:00-04:00\"")]
pub struct WindowError;

/// A part of each day in UTC, from the first minute up to but not including the second. May cross midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    from_minute: u16,
    to_minute: u16,
}

impl Window {
    /// Parses `HH:MM-HH:MM`, hours 00 to 23.
    ///
    /// # Errors
    /// [`WindowError`] for anything else, and for two equal times, which could mean none or all of the day.
    pub fn parse(text: &str) -> Result<Self, WindowError> {
        let (from, to) = text.split_once('-').ok_or(WindowError)?;
        let (from_minute, to_minute) = (time_of_day(from)?, time_of_day(to)?);
        if from_minute == to_minute { Err(WindowError) } else { Ok(Self { from_minute, to_minute }) }
    }

    fn length_ms(self) -> u64 {
        let (from, to) = (u64::from(self.from_minute), u64::from(self.to_minute));
        (if from < to { to - from } else { 1_440 - from + to }) * MINUTE_MS
    }

    /// Milliseconds since the window last opened.
    fn since_open_ms(self, at_ms: u64) -> u64 {
        (at_ms % DAY_MS + DAY_MS - u64::from(self.from_minute) * MINUTE_MS) % DAY_MS
    }

    /// Whether a rotation may start at `at_ms`.
    #[must_use]
    pub fn is_open(self, at_ms: u64) -> bool {
        self.since_open_ms(at_ms) < self.length_ms()
    }

    /// The first moment at or after `at_ms` at which the window is open, and how long it stays open from then on.
    fn enter(self, at_ms: u64) -> Option<(u64, u64)> {
        let since = self.since_open_ms(at_ms);
        match self.length_ms().checked_sub(since) {
            Some(left) if left > 0 => Some((at_ms, left)),
            _ => at_ms.checked_add(DAY_MS - since).map(|open| (open, self.length_ms())),
        }
    }
}

fn time_of_day(text: &str) -> Result<u16, WindowError> {
    let &[h1, h2, b':', m1, m2] = text.as_bytes() else { return Err(WindowError) };
    let two = |tens: u8, ones: u8| {
        let digits = tens.is_ascii_digit() && ones.is_ascii_digit();
        digits.then(|| u16::from(tens - b'0') * 10 + u16::from(ones - b'0')).ok_or(WindowError)
    };
    let (hour, minute) = (two(h1, h2)?, two(m1, m2)?);
    if hour < 24 && minute < 60 { Ok(hour * 60 + minute) } else { Err(WindowError) }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.from_minute, self.to_minute);
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

impl Serialize for Window {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Window {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(from)?).map_err(de::Error::custom)
    }
}

/// When a value is replaced. Exactly one of `every` and `cron` must be given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// A fixed interval since the last rotation.
    #[serde(default, with = "span::optional", skip_serializing_if = "Option::is_none")]
    pub every: Option<Ttl>,
    /// Five cron fields, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<Cron>,
    /// Rotations start only inside this part of the day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Delays the start by up to this much, so that many keys with one schedule do not start at the same time. Never
    /// leaves the window.
    #[serde(default, with = "span")]
    pub jitter: Ttl,
    /// A value older than this is overdue.
    #[serde(default, with = "span::optional", skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Ttl>,
}

impl Schedule {
    /// Checks the schedule. For cron it walks through one cycle of the calendar (400 years), which takes milliseconds.
    ///
    /// # Errors
    /// The [`ScheduleError`] for the first wrong field.
    pub fn check(&self) -> Result<(), ScheduleError> {
        let (least, most) = self.intervals()?;
        if self.jitter.0 > least {
            return Err(ScheduleError::Jitter(least));
        }
        let wait = self.window.map_or(0, |window| (DAY_MS - window.length_ms()) / 1_000);
        let oldest = most.saturating_add(wait).saturating_add(self.jitter.0);
        if self.max_age.is_some_and(|age| age.0 < oldest) {
            return Err(ScheduleError::MaxAge(oldest));
        }
        Ok(())
    }

    /// The shortest and the longest interval in seconds, without window and jitter.
    ///
    /// # Errors
    /// [`ScheduleError::Nothing`], `Both`, `TooOften` or `NeverFires` when the schedule has no interval.
    pub fn intervals(&self) -> Result<(u64, u64), ScheduleError> {
        match (&self.every, &self.cron) {
            (None, None) => Err(ScheduleError::Nothing),
            (Some(_), Some(_)) => Err(ScheduleError::Both),
            (Some(every), None) if every.0 < LEAST_INTERVAL_S => Err(ScheduleError::TooOften),
            (Some(every), None) => Ok((every.0, every.0)),
            (None, Some(cron)) => {
                let gaps = cron.gaps().ok_or(ScheduleError::NeverFires)?;
                Ok((u64::from(gaps.least) * 60, u64::from(gaps.most) * 60))
            }
        }
    }

    /// Returns the start of the rotation that follows `last_ms` (the last start, or the creation of the value). The
    /// same arguments give the same time. `seed` identifies the key, for example as a hash of its name, and decides the
    /// jitter.
    ///
    /// The result is later than `last_ms` and inside the window. If the clock jumped forward it may lie in the past:
    /// then one rotation is due now. `None` when there is no such time before the year 10000, or the schedule does not
    /// pass [`check`](Self::check).
    #[must_use]
    pub fn next_after(&self, last_ms: u64, seed: u64) -> Option<u64> {
        let (start, room) = self.earliest(last_ms)?;
        // A hash scaled to 0..=room. The products fit into 128 bits.
        let moved = (u128::from(mix(seed ^ mix(start))) * (u128::from(room) + 1)) >> 64;
        start.checked_add(u64::try_from(moved).ok()?).filter(|at| *at <= LAST_MS)
    }

    /// Whether the value of `last_ms` should have been replaced before `now_ms`: it is older than `max_age`, or the
    /// latest start that jitter allows has passed. False while the clock is before `last_ms`.
    #[must_use]
    pub fn overdue(&self, last_ms: u64, now_ms: u64) -> bool {
        let Some(age) = now_ms.checked_sub(last_ms) else { return false };
        let latest = self.earliest(last_ms).map(|(start, room)| start.saturating_add(room));
        self.max_age.is_some_and(|most| age > most.as_ms()) || latest.is_some_and(|latest| latest < now_ms)
    }

    /// The next start without jitter, and the largest delay by jitter.
    fn earliest(&self, last_ms: u64) -> Option<(u64, u64)> {
        let due = match (&self.every, &self.cron) {
            (Some(every), None) => last_ms.checked_add(every.as_ms().max(LEAST_INTERVAL_S * 1_000))?,
            (None, Some(cron)) => cron.after(last_ms / MINUTE_MS)?.checked_mul(MINUTE_MS)?,
            _ => return None,
        };
        let jitter = self.jitter.as_ms();
        match self.window {
            None => Some((due, jitter)),
            Some(window) => window.enter(due).map(|(start, left)| (start, jitter.min(left - 1))),
        }
        .filter(|(start, _)| *start <= LAST_MS)
    }
}

/// The output function of SplitMix64: every bit of the input changes about half of the output's bits. Not for secrets.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests;
