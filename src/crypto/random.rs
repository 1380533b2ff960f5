//! Random sources as arguments.

use std::sync::atomic::{AtomicU64, Ordering};

use super::CryptoError;
use super::hash::MacKey;

/// A source of random bytes.
pub trait Random: Send + Sync {
    /// Fills `out` completely.
    ///
    /// # Errors
    /// [`CryptoError::Random`] when the source fails. The contents of `out` must not be used then.
    fn fill(&self, out: &mut [u8]) -> Result<(), CryptoError>;
}

/// The operating system's random source (`getrandom(2)` on Linux).
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    #[allow(clippy::disallowed_methods)] // the one port through which the system source is reached
    fn fill(&self, out: &mut [u8]) -> Result<(), CryptoError> {
        getrandom::fill(out).map_err(|_| CryptoError::Random)
    }
}

/// A deterministic stream (HMAC-SHA-256 in counter mode). For tests and frozen vectors only.
pub struct SeededRandom {
    key: MacKey,
    next: AtomicU64,
}

impl SeededRandom {
    /// Makes the stream of `seed`. Calls from one thread get the same bytes in every run.
    pub fn new(seed: u64) -> Self {
        Self { key: MacKey::from_bytes(&seed.to_be_bytes()), next: AtomicU64::new(0) }
    }
}

impl Random for SeededRandom {
    fn fill(&self, out: &mut [u8]) -> Result<(), CryptoError> {
        for chunk in out.chunks_mut(32) {
            let counter = self.next.fetch_add(1, Ordering::Relaxed);
            let block = self.key.mac(&[&counter.to_be_bytes()]);
            for (to, from) in chunk.iter_mut().zip(block) {
                *to = from;
            }
        }
        Ok(())
    }
}
