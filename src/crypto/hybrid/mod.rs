//! Hybrid key encapsulation: X25519 (RFC 7748) and ML-KEM-768 (FIPS 203) together.
//!
//! Somebody who copies a disk today may own a quantum computer later, and a lattice may fall to better mathematics. The
//! shared key stays secret as long as one of the two is unbroken. The combiner binds all public values of both, in the
//! manner of X-Wing (draft-connolly-cfrg-xwing-kem, section 5) and of the concatenation of SP 800-56C revision 2,
//! section 2. X-Wing leaves out the ML-KEM ciphertext and key, because ML-KEM binds them itself. They are included
//! here, so that nothing depends on that.
//!
//! Sizes in bytes: private key 32 (a seed), public key 1,216, encapsulation 1,120, shared key 32.

use ml_kem::kem::{Decapsulate, KeyExport};
use ml_kem::ml_kem_768::{Ciphertext, DecapsulationKey, EncapsulationKey};
use ml_kem::{B32, Seed};
use x25519_dalek::{X25519_BASEPOINT_BYTES, x25519};
use zeroize::{Zeroize, Zeroizing};

use super::derive::{hkdf, label};
use super::hash::equal;
use super::{CryptoError, Key, Random};

/// Bytes of a public key of X25519.
pub const X25519_LEN: usize = 32;
/// Bytes of a public key of ML-KEM-768 (FIPS 203, table 3).
pub const ML_KEM_KEY_LEN: usize = 1184;
/// Bytes of a ciphertext of ML-KEM-768 (FIPS 203, table 3).
pub const ML_KEM_CIPHERTEXT_LEN: usize = 1088;
/// Bytes of a public key: X25519, then ML-KEM-768.
pub const PUBLIC_LEN: usize = X25519_LEN + ML_KEM_KEY_LEN;
/// Bytes of an encapsulation: X25519 key of the sender, then ciphertext of ML-KEM-768.
pub const SEALED_LEN: usize = X25519_LEN + ML_KEM_CIPHERTEXT_LEN;

/// A public key in its stored form. It is checked only when it is used.
#[derive(Clone, PartialEq, Eq)]
pub struct Public(Box<[u8; PUBLIC_LEN]>);

/// What the sender sends to the holder of the private key. Not secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Encapsulated(Box<[u8; SEALED_LEN]>);

/// A private key: a seed of 32 bytes, from which both private halves are derived when needed.
pub struct Private(Key);

impl Public {
    /// Takes over stored bytes.
    pub fn from_bytes(bytes: &[u8; PUBLIC_LEN]) -> Self {
        Self(Box::new(*bytes))
    }

    /// The stored form.
    pub fn as_bytes(&self) -> &[u8; PUBLIC_LEN] {
        &self.0
    }

    /// Generates a shared key, and what the holder of the private key needs to derive it again.
    ///
    /// # Errors
    /// [`CryptoError::Malformed`] when the ML-KEM key is not reduced (FIPS 203, section 7.2) or the X25519 key has a
    /// small order (RFC 7748, section 6.1); [`CryptoError::Random`].
    pub fn encapsulate(&self, random: &dyn Random) -> Result<(Key, Encapsulated), CryptoError> {
        let (their_x, their_kem) = halves(&*self.0)?;
        let ek = their_kem.try_into().ok().and_then(|bytes| EncapsulationKey::new(bytes).ok());
        let ek = ek.ok_or(CryptoError::Malformed("ml-kem public key"))?;

        let mut message = Zeroizing::new(B32::default());
        random.fill(message.as_mut_slice())?;
        let (ciphertext, mut lattice) = ek.encapsulate_deterministic(&message);

        let mut ephemeral = Zeroizing::new([0; X25519_LEN]);
        random.fill(&mut *ephemeral)?;
        let curve = agree(&ephemeral, their_x)?;

        let mut sealed = Box::new([0; SEALED_LEN]);
        let (my_x, my_ciphertext) = sealed.split_at_mut(X25519_LEN);
        my_x.copy_from_slice(&x25519(*ephemeral, X25519_BASEPOINT_BYTES));
        my_ciphertext.copy_from_slice(&ciphertext);
        let shared = combine(&lattice, &curve, &*sealed, &*self.0);
        lattice.zeroize();
        Ok((shared, Encapsulated(sealed)))
    }
}

