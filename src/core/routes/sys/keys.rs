//! `sys/key-status`, `sys/seal`, and the two routes for verifying an audit log.

use serde::Serialize;
use zeroize::Zeroizing;

use crate::api::hex::hex;
use crate::api::reply::Reply;
use crate::api::sys::{AuditPublicHalf, AuditPublicKey, KeyStatus};
use crate::api::time::rfc3339_nano;
use crate::crypto::hash::sha256;
use crate::crypto::sign;
use crate::keys::AuditKey;

use super::{Inquiry, data};
use crate::core::error::VaultError;

#[derive(Serialize)]
struct Head {
    seq: u64,
    hash: String,
}

#[derive(Serialize)]
struct Key<'a> {
    id: u32,
    key: &'a str,
}

#[derive(Serialize)]
struct Keys<'a> {
    id: u32,
    key: &'a str,
    keys: Vec<Key<'a>>,
}

/// The current data key.
pub(super) fn status(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let status = inquiry.live.barrier.key_status();
    data(&KeyStatus { term: status.term, install_time: rfc3339_nano(status.created_ms), encryptions: status.seals })
}

/// Does nothing itself: the pipeline seals once this request is in the audit log.
pub(super) fn seal(_: &Inquiry<'_>) -> Result<Reply, VaultError> {
    Ok(Reply::none())
}

/// The last audit entry that the durable state vouches for. A log without it was cut or replaced.
pub(super) fn audit_head(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    // The live head instead of the one in the sealed state, because reads since the last change count too.
    let head = inquiry.live.audit.head();
    data(&Head { seq: head.seq, hash: hex(&head.hash) })
}

/// The key that authenticates audit entries. Its holder can check a log, but can also forge one and test guesses of
/// short values against their hashes. It is meant for the auditor's machine only (`docs/protocol.md`).
pub(super) fn audit_key(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let keys: Vec<(u32, Zeroizing<String>)> = (inquiry.live.barrier.audit_keys().into_iter())
        .map(|key| (key.id, Zeroizing::new(hex(key.mac.reveal()))))
        .collect();
    let (id, key) = keys.last().ok_or(VaultError::Internal)?;
    data(&Keys { id: *id, key, keys: keys.iter().map(|(id, key)| Key { id: *id, key }).collect() })
}

/// The public key that verifies checkpoints. Anyone who has it can verify a log without any secret.
pub(super) fn audit_public_key(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let (id, public) = inquiry.live.audit.public_key();
    let keys = inquiry.live.barrier.audit_keys();
    let half = |key: &AuditKey| AuditPublicHalf { id: key.id, public_key: hex(&sign::public(&key.sign)) };
    data(&AuditPublicKey {
        id,
        algorithm: "ed25519".to_owned(),
        public_key: hex(&public),
        fingerprint: hex(&sha256(&[&public])),
        keys: keys.iter().map(half).collect(),
    })
}
