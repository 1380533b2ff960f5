//! Where and why a file was rejected. Never contains any part of a value.

use std::fmt;

/// Why a file was rejected: position, key if known, and the problem.
///
/// ```
/// use strongroom::dotenv::{Options, Problem, parse};
///
/// let error = parse(b"GOOD=1\nPASSWORD: hunter2\n", &Options::default()).err().unwrap();
/// assert_eq!((error.line, error.problem), (2, Problem::Colon));
/// assert!(!error.to_string().contains("hunter2"), "no part of a value");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DotenvError {
    /// Line, counted from 1.
    pub line: u32,
    /// Column in bytes, counted from 1.
    pub column: u32,
    /// The key being assigned, if known.
    pub key: Option<String>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong. The message ends with the next thing to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file is larger than [`super::MAX_FILE_BYTES`].
    #[error("the file is larger than 1 MiB; store large secrets separately")]
    TooLarge,
    /// There are more than [`super::MAX_KEYS`] assignments.
    #[error("more than 10,000 keys; split the file")]
    TooManyKeys,
    /// Some bytes are not UTF-8.
    #[error("not UTF-8; convert the file first, for example with: iconv -f latin1 -t utf-8")]
    NotUtf8,
    /// There is a NUL byte.
    #[error("a NUL byte, which an environment variable cannot contain; remove it")]
    Nul,
    /// A name is not portable.
    #[error("not a portable name; use letters, digits and _, not starting with a digit")]
    Name,
    /// A name is not followed by `=`.
    #[error("a name without '='; write NAME=value")]
    Bare,
    /// The line has the form `NAME: value`.
    #[error("YAML style; write NAME=value")]
    Colon,
    /// A quote is never closed.
    #[error("the quote is never closed; add the closing quote")]
    Unterminated,
    /// Text follows directly after a closing quote.
    #[error("text after the closing quote, which programs interpret differently; quote the whole value")]
    AfterQuote,
    /// Programs interpret the escape differently.
    #[error("an escape other than \\\\ \\\" \\n \\r \\t \\$ \\`; use single quotes for a literal backslash")]
    Escape,
    /// Some programs would expand or execute part of the value.
    #[error(
        "a value that some programs expand ($NAME, ${{}}, $(), $$ or a backtick); take it literally with --literal, or quote it with '...'"
    )]
    Expands,
    /// The value is in backticks.
    #[error("backtick quotes, which only Node programs understand; use --dialect node, or '...'")]
    Backtick,
    /// The same name is assigned twice.
    #[error("assigned twice; choose with --duplicates first or --duplicates last")]
    Duplicate,
    /// There is a carriage return inside a quoted value.
    #[error("a carriage return inside quotes; choose with --crlf lf or --crlf keep")]
    CarriageReturn,
}

impl fmt::Display for DotenvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)?;
        if let Some(key) = &self.key {
            write!(f, " ({key})")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for DotenvError {}
