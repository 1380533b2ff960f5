//! Tokens: random bits in an encoding, after a prefix that leak scanners can search for.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::draw::Draw;
use super::{GenerateError, Generated};
use crate::api::secret::SecretText;
use crate::crypto::random::Random;
use crate::wiped::Buffer;

const HEX: &[u8] = b"0123456789abcdef";
const BASE62: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BASE64URL: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const CROCKFORD: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Length of the checksum: 62^6 is the first power above 2^32.
const CHECKSUM_CHARACTERS: usize = 6;

/// How the bits are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Two lower-case digits for each byte.
    Hex,
    /// RFC 4648 section 5 without padding; decodes to whole bytes.
    #[default]
    Base64url,
    /// Digits and letters, each character drawn on its own.
    Base62,
    /// Crockford's base 32 (no I, L, O, U), each character drawn on its own.
    Crockford,
}

/// Options of `token`: prefix, random part, optional checksum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Token {
    /// Minimum entropy in bits, 128 to 4,096; 256 by default. Rounded up to whole bytes or characters of the encoding.
    pub bits: u32,
    /// Encoding of the random part; `base64url` by default.
    pub encoding: Encoding,
    /// Up to 32 of `A-Za-z0-9_-` before the random part.
    pub prefix: String,
    /// Whether six base-62 characters follow: the CRC-32 (ISO-HDLC) of the encoded random part, most significant first.
    /// With it a scanner can recognize a token without asking anybody.
    pub checksum: bool,
}

impl Default for Token {
    fn default() -> Self {
        Self { bits: 256, encoding: Encoding::default(), prefix: String::new(), checksum: false }
    }
}

impl Token {
    /// See [`Generator::check`](super::Generator::check).
    pub(super) fn check(&self) -> Result<(), GenerateError> {
        if !(128..=4_096).contains(&self.bits) {
            return Err(GenerateError::Bits);
        }
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if self.prefix.len() > 32 || !self.prefix.bytes().all(good) {
            return Err(GenerateError::Prefix);
        }
        Ok(())
    }

    /// See [`Generator::generate`](super::Generator::generate).
    pub(super) fn generate(&self, random: &dyn Random) -> Result<Generated, GenerateError> {
        self.check()?;
        let bits = usize::try_from(self.bits).map_err(|_| GenerateError::Bits)?;
        // Room for the longest form, two digits per byte.
        let mut text = Buffer::with_capacity(self.prefix.len() + bits.div_ceil(8) * 2 + CHECKSUM_CHARACTERS);
        text.text(&self.prefix);
        match self.encoding {
            Encoding::Hex => whole_bytes(random, bits, &mut text, |bytes, text| {
                for byte in bytes {
                    text.extend([byte >> 4, byte & 15].iter().filter_map(|half| HEX.get(usize::from(*half)).copied()));
                }
            })?,
            Encoding::Base64url => whole_bytes(random, bits, &mut text, |bytes, text| {
                for group in bytes.chunks(3) {
                    let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
                    let number = byte(0) << 16 | byte(1) << 8 | byte(2);
                    for shift in [18, 12, 6, 0].iter().take(group.len() + 1) {
                        text.extend(
                            usize::try_from(number >> shift & 63).ok().and_then(|six| BASE64URL.get(six)).copied(),
                        );
                    }
                }
            })?,
            Encoding::Base62 => characters(random, self.bits, BASE62, &mut text)?,
            Encoding::Crockford => characters(random, self.bits, CROCKFORD, &mut text)?,
        }
        if self.checksum {
            let sum = checksum(text.get(self.prefix.len()..).unwrap_or_default());
            text.put(&sum);
        }
        Ok(Generated { value: SecretText::from_utf8_lossy(&*text), public: None })
    }
}

fn whole_bytes(
    random: &dyn Random,
    bits: usize,
    text: &mut Buffer,
    write: impl FnOnce(&[u8], &mut Buffer),
) -> Result<(), GenerateError> {
    let mut bytes = Zeroizing::new(vec![0u8; bits.div_ceil(8)]);
    random.fill(&mut bytes).map_err(|_| GenerateError::Random)?;
    write(&bytes, text);
    Ok(())
}

/// Appends the fewest characters of `set` that hold at least `bits` bits.
fn characters(random: &dyn Random, bits: u32, set: &[u8], text: &mut Buffer) -> Result<(), GenerateError> {
    let size = u32::try_from(set.len()).map_err(|_| GenerateError::Bits)?;
    let each = f64::from(size).log2();
    let mut draw = Draw::new(random);
    let mut held = 0.0;
    while held < f64::from(bits) {
        text.push(draw.pick(set)?);
        held += each;
    }
    Ok(())
}

/// CRC-32 (ISO-HDLC, as in gzip, RFC 1952 section 8), bit by bit, because tokens are short.
fn crc32(bytes: &[u8]) -> u32 {
    let mut register = u32::MAX;
    for byte in bytes {
        register ^= u32::from(*byte);
        for _ in 0..8 {
            let odd = register & 1 == 1;
            register >>= 1;
            if odd {
                register ^= 0xedb8_8320;
            }
        }
    }
    !register
}

/// The six characters after a random part.
pub(super) fn checksum(part: &[u8]) -> [u8; CHECKSUM_CHARACTERS] {
    let mut rest = crc32(part);
    let mut text = [b'0'; CHECKSUM_CHARACTERS];
    for place in text.iter_mut().rev() {
        let digit = usize::try_from(rest % 62).ok().and_then(|digit| BASE62.get(digit));
        *place = digit.copied().unwrap_or(b'0');
        rest /= 62;
    }
    text
}

#[cfg(test)]
mod check_value {
    #[test]
    fn crc32_of_the_nine_digits() {
        assert_eq!(super::crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(super::crc32(b""), 0);
        assert_eq!(&super::checksum(b""), b"000000");
        // 0xcbf43926 = 3421780262 in base 62.
        let value = super::checksum(b"123456789").iter().fold(0u64, |sum, byte| {
            sum * 62 + u64::try_from(super::BASE62.iter().position(|other| other == byte).unwrap()).unwrap()
        });
        assert_eq!(value, 0xcbf4_3926);
    }
}
