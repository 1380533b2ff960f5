//! What an operator stores for one key of one path: how new values are generated, when, and where they are applied.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::generate::{GenerateError, Generator};
use super::schedule::{Schedule, ScheduleError};
use super::{is_target_name, span};
use crate::api::duration::Ttl;
use crate::api::json::{self, JsonError, Limits, Parsed};

const DAY_S: u64 = 86_400;
const DAY_MS: u64 = DAY_S * 1_000;

/// Default grace period, in which the previous value is still accepted.
pub const DEFAULT_GRACE: Ttl = Ttl(DAY_S);

/// Longest grace period: a year.
const MOST_GRACE_S: u64 = 366 * DAY_S;

/// Largest number of reminders, and the earliest one in days.
const MOST_REMINDERS: usize = 16;
const EARLIEST_REMINDER_DAYS: u32 = 3_650;

/// Why a policy is rejected. The text names the field and what to try.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The text is not JSON, is too long, or has a field twice.
    #[error("the policy must be one JSON object of at most 16 KiB: {0}")]
    Json(#[from] JsonError),
    /// A field is unknown or missing, or a value has the wrong type. The text comes from the parser and may repeat
    /// names and values of the policy. A policy holds no secrets.
    #[error("the policy was not understood: {0}")]
    Shape(String),
    /// The generator is rejected.
    #[error(transparent)]
    Generator(#[from] GenerateError),
    /// The schedule is rejected.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The grace period is longer than a year.
    #[error("grace: longer than a year; write at most \"366d\"")]
    GraceTooLong,
    /// The grace period of one rotation would last into the next.
    #[error("grace: longer than the shortest interval of the schedule; write at most \"{0}s\"")]
    GraceOverlaps(u64),
    /// The name cannot be that of a target.
    #[error("target: not a target's name (a-z, 0-9, - and _); write the name of a target in the configuration file")]
    Target,
    /// `user_key` is set without a target.
    #[error("user_key: has no meaning without a target; add target or remove user_key")]
    UserKeyAlone,
    /// The text cannot be the name of a field.
    #[error("user_key: a field's name has 1 to 256 characters and no control characters; write another")]
    UserKey,
    /// Two roles are used, but no field says which one is current.
    #[error(
        "user_key: mode \"pair\" alternates between two roles; name the field that holds the role, or write \"mode\": \"single\""
    )]
    UserKeyMissing,
    /// The expiry is 0.
    #[error("expires_at_ms: 0 is not a date; write milliseconds since 1970 or remove the field")]
    Expiry,
    /// There are too many reminders, or one is too early, zero or repeated.
    #[error(
        "reminders: up to 16 different spans of 1 to 3650 days are possible; write for example [\"30d\", \"7d\", \"1d\"]"
    )]
    Reminders,
}

/// How a target's credential is replaced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Two roles take turns. The unused one is changed, so the current value never stops working.
    #[default]
    Pair,
    /// One role. The current value does not work between the change and the promotion.
    Single,
}

/// The policy of one key. Absent fields have default values: on request, 24 hours of grace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// How a new value is generated.
    pub generator: Generator,
    /// When it is rotated; without it only on request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// How long the previous value is still accepted; 24 hours by default.
    #[serde(default = "default_grace", with = "span")]
    pub grace: Ttl,
    /// Name of the configured target to which the value is applied. Without it the value only changes in the vault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The field of the same secret that holds the name of the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_key: Option<String>,
    /// One role or two; only with a target.
    #[serde(default)]
    pub mode: Mode,
    /// When the value expires by itself, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
    /// How many days before the expiry to send reminders. In JSON durations of whole days such as `"30d"`.
    #[serde(default = "default_reminders", deserialize_with = "read_days", serialize_with = "write_days")]
    pub reminders: Vec<u32>,
}

fn default_grace() -> Ttl {
    DEFAULT_GRACE
}

fn default_reminders() -> Vec<u32> {
    vec![30, 7, 1]
}

