//! What a change leaves behind for those who wait for it: its caller, the state in memory, the audit log.

use std::borrow::Cow;

use crate::api::spiffe::SpiffeId;
use crate::audit::Note;

use crate::core::error::VaultError;
use crate::core::request::Reply;
use crate::core::state::ledger::Fingerprint;
use crate::core::state::snapshot::Touch;

/// What a mutation leaves behind.
pub(in crate::core) struct Done {
    pub reply: Reply,
    /// What the snapshot must read anew.
    pub touched: Vec<Touch>,
    /// What else the audit log shall show.
    pub remarks: Vec<Remark>,
    /// The change is made, and the caller is refused all the same.
    pub refusal: Option<VaultError>,
    /// Somebody may have lost access: connections are looked through before the answer.
    pub restricts: bool,
}

impl Done {
    /// A reply, and nothing for the snapshot to read anew.
    pub(in crate::core) fn of(reply: Reply) -> Self {
        Self::touching(reply, Vec::new())
    }

    /// A reply, and what the snapshot must read anew.
    pub(in crate::core) fn touching(reply: Reply, touched: Vec<Touch>) -> Self {
        Self { reply, touched, remarks: Vec::new(), refusal: None, restricts: false }
    }
}

/// What is to be noted in the audit log with a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::core) enum Remark {
    Issued { identity: SpiffeId, fingerprint: Fingerprint, not_after_ms: u64 },
    Alarm(Cow<'static, str>),
}

impl Remark {
    /// An alarm with this code.
    pub(in crate::core) fn alarm(code: &'static str) -> Self {
        Self::Alarm(code.into())
    }

    /// In the form the audit module takes; `request` is the number of the request entry.
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
