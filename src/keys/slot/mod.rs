//! Key slots: the root key, wrapped with an operator's secret.

mod kek;
mod params;

pub use kek::Unlock;

use crate::crypto::aead::Suite;
use crate::crypto::codec::{Reader, Writer};
use crate::crypto::derive::label;
use crate::crypto::hybrid::{Private, Public};
use crate::crypto::password::{OPEN_FLOOR, Params};
use crate::crypto::wrap::{self, WRAPPED_LEN};
use crate::crypto::{CryptoError, Key, Random};

use super::error::{HeaderError, parsing};
use super::header::MAGIC;
use super::root::{RootKey, VaultId};
use super::share::ShareSet;
use params::{HybridParams, PassParams, SlotParams, costly};

/// Slot type of a passphrase.
pub const PASSPHRASE: u8 = 1;
/// Slot type of a key file.
pub const KEY_FILE: u8 = 2;
/// Slot type of a passphrase together with a key file.
pub const PASSPHRASE_AND_FILE: u8 = 3;
/// Slot type of a recovery code.
pub const RECOVERY: u8 = 4;
/// Slot type of a Shamir set: k of n shares.
pub const SHARES: u8 = 5;
/// Slot type of a device or an external service; reserved.
pub const DEVICE: u8 = 6;
/// Slot type of a hybrid key pair, the only type that can be sealed again without its secret.
pub const HYBRID: u8 = 7;
/// Highest slot type that v1 knows.
pub const LAST_TYPE: u8 = 7;
/// Longest label in bytes.
pub const MAX_LABEL: usize = 64;

const MAX_PARAMS: usize = 4096;
const STATE_ACTIVE: u8 = 1;

/// Whether a derivation below the floor is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeakKdf {
    /// Reject it. This is the default everywhere.
    Refuse,
    /// Allow it, because the operator asked for it. At creation the open floor still applies.
    Allow,
}

/// A slot to be created.
pub struct NewSlot<'a> {
    /// Name for operators, at most 64 bytes. Stored in clear text, covered by the header MAC.
    pub label: &'a str,
    /// The secret that will open the slot. [`Unlock::Shares`] takes all shares of a new set.
    pub secret: Unlock<'a>,
    /// Cost of Argon2id, for the types that have a passphrase.
    pub params: Params,
}

/// One key slot as stored. Contains no secret in clear text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    kind: u8,
    id: u8,
    suite: Suite,
    params: Vec<u8>,
    label: String,
    wrapped: [u8; WRAPPED_LEN],
}

/// The name of a slot type, for lists.
pub fn type_name(kind: u8) -> &'static str {
    match kind {
        PASSPHRASE => "passphrase",
        KEY_FILE => "key-file",
        PASSPHRASE_AND_FILE => "passphrase+key-file",
        RECOVERY => "recovery-code",
        SHARES => "shares",
        DEVICE => "device",
        HYBRID => "hybrid",
        _ => "unknown",
    }
}

impl Slot {
    /// The slot type: one of the constants of this module.
    pub fn slot_type(&self) -> u8 {
        self.kind
    }

    /// The name of the slot type, for lists.
    pub fn type_name(&self) -> &'static str {
        type_name(self.kind)
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

    /// Returns the slot with another label of at most [`MAX_LABEL`] bytes. Only the header's MAC covers the label, so
    /// the secret still opens the slot.
    pub(crate) fn labelled(&self, label: &str) -> Self {
        Self { label: label.to_owned(), ..self.clone() }
    }

    /// The cost of Argon2id, for the types that have a passphrase.
    pub fn cost(&self) -> Option<Params> {
        self.parsed().ok()?.pass().map(|pass| pass.cost)
    }

    /// Set id, k and n of a Shamir slot. It can also check single shares as they are typed in.
    pub fn share_set(&self) -> Option<ShareSet> {
        match self.parsed().ok()? {
            SlotParams::Shares(set) => Some(set),
            _ => None,
        }
    }

    /// Whether the slot is meant for the loss of the everyday secret: recovery code or shares.
    pub fn is_recovery(&self) -> bool {
        matches!(self.kind, RECOVERY | SHARES)
    }

    /// Whether [`Slot::reseal_absent`] works.
    pub fn reseals_absent(&self) -> bool {
        self.kind == HYBRID
    }

