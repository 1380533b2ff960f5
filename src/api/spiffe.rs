//! Names of callers: SPIFFE IDs in one strict form.

use std::fmt;

const SCHEME: &str = "spiffe://";

/// `spiffe://<trust domain>/<path>`, compared byte by byte.
///
/// SPIFFE-ID specification, section 2: at most 2,048 bytes, a lower-case trust domain of at most 255 bytes of
/// `[a-z0-9._-]`, and a path with segments of `[A-Za-z0-9._-]`. The path must not be empty here, because a trust domain
/// alone names nobody. No query, fragment, user, port, percent escape, `.`, `..` or empty segment.
///
/// ```
/// use strongroom::api::spiffe::SpiffeId;
///
/// let id = SpiffeId::parse("spiffe://example.org/app/web").unwrap();
/// assert_eq!((id.trust_domain(), id.path()), ("example.org", "app/web"));
/// assert_eq!(SpiffeId::new("example.org", "app/web"), Ok(id));
/// assert!(SpiffeId::parse("spiffe://Example.org/app").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    uri: String,
    /// Offset of the slash after the trust domain.
    slash: usize,
}

/// Why a text is not such a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpiffeError {
    /// Does not start with `spiffe://`.
    #[error("identity does not start with spiffe://")]
    Scheme,
    /// More than 2,048 bytes.
    #[error("identity has more than 2048 bytes")]
    TooLong,
    /// The trust domain is empty, too long, or has a disallowed character.
    #[error("trust domain must be 1 to 255 characters out of [a-z0-9._-]")]
    TrustDomain,
    /// The path is missing, or a segment is empty, `.`, `..` or has a disallowed character.
    #[error("identity path must be segments out of [A-Za-z0-9._-], not . or ..")]
    Path,
}

impl SpiffeId {
    /// Parses a URI.
    ///
    /// # Errors
    /// [`SpiffeError`] when it is not exactly of the form above.
    pub fn parse(uri: &str) -> Result<Self, SpiffeError> {
        if uri.len() > 2048 {
            return Err(SpiffeError::TooLong);
        }
        let rest = uri.strip_prefix(SCHEME).ok_or(SpiffeError::Scheme)?;
        let (domain, path) = rest.split_once('/').ok_or(SpiffeError::Path)?;
        let in_domain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        if domain.is_empty() || domain.len() > 255 || !domain.bytes().all(in_domain) {
            return Err(SpiffeError::TrustDomain);
        }
        let in_path = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let legal = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(in_path);
        if !path.split('/').all(legal) {
            return Err(SpiffeError::Path);
        }
        Ok(Self { uri: uri.to_owned(), slash: SCHEME.len() + domain.len() })
    }

    /// Builds the name from its two parts. `path` has no leading slash.
    ///
    /// # Errors
    /// [`SpiffeError`] as in [`SpiffeId::parse`].
    pub fn new(trust_domain: &str, path: &str) -> Result<Self, SpiffeError> {
        // Checked before joining: a slash in the domain would move the border between the parts.
        if trust_domain.contains('/') {
            return Err(SpiffeError::TrustDomain);
        }
        Self::parse(&format!("{SCHEME}{trust_domain}/{path}"))
    }

    /// The trust domain.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        self.uri.get(SCHEME.len()..self.slash).unwrap_or_default()
    }

    /// The path without leading slash, as in `app/web`.
    #[must_use]
    pub fn path(&self) -> &str {
        self.uri.get(self.slash + 1..).unwrap_or_default()
    }

    /// The whole URI.
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn takes_names_apart() {
        let id = SpiffeId::parse("spiffe://strongroom.example/app/web").expect("legal");
        assert_eq!((id.trust_domain(), id.path()), ("strongroom.example", "app/web"));
        assert_eq!(SpiffeId::new("strongroom.example", "app/web"), Ok(id.clone()));
        assert_eq!(id.to_string(), id.uri());
    }

    #[test]
    fn refuses_everything_else() {
        let long = format!("spiffe://a/{}", "x".repeat(2048));
        let domain = format!("spiffe://{}/x", "a".repeat(256));
        for bad in [
            "",
            "spiffe://",
            "spiffe:///a",
            "spiffe://a",
            "spiffe://a/",
            "SPIFFE://a/b",
            "Spiffe://a/b",
            "https://a/b",
            "spiffe://A/b",
            "spiffe://a/b/",
            "spiffe://a//b",
            "spiffe://a/./b",
            "spiffe://a/../b",
            "spiffe://a/b?c",
            "spiffe://a/b#c",
            "spiffe://u@a/b",
            "spiffe://a:1/b",
            "spiffe://a/b%41",
            "spiffe://a/b c",
            "spiffe://a/é",
            "spiffe://é/a",
            "spiffe://a/b\0",
            " spiffe://a/b",
            "spiffe:/a/b",
            "spiffe://a/b:c",
            &long,
            &domain,
        ] {
            assert!(SpiffeId::parse(bad).is_err(), "{bad}");
        }
        assert!(SpiffeId::new("a/b", "c").is_err());
        assert!(SpiffeId::new("a", "/c").is_err());
    }

    proptest! {
        #[test]
        fn parts_rebuild_the_name(text in "spiffe://[a-z./@:?#%A-]{0,12}|\\PC{0,20}") {
            if let Ok(id) = SpiffeId::parse(&text) {
                prop_assert_eq!(id.uri(), &text);
                prop_assert_eq!(SpiffeId::new(id.trust_domain(), id.path()), Ok(id.clone()));
            }
        }
    }
}
