//! Writes assignments so that they read back unchanged, or rejects them.

use zeroize::Zeroizing;

use super::is_portable_name;
use super::parse::{Options, parse};
use crate::api::json::write_str;
use crate::api::secret::SecretText;
use crate::wiped::Buffer;

/// The output format.
///
/// ```
/// use strongroom::dotenv::{Format, write};
///
/// let pairs = [("KEY".to_owned(), "it's".into())];
/// let text = |format| String::from_utf8(write(&pairs, format).unwrap().to_vec()).unwrap();
/// assert_eq!(text(Format::Json), "{\n  \"KEY\": \"it's\"\n}\n");
/// assert_eq!(text(Format::Docker), "KEY=it's\n");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A `.env` file that every common program reads in the same way.
    Dotenv,
    /// A JSON object.
    Json,
    /// `export` lines for a POSIX shell.
    Sh,
    /// `docker --env-file`.
    Docker,
}

/// Why nothing was written. Names the key, never the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The format cannot represent the name.
    #[error("{0:?} is not a portable name; use --format json")]
    Name(String),
    /// Programs would interpret the value differently.
    #[error(
        "the value of {0} cannot be written so that all programs read it the same; use --format json or --format sh"
    )]
    NotPortable(String),
    /// The value has a line break, which this format cannot represent.
    #[error("the value of {0} has several lines, which docker cannot read; use --format dotenv or json")]
    Lines(String),
    /// The value has a NUL byte.
    #[error("the value of {0} contains a NUL byte; use --format json")]
    Nul(String),
}

/// Renders `pairs` in their order.
///
/// # Errors
/// [`WriteError`] with the key when a pair cannot be written so that it reads back unchanged. Nothing is written then.
///
/// ```
/// use strongroom::dotenv::{Format, Options, parse, write};
///
/// let pairs = [("KEY".to_owned(), "a b".into())];
/// let text = write(&pairs, Format::Dotenv).unwrap();
/// assert_eq!(parse(&text, &Options::default()).unwrap()[0].value.reveal(), "a b");
/// assert_eq!(write(&pairs, Format::Sh).unwrap().as_slice(), b"export KEY='a b'\n");
/// assert!(write(&[("not a name".to_owned(), "x".into())], Format::Dotenv).is_err());
/// ```
pub fn write(pairs: &[(String, SecretText)], format: Format) -> Result<Zeroizing<Vec<u8>>, WriteError> {
    // The formats stay side by side, so that what each of them escapes or rejects can be compared.
    let mut out = Buffer::new();
    if format == Format::Json {
        json(&mut out, pairs);
        return Ok(out.into_bytes());
    }
    for (key, value) in pairs {
        let value = value.reveal();
        if !is_portable_name(key) {
            return Err(WriteError::Name(key.clone()));
        }
        if value.contains('\0') {
            return Err(WriteError::Nul(key.clone()));
        }
        match format {
            Format::Dotenv => dotenv_line(&mut out, key, value)?,
            Format::Sh => {
                out.put(b"export ");
                out.put(key.as_bytes());
                out.put(b"='");
                for (index, part) in value.split('\'').enumerate() {
                    if index > 0 {
                        out.put(b"'\\''");
                    }
                    out.put(part.as_bytes());
                }
                out.push(b'\'');
            }
            Format::Docker if value.contains(['\n', '\r']) => return Err(WriteError::Lines(key.clone())),
            Format::Docker | Format::Json => plain(&mut out, key, b"", value),
        }
        out.push(b'\n');
    }
    if format == Format::Dotenv {
        check(&out, pairs)?;
    }
    Ok(out.into_bytes())
}

fn json(out: &mut Buffer, pairs: &[(String, SecretText)]) {
    out.push(b'{');
    for (index, (key, value)) in pairs.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.put(b"\n  ");
        write_str(out, key);
        out.put(b": ");
        write_str(out, value.reveal());
    }
    out.put(b"\n}\n");
}

fn plain(out: &mut Buffer, key: &str, quote: &[u8], value: &str) {
    out.put(key.as_bytes());
    out.push(b'=');
    out.put(quote);
    out.put(value.as_bytes());
    out.put(quote);
}

/// Eleven common readers agree on this form: bare if nothing is special, single quotes, or double quotes without
/// anything to escape.
fn dotenv_line(out: &mut Buffer, key: &str, value: &str) -> Result<(), WriteError> {
    let bare = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_./:@%+,=-".contains(&byte));
    let single =
        !value.contains(['\'', '\r']) && !value.contains("\\\\") && !value.ends_with('\\') && !value.contains("${");
    let double = !value.contains(['"', '\\', '$', '`', '\r']);
    let quote: &[u8] = match (bare, single, double) {
        (true, _, _) => b"",
        (_, true, _) => b"'",
        (_, _, true) => b"\"",
        _ => return Err(WriteError::NotPortable(key.to_owned())),
    };
    plain(out, key, quote, value);
    Ok(())
}

/// Reads back what was written. A difference is a bug in the writer and must not reach a file.
fn check(out: &[u8], pairs: &[(String, SecretText)]) -> Result<(), WriteError> {
    let fault = || WriteError::NotPortable(pairs.first().map(|(key, _)| key.clone()).unwrap_or_default());
    let back = parse(out, &Options { duplicates: super::Duplicates::Last, ..Options::default() })
        .map_err(|error| error.key.map_or_else(fault, WriteError::NotPortable))?;
    for (key, value) in pairs {
        let same = back.iter().any(|read| read.key == *key && read.value.reveal() == value.reveal());
        if !same {
            return Err(WriteError::NotPortable(key.clone()));
        }
    }
    Ok(())
}
