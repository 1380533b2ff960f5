//! What a caller may learn about a failure. Details go only to the operator's log.

use crate::api::error::{ErrorCode, ErrorInfo, Reason};
use crate::api::fields::FieldError;
use crate::api::mark::Mark;
use crate::auth::cert::RoleError;
use crate::auth::token::TokenError;
use crate::barrier::BarrierError;
use crate::engine::EngineError;
use crate::limits::QuotaError;
use crate::store::StoreError;

/// Why a request failed. Only [`VaultError::info`] converts it to codes and statuses.
///
/// The texts are sent to the caller unchanged. They are static words and field names, never content of a request or a
/// secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The vault is sealed (503).
    #[error("Vault is sealed")]
    Sealed,
    /// There is no vault in the data folder yet (400 on unseal).
    #[error("Vault is not initialized")]
    NotInitialised,
    /// Nothing exists at the path (404 with an empty `errors` array).
    #[error("not found")]
    NotFound,
    /// Nothing exists at the path, with a warning for the caller (404 with `warnings`).
    #[error("{0}")]
    NotFoundWith(String),
    /// No mount and no route serves the path (404). The payload is the path.
    #[error("no handler for route \"{0}\". route entry not found.")]
    NoRoute(String),
    /// Denied (403). The text is the same for every reason, so that unknown, forbidden and missing look alike.
    #[error("permission denied")]
    Forbidden,
    /// The certificate or its identity is not accepted (403). The caller has proved the key of that certificate, so it
    /// is told why.
    #[error("permission denied: {}", not_admitted(.0))]
    NotAdmitted(Reason),
    /// Other operators must approve first (403). Carries the id of the pending approval.
    #[error(
        "needs the approval of {missing} more operator{}: strongroom approvals approve {id}",
        if *.missing == 1 { "" } else { "s" }
    )]
    NeedsApproval {
        /// Id of the approval.
        id: String,
        /// Number of approvals that are still missing.
        missing: usize,
    },
    /// Another operator rejected the same request (403). It can be made again once that rejection has expired.
    #[error("approval {id} was rejected: strongroom approvals show {id}")]
    ApprovalRejected {
        /// Id of the approval.
        id: String,
    },
    /// The preflight check of a client failed (403). The payload is the mount as the client named it.
    #[error("preflight capability check returned 403, please ensure client's policies grant access to path \"{0}/\"")]
    Preflight(String),
    /// The request is malformed or not possible (400).
    #[error("{0}")]
    BadRequest(String),
    /// As [`BadRequest`](Self::BadRequest), with a reason that programs act on (400).
    #[error("{1}")]
    Because(Reason, String),
    /// The shares are correct, but too few (400).
    #[error("{have} of {need} shares entered")]
    SharesMissing {
        /// Number of shares given.
        have: u8,
        /// Number of shares needed.
        need: u8,
    },
    /// The secret does not open the vault (400). The text is the same for a wrong passphrase and a missing slot.
    #[error("unseal failed: no key slot opens with this secret")]
    WrongKey,
    /// Too many failed attempts (429).
    #[error("too many failed attempts; try again in {retry_after_s} s")]
    TooMany {
        /// Seconds until the next attempt is accepted.
        retry_after_s: u64,
    },
    /// The identity has exceeded one of its limits (429).
    #[error("request path \"{path}\": rate limit quota exceeded")]
    RateLimited {
        /// The requested path.
        path: String,
        /// Seconds until a retry can succeed.
        retry_after_s: u64,
    },
    /// The identity has renewed many times recently, and the certificate is young (429).
    #[error("renewed too often: this certificate can be renewed in {retry_after_s} s")]
    RenewedTooOften {
        /// Seconds until it can be renewed.
        retry_after_s: u64,
    },
    /// The caller has seen a later state of this vault than the current one (412). Nothing was done.
    #[error(
        "this vault was rolled back: it is at epoch {}, generation {}, and the caller has seen a later state; nothing was done",
        .now.epoch, .now.generation
    )]
    RolledBack {
        /// The vault's mark.
        now: Mark,
    },
    /// The path does not support this operation (405).
    #[error("1 error occurred:\n\t* unsupported operation\n\n")]
    Unsupported,
    /// The audit log did not accept the entry, so nothing may be answered (503).
    #[error("audit log unavailable: no request can be answered until it accepts entries again")]
    AuditUnavailable,
    /// A record is missing, altered or older than allowed (500).
    #[error("stored data failed its integrity check; find the damaged records: strongroom verify")]
    Integrity,
    /// The vault does not open, because its files do not match or are damaged. The status is that of `code`.
    #[error(
        "the vault did not open: {}",
        .why.as_deref().unwrap_or("its files do not match or are damaged; the daemon's log says why, and what to do")
    )]
    DidNotOpen {
        /// [`ErrorCode::Integrity`], [`ErrorCode::AuditUnavailable`] or [`ErrorCode::Unavailable`].
        code: ErrorCode,
        /// The whole reason, for callers that may read the daemon's log anyway.
        why: Option<String>,
    },
    /// The disk is full. Writes are rejected, reads still work (507).
    #[error("storage is full: nothing was written; reads still work")]
    Full,
    /// Not possible at the moment (503). Nothing was changed unless the text says so.
    #[error("{0}")]
    Unavailable(&'static str),
    /// A bug, or a fault that the operator's log explains (500).
    #[error("internal error")]
    Internal,
}

