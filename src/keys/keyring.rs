//! The keyring: every key below the root key. It is sealed in the header (record kind 01).

use crate::crypto::codec::{Reader, Writer};
use crate::crypto::derive::label;
use crate::crypto::envelope::{self, Kind, Suite};
use crate::crypto::hash::sha256;
use crate::crypto::{CryptoError, Key, Random};

/// Largest number of terms in a keyring, including destroyed ones.
pub const MAX_TERMS: usize = 1024;

/// With more terms than this, the oldest destroyed ones are forgotten.
const KEPT_TERMS: usize = 128;

const BODY: u8 = 1;

/// The keys of one integrity set. `rekey` creates a new one.
pub struct IntegritySet {
    /// Number of the set: ascending, never reused.
    pub id: u32,
    /// Key of the leaves of the set hash.
    pub set: Key,
    /// Seals state records.
    pub state: Key,
    /// Key of the tags of the anchor's slots.
    pub anchor: Key,
    /// Key that hedges the salt of every record.
    pub hedge: Key,
}

impl IntegritySet {
    /// Generates a random set.
    ///
    /// # Errors
    /// [`CryptoError::Random`] when the random source fails.
    pub fn random(id: u32, random: &dyn Random) -> Result<Self, CryptoError> {
        let key = || Key::random(random);
        Ok(Self { id, set: key()?, state: key()?, anchor: key()?, hedge: key()? })
    }
}

/// Use of an audit key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuditState {
    /// 1: hashes and signs new entries.
    Active,
    /// 2: only verifies old entries.
    VerifyOnly,
}

/// Keys of the audit log.
pub struct AuditKey {
    /// Number of the key: ascending, never reused. Each entry names it.
    pub id: u32,
    /// Key of the HMAC of audited values.
    pub mac: Key,
    /// Signature algorithm of checkpoints: 1 = Ed25519.
    pub sign_alg: u8,
    /// Seed of the signing key.
    pub sign: Key,
    /// Use of the key.
    pub state: AuditState,
}

impl AuditKey {
    /// Makes a second copy, which is wiped like the first.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self {
            id: self.id,
            mac: self.mac.duplicate(),
            sign_alg: self.sign_alg,
            sign: self.sign.duplicate(),
            state: self.state,
        }
    }
}

/// State of a term (SP 800-57 part 1, section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TermState {
    /// 1: created, not yet used.
    PreActive,
    /// 2: seals. Exactly one term is active.
    Active,
    /// 3: only opens.
    DecryptOnly,
    /// 4: only opens, and must be drained.
    Compromised,
    /// 5: the key is destroyed. Its fingerprint stays.
    Destroyed,
}

impl TermState {
    fn byte(self) -> u8 {
        match self {
            Self::PreActive => 1,
            Self::Active => 2,
            Self::DecryptOnly => 3,
            Self::Compromised => 4,
            Self::Destroyed => 5,
        }
    }

    fn parse(byte: u8) -> Result<Self, CryptoError> {
        match byte {
            1 => Ok(Self::PreActive),
            2 => Ok(Self::Active),
            3 => Ok(Self::DecryptOnly),
            4 => Ok(Self::Compromised),
            5 => Ok(Self::Destroyed),
            _ => Err(CryptoError::Malformed("term state")),
        }
    }
}

/// The key of a term, or what is left of it.
pub enum TermKey {
    /// The key.
    Live(Key),
    /// H("sr1 term" ‖ key) of a destroyed key.
    Destroyed([u8; 32]),
}

impl TermKey {
    /// The key, unless it is destroyed.
    pub fn live(&self) -> Option<&Key> {
        match self {
            Self::Live(key) => Some(key),
            Self::Destroyed(_) => None,
        }
    }
}

/// One generation of the key that seals nodes and entries.
pub struct Term {
    /// Number of the term: ascending, never reused.
    pub id: u32,
    /// State of the term.
    pub state: TermState,
    /// Suite of the records that the term seals.
    pub suite: Suite,
    /// Time of creation in Unix milliseconds.
    pub created_ms: u64,
    /// The key.
    pub key: TermKey,
}

