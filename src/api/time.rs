//! Times in the protocol: RFC 3339 in UTC with up to nanoseconds.

use jiff::Timestamp;

/// The text is not an RFC 3339 time in or after 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an RFC 3339 time")]
pub struct TimeError;

/// Milliseconds since 1970 as Go's `RFC3339Nano` prints them: UTC, no trailing zeros. Zero means "not set" and gives
/// the empty text.
///
/// Times after the year 9999 print as the last time that can be written.
///
/// ```
/// use strongroom::api::time::{parse, rfc3339_nano};
///
/// assert_eq!(rfc3339_nano(1_500), "1970-01-01T00:00:01.5Z");
/// assert_eq!(parse("1970-01-01T01:00:01.5+01:00"), Ok(1_500));
/// ```
#[must_use]
pub fn rfc3339_nano(ms: u64) -> String {
    if ms == 0 {
        return String::new();
    }
    i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX).to_string()
}

/// Parses the output of [`rfc3339_nano`] and any other RFC 3339 time. Fractions of a millisecond are cut. The empty
/// text is 0.
///
/// # Errors
/// [`TimeError`] when the text is not a time or is before 1970.
pub fn parse(text: &str) -> Result<u64, TimeError> {
    if text.is_empty() {
        return Ok(0);
    }
    let time: Timestamp = text.parse().map_err(|_| TimeError)?;
    u64::try_from(time.as_millisecond()).map_err(|_| TimeError)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prints_as_go_does() {
        for (ms, text) in [
            (0, ""),
            (1_000, "1970-01-01T00:00:01Z"),
            (1_709_210_096_120, "2024-02-29T12:34:56.12Z"),
            (1_709_210_096_001, "2024-02-29T12:34:56.001Z"),
        ] {
            assert_eq!(rfc3339_nano(ms), text);
            assert_eq!(parse(text), Ok(ms));
        }
        assert!(rfc3339_nano(u64::MAX).starts_with("9999-"));
        assert_eq!(parse("2024-02-29T14:34:56.12+02:00"), Ok(1_709_210_096_120));
        assert_eq!(parse("1969-01-01T00:00:00Z"), Err(TimeError));
        assert_eq!(parse("yesterday"), Err(TimeError));
    }

    proptest! {
        #[test]
        fn reads_back(ms in 0..253_000_000_000_000_u64) {
            prop_assert_eq!(parse(&rfc3339_nano(ms)), Ok(ms));
        }

        #[test]
        fn never_panics(text in "\\PC{0,40}|[0-9TZ:+.-]{0,40}") {
            let _ = parse(&text);
        }
    }
}
