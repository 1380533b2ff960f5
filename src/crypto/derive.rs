//! HKDF-SHA-256 (RFC 5869), and the only table of context labels of format v1.

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::Key;

/// Every label used in a hash, a MAC or a derivation. ASCII, without NUL.
pub mod label {
    /// Start of the associated data of a record.
    pub const RECORD: &[u8] = b"sr1 rec";
    /// Start of the associated data of a key slot.
    pub const SLOT_AAD: &[u8] = b"sr1 slt";
    /// Expands the encryption key of one record.
    pub const ENCRYPT: &[u8] = b"sr1 enc";
    /// Expands the commitment of one record.
    pub const COMMIT: &[u8] = b"sr1 com";
    /// Hedged salt of a record.
    pub const HEDGE: &[u8] = b"sr1 hdg";
    /// Root key to header MAC key.
    pub const HEADER_MAC: &[u8] = b"sr1 hdr-mac";
    /// Root key to keyring key.
    pub const KEYRING: &[u8] = b"sr1 keyring";
    /// Slot secret to key-encryption key. The type and the id of the slot follow.
    pub const SLOT: &[u8] = b"sr1 slot";
    /// Hash of a key file.
    pub const KEY_FILE: &[u8] = b"sr1 kf";
    /// Hash of one share of a Shamir set, stored in its slot.
    pub const SHARE: &[u8] = b"sr1 share";
    /// Check of a printed share.
    pub const SHARE_CHECK: &[u8] = b"sr1 share-check";
    /// Check of a recovery code.
    pub const RECOVERY_CHECK: &[u8] = b"sr1 recovery-check";
    /// Expands the seed of a hybrid private key. "x", "d" or "z" follows.
    pub const HYBRID_SEED: &[u8] = b"sr1 hybrid-seed";
    /// Combines the two shared secrets of a hybrid encapsulation.
    pub const HYBRID: &[u8] = b"sr1 hybrid";
    /// Start of the associated data of the wrapped private key of a hybrid slot.
    pub const PRIVATE_AAD: &[u8] = b"sr1 prv";
    /// Fingerprint of a destroyed term key.
    pub const TERM: &[u8] = b"sr1 term";
    /// Tag of a secret's current state, for clients that ask again.
    pub const TAG: &[u8] = b"sr1 etag";
    /// Leaf of the set hash.
    pub const LEAF: &[u8] = b"sr1 leaf";
    /// First tag of an anchor slot.
    pub const ANCHOR_ONE: &[u8] = b"sr1 anc1";
    /// Second tag of an anchor slot.
    pub const ANCHOR_TWO: &[u8] = b"sr1 anc2";
    /// Identifier of a mount root.
    pub const ROOT_ID: &[u8] = b"r";
    /// Identifier of a node under its parent.
    pub const NODE_ID: &[u8] = b"n";
    /// Identifier of an entry in a view.
    pub const ENTRY_ID: &[u8] = b"e";
}

/// Derives a 32-byte key: HKDF with `salt` and `info` over `ikm` (RFC 5869; `info` is given in parts).
pub fn hkdf(salt: &[u8], ikm: &[u8], info: &[&[u8]]) -> Key {
    let prk = Hkdf::<Sha256>::new(Some(salt), ikm);
    Key::fill_with(|out| expand(&prk, info, out))
}

/// The two values that one record derives from its salt and context.
pub struct RecordKeys {
    /// Key of exactly one AEAD seal.
    pub encrypt: Zeroizing<[u8; 32]>,
    /// Public commitment to key and context.
    pub commitment: [u8; 32],
}

/// Derives the keys of one record or slot: Extract(`salt`, `ikm`), then two Expands over `ctx`.
pub fn record_keys(ikm: &Key, salt: &[u8; 32], suite: u8, ctx: &[u8; 32]) -> RecordKeys {
    let prk = Hkdf::<Sha256>::new(Some(salt), ikm.reveal());
    let mut keys = RecordKeys { encrypt: Zeroizing::new([0; 32]), commitment: [0; 32] };
    expand(&prk, &[label::ENCRYPT, &[suite], ctx], &mut keys.encrypt);
    expand(&prk, &[label::COMMIT, &[suite], ctx], &mut keys.commitment);
    keys
}

fn expand(prk: &Hkdf<Sha256>, info: &[&[u8]], out: &mut [u8; 32]) {
    prk.expand_multi_info(info, out).expect("hkdf-sha-256 expands up to 8160 bytes");
}
