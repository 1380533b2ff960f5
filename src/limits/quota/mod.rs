//! The quotas that set limits: for whom, for which paths, for which class, and how much.
//!
//! Of all quotas that match a request, the most specific one applies. Identity is compared first (one identity, then
//! the longest folder, then everybody), then the path (one path, then the longest folder or prefix, then everything),
//! then the class (its own, then `all`). Quotas that all identities share (`per` = `all`) are compared among
//! themselves, and the most specific one applies as well.

use serde::{Deserialize, Serialize};

use crate::api::path::Path;
use crate::api::spiffe::SpiffeId;

use super::{Class, Rate};

/// Largest number of quotas in a vault. A request checks those that match its identity one by one, so there must be
/// few.
pub const MAX_QUOTAS: usize = 256;
/// Highest rate and burst.
const MAX_TOKENS: u64 = 1_000_000_000_000;
/// Longest interval and block, in seconds: 30 days.
const MAX_SPAN_S: u64 = 30 * 86_400;
/// Longest name, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// What is wrong with a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaError {
    /// The name is invalid.
    #[error("the name of a quota is 1 to 128 letters, digits, \"-\", \"_\" or \".\"")]
    Name,
    /// The rate is invalid.
    #[error("'rate' is invalid: write a number from 0.001 to 1000000000000 without exponent")]
    Rate,
    /// The interval is invalid.
    #[error("'interval' is invalid: write a duration from 1s to 720h")]
    Interval,
    /// The block interval is invalid.
    #[error("'block_interval' is invalid: write a duration up to 720h")]
    Block,
    /// The burst is invalid.
    #[error("'burst' is invalid: write a whole number from 1 to 1000000000000")]
    Burst,
    /// The path is invalid.
    #[error(
        "'path' is invalid: leave it empty, or write a path, a folder that ends in \"/\", or either with \"*\" at its end"
    )]
    Path,
    /// The pattern of identities is invalid.
    #[error("'identity' is invalid: write \"*\", the path of an identity, or a folder that ends in \"/*\"")]
    Identity,
}

/// The identities that a quota applies to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identities {
    /// Everybody, including callers who are not admitted.
    Any,
    /// Everything below a folder. Held with its slash.
    Below(String),
    /// One identity.
    One(String),
}

impl Identities {
    /// Parses `*`, `app/*` or `app/web`.
    ///
    /// # Errors
    /// [`QuotaError::Identity`] for any other text.
    pub fn parse(text: &str) -> Result<Self, QuotaError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let (path, below) = match text.strip_suffix("/*") {
            Some(folder) => (folder, true),
            None => (text, false),
        };
        // The trust domain does not matter. Only the form of the path is checked.
        SpiffeId::new("example.org", path).map_err(|_| QuotaError::Identity)?;
        Ok(if below { Self::Below(format!("{path}/")) } else { Self::One(path.to_owned()) })
    }

    /// Whether the identity with this SPIFFE path matches. `None` stands for a caller who is not admitted.
    #[must_use]
    pub fn matches(&self, identity: Option<&str>) -> bool {
        match (self, identity) {
            (Self::Any, _) => true,
            (_, None) => false,
            (Self::Below(folder), Some(path)) => path.starts_with(folder.as_str()),
            (Self::One(one), Some(path)) => one == path,
        }
    }

    /// The text that [`Identities::parse`] reads.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Any => "*".to_owned(),
            Self::Below(folder) => format!("{folder}*"),
            Self::One(path) => path.clone(),
        }
    }

    fn weight(&self) -> (u8, usize) {
        match self {
            Self::Any => (0, 0),
            Self::Below(folder) => (1, folder.len()),
            Self::One(path) => (2, path.len()),
        }
    }
}

/// The paths that a quota applies to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Paths {
    /// Everything.
    Any,
    /// Every path with this prefix.
    Prefix(String),
    /// One path, with or without a slash at its end.
    One(String),
}

impl Paths {
    /// Parses an empty text, `secret/`, `secret/data/app/*`, `secret/data/app*` or `secret/data/app`.
    ///
    /// # Errors
    /// [`QuotaError::Path`] for any other text.
    pub fn parse(text: &str) -> Result<Self, QuotaError> {
        let text = text.strip_prefix('/').unwrap_or(text);
        if text.is_empty() || text == "*" {
            return Ok(Self::Any);
        }
        let (stem, star) = match text.strip_suffix('*') {
            Some(stem) => (stem, true),
            None => (text, false),
        };
        let path = Path::parse(stem).map_err(|_| QuotaError::Path)?;
        if stem.contains('*') || path.is_root() {
            return Err(QuotaError::Path);
        }
        Ok(if star || path.is_folder() { Self::Prefix(stem.to_owned()) } else { Self::One(stem.to_owned()) })
    }

    /// Whether a request with this full path matches.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Prefix(prefix) => path.starts_with(prefix.as_str()),
            Self::One(one) => path.strip_suffix('/').unwrap_or(path) == one,
        }
    }

    /// The text that [`Paths::parse`] reads.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Any => String::new(),
            Self::Prefix(prefix) if prefix.ends_with('/') => prefix.clone(),
            Self::Prefix(prefix) => format!("{prefix}*"),
            Self::One(path) => path.clone(),
        }
    }

    fn weight(&self) -> (u8, usize) {
        match self {
            Self::Any => (0, 0),
            Self::Prefix(prefix) => (1, prefix.len()),
            Self::One(path) => (2, path.len()),
        }
    }
}

