//! Hexadecimal text.

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};

/// Two lower-case digits for each byte. Allocates once.
///
/// ```
/// use strongroom::api::hex::{hex, unhex};
///
/// assert_eq!(hex(&[0, 0xaf]), "00af");
/// assert_eq!(unhex("00af"), Some([0, 0xaf]));
/// assert_eq!(unhex::<2>("00AF"), None);
/// ```
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

/// Parses what [`hex`] writes for `N` bytes. Returns `None` for any other text, including capital letters, so that each
/// value has exactly one text form.
#[must_use]
pub fn unhex<const N: usize>(text: impl AsRef<[u8]>) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    fill(&HEXLOWER, text.as_ref(), &mut bytes).then_some(bytes)
}

/// Fills `into` with the bytes of `text`, case-insensitive. `false` when the text is not exactly that long
/// or contains anything but digits; the content of `into` is unspecified then. Leaves no copy, so `into` may be a
/// secret's own memory.
#[must_use]
pub fn unhex_into(text: &str, into: &mut [u8]) -> bool {
    fill(&HEXLOWER_PERMISSIVE, text.as_bytes(), into)
}

fn fill(digits: &data_encoding::Encoding, text: &[u8], into: &mut [u8]) -> bool {
    digits.decode_len(text.len()) == Ok(into.len()) && digits.decode_mut(text, into).is_ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_read_strictly() {
        assert_eq!(hex(&[0, 0xaf, 9]), "00af09");
        assert_eq!(unhex("0f".repeat(4)), Some([0x0f; 4]));
        let mut bytes = [0; 4];
        assert!(unhex_into("0F0f0F0f", &mut bytes) && bytes == [0x0f; 4]);
        for bad in ["", "0f", "0f0f0f0", "0f0f0f0f0f", "0g0f0f0f", "+f0f0f0f", "0f0f 0f0f", "éé0f", " 0f0f0f0"] {
            assert_eq!(unhex::<4>(bad), None, "{bad:?}");
            assert!(!unhex_into(bad, &mut bytes), "{bad:?}");
        }
        assert_eq!(unhex::<4>("0F0f0f0f"), None);
    }

    proptest! {
        #[test]
        fn reads_back(bytes: [u8; 16]) {
            prop_assert_eq!(unhex(hex(&bytes)), Some(bytes));
        }

        #[test]
        fn never_panics(text in "\\PC{0,40}|[0-9a-fA-F]{0,40}") {
            let _ = unhex::<16>(&text);
            let _ = unhex_into(&text, &mut [0; 7]);
        }
    }
}
