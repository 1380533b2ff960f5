//! Tables for people: columns as wide as their widest cell, a header line, and readable durations.

use strongroom::api::time;

/// Cell for an unknown or absent value.
pub const NOTHING: &str = "-";

/// Formats rows below titles. Without rows, returns `empty`.
pub fn text<const N: usize>(titles: [&str; N], rows: &[[String; N]], empty: &str) -> String {
    if rows.is_empty() {
        return empty.to_owned();
    }
    let titles = titles.map(str::to_owned);
    let mut widths = [0; N];
    for row in std::iter::once(&titles).chain(rows) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    std::iter::once(&titles).chain(rows).map(line).collect::<Vec<_>>().join("\n")
}

/// The two largest units of a duration, as `6d 3h`.
pub fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m"),
        (0, _, _) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

/// Time until an RFC 3339 time: `6d 3h`, `expired` if it has passed, [`NOTHING`] if there is none.
pub fn until(time: Option<&str>, now_ms: u64) -> String {
    match time.and_then(|time| time::parse(time).ok()) {
        None => NOTHING.to_owned(),
        Some(ms) if ms <= now_ms => "expired".to_owned(),
        Some(ms) => span((ms - now_ms) / 1_000),
    }
}

/// Time since an RFC 3339 time: `2m ago`; `never` if there is none.
pub fn since(time: Option<&str>, now_ms: u64) -> String {
    match time.and_then(|time| time::parse(time).ok()) {
        None => "never".to_owned(),
        Some(ms) => format!("{} ago", span(now_ms.saturating_sub(ms) / 1_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a".to_owned(), "1".to_owned()], ["app/web".to_owned(), "22".to_owned()]];
        assert_eq!(text(["who", "n"], &rows, "nobody"), "who      n\na        1\napp/web  22");
        assert_eq!(text(["who"], &[], "nobody"), "nobody");
    }

    #[test]
    fn spans_have_two_units() {
        for (seconds, words) in [(0, "0s"), (59, "59s"), (61, "1m"), (3_700, "1h 1m"), (90_000, "1d 1h")] {
            assert_eq!(span(seconds), words);
        }
        let at = time::rfc3339_nano(1_800_000_000_000);
        assert_eq!(until(Some(&at), 1_799_999_000_000), "16m");
        assert_eq!(until(Some(&at), 1_800_000_000_000), "expired");
        assert_eq!(until(None, 0), NOTHING);
        assert_eq!(since(Some(&at), 1_800_000_120_000), "2m ago");
        assert_eq!(since(None, 0), "never");
    }
}