/// Who shares one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Per {
    /// Each identity has its own bucket.
    Identity,
    /// All matching identities share one bucket.
    All,
}

impl Per {
    /// The name used in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::All => "all",
        }
    }

    /// Parses that name.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Identity, Self::All].into_iter().find(|per| per.as_str() == word)
    }
}

/// One quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Its name.
    pub name: String,
    /// The identities that it applies to.
    pub identities: Identities,
    /// The paths that it applies to.
    pub paths: Paths,
    /// The class that it limits.
    pub class: Class,
    /// Who shares its bucket.
    pub per: Per,
    /// The limit.
    pub rate: Rate,
}

impl Quota {
    /// Checks a name.
    ///
    /// # Errors
    /// [`QuotaError::Name`] when it is empty, too long, or has other characters.
    pub fn check_name(name: &str) -> Result<(), QuotaError> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let fits = !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(good);
        if fits { Ok(()) } else { Err(QuotaError::Name) }
    }

    /// The part that must differ between any two quotas. With equal keys it would be undecided which one applies.
    #[must_use]
    pub fn key(&self) -> (&Identities, &Paths, Class, Per) {
        (&self.identities, &self.paths, self.class, self.per)
    }

    /// Sort key for specificity: greater is more specific.
    pub(crate) fn weight(&self) -> impl Ord + use<> {
        (self.identities.weight(), self.paths.weight(), self.class != Class::All)
    }
}

impl Rate {
    /// Makes a rate of `milli` thousandths of a token per `interval_s` seconds. The default burst is one interval's
    /// tokens.
    ///
    /// # Errors
    /// [`QuotaError::Rate`], [`QuotaError::Interval`], [`QuotaError::Block`] or [`QuotaError::Burst`] for the first
    /// number out of range.
    pub fn checked(milli: u64, interval_s: u64, block_s: u64, burst: Option<u64>) -> Result<Self, QuotaError> {
        if milli == 0 || milli > MAX_TOKENS * 1_000 {
            return Err(QuotaError::Rate);
        }
        if interval_s == 0 || interval_s > MAX_SPAN_S {
            return Err(QuotaError::Interval);
        }
        if block_s > MAX_SPAN_S {
            return Err(QuotaError::Block);
        }
        let burst = burst.unwrap_or_else(|| milli.div_ceil(1_000));
        if burst == 0 || burst > MAX_TOKENS {
            return Err(QuotaError::Burst);
        }
        Ok(Self { milli, interval_ms: interval_s * 1_000, burst, block_ms: block_s * 1_000 })
    }
}

/// Parses a decimal number as thousandths: `897.3` is 897,300. Digits after the third are dropped. Exponents are not
/// accepted.
#[must_use]
pub fn milli(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let thousandths: String = fraction.chars().chain("00".chars()).take(3).collect();
    whole.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(thousandths.parse().ok()?)
}

/// The shortest text that [`milli`] parses as `value`. It is a JSON number.
#[must_use]
pub fn milli_text(value: u64) -> String {
    match (value / 1_000, value % 1_000) {
        (whole, 0) => whole.to_string(),
        (whole, rest) => format!("{whole}.{rest:03}").trim_end_matches('0').to_owned(),
    }
}

/// Limits of identities that no quota matches, in the order of [`Class::BASIC`]. A rate of 0 means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defaults {
    /// Tokens per second.
    pub rates: [u64; 4],
    /// Tokens of a full bucket.
    pub bursts: [u64; 4],
}

impl Default for Defaults {
    /// Generous: a well-behaved host never reaches them, but a broken one cannot take the whole machine.
    fn default() -> Self {
        Self { rates: [20_000, 2_000, 500, 200_000_000], bursts: [40_000, 4_000, 1_000, 400_000_000] }
    }
}

impl Defaults {
    /// Sets one class. The default burst is twice the rate.
    ///
    /// # Errors
    /// [`QuotaError::Rate`] or [`QuotaError::Burst`] for the first number out of range.
    pub fn set(&mut self, class: Class, rate: Option<u64>, burst: Option<u64>) -> Result<(), QuotaError> {
        let (Some(to), Some(full)) = (self.rates.get_mut(class.index()), self.bursts.get_mut(class.index())) else {
            return Err(QuotaError::Rate);
        };
        if let Some(rate) = rate {
            if rate > MAX_TOKENS {
                return Err(QuotaError::Rate);
            }
            *to = rate;
            *full = rate.saturating_mul(2).clamp(1, MAX_TOKENS);
        }
        if let Some(burst) = burst {
            if burst == 0 || burst > MAX_TOKENS {
                return Err(QuotaError::Burst);
            }
            *full = burst;
        }
        Ok(())
    }

    /// The limit of one class, if any.
    #[must_use]
    pub fn rate(&self, class: Class) -> Option<Rate> {
        let (rate, burst) = (self.rates.get(class.index())?, self.bursts.get(class.index())?);
        (*rate > 0).then(|| Rate::per_second(*rate, *burst))
    }
}

#[cfg(test)]
mod tests;
