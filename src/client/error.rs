//! Errors of the client, with what to do about them.

use std::io;

use rustls::{AlertDescription, CertificateError, Error as TlsError};

use crate::api::error::{ErrorCode, ErrorInfo, Reason};
use crate::api::mark::Mark;

/// Why there is no usable reply.
///
/// ```
/// use strongroom::client::ClientError;
///
/// /// What a program does that cannot read its secrets.
/// fn next_step(error: &ClientError) -> &'static str {
///     match error {
///         // Nothing that this vault says may be used.
///         ClientError::RolledBack { .. } => "stop, and tell an operator",
///         ClientError::Transport { .. } => "try again",
///         error if error.is_sealed() => "try again when it is unsealed",
///         error if error.is_certificate_expired() => "enrol again",
///         ClientError::Refused { status: 403, .. } => "ask an operator for a policy",
///         _ => "stop",
///     }
/// }
///
/// let (address, problem) = ("https://vault.example.org:8200".to_owned(), "connection refused".to_owned());
/// let error = ClientError::Transport { address, problem, hint: "is strongroomd running there?" };
/// assert_eq!(next_step(&error), "try again");
/// let text = "https://vault.example.org:8200: connection refused: is strongroomd running there?";
/// assert_eq!(error.to_string(), text);
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The settings are invalid.
    #[error("{0}")]
    Settings(&'static str),
    /// The address is invalid.
    #[error("{0}")]
    Address(&'static str),
    /// There was no answer.
    #[error("{address}: {problem}{}{hint}", if .hint.is_empty() { "" } else { ": " })]
    Transport {
        /// Address of the server.
        address: String,
        /// What happened.
        problem: String,
        /// What may help; may be empty.
        hint: &'static str,
    },
    /// The server rejects the client's certificate.
    #[error("{address}: {problem}: {}", .problem.hint())]
    Certificate {
        /// Address of the server.
        address: String,
        /// What is wrong with the certificate.
        problem: CertificateProblem,
    },
    /// The server rejected the request.
    #[error("{}", refused(*.status, .errors, .info.as_deref(), .asked))]
    Refused {
        /// HTTP status.
        status: u16,
        /// The server's texts, for people; may be empty.
        errors: Vec<String>,
        /// The error code and its facts; `None` from other servers.
        info: Option<Box<ErrorInfo>>,
        /// Capability and path of the request, as a policy would name them: `list secret/metadata/app`. May be empty.
        asked: String,
    },
    /// The answer violates the protocol.
    #[error("{0}")]
    Malformed(&'static str),
    /// The server's history has gone back, or differs from the one that was seen before. The reply was discarded.
    #[error("{}", history(.held, .seen))]
    RolledBack {
        /// Mark before the request.
        held: Mark,
        /// Mark of the reply.
        seen: Mark,
    },
}

/// What happened to the vault. What to do about it depends on the reader, so the caller adds that.
fn history(held: &Mark, seen: &Mark) -> String {
    let what = if held.epoch == seen.epoch && held.incarnation != seen.incarnation {
        "two copies of this vault have been written to independently"
    } else {
        "the vault was rolled back to an older copy"
    };
    format!(
        "{what}: it is at epoch {}, generation {}; seen before: epoch {}, generation {}",
        seen.epoch, seen.generation, held.epoch, held.generation
    )
}

/// Why a server rejects a client's certificate (alerts of RFC 8446 section 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateProblem {
    /// It has expired.
    #[error("your certificate has expired")]
    Expired,
    /// It was revoked.
    #[error("your certificate has been revoked")]
    Revoked,
    /// Its authority is unknown, or no longer known.
    #[error("the server does not know the authority of your certificate")]
    Authority,
    /// It is rejected for another reason, or the server gives none.
    #[error("the server does not accept your certificate")]
    Other,
}

impl CertificateProblem {
    /// What may help.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::Expired => {
                "ask for a new enrolment string; strongroom renew works only if the vault renews expired ones"
            }
            Self::Revoked => "ask for a new enrolment string",
            Self::Authority => "check that this is the right server; if it is, ask for a new enrolment string",
            Self::Other => "it may have been revoked: ask an operator, or ask for a new enrolment string",
        }
    }

    fn of(error: &TlsError) -> Option<Self> {
        let TlsError::AlertReceived(alert) = error else { return None };
        match alert {
            AlertDescription::CertificateExpired => Some(Self::Expired),
            AlertDescription::CertificateRevoked => Some(Self::Revoked),
            AlertDescription::UnknownCA => Some(Self::Authority),
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied => Some(Self::Other),
            _ => None,
        }
    }
}

/// Finds the TLS error in a failed exchange.
fn tls_error(error: &ureq::Error) -> Option<&TlsError> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref().and_then(|inner| inner.downcast_ref()),
        _ => None,
    }
}

