//! The body of the state record: what is accepted has one encoding.

use crate::barrier::fuzz::padded;
use crate::barrier::state::StateRecord;
use crate::crypto::envelope::Kind;

pub(crate) fn examples() -> Vec<Vec<u8>> {
    let outcomes = b"what the log must still say".to_vec();
    let states = [
        StateRecord { terms: Vec::new(), ..StateRecord::sample() },
        StateRecord::sample(),
        StateRecord { outcomes, ..StateRecord::sample() },
    ];
    let bodies = states.iter().map(|state| state.encode().reveal().to_vec());
    // The last one again as it stands in a record, padded.
    let mut padded = states[2].encode().reveal().to_vec();
    padded.resize(Kind::State.bucket(padded.len()).unwrap_or(0), 0);
    bodies.chain([padded]).collect()
}

pub(crate) fn check(data: &[u8]) -> bool {
    let Ok(state) = StateRecord::decode(data) else { return false };
    let again = state.encode();
    padded(Kind::State, data, again.reveal());
    assert!(StateRecord::decode(again.reveal()).is_ok(), "a body that is not padded yet is taken, too");
    assert!(state.epoch != 0 && state.header_seq != 0);
    assert!(state.terms.is_sorted_by(|a, b| a.term < b.term) && state.terms.iter().all(|used| used.live <= used.seals));
    // Nothing is kept that was not in the input.
    assert!(state.outcomes.len() + state.terms.len() * 20 <= data.len());
    true
}
