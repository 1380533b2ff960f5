//! Shares of a Shamir slot: creating a set, the printed text, and combining shares.
//!
//! The text is `srs1-` and 29 groups of four symbols of Crockford's base32. They encode `version u8 = 1 ‖ vault_id[16]
//! ‖ set_id[16] ‖ k ‖ n ‖ x ‖ y[32] ‖ check[4]`.

use zeroize::Zeroizing;

use crate::crypto::base32::{symbol, symbols, to_bytes, to_symbols};
use crate::crypto::codec::{Reader, Writer};
use crate::crypto::derive::label;
use crate::crypto::hash::{equal, sha256};
use crate::crypto::shamir::{self, Point};
use crate::crypto::{CryptoError, Key, Random, SecretBytes};

use super::root::VaultId;

/// First symbols of a printed share.
pub const PREFIX: &str = "srs1";

const VERSION: u8 = 1;
const BODY: usize = 1 + 16 + 16 + 3 + 32;
const LEN: usize = BODY + 4;
const GROUP: usize = 4;

/// Why a share cannot be parsed or does not help to open a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// The text does not start with `srs1`, or has the wrong length.
    #[error("this is not a share: a share starts with srs1- and has 29 groups of four")]
    NotAShare,
    /// The share was printed by a later version.
    #[error("the share needs a newer version")]
    TooNew,
    /// A symbol is wrong: a typing error, or the print is damaged.
    #[error("the share is damaged or has a typing error: its check fails")]
    Damaged,
    /// The share was made for another vault.
    #[error("the share belongs to another vault")]
    Foreign,
    /// The share belongs to another set than the slot, usually to one that was replaced.
    #[error("the share belongs to an older set of shares")]
    OtherSet,
    /// The share names this set, but it differs from the one that was created with its number.
    #[error("share {0} is not the one that was created for this slot")]
    Wrong(u8),
    /// A share was given twice.
    #[error("share {0} was given twice")]
    Duplicate(u8),
    /// More shares are needed.
    #[error("{have} of {need} shares entered")]
    NotEnough {
        /// Number of correct shares so far.
        have: u8,
        /// Number of shares needed.
        need: u8,
    },
}

/// One share. As secret as a key, because `k` shares are the key. Wiped on drop.
pub struct Share {
    vault: VaultId,
    set: [u8; 16],
    k: u8,
    n: u8,
    point: Point,
}

impl Share {
    /// Generates a random secret and splits it into `n` shares with a new set id. The secret itself is dropped: combine
    /// the shares to get it.
    ///
    /// # Errors
    /// [`CryptoError::Parameters`] unless 2 <= k <= n <= 32; [`CryptoError::Random`] when the random source fails.
    pub fn create(vault: &VaultId, k: u8, n: u8, random: &dyn Random) -> Result<Vec<Self>, CryptoError> {
        let mut set = [0; 16];
        random.fill(&mut set)?;
        let points = shamir::split(&Key::random(random)?, k, n, random)?;
        Ok(points.into_iter().map(|point| Self { vault: *vault, set, k, n, point }).collect())
    }

    /// The vault that the share belongs to.
    #[cfg(any(test, feature = "testing"))]
    pub fn vault(&self) -> &VaultId {
        &self.vault
    }

    /// The set that the share belongs to.
    pub fn set_id(&self) -> &[u8; 16] {
        &self.set
    }

    /// Number of shares that open the slot.
    #[cfg(any(test, feature = "testing"))]
    pub fn needed(&self) -> u8 {
        self.k
    }

    /// Number of shares that were created.
    #[cfg(any(test, feature = "testing"))]
    pub fn total(&self) -> u8 {
        self.n
    }

    /// Number of the share, counted from 1.
    pub fn number(&self) -> u8 {
        self.point.x
    }

    /// The hash that the slot stores to recognize the share. It does not help to guess y, which is 256 random bits.
    pub(crate) fn hash(&self) -> [u8; 32] {
        sha256(&[label::SHARE, &self.set, &[self.point.x], self.point.y.reveal()])
    }

