//! `sys/key-status`, `sys/seal`, and the two things that verifying an audit log needs.

use serde::Serialize;

use crate::api::sys::KeyStatus;
use crate::api::time::rfc3339_nano;
use crate::engine::Reply;

use super::super::error::VaultError;
use super::super::mount::hex;
use super::{Inquiry, data};

/// The data key in use.
pub(super) fn status(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let status = inquiry.live.barrier.key_status();
    data(&KeyStatus { term: status.term, install_time: rfc3339_nano(status.created_ms), encryptions: status.seals })
}

/// Nothing to do here: the pipeline seals once this request is in the audit log.
pub(super) fn seal(_: &Inquiry<'_>) -> Result<Reply, VaultError> {
    Ok(Reply::none())
}

/// The last audit entry that the durable state vouches for: a log that does not contain it was cut or replaced.
pub(super) fn audit_head(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    #[derive(Serialize)]
    struct Head {
        seq: u64,
        hash: String,
    }
    // The live head, not the one in the sealed state: reads since the last change count too.
    let head = inquiry.live.audit.head();
    data(&Head { seq: head.seq, hash: hex(&head.hash) })
}

/// The key that authenticates audit entries. Its holder can check a log and could also write a false one, and can test
/// guesses of short values against their hashes: for the auditor's machine only (`docs/protocol.md`).
pub(super) fn audit_key(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    #[derive(Serialize)]
    struct Key<'a> {
        id: u32,
        key: &'a str,
    }
    let (id, key) = inquiry.live.barrier.audit_key();
    let key = zeroize::Zeroizing::new(hex(key.reveal()));
    data(&Key { id, key: &key })
}
