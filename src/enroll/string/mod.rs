//! The enrolment string: everything that a program needs to request its first certificate, in one line of text.
//!
//! It is `sre1-`, then base32 without padding of: version | flags | pin of the authority | token id | secret |
//! addresses | checksum. The checksum detects copying errors. It proves nothing.

use zeroize::{Zeroize, Zeroizing};

use super::proof::ProofKey;
use crate::api::secret::SecretText;
use crate::crypto::base32::{self, MAX_TEXT};
use crate::crypto::hash::{equal, sha256};
use crate::crypto::{CryptoError, Key, Random};
use crate::wiped::Buffer;

/// Prefix of every enrolment string.
pub const PREFIX: &str = "sre1-";
/// Largest number of addresses in one string.
pub const MAX_ADDRESSES: usize = 8;
/// Length of the checksum at the end, in bytes.
const CHECK_BYTES: usize = 4;
const VERSION: u8 = 1;

/// Why a text is not an enrolment string, or why none can be created. Contains nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StringError {
    /// The text does not start with [`PREFIX`].
    #[error("not an enrolment string: it must start with sre1-")]
    Prefix,
    /// The text is longer than 1,024 bytes.
    #[error("the enrolment string is longer than 1,024 characters")]
    TooLong,
    /// A character is not allowed, a part is missing, or the checksum differs.
    #[error("the enrolment string is damaged: copy it again, from start to end")]
    Damaged,
    /// The string has a version or flag of a later program.
    #[error("the enrolment string was made by a later version: use a newer strongroom")]
    Version,
    /// An address is not `host:port`, or there are none or more than eight.
    #[error("the enrolment string needs one to eight addresses, each host:port")]
    Address,
}

/// A parsed enrolment string. Its secret is wiped on drop. There is no `Clone` and no `Debug`.
pub struct EnrollString {
    pin: [u8; 32],
    id: [u8; 16],
    secret: Key,
    addresses: Vec<String>,
}

impl EnrollString {
    /// Makes a string for the token `id`. `pin` is the SHA-256 of the authority's SubjectPublicKeyInfo. `addresses` are
    /// those of the enrolment listener, each `host:port` (an IPv6 host in brackets).
    ///
    /// # Errors
    /// [`StringError::Address`] for no address, too many, or one of another form; [`StringError::TooLong`] when the
    /// text would be longer than 1,024 bytes.
    pub fn new(pin: [u8; 32], id: [u8; 16], secret: Key, addresses: Vec<String>) -> Result<Self, StringError> {
        let count = addresses.len();
        if count == 0 || count > MAX_ADDRESSES || !addresses.iter().all(|address| is_address(address)) {
            return Err(StringError::Address);
        }
        let string = Self { pin, id, secret, addresses };
        let symbols = (string.bytes().len() * 8).div_ceil(5);
        if PREFIX.len() + symbols > MAX_TEXT { Err(StringError::TooLong) } else { Ok(string) }
    }

    /// As [`new`](Self::new), with an id and a secret from `random`.
    ///
    /// # Errors
    /// The outer error when the random source fails, the inner one as for [`new`](Self::new).
    pub fn generate(
        pin: [u8; 32],
        addresses: Vec<String>,
        random: &dyn Random,
    ) -> Result<Result<Self, StringError>, CryptoError> {
        let mut id = [0; 16];
        random.fill(&mut id)?;
        Ok(Self::new(pin, id, Key::random(random)?, addresses))
    }

