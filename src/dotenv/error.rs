//! Where and why a file was refused. Never any part of a value.

use std::fmt;

/// A refused file: position, key if it is known, and the problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DotenvError {
    /// Line, from 1.
    pub line: u32,
    /// Column in bytes, from 1.
    pub column: u32,
    /// The key being assigned, once it has been read.
    pub key: Option<String>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong; the text ends with the next thing to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Larger than [`super::MAX_FILE_BYTES`].
    #[error("the file is larger than 1 MiB; secrets of that size belong in files of their own")]
    TooLarge,
    /// More than [`super::MAX_KEYS`] assignments.
    #[error("more than 10,000 keys; split the file")]
    TooManyKeys,
    /// Bytes that are not UTF-8.
    #[error("not UTF-8; convert the file first, for example with: iconv -f latin1 -t utf-8")]
    NotUtf8,
    /// A NUL byte.
    #[error("a NUL byte, which no environment variable can hold")]
    Nul,
    /// A name that is not portable.
    #[error("not a portable name; names are letters, digits and _, not starting with a digit")]
    Name,
    /// A name without `=`.
    #[error("a name without '='; write NAME=value")]
    Bare,
    /// `NAME: value`.
    #[error("YAML style; write NAME=value")]
    Colon,
    /// A quote that is never closed.
    #[error("the quote is never closed")]
    Unterminated,
    /// Text right after a closing quote.
    #[error("text after the closing quote, which programs read differently; quote the whole value")]
    AfterQuote,
    /// An escape that programs read differently.
    #[error("an escape other than \\\\ \\\" \\n \\r \\t \\$ \\`; use single quotes for a literal backslash")]
    Escape,
    /// A value that some programs would expand or execute.
    #[error(
        "a value that some programs expand ($NAME, ${{}}, $(), $$ or a backtick); take it literally with --literal, or quote it with '...'"
    )]
    Expands,
    /// A backtick-quoted value.
    #[error("backtick quotes, which only Node programs understand; use --dialect node, or '...'")]
    Backtick,
    /// The same name twice.
    #[error("assigned twice; choose with --duplicates first or --duplicates last")]
    Duplicate,
    /// A carriage return inside a quoted value.
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
