//! The enrolment string: everything that a host needs to get its first certificate, in one line.
//!
//! ```text
//! "sre1." + base64url without padding of
//!   version 1 | flags 0 | pin 32 | token id 16 | secret 32 | count 1 | count x (length 1 | address) | checksum 4
//! ```
//!
//! `pin` is SHA-256 of the SubjectPublicKeyInfo of the vault's authority, an address is ASCII `host:port`, the checksum is
//! the begin of SHA-256 over all before it: a string that was cut or mistyped is named before anything is connected.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::api::secret::SecretText;
use crate::crypto::hash::sha256;

/// How every string begins.
pub const PREFIX: &str = "sre1.";
/// Most addresses in a string.
pub const MAX_ADDRESSES: usize = 8;
/// Longest string, characters.
const MAX_TEXT: usize = 2_048;
/// Bytes before the first address.
const HEAD: usize = 1 + 1 + 32 + 16 + 32 + 1;
const CHECKSUM: usize = 4;

/// Why a text is no enrolment string. Carries nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StringError {
    /// It does not begin with [`PREFIX`], or is far too long.
    #[error("this is no enrolment string: it begins with sre1.")]
    Foreign,
    /// It was cut, or characters of it are wrong.
    #[error("the enrolment string is incomplete or mistyped: copy the whole line again")]
    Damaged,
    /// It comes from a newer version.
    #[error("the enrolment string is of a newer version: update this program")]
    Version,
    /// No address, too many, or one that is not `host:port`.
    #[error("an address must be host:port, and there can be 1 to 8 of them")]
    Address,
}

/// An enrolment string, read. The secret is wiped on drop; no `Clone`, no `Debug`.
pub struct EnrollString {
    pin: [u8; 32],
    id: [u8; 16],
    secret: Zeroizing<[u8; 32]>,
    addresses: Vec<String>,
}

impl EnrollString {
    /// Puts a string together.
    ///
    /// # Errors
    /// [`StringError::Address`].
    pub fn new(pin: [u8; 32], id: [u8; 16], secret: &[u8; 32], addresses: Vec<String>) -> Result<Self, StringError> {
        let count = (1..=MAX_ADDRESSES).contains(&addresses.len());
        if !count || !addresses.iter().all(|address| is_address(address)) {
            return Err(StringError::Address);
        }
        Ok(Self { pin, id, secret: Zeroizing::new(*secret), addresses })
    }

    /// Reads a string; blanks and line ends around it do not matter. Total.
    ///
    /// # Errors
    /// [`StringError`].
    pub fn parse(text: &str) -> Result<Self, StringError> {
        let text = text.trim();
        let encoded = text.strip_prefix(PREFIX).ok_or(StringError::Foreign)?;
        if text.len() > MAX_TEXT {
            return Err(StringError::Foreign);
        }
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| StringError::Damaged)?);
        let split = bytes.len().checked_sub(CHECKSUM).ok_or(StringError::Damaged)?;
        let (body, checksum) = bytes.split_at(split);
        if sha256(&[body]).get(..CHECKSUM) != Some(checksum) {
            return Err(StringError::Damaged);
        }
        let mut rest = Reader(body);
        let [version, _flags] = rest.array::<2>()?;
        if version != 1 {
            return Err(StringError::Version);
        }
        let (pin, id, secret) = (rest.array()?, rest.array()?, Zeroizing::new(rest.array::<32>()?));
        let [count] = rest.array::<1>()?;
        let mut addresses = Vec::new();
        for _ in 0..count {
            let [length] = rest.array::<1>()?;
            let address = std::str::from_utf8(rest.take(usize::from(length))?).map_err(|_| StringError::Address)?;
            addresses.push(address.to_owned());
        }
        if !rest.0.is_empty() {
            return Err(StringError::Damaged);
        }
        Self::new(pin, id, &secret, addresses)
    }

    /// The string.
    #[must_use]
    pub fn print(&self) -> SecretText {
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_TEXT));
        bytes.extend_from_slice(&[1, 0]);
        bytes.extend_from_slice(&self.pin);
        bytes.extend_from_slice(&self.id);
        bytes.extend_from_slice(self.secret.as_slice());
        bytes.push(u8::try_from(self.addresses.len()).expect("at most eight addresses"));
        for address in &self.addresses {
            bytes.push(u8::try_from(address.len()).expect("an address has at most 255 characters"));
            bytes.extend_from_slice(address.as_bytes());
        }
        let checksum = sha256(&[&bytes]);
        bytes.extend_from_slice(&checksum[..CHECKSUM]);
        let mut text = String::with_capacity(PREFIX.len() + bytes.len().div_ceil(3) * 4);
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(bytes.as_slice(), &mut text);
        SecretText::new(text)
    }

    /// SHA-256 of the public key of the authority to trust.
    #[must_use]
    pub fn pin(&self) -> &[u8; 32] {
        &self.pin
    }

    /// Which string this is; no secret.
    #[must_use]
    pub fn id(&self) -> &[u8; 16] {
        &self.id
    }

    /// The secret.
    #[must_use]
    pub fn reveal(&self) -> &[u8; 32] {
        &self.secret
    }

    /// Where the vault enrols, `host:port`, in order of preference.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], StringError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(StringError::Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StringError> {
        self.take(N)?.try_into().map_err(|_| StringError::Damaged)
    }
}

