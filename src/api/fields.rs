//! Reads the fields of requests: types, ranges and durations in the forms that Vault's clients use, with one set of
//! error texts. Nothing else reads fields, with one exception: rotation policies are stored as they are sent, so
//! `rotate::policy` reads both forms with one strict reader.
//!
//! A field that is `null` counts as absent. Numbers, booleans and durations may also be strings, because query
//! parameters are. Nothing is repaired: a value of another type is rejected, and the error names the field but never
//! repeats what was sent.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::duration::Ttl;
use super::json::{Object, Parsed, Value};
use super::secret::SecretText;

/// Largest number of strings in a [`Fields::list`] or [`Fields::map`].
pub const MAX_LIST: usize = 64;
/// Longest string of a [`Fields::list`] or [`Fields::map`], in bytes.
pub const MAX_TEXT: usize = 1024;

const FEW: &str = "at most 64 strings of 1024 bytes without control characters";
const DURATION: &str = "a duration such as 60 or 1h";

/// What is wrong with a field. Names the field but never repeats its content.
///
/// ```
/// use strongroom::api::fields::FieldError;
///
/// let error = FieldError::Range("uses", 1, 5_000);
/// assert_eq!(error.to_string(), "field \"uses\" must be 1 to 5000");
/// assert_eq!(error.bare(), "uses must be 1 to 5000");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldError {
    /// The request has no such field. Carries the names that it has.
    #[error("unknown field; known: {}", .0.join(", "))]
    Unknown(&'static [&'static str]),
    /// The request has a field but takes none.
    #[error("unknown field: this request takes none")]
    TakesNone,
    /// A field of Vault that is not supported, and why.
    #[error("field \"{0}\" is not supported: {1}")]
    Unsupported(&'static str, &'static str),
    /// A required field is missing.
    #[error("field \"{0}\" is required")]
    Missing(&'static str),
    /// The field has the wrong type or a value that is not allowed. Carries what it must be.
    #[error("field \"{0}\" must be {1}")]
    Must(&'static str, &'static str),
    /// The number is outside the given range.
    #[error("field \"{0}\" must be {1} to {2}")]
    Range(&'static str, u64, u64),
    /// The duration is outside the given range, in seconds.
    #[error("field \"{0}\" must be {1} to {2} seconds")]
    Seconds(&'static str, u64, u64),
    /// The number or duration is negative.
    #[error("field \"{0}\" must not be negative")]
    Negative(&'static str),
    /// The string is longer than the given limit, in bytes.
    #[error("field \"{0}\" has more than {1} bytes")]
    Long(&'static str, usize),
}

impl FieldError {
    /// The message as Vault's secrets engines write it: `NAME must be WHAT`.
    #[must_use]
    pub fn bare(&self) -> String {
        let text = self.to_string();
        match text.strip_prefix("field \"").and_then(|rest| rest.split_once("\" ")) {
            Some((name, what)) => format!("{name} {what}"),
            None => text,
        }
    }
}

/// The fields of a request, or of an object in it.
///
/// ```
/// use strongroom::api::fields::FieldError;
/// use strongroom::api::json::Limits;
/// use strongroom::api::request::Body;
///
/// let body = Body::from_json(br#"{"ttl":"1h","uses":"5"}"#.to_vec().into(), &Limits::default()).unwrap();
/// let fields = body.only(&["ttl", "uses"]).unwrap();
/// // Query parameters are strings, so a number or a duration may be one too.
/// assert_eq!((fields.seconds("ttl"), fields.count("uses")), (Ok(Some(3_600)), Ok(Some(5))));
/// // A field that the request does not have is rejected: a misspelt one must not silently become a default.
/// assert_eq!(body.only(&["ttl"]).err(), Some(FieldError::Unknown(&["ttl"])));
/// ```
#[derive(Clone, Copy)]
pub struct Fields<'a>(Object<'a>);

impl<'a> Fields<'a> {
    /// Accepts unknown fields: secrets engines ignore them, as Vault's do.
    #[must_use]
    pub fn any(object: Object<'a>) -> Self {
        Self(object)
    }

    /// Rejects fields that are not in `known`: a misspelt field must not silently become a default.
    ///
    /// # Errors
    /// [`FieldError::Unknown`], or [`FieldError::TakesNone`] when `known` is empty.
    pub fn only(object: Object<'a>, known: &'static [&'static str]) -> Result<Self, FieldError> {
        Self::with_refused(object, known, &[])
    }

    /// As [`Fields::only`], for requests with fields of Vault that are not supported (name and reason).
    ///
    /// # Errors
    /// As [`Fields::only`]; [`FieldError::Unsupported`] when an unsupported field has any value other than "off".
    pub fn with_refused(
        object: Object<'a>,
        known: &'static [&'static str],
        refused: &[(&'static str, &'static str)],
    ) -> Result<Self, FieldError> {
        let unknown = if known.is_empty() { FieldError::TakesNone } else { FieldError::Unknown(known) };
        for (name, value) in object.entries().filter(|(name, _)| !known.contains(name)) {
            let (name, why) = refused.iter().find(|(refused, _)| *refused == name).ok_or(unknown)?;
            // Tools that write back every field they read send these too.
            if !["null", "false", "0", "\"\"", "[]", "{}"].contains(&value.raw()) {
                return Err(FieldError::Unsupported(name, why));
            }
        }
        Ok(Self(object))
    }

    /// Whether a field is present and `null`, for requests in which that has a meaning.
    #[must_use]
    pub fn is_null(self, name: &str) -> bool {
        self.0.get(name).is_some_and(Value::is_null)
    }

    /// The value of a field as it was written, unless it is absent or `null`.
    #[must_use]
    pub fn value(self, name: &str) -> Option<Value<'a>> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A string.
    ///
    /// # Errors
    /// [`FieldError::Must`] for any other type.
    pub fn text(self, name: &'static str) -> Result<Option<String>, FieldError> {
        self.read(name, "a string", |raw| serde_json::from_str(raw).ok())
    }

    /// A string of at most `most` bytes.
    ///
    /// # Errors
    /// [`FieldError::Must`] for any other type; [`FieldError::Long`] for a longer string.
    pub fn text_within(self, name: &'static str, most: usize) -> Result<Option<String>, FieldError> {
        match self.text(name)? {
            Some(text) if text.len() > most => Err(FieldError::Long(name, most)),
            text => Ok(text),
        }
    }

    /// A required string.
    ///
    /// # Errors
    /// [`FieldError::Must`] for any other type; [`FieldError::Missing`] when the field is absent.
    pub fn required(self, name: &'static str) -> Result<String, FieldError> {
        self.text(name)?.ok_or(FieldError::Missing(name))
    }

    /// A secret string.
    ///
    /// # Errors
    /// [`FieldError::Must`] for any other type.
    pub fn secret(self, name: &'static str) -> Result<Option<SecretText>, FieldError> {
        self.read(name, "a string", |raw| serde_json::from_str(raw).ok())
    }

    /// One of a set of words, which `parse` knows and `words` lists for the error.
    ///
    /// # Errors
    /// [`FieldError::Must`] for anything else.
    pub fn word<T>(
        self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
        words: &'static str,
    ) -> Result<Option<T>, FieldError> {
        self.read(name, words, |raw| parse(&serde_json::from_str::<String>(raw).ok()?))
    }

    /// A boolean.
    ///
    /// # Errors
    /// [`FieldError::Must`] for anything but `true` and `false`.
    pub fn flag(self, name: &'static str) -> Result<Option<bool>, FieldError> {
        self.read(name, "true or false", |raw| match &*plain(raw)? {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        })
    }

    /// A whole number, which may be negative.
    ///
    /// # Errors
    /// [`FieldError::Must`] for anything else, including a number that does not fit into 64 bits.
    pub fn integer(self, name: &'static str) -> Result<Option<i64>, FieldError> {
        self.read(name, "a whole number", |raw| {
            let text = plain(raw)?;
            let digits = text.strip_prefix('-').unwrap_or(&text);
            digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
        })
    }

    /// A whole number.
    ///
    /// # Errors
    /// [`FieldError::Must`] for anything else, including a negative number and one that does not fit into 64 bits.
    pub fn number(self, name: &'static str) -> Result<Option<u64>, FieldError> {
        self.read(name, "a whole number", |raw| {
            let text = plain(raw)?;
            text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
        })
    }

    /// A whole number from `least` to `most`.
    ///
    /// # Errors
    /// [`FieldError::Must`] when it is not a whole number; [`FieldError::Range`] when it is outside the range.
    pub fn number_in(self, name: &'static str, least: u64, most: u64) -> Result<Option<u64>, FieldError> {
        match self.number(name)? {
            Some(number) if !(least..=most).contains(&number) => Err(FieldError::Range(name, least, most)),
            number => Ok(number),
        }
    }

    /// A whole number of 32 bits.
    ///
    /// # Errors
    /// As [`Fields::number_in`].
    pub fn count(self, name: &'static str) -> Result<Option<u32>, FieldError> {
        let number = self.number_in(name, 0, u32::MAX.into())?;
        Ok(number.and_then(|number| u32::try_from(number).ok()))
    }

    /// A duration, in seconds.
    ///
    /// # Errors
    /// [`FieldError::Must`] when it is not a duration as in [`Ttl::parse`].
    pub fn seconds(self, name: &'static str) -> Result<Option<u64>, FieldError> {
        self.read(name, DURATION, |raw| Ttl::parse_json(raw).ok().map(|ttl| ttl.0))
    }

    /// A duration from `least` to `most` seconds.
    ///
    /// # Errors
    /// [`FieldError::Must`] when it is not a duration; [`FieldError::Seconds`] when it is outside the range.
    pub fn seconds_in(self, name: &'static str, least: u64, most: u64) -> Result<Option<u64>, FieldError> {
        match self.seconds(name)? {
            Some(seconds) if !(least..=most).contains(&seconds) => Err(FieldError::Seconds(name, least, most)),
            seconds => Ok(seconds),
        }
    }

    /// A duration; `Some(None)` means a negative one.
    ///
    /// # Errors
    /// [`FieldError::Must`] when it is not a duration.
    pub fn span(self, name: &'static str) -> Result<Option<Option<Ttl>>, FieldError> {
        self.read(name, DURATION, |raw| {
            let text = plain(raw)?;
            let (negative, digits) = text.strip_prefix('-').map_or((false, &*text), |rest| (true, rest));
            let ttl = Ttl::parse(digits).ok()?;
            Some((!negative || ttl.0 == 0).then_some(ttl))
        })
    }

    /// A list of strings, unchanged, or one string that is split at commas. Of the latter, blanks around the parts and
    /// empty parts are dropped.
    ///
    /// # Errors
    /// [`FieldError::Must`] for anything else.
    pub fn texts(self, name: &'static str) -> Result<Option<Vec<String>>, FieldError> {
        self.read(name, "a list of strings", |raw| {
            if !raw.starts_with('"') {
                return serde_json::from_str(raw).ok();
            }
            let text: String = serde_json::from_str(raw).ok()?;
            Some(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect())
        })
    }

    /// A list of secret strings.
    ///
    /// # Errors
    /// [`FieldError::Must`] for anything else.
    pub fn secrets(self, name: &'static str) -> Result<Option<Vec<SecretText>>, FieldError> {
        self.read(name, "a list of strings", |raw| serde_json::from_str(raw).ok())
    }

    /// As [`Fields::texts`], but blanks around strings and empty strings are dropped in both forms. At most [`MAX_LIST`]
    /// strings of [`MAX_TEXT`] bytes each, without control characters.
    ///
    /// # Errors
    /// [`FieldError::Must`] for anything else.
    pub fn list(self, name: &'static str) -> Result<Option<Vec<String>>, FieldError> {
        let Some(texts) = self.texts(name)? else { return Ok(None) };
        let list: Vec<String> =
            texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).map(str::to_owned).collect();
        if texts.len() <= MAX_LIST && list.iter().all(|text| is_word(text)) {
            Ok(Some(list))
        } else {
            Err(FieldError::Must(name, FEW))
        }
    }

    /// Strings by name, with the limits of [`Fields::list`].
    ///
    /// # Errors
    /// [`FieldError::Must`] for anything else.
    pub fn map(self, name: &'static str) -> Result<Option<BTreeMap<String, String>>, FieldError> {
        let map: Option<BTreeMap<String, String>> =
            self.read(name, "an object of strings", |raw| serde_json::from_str(raw).ok())?;
        let fits =
            |map: &BTreeMap<String, String>| map.len() <= MAX_LIST && map.iter().all(|(k, v)| is_word(k) && is_word(v));
        if map.as_ref().is_none_or(fits) { Ok(map) } else { Err(FieldError::Must(name, FEW)) }
    }

    /// An object.
    ///
    /// # Errors
    /// [`FieldError::Must`] for any other type.
    pub fn object(self, name: &'static str) -> Result<Option<Object<'a>>, FieldError> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => value.object().map(Some).ok_or(FieldError::Must(name, "an object")),
        }
    }

    /// A list of objects, each read with `read`.
    ///
    /// # Errors
    /// [`FieldError::Must`] when it is not a list of objects; the first error of `read`.
    pub fn objects<T>(
        self,
        name: &'static str,
        read: impl Fn(Object<'_>) -> Result<T, FieldError>,
    ) -> Result<Option<Vec<T>>, FieldError> {
        const OBJECTS: &str = "a list of objects";
        let items: Option<Vec<&RawValue>> = self.read(name, OBJECTS, |raw| serde_json::from_str(raw).ok())?;
        let read = |item: &RawValue| {
            let item = Parsed::of(item.get().as_bytes()).map_err(|_| FieldError::Must(name, OBJECTS))?;
            read(item.object())
        };
        items.map(|items| items.into_iter().map(read).collect()).transpose()
    }

    /// Reads a field with `read`, which gets its raw JSON.
    ///
    /// # Errors
    /// [`FieldError::Must`], "must be `what`", when `read` returns `None`.
    pub fn read<T>(
        self,
        name: &'static str,
        what: &'static str,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<Option<T>, FieldError> {
        match self.value(name) {
            None => Ok(None),
            Some(value) => read(value.raw()).map(Some).ok_or(FieldError::Must(name, what)),
        }
    }
}

fn is_word(text: &str) -> bool {
    text.len() <= MAX_TEXT && !text.chars().any(char::is_control)
}

/// The text of a JSON string, or the JSON of a number, a boolean or null. `None` for lists and objects.
fn plain(raw: &str) -> Option<std::borrow::Cow<'_, str>> {
    match raw.as_bytes().first() {
        Some(b'"') => serde_json::from_str(raw).ok().map(std::borrow::Cow::Owned),
        Some(b'{' | b'[') | None => None,
        Some(_) => Some(raw.into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with<T>(text: &str, look: impl FnOnce(Fields<'_>) -> T) -> T {
        look(Fields::any(Parsed::of(text.as_bytes()).expect("an object").object()))
    }

    #[test]
    fn spellings_come_to_one_form() {
        let text = r#"{"a":"x, y,,","b":["x"," y "],"c":"5","d":7,"e":"true","f":"1h","g":60,"h":{"k":"v"},"i":null,
            "m":-3,"n":"-3s","z":"0"}"#;
        with(text, |fields| {
            let list = |names: &[&str]| Ok(Some(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()));
            assert_eq!((fields.list("a"), fields.list("b")), (list(&["x", "y"]), list(&["x", "y"])));
            assert_eq!((fields.texts("a"), fields.texts("b")), (list(&["x", "y"]), list(&["x", " y "])));
            assert_eq!((fields.count("c"), fields.count("d")), (Ok(Some(5)), Ok(Some(7))));
            assert_eq!((fields.number("c"), fields.integer("m")), (Ok(Some(5)), Ok(Some(-3))));
            assert_eq!((fields.flag("e"), fields.flag("i")), (Ok(Some(true)), Ok(None)));
            assert_eq!((fields.seconds("f"), fields.seconds("g")), (Ok(Some(3600)), Ok(Some(60))));
            assert_eq!((fields.span("f"), fields.span("n")), (Ok(Some(Some(Ttl(3600)))), Ok(Some(None))));
            assert_eq!((fields.span("z"), fields.span("i")), (Ok(Some(Some(Ttl(0)))), Ok(None)));
            assert_eq!(fields.map("h").unwrap().unwrap().get("k").map(String::as_str), Some("v"));
            assert!(fields.object("h").unwrap().is_some() && fields.object("i").unwrap().is_none());
            assert!(fields.is_null("i") && !fields.is_null("a") && !fields.is_null("q"));
            for name in ["a", "h"] {
                assert!(fields.count(name).is_err() && fields.flag(name).is_err() && fields.seconds(name).is_err());
            }
            assert_eq!(fields.text_within("a", 3), Err(FieldError::Long("a", 3)));
            assert_eq!(fields.number("m"), Err(FieldError::Must("m", "a whole number")));
            assert_eq!(fields.number_in("d", 1, 6), Err(FieldError::Range("d", 1, 6)));
            assert_eq!(fields.seconds_in("g", 1, 59), Err(FieldError::Seconds("g", 1, 59)));
            assert_eq!(fields.required("q"), Err(FieldError::Missing("q")));
            assert!(fields.map("b").is_err() && fields.object("b").is_err() && fields.texts("h").is_err());
        });
    }

    #[test]
    fn what_is_almost_a_number_is_none() {
        for raw in ["1.5", "1e3", "\"+5\"", "\" 5\"", "\"\"", "\"-\"", "true", "[5]", "18446744073709551616", "\"0x5\""]
        {
            with(&format!(r#"{{"a":{raw}}}"#), |fields| {
                assert!(fields.number("a").is_err() && fields.integer("a").is_err(), "{raw}");
            });
        }
    }

    #[test]
    fn strange_fields_are_refused_unless_they_say_off() {
        const KNOWN: &[&str] = &["a", "b"];
        let refused = [("ocsp", "no network")];
        let taken = |text: &str| {
            let parsed = Parsed::of(text.as_bytes()).expect("an object");
            Fields::with_refused(parsed.object(), KNOWN, &refused).map(drop)
        };
        assert_eq!(taken(r#"{"x":1}"#), Err(FieldError::Unknown(KNOWN)));
        for off in ["null", "false", "0", "\"\"", "[]", "{}"] {
            assert_eq!(taken(&format!(r#"{{"ocsp":{off}}}"#)), Ok(()), "{off}");
        }
        assert_eq!(taken(r#"{"ocsp":true}"#), Err(FieldError::Unsupported("ocsp", "no network")));
        assert_eq!(FieldError::Unknown(KNOWN).to_string(), "unknown field; known: a, b");
        let parsed = Parsed::of(br#"{"a":1}"#).expect("an object");
        assert_eq!(Fields::only(parsed.object(), &[]).err(), Some(FieldError::TakesNone));
    }

    #[test]
    fn engines_say_it_as_vault_does() {
        assert_eq!(FieldError::Must("cas", "a whole number").bare(), "cas must be a whole number");
        assert_eq!(FieldError::Negative("depth").bare(), "depth must not be negative");
        assert_eq!(FieldError::TakesNone.bare(), FieldError::TakesNone.to_string());
    }

    proptest! {
        #[test]
        fn any_value_is_looked_at(text in "\\PC{0,20}", number: i64, deep in 0..9_usize) {
            let nested = format!("{}{}", "[".repeat(deep), "]".repeat(deep));
            let quoted = serde_json::to_string(&text).unwrap();
            for raw in [quoted.clone(), format!("[{quoted},{quoted}]"), number.to_string(), format!("{{{quoted}:{quoted}}}"), nested] {
                if raw.is_empty() {
                    continue;
                }
                with(&format!(r#"{{"a":{raw}}}"#), |fields| {
                    let _ = (fields.text_within("a", 9), fields.secret("a").is_ok(), fields.list("a"), fields.texts("a"));
                    let _ = (fields.seconds("a"), fields.count("a"), fields.flag("a"), fields.map("a"), fields.span("a"));
                    let error = fields.integer("a").err().map(|error| error.to_string());
                    assert!(!error.is_some_and(|error| text.len() > 16 && error.contains(&text)), "repeats what was sent");
                });
            }
        }
    }
}
