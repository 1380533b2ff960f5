//! The anchor file: each slot counts if and only if it is one that was written, wherever it stands.

use std::sync::LazyLock;

use crate::barrier::anchor::{Mark, read};
use crate::crypto::envelope::Suite;
use crate::crypto::hash::MacKey;
use crate::crypto::random::SeededRandom;
use crate::keys::{Keyring, VaultId};
use crate::testing::alter::alter;

const VAULT: VaultId = VaultId([1; 16]);
const STATE: [u8; 32] = [7; 32];
const SLOT: usize = 4096;
/// Fields and first tag.
const CLAIMED: usize = 88;
/// Those and the second tag; the rest is zero.
const WRITTEN: usize = 120;

static KEYRING: LazyLock<Keyring> = LazyLock::new(|| {
    Keyring::create(&SeededRandom::new(1), Suite::Aes256Gcm, 0).expect("the seeded source does not fail")
});
static KEY: LazyLock<MacKey> = LazyLock::new(|| MacKey::new(&KEYRING.newest_integrity().anchor));
/// The slots of generations 1 to 4.
static SLOTS: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| (1..=4).map(|n| mark(n).encode(&VAULT, &KEY, &STATE)).collect());

fn mark(generation: u64) -> Mark {
    Mark { epoch: 1, incarnation: [5; 16], generation, iks_id: 1 }
}

pub(crate) fn examples() -> Vec<Vec<u8>> {
    let pair = |a: usize, b: usize| [SLOTS[a].as_slice(), &SLOTS[b]].concat();
    let emptied = [vec![0; SLOT], SLOTS[2].clone()].concat();
    vec![pair(3, 2), pair(1, 0), pair(3, 0), emptied, vec![0, 60, 4, 1], vec![0, 100, 4, 1, 16, 60, 3, 0]]
}

pub(crate) fn check(data: &[u8]) -> bool {
    let accepted = judged(data);
    // Most inputs are too short for a file, so they are the start of one, too.
    let mut filled = data.to_vec();
    filled.resize(2 * SLOT, 0);
    judged(&filled);
    for (first, second) in [(3, 2), (1, 2)] {
        let file = [SLOTS[first].as_slice(), &SLOTS[second]].concat();
        assert!(judged(&file));
        judged(&alter(&file, data));
    }
    accepted
}

/// Whether a slot of the file counts.
fn judged(file: &[u8]) -> bool {
    let found = read(file, &VAULT, &KEYRING);
    if file.len() != 2 * SLOT {
        assert!(found.best.is_none() && found.torn && found.blank == [false; 2]);
        return false;
    }
    let chunks = || file.chunks(SLOT);
    let blank = |slot: &[u8]| slot.iter().all(|byte| *byte == 0);
    // The generation of a slot whose fields and first tag are as they were written.
    let genuine = |slot: &[u8]| {
        let tail_is_zero = slot.get(WRITTEN..).is_some_and(blank);
        let place = SLOTS.iter().position(|written| written.get(..CLAIMED) == slot.get(..CLAIMED));
        place.filter(|_| tail_is_zero).map(|place| place as u64 + 1)
    };
    let generations: Vec<u64> = chunks().filter_map(genuine).collect();
    let newest = generations.iter().max().copied();
    assert_eq!(found.best.as_ref().map(|best| best.mark.generation), newest, "the newest genuine slot counts");
    assert_eq!(found.torn, chunks().any(|slot| !blank(slot) && genuine(slot).is_none()), "what is neither is torn");
    assert!(found.blank.iter().copied().eq(chunks().map(blank)));
    assert!(!found.forked, "one incarnation");
    if let Some(best) = &found.best {
        let whole = |slot: &[u8]| SLOTS.iter().any(|written| written == slot) && genuine(slot) == newest;
        // Of two slots of one generation the first counts.
        let counted = chunks().find(|slot| genuine(slot) == newest);
        assert_eq!(best.vouches_for(&KEY, &STATE), counted.is_some_and(whole), "the second tag");
        assert!(!best.vouches_for(&KEY, &[8; 32]), "another state");
    }
    let [first, second] = generations[..] else { return found.best.is_some() };
    assert_eq!(found.gap, first.abs_diff(second));
    found.best.is_some()
}