/// Why a caller is not admitted, as a text.
fn not_admitted(reason: &Reason) -> &'static str {
    match reason {
        Reason::Frozen => "this identity is frozen, because a copy of one of its certificates was used",
        Reason::Disabled => "this identity is disabled",
        Reason::Revoked => "this certificate was revoked",
        Reason::AuthorityEnded => "the authority of this certificate is no longer accepted",
        Reason::CertificateExpired => "the client certificate has expired",
        _ => "this certificate is not accepted",
    }
}

/// Error of a write after an integrity error.
const WRITES_STOPPED: &str =
    "writes are stopped after an integrity error, reads still work; find the damaged records: strongroom verify";

impl VaultError {
    /// The code of the error.
    #[must_use]
    pub fn error_code(&self) -> ErrorCode {
        match self {
            Self::Sealed => ErrorCode::Sealed,
            Self::NotInitialised => ErrorCode::NotInitialised,
            Self::NotFound | Self::NotFoundWith(_) => ErrorCode::NotFound,
            Self::NoRoute(_) => ErrorCode::NoRoute,
            Self::Forbidden | Self::NotAdmitted(_) | Self::Preflight(_) => ErrorCode::Denied,
            Self::NeedsApproval { .. } => ErrorCode::ApprovalNeeded,
            Self::ApprovalRejected { .. } => ErrorCode::ApprovalRejected,
            Self::BadRequest(_) | Self::Because(..) | Self::SharesMissing { .. } => ErrorCode::BadRequest,
            Self::WrongKey => ErrorCode::WrongKey,
            Self::TooMany { .. } | Self::RenewedTooOften { .. } => ErrorCode::TooMany,
            Self::RateLimited { .. } => ErrorCode::RateLimited,
            Self::RolledBack { .. } => ErrorCode::RolledBack,
            Self::Unsupported => ErrorCode::Unsupported,
            Self::AuditUnavailable => ErrorCode::AuditUnavailable,
            Self::Integrity => ErrorCode::Integrity,
            Self::DidNotOpen { code, .. } => *code,
            Self::Full => ErrorCode::StorageFull,
            Self::Unavailable(_) => ErrorCode::Unavailable,
            Self::Internal => ErrorCode::Internal,
        }
    }