impl Term {
    /// Destroys the key and keeps its fingerprint. The old key is wiped.
    pub fn destroy(&mut self) {
        if let TermKey::Live(key) = &self.key {
            self.key = TermKey::Destroyed(sha256(&[label::TERM, key.reveal()]));
        }
        self.state = TermState::Destroyed;
    }
}

/// All keys below the root key.
pub struct Keyring {
    /// K_name, the key of the identifiers in the name tree. Permanent.
    pub name: Key,
    /// One or two integrity sets, ascending.
    pub integrity: Vec<IntegritySet>,
    /// Audit keys, ascending. Exactly one is active.
    pub audit: Vec<AuditKey>,
    /// Terms, ascending. Exactly one is active.
    pub terms: Vec<Term>,
}

impl Keyring {
    /// Creates the keyring of a new vault: one integrity set, one audit key and one active term, all with id 1.
    ///
    /// # Errors
    /// [`CryptoError::Random`] when the random source fails.
    pub fn create(random: &dyn Random, suite: Suite, now_ms: u64) -> Result<Self, CryptoError> {
        let key = || Key::random(random);
        let name = key()?;
        let audit = AuditKey { id: 1, mac: key()?, sign_alg: 1, sign: key()?, state: AuditState::Active };
        let term = Term { id: 1, state: TermState::Active, suite, created_ms: now_ms, key: TermKey::Live(key()?) };
        let integrity = vec![IntegritySet::random(1, random)?];
        Ok(Self { name, integrity, audit: vec![audit], terms: vec![term] })
    }

    /// Makes a second keyring with the same keys, to be changed and written as the next one. The old one is wiped when
    /// nobody uses it any more.
    pub fn duplicate(&self) -> Self {
        let integrity = self.integrity.iter().map(|set| IntegritySet {
            id: set.id,
            set: set.set.duplicate(),
            state: set.state.duplicate(),
            anchor: set.anchor.duplicate(),
            hedge: set.hedge.duplicate(),
        });
        let audit = self.audit.iter().map(AuditKey::duplicate);
        let terms = self.terms.iter().map(|term| Term {
            id: term.id,
            state: term.state,
            suite: term.suite,
            created_ms: term.created_ms,
            key: match &term.key {
                TermKey::Live(key) => TermKey::Live(key.duplicate()),
                TermKey::Destroyed(fingerprint) => TermKey::Destroyed(*fingerprint),
            },
        });
        Self {
            name: self.name.duplicate(),
            integrity: integrity.collect(),
            audit: audit.collect(),
            terms: terms.collect(),
        }
    }

    /// Adds a term and makes it active. The previous one only opens from now on. `compromised` marks all older terms as
    /// compromised. Terms that were destroyed long ago are removed; their numbers are never used again. Returns the new
    /// term's number.
    ///
    /// # Errors
    /// [`CryptoError::Random`] when the random source fails; [`CryptoError::TooLarge`] beyond [`MAX_TERMS`].
    pub fn add_term(&mut self, random: &dyn Random, now_ms: u64, compromised: bool) -> Result<u32, CryptoError> {
        let (last, suite) = (self.terms.last().map_or(0, |term| term.id), self.active_term().suite);
        while self.terms.len() >= KEPT_TERMS
            && let Some(oldest) = self.terms.iter().position(|term| term.state == TermState::Destroyed)
        {
            self.terms.remove(oldest);
        }
        let id = last.checked_add(1).filter(|_| self.terms.len() < MAX_TERMS).ok_or(CryptoError::TooLarge)?;
        let key = TermKey::Live(Key::random(random)?);
        for term in self.terms.iter_mut().filter(|term| term.state != TermState::Destroyed) {
            term.state = match term.state {
                _ if compromised => TermState::Compromised,
                TermState::Compromised => TermState::Compromised,
                _ => TermState::DecryptOnly,
            };
        }
        self.terms.push(Term { id, state: TermState::Active, suite, created_ms: now_ms, key });
        Ok(id)
    }

