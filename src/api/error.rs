//! What a failed request tells programs: the header `X-Strongroom-Error: code; key=value`.
//!
//! The texts of an error are for people and may change with any version. Programs use the code and the facts that follow
//! it; both are defined here only. A reader ignores facts that it does not know.

use std::borrow::Cow;
use std::fmt;

/// Name of the header.
pub const HEADER: &str = "x-strongroom-error";
/// Longest line that is read, in bytes.
const MAX_LINE: usize = 512;

/// Defines an enum of words: its variants, the list of all, and the conversion from and to the word on the wire.
macro_rules! words {
    ($(#[$head:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$head])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// All variants.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word on the wire.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            /// Parses the word on the wire; `None` for one that this version does not know.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.word() == word)
            }
        }
    };
}

words! {
    /// What kind of failure it is. Each code belongs to one HTTP status.
    ErrorCode {
        /// The vault is sealed.
        Sealed = "sealed",
        /// There is no vault in the data directory yet.
        NotInitialised = "not-initialised",
        /// There is nothing at this path.
        NotFound = "not-found",
        /// No mount and no route matches the path.
        NoRoute = "no-route",
        /// The request was sent to the enrolment listener, which serves nothing but enrolments and revocation lists.
        EnrolmentListener = "enrolment-listener",
        /// The caller is not allowed to do this.
        Denied = "denied",
        /// Other operators must approve first. Facts: `id` of the request that they approve, and `missing`, how many
        /// must still approve.
        ApprovalNeeded = "approval-needed",
        /// Another operator has rejected the same request. Fact: `id`.
        ApprovalRejected = "approval-rejected",
        /// The request is malformed, or not possible in the current state; often with a [`Reason`].
        BadRequest = "bad-request",
        /// The secret does not open the vault.
        WrongKey = "wrong-key",
        /// Too many attempts. Fact: `retry-after`, seconds.
        TooMany = "too-many",
        /// The identity has exceeded a rate limit. Fact: `retry-after`, seconds.
        RateLimited = "rate-limited",
        /// The path does not support this operation, or the listener does not support this method.
        Unsupported = "unsupported",
        /// The body did not arrive in time.
        TooSlow = "too-slow",
        /// The body is too large.
        TooLarge = "too-large",
        /// The body has a media type that the operation does not accept.
        MediaType = "media-type",
        /// The audit log cannot be written, so no request is answered.
        AuditUnavailable = "audit-unavailable",
        /// Stored data failed its integrity check.
        Integrity = "integrity",
        /// The caller has seen a later state of this vault: it was rolled back. Nothing was done. Facts: `epoch`, `incarnation`
        /// and `generation` of the vault.
        RolledBack = "rolled-back",
        /// The disk is full: writes are rejected, reads still work.
        StorageFull = "storage-full",
        /// Not possible at the moment; try again later.
        Unavailable = "unavailable",
        /// A bug or a fault; the operator's log has the details.
        Internal = "internal",
    }
}

impl ErrorCode {
    /// The HTTP status that the code belongs to.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest | Self::WrongKey | Self::NotInitialised => 400,
            Self::Denied | Self::ApprovalNeeded | Self::ApprovalRejected => 403,
            Self::NotFound | Self::NoRoute => 404,
            Self::Unsupported => 405,
            Self::TooSlow => 408,
            Self::RolledBack => 412,
            Self::TooLarge => 413,
            Self::MediaType => 415,
            Self::EnrolmentListener => 421,
            Self::TooMany | Self::RateLimited => 429,
            Self::Integrity | Self::Internal => 500,
            Self::Sealed | Self::AuditUnavailable | Self::Unavailable => 503,
            Self::StorageFull => 507,
        }
    }
}

words! {
    /// The fact `reason`: why a request failed, for the cases that programs can act on.
    Reason {
        /// A check-and-set write lost a race, or did not say which version it replaces (400).
        CheckAndSet = "check-and-set",
        /// More shares are needed (400). Facts: `have`, `need`.
        SharesMissing = "shares-missing",
        /// The identity must be registered first (400).
        NotRegistered = "not-registered",
        /// The maximum number is on record; some must be deleted or expire first (400).
        LimitReached = "limit-reached",
        /// The identity is disabled (400 for an identity that the request names, 403 for the caller's own).
        Disabled = "disabled",
        /// The caller's identity is frozen: a copy of one of its certificates was used (403).
        Frozen = "frozen",
        /// The caller's certificate was revoked, or all certificates of its identity were (403).
        Revoked = "revoked",
        /// The authority of the caller's certificate is no longer accepted (403).
        AuthorityEnded = "authority-ended",
        /// Open enrolment strings would become invalid; `force` does it anyway (400).
        EnrolmentsOpen = "enrolments-open",
        /// Other clients would lose access; `force` does it anyway (400).
        ForceNeeded = "force-needed",
        /// The caller's own certificate would lose access (400).
        OwnCertificate = "own-certificate",
        /// No identity would be left that can change policies and identities (400).
        LastAdministrator = "last-administrator",
        /// The certificate expired while the connection was open (403).
        CertificateExpired = "certificate-expired",
        /// A web page could have caused the request (403).
        WebPage = "web-page",
    }
}

