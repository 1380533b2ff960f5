//! Derives the key-encryption key of one slot from an operator's secret.

use zeroize::Zeroizing;

use crate::crypto::Key;
use crate::crypto::derive::{hkdf, label};
use crate::crypto::hash::sha256;
use crate::crypto::password::argon2id;
use crate::crypto::recovery;

use super::super::error::HeaderError;
use super::super::root::VaultId;
use super::super::share::Share;
use super::params::{PassParams, SlotParams};
use super::{HYBRID, KEY_FILE, PASSPHRASE, PASSPHRASE_AND_FILE, RECOVERY, SHARES};

/// A secret that opens a slot.
#[derive(Clone, Copy)]
pub enum Unlock<'a> {
    /// A passphrase, already normalised (`crypto::password::normalise`).
    Passphrase(&'a [u8]),
    /// The bytes of a key file, 32 to 65536.
    KeyFile(&'a [u8]),
    /// A passphrase and a key file. Both are needed.
    PassphraseAndFile {
        /// The normalised passphrase.
        passphrase: &'a [u8],
        /// The bytes of the key file, 32 to 65536.
        file: &'a [u8],
    },
    /// The bytes of a recovery code (`crypto::recovery::RecoveryCode`).
    Recovery(&'a [u8; recovery::LEN]),
    /// Shares of one set. At least k of them open a slot; creating one takes all n.
    Shares(&'a [Share]),
    /// The normalised passphrase of the private half of a hybrid slot. It creates such a slot, and opens only such
    /// slots. [`Unlock::Passphrase`] opens them too.
    Hybrid(&'a [u8]),
}

impl Unlock<'_> {
    /// The slot type that this secret creates.
    pub fn slot_type(&self) -> u8 {
        match self {
            Self::Passphrase(_) => PASSPHRASE,
            Self::KeyFile(_) => KEY_FILE,
            Self::PassphraseAndFile { .. } => PASSPHRASE_AND_FILE,
            Self::Recovery(_) => RECOVERY,
            Self::Shares(_) => SHARES,
            Self::Hybrid(_) => HYBRID,
        }
    }

    /// Whether this secret can open a slot of type `kind`: its own type, and for a passphrase also the hybrid type.
    pub fn fits(&self, kind: u8) -> bool {
        kind == self.slot_type() || (kind == HYBRID && matches!(self, Self::Passphrase(_)))
    }
}

/// The KEK of slot (`kind`, `id`). In a hybrid slot it wraps the private half, not the root key.
pub(super) fn kek(
    (kind, id): (u8, u8),
    params: &SlotParams,
    unlock: &Unlock<'_>,
    vault: &VaultId,
) -> Result<Key, HeaderError> {
    let from = |ikm: &[u8]| Ok(hkdf(&vault.0, ikm, &[label::SLOT, &[kind, id]]));
    match (params, unlock) {
        (SlotParams::Reserved, _) => Err(HeaderError::ReservedSlot(kind)),
        (_, unlock) if !unlock.fits(kind) => Err(HeaderError::NoSlotOfType),
        (_, Unlock::KeyFile(bytes)) => from(file_hash(bytes)?.reveal()),
        (_, Unlock::Recovery(code)) => from(*code),
        (SlotParams::Pass(pass), Unlock::PassphraseAndFile { passphrase, file }) => {
            // The size of the file is checked before the expensive half.
            let hash = file_hash(file)?;
            let stretched = stretch(pass, passphrase)?;
            let mut both = Zeroizing::new([0u8; 64]);
            for (to, half) in both.chunks_mut(32).zip([stretched, hash]) {
                to.copy_from_slice(half.reveal());
            }
            from(&*both)
        }
        (SlotParams::Shares(set), Unlock::Shares(shares)) => from(set.combine(shares, vault)?.reveal()),
        (params, Unlock::Passphrase(pass) | Unlock::Hybrid(pass)) => {
            let cost = params.pass().ok_or(HeaderError::NoSlotOfType)?;
            of_passphrase((kind, id), cost, pass, vault)
        }
        _ => Err(HeaderError::NoSlotOfType),
    }
}

/// The KEK of slot (`kind`, `id`), whose only secret is a passphrase.
pub(super) fn of_passphrase(
    (kind, id): (u8, u8),
    params: &PassParams,
    pass: &[u8],
    vault: &VaultId,
) -> Result<Key, HeaderError> {
    Ok(hkdf(&vault.0, stretch(params, pass)?.reveal(), &[label::SLOT, &[kind, id]]))
}

fn stretch(params: &PassParams, pass: &[u8]) -> Result<Key, HeaderError> {
    Ok(argon2id(&params.cost, &params.salt, pass)?)
}

fn file_hash(bytes: &[u8]) -> Result<Key, HeaderError> {
    if !(32..=65_536).contains(&bytes.len()) {
        return Err(HeaderError::KeyFileSize);
    }
    Ok(Key::fill_with(|out| *out = sha256(&[label::KEY_FILE, bytes])))
}