    /// Parses a printed share. Case, spaces and hyphens do not matter, O means 0, I and L mean 1.
    ///
    /// # Errors
    /// [`ShareError::NotAShare`] for a text of another form, [`ShareError::TooNew`] for the share of a later version,
    /// [`ShareError::Damaged`] when its check fails.
    pub fn parse(text: &str) -> Result<Self, ShareError> {
        let values = symbols(text).map_err(|_| ShareError::NotAShare)?;
        let wanted = symbols(PREFIX).map_err(|_| ShareError::NotAShare)?;
        let values = values.strip_prefix(wanted.as_slice()).ok_or(ShareError::NotAShare)?;
        if values.len() != (LEN * 8).div_ceil(5) {
            return Err(ShareError::NotAShare);
        }
        let bytes: Zeroizing<[u8; LEN]> = to_bytes(values).ok_or(ShareError::Damaged)?;
        Self::decode(&bytes)
    }

    fn decode(bytes: &[u8; LEN]) -> Result<Self, ShareError> {
        let (body, check) = bytes.split_at(BODY);
        if check != check_of(body) {
            return Err(ShareError::Damaged);
        }
        let damaged = |_: CryptoError| ShareError::Damaged;
        let mut reader = Reader::new(body);
        if reader.u8().map_err(damaged)? != VERSION {
            return Err(ShareError::TooNew);
        }
        let vault = VaultId(*reader.array().map_err(damaged)?);
        let set = *reader.array().map_err(damaged)?;
        let [k, n, x] = *reader.array().map_err(damaged)?;
        if !shamir::valid(k, n) || x == 0 || x > n {
            return Err(ShareError::Damaged);
        }
        let y: &[u8; 32] = reader.array().map_err(damaged)?;
        let y = Key::fill_with(|out| out.copy_from_slice(y));
        Ok(Self { vault, set, k, n, point: Point { x, y } })
    }

