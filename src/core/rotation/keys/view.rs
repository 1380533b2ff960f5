//! How a rotation of keys, and a term, is shown.

use zeroize::Zeroizing;

use crate::api::reply::Reply;
use crate::api::rotation::{ProofInfo, RotationInfo, StepInfo, TermInfo};
use crate::api::sys::CertificateReply;
use crate::api::time::rfc3339_nano;
use crate::barrier::TermStatus;
use crate::keys::TermState;

use super::record::Run;
use crate::core::error::VaultError;
use crate::core::request::data;

/// 200 with one rotation.
pub(in crate::core) fn reply(run: &Run) -> Result<Reply, VaultError> {
    let bytes = serde_json::to_vec(&shown(run)).map_err(|_| VaultError::Internal)?;
    Ok(Reply::data(Zeroizing::new(bytes)))
}

/// 200 with one rotation and the certificate that belongs to it.
pub(in crate::core) fn reply_with(run: &Run, certified: CertificateReply) -> Result<Reply, VaultError> {
    data(&RotationInfo { certified: Some(certified), ..shown(run) })
}

/// One rotation as it is shown.
pub(in crate::core) fn shown(run: &Run) -> RotationInfo {
    let word = |value: serde_json::Result<String>| value.unwrap_or_default().trim_matches('"').to_owned();
    RotationInfo {
        id: run.id.clone(),
        kind: word(serde_json::to_string(&run.kind)),
        target: run.target.clone(),
        state: word(serde_json::to_string(&run.state)),
        paused: run.paused,
        full_speed: run.full_speed,
        total: run.total,
        done: run.done,
        started: rfc3339_nano(run.started_ms),
        updated: rfc3339_nano(run.updated_ms),
        finished: run.finished_ms.map(rfc3339_nano).unwrap_or_default(),
        due: String::new(),
        error: run.error.clone(),
        proofs: run
            .proofs
            .iter()
            .map(|proof| ProofInfo {
                term: proof.term,
                generation: proof.generation,
                records: proof.records,
                opened: proof.opened,
            })
            .collect(),
        steps: run.steps.iter().map(|step| StepInfo { step: step.step.clone(), result: step.result.clone() }).collect(),
        certified: None,
    }
}

/// One term as it is shown.
pub(in crate::core) fn term(term: &TermStatus) -> TermInfo {
    let state = match term.state {
        TermState::PreActive => "pre-active",
        TermState::Active => "active",
        TermState::DecryptOnly => "decrypt-only",
        TermState::Compromised => "compromised",
        TermState::Destroyed => "destroyed",
    };
    TermInfo {
        term: term.term,
        state: state.to_owned(),
        created: rfc3339_nano(term.created_ms),
        live: term.live,
        seals: term.seals,
    }
}
