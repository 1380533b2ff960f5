//! JSON written by hand into an existing buffer, so that the text of an entry costs no allocation.

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;

/// Appends `text` as a JSON string literal (RFC 8259 section 7). Control characters are escaped, so an entry is always
/// one line.
pub(super) fn string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut clean = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' && byte != 0x7f {
            continue;
        }
        out.extend_from_slice(bytes.get(clean..at).unwrap_or_default());
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            _ => {
                out.extend_from_slice(b"\\u00");
                hex(out, &[byte]);
            }
        }
        clean = at + 1;
    }
    out.extend_from_slice(bytes.get(clean..).unwrap_or_default());
    out.push(b'"');
}

/// Appends `bytes` in lower-case hexadecimal.
pub(super) fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + 2 * bytes.len(), 0);
    HEXLOWER.encode_mut(bytes, &mut out[start..]);
}

/// Appends a decimal number.
pub(super) fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Reads a decimal number without sign or leading zero from the start of `text`. Returns it and the rest.
pub(super) fn take_number(text: &[u8]) -> Option<(u64, &[u8])> {
    let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(len);
    if len == 0 || (len > 1 && digits[0] == b'0') {
        return None;
    }
    let value = digits.iter().try_fold(0u64, |sum, byte| sum.checked_mul(10)?.checked_add(u64::from(byte - b'0')))?;
    Some((value, rest))
}

/// Number of bytes that [`time`] writes, quotes included.
pub(super) const TIME_LEN: usize = 26;

/// Writes milliseconds with all three digits.
static TIMES: DateTimePrinter = DateTimePrinter::new().precision(Some(3));

/// Appends a UTC time as `"2026-11-21T05:12:08.123Z"`, always with the same length. Times from the last two days of the
/// year 9999 on are written as its last millisecond.
pub(super) fn time(out: &mut Vec<u8>, ms: u64) {
    out.push(b'"');
    let time = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    match time {
        Some(time) => TIMES.print_timestamp(&time, &mut *out).expect("printing into memory does not fail"),
        None => out.extend_from_slice(b"9999-12-31T23:59:59.999Z"),
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::hex::unhex;

    #[test]
    fn times_have_one_length() {
        let print = |ms| {
            let mut out = Vec::new();
            time(&mut out, ms);
            assert_eq!(out.len(), TIME_LEN);
            String::from_utf8(out).expect("text")
        };
        for (ms, text) in [
            (0, "\"1970-01-01T00:00:00.000Z\""),
            (951_782_400_000, "\"2000-02-29T00:00:00.000Z\""),
            (1_709_210_096_120, "\"2024-02-29T12:34:56.120Z\""),
            (4_107_542_399_999, "\"2100-02-28T23:59:59.999Z\""),
            (4_107_542_400_000, "\"2100-03-01T00:00:00.000Z\""),
            (u64::MAX, "\"9999-12-31T23:59:59.999Z\""),
        ] {
            assert_eq!(print(ms), text);
        }
    }

    #[test]
    fn digits_are_read_strictly() {
        let mut out = b"x".to_vec();
        hex(&mut out, &[0xaf; 32]);
        assert_eq!(out, [b"x".as_slice(), &b"af".repeat(32)].concat());
        assert_eq!(unhex(&out[1..]), Some([0xaf; 32]));
        for bad in [&b""[..], &b"af".repeat(31), &b"AF".repeat(32), &b"+f".repeat(32), &b"af".repeat(33)] {
            assert_eq!(unhex::<32>(bad), None);
        }
    }
}