impl Encapsulated {
    /// Takes over stored bytes.
    pub fn from_bytes(bytes: &[u8; SEALED_LEN]) -> Self {
        Self(Box::new(*bytes))
    }

    /// The stored form.
    pub fn as_bytes(&self) -> &[u8; SEALED_LEN] {
        &self.0
    }
}

impl Private {
    /// Generates a private key.
    ///
    /// # Errors
    /// [`CryptoError::Random`] when the random source fails.
    pub fn generate(random: &dyn Random) -> Result<Self, CryptoError> {
        Key::random(random).map(Self)
    }

    /// Takes over a stored seed.
    pub fn from_seed(seed: Key) -> Self {
        Self(seed)
    }

    /// The seed, for wrapping and storage.
    pub fn seed(&self) -> &Key {
        &self.0
    }

    /// Derives the public key of this private key.
    pub fn public(&self) -> Public {
        let (scalar, dk) = self.expand();
        let mut public = Box::new([0; PUBLIC_LEN]);
        let (x, kem) = public.split_at_mut(X25519_LEN);
        x.copy_from_slice(&x25519(*scalar.reveal(), X25519_BASEPOINT_BYTES));
        kem.copy_from_slice(&dk.encapsulation_key().to_bytes());
        Public(public)
    }

    /// Returns the shared key of `sealed`. If `sealed` was made for another key or altered, the result is an unrelated
    /// key (implicit rejection), so the caller must compare.
    ///
    /// # Errors
    /// [`CryptoError::Malformed`] when the sender's X25519 key has a small order.
    pub fn decapsulate(&self, sealed: &Encapsulated) -> Result<Key, CryptoError> {
        let (their_x, ciphertext) = halves(&*sealed.0)?;
        let (scalar, dk) = self.expand();
        let curve = agree(scalar.reveal(), their_x)?;
        let ciphertext: &Ciphertext = ciphertext.try_into().map_err(|_| CryptoError::Malformed("ml-kem ciphertext"))?;
        let mut lattice = dk.decapsulate(ciphertext);
        let shared = combine(&lattice, &curve, &*sealed.0, &*self.public().0);
        lattice.zeroize();
        Ok(shared)
    }

    /// The X25519 scalar and the ML-KEM-768 private key (d ‖ z, FIPS 203, algorithm 16).
    fn expand(&self) -> (Key, DecapsulationKey) {
        let part = |name: &[u8]| hkdf(&[], self.0.reveal(), &[label::HYBRID_SEED, name]);
        let mut seed = Seed::default();
        for (to, from) in seed.chunks_mut(32).zip([part(b"d"), part(b"z")]) {
            to.copy_from_slice(from.reveal());
        }
        let dk = DecapsulationKey::from_seed(seed);
        seed.zeroize();
        (part(b"x"), dk)
    }
}

/// X25519. Rejects the all-zero result of points with small order.
fn agree(scalar: &[u8; X25519_LEN], point: &[u8; X25519_LEN]) -> Result<Zeroizing<[u8; 32]>, CryptoError> {
    let shared = Zeroizing::new(x25519(*scalar, *point));
    if equal(&shared, &[0; 32]) { Err(CryptoError::Malformed("x25519 public key")) } else { Ok(shared) }
}

/// Combines both shared secrets, ML-KEM first, with HKDF over all public values.
fn combine(lattice: &[u8], curve: &[u8; 32], sealed: &[u8], public: &[u8]) -> Key {
    let mut both = Zeroizing::new([0u8; 64]);
    for (to, from) in both.chunks_mut(32).zip([lattice, curve]) {
        to.copy_from_slice(from);
    }
    // Both lengths are fixed, so the concatenation is unambiguous.
    hkdf(&[], &*both, &[label::HYBRID, sealed, public])
}

fn halves(bytes: &[u8]) -> Result<(&[u8; X25519_LEN], &[u8]), CryptoError> {
    bytes.split_first_chunk().ok_or(CryptoError::Malformed("data ends too early"))
}

#[cfg(test)]
mod tests;
