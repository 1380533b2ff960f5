//! Passphrase to key: NFKC, then Argon2id v1.3 (RFC 9106), with lower and upper limits.

use std::time::Duration;

use argon2::{Algorithm, Argon2, Block, Version};
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_public_assigned;
use zeroize::Zeroize;

use super::codec::Writer;
use super::{CryptoError, Key, SecretBytes};

/// Cost of Argon2id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// Memory in KiB.
    pub m_kib: u32,
    /// Passes over the memory.
    pub t: u32,
    /// Lanes. They are computed one after the other here, so more than one only helps an attacker.
    pub p: u32,
}

/// Lowest cost that is written.
pub const WRITE_FLOOR: Params = Params { m_kib: 64 * 1024, t: 3, p: 1 };
/// Lowest cost that opens without explicit permission.
pub const OPEN_FLOOR: Params = Params { m_kib: 19 * 1024, t: 2, p: 1 };
/// Highest cost that is accepted from a header, which is not yet authenticated at that point.
pub const CEILING: Params = Params { m_kib: 4 * 1024 * 1024, t: 64, p: 16 };

/// Most memory that a measured cost has, KiB. More would hurt the owner's machine more than an attacker's.
const MOST_KIB: u32 = 1024 * 1024;
/// Memory of a machine that does not say how much it has, bytes.
const ASSUMED_MEMORY: u64 = 1 << 30;

/// Longest passphrase in bytes, before normalisation.
pub const MAX_PASSPHRASE: usize = 4096;

impl Default for Params {
    fn default() -> Self {
        WRITE_FLOOR
    }
}

impl Params {
    /// Whether memory and passes both reach `floor`.
    pub fn reaches(&self, floor: &Self) -> bool {
        self.m_kib >= floor.m_kib && self.t >= floor.t
    }

    /// Memory in KiB times passes. On one machine, the time of a guess is in proportion to it.
    #[must_use]
    pub fn work(&self) -> u64 {
        u64::from(self.m_kib) * u64::from(self.t)
    }

    /// Whether a guess costs an attacker at least as much as one at `other`: it takes as much memory and as much work.
    ///
    /// Memory counts by itself because it limits how many guesses can run beside each other on other hardware. Passes do
    /// not: fewer of them over more memory are no less work. Lanes do not either, because they do not change the work.
    #[must_use]
    pub fn as_dear_as(&self, other: &Self) -> bool {
        self.m_kib >= other.m_kib && self.work() >= other.work()
    }

    /// A cost that is as dear as each of `costs` and reaches [`WRITE_FLOOR`]: the most memory of any of them, and the
    /// fewest passes over it that are as much work as the most work of any of them.
    ///
    /// Work is rounded up to whole passes, so a guess takes at most half as much time again as at the costs that it is
    /// made from. Memory and passes are not raised independently: of 1 GiB, 3 passes and 64 MiB, 64 passes that would make
    /// 1 GiB, 64 passes, sixteen times the work of the dearer one.
    #[must_use]
    pub fn dearest(costs: impl IntoIterator<Item = Self>) -> Self {
        let (m_kib, work) = costs.into_iter().fold((WRITE_FLOOR.m_kib, WRITE_FLOOR.work()), |(m_kib, work), cost| {
            (m_kib.max(cost.m_kib), work.max(cost.work()))
        });
        let t = u32::try_from(work.div_ceil(u64::from(m_kib))).unwrap_or(u32::MAX);
        Self { m_kib, t: t.max(WRITE_FLOOR.t), p: WRITE_FLOOR.p }
    }

    /// Whether a derivation needs at most half of `memory` bytes. The least cost that is written is always allowed.
    #[must_use]
    pub fn fits(&self, memory: Option<u64>) -> bool {
        self.m_kib <= WRITE_FLOOR.m_kib || self.check_within(memory).is_ok()
    }

    /// Rejects costs above [`CEILING`] or outside the definition of Argon2.
    ///
    /// # Errors
    /// [`CryptoError::Parameters`], which names the first cost that is out of range.
    pub fn check(&self) -> Result<(), CryptoError> {
        if self.m_kib > CEILING.m_kib {
            return Err(CryptoError::Parameters("memory is above 4 GiB"));
        }
        if self.t == 0 || self.t > CEILING.t {
            return Err(CryptoError::Parameters("passes must be 1 to 64"));
        }
        if self.p == 0 || self.p > CEILING.p {
            return Err(CryptoError::Parameters("lanes must be 1 to 16"));
        }
        if self.m_kib < 8 * self.p {
            return Err(CryptoError::Parameters("memory is below 8 KiB for each lane"));
        }
        Ok(())
    }

    /// As [`Params::check`]. Also rejects a cost that needs more than half of `memory_limit` bytes.
    ///
    /// # Errors
    /// [`CryptoError::Parameters`] as for [`Params::check`], and when the cost needs more memory than that.
    pub fn check_within(&self, memory_limit: Option<u64>) -> Result<(), CryptoError> {
        self.check()?;
        match memory_limit {
            Some(limit) if u64::from(self.m_kib) * 1024 > limit / 2 => {
                Err(CryptoError::Parameters("memory is more than half of what this process may use"))
            }
            _ => Ok(()),
        }
    }
}

