//! The vault id and the root key (VRK) with the two keys that derive from it.

use crate::crypto::derive::{hkdf, label};
use crate::crypto::hash::MacKey;
use crate::crypto::{CryptoError, Key, Random};

/// The random identity of a vault, fixed at creation. Not secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VaultId(pub [u8; 16]);

impl VaultId {
    /// A fresh random id.
    ///
    /// # Errors
    /// [`CryptoError::Random`].
    pub fn random(random: &dyn Random) -> Result<Self, CryptoError> {
        let mut id = [0; 16];
        random.fill(&mut id)?;
        Ok(Self(id))
    }

    /// The id in bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// VRK and what derives from it: the header MAC key and the keyring key.
pub struct RootKey {
    vrk: Key,
    pub(crate) header_mac: MacKey,
    pub(crate) ring: Key,
}

impl RootKey {
    /// Derives K_hdr and K_ring: HKDF with the vault id as salt (RFC 5869).
    pub fn new(vrk: Key, vault: &VaultId) -> Self {
        let derived = |name: &[u8]| hkdf(&vault.0, vrk.reveal(), &[name]);
        let (header_mac, ring) = (MacKey::new(&derived(label::HEADER_MAC)), derived(label::KEYRING));
        Self { vrk, header_mac, ring }
    }

    /// A fresh random root key.
    ///
    /// # Errors
    /// [`CryptoError::Random`].
    pub fn random(vault: &VaultId, random: &dyn Random) -> Result<Self, CryptoError> {
        Ok(Self::new(Key::random(random)?, vault))
    }

    /// The root key itself, for sealing it into a slot.
    pub(crate) fn vrk(&self) -> &Key {
        &self.vrk
    }
}
