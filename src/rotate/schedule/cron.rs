//! Five cron fields, read strictly and searched by days.
//!
//! Grammar as in crontab(5): `minute hour day-of-month month day-of-week`. Each is a list of `*`, `n`, `a-b` with an
//! optional step `*/n`, `a-b/n`. Names are `jan`..`dec`, `sun`..`sat`, and 7 is Sunday. If both day fields are
//! restricted (do not begin with `*`), a day matches when it satisfies either of them, otherwise when it satisfies
//! both.

use std::fmt;

use jiff::civil::Date;
use jiff::{Span, ToSpan};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// How far a search looks. The 29th of February may be eight years away (1896 to 1904, 2096 to 2104).
const HORIZON_MONTHS: u32 = 8 * 12 + 1;

/// Minimum number of days in [`HORIZON_MONTHS`].
const HORIZON_DAYS: u32 = 8 * 365 + 2;

/// Months after which the calendar repeats, including weekdays: 400 years are 20,871 weeks.
const CYCLE_MONTHS: u32 = 400 * 12;

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Why a text is not a cron expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CronError {
    /// There are not five fields, or the text is far too long.
    #[error(
        "schedule.cron: not five fields; write minute hour day-of-month month day-of-week, for example \"30 3 * * sun\""
    )]
    Fields,
    /// A field is malformed.
    #[error("schedule.cron: the {0} field is malformed; write *, a number, a range a-b, a step */n or a list of these")]
    Field(&'static str),
    /// A number or name is out of the field's range.
    #[error("schedule.cron: the {0} field has a value out of range")]
    Range(&'static str),
}

/// A parsed cron expression. It prints as it was written.
#[derive(Clone, PartialEq, Eq)]
pub struct Cron {
    text: String,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether one matching day field is enough.
    either: bool,
}

/// Shortest and longest gap between two starts, in minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gaps {
    pub(super) least: u32,
    pub(super) most: u32,
}

impl Cron {
    /// Parses an expression.
    ///
    /// # Errors
    /// [`CronError`] for the first wrong field. An expression that is well formed but never fires is accepted here.
    /// [`Schedule::check`](super::Schedule::check) rejects it.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        if text.len() > 256 {
            return Err(CronError::Fields);
        }
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else { return Err(CronError::Fields) };
        let mut weekdays = field(weekday, "day-of-week", 0, 7, &WEEKDAYS)?;
        // 7 is Sunday, as 0 is.
        if weekdays & 1 << 7 != 0 {
            weekdays = weekdays & !(1 << 7) | 1;
        }
        Ok(Self {
            text: text.to_owned(),
            minutes: field(minute, "minute", 0, 59, &[])?,
            hours: field(hour, "hour", 0, 23, &[])?,
            days: field(day, "day-of-month", 1, 31, &[])?,
            months: field(month, "month", 1, 12, &MONTHS)?,
            weekdays,
            either: !day.starts_with('*') && !weekday.starts_with('*'),
        })
    }

    /// Returns the first matching minute after `minute` (both counted from 1970), or `None` when there is none within
    /// eight years or before the end of the year 9999. Takes at most 3,000 steps.
    pub(super) fn after(&self, minute: u64) -> Option<u64> {
        let first = minute.checked_add(1)?;
        let (today, now) = (first / 1_440, first % 1_440);
        let date = date_of(today)?;
        if self.matches(date.month(), date.day(), date.weekday().to_sunday_zero_offset())
            && let Some(time) = self.time_from(now)
        {
            return Some(today * 1_440 + time);
        }
        let mut days = Days::from(date)?;
        let day = days.find(|day| day.number > today && self.matches(day.month, day.day, day.weekday))?;
        Some(day.number * 1_440 + self.time_from(0)?)
    }

    /// The first matching minute of a day, at or after `from`.
    fn time_from(&self, from: u64) -> Option<u64> {
        (from / 60..24).filter(|hour| self.hours >> hour & 1 == 1).find_map(|hour| {
            let start = if hour == from / 60 { from % 60 } else { 0 };
            (start..60).find(|minute| self.minutes >> minute & 1 == 1).map(|minute| hour * 60 + minute)
        })
    }

    fn matches(&self, month: i8, day: i8, weekday: i8) -> bool {
        let day = self.days >> day & 1 == 1;
        let weekday = self.weekdays >> weekday & 1 == 1;
        self.months >> month & 1 == 1 && if self.either { day || weekday } else { day && weekday }
    }

    /// The gaps over one whole cycle of the calendar. `None` when a search could find nothing: the expression never
    /// fires, or two starts are more than eight years apart.
    pub(super) fn gaps(&self) -> Option<Gaps> {
        let times: Vec<u32> =
            (0..1_440).filter(|minute| self.time_from(u64::from(*minute)) == Some(u64::from(*minute))).collect();
        let (first, last) = (times.first()?, times.last()?);
        let between = times.iter().zip(times.iter().skip(1)).map(|(earlier, later)| later - earlier);
        let (day_least, day_most) = self.day_gaps()?;
        let over_night = |days: u32| days * 1_440 + first - last;
        let least = between.clone().min().unwrap_or(u32::MAX).min(over_night(day_least));
        let most = between.max().unwrap_or_default().max(over_night(day_most));
        Some(Gaps { least, most })
    }

    /// Smallest and largest number of days between two matching days.
    fn day_gaps(&self) -> Option<(u32, u32)> {
        let start = Date::new(2000, 1, 1).ok()?;
        let mut days = Days::from(start)?;
        // One cycle, and the start of the next, for the gap across its end.
        days.months_left = CYCLE_MONTHS + HORIZON_MONTHS;
        let mut before: Option<u64> = None;
        let (mut least, mut most) = (u32::MAX, 0u32);
        let origin = days.next_month_starts;
        for day in days.filter(|day| self.matches(day.month, day.day, day.weekday)) {
            let gap = u32::try_from(day.number - before.unwrap_or(origin)).ok()?;
            if gap > HORIZON_DAYS {
                return None;
            }
            if before.is_some() {
                least = least.min(gap);
                most = most.max(gap);
            }
            before = Some(day.number);
            // If every day has matched for a year, the rest need not be checked.
            if most == 1 && day.number - origin > 366 {
                break;
            }
        }
        // With one match or none there is no gap to measure.
        (most > 0).then_some((least, most))
    }
}

