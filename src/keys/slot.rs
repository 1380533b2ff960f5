//! Key slots: the root key, wrapped under a passphrase or a key file.

use crate::crypto::aead::{NONCE_LEN, Suite, TAG_LEN, open_in_place, seal_in_place};
use crate::crypto::codec::{Reader, Writer};
use crate::crypto::derive::{hkdf, label, record_keys};
use crate::crypto::hash::{equal, sha256};
use crate::crypto::password::{OPEN_FLOOR, Params, WRITE_FLOOR, argon2id};
use crate::crypto::{CryptoError, Key, Random};

use super::error::{HeaderError, parsing};
use super::header::MAGIC;
use super::root::{RootKey, VaultId};

/// Slot type of a passphrase.
pub const PASSPHRASE: u8 = 1;
/// Slot type of a key file.
pub const KEY_FILE: u8 = 2;
/// Highest slot type that v1 reserves.
pub const LAST_TYPE: u8 = 7;
/// Longest label in bytes.
pub const MAX_LABEL: usize = 64;

const MAX_PARAMS: usize = 4096;
const STATE_ACTIVE: u8 = 1;
const WRAPPED_LEN: usize = 32 + 32 + NONCE_LEN + 32 + TAG_LEN;

/// Whether a derivation below the floor may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeakKdf {
    /// Refuse it (the default everywhere).
    Refuse,
    /// Use it: the operator said so. At creation the open floor still holds.
    Allow,
}

/// A secret that opens a slot.
#[derive(Clone, Copy)]
pub enum Unlock<'a> {
    /// A passphrase, already in normal form (`crypto::password::normalise`).
    Passphrase(&'a [u8]),
    /// The bytes of a key file, 32 to 65536.
    KeyFile(&'a [u8]),
}

impl Unlock<'_> {
    /// The slot type that this secret belongs to.
    pub fn slot_type(&self) -> u8 {
        match self {
            Self::Passphrase(_) => PASSPHRASE,
            Self::KeyFile(_) => KEY_FILE,
        }
    }
}

/// A slot to be made.
pub struct NewSlot<'a> {
    /// Shown to operators; at most 64 bytes. Stored in the clear, under the header MAC.
    pub label: &'a str,
    /// The secret that will open the slot.
    pub secret: Unlock<'a>,
    /// Argon2id cost; a key file does not use it.
    pub params: Params,
}

/// One key slot as stored. Holds no clear secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    kind: u8,
    id: u8,
    suite: Suite,
    params: Vec<u8>,
    label: String,
    wrapped: [u8; WRAPPED_LEN],
}

struct PassParams<'a> {
    cost: Params,
    salt: &'a [u8; 32],
}

impl<'a> PassParams<'a> {
    fn parse(params: &'a [u8]) -> Result<Self, CryptoError> {
        let mut reader = Reader::new(params);
        let cost = Params { m_kib: reader.u32()?, t: reader.u32()?, p: reader.u32()? };
        let salt = reader.array()?;
        reader.end()?;
        Ok(Self { cost, salt })
    }
}

impl Slot {
    /// The slot type: 1 passphrase, 2 key file, 3 to 7 reserved.
    pub fn slot_type(&self) -> u8 {
        self.kind
    }

    /// The slot number, unique in its header.
    pub fn id(&self) -> u8 {
        self.id
    }

    /// The suite that wraps the root key.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// The operator's name for the slot.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The Argon2id cost of a passphrase slot.
    pub fn cost(&self) -> Option<Params> {
        if self.kind != PASSPHRASE {
            return None;
        }
        PassParams::parse(&self.params).ok().map(|params| params.cost)
    }

    /// Wraps the root key for a new secret.
    ///
    /// # Errors
    /// [`HeaderError::WeakKdf`] below the write floor (with [`WeakKdf::Allow`]: below the open
    /// floor), [`HeaderError::KdfTooCostly`], [`HeaderError::KeyFileSize`], [`HeaderError::Limit`]
    /// for the label, [`HeaderError::Crypto`].
    pub fn seal(
        new: &NewSlot<'_>,
        id: u8,
        bound: (&VaultId, u16, Suite),
        root: &RootKey,
        random: &dyn Random,
        policy: WeakKdf,
    ) -> Result<Self, HeaderError> {
        let (vault, flags, suite) = bound;
        if new.label.len() > MAX_LABEL {
            return Err(HeaderError::Limit("slot label is longer than 64 bytes"));
        }
        let mut params = Writer::with_capacity(44);
        if let Unlock::Passphrase(_) = new.secret {
            costly(new.params.check())?;
            let floor = if policy == WeakKdf::Allow { OPEN_FLOOR } else { WRITE_FLOOR };
            if !new.params.reaches(&floor) {
                return Err(HeaderError::WeakKdf);
            }
            let mut salt = [0; 32];
            random.fill(&mut salt)?;
            params.u32(new.params.m_kib).u32(new.params.t).u32(new.params.p).bytes(&salt);
        }
        let mut slot = Self {
            kind: new.secret.slot_type(),
            id,
            suite,
            params: params.into_public(),
            label: new.label.to_owned(),
            wrapped: [0; WRAPPED_LEN],
        };
        let kek = slot.kek(&new.secret, vault)?;
        slot.wrap(&kek, vault, flags, root, random)?;
        Ok(slot)
    }