    /// Wraps the root key for a new secret.
    ///
    /// # Errors
    /// [`HeaderError::WeakKdf`] below the write floor (with [`WeakKdf::Allow`]: below the open floor);
    /// [`HeaderError::KdfTooCostly`]; [`HeaderError::KeyFileSize`]; [`HeaderError::Limit`] for the label;
    /// [`HeaderError::Share`] unless all shares of one set are given; [`HeaderError::Crypto`].
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
        let (kind, label) = (new.secret.slot_type(), new.label.to_owned());
        let mut slot = Self { kind, id, suite, params: Vec::new(), label, wrapped: [0; WRAPPED_LEN] };
        let mut out = Writer::new();
        let parsed = match new.secret {
            // Both are random, so nobody can guess them and they need no costly derivation.
            Unlock::KeyFile(_) | Unlock::Recovery(_) => SlotParams::Nothing,
            Unlock::Passphrase(_) | Unlock::PassphraseAndFile { .. } => {
                let pass = PassParams::fresh(new.params, policy, random)?;
                pass.encode(&mut out);
                SlotParams::Pass(pass)
            }
            Unlock::Shares(shares) => {
                let (set, _) = ShareSet::of_all(shares, vault)?;
                set.encode(&mut out);
                SlotParams::Shares(set)
            }
            Unlock::Hybrid(passphrase) => {
                let pass = PassParams::fresh(new.params, policy, random)?;
                return slot.seal_hybrid(pass, passphrase, (vault, flags), root, random);
            }
        };
        slot.params = out.into_public();
        let kek = kek::kek((kind, id), &parsed, &new.secret, vault)?;
        slot.wrap(&kek, vault, flags, root, random)?;
        Ok(slot)
    }

    /// Creates a key pair. The passphrase wraps the private half, and the public half wraps the root key.
    fn seal_hybrid(
        mut self,
        pass: PassParams,
        passphrase: &[u8],
        (vault, flags): (&VaultId, u16),
        root: &RootKey,
        random: &dyn Random,
    ) -> Result<Self, HeaderError> {
        let pair = Private::generate(random)?;
        let public = pair.public();
        let aad = self.private_aad(&pass, &public, vault, flags);
        let kek = kek::of_passphrase((self.kind, self.id), &pass, passphrase, vault)?;
        let private = wrap::seal(&kek, self.suite, &aad, pair.seed(), random)?;
        let (shared, sealed) = public.encapsulate(random)?;
        let mut out = Writer::with_capacity(MAX_PARAMS);
        HybridParams { pass, public, private, sealed }.encode(&mut out);
        self.params = out.into_public();
        self.wrap(&shared, vault, flags, root, random)?;
        Ok(self)
    }

    /// Seals another root key into a hybrid slot without its holder's secret. Number, label, passphrase and key pair
    /// stay.
    ///
    /// The slot must come from a header whose MAC was verified. Otherwise the public key may belong to somebody else,
    /// who would then get the root key.
    ///
    /// # Errors
    /// [`HeaderError::SecretNeeded`] for every other type; [`HeaderError::Crypto`].
    pub fn reseal_absent(
        &self,
        root: &RootKey,
        vault: &VaultId,
        flags: u16,
        random: &dyn Random,
    ) -> Result<Self, HeaderError> {
        let SlotParams::Hybrid(mut hybrid) = self.parsed()? else { return Err(HeaderError::SecretNeeded) };
        let (shared, sealed) = hybrid.public.encapsulate(random).map_err(parsing)?;
        hybrid.sealed = sealed;
        let mut out = Writer::with_capacity(MAX_PARAMS);
        hybrid.encode(&mut out);
        let mut slot = Self { params: out.into_public(), ..self.clone() };
        slot.wrap(&shared, vault, flags, root, random)?;
        Ok(slot)
    }

    /// Seals another root key into this slot for the secret that opens it now. Parameters, number and label stay, and a
    /// share set stays the same set.
    ///
    /// The slot is opened first, so that a typing error cannot lock its holder out.
    ///
    /// # Errors
    /// As [`Slot::opens`].
    pub fn reseal(
        &self,
        unlock: &Unlock<'_>,
        root: &RootKey,
        vault: &VaultId,
        flags: u16,
        random: &dyn Random,
    ) -> Result<Self, HeaderError> {
        let key = self.wrapping_key(unlock, vault, flags)?;
        self.open_with(&key, vault, flags)?;
        if self.kind == HYBRID {
            return self.reseal_absent(root, vault, flags, random);
        }
        let mut slot = self.clone();
        slot.wrap(&key, vault, flags, root, random)?;
        Ok(slot)
    }

    fn wrap(
        &mut self,
        key: &Key,
        vault: &VaultId,
        flags: u16,
        root: &RootKey,
        random: &dyn Random,
    ) -> Result<(), HeaderError> {
        self.wrapped = wrap::seal(key, self.suite, &self.aad(vault, flags), root.vrk(), random)?;
        Ok(())
    }

    /// Whether the cost of opening this slot is allowed.
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

    /// Opens this one slot. Nothing else in the header is trusted yet: the caller must verify its MAC with the root
    /// key. The cost is not checked here (`Header::open_within` does that).
    ///
    /// # Errors
    /// [`HeaderError::WrongSecret`] (failures of commitment and tag look the same); [`HeaderError::NoSlotOfType`] when
    /// the secret is of another type; [`HeaderError::KeyFileSize`], [`HeaderError::Share`],
    /// [`HeaderError::ReservedSlot`], [`HeaderError::Crypto`].
    pub fn opens(&self, unlock: &Unlock<'_>, vault: &VaultId, flags: u16) -> Result<RootKey, HeaderError> {
        let key = self.wrapping_key(unlock, vault, flags)?;
        self.open_with(&key, vault, flags)
    }

    fn open_with(&self, key: &Key, vault: &VaultId, flags: u16) -> Result<RootKey, HeaderError> {
        let vrk = wrap::open(key, self.suite, &self.aad(vault, flags), &self.wrapped).map_err(wrong)?;
        Ok(RootKey::new(vrk, vault))
    }

    /// The key that wraps the root key: the KEK, or the one that the private half opens.
    fn wrapping_key(&self, unlock: &Unlock<'_>, vault: &VaultId, flags: u16) -> Result<Key, HeaderError> {
        let parsed = self.parsed()?;
        let kek = kek::kek((self.kind, self.id), &parsed, unlock, vault)?;
        let SlotParams::Hybrid(hybrid) = parsed else { return Ok(kek) };
        let aad = self.private_aad(&hybrid.pass, &hybrid.public, vault, flags);
        let seed = wrap::open(&kek, self.suite, &aad, &hybrid.private).map_err(wrong)?;
        Private::from_seed(seed).decapsulate(&hybrid.sealed).map_err(wrong)
    }

    fn parsed(&self) -> Result<SlotParams, HeaderError> {
        SlotParams::parse(self.kind, &self.params)
    }

    fn aad(&self, vault: &VaultId, flags: u16) -> Vec<u8> {
        let mut aad = self.aad_start(label::SLOT_AAD, vault, flags);
        aad.lp(&self.params);
        aad.into_public()
    }

    /// Associated data that binds the wrapped private half to everything that stays when the slot is sealed again,
    /// above all the public key.
    fn private_aad(&self, pass: &PassParams, public: &Public, vault: &VaultId, flags: u16) -> Vec<u8> {
        let mut aad = self.aad_start(label::PRIVATE_AAD, vault, flags);
        pass.encode(&mut aad);
        aad.bytes(public.as_bytes());
        aad.into_public()
    }

    fn aad_start(&self, label: &[u8], vault: &VaultId, flags: u16) -> Writer {
        let mut aad = Writer::with_capacity(64 + self.params.len());
        aad.bytes(label).bytes(MAGIC).bytes(&vault.0).u16(flags);
        aad.u8(self.kind).u8(self.id).u8(self.suite.byte());
        aad
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
        SlotParams::parse(kind, params)?;
        let label = reader.lp_max(MAX_LABEL).map_err(parsing)?;
        let label = std::str::from_utf8(label).map_err(|_| HeaderError::Damaged("slot label"))?;
        let wrapped = *reader.array().map_err(parsing)?;
        Ok(Self { kind, id, suite, params: params.to_vec(), label: label.to_owned(), wrapped })
    }
}

/// Maps errors so that an attempt reveals only that the secret is wrong.
fn wrong(error: CryptoError) -> HeaderError {
    match error {
        CryptoError::WrongKey | CryptoError::Damaged | CryptoError::Malformed(_) => HeaderError::WrongSecret,
        other => HeaderError::Crypto(other),
    }
}

#[cfg(test)]
mod tests;
