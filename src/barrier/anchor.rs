//! The anchor: a file outside the store that remembers the last acknowledged generation (`docs/format.md`, "Anchor").

use crate::crypto::codec::{Reader, Writer};
use crate::crypto::derive::label;
use crate::crypto::hash::MacKey;
use crate::keys::{Keyring, VaultId};

/// First bytes of a slot.
const MAGIC: &[u8; 8] = b"SRANCH\x00\x01";
/// Length of a slot in the file. The bytes after the fields are zero.
const SLOT_BYTES: usize = 4096;
/// Length of both slots.
const FILE_BYTES: usize = 2 * SLOT_BYTES;
const FIRST_TAG_AT: usize = 56;
const SECOND_TAG_AT: usize = 88;

/// Content of one slot.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub epoch: u32,
    pub incarnation: [u8; 16],
    pub generation: u64,
    pub iks_id: u32,
}

/// A slot whose first tag has been verified.
pub(super) struct Slot {
    pub mark: Mark,
    covered: [u8; SECOND_TAG_AT],
    tag: [u8; 32],
}

/// Result of reading a file.
pub(super) struct Found {
    /// The slot with the highest epoch and generation.
    pub best: Option<Slot>,
    /// Whether a slot is neither blank nor good. If the other one is good, this is a torn write.
    pub torn: bool,
    /// Whether a good slot is in the other one's place.
    pub misplaced: bool,
    /// Which slots are blank. If both are, the file was created but never written.
    pub blank: [bool; 2],
    /// Whether two good slots have the same epoch but different incarnations.
    pub forked: bool,
    /// Generations between two good slots of one epoch. The committer always leaves 1. A larger gap shows that the
    /// anchor was far behind and that nothing has been committed since.
    pub gap: u64,
}

impl Found {
    /// Whether a slot was emptied. Generation 1 is the first that is anchored, and generation 2 fills the other slot
    /// before 3 can begin. So a blank slot is valid only beside generation 1.
    pub(super) fn emptied(&self) -> bool {
        self.blank.contains(&true) && self.best.as_ref().is_some_and(|best| best.mark.generation >= 2)
    }
}

impl Mark {
    /// Number of the slot for this generation.
    pub(super) fn slot(&self) -> usize {
        usize::from(self.generation % 2 == 1)
    }

    /// Returns the slots to write at a start, in order, if the file has these blank slots. A blank neighbour is filled
    /// first, because the state's own slot alone would look like an emptied file ([`Found::emptied`]).
    pub(super) fn slots_at_start(&self, blank: [bool; 2]) -> impl Iterator<Item = usize> {
        let (own, [first, second]) = (self.slot(), blank);
        let neighbour = 1 - own;
        let fill = self.generation >= 2 && if neighbour == 0 { first } else { second };
        fill.then_some(neighbour).into_iter().chain([own])
    }

    /// Encodes the whole slot, padded with zeros. `state` is the commitment of the state record.
    pub(super) fn encode(&self, vault: &VaultId, key: &MacKey, state: &[u8; 32]) -> Vec<u8> {
        let mut out = Writer::with_capacity(SLOT_BYTES);
        out.bytes(MAGIC).bytes(vault.as_bytes()).u32(self.epoch).bytes(&self.incarnation);
        out.u64(self.generation).u32(self.iks_id);
        let first = key.mac(&[label::ANCHOR_ONE, out.as_slice()]);
        out.bytes(&first);
        let second = key.mac(&[label::ANCHOR_TWO, out.as_slice(), state]);
        out.bytes(&second);
        let mut slot = out.into_public();
        slot.resize(SLOT_BYTES, 0);
        slot
    }
}

impl Slot {
    /// Whether the slot was written for the state record with this commitment.
    pub(super) fn vouches_for(&self, key: &MacKey, state: &[u8; 32]) -> bool {
        key.verify(&[label::ANCHOR_TWO, &self.covered, state], &self.tag)
    }
}

