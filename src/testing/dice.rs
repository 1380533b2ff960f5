//! Inputs for the property tests: valid examples with seeded damage.

/// A small generator of numbers (SplitMix64). One seed gives one sequence.
pub struct Dice(u64);

impl Dice {
    /// The sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`; 0 for a limit of 0.
    pub fn below(&mut self, limit: usize) -> usize {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.number() % limit).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        /// Bytes that mean something to one of the readers.
        const TELLING: &[u8] = b"\0\x01\x7f\x80\xff\n\r\t \"'\\/%{}[]():,;=+*#$.-_09azAZ<>&@~`|?!";
        if self.below(2) == 0 {
            TELLING.get(self.below(TELLING.len())).copied().unwrap_or(0)
        } else {
            self.number().to_le_bytes()[0]
        }
    }
}

/// One of `examples` with up to eight changes: bytes flipped, set, inserted, removed, repeated, or taken over from another
/// example. Sometimes there is no change at all, and sometimes nothing but noise.
#[must_use]
pub fn mutated(examples: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    if dice.below(16) == 0 {
        return (0..dice.below(256)).map(|_| dice.byte()).collect();
    }
    let mut bytes = examples.get(dice.below(examples.len())).cloned().unwrap_or_default();
    for _ in 0..dice.below(9) {
        let at = dice.below(bytes.len() + 1);
        match dice.below(8) {
            0 => bytes.insert(at, dice.byte()),
            1 => bytes.truncate(at),
            2 => {
                let end = (at + 1 + dice.below(8)).min(bytes.len());
                bytes.drain(at..end);
            }
            3 => {
                let end = (at + 1 + dice.below(64)).min(bytes.len());
                let again = bytes.get(at..end).unwrap_or_default().to_vec();
                bytes.splice(at..at, again);
            }
            4 => {
                let other = examples.get(dice.below(examples.len())).map(Vec::as_slice).unwrap_or_default();
                let from = dice.below(other.len() + 1);
                let part = other.iter().skip(from).take(1 + dice.below(64)).copied();
                bytes.splice(at..at, part);
            }
            5 => {
                let bit = 1 << dice.below(8);
                bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= bit);
            }
            _ => {
                let with = dice.byte();
                bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = with);
            }
        }
    }
    bytes
}
