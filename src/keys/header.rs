//! The vault header: slots and keyring under one MAC (`docs/format.md`, "Header").

use crate::crypto::Random;
use crate::crypto::codec::{Reader, Writer};
use crate::crypto::envelope::{self, Context, Kind, Suite};
use crate::crypto::hash::MacKey;

use super::error::{HeaderError, parsing};
use super::keyring::Keyring;
use super::root::{HeaderKeys, RootKey, VaultId};
use super::share::ShareError;
use super::slot::{NewSlot, Slot, Unlock, WeakKdf};

/// First bytes of a header.
pub const MAGIC: &[u8; 8] = b"SRHDR\0\0\x01";
/// Largest header file in bytes.
pub const MAX_LEN: usize = 65_536;
/// Largest number of slots.
pub const MAX_SLOTS: usize = 32;
/// Number of slots of one type that a single attempt tries.
pub const MAX_TRIES: usize = 4;

const READER_VERSION: u16 = 1;
const MAC_LEN: usize = 32;

/// A parsed header. Its fields are authenticated only once the header is opened.
///
/// To write a successor, clone it, change the clone and call [`Header::encode_next`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Sequence number. The successor has the next one.
    pub seq: u64,
    /// Id of the vault.
    pub vault_id: VaultId,
    /// Reserved, 0. Bound to every slot.
    pub flags: u16,
    /// Epoch counter. A restore and an accepted loss increment it.
    pub epoch: u32,
    /// Lowest suite that this vault accepts.
    pub min_suite: Suite,
    /// Lowest epoch that a state may have.
    pub floor_epoch: u32,
    /// Lowest generation that a state of the floor epoch may have.
    pub floor_generation: u64,
    /// Random name of the epoch.
    pub incarnation: [u8; 16],
    /// MAC of the predecessor; zeros in the first header.
    pub prev_mac: [u8; 32],
    /// Key slots.
    pub slots: Vec<Slot>,
    /// MAC of this header.
    pub mac: [u8; 32],
    keyring: Vec<u8>,
    covered: Vec<u8>,
}

/// An opened vault: authenticated header, root key and keyring.
pub struct Opened {
    /// The verified header.
    pub header: Header,
    /// The root key.
    pub root: RootKey,
    /// All keys below the root key.
    pub keyring: Keyring,
}

