//! Durations as Vault's clients write and read them.

use std::fmt;

/// A duration in whole seconds.
///
/// ```
/// use strongroom::api::duration::Ttl;
///
/// assert_eq!(Ttl::parse("1h30m"), Ok(Ttl(5_400)));
/// assert_eq!(Ttl(5_400).go_text(), "1h30m0s");
/// assert!(Ttl::parse("-1s").is_err() && Ttl::parse("1.5h").is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ttl(pub u64);

/// The text is not a duration. A duration is digits with the units `d`, `h`, `m` and `s`, or plain seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a duration: write 60, \"60s\", \"5m\", \"768h\" or \"1h30m\"")]
pub struct TtlError;

/// Longest accepted duration: 1,000 years.
const MAX_SECONDS: u64 = 1_000 * 366 * 86_400;

impl Ttl {
    /// Parses `60`, `60s`, `5m`, `768h`, `1h30m`, `7d`. The empty text is zero.
    ///
    /// # Errors
    /// [`TtlError`] for anything else, including signs, fractions and durations over 1,000 years.
    pub fn parse(text: &str) -> Result<Self, TtlError> {
        let mut total: u64 = 0;
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: u64 = rest.get(..digits).and_then(|text| text.parse().ok()).ok_or(TtlError)?;
            rest = rest.get(digits..).unwrap_or_default();
            let unit = match rest.bytes().next() {
                // A number without a unit must stand alone.
                None if digits == text.len() => 1,
                Some(b's') => 1,
                Some(b'm') => 60,
                Some(b'h') => 3_600,
                Some(b'd') => 86_400,
                _ => return Err(TtlError),
            };
            rest = rest.get(1..).unwrap_or_default();
            total = number.checked_mul(unit).and_then(|span| total.checked_add(span)).ok_or(TtlError)?;
        }
        if total > MAX_SECONDS { Err(TtlError) } else { Ok(Self(total)) }
    }

    /// Parses a raw JSON value: a whole number of seconds, or a string as in [`Ttl::parse`].
    ///
    /// # Errors
    /// [`TtlError`] for any other value, and for a string that [`Ttl::parse`] rejects.
    pub fn parse_json(raw: &str) -> Result<Self, TtlError> {
        if raw.starts_with('"') {
            let text: String = serde_json::from_str(raw).map_err(|_| TtlError)?;
            return Self::parse(&text);
        }
        let seconds: u64 = serde_json::from_str(raw).map_err(|_| TtlError)?;
        if seconds > MAX_SECONDS { Err(TtlError) } else { Ok(Self(seconds)) }
    }

    /// The duration as Go prints it: `0s`, `45s`, `5m0s`, `768h0m0s`.
    #[must_use]
    pub fn go_text(self) -> String {
        let (hours, minutes, seconds) = (self.0 / 3_600, self.0 / 60 % 60, self.0 % 60);
        match (hours, minutes) {
            (0, 0) => format!("{seconds}s"),
            (0, _) => format!("{minutes}m{seconds}s"),
            _ => format!("{hours}h{minutes}m{seconds}s"),
        }
    }

    /// Milliseconds.
    #[must_use]
    pub fn as_ms(self) -> u64 {
        self.0.saturating_mul(1_000)
    }
}

impl fmt::Display for Ttl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.go_text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_and_prints() {
        for (text, seconds, go) in [
            ("768h", 2_764_800, "768h0m0s"),
            ("60s", 60, "1m0s"),
            ("60", 60, "1m0s"),
            ("", 0, "0s"),
            ("0", 0, "0s"),
            ("1h30m", 5_400, "1h30m0s"),
            ("1d", 86_400, "24h0m0s"),
            ("45s", 45, "45s"),
            ("1h0m1s", 3_601, "1h0m1s"),
        ] {
            assert_eq!(Ttl::parse(text), Ok(Ttl(seconds)), "{text}");
            assert_eq!(Ttl(seconds).go_text(), go);
        }
        assert_eq!(Ttl::parse_json("60"), Ok(Ttl(60)));
        assert_eq!(Ttl::parse_json("\"5m\""), Ok(Ttl(300)));
    }

    #[test]
    fn refuses_the_rest() {
        for text in ["-1s", "1.5h", "h", "1x", "1h5", "5 m", "99999999999999999999", "999999999d", "١s", "+1", "1ms"] {
            assert_eq!(Ttl::parse(text), Err(TtlError), "{text}");
        }
        for raw in ["-1", "1.5", "null", "true", "{}", "\"x\"", "1e3", "99999999999999999"] {
            assert_eq!(Ttl::parse_json(raw), Err(TtlError), "{raw}");
        }
    }

    proptest! {
        #[test]
        fn go_text_reads_back(seconds in 0..MAX_SECONDS) {
            prop_assert_eq!(Ttl::parse(&Ttl(seconds).go_text()), Ok(Ttl(seconds)));
        }

        #[test]
        fn never_panics(text in "\\PC{0,20}|[0-9hmsd]{0,30}") {
            let _ = Ttl::parse(&text);
            let _ = Ttl::parse_json(&text);
        }
    }
}
