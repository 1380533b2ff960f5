//! SHA-256, HMAC-SHA-256, and the keyed multiset hash over all stored records.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use super::Key;

/// SHA-256 (FIPS 180-4) over the concatenation of `parts`.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        Digest::update(&mut hash, part);
    }
    hash.finalize().into()
}

/// HMAC-SHA-256 (RFC 2104) over the concatenation of `parts`.
pub fn hmac_sha256(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    MacKey::from_bytes(key).mac(parts)
}

/// Compares two 32-byte tags in constant time.
pub fn equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.ct_eq(b).into()
}

/// An HMAC-SHA-256 key with both pads already absorbed, which saves two compressions per tag.
pub struct MacKey(Hmac<Sha256>);

impl MacKey {
    /// Prepares `key`.
    pub fn new(key: &Key) -> Self {
        Self::from_bytes(key.reveal())
    }

    /// Prepares a key of any length. A key longer than 64 bytes is hashed first (RFC 2104).
    pub fn from_bytes(key: &[u8]) -> Self {
        Self(<Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("hmac takes keys of every length"))
    }

    /// Makes a second copy of the key. Both are wiped separately, so make few.
    pub fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }

    /// Computes the tag over the concatenation of `parts`.
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// Whether `tag` is the tag over `parts`. Runs in constant time.
    pub fn verify(&self, parts: &[&[u8]], tag: &[u8; 32]) -> bool {
        equal(&self.mac(parts), tag)
    }
}

impl From<&Key> for MacKey {
    fn from(key: &Key) -> Self {
        Self::new(key)
    }
}

/// Keyed multiset hash: the sum of all leaves modulo 2^256, big-endian (format.md, "Set hash").
///
/// The sum is secret. It is stored only inside a sealed state record and never printed.
#[derive(Clone)]
pub struct SetHash([u8; 32]);

impl SetHash {
    /// The hash of the empty set.
    pub fn empty() -> Self {
        Self([0; 32])
    }

    /// Takes over a stored sum.
    pub fn from_bytes(sum: [u8; 32]) -> Self {
        Self(sum)
    }

    /// The sum. Only for the body of a state record.
    pub fn reveal(&self) -> &[u8; 32] {
        &self.0
    }

    /// Adds a leaf.
    pub fn add(&mut self, leaf: [u8; 32]) {
        let mut carry = 0u16;
        for (sum, byte) in self.0.iter_mut().rev().zip(leaf.iter().rev()) {
            let [high, low] = (u16::from(*sum) + u16::from(*byte) + carry).to_be_bytes();
            *sum = low;
            carry = u16::from(high);
        }
    }

    /// Removes a leaf.
    pub fn sub(&mut self, leaf: [u8; 32]) {
        let mut borrow = false;
        for (sum, byte) in self.0.iter_mut().rev().zip(leaf.iter().rev()) {
            let (first, under) = sum.overflowing_sub(*byte);
            let (second, under_again) = first.overflowing_sub(u8::from(borrow));
            *sum = second;
            borrow = under || under_again;
        }
    }

    /// Compares two sums in constant time.
    pub fn ct_eq(&self, other: &Self) -> bool {
        equal(&self.0, &other.0)
    }
}

impl Drop for SetHash {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
