//! The body of the state record: what is accepted has one encoding.

use crate::barrier::AuditHead;
use crate::barrier::state::{ANCHORED, StateRecord, TermUse};
use crate::crypto::envelope::Kind;
use crate::crypto::hash::SetHash;

fn sample(terms: Vec<TermUse>, outcomes: &[u8]) -> StateRecord {
    StateRecord {
        epoch: 1,
        incarnation: [2; 16],
        generation: 3,
        set_hash: SetHash::from_bytes([4; 32]),
        record_count: 5,
        header_seq: 6,
        header_mac: [7; 32],
        audit: AuditHead { seq: 8, hash: [9; 32] },
        last_ms: 10,
        flags: ANCHORED,
        terms,
        outcomes: outcomes.to_vec(),
    }
}

pub(crate) fn examples() -> Vec<Vec<u8>> {
    let terms = || vec![TermUse { term: 1, live: 2, seals: 3 }, TermUse { term: 4, live: 0, seals: 9 }];
    let states = [sample(Vec::new(), &[]), sample(terms(), &[]), sample(terms(), b"what the log must still say")];
    let bodies = states.iter().map(|state| state.encode().reveal().to_vec());
    // The last one again as it stands in a record, padded.
    let mut padded = states[2].encode().reveal().to_vec();
    padded.resize(Kind::State.bucket(padded.len()).unwrap_or(0), 0);
    bodies.chain([padded]).collect()
}

pub(crate) fn check(data: &[u8]) -> bool {
    let Ok(state) = StateRecord::decode(data) else { return false };
    let again = state.encode();
    let padding = data.strip_prefix(again.reveal()).expect("what is accepted is written again as it was");
    assert!(padding.iter().all(|byte| *byte == 0));
    assert!(padding.is_empty() || Kind::State.bucket(again.len()) == Ok(data.len()), "up to the least bucket only");
    assert!(StateRecord::decode(again.reveal()).is_ok(), "a body that is not padded yet is taken, too");
    assert!(state.epoch != 0 && state.header_seq != 0);
    assert!(state.terms.is_sorted_by(|a, b| a.term < b.term) && state.terms.iter().all(|used| used.live <= used.seals));
    // Nothing is kept that was not in the input.
    assert!(state.outcomes.len() + state.terms.len() * 20 <= data.len());
    true
}
