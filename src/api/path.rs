//! The only path type, which is always canonical.
//!
//! A raw string becomes a [`Path`] once, at the edge. Router, policy, engines and audit accept nothing else, so they
//! cannot disagree about what a request names. Invalid text is rejected, never repaired: no cleaning of `//` or `..`,
//! no case folding, no second decoding.

use std::fmt;
use std::sync::Arc;

/// Longest path in bytes, without the slash at the end of a folder.
pub const MAX_BYTES: usize = 1024;
/// Largest number of segments of a path.
pub const MAX_SEGMENTS: usize = 16;
/// Longest segment in bytes.
pub const MAX_SEGMENT_BYTES: usize = 128;

/// A canonical path: 1 to 16 segments of 1-128 bytes out of `[A-Za-z0-9_.@:=~-]`, no `.` or `..`, at most 1,024 bytes
/// without the slash at the end.
///
/// It has no leading slash, and it ends with `/` exactly when it is a folder. The empty text is the root folder. Paths
/// are ordered by their bytes. Cloning shares the text.
///
/// ```
/// use strongroom::api::path::{Path, PathError};
///
/// let path = Path::parse("app/prod").unwrap();
/// assert_eq!(path.segments().collect::<Vec<_>>(), ["app", "prod"]);
/// assert_eq!(path.to_folder().join("db").unwrap().as_str(), "app/prod/db");
/// assert_eq!(path.parent().unwrap().as_str(), "app/");
/// // One path has one form: what would have to be repaired is rejected.
/// for refused in ["/app", "app//prod", "app/../prod", "app/pr od"] {
///     assert!(Path::parse(refused).is_err(), "{refused}");
/// }
/// assert!(Path::parse_uri("app/%70rod").is_err());
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Arc<str>);

/// Why a text is not a path. Positions are byte offsets into the input, which the message does not repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// Starts with `/`, or has two slashes in a row.
    #[error("path has an empty segment at byte {0}")]
    EmptySegment(usize),
    /// A segment is `.` or `..`.
    #[error("path has a dot segment at byte {0}")]
    DotSegment(usize),
    /// A byte is not allowed, plain or percent-encoded.
    #[error("path has a character outside [A-Za-z0-9_.@:=~-] at byte {0}")]
    Character(usize),
    /// A percent sign is not followed by two hexadecimal digits.
    #[error("path has a malformed percent escape at byte {0}")]
    Escape(usize),
    /// An allowed character is escaped. Each path must have only one form.
    #[error("path escapes a character that must be written plainly at byte {0}")]
    NotCanonical(usize),
    /// A segment is longer than 128 bytes.
    #[error("path has a segment of more than 128 bytes at byte {0}")]
    SegmentTooLong(usize),
    /// More than 16 segments.
    #[error("path has more than 16 segments")]
    TooDeep,
    /// More than 1,024 bytes.
    #[error("path has more than 1024 bytes")]
    TooLong,
    /// The text is not a single name.
    #[error("not a single path segment")]
    NotASegment,
}

fn is_legal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.@:=~-".contains(&byte)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

impl Path {
    /// The root folder, written as the empty text.
    #[must_use]
    pub fn root() -> Self {
        Self(Arc::from(""))
    }

    /// Parses the part of a request target after `/v1/`, without the query, and decodes percent escapes exactly once.
    ///
    /// Every allowed character is its own canonical form in a URI path (RFC 3986, section 3.3). So an escape either
    /// stands for a disallowed character or is not canonical, and both are rejected. An accepted path re-encodes to
    /// `raw`.
    ///
    /// # Errors
    /// [`PathError`] for the first problem.
    pub fn parse_uri(raw: &str) -> Result<Self, PathError> {
        let bytes = raw.as_bytes();
        if let Some(at) = bytes.iter().position(|byte| *byte == b'%') {
            // The text before the escape is checked first, so that the first problem is reported.
            if let Some(bad) = bytes.iter().take(at).position(|byte| *byte != b'/' && !is_legal(*byte)) {
                return Err(PathError::Character(bad));
            }
            let digit = |offset: usize| bytes.get(at + offset).copied().and_then(hex_digit);
            return Err(match (digit(1), digit(2)) {
                (Some(high), Some(low)) if is_legal(high << 4 | low) => PathError::NotCanonical(at),
                (Some(_), Some(_)) => PathError::Character(at),
                _ => PathError::Escape(at),
            });
        }
        Self::parse(raw)
    }

