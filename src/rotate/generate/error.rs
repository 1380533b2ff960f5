//! A generated value, or why none was generated.

use super::class::Class;
use crate::api::secret::SecretText;

/// Lowest entropy of a generated value, in bits.
pub const LEAST_ENTROPY_BITS: u32 = 64;

/// Why a generator is rejected, or why it produced nothing. Never carries a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// The password is too short or too long.
    #[error("generator.length: a password has 8 to 1024 characters; write a number in that range")]
    Length,
    /// The alphabet is empty.
    #[error("generator.alphabet: no character is left; name more classes or exclude fewer characters")]
    AlphabetEmpty,
    /// A character is not in `!` to `~`.
    #[error("generator.{0}: only printable ASCII characters except the space are allowed; remove the others")]
    NotPrintable(&'static str),
    /// A character or class occurs twice, which would make it likelier than the others.
    #[error("generator.alphabet: a character or class occurs twice; name each only once")]
    Duplicate,
    /// A required class has no character in the alphabet.
    #[error("generator.require.{0}: the alphabet has no such character; add the class to the alphabet")]
    ClassMissing(Class),
    /// The classes require more characters than the password has.
    #[error("generator.require: the counts add up to more than the length; raise the length or lower the counts")]
    RequireTooMany,
    /// The value would be easy to guess.
    #[error("generator: {bits} bits of entropy are fewer than 64; raise the length or widen the alphabet")]
    Weak {
        /// Entropy of the value, in whole bits.
        bits: u32,
    },
    /// The token has too few or too many bits.
    #[error("generator.bits: a token has 128 to 4096 bits; write a number in that range")]
    Bits,
    /// The prefix would confuse leak scanners or shells.
    #[error("generator.prefix: write at most 32 characters of A-Z, a-z, 0-9, - and _")]
    Prefix,
    /// A name in the certificate is invalid.
    #[error("generator.{0}: not a name for a certificate; write a dns name, an ip address or a spiffe uri")]
    Name(&'static str),
    /// The certificate has no name.
    #[error("generator.sans: a certificate needs a name; write at least one in sans or common_name")]
    Nameless,
    /// The certificate's life is too short or too long.
    #[error(
        "generator.ttl: a certificate lives 60 seconds to 10 years; write a span in that range, for example \"720h\""
    )]
    Ttl,
    /// The name cannot be that of a target.
    #[error(
        "generator.target: not a target's name (a-z, 0-9, - and _); write the name of a target in the configuration file"
    )]
    Target,
    /// The value is generated elsewhere: a certificate by the authority, a command's value by its target.
    #[error("the value of a {0} generator is produced elsewhere")]
    Elsewhere(&'static str),
    /// The random source failed, or keeps returning unusable bytes.
    #[error("the random source failed")]
    Random,
    /// The cryptographic library could not generate a key pair.
    #[error("the key pair could not be generated")]
    KeyPair,
}

/// A generated value.
pub struct Generated {
    /// The secret.
    pub value: SecretText,
    /// The public half of a key pair: SPKI in PEM (RFC 7468). For Ed25519 the line for `authorized_keys` follows.
    pub public: Option<String>,
}