    /// Parses a copied string. White space around it and upper case do not matter. Any text gives a string or an error.
    ///
    /// # Errors
    /// [`StringError`] when the text is not an enrolment string. None contains any of the text.
    ///
    /// ```
    /// use strongroom::enroll::{EnrollString, StringError};
    ///
    /// assert_eq!(EnrollString::parse("not a string").err(), Some(StringError::Prefix));
    /// ```
    pub fn parse(text: &str) -> Result<Self, StringError> {
        let text = text.trim();
        if text.len() > MAX_TEXT {
            return Err(StringError::TooLong);
        }
        let (prefix, rest) = text.split_at_checked(PREFIX.len()).ok_or(StringError::Prefix)?;
        if !prefix.eq_ignore_ascii_case(PREFIX) {
            return Err(StringError::Prefix);
        }
        let values = base32::symbols(rest).map_err(|_| StringError::Damaged)?;
        let bytes = base32::to_vec(&values).ok_or(StringError::Damaged)?;
        let cut = bytes.len().checked_sub(CHECK_BYTES).ok_or(StringError::Damaged)?;
        let (body, check) = bytes.split_at(cut);
        if check != checksum(body) {
            return Err(StringError::Damaged);
        }
        let mut rest = body;
        let [version, flags] = take::<2>(&mut rest)?;
        if version != VERSION || flags != 0 {
            return Err(StringError::Version);
        }
        let (pin, id) = (take::<32>(&mut rest)?, take::<16>(&mut rest)?);
        let mut bare = take::<32>(&mut rest)?;
        let secret = Key::fill_with(|out| out.copy_from_slice(&bare));
        bare.zeroize();
        let [count] = take::<1>(&mut rest)?;
        let mut addresses = Vec::with_capacity(MAX_ADDRESSES.min(usize::from(count)));
        for _ in 0..count {
            let [length] = take::<1>(&mut rest)?;
            let (address, tail) = rest.split_at_checked(usize::from(length)).ok_or(StringError::Damaged)?;
            rest = tail;
            addresses.push(std::str::from_utf8(address).map_err(|_| StringError::Address)?.to_owned());
        }
        if rest.is_empty() { Self::new(pin, id, secret, addresses) } else { Err(StringError::Damaged) }
    }

    /// The string itself. It is a secret, because anyone who has it can enrol.
    #[must_use]
    pub fn print(&self) -> SecretText {
        let values = base32::to_symbols(&self.bytes());
        let mut text = Buffer::with_capacity(PREFIX.len() + values.len());
        text.text(PREFIX);
        for value in values.iter() {
            text.character(base32::symbol(*value).to_ascii_lowercase());
        }
        SecretText::from_utf8_lossy(&*text)
    }

    /// SHA-256 of the SubjectPublicKeyInfo of the authority that must have issued the listener's certificate.
    #[must_use]
    pub fn pin(&self) -> &[u8; 32] {
        &self.pin
    }

    /// Id of the token, which is not secret.
    #[must_use]
    pub fn id(&self) -> &[u8; 16] {
        &self.id
    }

    /// Addresses of the enrolment listener, `host:port`, to be tried in order.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The key for proofs, the only part of the secret that the server stores.
    #[must_use]
    pub fn proof_key(&self) -> ProofKey {
        ProofKey::derive(&self.secret)
    }

    /// Compares two strings. Their secrets are compared in constant time.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        let open = (&self.pin, &self.id, &self.addresses) == (&other.pin, &other.id, &other.addresses);
        equal(self.secret.reveal(), other.secret.reveal()) && open
    }

    fn bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Buffer::with_capacity(256);
        bytes.put(&[VERSION, 0]).put(&self.pin).put(&self.id).put(self.secret.reveal());
        bytes.push(u8::try_from(self.addresses.len()).expect("new() takes at most eight addresses"));
        for address in &self.addresses {
            bytes.push(u8::try_from(address.len()).expect("new() takes addresses of at most 255 bytes"));
            bytes.text(address);
        }
        let check = checksum(&bytes);
        bytes.put(&check);
        bytes.into_bytes()
    }
}

fn checksum(body: &[u8]) -> [u8; CHECK_BYTES] {
    let [a, b, c, d, ..] = sha256(&[body]);
    [a, b, c, d]
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], StringError> {
    let (first, tail) = rest.split_first_chunk::<N>().ok_or(StringError::Damaged)?;
    *rest = tail;
    Ok(*first)
}

/// `host:port` with a port from 1 to 65535; the host is a DNS name, an IPv4 address, or an IPv6 address in brackets.
#[must_use]
pub fn is_address(text: &str) -> bool {
    split_address(text).is_some()
}

/// Host (without brackets) and port of a valid [`is_address`].
#[must_use]
pub fn split_address(text: &str) -> Option<(&str, u16)> {
    if text.len() > usize::from(u8::MAX) {
        return None;
    }
    let (host, port) = text.rsplit_once(':')?;
    let digits = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse::<u16>().ok().filter(|port| digits && *port != 0)?;
    if let Some(inside) = host.strip_prefix('[') {
        let inside = inside.strip_suffix(']')?;
        return inside.parse::<std::net::Ipv6Addr>().ok().map(|_| (inside, port));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.split('.').all(label).then_some((host, port))
}

#[cfg(test)]
mod tests;
