//! Inputs for the property tests: valid examples with seeded damage.

use crate::store::conformance::Random;

/// A number below `limit`; 0 for a limit of 0.
fn below(random: &mut Random, limit: usize) -> usize {
    let limit = u64::try_from(limit).unwrap_or(u64::MAX).max(1);
    usize::try_from(random.bits() % limit).unwrap_or(0)
}

fn byte(random: &mut Random) -> u8 {
    /// Bytes that mean something to one of the readers.
    const TELLING: &[u8] = b"\0\x01\x7f\x80\xff\n\r\t \"'\\/%{}[]():,;=+*#$.-_09azAZ<>&@~`|?!";
    if below(random, 2) == 0 {
        TELLING.get(below(random, TELLING.len())).copied().unwrap_or(0)
    } else {
        random.bits().to_le_bytes()[0]
    }
}

/// One of `examples` with up to eight changes: bytes flipped, set, inserted, removed, repeated, or taken over from another
/// example. Sometimes there is no change at all, and sometimes nothing but noise.
#[must_use]
pub fn mutated(examples: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    if below(random, 16) == 0 {
        return (0..below(random, 256)).map(|_| byte(random)).collect();
    }
    let mut bytes = examples.get(below(random, examples.len())).cloned().unwrap_or_default();
    for _ in 0..below(random, 9) {
        let at = below(random, bytes.len() + 1);
        match below(random, 8) {
            0 => bytes.insert(at, byte(random)),
            1 => bytes.truncate(at),
            2 => {
                let end = (at + 1 + below(random, 8)).min(bytes.len());
                bytes.drain(at..end);
            }
            3 => {
                let end = (at + 1 + below(random, 64)).min(bytes.len());
                let again = bytes.get(at..end).unwrap_or_default().to_vec();
                bytes.splice(at..at, again);
            }
            4 => {
                let other = examples.get(below(random, examples.len())).map(Vec::as_slice).unwrap_or_default();
                let from = below(random, other.len() + 1);
                let part = other.iter().skip(from).take(1 + below(random, 64)).copied();
                bytes.splice(at..at, part);
            }
            5 => {
                let bit = 1 << below(random, 8);
                bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= bit);
            }
            _ => {
                let with = byte(random);
                bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = with);
            }
        }
    }
    bytes
}
