//! Generates a new value.
//!
//! A [`Generator`] is what an operator stores. [`Generator::check`] checks it before it is stored, and
//! [`Generator::generate`] produces one value. Every draw is uniform: there is no modulo bias, and no arrangement is
//! likelier than another. The recorded entropy is the logarithm of the number of equally likely values.

mod class;
mod draw;
mod error;
mod keys;
mod password;
mod token;

use serde::{Deserialize, Serialize};

pub use error::{GenerateError, Generated};
pub use keys::{Certificate, Ecdsa, Ed25519, Rsa};
pub use password::Password;
pub use token::Token;

use crate::api::secret::SecretText;
use crate::crypto::random::Random;

/// Options of `command`: a command that the configuration file lists as a target prints the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Name of the target.
    pub target: String,
}

/// Options of `uuid`: none. Version 4 of RFC 9562, 122 random bits, lower case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uuid {}

/// How new values of one key are generated. In JSON an object with `type` and the options of that type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Generator {
    /// Characters of an alphabet, with required classes.
    Password(Password),
    /// Random bits in an encoding, with a prefix that leak scanners know.
    Token(Token),
    /// Random bits in an encoding, after a prefix that leak scanners recognize.
    Uuid(Uuid),
    /// An Ed25519 key pair.
    Ed25519(Ed25519),
    /// An ECDSA key pair.
    Ecdsa(Ecdsa),
    /// An RSA key pair.
    Rsa(Rsa),
    /// A certificate with its key from the vault's own authority, generated elsewhere.
    Certificate(Certificate),
    /// The output of a configured command, generated elsewhere.
    Command(Command),
}

impl Generator {
    /// Checks the options without drawing anything.
    ///
    /// # Errors
    /// The [`GenerateError`] for the first wrong option; never `Elsewhere`, `Random` or `KeyPair`.
    pub fn check(&self) -> Result<(), GenerateError> {
        match self {
            Self::Password(password) => password.check(),
            Self::Token(token) => token.check(),
            Self::Certificate(certificate) => certificate.check(),
            Self::Command(command) if super::is_target_name(&command.target) => Ok(()),
            Self::Command(_) => Err(GenerateError::Target),
            // Their options are closed sets. Anything wrong was rejected while parsing.
            Self::Uuid(_) | Self::Ed25519(_) | Self::Ecdsa(_) | Self::Rsa(_) => Ok(()),
        }
    }

    /// Generates one value. Text, UUIDs and Ed25519 seeds are drawn from `random`. ECDSA and RSA key pairs use the
    /// random source of the cryptographic library, which accepts no other. An RSA pair can take seconds, so do not call
    /// this on a thread that serves requests.
    ///
    /// # Errors
    /// The errors of [`check`](Self::check); [`GenerateError::Elsewhere`] for `certificate` and `command`;
    /// [`GenerateError::Random`] and [`GenerateError::KeyPair`] when the sources fail.
    pub fn generate(&self, random: &dyn Random) -> Result<Generated, GenerateError> {
        self.check()?;
        match self {
            Self::Password(password) => password.generate(random),
            Self::Token(token) => token.generate(random),
            Self::Uuid(_) => uuid(random),
            Self::Ed25519(_) => keys::ed25519(random),
            Self::Ecdsa(ecdsa) => keys::ecdsa(ecdsa.curve),
            Self::Rsa(rsa) => keys::rsa(rsa.bits),
            Self::Certificate(_) | Self::Command(_) => Err(GenerateError::Elsewhere(self.kind())),
        }
    }

    /// Whether an external command prints the value.
    #[must_use]
    pub fn is_command(&self) -> bool {
        matches!(self, Self::Command(_))
    }

    /// The value of `type`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Password(_) => "password",
            Self::Token(_) => "token",
            Self::Uuid(_) => "uuid",
            Self::Ed25519(_) => "ed25519",
            Self::Ecdsa(_) => "ecdsa",
            Self::Rsa(_) => "rsa",
            Self::Certificate(_) => "certificate",
            Self::Command(_) => "command",
        }
    }
}

fn uuid(random: &dyn Random) -> Result<Generated, GenerateError> {
    let mut bytes = zeroize::Zeroizing::new([0u8; 16]);
    random.fill(&mut *bytes).map_err(|_| GenerateError::Random)?;
    let mut text = zeroize::Zeroizing::new([0u8; 36]);
    let uuid = uuid::Builder::from_random_bytes(*bytes).into_uuid();
    let value = SecretText::from(&*uuid.hyphenated().encode_lower(&mut *text));
    Ok(Generated { value, public: None })
}

#[cfg(test)]
mod tests;
