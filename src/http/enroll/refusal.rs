//! What a machine without a certificate learns about a failure.

use axum::response::Response;
use hyper::header::RETRY_AFTER;

use crate::api::error::{ErrorCode, ErrorInfo};
use crate::core::VaultError;
use crate::http::reply;

/// Why a request was not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EnrollError {
    /// 403, the same for every reason. Its source must wait longer each time.
    #[error("enrolment refused")]
    Refused,
    /// 400: the certificate request cannot be parsed. Its source must wait as after [`EnrollError::Refused`].
    #[error("{0}")]
    Malformed(&'static str),
    /// 404: no such authority, or it is not accepted.
    #[error("no such authority")]
    Unknown,
    /// 429 with `Retry-After`.
    #[error("too many requests")]
    TooMany {
        /// When to try again, in seconds.
        retry_after_s: u64,
    },
    /// 503.
    #[error("the vault is sealed")]
    Sealed,
    /// 503: not ready.
    #[error("{0}")]
    Unavailable(&'static str),
}

impl EnrollError {
    /// Maps every problem with strings, certificates and identities to one error, from which a stranger learns nothing.
    pub(super) fn of(error: &VaultError) -> Self {
        match error {
            VaultError::BadRequest(_) => Self::Malformed("the certificate request is malformed or its key too weak"),
            VaultError::TooMany { retry_after_s } | VaultError::RenewedTooOften { retry_after_s } => {
                Self::TooMany { retry_after_s: *retry_after_s }
            }
            VaultError::Sealed => Self::Sealed,
            VaultError::Forbidden | VaultError::NotFound => Self::Refused,
            other => {
                tracing::error!("enrolment failed: {other}");
                Self::Unavailable("the vault cannot enrol at the moment")
            }
        }
    }

    pub(super) fn reply(self) -> Response {
        let info = match self {
            Self::Refused => ErrorCode::Denied.into(),
            Self::Malformed(_) => ErrorCode::BadRequest.into(),
            Self::Unknown => ErrorCode::NotFound.into(),
            Self::TooMany { retry_after_s } => ErrorInfo::from(ErrorCode::TooMany).with("retry-after", retry_after_s),
            Self::Sealed => ErrorCode::Sealed.into(),
            Self::Unavailable(_) => ErrorCode::Unavailable.into(),
        };
        let mut reply = reply::errors(&info, Some(&self.to_string()));
        if let Self::TooMany { retry_after_s } = self {
            reply.headers_mut().insert(RETRY_AFTER, retry_after_s.into());
        }
        reply
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_learns_one_thing() {
        for error in [VaultError::Forbidden, VaultError::NotFound] {
            assert_eq!(EnrollError::of(&error), EnrollError::Refused);
        }
        assert_eq!(EnrollError::of(&VaultError::Sealed).reply().status(), 503);
        assert_eq!(EnrollError::of(&VaultError::Integrity).reply().status(), 503);
        let reply = EnrollError::of(&VaultError::RenewedTooOften { retry_after_s: 7 }).reply();
        assert_eq!((reply.status().as_u16(), reply.headers()[RETRY_AFTER].as_bytes()), (429, &b"7"[..]));
        // What the vault says of the request is for its own clients.
        let reason = EnrollError::of(&VaultError::BadRequest("app/web is disabled".to_owned()));
        assert!(!reason.to_string().contains("app/web") && reason.reply().status() == 400);
    }
}
