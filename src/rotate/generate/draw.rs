//! Uniform random numbers from a source of random bytes.

use zeroize::Zeroizing;

use super::GenerateError;
use crate::crypto::random::Random;

/// With a working source, so many rejections in a row have a probability below 2^-512.
const MOST_TRIES: u32 = 1_024;

/// Draws numbers. It keeps a small block of bytes, so that a password does not cost one call per character.
pub(super) struct Draw<'a> {
    random: &'a dyn Random,
    block: Zeroizing<[u8; 256]>,
    used: usize,
}

impl<'a> Draw<'a> {
    pub(super) fn new(random: &'a dyn Random) -> Self {
        // The position at the end makes the first draw fill the block.
        Self { random, block: Zeroizing::new([0; 256]), used: 256 }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], GenerateError> {
        if self.used + N > self.block.len() {
            self.random.fill(&mut *self.block).map_err(|_| GenerateError::Random)?;
            self.used = 0;
        }
        let bytes = self.block.get(self.used..self.used + N).and_then(|bytes| bytes.try_into().ok());
        self.used += N;
        bytes.ok_or(GenerateError::Random)
    }

    /// Returns a number below `end`, each with the same probability. Numbers at or above the largest multiple of `end`
    /// are rejected, so every remainder is equally likely. `end` is 1 to 65,536.
    /// # Errors
    /// [`GenerateError::Random`] when the source fails, or when it is rejected so often that it must be broken.
    pub(super) fn below(&mut self, end: usize) -> Result<usize, GenerateError> {
        let range = 1usize << 16;
        if end == 0 || end > range {
            return Err(GenerateError::Random);
        }
        let limit = range - range % end;
        for _ in 0..MOST_TRIES {
            let number = usize::from(u16::from_be_bytes(self.array()?));
            if number < limit {
                return Ok(number % end);
            }
        }
        Err(GenerateError::Random)
    }

    /// Returns one element of `set`, each with the same probability.
    pub(super) fn pick(&mut self, set: &[u8]) -> Result<u8, GenerateError> {
        let at = self.below(set.len())?;
        set.get(at).copied().ok_or(GenerateError::Random)
    }

    /// Returns a number in 0..1 with 53 random bits.
    pub(super) fn unit(&mut self) -> Result<f64, GenerateError> {
        let high = u32::from_be_bytes(self.array()?) >> 5;
        let low = u32::from_be_bytes(self.array()?) >> 6;
        Ok((f64::from(high) * 67_108_864.0 + f64::from(low)) / 9_007_199_254_740_992.0)
    }

    /// Shuffles `items`, so that each order is equally likely (Fisher and Yates; Knuth's algorithm P).
    pub(super) fn shuffle(&mut self, items: &mut [u8]) -> Result<(), GenerateError> {
        for at in (1..items.len()).rev() {
            let other = self.below(at + 1)?;
            items.swap(at, other);
        }
        Ok(())
    }
}
