//! What a reply of failure says to programs: the header `X-Strongroom-Error: code; key=value`.
//!
//! The texts of a failure are for people and may change with any version. Programs look at the code, and at the facts behind
//! it; this is the one table of both. A reader ignores facts that it does not know.

use std::borrow::Cow;
use std::fmt;

/// Name of the header.
pub const HEADER: &str = "x-strongroom-error";
/// Longest line that is read, bytes.
const MAX_LINE: usize = 512;

/// Defines an enum of words: the variants, all of them, and the way from and to the word on the wire.
macro_rules! words {
    ($(#[$head:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$head])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word on the wire.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }

            /// From the word on the wire; `None` for one that this version does not know.
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
        /// Nothing there.
        NotFound = "not-found",
        /// No mount and no route takes the path.
        NoRoute = "no-route",
        /// The request was sent to the enrolment listener, which serves nothing but enrolments and revocation lists.
        EnrolmentListener = "enrolment-listener",
        /// Refused.
        Denied = "denied",
        /// Other operators must approve first. Facts: `id` of what they approve, `missing`, the number of them.
        ApprovalNeeded = "approval-needed",
        /// Another operator has rejected the same request. Fact: `id`.
        ApprovalRejected = "approval-rejected",
        /// The request is wrong, or cannot be done as things stand; often with a [`Reason`].
        BadRequest = "bad-request",
        /// The secret does not open the vault.
        WrongKey = "wrong-key",
        /// Too many attempts. Fact: `retry-after`, seconds.
        TooMany = "too-many",
        /// Over a limit of what one identity may ask for. Fact: `retry-after`, seconds.
        RateLimited = "rate-limited",
        /// The path does not take this operation, or the listener does not take this method.
        Unsupported = "unsupported",
        /// The body did not come in time.
        TooSlow = "too-slow",
        /// The body is too large.
        TooLarge = "too-large",
        /// The body is of another kind than the operation needs.
        MediaType = "media-type",
        /// The audit log does not take entries, so nothing is answered.
        AuditUnavailable = "audit-unavailable",
        /// Stored data failed its integrity check.
        Integrity = "integrity",
        /// The caller has seen a later state of this vault: it was rolled back. Nothing was done. Facts: `epoch`, `incarnation`
        /// and `generation`, where the vault stands.
        RolledBack = "rolled-back",
        /// The disk is full: writes wait, reads go on.
        StorageFull = "storage-full",
        /// Cannot be done at the moment.
        Unavailable = "unavailable",
        /// A defect or a fault that the operator's log explains.
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
    /// Why, where programs do something about it: the fact `reason`.
    Reason {
        /// A check-and-set write came too late, or did not say which version it knows (400).
        CheckAndSet = "check-and-set",
        /// More shares are needed (400). Facts: `have`, `need`.
        SharesMissing = "shares-missing",
        /// The identity must be registered first (400).
        NotRegistered = "not-registered",
        /// As many are on record as may be; some must be deleted or expire first (400).
        LimitReached = "limit-reached",
        /// The identity is disabled (400 for the identity that a request is about, 403 for the caller's own).
        Disabled = "disabled",
        /// The caller's identity is frozen: a copy of one of its certificates was used (403).
        Frozen = "frozen",
        /// The caller's certificate was revoked, or all certificates of its identity were (403).
        Revoked = "revoked",
        /// The authority of the caller's certificate is no longer accepted (403).
        AuthorityEnded = "authority-ended",
        /// Enrolment strings that are open would become void; `force` does it (400).
        EnrolmentsOpen = "enrolments-open",
        /// Others would be cut off; `force` does it (400).
        ForceNeeded = "force-needed",
        /// The caller's own certificate would be cut off (400).
        OwnCertificate = "own-certificate",
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
    /// Adds a fact. One that would need quoting is left out: words, numbers and ids are all that a fact may be.
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

    /// Reads a line. Total: `None` for a code that this version does not know, for what is no such line, and for one of
    /// more than 512 bytes.
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

    /// A fact; the first of that name.
    #[must_use]
    pub fn fact(&self, key: &str) -> Option<&str> {
        self.facts.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// A fact that is a number.
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