    /// Parses plain text without decoding.
    ///
    /// # Errors
    /// [`PathError`] for the first problem.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if text.is_empty() {
            return Ok(Self::root());
        }
        // Without the slash, so that the folder of every path is a path, too.
        let body = text.strip_suffix('/').unwrap_or(text);
        if body.len() > MAX_BYTES {
            return Err(PathError::TooLong);
        }
        let mut at = 0;
        for (index, segment) in body.split('/').enumerate() {
            check_segment(segment, at)?;
            if index >= MAX_SEGMENTS {
                return Err(PathError::TooDeep);
            }
            at += segment.len() + 1;
        }
        Ok(Self(Arc::from(text)))
    }

    /// The text: no leading slash, and a trailing slash for folders.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the path names a folder (the root is one).
    #[must_use]
    pub fn is_folder(&self) -> bool {
        self.0.is_empty() || self.0.ends_with('/')
    }

    /// Whether this is the root folder.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The names from the root down; none for the root.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.leaf_str().split('/').filter(|segment| !segment.is_empty())
    }

    /// The text without the trailing slash of a folder.
    #[must_use]
    pub fn leaf_str(&self) -> &str {
        self.0.strip_suffix('/').unwrap_or(&self.0)
    }

    /// The same path as a folder.
    #[must_use]
    pub fn to_folder(&self) -> Self {
        if self.is_folder() { self.clone() } else { Self(Arc::from(format!("{}/", self.0))) }
    }

    /// The same path without the trailing slash. The root has no name and stays unchanged.
    #[must_use]
    pub fn to_leaf(&self) -> Self {
        if self.is_folder() { Self(Arc::from(self.leaf_str())) } else { self.clone() }
    }

    /// Whether the first name is `segment`.
    #[must_use]
    pub fn starts_with_segment(&self, segment: &str) -> bool {
        self.segments().next() == Some(segment)
    }

    /// The path relative to `folder`, or `None` if it is not below it. A folder relative to itself is the root.
    #[must_use]
    pub fn strip_prefix(&self, folder: &Self) -> Option<Self> {
        if !folder.is_folder() {
            return None;
        }
        self.0.strip_prefix(folder.as_str()).map(|rest| Self(Arc::from(rest)))
    }

    /// The path of `segment` below this path, without trailing slash.
    ///
    /// # Errors
    /// [`PathError`] when `segment` is not one valid name, or the result is too long or too deep.
    pub fn join(&self, segment: &str) -> Result<Self, PathError> {
        if segment.is_empty() || segment.contains('/') {
            return Err(PathError::NotASegment);
        }
        if self.is_root() { Self::parse(segment) } else { Self::parse(&format!("{}/{segment}", self.leaf_str())) }
    }

    /// The folder that contains this path; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let text = self.leaf_str();
        Some(text.rfind('/').and_then(|at| text.get(..=at)).map_or_else(Self::root, |folder| Self(Arc::from(folder))))
    }
}

