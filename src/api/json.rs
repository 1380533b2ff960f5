//! Bounded, lossless JSON (RFC 8259).
//!
//! [`check`] judges a text from outside once, without recursion and with bounded memory. Afterwards values travel as
//! the raw text they came as: a number is never squeezed through a float, and a secret is never spread over a tree of
//! small allocations.

mod check;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

pub use check::check;

/// Bounds of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest text in bytes.
    pub max_bytes: usize,
    /// Most arrays and objects inside each other.
    pub max_depth: usize,
    /// Most object keys in the whole document.
    pub max_keys: usize,
    /// Longest string in bytes, escapes counted as written.
    pub max_string_bytes: usize,
}

impl Default for Limits {
    /// A 1 MiB value with 64 KiB of frame, depth 32, 10,000 keys, strings of 1 MiB.
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
    /// Something follows the value.
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

/// What is wrong with a document, and where. Never carries content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code} at byte {at}")]
pub struct JsonError {
    /// What.
    pub code: JsonCode,
    /// Byte offset; for a duplicate key the end of its object.
    pub at: usize,
}

/// The fields of a JSON object, as raw text in the order they were written.
pub struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Object<'a> {
    /// Reads the top level of an object; what is inside the fields is only skipped.
    ///
    /// # Errors
    /// [`JsonError`] with `NotAnObject` for another value, `Syntax` for no JSON, `DuplicateKey` for twins.
    pub fn parse(text: &'a [u8]) -> Result<Self, JsonError> {
        let start = text.iter().position(|byte| !b" \t\r\n".contains(byte)).unwrap_or(text.len());
        if text.get(start) != Some(&b'{') {
            return Err(JsonError { code: JsonCode::NotAnObject, at: start });
        }
        let object: Self = serde_json::from_slice(text)
            .map_err(|error| JsonError { code: JsonCode::Syntax, at: error.column().min(text.len()) })?;
        let names: BTreeSet<&str> = object.keys().collect();
        if names.len() != object.0.len() {
            return Err(JsonError { code: JsonCode::DuplicateKey, at: text.len() });
        }
        Ok(object)
    }

    /// The raw value of a field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    /// The names of the fields.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.as_ref())
    }

    /// Names and raw values.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), *value))
    }

    /// Number of fields.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no fields.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    fields.push((name, value));
                }
                Ok(Object(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// Applies a merge patch (RFC 7396): fields of `patch` replace those of `target`, null removes, objects merge.
///
/// Numbers and strings come out in the spelling they went in with. Both documents must be within the default
/// [`Limits`]; the result is at most as long as both together and is written into one buffer that is wiped on drop.
///
/// # Errors
/// [`JsonError`] when one of the documents fails [`check`].
pub fn merge_patch(target: &[u8], patch: &[u8]) -> Result<Zeroizing<Vec<u8>>, JsonError> {
    check(target, &Limits::default())?;
    check(patch, &Limits::default())?;
    // Large enough for every outcome: growing would leave an unwiped copy behind.
    let mut out = Zeroizing::new(Vec::with_capacity(target.len() + patch.len() + 2));
    merge(Some(target), patch, &mut out)?;
    Ok(out)
}

/// Recursive, at most [`Limits::max_depth`] deep because both documents were checked.
fn merge(target: Option<&[u8]>, patch: &[u8], out: &mut Vec<u8>) -> Result<(), JsonError> {
    let Some(patch_fields) = object_or_none(patch)? else {
        out.extend_from_slice(patch.trim_ascii());
        return Ok(());
    };
    let target_fields = match target {
        Some(target) => object_or_none(target)?.unwrap_or(Object(Vec::new())),
        None => Object(Vec::new()),
    };
    let mut changes: BTreeMap<&str, &RawValue> = patch_fields.entries().collect();
    let mut first = true;
    let mut name = |out: &mut Vec<u8>, key: &str| {
        out.push(if std::mem::take(&mut first) { b'{' } else { b',' });
        write_str(out, key);
        out.push(b':');
    };
    for (key, old) in target_fields.entries() {
        match changes.remove(key) {
            None => {
                name(out, key);
                out.extend_from_slice(old.get().as_bytes());
            }
            Some(new) if new.get() == "null" => {}
            Some(new) => {
                name(out, key);
                merge(Some(old.get().as_bytes()), new.get().as_bytes(), out)?;
            }
        }
    }
    for (key, new) in patch_fields.entries() {
        if changes.contains_key(key) && new.get() != "null" {
            name(out, key);
            merge(None, new.get().as_bytes(), out)?;
        }
    }
    if first {
        out.push(b'{');
    }
    out.push(b'}');
    Ok(())
}

fn object_or_none(text: &[u8]) -> Result<Option<Object<'_>>, JsonError> {
    match Object::parse(text) {
        Ok(object) => Ok(Some(object)),
        Err(JsonError { code: JsonCode::NotAnObject, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Appends `text` as a JSON string, in the shortest escaping.
pub fn write_str(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            0..0x20 => {
                let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests;
