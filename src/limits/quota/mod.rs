//! The objects that set limits: whom they mean, which paths, which class, and how much.
//!
//! Of all objects that mean a request, the most specific one counts: first by identity (one identity, then the longest
//! folder, then everybody), then by path (one path, then the longest folder or prefix, then everything), then by class
//! (its own, then `all`). Objects that all identities share (`per` = `all`) are chosen among themselves and count
//! besides.

use serde::{Deserialize, Serialize};

use crate::api::path::Path;
use crate::api::spiffe::SpiffeId;

use super::{Class, Rate};

/// Most objects of a vault. A request looks at those that mean its identity one by one, so there must not be many.
pub const MAX_QUOTAS: usize = 256;
/// Highest rate and burst.
const MAX_TOKENS: u64 = 1_000_000_000_000;
/// Longest interval and block, seconds: 30 days.
const MAX_SPAN_S: u64 = 30 * 86_400;
/// Longest name, bytes.
const MAX_NAME_BYTES: usize = 128;

/// What is wrong with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaError {
    /// Not a name.
    #[error("the name of a quota is 1 to 128 letters, digits, \"-\", \"_\" or \".\"")]
    Name,
    /// Not a rate.
    #[error("'rate' is invalid: it is a number from 0.001 to 1000000000000 without exponent")]
    Rate,
    /// Not an interval.
    #[error("'interval' is invalid: it is a duration from 1s to 720h")]
    Interval,
    /// Not a block interval.
    #[error("'block_interval' is invalid: it is a duration up to 720h")]
    Block,
    /// Not a burst.
    #[error("'burst' is invalid: it is a whole number from 1 to 1000000000000")]
    Burst,
    /// Not a path.
    #[error("'path' is invalid: it is empty, a path, a folder with \"/\" at its end, or either with \"*\" at its end")]
    Path,
    /// Not a pattern of identities.
    #[error("'identity' is invalid: it is \"*\", the path of an identity, or a folder with \"/*\" at its end")]
    Identity,
}

/// Whom an object means.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Identities {
    /// Everybody, strangers included.
    Any,
    /// Everything below a folder; held with its slash.
    Below(String),
    /// One.
    One(String),
}

impl Identities {
    /// Reads `*`, `app/*` or `app/web`.
    ///
    /// # Errors
    /// [`QuotaError::Identity`].
    pub fn parse(text: &str) -> Result<Self, QuotaError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let (path, below) = match text.strip_suffix("/*") {
            Some(folder) => (folder, true),
            None => (text, false),
        };
        // The trust domain does not matter here: only the form of the path is looked at.
        SpiffeId::new("example.org", path).map_err(|_| QuotaError::Identity)?;
        Ok(if below { Self::Below(format!("{path}/")) } else { Self::One(path.to_owned()) })
    }

    /// Whether the identity with this SPIFFE path is meant; `None` is somebody who was not admitted.
    #[must_use]
    pub fn matches(&self, identity: Option<&str>) -> bool {
        match (self, identity) {
            (Self::Any, _) => true,
            (_, None) => false,
            (Self::Below(folder), Some(path)) => path.starts_with(folder.as_str()),
            (Self::One(one), Some(path)) => one == path,
        }
    }

    /// As [`Identities::parse`] reads it.
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

/// Which paths an object means.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Paths {
    /// Everything.
    Any,
    /// Everything that begins so.
    Prefix(String),
    /// One path, also as a folder.
    One(String),
}

impl Paths {
    /// Reads an empty text, `secret/`, `secret/data/app/*`, `secret/data/app*` or `secret/data/app`.
    ///
    /// # Errors
    /// [`QuotaError::Path`].
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

    /// Whether a request with this full path is meant.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Prefix(prefix) => path.starts_with(prefix.as_str()),
            Self::One(one) => path.strip_suffix('/').unwrap_or(path) == one,
        }
    }

    /// As [`Paths::parse`] reads it.
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
    /// Each identity has its own.
    Identity,
    /// All that are meant share one.
    All,
}

impl Per {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::All => "all",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Identity, Self::All].into_iter().find(|per| per.as_str() == word)
    }
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Its name.
    pub name: String,
    /// Whom it means.
    pub identities: Identities,
    /// Which paths.
    pub paths: Paths,
    /// What it limits.
    pub class: Class,
    /// Who shares its bucket.
    pub per: Per,
    /// How much.
    pub rate: Rate,
}

impl Quota {
    /// Checks a name.
    ///
    /// # Errors
    /// [`QuotaError::Name`].
    pub fn check_name(name: &str) -> Result<(), QuotaError> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let fits = !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(good);
        if fits { Ok(()) } else { Err(QuotaError::Name) }
    }

    /// What distinguishes it from every other object: two with the same would leave open which one counts.
    #[must_use]
    pub fn key(&self) -> (&Identities, &Paths, Class, Per) {
        (&self.identities, &self.paths, self.class, self.per)
    }

    /// For the order of objects: more is more specific.
    pub(crate) fn weight(&self) -> impl Ord + use<> {
        (self.identities.weight(), self.paths.weight(), self.class != Class::All)
    }
}

impl Rate {
    /// `milli` thousandths of a token per `interval_s`; a burst of one interval's tokens when none is given.
    ///
    /// # Errors
    /// [`QuotaError::Rate`], [`QuotaError::Interval`], [`QuotaError::Block`], [`QuotaError::Burst`].
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

/// Reads a decimal number as thousandths: `897.3` is 897,300. Digits after the third are cut off; an exponent is not
/// understood.
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

/// The shortest text that [`milli`] reads as `value`; a JSON number.
#[must_use]
pub fn milli_text(value: u64) -> String {
    match (value / 1_000, value % 1_000) {
        (whole, 0) => whole.to_string(),
        (whole, rest) => format!("{whole}.{rest:03}").trim_end_matches('0').to_owned(),
    }
}

/// What holds for every identity that no object means. Amounts a second and bursts, in the order of [`Class::BASIC`];
/// a rate of 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defaults {
    /// Tokens a second.
    pub rates: [u64; 4],
    /// Tokens of a full bucket.
    pub bursts: [u64; 4],
}

impl Default for Defaults {
    /// Generous: what one well-behaved host does not reach, and what keeps a broken one from taking the whole machine.
    fn default() -> Self {
        Self { rates: [20_000, 2_000, 500, 200_000_000], bursts: [40_000, 4_000, 1_000, 400_000_000] }
    }
}

impl Defaults {
    /// Sets one class; a burst of twice the rate when none is given.
    ///
    /// # Errors
    /// [`QuotaError::Rate`], [`QuotaError::Burst`].
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

    /// The limit of one class, if there is one.
    #[must_use]
    pub fn rate(&self, class: Class) -> Option<Rate> {
        let (rate, burst) = (self.rates.get(class.index())?, self.bursts.get(class.index())?);
        (*rate > 0).then(|| Rate::per_second(*rate, *burst))
    }
}

#[cfg(test)]
mod tests;