fn date_of(day: u64) -> Option<Date> {
    let days = i64::try_from(day).ok()?;
    // jiff returns an error for spans out of its range instead of wrapping.
    let span = Span::new().try_days(days).ok()?;
    Date::constant(1970, 1, 1).checked_add(span).ok()
}

struct Day {
    number: u64,
    month: i8,
    day: i8,
    weekday: i8,
}

/// Consecutive days, with one calendar lookup per month.
struct Days {
    month: Date,
    next_month_starts: u64,
    today: i8,
    weekday: i8,
    months_left: u32,
}

impl Days {
    /// Starts at the first day of the month of `date`.
    fn from(date: Date) -> Option<Self> {
        let month = date.first_of_month();
        let start = month.since(Date::constant(1970, 1, 1)).ok()?.get_days();
        Some(Self {
            month,
            next_month_starts: u64::try_from(start).ok()?,
            today: 0,
            weekday: month.weekday().to_sunday_zero_offset(),
            months_left: HORIZON_MONTHS,
        })
    }
}

impl Iterator for Days {
    type Item = Day;

    fn next(&mut self) -> Option<Day> {
        if self.today == self.month.days_in_month() {
            self.months_left = self.months_left.checked_sub(1)?;
            // Fails in December 9999, where the calendar ends.
            self.month = self.month.checked_add(1.month()).ok()?;
            self.today = 0;
        }
        self.today += 1;
        let day =
            Day { number: self.next_month_starts, month: self.month.month(), day: self.today, weekday: self.weekday };
        self.next_month_starts += 1;
        self.weekday = (self.weekday + 1) % 7;
        Some(day)
    }
}

/// The set of one field, as bits.
fn field(text: &str, name: &'static str, least: u32, most: u32, names: &[&str]) -> Result<u64, CronError> {
    let malformed = CronError::Field(name);
    let number = |text: &str| {
        let places = names.iter().position(|other| other.eq_ignore_ascii_case(text));
        if let Some(place) = places.and_then(|place| u32::try_from(place).ok()) {
            return Ok(place + least);
        }
        // `parse` alone would accept a plus sign, and any number of leading zeros.
        if text.is_empty() || text.len() > 2 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed);
        }
        let number = text.parse::<u32>().map_err(|_| malformed)?;
        if (least..=most).contains(&number) { Ok(number) } else { Err(CronError::Range(name)) }
    };
    let mut set = 0u64;
    for item in text.split(',') {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (item, None),
        };
        let (from, to) = match range.split_once('-') {
            // For weekdays `*` means 0 to 6: with 7, a step would match Sunday twice.
            _ if range == "*" => (least, if names.len() == 7 { 6 } else { most }),
            Some((from, to)) => {
                let (from, to) = (number(from)?, number(to)?);
                // `fri-sun` ends on the Sunday that follows.
                (from, if names.len() == 7 && to == 0 && from > 0 { 7 } else { to })
            }
            // A step needs a range.
            None if step.is_some() => return Err(malformed),
            None => {
                let only = number(range)?;
                (only, only)
            }
        };
        if from > to {
            return Err(malformed);
        }
        let step = match step {
            None => 1,
            Some(text) if text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse::<usize>().ok().filter(|step| *step > 0).ok_or(malformed)?
            }
            Some(_) => return Err(malformed),
        };
        for value in (from..=to).step_by(step) {
            set |= 1 << value;
        }
    }
    Ok(set)
}

impl fmt::Debug for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cron({:?})", self.text)
    }
}

impl Serialize for Cron {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Cron {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(from)?).map_err(de::Error::custom)
    }
}