    /// Adds an integrity set, which seals from the next state on. The older set stays until it is dropped.
    ///
    /// # Errors
    /// [`CryptoError::Random`] when the random source fails; [`CryptoError::Malformed`] while there are already two
    /// sets.
    pub fn add_integrity(&mut self, random: &dyn Random) -> Result<u32, CryptoError> {
        if self.integrity.len() > 1 {
            return Err(CryptoError::Malformed("integrity sets"));
        }
        let id = self.newest_integrity().id.checked_add(1).ok_or(CryptoError::TooLarge)?;
        self.integrity.push(IntegritySet::random(id, random)?);
        Ok(id)
    }

    /// Drops all integrity sets except the newest.
    pub fn drop_old_integrity(&mut self) {
        self.integrity.drain(..self.integrity.len().saturating_sub(1));
    }

    /// Adds an audit key, which hashes and signs from now on. Older ones only verify. Returns its number.
    ///
    /// # Errors
    /// [`CryptoError::Random`] when the random source fails; [`CryptoError::TooLarge`] beyond 255 keys.
    pub fn add_audit(&mut self, random: &dyn Random) -> Result<u32, CryptoError> {
        let last = self.audit.last().map_or(0, |key| key.id);
        let id = last.checked_add(1).filter(|_| self.audit.len() < 255).ok_or(CryptoError::TooLarge)?;
        let (mac, sign) = (Key::random(random)?, Key::random(random)?);
        for key in &mut self.audit {
            key.state = AuditState::VerifyOnly;
        }
        self.audit.push(AuditKey { id, mac, sign_alg: 1, sign, state: AuditState::Active });
        Ok(id)
    }

    /// Destroys the key of a term. Returns `false`, and does nothing, if the term is active, already destroyed or
    /// unknown.
    pub fn destroy_term(&mut self, id: u32) -> bool {
        let old = self.terms.iter_mut().find(|term| {
            term.id == id
                && matches!(term.state, TermState::PreActive | TermState::DecryptOnly | TermState::Compromised)
        });
        old.map(Term::destroy).is_some()
    }

    /// The active term, which seals.
    pub fn active_term(&self) -> &Term {
        let active = self.terms.iter().find(|term| term.state == TermState::Active);
        active.expect("a keyring has one active term: checked when it is decoded and before it is encoded")
    }

    /// Finds a term by number.
    pub fn term(&self, id: u32) -> Option<&Term> {
        self.terms.iter().find(|term| term.id == id)
    }

    /// Finds an integrity set by number.
    pub fn integrity(&self, id: u32) -> Option<&IntegritySet> {
        self.integrity.iter().find(|set| set.id == id)
    }

    /// The integrity set that seals.
    pub fn newest_integrity(&self) -> &IntegritySet {
        self.integrity.last().expect("a keyring has an integrity set: checked when it is decoded")
    }

    /// Encodes the body of record kind 01.
    ///
    /// # Errors
    /// [`CryptoError::Malformed`] when ids are not ascending, a count is out of range, or there is not exactly one
    /// active term and one active audit key.
    pub(crate) fn encode(&self) -> Result<Writer, CryptoError> {
        self.check()?;
        let mut out = Writer::with_capacity(256 + 142 * 2 + 74 * self.audit.len() + 46 * self.terms.len());
        out.u8(BODY).bytes(self.name.reveal());
        out.u8(u8::try_from(self.integrity.len()).map_err(|_| CryptoError::Malformed("integrity sets"))?);
        for set in &self.integrity {
            out.u32(set.id).bytes(set.set.reveal()).bytes(set.state.reveal());
            out.bytes(set.anchor.reveal()).bytes(set.hedge.reveal());
        }
        out.u8(u8::try_from(self.audit.len()).map_err(|_| CryptoError::Malformed("audit keys"))?);
        for key in &self.audit {
            out.u32(key.id).bytes(key.mac.reveal()).u8(key.sign_alg).bytes(key.sign.reveal());
            out.u8(if key.state == AuditState::Active { 1 } else { 2 });
        }
        out.u32(u32::try_from(self.terms.len()).map_err(|_| CryptoError::Malformed("terms"))?);
        for term in &self.terms {
            out.u32(term.id).u8(term.state.byte()).u8(term.suite.byte()).u64(term.created_ms);
            match &term.key {
                TermKey::Live(key) => out.bytes(key.reveal()),
                TermKey::Destroyed(fingerprint) => out.bytes(fingerprint),
            };
        }
        Ok(out)
    }

