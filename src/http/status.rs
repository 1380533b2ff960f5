//! How failures look on the wire: the one table from [`VaultError`] to status and texts.

use axum::response::Response;
use hyper::StatusCode;
use hyper::header::HeaderValue;

use super::reply;
use crate::core::VaultError;

/// A failure as a reply. Everything that a caller may not know has the same text already in [`VaultError`].
pub(super) fn failure(error: &VaultError, request_id: &str) -> Response {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match error {
        VaultError::NotFound => reply::errors(status, None),
        VaultError::NotFoundWith(warning) => {
            reply::envelope(status, request_id, reply::Parts::default(), std::slice::from_ref(warning), false)
        }
        VaultError::TooMany { retry_after_s }
        | VaultError::RateLimited { retry_after_s, .. }
        | VaultError::RenewedTooOften { retry_after_s } => {
            let mut reply = reply::errors(status, Some(&error.to_string()));
            reply.headers_mut().insert(hyper::header::RETRY_AFTER, (*retry_after_s).into());
            reply
        }
        _ => reply::errors(status, Some(&error.to_string())),
    }
}

/// A request that does not reach the core.
pub(super) struct Refusal {
    /// Status.
    pub status: StatusCode,
    /// Static text: never content of the request.
    pub text: &'static str,
}

impl Refusal {
    /// 400.
    pub(super) const fn bad(text: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, text }
    }

    /// 403, the same as the core's.
    pub(super) const fn forbidden() -> Self {
        Self { status: StatusCode::FORBIDDEN, text: "permission denied" }
    }

    pub(super) fn reply(&self) -> Response {
        let mut reply = reply::errors(self.status, Some(self.text));
        // The rest of the body may still be on its way: it must not be taken for the next request.
        if matches!(self.status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT) {
            reply.headers_mut().insert(hyper::header::CONNECTION, HeaderValue::from_static("close"));
        }
        reply
    }
}