impl ClientError {
    /// A rejection with these texts and this line of [`HEADER`](crate::api::error::HEADER).
    pub(super) fn refusal(status: u16, errors: Vec<String>, line: Option<&str>) -> Self {
        Self::Refused { status, errors, info: line.and_then(ErrorInfo::parse).map(Box::new), asked: String::new() }
    }

    /// Adds what was requested.
    pub(super) fn of_request(mut self, request: &str) -> Self {
        if let Self::Refused { asked, .. } = &mut self {
            request.clone_into(asked);
        }
        self
    }

    /// The error code and facts of a rejection.
    #[must_use]
    pub fn info(&self) -> Option<&ErrorInfo> {
        match self {
            Self::Refused { info, .. } => info.as_deref(),
            _ => None,
        }
    }

    /// The reason of a rejection, if it has one that this version knows.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.info().and_then(ErrorInfo::reason)
    }

    /// Whether the server said that the client's certificate has expired.
    #[must_use]
    pub fn is_certificate_expired(&self) -> bool {
        match self {
            Self::Certificate { problem, .. } => *problem == CertificateProblem::Expired,
            // On a connection that was opened before the expiry.
            _ => self.reason() == Some(Reason::CertificateExpired),
        }
    }

    /// HTTP status of a rejection.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the server answered that it is sealed.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.info().is_some_and(|info| info.code() == ErrorCode::Sealed)
    }

    /// The id of the request that other operators must approve before it can be executed.
    #[must_use]
    pub fn approval(&self) -> Option<&str> {
        self.info().filter(|info| info.code() == ErrorCode::ApprovalNeeded)?.fact("id")
    }

    /// Whether a check-and-set write was too late.
    #[must_use]
    pub fn is_cas_mismatch(&self) -> bool {
        self.reason() == Some(Reason::CheckAndSet)
    }
}

fn refused(status: u16, errors: &[String], info: Option<&ErrorInfo>, asked: &str) -> String {
    let mut text = errors.iter().map(|text| text.trim()).collect::<Vec<_>>().join("; ");
    // A rejection with a reason is not about this request alone.
    let about_the_request = match info.map(ErrorInfo::code) {
        Some(ErrorCode::Denied) => info.and_then(ErrorInfo::reason).is_none(),
        code => code == Some(ErrorCode::Integrity),
    };
    if about_the_request && !text.is_empty() && !asked.is_empty() {
        text = format!("{asked}: {text}");
    }
    let hint = match (info.map(ErrorInfo::code), status) {
        (Some(ErrorCode::Sealed), _) => " (unseal it: strongroom unseal)",
        (Some(ErrorCode::ApprovalNeeded | ErrorCode::ApprovalRejected), _) => "",
        (_, 403) if info.and_then(ErrorInfo::reason).is_none() => " (this certificate's policies do not allow it)",
        _ => "",
    };
    match (status, text.is_empty()) {
        (404, true) => "nothing there".to_owned(),
        (_, true) => format!("the server answered {status}{hint}"),
        (_, false) => format!("{text}{hint}"),
    }
}

/// Describes a failed exchange.
pub(super) fn transport(error: ureq::Error, address: &str) -> ClientError {
    if let Some(problem) = tls_error(&error).and_then(CertificateProblem::of) {
        return ClientError::Certificate { address: address.to_owned(), problem };
    }
    let (problem, hint) = match &error {
        _ if tls_error(&error).is_some() => tls_error(&error).map(tls).unwrap_or_default(),
        ureq::Error::Io(error) => socket(error),
        ureq::Error::Timeout(_) => {
            ("no answer in time".to_owned(), "the server may be busy, or a firewall may be in between")
        }
        ureq::Error::HostNotFound => ("no such host".to_owned(), "check the name in the address"),
        ureq::Error::Protocol(_) | ureq::Error::Http(_) | ureq::Error::LargeResponseHeader(..) => {
            return ClientError::Malformed("the server does not answer in HTTP/1.1");
        }
        ureq::Error::BodyExceedsLimit(_) => return ClientError::Malformed("the reply is larger than 32 MiB"),
        other => (other.to_string(), ""),
    };
    ClientError::Transport { address: address.to_owned(), problem, hint }
}

fn socket(error: &io::Error) -> (String, &'static str) {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ("connection refused".to_owned(), "is strongroomd running there?"),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => ("no answer in time".to_owned(), ""),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            ("the server closed the connection".to_owned(), "its log says why")
        }
        _ => (error.to_string(), ""),
    }
}

fn tls(error: &TlsError) -> (String, &'static str) {
    match error {
        TlsError::InvalidCertificate(problem) => certificate(problem),
        TlsError::AlertReceived(alert) => {
            let hint = match alert {
                AlertDescription::CertificateRequired => "the server requires a client certificate",
                AlertDescription::ProtocolVersion => "the server does not speak TLS 1.3",
                _ => "",
            };
            (format!("the server refused the connection ({alert:?})"), hint)
        }
        TlsError::InvalidMessage(_) => ("not a TLS server".to_owned(), "check the port"),
        TlsError::PeerIncompatible(_) => ("no common TLS version".to_owned(), "TLS 1.3 is required"),
        other => (other.to_string(), ""),
    }
}

