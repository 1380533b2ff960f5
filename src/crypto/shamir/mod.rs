//! Shamir's secret sharing of 32 bytes over GF(2^8) (A. Shamir, CACM 22(11), 1979).
//!
//! The field is that of AES: polynomial x^8 + x^4 + x^3 + x + 1 (FIPS 197, section 4.2). The arithmetic has no branches
//! or tables that depend on its operands, because table lookups by secret bytes leak through the cache
//! (CVE-2023-25000). Every byte of the secret has its own polynomial.

use std::hint::black_box;

use zeroize::Zeroizing;

use super::{CryptoError, Key, Random};

/// Smallest threshold. With a threshold of one, every holder would have the secret alone.
pub const MIN_THRESHOLD: u8 = 2;
/// Largest number of points of one split.
pub const MAX_SHARES: u8 = 32;

/// One point of the polynomials: 32 bytes `y` at one `x`. It is as secret as the other points.
pub struct Point {
    /// Where the polynomials are evaluated, 1 to 32. The secret is at 0.
    pub x: u8,
    /// The values, one for each byte of the secret.
    pub y: Key,
}

/// Whether `k` of `n` is a supported split: 2 <= k <= n <= 32.
pub fn valid(k: u8, n: u8) -> bool {
    MIN_THRESHOLD <= k && k <= n && n <= MAX_SHARES
}

/// Splits `secret` into `n` points at x = 1 to `n`. Any `k` of them give the secret, and fewer reveal nothing.
///
/// # Errors
/// [`CryptoError::Parameters`] unless 2 <= k <= n <= 32, [`CryptoError::Random`].
pub fn split(secret: &Key, k: u8, n: u8, random: &dyn Random) -> Result<Vec<Point>, CryptoError> {
    if !valid(k, n) {
        return Err(CryptoError::Parameters("a split has 2 <= k <= n <= 32"));
    }
    // From the highest power down. Zero is a valid coefficient: leaving it out would reveal something.
    let coefficients = (1..k).map(|_| Key::random(random)).collect::<Result<Vec<_>, _>>()?;
    let at = |x: u8| {
        let y = Key::fill_with(|out| {
            for coefficient in coefficients.iter().chain([secret]) {
                for (y, c) in out.iter_mut().zip(coefficient.reveal()) {
                    *y = mul(*y, x) ^ c;
                }
            }
        });
        Point { x, y }
    };
    Ok((1..=n).map(at).collect())
}

/// Returns the value at 0 of the polynomials through all `points` (Lagrange).
///
/// The caller must pass as many points as the split requires. Fewer points, or points of two splits, give 32 unrelated
/// bytes and no error.
///
/// # Errors
/// [`CryptoError::Malformed`] without points, with more than 32, or when an x is 0 or occurs twice.
pub fn combine(points: &[&Point]) -> Result<Key, CryptoError> {
    if points.is_empty() || points.len() > usize::from(MAX_SHARES) {
        return Err(CryptoError::Malformed("number of shares"));
    }
    for (at, point) in points.iter().enumerate() {
        if point.x == 0 {
            return Err(CryptoError::Malformed("a share at zero"));
        }
        if points.iter().take(at).any(|other| other.x == point.x) {
            return Err(CryptoError::Malformed("two shares with one number"));
        }
    }
    Ok(Key::fill_with(|out| {
        for point in points {
            let (mut above, mut below) = (1, 1);
            for other in points.iter().filter(|other| other.x != point.x) {
                // 0 - x and x - x' are sums in a field of characteristic 2.
                above = mul(above, other.x);
                below = mul(below, point.x ^ other.x);
            }
            let weight = Zeroizing::new(mul(above, invert(below)));
            for (secret, y) in out.iter_mut().zip(point.y.reveal()) {
                *secret ^= mul(*y, *weight);
            }
        }
    }))
}

/// The product in GF(2^8), bit by bit with masks.
fn mul(a: u8, b: u8) -> u8 {
    let (mut a, mut product) = (a, 0);
    for bit in 0..8 {
        // The optimiser must not see that the mask has only two values, or it may branch on it.
        product ^= a & black_box((b >> bit) & 1).wrapping_neg();
        let carry = black_box(a >> 7).wrapping_neg();
        a = (a << 1) ^ (carry & 0x1b);
    }
    product
}

/// The inverse as a^254. 0 gives 0, which the callers exclude.
fn invert(a: u8) -> u8 {
    // 254 = 2 + 4 + 8 + 16 + 32 + 64 + 128.
    let (mut power, mut product) = (a, 1);
    for _ in 0..7 {
        power = mul(power, power);
        product = mul(product, power);
    }
    product
}

#[cfg(test)]
mod tests;
