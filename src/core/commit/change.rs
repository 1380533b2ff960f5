//! The results of a change: for its caller, for the state in memory, and for the audit log.

use std::borrow::Cow;

use crate::api::spiffe::SpiffeId;
use crate::audit::Note;

use crate::api::reply::Reply;
use crate::core::error::VaultError;
use crate::core::state::ledger::Fingerprint;
use crate::core::state::snapshot::Touch;

/// Result of a mutation.
pub(in crate::core) struct Done {
    pub reply: Reply,
    /// The records that the snapshot must read again.
    pub touched: Vec<Touch>,
    /// Additional notes for the audit log.
    pub remarks: Vec<Remark>,
    /// The error for the caller, when the change was made but the caller is rejected all the same.
    pub refusal: Option<VaultError>,
    /// Whether somebody may have lost access, so that connections must be reviewed before the reply.
    pub restricts: bool,
}

impl Done {
    /// A reply. The snapshot has nothing to read again.
    pub(in crate::core) fn of(reply: Reply) -> Self {
        Self::touching(reply, Vec::new())
    }

    /// A reply, and the records that the snapshot must read again.
    pub(in crate::core) fn touching(reply: Reply, touched: Vec<Touch>) -> Self {
        Self { reply, touched, remarks: Vec::new(), refusal: None, restricts: false }
    }
}

/// A note for the audit log about a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::core) enum Remark {
    Issued { identity: SpiffeId, fingerprint: Fingerprint, not_after_ms: u64 },
    Alarm(Cow<'static, str>),
}

impl Remark {
    /// Creates an alarm with this code.
    pub(in crate::core) fn alarm(code: &'static str) -> Self {
        Self::Alarm(code.into())
    }

    /// Converts the note for the audit module. `request` is the number of the request entry.
    pub(in crate::core) fn note(&self, request: u64) -> Note<'_> {
        let request = Some(request);
        match self {
            Self::Issued { identity, fingerprint, not_after_ms } => {
                Note::Issued { request, identity, fingerprint, not_after_ms: *not_after_ms }
            }
            Self::Alarm(code) => Note::Alarm { request, code },
        }
    }
}
