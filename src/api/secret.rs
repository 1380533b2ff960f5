//! Text that must not be shown.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

/// A secret text: no `Clone`, `Debug`, `Display` or `Serialize`. Wiped on drop.
///
/// ```
/// use strongroom::api::secret::SecretText;
///
/// let secret = SecretText::from("hunter2");
/// assert_eq!(secret.reveal(), "hunter2");
/// ```
pub struct SecretText(SecretString);

impl SecretText {
    /// Takes over a text.
    #[must_use]
    pub fn new(text: String) -> Self {
        if text.len() == text.capacity() {
            return Self(SecretString::from(text));
        }
        // Its block is larger than the text and would be exchanged for a smaller one, unwiped.
        Self::from(Zeroizing::new(text).as_str())
    }

    /// Takes over bytes that should be UTF-8. Each malformed sequence becomes U+FFFD. The bytes are wiped.
    #[must_use]
    pub fn from_utf8_lossy(bytes: impl AsRef<[u8]>) -> Self {
        let text = Zeroizing::new(String::from_utf8_lossy(bytes.as_ref()).into_owned());
        Self::from(text.as_str())
    }

    /// The text itself. Every call of this method is a place where a secret leaves its wrapper.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for SecretText {
    fn from(text: &str) -> Self {
        Self(SecretString::from(text))
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// Raw JSON text that contains secrets. The rules of [`SecretText`] apply.
pub struct SecretJson(SecretString);

impl SecretJson {
    /// The JSON text, byte for byte as it was sent.
    #[must_use]
    pub fn reveal(&self) -> &str {
        self.0.expose_secret()
    }
}

impl<'de> Deserialize<'de> for SecretJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw: Box<RawValue> = Deserialize::deserialize(deserializer)?;
        Ok(Self(SecretString::new(Box::<str>::from(raw))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_back_what_it_was_given() {
        assert_eq!(SecretText::new("a".to_owned()).reveal(), "a");
        assert_eq!(SecretText::from_utf8_lossy(b"a\xff").reveal(), "a\u{fffd}");
        let json: SecretJson = serde_json::from_str("{\"n\": 1.00}").expect("an object");
        assert_eq!(json.reveal(), "{\"n\": 1.00}");
    }
}
