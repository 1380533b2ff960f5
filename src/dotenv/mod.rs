//! The .env grammar: a strict parser, and a writer that only writes what reads back unchanged.
//!
//! A dozen programs read `.env` files and disagree on quotes, escapes, comments and `$`. This parser accepts the part
//! on which they agree. It rejects the rest with line, column and a way out, because a secret that an import changes
//! silently is noticed only in production. Nothing is ever expanded or executed. `docs/cli.md` shows the grammar.

mod error;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod parse;
#[cfg(test)]
mod tests;
mod write;

pub use error::{DotenvError, Problem};
pub use parse::{Assignment, Dialect, Duplicates, LineEnds, Options, parse};
pub use write::{Format, WriteError, write};

/// Largest file that is accepted, in bytes.
pub const MAX_FILE_BYTES: usize = 1024 * 1024;
/// Largest number of assignments in one file.
pub const MAX_KEYS: usize = 10_000;

/// Whether `name` is a portable variable name: `[A-Za-z_][A-Za-z0-9_]*`.
///
/// ```
/// use strongroom::dotenv::is_portable_name;
///
/// assert!(is_portable_name("DATABASE_URL") && !is_portable_name("2ND") && !is_portable_name("a-b"));
/// ```
#[must_use]
pub fn is_portable_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
