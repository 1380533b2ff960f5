//! Reading the fields of requests. Error texts name fields, never contents.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::api::duration::Ttl;
use crate::api::json::Object;
use crate::engine::EngineError;

const MAX_LABELS: usize = 64;
const MAX_LABEL_KEY: usize = 128;
const MAX_LABEL_VALUE: usize = 512;

/// What a request says about a field.
pub(super) enum Field<T> {
    /// Nothing.
    Absent,
    /// Explicitly null.
    Null,
    /// A value.
    Value(T),
}

pub(super) fn bad<T>(text: impl Into<String>) -> Result<T, EngineError> {
    Err(EngineError::BadRequest(text.into()))
}

/// Reads one field with `read`, telling absent from null.
pub(super) fn field<T>(
    object: &Object<'_>,
    name: &str,
    read: impl FnOnce(&RawValue, &str) -> Result<T, EngineError>,
) -> Result<Field<T>, EngineError> {
    Ok(match object.get(name) {
        None => Field::Absent,
        Some(raw) if raw.get() == "null" => Field::Null,
        Some(raw) => Field::Value(read(raw, name)?),
    })
}

/// The text of a JSON string, or the JSON itself: query parameters come as strings, body fields as they like.
fn plain(raw: &RawValue) -> Cow<'_, str> {
    match serde_json::from_str::<Cow<'_, str>>(raw.get()) {
        Ok(text) => Cow::Owned(text.trim().to_owned()),
        Err(_) => Cow::Borrowed(raw.get()),
    }
}

/// A whole number, also as a string.
pub(super) fn integer(raw: &RawValue, name: &str) -> Result<i64, EngineError> {
    plain(raw).parse().or_else(|_| bad(format!("{name} must be a whole number")))
}

/// A truth value, also as a string.
pub(super) fn boolean(raw: &RawValue, name: &str) -> Result<bool, EngineError> {
    match &*plain(raw) {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => bad(format!("{name} must be true or false")),
    }
}

/// A span of time; `None` when it is negative.
pub(super) fn span(raw: &RawValue, name: &str) -> Result<Option<Ttl>, EngineError> {
    let text = plain(raw);
    let (negative, digits) = text.strip_prefix('-').map_or((false, &*text), |rest| (true, rest));
    match Ttl::parse(digits) {
        Ok(ttl) if negative && (ttl.0 > 0) => Ok(None),
        Ok(ttl) => Ok(Some(ttl)),
        Err(error) => bad(format!("{name}: {error}")),
    }
}

/// The numbers in `versions`: a list of numbers or numeric strings, one number, or a text with commas.
pub(super) fn versions(object: &Object<'_>) -> Result<Vec<u64>, EngineError> {
    let wrong = "versions must be a list of version numbers";
    let Some(raw) = object.get("versions").filter(|raw| raw.get() != "null") else {
        return bad("No version number provided");
    };
    let items: Vec<Cow<'_, str>> = if raw.get().starts_with('[') {
        let list: Vec<&RawValue> = serde_json::from_str(raw.get()).or_else(|_| bad(wrong))?;
        list.into_iter().map(plain).collect()
    } else {
        plain(raw).split(',').map(|item| Cow::Owned(item.trim().to_owned())).collect()
    };
    let numbers: Result<Vec<u64>, _> = items.iter().filter(|item| !item.is_empty()).map(|item| item.parse()).collect();
    match numbers {
        Ok(numbers) if numbers.is_empty() => bad("No version number provided"),
        Ok(numbers) => Ok(numbers),
        Err(_) => bad(wrong),
    }
}

/// The labels of a request: `None` stands for null, which a merge takes as "remove".
pub(super) fn labels(raw: &RawValue, name: &str) -> Result<BTreeMap<String, Option<String>>, EngineError> {
    let Ok(object) = Object::parse(raw.get().as_bytes()) else {
        return bad(format!("{name} must be an object of strings"));
    };
    object
        .entries()
        .map(|(key, raw)| match serde_json::from_str::<Option<String>>(raw.get()) {
            Ok(value) => Ok((key.to_owned(), value)),
            Err(_) => bad("custom_metadata validation failed: values must be strings"),
        })
        .collect()
}

/// Whether labels are within the limits.
///
/// # Errors
/// `BadRequest` starting with `custom_metadata validation failed`.
pub(super) fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), EngineError> {
    let failed = |what: String| bad(format!("custom_metadata validation failed: {what}"));
    if labels.len() > MAX_LABELS {
        return failed(format!("more than {MAX_LABELS} keys"));
    }
    for (key, value) in labels {
        let fits = |text: &str, max: usize| (1..=max).contains(&text.len());
        if !fits(key, MAX_LABEL_KEY) {
            return failed(format!("a key must have 1 to {MAX_LABEL_KEY} bytes"));
        }
        if !fits(value, MAX_LABEL_VALUE) {
            return failed(format!("a value must have 1 to {MAX_LABEL_VALUE} bytes"));
        }
        if key.chars().chain(value.chars()).any(char::is_control) {
            return failed("keys and values must be printable".to_owned());
        }
    }
    Ok(())
}