fn read_days<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u32>, D::Error> {
    // Only texts are allowed, because a number is in seconds everywhere else.
    let texts = Vec::<String>::deserialize(from)?;
    let days = |text: &String| match Ttl::parse(text) {
        Ok(Ttl(seconds)) if seconds % DAY_S == 0 => u32::try_from(seconds / DAY_S).ok(),
        _ => None,
    };
    texts.iter().map(|text| days(text).ok_or_else(|| de::Error::custom(PolicyError::Reminders))).collect()
}

fn write_days<S: Serializer>(days: &[u32], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(days.iter().map(|days| format!("{days}d")))
}

impl Policy {
    /// A policy with `generator` and default values: on request, 24 hours of grace.
    #[cfg(test)]
    #[must_use]
    pub fn new(generator: Generator) -> Self {
        Self {
            generator,
            schedule: None,
            grace: DEFAULT_GRACE,
            target: None,
            user_key: None,
            mode: Mode::default(),
            expires_at_ms: None,
            reminders: default_reminders(),
        }
    }

    /// Parses and checks a policy of at most 16 KiB.
    ///
    /// # Errors
    /// [`PolicyError::Json`] and `Shape` for what cannot be parsed, otherwise those of [`check`](Self::check).
    pub fn parse(text: &[u8]) -> Result<Self, PolicyError> {
        let limits = Limits { max_bytes: 16 << 10, max_depth: 6, max_keys: 64, max_string_bytes: 1 << 10 };
        json::check(text, &limits)?;
        let parsed = Parsed::of(text)?;
        let object = parsed.object();
        // Serde would read a list as the fields in order, which no operator means.
        for name in ["generator", "schedule"] {
            if object.get(name).is_some_and(|value| value.object().is_none()) {
                return Err(PolicyError::Shape(format!("{name} is not an object")));
            }
        }
        let policy: Self = serde_json::from_slice(text).map_err(|error| PolicyError::Shape(error.to_string()))?;
        policy.check()?;
        Ok(policy)
    }

    /// Checks the policy as a whole.
    ///
    /// # Errors
    /// The [`PolicyError`] for the first wrong field.
    pub fn check(&self) -> Result<(), PolicyError> {
        self.generator.check()?;
        if self.grace.0 > MOST_GRACE_S {
            return Err(PolicyError::GraceTooLong);
        }
        if let Some(schedule) = &self.schedule {
            schedule.check()?;
            // There is only one previous version, so the next rotation would end the grace period early.
            let (least, _) = schedule.intervals()?;
            if self.grace.0 > least {
                return Err(PolicyError::GraceOverlaps(least));
            }
        }
        match (&self.target, &self.user_key) {
            (Some(target), _) if !is_target_name(target) => return Err(PolicyError::Target),
            (None, Some(_)) => return Err(PolicyError::UserKeyAlone),
            (Some(_), None) if self.mode == Mode::Pair => return Err(PolicyError::UserKeyMissing),
            (_, Some(key)) if key.is_empty() || key.chars().count() > 256 || key.chars().any(char::is_control) => {
                return Err(PolicyError::UserKey);
            }
            _ => {}
        }
        if self.expires_at_ms == Some(0) {
            return Err(PolicyError::Expiry);
        }
        let seen = |at: usize, days: &u32| self.reminders.iter().take(at).any(|other| other == days);
        let bad = |(at, days): (usize, &u32)| !(1..=EARLIEST_REMINDER_DAYS).contains(days) || seen(at, days);
        if self.reminders.len() > MOST_REMINDERS || self.reminders.iter().enumerate().any(bad) {
            return Err(PolicyError::Reminders);
        }
        Ok(())
    }

    /// The reminders that are due at `now_ms` and not in `already_sent`, earliest first. After a long downtime there
    /// may be several. One message for the last of them is enough, but all count as sent. Reminders are also sent after
    /// the expiry, because silence would be worse.
    #[must_use]
    pub fn reminders_due(&self, expires_at_ms: u64, now_ms: u64, already_sent: &[u32]) -> Vec<u32> {
        let due = |days: &u32| now_ms >= expires_at_ms.saturating_sub(u64::from(*days).saturating_mul(DAY_MS));
        let mut days: Vec<u32> =
            self.reminders.iter().copied().filter(|days| due(days) && !already_sent.contains(days)).collect();
        days.sort_unstable_by(|one, other| other.cmp(one));
        days
    }
}

#[cfg(test)]
mod tests;
