//! The vault id, and the root key (VRK) with the two keys derived from it.

use crate::crypto::derive::{hkdf, label};
use crate::crypto::hash::MacKey;
use crate::crypto::{CryptoError, Key, Random};

/// The random id of a vault, fixed at creation. Not secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VaultId(pub [u8; 16]);

impl VaultId {
    /// The bytes of the id.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// The part of the root key that an open vault keeps: enough to write the next header, too little to create a slot.
pub struct HeaderKeys {
    /// K_hdr: authenticates the header.
    pub(crate) header_mac: MacKey,
    /// K_ring: seals the keyring.
    pub(crate) ring: Key,
}

impl HeaderKeys {
    /// Makes a second copy of the keys.
    pub fn duplicate(&self) -> Self {
        Self { header_mac: self.header_mac.duplicate(), ring: self.ring.duplicate() }
    }
}

/// The VRK and the keys derived from it: the header MAC key and the keyring key.
pub struct RootKey {
    vrk: Key,
    keys: HeaderKeys,
}

impl RootKey {
    /// Derives K_hdr and K_ring with HKDF, using the vault id as salt (RFC 5869).
    pub fn new(vrk: Key, vault: &VaultId) -> Self {
        let derived = |name: &[u8]| hkdf(&vault.0, vrk.reveal(), &[name]);
        let keys = HeaderKeys { header_mac: MacKey::new(&derived(label::HEADER_MAC)), ring: derived(label::KEYRING) };
        Self { vrk, keys }
    }

    /// The keys of the header.
    pub fn header_keys(&self) -> &HeaderKeys {
        &self.keys
    }

    /// Wipes the root key and keeps the keys of the header. Afterwards, creating a slot requires opening one again.
    pub fn into_header_keys(self) -> HeaderKeys {
        self.keys
    }

    /// Generates a random root key.
    ///
    /// # Errors
    /// [`CryptoError::Random`] when the random source fails.
    pub fn random(vault: &VaultId, random: &dyn Random) -> Result<Self, CryptoError> {
        Ok(Self::new(Key::random(random)?, vault))
    }

    /// The root key itself, for sealing it into a slot.
    pub(crate) fn vrk(&self) -> &Key {
        &self.vrk
    }
}