    fn wrap(
        &mut self,
        kek: &Key,
        vault: &VaultId,
        flags: u16,
        root: &RootKey,
        random: &dyn Random,
    ) -> Result<(), HeaderError> {
        let aad = self.aad(vault, flags);
        let mut noise = [0u8; 32 + NONCE_LEN];
        random.fill(&mut noise)?;
        let mut reader = Reader::new(&noise);
        let (salt, nonce) = (reader.array()?, reader.array()?);
        let keys = record_keys(kek, salt, self.suite.byte(), &sha256(&[&aad]));
        let mut sealed = [0u8; 32];
        sealed.copy_from_slice(root.vrk().reveal());
        let tag = seal_in_place(self.suite, &keys.encrypt, nonce, &aad, &mut sealed)?;
        let mut wrapped = Writer::with_capacity(WRAPPED_LEN);
        wrapped.bytes(salt).bytes(&keys.commitment).bytes(nonce).bytes(&sealed).bytes(&tag);
        self.wrapped.copy_from_slice(wrapped.as_slice());
        Ok(())
    }

    /// Whether the cost of this slot may be spent.
    pub(crate) fn admit(&self, policy: WeakKdf, memory_limit: Option<u64>) -> Result<(), HeaderError> {
        match self.cost() {
            Some(cost) => {
                costly(cost.check_within(memory_limit))?;
                if policy == WeakKdf::Refuse && !cost.reaches(&OPEN_FLOOR) {
                    return Err(HeaderError::WeakKdf);
                }
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Unwraps the root key. Commitment and tag failures look the same to the caller.
    ///
    /// # Errors
    /// [`HeaderError::WrongSecret`], [`HeaderError::KeyFileSize`], [`HeaderError::ReservedSlot`],
    /// [`HeaderError::Crypto`].
    pub(crate) fn unwrap_root(&self, unlock: &Unlock<'_>, vault: &VaultId, flags: u16) -> Result<RootKey, HeaderError> {
        let kek = self.kek(unlock, vault)?;
        let aad = self.aad(vault, flags);
        let mut reader = Reader::new(&self.wrapped);
        let salt = reader.array()?;
        let committed: &[u8; 32] = reader.array()?;
        let nonce = reader.array()?;
        let sealed: &[u8; 32] = reader.array()?;
        let tag = reader.array()?;
        let keys = record_keys(&kek, salt, self.suite.byte(), &sha256(&[&aad]));
        if !equal(&keys.commitment, committed) {
            return Err(HeaderError::WrongSecret);
        }
        let mut opened = Ok(());
        let vrk = Key::fill_with(|out| {
            out.copy_from_slice(sealed);
            opened = open_in_place(self.suite, &keys.encrypt, nonce, &aad, out, tag);
        });
        opened.map_err(|_| HeaderError::WrongSecret)?;
        Ok(RootKey::new(vrk, vault))
    }

    fn kek(&self, unlock: &Unlock<'_>, vault: &VaultId) -> Result<Key, HeaderError> {
        let ikm = match (self.kind, unlock) {
            (PASSPHRASE, Unlock::Passphrase(pass)) => {
                let params = PassParams::parse(&self.params).map_err(parsing)?;
                argon2id(&params.cost, params.salt, pass)?
            }
            (KEY_FILE, Unlock::KeyFile(bytes)) => {
                if !(32..=65_536).contains(&bytes.len()) {
                    return Err(HeaderError::KeyFileSize);
                }
                Key::fill_with(|out| *out = sha256(&[label::KEY_FILE, bytes]))
            }
            (PASSPHRASE | KEY_FILE, _) => return Err(HeaderError::NoSlotOfType),
            (reserved, _) => return Err(HeaderError::ReservedSlot(reserved)),
        };
        Ok(hkdf(&vault.0, ikm.reveal(), &[label::SLOT, &[self.kind, self.id]]))
    }

    fn aad(&self, vault: &VaultId, flags: u16) -> Vec<u8> {
        let mut aad = Writer::with_capacity(128);
        aad.bytes(label::SLOT_AAD).bytes(MAGIC).bytes(&vault.0).u16(flags);
        aad.u8(self.kind).u8(self.id).u8(self.suite.byte()).lp(&self.params);
        aad.into_public()
    }

    pub(crate) fn encode(&self, out: &mut Writer) {
        out.u8(self.kind).u8(self.id).u8(STATE_ACTIVE).u8(self.suite.byte());
        out.lp(&self.params).lp(self.label.as_bytes()).bytes(&self.wrapped);
    }

    pub(crate) fn parse(reader: &mut Reader<'_>) -> Result<Self, HeaderError> {
        let kind = reader.u8().map_err(parsing)?;
        if kind == 0 || kind > LAST_TYPE {
            return Err(HeaderError::TooNew("slot type"));
        }
        let id = reader.u8().map_err(parsing)?;
        if reader.u8().map_err(parsing)? != STATE_ACTIVE {
            return Err(HeaderError::Damaged("slot state"));
        }
        let suite = reader.u8().and_then(Suite::try_from).map_err(parsing)?;
        let params = reader.lp_max(MAX_PARAMS).map_err(parsing)?;
        match kind {
            PASSPHRASE => costly(PassParams::parse(params).map_err(parsing)?.cost.check())?,
            KEY_FILE if !params.is_empty() => return Err(HeaderError::Damaged("key file slot has parameters")),
            _ => {}
        }
        let label = reader.lp_max(MAX_LABEL).map_err(parsing)?;
        let label = std::str::from_utf8(label).map_err(|_| HeaderError::Damaged("slot label"))?;
        let wrapped = *reader.array().map_err(parsing)?;
        Ok(Self { kind, id, suite, params: params.to_vec(), label: label.to_owned(), wrapped })
    }
}

fn costly(checked: Result<(), CryptoError>) -> Result<(), HeaderError> {
    checked.map_err(|error| match error {
        CryptoError::Parameters(what) => HeaderError::KdfTooCostly(what),
        other => HeaderError::Crypto(other),
    })
}