    /// The text to print once, for one holder.
    pub fn render(&self) -> SecretBytes {
        let mut body = Writer::with_capacity(LEN);
        body.u8(VERSION).bytes(&self.vault.0).bytes(&self.set);
        body.u8(self.k).u8(self.n).u8(self.point.x).bytes(self.point.y.reveal());
        let check = check_of(body.as_slice());
        body.bytes(&check);
        let values = to_symbols(body.as_slice());
        let mut text = Writer::with_capacity(PREFIX.len() + values.len() + values.len().div_ceil(GROUP));
        text.bytes(PREFIX.as_bytes());
        for group in values.chunks(GROUP) {
            text.u8(b'-');
            for value in group {
                text.bytes(symbol(*value).encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        text.into_secret()
    }
}

fn check_of(body: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = sha256(&[label::SHARE_CHECK, body]);
    [a, b, c, d]
}

/// What a Shamir slot stores about its shares. None of it is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareSet {
    /// Random id of the set. A new set gets a new one.
    pub set_id: [u8; 16],
    /// Number of shares that open the slot.
    pub k: u8,
    /// Number of shares that were created.
    pub n: u8,
    pub(crate) hashes: Vec<[u8; 32]>,
}

impl ShareSet {
    /// Builds the description of a set and its secret from all its shares. Used when a slot is created. Every share
    /// must be given and lie on the same polynomials, or a holder would keep a useless one.
    pub(crate) fn of_all(shares: &[Share], vault: &VaultId) -> Result<(Self, Key), ShareError> {
        let first = shares.first().ok_or(ShareError::NotEnough { have: 0, need: shamir::MIN_THRESHOLD })?;
        let mut sorted: Vec<&Share> = shares.iter().collect();
        sorted.sort_by_key(|share| share.point.x);
        for (share, next) in sorted.iter().zip(sorted.iter().skip(1)) {
            if share.point.x == next.point.x {
                return Err(ShareError::Duplicate(share.point.x));
            }
        }
        let have = u8::try_from(sorted.len()).map_err(|_| ShareError::Damaged)?;
        if have < first.n {
            return Err(ShareError::NotEnough { have, need: first.n });
        }
        // All numbers from 1 to n occur once, so each hash is at the index of its share.
        let hashes = sorted.iter().map(|share| share.hash()).collect();
        let set = Self { set_id: first.set, k: first.k, n: first.n, hashes };
        set.good(&sorted, vault)?;
        let (base, rest) = sorted.split_at_checked(usize::from(set.k)).ok_or(ShareError::Damaged)?;
        let mut points: Vec<&Point> = base.iter().map(|share| &share.point).collect();
        let secret = shamir::combine(&points).map_err(|_| ShareError::Damaged)?;
        for share in rest {
            points.pop();
            points.push(&share.point);
            let same = shamir::combine(&points).map_err(|_| ShareError::Damaged)?.ct_eq(&secret);
            if !same {
                return Err(ShareError::Wrong(share.point.x));
            }
        }
        Ok((set, secret))
    }

    /// Returns the secret of `shares`. More shares than needed are checked and then ignored.
    ///
    /// # Errors
    /// [`ShareError`] for the first share that does not match, or with the number of missing shares.
    pub(crate) fn combine(&self, shares: &[Share], vault: &VaultId) -> Result<Key, ShareError> {
        let shares: Vec<&Share> = shares.iter().collect();
        let have = self.good(&shares, vault)?;
        if have < self.k {
            return Err(ShareError::NotEnough { have, need: self.k });
        }
        let points: Vec<&Point> = shares.iter().take(usize::from(self.k)).map(|share| &share.point).collect();
        shamir::combine(&points).map_err(|_| ShareError::Damaged)
    }

    /// Counts `shares`. All must be correct, and none may occur twice.
    fn good(&self, shares: &[&Share], vault: &VaultId) -> Result<u8, ShareError> {
        for (at, share) in shares.iter().enumerate() {
            self.check(share, vault)?;
            if shares.iter().take(at).any(|other| other.point.x == share.point.x) {
                return Err(ShareError::Duplicate(share.point.x));
            }
        }
        // There are no duplicates, so at most 32.
        u8::try_from(shares.len()).map_err(|_| ShareError::Damaged)
    }

    /// Checks one share against the slot, so that a wrong one is reported as soon as it is typed.
    ///
    /// # Errors
    /// [`ShareError::Foreign`] for another vault, [`ShareError::OtherSet`] for another set, [`ShareError::Wrong`] when
    /// it is not the share that was made with this number.
    pub fn check(&self, share: &Share, vault: &VaultId) -> Result<(), ShareError> {
        if share.vault != *vault {
            return Err(ShareError::Foreign);
        }
        if share.set != self.set_id {
            return Err(ShareError::OtherSet);
        }
        let x = share.point.x;
        let stored = usize::from(x).checked_sub(1).and_then(|at| self.hashes.get(at));
        let same = stored.is_some_and(|hash| equal(hash, &share.hash()));
        if same && (share.k, share.n) == (self.k, self.n) { Ok(()) } else { Err(ShareError::Wrong(x)) }
    }

    pub(crate) fn encode(&self, out: &mut Writer) {
        out.bytes(&self.set_id).u8(self.k).u8(self.n);
        for hash in &self.hashes {
            out.bytes(hash);
        }
    }

    pub(crate) fn parse(params: &[u8]) -> Result<Self, CryptoError> {
        let mut reader = Reader::new(params);
        let set_id = *reader.array()?;
        let (k, n) = (reader.u8()?, reader.u8()?);
        if !shamir::valid(k, n) {
            return Err(CryptoError::Malformed("number of shares"));
        }
        let hashes = (0..n).map(|_| reader.array().copied()).collect::<Result<Vec<_>, _>>()?;
        reader.end()?;
        Ok(Self { set_id, k, n, hashes })
    }
}

#[cfg(test)]
mod tests;
