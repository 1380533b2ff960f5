//! JSON written by hand into an existing buffer, so that the text of an entry costs no allocation.

const HEX: &[u8; 16] = b"0123456789abcdef";

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
    for byte in bytes {
        out.push(HEX[usize::from(byte >> 4)]);
        out.push(HEX[usize::from(byte & 15)]);
    }
}

/// Reads 32 bytes of strictly lower-case hexadecimal.
pub(super) fn unhex(text: &[u8]) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != 64 {
        return None;
    }
    let mut out = [0u8; 32];
    for (slot, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *slot = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

/// Appends a decimal number.
pub(super) fn number(out: &mut Vec<u8>, value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = value;
    loop {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).expect("a remainder of ten fits");
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
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

/// Appends a UTC time as `"2026-11-21T05:12:08.123Z"`, always with the same length. Times after the year 9999 are
/// written as its last millisecond.
pub(super) fn time(out: &mut Vec<u8>, ms: u64) {
    let ms = ms.min(253_402_300_799_999);
    let (days, in_day) = (ms / 86_400_000, ms % 86_400_000);
    // Converts days to a date of the proleptic Gregorian calendar, counted in eras of 400 years that start on 1 March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    out.push(b'"');
    padded(out, year, 4);
    for (separator, value, width) in [
        (b'-', month, 2),
        (b'-', day, 2),
        (b'T', in_day / 3_600_000, 2),
        (b':', in_day / 60_000 % 60, 2),
        (b':', in_day / 1000 % 60, 2),
        (b'.', in_day % 1000, 3),
    ] {
        out.push(separator);
        padded(out, value, width);
    }
    out.extend_from_slice(b"Z\"");
}

fn padded(out: &mut Vec<u8>, value: u64, width: u32) {
    for place in (0..width).rev() {
        out.push(b'0' + u8::try_from(value / 10u64.pow(place) % 10).expect("a remainder of ten fits"));
    }
}
