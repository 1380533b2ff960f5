//! Edits to a genuine example, written as bytes.

/// Most edits to one example.
const MAX_EDITS: usize = 32;

/// A copy of `genuine` with the edits that `edits` says, four bytes each: the place (two bytes, counted round), what to do,
/// and with which byte. Bytes left over say nothing.
pub(crate) fn alter(genuine: &[u8], edits: &[u8]) -> Vec<u8> {
    let mut copy = genuine.to_vec();
    for edit in edits.chunks_exact(4).take(MAX_EDITS) {
        let [high, low, how, byte] = *edit else { continue };
        let at = usize::from(u16::from_be_bytes([high, low])) % (copy.len() + 1);
        match how % 5 {
            0 => copy.insert(at, byte),
            1 => copy.truncate(at),
            2 if at < copy.len() => drop(copy.remove(at)),
            3 => copy.iter_mut().skip(at).take(1).for_each(|old| *old = byte),
            _ => copy.iter_mut().skip(at).take(1).for_each(|old| *old ^= byte),
        }
    }
    copy
}