fn check_segment(segment: &str, at: usize) -> Result<(), PathError> {
    if let Some(bad) = segment.bytes().position(|byte| !is_legal(byte)) {
        return Err(PathError::Character(at + bad));
    }
    match segment {
        "" => Err(PathError::EmptySegment(at)),
        "." | ".." => Err(PathError::DotSegment(at)),
        _ if segment.len() > MAX_SEGMENT_BYTES => Err(PathError::SegmentTooLong(at)),
        _ => Ok(()),
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_the_attack_corpus() {
        let long_segment = "a".repeat(129);
        let deep = vec!["a"; 17].join("/");
        let long = vec!["a".repeat(100); 11].join("/");
        let corpus = [
            "/",
            "//",
            "a//b",
            "/a",
            "a/b//",
            ".",
            "..",
            "a/../b",
            "a/./b",
            "a/..",
            "../a",
            "a/../",
            "%2e",
            "%2e%2e",
            "a/%2e%2e/b",
            "%252e%252e",
            "a%2fb",
            "a%2Fb",
            "a%5cb",
            "a\\b",
            "a%00",
            "a\0b",
            "a%",
            "a%2",
            "a%zz",
            "a b",
            "a%20b",
            "a+b",
            "a;b",
            "a;v=1/b",
            "a?b",
            "a%3fb",
            "a#b",
            "a&b",
            "a*",
            "a|b",
            "a\"b",
            "a'b",
            "{a}",
            "a<b",
            "é",
            "e\u{301}",
            "ａ",
            "a\u{200b}",
            "%c0%ae",
            "%c0%af",
            "%e0%80%af",
            "%ff",
            "a,b",
            "a$b",
            "a!b",
            "a(b)",
            "a\nb",
            "a%0ab",
            "\u{1b}",
            "%41",
            "%7e",
            "a%40b",
            "a/b.%2e",
            "％2e",
            "a\u{2215}b",
            "a\u{ff0f}b",
            "\u{feff}a",
            &long_segment,
            &deep,
            &long,
        ];
        for text in corpus {
            assert!(Path::parse_uri(text).is_err(), "{text:?}");
            assert!(Path::parse(text).is_err() || text.contains('%'), "{text:?}");
            assert!(Path::parse(&format!("secret/data/{text}")).is_err(), "{text:?}");
        }
    }

    #[test]
    fn first_offence_is_reported() {
        use PathError::*;
        for (text, want) in [
            ("a//b", EmptySegment(2)),
            ("/a", EmptySegment(0)),
            ("a/..", DotSegment(2)),
            ("a/b c", Character(3)),
            ("a%2fb", Character(1)),
            ("a%40", NotCanonical(1)),
            ("a%4", Escape(1)),
            ("a b%40", Character(1)),
        ] {
            assert_eq!(Path::parse_uri(text), Err(want), "{text}");
        }
    }

    #[test]
    fn accepts_the_limits() {
        let deep = vec!["a"; 16].join("/");
        for text in ["", "a", "a/", "A-Z_0.9@x:y=z~", "...", "a/b/c/", &"a".repeat(128), &deep, "..a/.b."] {
            assert_eq!(Path::parse_uri(text).expect(text).as_str(), text);
        }
        assert_ne!(Path::parse("A").expect("legal"), Path::parse("a").expect("legal"));
    }

    #[test]
    fn the_folder_of_the_longest_path_is_a_path() {
        let longest =
            Path::parse(&format!("{}/{}", vec!["a".repeat(127); 7].join("/"), "b".repeat(128))).expect("legal");
        assert_eq!(longest.as_str().len(), MAX_BYTES);
        let folder = longest.to_folder();
        assert_eq!(Path::parse(folder.as_str()), Ok(folder.clone()));
        assert_eq!(folder.to_leaf(), longest);
        let longer = format!("{}/c", vec!["a".repeat(127); 8].join("/"));
        assert_eq!((longer.len(), Path::parse(&longer)), (MAX_BYTES + 1, Err(PathError::TooLong)));
    }

    #[test]
    fn moves_through_the_tree() {
        let path = |text: &str| Path::parse(text).expect(text);
        assert!(Path::root().is_folder() && Path::root().is_root() && path("a/").is_folder() && !path("a").is_folder());
        assert_eq!(path("a/b").parent(), Some(path("a/")));
        assert_eq!(path("a/b/").parent(), Some(path("a/")));
        assert_eq!(path("a").parent(), Some(Path::root()));
        assert_eq!(Path::root().parent(), None);
        assert_eq!(path("a/b").strip_prefix(&path("a/")), Some(path("b")));
        assert_eq!(path("a/").strip_prefix(&path("a/")), Some(Path::root()));
        assert_eq!(path("a").strip_prefix(&path("a/")), None);
        assert_eq!(path("ab/c").strip_prefix(&path("a/")), None);
        assert_eq!(path("ab").strip_prefix(&path("a")), None, "a leaf is no prefix");
        assert_eq!(path("a").join("b"), Ok(path("a/b")));
        assert_eq!(path("a/").join("b"), Ok(path("a/b")));
        assert_eq!(Path::root().join("b"), Ok(path("b")));
        for bad in ["", "a/b", "..", "x y"] {
            assert!(path("a").join(bad).is_err(), "{bad}");
        }
        assert_eq!(path("a/b/").segments().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(Path::root().segments().count(), 0);
        assert_eq!((path("a").to_folder(), path("a/").to_leaf()), (path("a/"), path("a")));
        assert!(path("sys/x").starts_with_segment("sys") && !path("system").starts_with_segment("sys"));
    }

    fn encode(text: &str) -> String {
        text.bytes()
            .map(|byte| match byte {
                b'/' => "/".to_owned(),
                byte if is_legal(byte) => char::from(byte).to_string(),
                byte => format!("%{byte:02X}"),
            })
            .collect()
    }

    proptest! {
        #[test]
        fn what_is_accepted_encodes_to_the_same_bytes(raw in "([a-c./%2eEfF0@~ ]|\\PC){0,24}") {
            if let Ok(path) = Path::parse_uri(&raw) {
                prop_assert_eq!(encode(path.as_str()), raw.clone());
                prop_assert_eq!(Path::parse(path.as_str()), Ok(path.clone()));
                for segment in path.segments() {
                    prop_assert!(segment != "." && segment != ".." && !segment.is_empty());
                }
            }
        }
    }
}
