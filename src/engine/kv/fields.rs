//! What only this engine reads: lists of versions, and labels. Error texts name fields, never contents.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::api::fields::{FieldError, Fields};
use crate::api::json::Value;
use crate::engine::EngineError;

const MAX_LABELS: usize = 64;
const MAX_LABEL_KEY: usize = 128;
const MAX_LABEL_VALUE: usize = 512;

pub(super) fn bad<T>(text: impl Into<String>) -> Result<T, EngineError> {
    Err(EngineError::BadRequest(text.into()))
}

/// The numbers in `versions`: a list of numbers or numeric strings, one number, or a string with commas.
pub(super) fn versions(fields: Fields<'_>) -> Result<Vec<u64>, EngineError> {
    let numbers = fields.read("versions", "a list of version numbers", |raw| {
        let text = |raw: &str| serde_json::from_str(raw).unwrap_or_else(|_| raw.to_owned());
        let items: Vec<String> = if raw.starts_with('[') {
            let list: Vec<&RawValue> = serde_json::from_str(raw).ok()?;
            list.into_iter().map(|item| text(item.get())).collect()
        } else {
            text(raw).split(',').map(|item| item.trim().to_owned()).collect()
        };
        items.iter().filter(|item| !item.is_empty()).map(|item| item.parse().ok()).collect::<Option<Vec<u64>>>()
    })?;
    match numbers {
        Some(numbers) if !numbers.is_empty() => Ok(numbers),
        _ => bad("No version number provided"),
    }
}

/// The labels of a request. `None` stands for null, which a merge treats as "remove".
pub(super) fn labels(fields: Fields<'_>) -> Result<Option<BTreeMap<String, Option<String>>>, EngineError> {
    let name = "custom_metadata";
    let object = fields.object(name).map_err(|_| FieldError::Must(name, "an object of strings"))?;
    let Some(object) = object else { return Ok(None) };
    let read = |value: Value<'_>| match serde_json::from_str::<Option<String>>(value.raw()) {
        Ok(value) => Ok(value),
        Err(_) => bad("custom_metadata validation failed: values must be strings"),
    };
    object.entries().map(|(key, value)| Ok((key.to_owned(), read(value)?))).collect::<Result<_, _>>().map(Some)
}

/// Checks that labels are within the limits.
///
/// # Errors
/// `BadRequest` that starts with `custom_metadata validation failed`.
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
