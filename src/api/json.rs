//! Bounded, lossless JSON (RFC 8259).
//!
//! [`check`] validates a text from outside once, without recursion and with bounded memory. After that, values stay raw
//! text: a number is never converted to a float, and a secret is never spread over many small allocations.

mod check;
mod object;

use std::collections::BTreeMap;
use std::io::Write;

use zeroize::Zeroizing;

use crate::wiped::Buffer;

pub(in crate::api) use check::Layout;
pub use check::check;
pub(in crate::api) use object::scan_object;
pub use object::{Object, Parsed, Value};

/// Limits of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest text in bytes.
    pub max_bytes: usize,
    /// Maximum nesting of arrays and objects.
    pub max_depth: usize,
    /// Largest number of object keys in the whole document.
    pub max_keys: usize,
    /// Longest string in bytes, with escapes counted as written.
    pub max_string_bytes: usize,
}

impl Default for Limits {
    /// 1 MiB plus 64 KiB in all, depth 32, 10,000 keys, strings of 1 MiB.
    fn default() -> Self {
        Self { max_bytes: (1 << 20) + (64 << 10), max_depth: 32, max_keys: 10_000, max_string_bytes: 1 << 20 }
    }
}

/// What is wrong with a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonCode {
    /// Not JSON.
    #[error("malformed json")]
    Syntax,
    /// Not UTF-8.
    #[error("json is not utf-8")]
    Utf8,
    /// Text follows the value.
    #[error("json value is followed by more text")]
    Trailing,
    /// The text is too long.
    #[error("json is too long")]
    TooLong,
    /// Too many levels.
    #[error("json is nested too deeply")]
    TooDeep,
    /// Too many keys.
    #[error("json has too many keys")]
    TooManyKeys,
    /// A string is too long.
    #[error("json has a string that is too long")]
    StringTooLong,
    /// A key occurs twice in one object.
    #[error("json has an object with a duplicate key")]
    DuplicateKey,
    /// Half of a surrogate pair.
    #[error("json has a lone surrogate escape")]
    LoneSurrogate,
    /// The value is not an object.
    #[error("json is not an object")]
    NotAnObject,
}

/// What is wrong with a document, and where. Never contains any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code} at byte {at}")]
pub struct JsonError {
    /// The problem.
    pub code: JsonCode,
    /// Byte offset. For a duplicate key, the end of its object.
    pub at: usize,
}

/// Applies a merge patch (RFC 7396): fields of `patch` replace those of `target`, null removes, and objects merge.
///
/// Numbers and strings keep their spelling. Both documents must be within the default [`Limits`]. The result is at most
/// as long as both together, and is written into one buffer that is wiped on drop.
///
/// # Errors
/// [`JsonError`] when one of the documents fails [`check`].
///
/// ```
/// use strongroom::api::json::merge_patch;
///
/// // A number keeps its spelling; null removes.
/// let merged = merge_patch(br#"{"a":1.00,"b":"x"}"#, br#"{"b":null,"c":"y"}"#).unwrap();
/// assert_eq!(merged.as_slice(), br#"{"a":1.00,"c":"y"}"#);
/// ```
pub fn merge_patch(target: &[u8], patch: &[u8]) -> Result<Zeroizing<Vec<u8>>, JsonError> {
    let (target, patch) = (Parsed::any(target, &Limits::default())?, Parsed::any(patch, &Limits::default())?);
    let mut out = Buffer::with_capacity(target.len() + patch.len() + 2);
    match patch.if_object() {
        Some(changes) => merge(target.if_object(), changes, &mut out),
        None => {
            out.text(patch.raw());
        }
    }
    Ok(out.into_bytes())
}

/// Recursive, but no deeper than [`Limits::max_depth`], because both documents were checked.
fn merge(target: Option<Object<'_>>, patch: Object<'_>, out: &mut Buffer) {
    let mut changes: BTreeMap<&str, Value<'_>> = patch.entries().collect();
    let mut first = true;
    let mut name = |out: &mut Buffer, key: &str| {
        out.put(if std::mem::take(&mut first) { b"{" } else { b"," });
        write_str(out, key);
        out.put(b":");
    };
    let value = |out: &mut Buffer, old: Option<Value<'_>>, new: Value<'_>| match new.object() {
        Some(changes) => merge(old.and_then(Value::object), changes, out),
        None => {
            out.text(new.raw());
        }
    };
    // Names of the target keep their order, and new ones follow in the order of the patch. So applying the same patch
    // twice changes nothing, not even the order.
    for (key, old) in target.into_iter().flat_map(Object::entries) {
        match changes.remove(key) {
            None => {
                name(out, key);
                out.text(old.raw());
            }
            Some(new) if new.is_null() => {}
            Some(new) => {
                name(out, key);
                value(out, Some(old), new);
            }
        }
    }
    for (key, new) in patch.entries() {
        if changes.contains_key(key) && !new.is_null() {
            name(out, key);
            value(out, None, new);
        }
    }
    if first {
        out.put(b"{");
    }
    out.put(b"}");
}

/// Appends `text` as a JSON string with the shortest escapes. `out` must be memory: write errors are ignored.
///
/// ```
/// use strongroom::api::json::write_str;
///
/// let mut out = Vec::new();
/// write_str(&mut out, "a\t\"b\"");
/// assert_eq!(out, br#""a\t\"b\"""#);
/// ```
pub fn write_str(out: &mut impl Write, text: &str) {
    let mut put = |bytes: &[u8]| {
        let _ = out.write_all(bytes);
    };
    put(b"\"");
    let mut rest = text.as_bytes();
    // Most of a text needs no escaping; such runs are copied as a whole.
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)) {
        let (plain, found) = rest.split_at(at);
        put(plain);
        let Some((byte, after)) = found.split_first() else { break };
        match byte {
            b'"' => put(b"\\\""),
            b'\\' => put(b"\\\\"),
            b'\n' => put(b"\\n"),
            b'\r' => put(b"\\r"),
            b'\t' => put(b"\\t"),
            0x08 => put(b"\\b"),
            0x0c => put(b"\\f"),
            byte => {
                let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
                put(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
            }
        }
        rest = after;
    }
    put(rest);
    put(b"\"");
}

#[cfg(test)]
mod tests;