impl Header {
    /// Parses a header file strictly. Nothing is authenticated yet, so nothing in it can be trusted.
    ///
    /// # Errors
    /// [`HeaderError::Damaged`] when the bytes violate the format; [`HeaderError::TooNew`] for an unknown reader
    /// version, flag, slot type or suite; [`HeaderError::KdfTooCostly`] for a slot above the ceilings.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        if bytes.len() > MAX_LEN {
            return Err(HeaderError::Damaged("longer than 65536 bytes"));
        }
        let covered_len = bytes.len().checked_sub(MAC_LEN).ok_or(HeaderError::Damaged("data ends too early"))?;
        let (covered, mac) = bytes.split_at(covered_len);
        let mac = *mac.first_chunk().ok_or(HeaderError::Damaged("data ends too early"))?;
        Self::parse_covered(&mut Reader::new(covered), bytes.len(), mac, covered)
    }

    fn parse_covered(
        reader: &mut Reader<'_>,
        length: usize,
        mac: [u8; 32],
        covered: &[u8],
    ) -> Result<Self, HeaderError> {
        if reader.array().map_err(parsing)? != MAGIC {
            return Err(HeaderError::Damaged("magic"));
        }
        if usize::try_from(reader.u32().map_err(parsing)?).ok() != Some(length) {
            return Err(HeaderError::Damaged("length"));
        }
        let seq = reader.u64().map_err(parsing)?;
        if seq == 0 {
            return Err(HeaderError::Damaged("sequence"));
        }
        let vault_id = VaultId(*reader.array().map_err(parsing)?);
        match reader.u16().map_err(parsing)? {
            0 => return Err(HeaderError::Damaged("reader version")),
            READER_VERSION => {}
            _ => return Err(HeaderError::TooNew("reader version")),
        }
        let flags = reader.u16().map_err(parsing)?;
        if flags != 0 {
            return Err(HeaderError::TooNew("flags"));
        }
        let epoch = reader.u32().map_err(parsing)?;
        if epoch == 0 {
            return Err(HeaderError::Damaged("epoch"));
        }
        // The count is checked before the slots are read, so that a damaged header cannot make the loop allocate.
        let count = usize::from(reader.u16().map_err(parsing)?);
        if !(1..=MAX_SLOTS).contains(&count) {
            return Err(HeaderError::Damaged("not 1 to 32 slots"));
        }
        let min_suite = reader.u8().and_then(Suite::try_from).map_err(parsing)?;
        if reader.u8().map_err(parsing)? != 0 {
            return Err(HeaderError::Damaged("reserved byte"));
        }
        let floor_epoch = reader.u32().map_err(parsing)?;
        if !(1..=epoch).contains(&floor_epoch) {
            return Err(HeaderError::Damaged("floor epoch"));
        }
        let floor_generation = reader.u64().map_err(parsing)?;
        let incarnation = *reader.array().map_err(parsing)?;
        let prev_mac: [u8; 32] = *reader.array().map_err(parsing)?;
        if seq == 1 && prev_mac != [0; 32] {
            return Err(HeaderError::Damaged("the first header has a predecessor"));
        }
        let slots = Self::parse_slots(reader, count, min_suite)?;
        let keyring = Self::parse_keyring(reader, seq, min_suite)?;
        if reader.remaining() != 0 {
            return Err(HeaderError::Damaged("bytes after the keyring"));
        }
        Ok(Self {
            seq,
            vault_id,
            flags,
            epoch,
            min_suite,
            floor_epoch,
            floor_generation,
            incarnation,
            prev_mac,
            slots,
            mac,
            keyring,
            covered: covered.to_vec(),
        })
    }

    fn parse_slots(reader: &mut Reader<'_>, count: usize, min_suite: Suite) -> Result<Vec<Slot>, HeaderError> {
        let mut slots: Vec<Slot> = Vec::with_capacity(count);
        for _ in 0..count {
            let slot = Slot::parse(reader)?;
            if slots.iter().any(|other| other.id() == slot.id()) {
                return Err(HeaderError::Damaged("two slots with one number"));
            }
            if slot.suite() < min_suite {
                return Err(HeaderError::Damaged("slot below the minimum suite"));
            }
            slots.push(slot);
        }
        Ok(slots)
    }

    /// The keyring, still encrypted. Its clear head must match this header, or it was copied from another one.
    fn parse_keyring(reader: &mut Reader<'_>, seq: u64, min_suite: Suite) -> Result<Vec<u8>, HeaderError> {
        let keyring = reader.lp().map_err(parsing)?.to_vec();
        let head = envelope::head(&keyring).map_err(parsing)?;
        if head.kind != Kind::Keyring || head.version != seq || head.suite < min_suite {
            return Err(HeaderError::Damaged("keyring head"));
        }
        Ok(keyring)
    }

    /// Opens the header: slot, MAC and keyring, in this order. See [`Header::open_within`].
    ///
    /// # Errors
    /// As [`Header::open_within`].
    #[cfg(any(test, feature = "testing"))]
    pub fn open(&self, unlock: &Unlock<'_>, policy: WeakKdf) -> Result<Opened, HeaderError> {
        self.open_within(unlock, policy, None)
    }

    /// As [`Header::open`]. A derivation may use at most half of `memory_limit` bytes.
    ///
    /// At most [`MAX_TRIES`] slots of the secret's type are tried, one after the other. An attempt reveals only whether
    /// the secret is wrong.
    ///
    /// # Errors
    /// [`HeaderError::NoSlotOfType`] or [`HeaderError::ReservedSlot`] when there is nothing to try.
    /// [`HeaderError::WeakKdf`] or [`HeaderError::KdfTooCostly`] when no slot opened and one was skipped.
    /// [`HeaderError::WrongSecret`] when no slot opened. [`HeaderError::KeyFileSize`] for a key file that is too short
    /// or too long. [`HeaderError::Damaged`] when the slot opened but
    /// the MAC or the keyring does not verify.
    #[cfg(any(test, feature = "testing"))]
    pub fn open_within(
        &self,
        unlock: &Unlock<'_>,
        policy: WeakKdf,
        memory_limit: Option<u64>,
    ) -> Result<Opened, HeaderError> {
        let (_, root) = self.open_slot(None, unlock, policy, memory_limit)?;
        self.authenticate(root)
    }

    /// Returns the slot that `unlock` opens, and the root key. Tries the slot `named`, or those of the secret's type.
    /// Nothing else in the header is trusted yet: the caller must verify its MAC with the root key.
    ///
    /// # Errors
    /// As [`Header::open_within`]. Also [`HeaderError::NoSlotOfType`] when `named` has another type.
    pub(crate) fn open_slot<'h>(
        &'h self,
        named: Option<&'h Slot>,
        unlock: &Unlock<'_>,
        policy: WeakKdf,
        memory_limit: Option<u64>,
    ) -> Result<(&'h Slot, RootKey), HeaderError> {
        let of_type = self.slots.iter().filter(|slot| unlock.fits(slot.slot_type())).take(MAX_TRIES);
        let tried: Vec<&Slot> = named.map_or_else(|| of_type.collect(), |slot| vec![slot]);
        if tried.is_empty() {
            let reserved = self.slots.iter().map(Slot::slot_type).find(|kind| *kind == super::slot::DEVICE);
            return Err(reserved.map_or(HeaderError::NoSlotOfType, HeaderError::ReservedSlot));
        }
        let mut refused = HeaderError::WrongSecret;
        for slot in tried {
            if let Err(error) = slot.admit(policy, memory_limit) {
                refused = error;
                continue;
            }
            match slot.opens(unlock, &self.vault_id, self.flags) {
                Ok(root) => return Ok((slot, root)),
                Err(HeaderError::WrongSecret) => {}
                Err(error @ HeaderError::Share(ShareError::OtherSet)) => refused = error,
                Err(error) => return Err(error),
            }
        }
        Err(refused)
    }

    /// Verifies this header with keys that are already known, for example for a second copy.
    ///
    /// # Errors
    /// [`HeaderError::Damaged`] when the MAC does not verify.
    pub fn verify(&self, keys: &HeaderKeys) -> Result<(), HeaderError> {
        if keys.header_mac.verify(&[&self.covered], &self.mac) {
            Ok(())
        } else {
            Err(HeaderError::Damaged("the mac does not verify"))
        }
    }

    /// Verifies the MAC with `root` and opens the keyring.
    ///
    /// # Errors
    /// [`HeaderError::Damaged`] when the MAC does not verify or the keyring does not open.
    pub fn authenticate(&self, root: RootKey) -> Result<Opened, HeaderError> {
        let keyring = self.open_keyring(root.header_keys())?;
        Ok(Opened { header: self.clone(), root, keyring })
    }

    /// Verifies the MAC and opens the keyring.
    ///
    /// # Errors
    /// [`HeaderError::Damaged`] when the MAC does not verify or the keyring does not open.
    pub fn open_keyring(&self, keys: &HeaderKeys) -> Result<Keyring, HeaderError> {
        self.verify(keys)?;
        let head = envelope::head(&self.keyring).map_err(parsing)?;
        let body = envelope::open(&keys.ring, &self.keyring_context(head.suite, self.seq), &self.keyring)
            .map_err(|_| HeaderError::Damaged("the keyring does not open"))?;
        let keyring = Keyring::decode(body.reveal()).map_err(parsing)?;
        if keyring.terms.iter().any(|term| term.suite < self.min_suite) {
            return Err(HeaderError::Damaged("a term is below the minimum suite"));
        }
        Ok(keyring)
    }

    fn keyring_context(&self, suite: Suite, seq: u64) -> Context<'_> {
        Context {
            suite,
            kind: Kind::Keyring,
            term: 0,
            version: seq,
            generation: 0,
            vault_id: &self.vault_id.0,
            store_key: &[],
            path: &[],
        }
    }

    /// Creates the first header of a new vault: sequence 1, epoch 1, a random incarnation.
    ///
    /// Slots are numbered from 0. Nothing is durable until the bytes are written.
    ///
    /// # Errors
    /// [`HeaderError::WeakKdf`] below the write floor; [`HeaderError::KdfTooCostly`]; [`HeaderError::KeyFileSize`];
    /// [`HeaderError::Limit`] without a slot or beyond a limit; [`HeaderError::Crypto`].
    pub fn create(
        vault_id: VaultId,
        slots: &[NewSlot<'_>],
        random: &dyn Random,
        now_ms: u64,
        suite: Suite,
    ) -> Result<(Vec<u8>, Opened), HeaderError> {
        Self::create_with(vault_id, slots, random, now_ms, suite, WeakKdf::Refuse)
    }

    /// As [`Header::create`]. [`WeakKdf::Allow`] lowers the floor to the open floor (tests, `dev`).
    ///
    /// # Errors
    /// As [`Header::create`].
    pub fn create_with(
        vault_id: VaultId,
        slots: &[NewSlot<'_>],
        random: &dyn Random,
        now_ms: u64,
        suite: Suite,
        policy: WeakKdf,
    ) -> Result<(Vec<u8>, Opened), HeaderError> {
        if slots.is_empty() || slots.len() > MAX_SLOTS {
            return Err(HeaderError::Limit("a header has 1 to 32 slots"));
        }
        let root = RootKey::random(&vault_id, random)?;
        let keyring = Keyring::create(random, suite, now_ms)?;
        let mut incarnation = [0; 16];
        random.fill(&mut incarnation)?;
        let mut sealed = Vec::with_capacity(slots.len());
        for (id, new) in (0u8..).zip(slots) {
            sealed.push(Slot::seal(new, id, (&vault_id, 0, suite), &root, random, policy)?);
        }
        // Number 0 is never written. The first header is made from it as every later one is from the header before.
        let blank = Self {
            seq: 0,
            vault_id,
            flags: 0,
            epoch: 1,
            min_suite: Suite::Aes256Gcm,
            floor_epoch: 1,
            floor_generation: 0,
            incarnation,
            prev_mac: [0; 32],
            slots: sealed,
            mac: [0; 32],
            keyring: Vec::new(),
            covered: Vec::new(),
        };
        let bytes = blank.encode_next(root.header_keys(), &keyring, random)?;
        // What the next start could not read must not be written.
        let header = Self::parse(&bytes)?;
        Ok((bytes, Opened { header, root, keyring }))
    }

    /// Returns the bytes of the next header: the fields of `self`, `seq + 1`, and `prev_mac` = MAC of `self`.
    ///
    /// A sequence number must never be written twice with different bytes. After a failed write the process stops, and
    /// the next start decides which header applies.
    ///
    /// # Errors
    /// [`HeaderError::Limit`] beyond a limit of the format or for an inconsistent keyring; [`HeaderError::Crypto`] when
    /// the random source fails.
    pub fn encode_next(
        &self,
        keys: &HeaderKeys,
        keyring: &Keyring,
        random: &dyn Random,
    ) -> Result<Vec<u8>, HeaderError> {
        let seq = self.seq.checked_add(1).ok_or(HeaderError::Limit("sequence"))?;
        let count = u16::try_from(self.slots.len()).ok().filter(|count| usize::from(*count) <= MAX_SLOTS);
        let count = count.ok_or(HeaderError::Limit("more than 32 slots"))?;
        let body = keyring.encode().map_err(|_| HeaderError::Limit("the keyring is not consistent"))?;
        let suite = keyring.active_term().suite;
        let hedge = MacKey::new(&keyring.newest_integrity().hedge);
        let record = envelope::seal(&keys.ring, &self.keyring_context(suite, seq), &hedge, random, body.as_slice())?;

        let mut slots = Writer::new();
        for slot in &self.slots {
            slot.encode(&mut slots);
        }
        // Fixed part, slots, LP(keyring), MAC.
        let length = 108 + slots.len() + 4 + record.len() + MAC_LEN;
        let declared = u32::try_from(length).ok().filter(|_| length <= MAX_LEN);
        let mut out = Writer::with_capacity(length);
        out.bytes(MAGIC).u32(declared.ok_or(HeaderError::Limit("longer than 65536 bytes"))?).u64(seq);
        out.bytes(&self.vault_id.0).u16(READER_VERSION).u16(self.flags).u32(self.epoch).u16(count);
        out.u8(self.min_suite.byte()).u8(0).u32(self.floor_epoch).u64(self.floor_generation);
        out.bytes(&self.incarnation);
        out.bytes(if self.seq == 0 { &[0; 32] } else { &self.mac });
        out.bytes(slots.as_slice()).lp(&record);
        let mac = keys.header_mac.mac(&[out.as_slice()]);
        out.bytes(&mac);
        Ok(out.into_public())
    }
}
