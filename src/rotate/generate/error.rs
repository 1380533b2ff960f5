//! A value that was made, or why none was.

use super::class::Class;
use crate::api::secret::SecretText;

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
