//! The state record: one sealed summary of everything in the store (`docs/format.md`, kind 02 and "Set hash").

use crate::crypto::codec::{Reader, Writer};
use crate::crypto::derive::label;
use crate::crypto::envelope::{self, Kind};
use crate::crypto::hash::{MacKey, SetHash};
use crate::crypto::{CryptoError, SecretBytes};

use super::index::{Index, Stamp};
use super::names::StoreKey;
use super::status::AuditHead;

const BODY: u8 = 1;
/// Flag: the anchor file was written for this vault, so its absence is a loss. Set from the first state on.
pub(super) const ANCHORED: u32 = 1;
/// Flag: bytes for the audit log follow the terms. Only written and read here, and never in [`StateRecord::flags`].
const OUTCOMES: u32 = 2;
const MAX_TERMS: u32 = 1024;

/// How much one term is used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct TermUse {
    pub term: u32,
    /// Number of stored records sealed under it.
    pub live: u64,
    /// Number of seals ever made under it.
    pub seals: u64,
}

/// Body of kind 02. No `Debug`, because the set hash is secret.
#[derive(Clone)]
pub(super) struct StateRecord {
    pub epoch: u32,
    pub incarnation: [u8; 16],
    pub generation: u64,
    pub set_hash: SetHash,
    pub record_count: u64,
    pub header_seq: u64,
    pub header_mac: [u8; 32],
    pub audit: AuditHead,
    pub last_ms: u64,
    pub flags: u32,
    /// In ascending order.
    pub terms: Vec<TermUse>,
    /// What the audit log must still record about the group up to `audit`; empty if nothing. The barrier does not parse
    /// it.
    pub outcomes: Vec<u8>,
}

impl StateRecord {
    /// Encodes the body, without padding.
    pub(super) fn encode(&self) -> SecretBytes {
        let mut out = Writer::with_capacity(256);
        out.u8(BODY).u16(0).u32(self.epoch).bytes(&self.incarnation).u64(self.generation);
        out.bytes(self.set_hash.reveal()).u64(self.record_count).u64(self.header_seq).bytes(&self.header_mac);
        out.u64(self.audit.seq).bytes(&self.audit.hash).u64(self.last_ms);
        out.u32(if self.outcomes.is_empty() { self.flags } else { self.flags | OUTCOMES });
        out.u32(u32::try_from(self.terms.len()).expect("a keyring holds at most 1024 terms"));
        for used in &self.terms {
            out.u32(used.term).u64(used.live).u64(used.seals);
        }
        if !self.outcomes.is_empty() {
            out.lp(&self.outcomes);
        }
        out.into_secret()
    }

    /// Decodes a body.
    pub(super) fn decode(body: &[u8]) -> Result<Self, CryptoError> {
        let mut reader = Reader::new(body);
        if reader.u8()? != BODY {
            return Err(CryptoError::Unsupported("state body"));
        }
        if reader.u16()? != 0 {
            return Err(CryptoError::Unsupported("lane"));
        }
        let (epoch, incarnation, generation) = (reader.u32()?, *reader.array()?, reader.u64()?);
        let set_hash = SetHash::from_bytes(*reader.array()?);
        let (record_count, header_seq, header_mac) = (reader.u64()?, reader.u64()?, *reader.array()?);
        let audit = AuditHead { seq: reader.u64()?, hash: *reader.array()? };
        let (last_ms, flags) = (reader.u64()?, reader.u32()?);
        // No such state is ever written, so the record is damaged.
        if epoch == 0 || header_seq == 0 {
            return Err(CryptoError::Malformed("epoch or header sequence 0"));
        }
        if flags & !(ANCHORED | OUTCOMES) != 0 {
            return Err(CryptoError::Unsupported("state flags"));
        }
        let count = reader.u32()?;
        if count > MAX_TERMS {
            return Err(CryptoError::Malformed("too many terms"));
        }
        let mut terms: Vec<TermUse> = Vec::new();
        for _ in 0..count {
            let used = TermUse { term: reader.u32()?, live: reader.u64()?, seals: reader.u64()? };
            // Terms that are sorted and unique make the encoding canonical.
            if terms.last().map_or(0, |last| last.term) >= used.term {
                return Err(CryptoError::Malformed("terms do not ascend from 1"));
            }
            if used.live > used.seals {
                return Err(CryptoError::Malformed("more records of a term than seals"));
            }
            terms.push(used);
        }
        let outcomes = if flags & OUTCOMES == 0 { Vec::new() } else { reader.lp()?.to_vec() };
        if outcomes.is_empty() != (flags & OUTCOMES == 0) {
            return Err(CryptoError::Malformed("empty outcomes"));
        }
        envelope::finish(Kind::State, body, reader)?;
        Ok(Self {
            epoch,
            incarnation,
            generation,
            set_hash,
            record_count,
            header_seq,
            header_mac,
            audit,
            last_ms,
            flags: flags & !OUTCOMES,
            terms,
            outcomes,
        })
    }

    /// Returns the counters of a term. They are created when the term has none yet.
    pub(super) fn term(&mut self, term: u32) -> &mut TermUse {
        let at = match self.terms.binary_search_by_key(&term, |used| used.term) {
            Ok(at) => at,
            Err(at) => {
                self.terms.insert(at, TermUse { term, live: 0, seals: 0 });
                at
            }
        };
        &mut self.terms[at]
    }
}

/// The contribution of one record to the set hash.
pub(super) fn leaf(set: &MacKey, key: &StoreKey, stamp: &Stamp) -> [u8; 32] {
    let bytes = key.as_bytes();
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
    set.mac(&[label::LEAF, &length, bytes, &stamp.head, &stamp.commitment])
}

/// Returns the set hash over all records.
pub(super) fn sum(set: &MacKey, index: &Index) -> SetHash {
    let mut sum = SetHash::empty();
    for (key, stamp) in index {
        sum.add(leaf(set, key, stamp));
    }
    sum
}

#[cfg(any(test, feature = "testing"))]
impl StateRecord {
    /// A state that uses two terms, with a different value in each field.
    pub(super) fn sample() -> Self {
        Self {
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
            terms: vec![TermUse { term: 1, live: 2, seals: 3 }, TermUse { term: 4, live: 0, seals: 9 }],
            outcomes: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_body_reads_back() {
        let body = StateRecord::sample().encode();
        let again = StateRecord::decode(body.reveal()).unwrap().encode();
        assert_eq!(body.reveal(), again.reveal());
        let with = StateRecord { outcomes: vec![1, 2, 3], ..StateRecord::sample() }.encode();
        assert_eq!(with.len(), body.len() + 4 + 3, "without outcomes the body is that of earlier versions");
        let again = StateRecord::decode(with.reveal()).unwrap();
        assert_eq!((again.flags, again.outcomes.as_slice()), (ANCHORED, [1, 2, 3].as_slice()));
    }

    proptest! {
        #[test]
        fn every_accepted_body_is_canonical(at in 0usize..240, bit in 0u8..8, cut in 0usize..240) {
            let mut body = StateRecord { outcomes: vec![5; 9], ..StateRecord::sample() }.encode().reveal().to_vec();
            let at = at % body.len();
            body[at] ^= 1 << bit;
            if let Ok(state) = StateRecord::decode(&body) {
                let again = state.encode();
                prop_assert_eq!(again.reveal(), &body[..again.len()]);
            }
            let _ = StateRecord::decode(&body[..cut.min(body.len())]);
        }
    }
}
