//! Making a new value.
//!
//! A [`Generator`] is what an operator stores; [`Generator::check`] judges it before it is stored and
//! [`Generator::generate`] makes one value. Every draw is uniform: no modulo, no favoured arrangement. What is
//! recorded as entropy is the logarithm of the number of equally likely values.

mod draw;
mod keys;
mod password;
mod token;

use serde::{Deserialize, Serialize};

pub use keys::{Certificate, Curve, Ecdsa, Ed25519, Rsa, RsaBits};
pub use password::{Alphabet, Class, Password};
pub use token::{Encoding, Token};

use crate::api::secret::SecretText;
use crate::crypto::random::Random;

/// Least entropy of a generated value, in bits.
pub const LEAST_ENTROPY_BITS: u32 = 64;

/// Why a generator is refused, or why it made nothing. Never carries a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// A password is shorter or longer than allowed.
    #[error("generator.length: a password has 8 to 1024 characters; write a number in that range")]
    Length,
    /// No character is left to draw from.
    #[error("generator.alphabet: no character is left; name more classes or exclude fewer characters")]
    AlphabetEmpty,
    /// A character that is not in `!` to `~`.
    #[error("generator.{0}: only printable ascii characters without the space are possible; remove the others")]
    NotPrintable(&'static str),
    /// A character or class stands twice, which would make it likelier than the others.
    #[error("generator.alphabet: something stands in it twice; name every character and class once")]
    Duplicate,
    /// A class is required of which the alphabet has no character.
    #[error("generator.require.{0}: the alphabet has no such character; add the class to the alphabet")]
    ClassMissing(Class),
    /// The classes require more characters than the password has.
    #[error("generator.require: the counts add up to more than the length; raise the length or lower the counts")]
    RequireTooMany,
    /// The value could be guessed.
    #[error("generator: {bits} bits of entropy are fewer than 64; raise the length or widen the alphabet")]
    Weak {
        /// Entropy of the value, in whole bits.
        bits: u32,
    },
    /// A token has too few or too many bits.
    #[error("generator.bits: a token has 128 to 4096 bits; write a number in that range")]
    Bits,
    /// A prefix that leak scanners or shells would trip over.
    #[error("generator.prefix: up to 32 characters of A-Z, a-z, 0-9, - and _ are possible; write a prefix of those")]
    Prefix,
    /// A certificate without a name, or with a name that is none.
    #[error("generator.{0}: not a name for a certificate; write a dns name, an ip address or a spiffe uri")]
    Name(&'static str),
    /// A certificate without any name.
    #[error("generator.sans: a certificate needs a name; write at least one in sans or common_name")]
    Nameless,
    /// A certificate's life is too short or too long.
    #[error(
        "generator.ttl: a certificate lives 60 seconds to 10 years; write a span in that range, for example \"720h\""
    )]
    Ttl,
    /// Not the name of a target.
    #[error("generator.target: not a target's name (a-z, 0-9, - and _); write a name the configuration file lists")]
    Target,
    /// The value is not made here: a certificate comes from the authority, a command's value from its target.
    #[error("the value of a {0} generator is made elsewhere")]
    Elsewhere(&'static str),
    /// The random source failed, or returned the same useless bytes for ever.
    #[error("the random source failed")]
    Random,
    /// The cryptographic library made no key pair.
    #[error("the key pair could not be made")]
    KeyPair,
}

/// A new value.
pub struct Generated {
    /// The secret.
    pub value: SecretText,
    /// The public half of a key pair: SPKI in PEM (RFC 7468), for Ed25519 followed by the line of `authorized_keys`.
    pub public: Option<String>,
    /// How hard guessing is. For text the logarithm, rounded down, of the number of equally likely values; for key
    /// pairs the security strength of NIST SP 800-57 part 1, table 2 (RSA: SP 800-56B revision 2, table 4).
    pub entropy_bits: u32,
}

/// `command`: the value is printed by a command that the configuration file lists as a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Name of the target.
    pub target: String,
}

/// `uuid`: version 4 of RFC 9562, 122 random bits, lower case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Uuid {}

/// How new values of one key are made. In JSON an object with `type` and the options of that type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Generator {
    /// Characters of an alphabet, with required classes.
    Password(Password),
    /// Random bits in an encoding, with a prefix that leak scanners know.
    Token(Token),
    /// A random UUID.
    Uuid(Uuid),
    /// An Ed25519 key pair.
    Ed25519(Ed25519),
    /// An ECDSA key pair.
    Ecdsa(Ecdsa),
    /// An RSA key pair.
    Rsa(Rsa),
    /// A certificate with its key from the vault's own authority; made elsewhere.
    Certificate(Certificate),
    /// The output of a configured command; made elsewhere.
    Command(Command),
}

impl Generator {
    /// Judges the options, without drawing anything.
    ///
    /// # Errors
    /// The [`GenerateError`] that names the first offending option; never `Elsewhere`, `Random` or `KeyPair`.
    pub fn check(&self) -> Result<(), GenerateError> {
        match self {
            Self::Password(password) => password.check(),
            Self::Token(token) => token.check(),
            Self::Certificate(certificate) => certificate.check(),
            Self::Command(command) if super::is_target_name(&command.target) => Ok(()),
            Self::Command(_) => Err(GenerateError::Target),
            // Their options are closed sets; what could be wrong was refused while reading.
            Self::Uuid(_) | Self::Ed25519(_) | Self::Ecdsa(_) | Self::Rsa(_) => Ok(()),
        }
    }

    /// Makes one value. Text, UUIDs and Ed25519 seeds are drawn from `random`; ECDSA and RSA key pairs come from the
    /// generator of the cryptographic library, which takes no other. An RSA pair can take seconds: not for a thread
    /// that serves requests.
    ///
    /// # Errors
    /// Those of [`check`](Self::check); [`GenerateError::Elsewhere`] for `certificate` and `command`;
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

    /// Whether a command outside prints the value.
    #[must_use]
    pub fn is_command(&self) -> bool {
        matches!(self, Self::Command(_))
    }

    /// The word in `type`.
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
    Ok(Generated { value, public: None, entropy_bits: 122 })
}

#[cfg(test)]
mod tests;