/// `host:port`, `[v6]:port`: printable ASCII without separators that a URL would read differently.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    text.len() <= 255
        && !host.is_empty()
        && host.bytes().all(legal)
        && (!host.contains(':') || (host.starts_with('[') && host.ends_with(']')))
        && port.parse::<u16>().is_ok_and(|port| port > 0)
}

const _: () = assert!(HEAD + MAX_ADDRESSES * 256 + CHECKSUM < 3_000);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> EnrollString {
        let addresses = vec!["vault.example:8201".to_owned(), "[2001:db8::1]:8201".to_owned()];
        EnrollString::new([3; 32], [5; 16], &[7; 32], addresses).expect("legal")
    }

    #[test]
    fn what_is_printed_can_be_read() {
        let text = sample().print();
        let read = EnrollString::parse(&format!(" {}\n", text.reveal())).expect("legal");
        assert_eq!((read.pin(), read.id(), read.reveal()), (&[3; 32], &[5; 16], &[7; 32]));
        assert_eq!(read.addresses(), sample().addresses());
    }

    #[test]
    fn every_cut_and_every_wrong_character_is_noticed() {
        let text = sample().print();
        let text = text.reveal();
        for end in 0..text.len() {
            assert!(EnrollString::parse(&text[..end]).is_err(), "cut at {end}");
        }
        for at in 0..text.len() {
            let mut changed = text.to_owned().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).expect("ASCII");
            assert!(EnrollString::parse(&changed).is_err(), "changed at {at}");
        }
    }

    #[test]
    fn addresses_are_judged() {
        for bad in ["", "host", ":1", "host:0", "host:99999", "a/b:1", "u@h:1", "::1:80", "h st:1"] {
            let made = EnrollString::new([0; 32], [0; 16], &[0; 32], vec![bad.to_owned()]);
            assert_eq!(made.err(), Some(StringError::Address), "{bad}");
        }
        assert!(EnrollString::new([0; 32], [0; 16], &[0; 32], Vec::new()).is_err());
        assert!(EnrollString::new([0; 32], [0; 16], &[0; 32], vec!["a:1".to_owned(); 9]).is_err());
    }

    proptest! {
        #[test]
        fn parsing_is_total(text in "(sre1\\.)?[A-Za-z0-9_=-]{0,300}") {
            let _ = EnrollString::parse(&text);
        }

        #[test]
        fn parsing_bytes_is_total(bytes: Vec<u8>) {
            let checksum = sha256(&[&bytes]);
            let all = [bytes.as_slice(), &checksum[..4]].concat();
            let _ = EnrollString::parse(&format!("sre1.{}", URL_SAFE_NO_PAD.encode(all)));
        }
    }
}
