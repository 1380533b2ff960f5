//! Crockford's base32 for texts that people copy by hand (crockford.com/base32.html).
//!
//! The symbols are `0-9A-Z` without I, L, O and U. Parsing accepts lower case, reads O as 0 and I and L as 1, and skips
//! hyphens and white space.

use zeroize::Zeroizing;

use crate::wiped::Buffer;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Longest text that is parsed, in bytes.
pub const MAX_TEXT: usize = 1024;

/// Why a text is not base32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextError {
    /// Longer than [`MAX_TEXT`].
    TooLong,
    /// The symbol at this index (from 0, without hyphens and spaces) is invalid.
    Symbol(usize),
}

/// Returns the 5-bit values of `text`.
///
/// # Errors
/// [`TextError`] when the text is too long or has a character that is no symbol. It names a position, never a symbol.
pub fn symbols(text: &str) -> Result<Zeroizing<Vec<u8>>, TextError> {
    if text.len() > MAX_TEXT {
        return Err(TextError::TooLong);
    }
    let mut values = Buffer::with_capacity(text.len());
    for symbol in text.chars().filter(|c| !c.is_whitespace() && *c != '-') {
        let at = values.len();
        values.push(value(symbol).ok_or(TextError::Symbol(at))?);
    }
    Ok(values.into_bytes())
}

/// The value of one symbol. Compares with the whole alphabet, so that there is no table lookup by a secret.
fn value(symbol: char) -> Option<u8> {
    let wanted = match symbol.to_ascii_uppercase() {
        'O' => b'0',
        'I' | 'L' => b'1',
        other => u8::try_from(other).ok()?,
    };
    let mut found = None;
    for (value, symbol) in (0u8..).zip(ALPHABET) {
        if *symbol == wanted {
            found = Some(value);
        }
    }
    found
}

/// The symbol of a value. Only the low five bits count.
pub fn symbol(value: u8) -> char {
    let mut found = b'0';
    for (at, symbol) in (0u8..).zip(ALPHABET) {
        if at == value & 31 {
            found = *symbol;
        }
    }
    char::from(found)
}

/// Splits bytes into 5-bit values, highest bit first. The last value is padded with zero bits.
pub fn to_symbols(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut values = Buffer::with_capacity((bytes.len() * 8).div_ceil(5));
    let (mut held, mut bits) = (0u16, 0u32);
    for byte in bytes {
        held = (held << 8) | u16::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            values.push(low((held >> bits) & 31));
            held &= (1 << bits) - 1;
        }
    }
    if bits > 0 {
        values.push(low((held << (5 - bits)) & 31));
    }
    values.into_bytes()
}

/// Joins 5-bit values to `N` bytes. `None` when their number is wrong or a padding bit is set.
#[cfg(feature = "server")]
pub fn to_bytes<const N: usize>(values: &[u8]) -> Option<Zeroizing<[u8; N]>> {
    if values.len() != (N * 8).div_ceil(5) {
        return None;
    }
    let mut bytes = Zeroizing::new([0u8; N]);
    let mut out = bytes.iter_mut();
    let (mut held, mut bits) = (0u16, 0u32);
    for value in values {
        held = (held << 5) | u16::from(value & 31);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            *out.next()? = low(held >> bits);
            held &= (1 << bits) - 1;
        }
    }
    (held == 0).then_some(bytes)
}

/// As [`to_bytes`], with as many bytes as the values give. `None` when a whole value or a set padding bit is left over.
pub fn to_vec(values: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut bytes = Buffer::with_capacity(values.len() * 5 / 8);
    let (mut held, mut bits) = (0u16, 0u32);
    for value in values {
        held = (held << 5) | u16::from(value & 31);
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(low(held >> bits));
            held &= (1 << bits) - 1;
        }
    }
    (held == 0 && bits < 5).then(|| bytes.into_bytes())
}

/// The low byte of a value.
fn low(value: u16) -> u8 {
    let [_, low] = value.to_be_bytes();
    low
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn symbols_follow_crockford() {
        let all: String = (0..32).map(symbol).collect();
        assert_eq!(all.as_bytes(), ALPHABET);
        assert_eq!(symbols("oO0 iIlL1-zZ\u{a0}").unwrap().as_slice(), [0, 0, 0, 1, 1, 1, 1, 1, 31, 31]);
        for bad in ['U', 'u', '*', '\u{212a}', '\u{ff10}', '\0'] {
            assert_eq!(symbols(&format!("0-{bad}")), Err(TextError::Symbol(1)));
        }
        assert_eq!(symbols(&"-".repeat(MAX_TEXT + 1)), Err(TextError::TooLong));
    }

    #[test]
    fn filling_bits_are_zero() {
        assert_eq!(to_symbols(&[0xff]).as_slice(), [31, 28]);
        assert!(to_bytes::<1>(&[31, 28]).is_some());
        assert!(to_bytes::<1>(&[31, 29]).is_none() && to_bytes::<1>(&[31]).is_none());
    }

    proptest! {
        #[test]
        fn bytes_round_trip(bytes: [u8; 23]) {
            prop_assert_eq!(*to_bytes::<23>(&to_symbols(&bytes)).unwrap(), bytes);
        }

        #[test]
        fn any_number_of_bytes_round_trips(bytes: Vec<u8>) {
            let values = to_symbols(&bytes);
            let read = to_vec(&values).unwrap();
            prop_assert_eq!(read.as_slice(), bytes.as_slice());
            let longer: Vec<u8> = values.iter().copied().chain([0]).collect();
            prop_assert!(to_vec(&longer).is_none_or(|longer| longer.len() > bytes.len()));
        }
    }
}
