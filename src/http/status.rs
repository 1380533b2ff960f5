//! Errors on the wire: status, texts, and the code for programs.

use axum::response::Response;
use hyper::header::HeaderValue;

use super::reply;
use crate::api::error::{ErrorCode, ErrorInfo, Reason};
use crate::core::VaultError;

/// Encodes an error as a reply. [`VaultError`] already has the same text for everything that a caller must not learn.
pub(super) fn failure(error: &VaultError, request_id: &str) -> Response {
    let info = error.info();
    match error {
        VaultError::NotFound => reply::errors(&info, None),
        VaultError::NotFoundWith(warning) => {
            reply::failed_envelope(&info, request_id, reply::Parts::default(), std::slice::from_ref(warning))
        }
        VaultError::TooMany { retry_after_s }
        | VaultError::RateLimited { retry_after_s, .. }
        | VaultError::RenewedTooOften { retry_after_s } => {
            let mut reply = reply::errors(&info, Some(&error.to_string()));
            reply.headers_mut().insert(hyper::header::RETRY_AFTER, (*retry_after_s).into());
            reply
        }
        _ => reply::errors(&info, Some(&error.to_string())),
    }
}

/// A request that is rejected before it reaches the core.
pub(super) struct Refusal {
    /// The error code, which determines the status.
    code: ErrorCode,
    reason: Option<Reason>,
    /// Static text, never content of the request.
    text: &'static str,
}

impl Refusal {
    /// Creates an error with any code.
    pub(super) const fn new(code: ErrorCode, text: &'static str) -> Self {
        Self { code, reason: None, text }
    }

    /// Creates a 400.
    pub(super) const fn bad(text: &'static str) -> Self {
        Self::new(ErrorCode::BadRequest, text)
    }

    /// Creates a 403 like the core's.
    pub(super) const fn forbidden() -> Self {
        Self::new(ErrorCode::Denied, "permission denied")
    }

    /// Creates a 403 with a reason that programs act on.
    pub(super) const fn denied(reason: Reason, text: &'static str) -> Self {
        Self { code: ErrorCode::Denied, reason: Some(reason), text }
    }

    /// Creates a 405.
    pub(super) const fn method() -> Self {
        Self::new(ErrorCode::Unsupported, "method not allowed")
    }

    /// The status, for tests.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn status(&self) -> u16 {
        self.code.status()
    }

    pub(super) fn reply(&self) -> Response {
        let info = ErrorInfo::from(self.code);
        let info = self.reason.into_iter().fold(info, ErrorInfo::because);
        let mut reply = reply::errors(&info, Some(self.text));
        // The rest of the body may still arrive. It must not be parsed as the next request.
        if matches!(self.code, ErrorCode::TooLarge | ErrorCode::TooSlow) {
            reply.headers_mut().insert(hyper::header::CONNECTION, HeaderValue::from_static("close"));
        }
        reply
    }
}

impl From<Refusal> for Response {
    fn from(refusal: Refusal) -> Self {
        refusal.reply()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_says_its_code() {
        let text = || "text".to_owned();
        let mut seen = Vec::new();
        for error in [
            VaultError::Sealed,
            VaultError::NotInitialised,
            VaultError::NotFound,
            VaultError::NotFoundWith(text()),
            VaultError::NoRoute(text()),
            VaultError::Forbidden,
            VaultError::NotAdmitted(Reason::Frozen),
            VaultError::NeedsApproval { id: "07".to_owned(), missing: 2 },
            VaultError::ApprovalRejected { id: "07".to_owned() },
            VaultError::Preflight(text()),
            VaultError::BadRequest(text()),
            VaultError::Because(Reason::OwnCertificate, text()),
            VaultError::SharesMissing { have: 1, need: 3 },
            VaultError::WrongKey,
            VaultError::TooMany { retry_after_s: 7 },
            VaultError::RateLimited { path: text(), retry_after_s: 7 },
            VaultError::RenewedTooOften { retry_after_s: 7 },
            VaultError::RolledBack {
                now: crate::api::mark::Mark { epoch: 1, incarnation: "0f".repeat(16), generation: 7 },
            },
            VaultError::Unsupported,
            VaultError::AuditUnavailable,
            VaultError::Integrity,
            VaultError::DidNotOpen { code: ErrorCode::Integrity, why: None },
            VaultError::Full,
            VaultError::Unavailable("text"),
            VaultError::Internal,
        ] {
            let reply = failure(&error, "id");
            let line = reply.headers()[crate::api::error::HEADER].to_str().expect("text");
            assert_eq!(ErrorInfo::parse(line), Some(error.info()), "{error}");
            assert_eq!((reply.status().as_u16(), error.code()), (error.status(), error.info().code().word()));
            seen.push(error.error_code());
        }
        for code in ErrorCode::ALL {
            let of_http = matches!(
                code,
                ErrorCode::TooSlow | ErrorCode::TooLarge | ErrorCode::MediaType | ErrorCode::EnrolmentListener
            );
            assert!(of_http || seen.contains(code), "{code:?}");
            let reply = Refusal::new(*code, "text").reply();
            assert_eq!(reply.headers()[crate::api::error::HEADER], code.word());
            assert_eq!(reply.status().as_u16(), code.status());
        }
    }
}
