//! The text of a token, what is stored of it, and the handle to speak of it by.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::api::secret::SecretText;
use crate::crypto::hash::sha256;
use crate::crypto::{CryptoError, Random};

const PREFIX: &str = "hvs.";
/// Random bytes in a token: nobody guesses one, so a plain hash of it may be stored.
const BYTES: usize = 32;
const TEXT_LEN: usize = 43;
const ACCESSOR_LEN: usize = 24;
/// Keeps the hash apart from every other use of SHA-256.
const LABEL: &[u8] = b"strongroom token v1\0";

/// What the store knows a token by: SHA-256 of its text. The token cannot be computed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenId([u8; 32]);

impl TokenId {
    /// The id of what a client sent; `None` when that has not the form of a token.
    ///
    /// A lookup by this hash takes the same time for every token that does not exist: an attacker cannot steer it.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let random = text.strip_prefix(PREFIX)?;
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        (random.len() == TEXT_LEN && random.bytes().all(legal)).then(|| Self(sha256(&[LABEL, text.as_bytes()])))
    }

    /// The id with these bytes, as read back from the store.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// 64 hexadecimal digits: the key in the store.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A new token: `hvs.` and 43 characters of base64url.
///
/// # Errors
/// [`CryptoError::Random`].
pub fn generate(random: &dyn Random) -> Result<SecretText, CryptoError> {
    let mut bytes = Zeroizing::new([0; BYTES]);
    random.fill(&mut *bytes)?;
    // Written with its final size: a growing text would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + TEXT_LEN));
    text.push_str(PREFIX);
    URL_SAFE_NO_PAD.encode_string(bytes.as_slice(), &mut text);
    Ok(SecretText::from(text.as_str()))
}

/// A new accessor: 24 letters and digits, none more likely than another. Not a secret: it names a token and opens nothing.
///
/// # Errors
/// [`CryptoError::Random`].
pub fn accessor(random: &dyn Random) -> Result<String, CryptoError> {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = String::with_capacity(ACCESSOR_LEN);
    while text.len() < ACCESSOR_LEN {
        let mut bytes = [0; 32];
        random.fill(&mut bytes)?;
        // 248 is the largest multiple of 62 in a byte; the rest would favour the first letters.
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
