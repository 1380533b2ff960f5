//! What the audit log must still record about a group if the process ends between the commit and the reply entries.
//!
//! It is sealed in the state record of the same transaction (`docs/format.md`, body 02). So a remark is kept exactly
//! when its change is, and the next unseal knows which requests of the group were rejected. A group without failures
//! and remarks has no outcomes.
//!
//! ```text
//! u8 1 ‖ u16 n ‖ n x { request u64 ‖ refused u8 ‖ u8 m ‖ m x remark }, ascending by request
//! remark: u8 1 ‖ LP(SPIFFE URI) ‖ fingerprint[32] ‖ not_after_ms u64, or u8 2 ‖ LP(alarm code)
//! ```

use crate::api::spiffe::SpiffeId;
use crate::crypto::CryptoError;
use crate::crypto::codec::{Reader, Writer};

use super::change::Remark;

const BODY: u8 = 1;
const ISSUED: u8 = 1;
const ALARM: u8 = 2;
/// Longest identity by the SPIFFE standard.
const MAX_URI: usize = 2048;
const MAX_CODE: usize = 256;

/// What the log must record about one request, besides that it was committed.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::core) struct Outcome {
    /// Number of its request entry.
    pub request: u64,
    /// Whether the caller was rejected.
    pub refused: bool,
    pub remarks: Vec<Remark>,
}

/// Encodes the outcomes of one group. Without outcomes the result is empty.
pub(super) fn encode<'a>(outcomes: impl Iterator<Item = (u64, bool, &'a [Remark])>) -> Vec<u8> {
    let mut body = Writer::new();
    let mut count = 0u16;
    for (request, refused, remarks) in outcomes.filter(|(_, refused, remarks)| *refused || !remarks.is_empty()) {
        count += 1;
        let number = u8::try_from(remarks.len()).expect("a change leaves a handful of remarks");
        body.u64(request).u8(refused.into()).u8(number);
        for remark in remarks {
            match remark {
                Remark::Issued { identity, fingerprint, not_after_ms } => {
                    body.u8(ISSUED).lp(identity.uri().as_bytes()).bytes(fingerprint).u64(*not_after_ms);
                }
                Remark::Alarm(code) => {
                    body.u8(ALARM).lp(code.as_bytes());
                }
            }
        }
    }
    if count == 0 {
        return Vec::new();
    }
    let mut out = Writer::with_capacity(body.len() + 3);
    out.u8(BODY).u16(count).bytes(body.as_slice());
    out.into_public()
}

/// Decodes what [`encode`] wrote.
///
/// # Errors
/// [`CryptoError::Malformed`] for any other bytes.
pub(in crate::core) fn decode(bytes: &[u8]) -> Result<Vec<Outcome>, CryptoError> {
    let mut outcomes: Vec<Outcome> = Vec::new();
    if bytes.is_empty() {
        return Ok(outcomes);
    }
    let mut reader = Reader::new(bytes);
    if reader.u8()? != BODY {
        return Err(CryptoError::Unsupported("outcomes"));
    }
    for _ in 0..reader.u16()? {
        let (request, refused) = (reader.u64()?, reader.u8()?);
        if refused > 1 || outcomes.last().is_some_and(|last| last.request >= request) {
            return Err(CryptoError::Malformed("outcomes"));
        }
        let remarks: Vec<Remark> = (0..reader.u8()?).map(|_| remark(&mut reader)).collect::<Result<_, _>>()?;
        // Accepts only what `encode` writes: each content has one form.
        if refused == 0 && remarks.is_empty() {
            return Err(CryptoError::Malformed("an outcome without content"));
        }
        outcomes.push(Outcome { request, refused: refused == 1, remarks });
    }
    reader.end()?;
    if outcomes.is_empty() { Err(CryptoError::Malformed("no outcomes")) } else { Ok(outcomes) }
}

fn remark(reader: &mut Reader<'_>) -> Result<Remark, CryptoError> {
    let text = |bytes| std::str::from_utf8(bytes).map_err(|_| CryptoError::Malformed("outcomes"));
    match reader.u8()? {
        ISSUED => {
            let uri = text(reader.lp_max(MAX_URI)?)?;
            let identity = SpiffeId::parse(uri).ok().filter(|identity| identity.uri() == uri);
            let identity = identity.ok_or(CryptoError::Malformed("outcomes"))?;
            Ok(Remark::Issued { identity, fingerprint: *reader.array()?, not_after_ms: reader.u64()? })
        }
        ALARM => Ok(Remark::Alarm(text(reader.lp_max(MAX_CODE)?)?.to_owned().into())),
        _ => Err(CryptoError::Unsupported("remark")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Vec<Outcome> {
        let identity = SpiffeId::new("example.org", "app/web").expect("legal");
        let issued = Remark::Issued { identity, fingerprint: [7; 32], not_after_ms: 9 };
        vec![
            Outcome { request: 3, refused: true, remarks: vec![] },
            Outcome { request: 4, refused: false, remarks: vec![issued, Remark::alarm("authority-compromised")] },
        ]
    }

    fn write(outcomes: &[Outcome]) -> Vec<u8> {
        encode(outcomes.iter().map(|one| (one.request, one.refused, one.remarks.as_slice())))
    }

    #[test]
    fn outcomes_read_back_and_plain_success_takes_no_room() {
        assert_eq!(decode(&write(&sample())).expect("legal"), sample());
        assert!(write(&[Outcome { request: 1, refused: false, remarks: vec![] }]).is_empty());
        assert!(decode(&[]).expect("none").is_empty());
    }

    #[test]
    fn outcomes_that_say_nothing_are_refused() {
        assert!(decode(&[BODY, 0, 0]).is_err(), "none");
        assert!(decode(&[BODY, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0]).is_err(), "neither refused nor remarked");
        assert!(decode(&[BODY, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 1, 0]).is_ok(), "refused");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(at in any::<prop::sample::Index>(), flip in 1u8.., cut in any::<prop::sample::Index>()) {
            let mut bytes = write(&sample());
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Ok(outcomes) = decode(&bytes) {
                prop_assert_eq!(&write(&outcomes), &bytes);
            }
            let _ = decode(&bytes[..cut.index(bytes.len())]);
        }
    }
}
