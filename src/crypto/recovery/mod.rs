//! The recovery code: 160 random bits that a person writes down and types in again.
//!
//! The text is `srr1-` and nine groups of five symbols of Crockford's base32. In each of the first eight groups four
//! symbols carry 20 bits, and the fifth checks the group and its position. So an error can be reported by its group.
//! The ninth group carries 20 bits of a hash over all 160 bits and its own check. The checks are computed from the
//! code, so they do not make it any weaker.

use zeroize::Zeroizing;

use super::base32::{MAX_TEXT, TextError, symbol, symbols, to_bytes, to_symbols};
use super::codec::Writer;
use super::derive::label;
use super::hash::sha256;
use super::{CryptoError, Random, SecretBytes};
use crate::wiped::Buffer;

/// Bytes of a recovery code.
pub const LEN: usize = 20;
/// First symbols of the text.
pub const PREFIX: &str = "srr1";

const GROUP: usize = 5;
const GROUPS: usize = 9;
const DATA: usize = 32;

/// Why a text is not a recovery code. Groups are counted from 1, without the prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// The text does not start with `srr1`.
    #[error("a recovery code starts with srr1-")]
    Prefix,
    /// There are too few or too many symbols.
    #[error("a recovery code has 45 symbols after srr1-, this has {0}")]
    Length(usize),
    /// A character never occurs in recovery codes.
    #[error("group {0} of the recovery code has a character that does not occur in one")]
    Symbol(usize),
    /// The check of one group fails.
    #[error("the recovery code has a typing error in group {0}")]
    Group(usize),
    /// Every group is valid but the whole is not: there are at least two errors.
    #[error("the recovery code has typing errors; compare every group")]
    Checksum,
}

/// A recovery code. Wiped on drop.
pub struct RecoveryCode(Zeroizing<[u8; LEN]>);

impl RecoveryCode {
    /// Generates a random code.
    ///
    /// # Errors
    /// [`CryptoError::Random`] when the random source fails.
    pub fn generate(random: &dyn Random) -> Result<Self, CryptoError> {
        let mut code = Zeroizing::new([0; LEN]);
        random.fill(&mut *code)?;
        Ok(Self(code))
    }

    /// Parses what a person typed. Case, spaces and hyphens do not matter, O means 0, I and L mean 1.
    ///
    /// # Errors
    /// [`RecoveryError`] when the text is not a recovery code. It names the place of the error, never the characters.
    pub fn parse(text: &str) -> Result<Self, RecoveryError> {
        let prefix = PREFIX.len();
        let values = symbols(text).map_err(|error| match error {
            TextError::TooLong => RecoveryError::Length(MAX_TEXT),
            TextError::Symbol(at) if at < prefix => RecoveryError::Prefix,
            TextError::Symbol(at) => RecoveryError::Symbol((at - prefix) / GROUP + 1),
        })?;
        let wanted = symbols(PREFIX).map_err(|_| RecoveryError::Prefix)?;
        let values = values.strip_prefix(wanted.as_slice()).ok_or(RecoveryError::Prefix)?;
        if values.len() != GROUP * GROUPS {
            return Err(RecoveryError::Length(values.len()));
        }
        let mut body = Buffer::with_capacity(GROUPS * (GROUP - 1));
        for (at, group) in (0u8..).zip(values.chunks_exact(GROUP)) {
            let (data, check) = group.split_at(GROUP - 1);
            if check != [group_check(at, data)] {
                return Err(RecoveryError::Group(usize::from(at) + 1));
            }
            body.put(data);
        }
        let (data, check) = body.split_at_checked(DATA).ok_or(RecoveryError::Checksum)?;
        let code = to_bytes::<LEN>(data).ok_or(RecoveryError::Checksum)?;
        if check != whole_check(&code).as_slice() {
            return Err(RecoveryError::Checksum);
        }
        Ok(Self(code))
    }

    /// The text to print once, in upper case after the prefix.
    pub fn render(&self) -> SecretBytes {
        let body = to_symbols(&*self.0);
        let mut text = Writer::with_capacity(PREFIX.len() + GROUPS * (GROUP + 1));
        text.bytes(PREFIX.as_bytes());
        let whole = whole_check(&self.0);
        for (at, group) in (0u8..).zip(body.chunks(GROUP - 1).chain([whole.as_slice()])) {
            text.u8(b'-');
            for value in group.iter().chain([&group_check(at, group)]) {
                text.bytes(symbol(*value).encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        text.into_secret()
    }

    /// The 20 bytes. Review every call of this method.
    pub fn reveal(&self) -> &[u8; LEN] {
        &self.0
    }
}

/// The first 20 bits of the hash over the code.
fn whole_check(code: &[u8; LEN]) -> Zeroizing<Vec<u8>> {
    let mut check = to_symbols(&sha256(&[label::RECOVERY_CHECK, code]));
    check.truncate(GROUP - 1);
    check
}

/// A weighted sum over GF(2^5), polynomial x^5 + x^2 + 1, by Horner's rule with weight x. It detects every single wrong
/// symbol, every swap of two symbols in a group, and every swap of groups.
fn group_check(at: u8, group: &[u8]) -> u8 {
    let sum = group.iter().fold(0, |sum: u8, value| {
        let carry = (sum >> 4).wrapping_neg();
        ((sum << 1) & 31) ^ (carry & 0b00101) ^ value
    });
    let carry = (sum >> 4).wrapping_neg();
    ((sum << 1) & 31) ^ (carry & 0b00101) ^ at
}

#[cfg(test)]
mod tests;