/// A code with its facts: one line of the header.
///
/// ```
/// use strongroom::api::error::{ErrorCode, ErrorInfo, Reason};
///
/// let info = ErrorInfo::parse("bad-request; reason=shares-missing; have=1; need=3; new=ignored").unwrap();
/// assert_eq!((info.code(), info.reason()), (ErrorCode::BadRequest, Some(Reason::SharesMissing)));
/// assert_eq!((info.fact("have"), info.number("need")), (Some("1"), Some(3)));
/// assert_eq!(ErrorInfo::from(ErrorCode::Sealed).to_string(), "sealed");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorInfo {
    code: ErrorCode,
    facts: Vec<(Cow<'static, str>, String)>,
}

impl From<ErrorCode> for ErrorInfo {
    fn from(code: ErrorCode) -> Self {
        Self { code, facts: Vec::new() }
    }
}

impl ErrorInfo {
    /// Adds a fact. A fact may be a word, a number or an id; anything that would need quoting is dropped.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        let value = value.to_string();
        if is_word(&value) {
            self.facts.push((Cow::Borrowed(key), value));
        }
        self
    }

    /// Adds the fact `reason`.
    #[must_use]
    pub fn because(self, reason: Reason) -> Self {
        self.with("reason", reason.word())
    }

    /// Parses a line. `None` for a code that this version does not know, a malformed line, or one of more than 512
    /// bytes. Never panics.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        if line.len() > MAX_LINE {
            return None;
        }
        let mut parts = line.split(';').map(str::trim);
        let code = ErrorCode::parse(parts.next()?)?;
        let facts = parts.filter_map(|part| part.split_once('=')).filter(|(key, value)| is_word(key) && is_word(value));
        Some(Self { code, facts: facts.map(|(key, value)| (Cow::Owned(key.to_owned()), value.to_owned())).collect() })
    }

    /// The code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// A fact by name; the first one if there are several.
    #[must_use]
    pub fn fact(&self, key: &str) -> Option<&str> {
        self.facts.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// A fact by name, as a number.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<u64> {
        self.fact(key)?.parse().ok()
    }

    /// The reason, if there is one that this version knows.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        Reason::parse(self.fact("reason")?)
    }
}

impl fmt::Display for ErrorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code.word())?;
        self.facts.iter().try_for_each(|(key, value)| write!(f, "; {key}={value}"))
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_words_are_known_unique_and_described() {
        let protocol = include_str!("../../docs/protocol.md");
        let codes = ErrorCode::ALL.iter().map(|code| {
            assert_eq!(ErrorCode::parse(code.word()), Some(*code));
            assert!((400..600).contains(&code.status()));
            code.word()
        });
        let reasons = Reason::ALL.iter().map(|reason| {
            assert_eq!(Reason::parse(reason.word()), Some(*reason));
            reason.word()
        });
        let all: Vec<&str> = codes.chain(reasons).collect();
        for (at, word) in all.iter().enumerate() {
            assert!(is_word(word) && !all[at + 1..].contains(word), "{word}");
            assert!(protocol.contains(&format!("`{word}`")), "docs/protocol.md does not name {word}");
        }
        assert_eq!((ErrorCode::parse("new"), Reason::parse("")), (None, None));
    }

    #[test]
    fn what_cannot_stand_in_a_line_is_left_out() {
        let info = ErrorInfo::from(ErrorCode::ApprovalNeeded).with("id", "0af3").with("missing", 2).with("x", "a; b=c");
        assert_eq!(info.to_string(), "approval-needed; id=0af3; missing=2");
        assert_eq!(ErrorInfo::parse(&info.to_string()), Some(info));
        assert_eq!(
            ErrorInfo::parse("denied ;=;a=;b; reason=web-page").and_then(|info| info.reason()),
            Some(Reason::WebPage)
        );
        assert_eq!(ErrorInfo::parse(&format!("denied; a={}", "b".repeat(MAX_LINE))), None);
    }

    proptest! {
        #[test]
        fn any_line_is_read_and_comes_back(line in "[a-z=;. -]{0,40}|(denied|sealed)[a-z=;. -]{0,40}|\\PC*") {
            if let Some(info) = ErrorInfo::parse(&line) {
                prop_assert_eq!(ErrorInfo::parse(&info.to_string()), Some(info));
            }
        }
    }
}