struct Matrix(Vec<Block>);

impl Drop for Matrix {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(Zeroize::zeroize);
    }
}

/// Argon2id of `pass` with a 32-byte tag. The working memory is wiped afterwards.
///
/// Limited by [`CEILING`]. Call [`Params::check_within`] first if a memory limit is known.
///
/// # Errors
/// [`CryptoError::Parameters`] outside the limits; [`CryptoError::Memory`] when there is not enough memory.
pub fn argon2id(params: &Params, salt: &[u8; 32], pass: &[u8]) -> Result<Key, CryptoError> {
    params.check()?;
    let inner = argon2::Params::new(params.m_kib, params.t, params.p, Some(32))
        .map_err(|_| CryptoError::Parameters("rejected by argon2"))?;
    let mut matrix = Matrix(Vec::new());
    matrix.0.try_reserve_exact(inner.block_count()).map_err(|_| CryptoError::Memory)?;
    matrix.0.resize(inner.block_count(), Block::default());
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, inner);
    let mut outcome = Ok(());
    let key = Key::fill_with(|out| outcome = argon.hash_password_into_with_memory(pass, salt, out, &mut matrix.0));
    outcome.map_err(|_| CryptoError::Parameters("rejected by argon2"))?;
    Ok(key)
}

/// Finds a cost that takes about `target_ms`. Raises the memory first, up to `max_m_kib`, then the passes.
///
/// `timer` runs one derivation and returns its milliseconds. It is called at most twelve times: a run that is long enough
/// is repeated, and the shorter one counts. The result is never below
/// [`WRITE_FLOOR`] or above [`CEILING`].
///
/// # Errors
/// Any error of `timer`.
pub fn calibrate(
    target_ms: u64,
    max_m_kib: u32,
    timer: &mut dyn FnMut(&Params) -> Result<u64, CryptoError>,
) -> Result<Params, CryptoError> {
    let max_m = max_m_kib.clamp(WRITE_FLOOR.m_kib, CEILING.m_kib);
    let mut params = WRITE_FLOOR;
    for _ in 0..6 {
        let enough = |took: u64| took.saturating_mul(10) >= target_ms.saturating_mul(9);
        let mut took = timer(&params)?.max(1);
        if enough(took) {
            // Other programs may have held it up. On a busy machine one slow run would make the passphrase cheap for ever.
            took = took.min(timer(&params)?.max(1));
        }
        if enough(took) {
            break;
        }
        let scaled = |cost: u32| u32::try_from(u64::from(cost).saturating_mul(target_ms) / took).unwrap_or(u32::MAX);
        let next = if params.m_kib < max_m {
            // Whole MiB, and at least one more, so that every round makes progress.
            let m = (scaled(params.m_kib) / 1024 * 1024).max(params.m_kib.saturating_add(1024));
            Params { m_kib: m.min(max_m), ..params }
        } else {
            Params { t: scaled(params.t).max(params.t.saturating_add(1)).min(CEILING.t), ..params }
        };
        if next == params {
            break;
        }
        params = next;
    }
    Ok(params)
}

/// Most memory for [`calibrate`], in KiB, in a process that may use `memory` bytes: a quarter of that, at most 1 GiB.
#[must_use]
pub fn share_of(memory: Option<u64>) -> u32 {
    let quarter = u32::try_from(memory.unwrap_or(ASSUMED_MEMORY) / 4 / 1024).unwrap_or(u32::MAX);
    quarter.clamp(WRITE_FLOOR.m_kib, MOST_KIB)
}

/// Milliseconds that one derivation takes by the clock `now`: the timer of [`calibrate`]. It must be a clock that nobody can
/// set: one that is set forward meanwhile would make the derivation look slow enough, and the passphrase cheap.
///
/// # Errors
/// [`CryptoError::Parameters`] as for [`argon2id`].
pub fn timed(params: &Params, now: &dyn Fn() -> Duration) -> Result<u64, CryptoError> {
    let start = now();
    argon2id(params, &[0; 32], b"calibration")?;
    Ok(u64::try_from(now().saturating_sub(start).as_millis()).unwrap_or(u64::MAX))
}

/// Unicode NFKC of a passphrase, so that every keyboard and system gives the same bytes.
///
/// # Errors
/// [`CryptoError::Passphrase`] when it is empty, longer than [`MAX_PASSPHRASE`], or has a code point that the pinned
/// Unicode tables do not assign. The normal form of such a code point could change later and lock its owner out.
pub fn normalise(pass: &str) -> Result<SecretBytes, CryptoError> {
    if pass.is_empty() {
        return Err(CryptoError::Passphrase("empty"));
    }
    if pass.len() > MAX_PASSPHRASE {
        return Err(CryptoError::Passphrase("longer than 4096 bytes"));
    }
    if !pass.chars().all(is_public_assigned) {
        return Err(CryptoError::Passphrase("unassigned code point"));
    }
    let mut out = Writer::with_capacity(pass.len());
    let mut buffer = [0u8; 4];
    for c in pass.nfkc() {
        out.bytes(c.encode_utf8(&mut buffer).as_bytes());
    }
    buffer.zeroize();
    Ok(out.into_secret())
}
