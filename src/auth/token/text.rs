//! The text of a token, its stored hash, and its accessor.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::api::hex::hex;
use crate::api::secret::SecretText;
use crate::crypto::hash::sha256;
use crate::crypto::{CryptoError, Random};
use crate::wiped::Buffer;

const PREFIX: &str = "hvs.";
/// Random bytes in a token. They cannot be guessed, so a plain hash of the token can be stored.
const BYTES: usize = 32;
const TEXT_LEN: usize = 43;
const ACCESSOR_LEN: usize = 24;
/// Separates this hash from every other use of SHA-256.
const LABEL: &[u8] = b"strongroom token v1\0";

/// The id under which the store holds a token: SHA-256 of its text. The token cannot be computed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId([u8; 32]);

impl TokenId {
    /// Returns the id of what a client sent, or `None` when it does not have the form of a token.
    ///
    /// A lookup by this hash takes the same time for every token that does not exist, so its timing tells an attacker
    /// nothing.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let random = text.strip_prefix(PREFIX)?;
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        (random.len() == TEXT_LEN && random.bytes().all(legal)).then(|| Self(sha256(&[LABEL, text.as_bytes()])))
    }

    /// Makes an id from bytes that were read from the store.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// 64 hexadecimal digits, which are the key in the store.
    #[must_use]
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

/// Generates a token: `hvs.` and 43 characters of base64url.
///
/// # Errors
/// [`CryptoError::Random`] when the random source fails.
pub fn generate(random: &dyn Random) -> Result<SecretText, CryptoError> {
    let mut bytes = Zeroizing::new([0; BYTES]);
    random.fill(&mut *bytes)?;
    let mut encoded = Zeroizing::new([0; TEXT_LEN]);
    URL_SAFE_NO_PAD.encode_slice(bytes.as_slice(), &mut *encoded).expect("TEXT_LEN characters hold BYTES bytes");
    let mut text = Buffer::with_capacity(PREFIX.len() + TEXT_LEN);
    text.text(PREFIX).put(&*encoded);
    Ok(SecretText::from_utf8_lossy(&*text))
}

/// Generates an accessor: 24 letters and digits, each equally likely. It is not a secret: it names a token but cannot
/// be used as one.
///
/// # Errors
/// [`CryptoError::Random`] when the random source fails.
pub fn accessor(random: &dyn Random) -> Result<String, CryptoError> {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = String::with_capacity(ACCESSOR_LEN);
    while text.len() < ACCESSOR_LEN {
        let mut bytes = [0; 32];
        random.fill(&mut bytes)?;
        // 248 is the largest multiple of 62 in a byte. Larger values would favour the first letters.
        let fair = bytes.iter().filter(|byte| **byte < 248);
        let letters = fair.filter_map(|byte| ALPHABET.get(usize::from(byte % 62))).map(|letter| char::from(*letter));
        text.extend(letters.take(ACCESSOR_LEN - text.len()));
    }
    Ok(text)
}

/// Whether a text has the form of an accessor.
pub(super) fn is_accessor(text: &str) -> bool {
    text.len() == ACCESSOR_LEN && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