    /// Decodes the body of record kind 01, including its padding.
    pub(crate) fn decode(body: &[u8]) -> Result<Self, CryptoError> {
        let mut reader = Reader::new(body);
        if reader.u8()? != BODY {
            return Err(CryptoError::Unsupported("keyring body"));
        }
        let name = key(&mut reader)?;
        let mut integrity = Vec::new();
        for _ in 0..reader.u8()? {
            integrity.push(IntegritySet {
                id: reader.u32()?,
                set: key(&mut reader)?,
                state: key(&mut reader)?,
                anchor: key(&mut reader)?,
                hedge: key(&mut reader)?,
            });
        }
        let mut audit = Vec::new();
        for _ in 0..reader.u8()? {
            audit.push(AuditKey {
                id: reader.u32()?,
                mac: key(&mut reader)?,
                sign_alg: reader.u8()?,
                sign: key(&mut reader)?,
                state: match reader.u8()? {
                    1 => AuditState::Active,
                    2 => AuditState::VerifyOnly,
                    _ => return Err(CryptoError::Malformed("audit key state")),
                },
            });
        }
        let count = reader.u32()?;
        if usize::try_from(count).map_or(true, |count| count > MAX_TERMS) {
            return Err(CryptoError::Malformed("too many terms"));
        }
        let mut terms = Vec::new();
        for _ in 0..count {
            // A destroyed term has a fingerprint in place of its key, so that old records can still be recognized.
            let (id, state) = (reader.u32()?, TermState::parse(reader.u8()?)?);
            let (suite, created_ms) = (Suite::try_from(reader.u8()?)?, reader.u64()?);
            let key = match state {
                TermState::Destroyed => TermKey::Destroyed(*reader.array()?),
                _ => TermKey::Live(key(&mut reader)?),
            };
            terms.push(Term { id, state, suite, created_ms, key });
        }
        envelope::finish(Kind::Keyring, body, reader)?;
        let keyring = Self { name, integrity, audit, terms };
        keyring.check()?;
        Ok(keyring)
    }

    fn check(&self) -> Result<(), CryptoError> {
        if !matches!(self.integrity.len(), 1 | 2) || !ascending(self.integrity.iter().map(|set| set.id)) {
            return Err(CryptoError::Malformed("integrity sets"));
        }
        let signing = self.audit.iter().filter(|key| key.state == AuditState::Active).count();
        let known = self.audit.iter().all(|key| key.sign_alg == 1);
        if signing != 1 || !known || self.audit.len() > 255 || !ascending(self.audit.iter().map(|key| key.id)) {
            return Err(CryptoError::Malformed("audit keys"));
        }
        let sealing = self.terms.iter().filter(|term| term.state == TermState::Active).count();
        let consistent =
            self.terms.iter().all(|term| term.key.live().is_some() != (term.state == TermState::Destroyed));
        let ordered = ascending(self.terms.iter().map(|term| term.id));
        if sealing != 1 || !consistent || !ordered || self.terms.len() > MAX_TERMS {
            return Err(CryptoError::Malformed("terms"));
        }
        Ok(())
    }
}

fn key(reader: &mut Reader<'_>) -> Result<Key, CryptoError> {
    let bytes: &[u8; 32] = reader.array()?;
    Ok(Key::fill_with(|out| out.copy_from_slice(bytes)))
}

/// Whether the ids are strictly ascending and greater than 0. In a record, term 0 means "no term".
fn ascending(ids: impl Iterator<Item = u32>) -> bool {
    let mut last = 0;
    for id in ids {
        if id <= last {
            return false;
        }
        last = id;
    }
    true
}