    /// The code with the facts that programs need.
    #[must_use]
    pub fn info(&self) -> ErrorInfo {
        let info = ErrorInfo::from(self.error_code());
        match self {
            Self::NeedsApproval { id, missing } => info.with("id", id).with("missing", missing),
            Self::ApprovalRejected { id } => info.with("id", id),
            Self::Because(reason, _) | Self::NotAdmitted(reason) => info.because(*reason),
            Self::SharesMissing { have, need } => {
                info.because(Reason::SharesMissing).with("have", have).with("need", need)
            }
            Self::RolledBack { now: Mark { epoch, incarnation, generation } } => {
                info.with("epoch", epoch).with("incarnation", incarnation).with("generation", generation)
            }
            Self::TooMany { retry_after_s }
            | Self::RenewedTooOften { retry_after_s }
            | Self::RateLimited { retry_after_s, .. } => info.with("retry-after", retry_after_s),
            _ => info,
        }
    }

    /// The code as a word, for the audit log.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.error_code().word()
    }

    /// The HTTP status of the error. `http` sends it and the audit log records it, so the two cannot differ.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.error_code().status()
    }
}

impl VaultError {
    /// What a caller is told about a failure in the barrier.
    pub(super) fn from_barrier(error: &BarrierError) -> Self {
        match error {
            BarrierError::Full | BarrierError::Store(StoreError::Full) => Self::Full,
            BarrierError::Path(_) => Self::BadRequest("the path is not allowed".to_owned()),
            BarrierError::TooLarge => Self::BadRequest("the secret is too large for a record".to_owned()),
            BarrierError::Degraded => Self::Unavailable(WRITES_STOPPED),
            BarrierError::Fatal(_) => Self::Unavailable("the state on disk is unknown: the vault is restarting"),
            BarrierError::Store(StoreError::Corrupt(_)) => {
                Self::Unavailable("the store's files are damaged; the daemon's log says what to do")
            }
            BarrierError::Store(_) | BarrierError::Sidecar(_) => {
                Self::Unavailable("the store is not available; the daemon's log says why")
            }
            BarrierError::Abandoned => Self::Unavailable("the caller closed the connection"),
            BarrierError::TooManyChanges => Self::Unavailable("too many concurrent changes; try again"),
            BarrierError::NotEmpty => Self::BadRequest("the store is not empty".to_owned()),
            BarrierError::Versions(_) | BarrierError::Crypto(_) => Self::Internal,
            // Every other error means that stored bytes differ from what was written. The operator's log and
            // `docs/operations.md` name the error.
            _ => Self::Integrity,
        }
    }
}

impl From<BarrierError> for VaultError {
    fn from(error: BarrierError) -> Self {
        if !matches!(error, BarrierError::Abandoned) {
            tracing::error!(%error, "a stored record or the store itself is faulty");
        }
        Self::from_barrier(&error)
    }
}

impl From<EngineError> for VaultError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::BadRequest(text) => Self::BadRequest(text),
            EngineError::CheckAndSet(text) => Self::Because(Reason::CheckAndSet, text.to_owned()),
            EngineError::NotFound => Self::NotFound,
            EngineError::NotFoundWith(text) => Self::NotFoundWith(text),
            EngineError::Unsupported => Self::Unsupported,
            EngineError::Barrier(error) => Self::from(error),
        }
    }
}

impl From<FieldError> for VaultError {
    fn from(error: FieldError) -> Self {
        Self::BadRequest(error.to_string())
    }
}

impl From<RoleError> for VaultError {
    fn from(error: RoleError) -> Self {
        match error {
            RoleError::Record => Self::Integrity,
            error => Self::BadRequest(error.to_string()),
        }
    }
}

impl From<TokenError> for VaultError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Record => Self::Integrity,
            error => Self::BadRequest(error.to_string()),
        }
    }
}

impl From<QuotaError> for VaultError {
    fn from(error: QuotaError) -> Self {
        Self::BadRequest(error.to_string())
    }
}