fn certificate(problem: &CertificateError) -> (String, &'static str) {
    match problem {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            ("the server's certificate has expired".to_owned(), "renew it on the server, or check this clock")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ("the server's certificate is not valid yet".to_owned(), "check this clock")
        }
        CertificateError::UnknownIssuer | CertificateError::BadSignature => (
            "the server's certificate is not from the given authority".to_owned(),
            "check the CA certificate; if it is the right one, this is another server",
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            "the server's certificate does not name this host".to_owned(),
            "use a name or address that the certificate lists",
        ),
        other => (format!("the server's certificate is not acceptable ({other:?})"), ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_to_do() {
        let error = transport(ureq::Error::Io(io::ErrorKind::ConnectionRefused.into()), "https://a:1");
        assert_eq!(error.to_string(), "https://a:1: connection refused: is strongroomd running there?");
        let alert =
            io::Error::new(io::ErrorKind::InvalidData, TlsError::AlertReceived(AlertDescription::CertificateRequired));
        assert!(transport(ureq::Error::Io(alert), "x").to_string().contains("requires a client certificate"));
        for (alert, words) in [
            (AlertDescription::CertificateExpired, "x: your certificate has expired: ask for a new enrolment string; "),
            (
                AlertDescription::CertificateRevoked,
                "x: your certificate has been revoked: ask for a new enrolment string",
            ),
            (AlertDescription::CertificateUnknown, "x: the server does not accept your certificate: it may"),
            (AlertDescription::UnknownCA, "x: the server does not know the authority of your certificate: check"),
        ] {
            let direct = transport(ureq::Error::Rustls(TlsError::AlertReceived(alert)), "x");
            let wrapped = io::Error::new(io::ErrorKind::InvalidData, TlsError::AlertReceived(alert));
            for error in [direct, transport(ureq::Error::Io(wrapped), "x")] {
                assert!(error.to_string().starts_with(words), "{error}");
                assert_eq!(error.is_certificate_expired(), alert == AlertDescription::CertificateExpired);
            }
        }
        let refusal = |status, text: &str, line| ClientError::refusal(status, vec![text.to_owned()], Some(line));
        let sealed = refusal(503, "Vault is sealed", "sealed");
        assert!(sealed.is_sealed());
        let needs = "needs the approval of 1 more operator: strongroom approvals approve 0123456789abcdef";
        let waits = refusal(403, needs, "approval-needed; id=0123456789abcdef; missing=1");
        assert_eq!((waits.approval(), waits.to_string().as_str()), (Some("0123456789abcdef"), needs));
        let frozen = "permission denied: this identity is frozen, because a copy of one of its certificates was used";
        let refused = refusal(403, frozen, "denied; reason=frozen");
        assert_eq!(
            (refused.reason(), refused.to_string().as_str()),
            (Some(Reason::Frozen), frozen),
            "no word of policies"
        );
        let denied = refusal(403, "permission denied", "denied").of_request("list secret/metadata/app");
        let words = "list secret/metadata/app: permission denied (this certificate's policies do not allow it)";
        assert_eq!(denied.to_string(), words);
        let damaged = refusal(500, "stored data failed", "integrity").of_request("read secret/data/app");
        assert_eq!(damaged.to_string(), "read secret/data/app: stored data failed");
        assert_eq!(sealed.approval(), None);
        assert_eq!(sealed.to_string(), "Vault is sealed (unseal it: strongroom unseal)");
    }

    #[test]
    fn no_text_changes_what_a_program_does() {
        // What each text says in other words, or in the words of another failure.
        for text in ["Der Tresor ist versiegelt", "check-and-set", "Vault is sealed", ""] {
            let refusal = |status, line| ClientError::refusal(status, vec![text.to_owned()], line);
            assert!(refusal(503, Some("sealed")).is_sealed());
            assert!(refusal(400, Some("bad-request; reason=check-and-set")).is_cas_mismatch());
            assert!(refusal(403, Some("denied; reason=certificate-expired")).is_certificate_expired());
            assert_eq!(refusal(403, Some("approval-needed; id=07; missing=2")).approval(), Some("07"));
            for line in
                [None, Some("unavailable"), Some("a-new-code; reason=check-and-set"), Some("; reason=check-and-set")]
            {
                for status in [400, 403, 503] {
                    let other = refusal(status, line);
                    let seen = other.is_sealed() || other.is_cas_mismatch() || other.is_certificate_expired();
                    assert!(!seen && other.approval().is_none(), "{text} {line:?}");
                }
            }
        }
    }
}
