//! Fields of a request's body. Each read error names the field.

use crate::api::json::Object;

use super::error::VaultError;

/// Reads a text field of a body.
///
/// # Errors
/// [`VaultError::BadRequest`] with the field's name, when it is present but not a string.
pub(super) fn text_field(object: &Object<'_>, name: &'static str) -> Result<Option<String>, VaultError> {
    match object.get(name) {
        None => Ok(None),
        Some(raw) if raw.get() == "null" => Ok(None),
        Some(raw) => serde_json::from_str(raw.get())
            .map(Some)
            .map_err(|_| VaultError::BadRequest(format!("field \"{name}\" must be a string"))),
    }
}

/// Reads a number of a body, which may be a text.
///
/// # Errors
/// As [`text_field`].
pub(super) fn number_field(object: &Object<'_>, name: &'static str) -> Result<Option<u64>, VaultError> {
    let Some(raw) = object.get(name).map(|raw| raw.get()).filter(|raw| *raw != "null") else { return Ok(None) };
    let wrong = |_| VaultError::BadRequest(format!("field \"{name}\" must be a whole number"));
    raw.trim_matches('"').parse().map(Some).map_err(wrong)
}

/// Reads a boolean of a body. An absent field is `false`.
///
/// # Errors
/// As [`text_field`].
pub(super) fn flag_field(object: &Object<'_>, name: &'static str) -> Result<bool, VaultError> {
    match object.get(name).map(|raw| raw.get().trim_matches('"')) {
        None | Some("null" | "false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(VaultError::BadRequest(format!("field \"{name}\" must be true or false"))),
    }
}

/// Reads a list of texts, or one text with commas.
///
/// # Errors
/// As [`text_field`].
pub(super) fn texts_field(object: &Object<'_>, name: &'static str) -> Result<Option<Vec<String>>, VaultError> {
    let Some(raw) = object.get(name) else { return Ok(None) };
    if let Ok(list) = serde_json::from_str::<Vec<String>>(raw.get()) {
        return Ok(Some(list));
    }
    match serde_json::from_str::<String>(raw.get()) {
        Ok(text) => {
            Ok(Some(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()))
        }
        Err(_) => Err(VaultError::BadRequest(format!("field \"{name}\" must be a list of strings"))),
    }
}

/// Rejects fields that the route does not know: a misspelt field must not silently become a default.
pub(super) fn only_fields(object: &Object<'_>, known: &[&str]) -> Result<(), VaultError> {
    if object.entries().all(|(name, _)| known.contains(&name)) {
        return Ok(());
    }
    Err(VaultError::BadRequest(format!("unknown field; known: {}", known.join(", "))))
}