/// Reads a file. Never fails: anything but a slot of this vault with a valid tag counts as no slot.
pub(super) fn read(file: &[u8], vault: &VaultId, keyring: &Keyring) -> Found {
    let mut found = Found { best: None, torn: false, misplaced: false, blank: [false; 2], forked: false, gap: 0 };
    if file.len() != FILE_BYTES {
        found.torn = true;
        return found;
    }
    for (place, (bytes, blank)) in file.chunks(SLOT_BYTES).zip(&mut found.blank).enumerate() {
        if bytes.iter().all(|byte| *byte == 0) {
            *blank = true;
            continue;
        }
        let Some(slot) = parse(bytes, vault, keyring) else {
            found.torn = true;
            continue;
        };
        found.misplaced |= slot.mark.slot() != place;
        let rank = |mark: &Mark| (mark.epoch, mark.generation);
        match &found.best {
            Some(best) => {
                if best.mark.epoch == slot.mark.epoch {
                    found.forked |= best.mark.incarnation != slot.mark.incarnation;
                    found.gap = best.mark.generation.abs_diff(slot.mark.generation);
                }
                if rank(&slot.mark) > rank(&best.mark) {
                    found.best = Some(slot);
                }
            }
            None => found.best = Some(slot),
        }
    }
    found
}

fn parse(bytes: &[u8], vault: &VaultId, keyring: &Keyring) -> Option<Slot> {
    let covered: [u8; SECOND_TAG_AT] = *bytes.first_chunk()?;
    let (signed, first) = covered.split_first_chunk::<FIRST_TAG_AT>()?;
    let first: &[u8; 32] = first.first_chunk()?;
    let mut reader = Reader::new(bytes);
    let magic: &[u8; 8] = reader.array().ok()?;
    let owner: &[u8; 16] = reader.array().ok()?;
    if magic != MAGIC || owner != vault.as_bytes() {
        return None;
    }
    let (epoch, incarnation) = (reader.u32().ok()?, *reader.array().ok()?);
    let (generation, iks_id) = (reader.u64().ok()?, reader.u32().ok()?);
    if epoch == 0 || generation == 0 {
        return None;
    }
    reader.array::<32>().ok()?;
    let tag = *reader.array().ok()?;
    reader.finish().ok()?;
    let key = MacKey::new(&keyring.integrity(iks_id)?.anchor);
    key.verify(&[label::ANCHOR_ONE, signed], first).then_some(Slot {
        mark: Mark { epoch, incarnation, generation, iks_id },
        covered,
        tag,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::envelope::Suite;
    use crate::crypto::random::SeededRandom;
    use proptest::prelude::*;

    fn file(keyring: &Keyring, vault: &VaultId) -> Vec<u8> {
        let key = MacKey::new(&keyring.newest_integrity().anchor);
        let slot =
            |generation| Mark { epoch: 1, incarnation: [5; 16], generation, iks_id: 1 }.encode(vault, &key, &[7; 32]);
        [slot(4), slot(3)].concat()
    }

    #[test]
    fn the_highest_generation_decides_and_vouches() {
        let vault = VaultId([1; 16]);
        let keyring = Keyring::create(&SeededRandom::new(1), Suite::Aes256Gcm, 0).unwrap();
        let found = read(&file(&keyring, &vault), &vault, &keyring);
        let best = found.best.unwrap();
        assert_eq!(best.mark.generation, 4);
        let key = MacKey::new(&keyring.newest_integrity().anchor);
        assert!(best.vouches_for(&key, &[7; 32]));
        assert!(!best.vouches_for(&key, &[8; 32]));
        assert!(read(&file(&keyring, &vault), &VaultId([2; 16]), &keyring).best.is_none());
    }

    proptest! {
        #[test]
        fn a_flipped_bit_takes_only_its_slot(at in 0usize..4096, bit in 0u8..8) {
            let vault = VaultId([1; 16]);
            let keyring = Keyring::create(&SeededRandom::new(1), Suite::Aes256Gcm, 0).unwrap();
            let mut bytes = file(&keyring, &vault);
            bytes[at] ^= 1 << bit;
            let best = read(&bytes, &vault, &keyring).best.unwrap();
            // The second tag is compared only with a state; every other bit is covered by the first, or must be zero.
            if (SECOND_TAG_AT..SECOND_TAG_AT + 32).contains(&at) {
                let key = MacKey::new(&keyring.newest_integrity().anchor);
                prop_assert!(!best.vouches_for(&key, &[7; 32]));
            } else {
                prop_assert_eq!(best.mark.generation, 3);
            }
        }

        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..9000)) {
            let keyring = Keyring::create(&SeededRandom::new(1), Suite::Aes256Gcm, 0).unwrap();
            prop_assert!(read(&bytes, &VaultId([1; 16]), &keyring).best.is_none());
        }
    }
}
