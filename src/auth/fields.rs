//! Fields of a request body. Vault's clients spell them in several ways; each is converted to one form.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::cidr::{Cidr, MAX_CIDRS};
use crate::api::duration::Ttl;
use crate::api::json::Object;
use crate::api::secret::SecretText;

/// Largest number of texts in one list.
pub(super) const MAX_LIST: usize = 64;
/// Longest text in a list or map, in bytes.
pub(super) const MAX_TEXT: usize = 1024;

/// What is wrong with a field. Names the field, never repeats its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FieldError {
    /// A field that this request does not have.
    #[error("the request has an unknown field")]
    Unknown,
    /// A field whose feature is not offered, with the reason.
    #[error("field \"{0}\" is not supported: {1}")]
    Unsupported(&'static str, &'static str),
    /// A required field is absent.
    #[error("field \"{0}\" is missing")]
    Missing(&'static str),
    /// A field of the wrong type or out of range, with what it must be.
    #[error("field \"{0}\" must be {1}")]
    Must(&'static str, &'static str),
}

/// The body being read.
pub(super) struct Fields<'o, 'a>(&'o Object<'a>);

impl<'o, 'a> Fields<'o, 'a> {
    /// Accepts a body whose fields are all in `known` or `refused` (name and reason).
    ///
    /// # Errors
    /// [`FieldError::Unknown`]; [`FieldError::Unsupported`] when a field of `refused` has any value other than "off".
    pub fn new(
        object: &'o Object<'a>,
        known: &[&str],
        refused: &[(&'static str, &'static str)],
    ) -> Result<Self, FieldError> {
        for (name, raw) in object.entries() {
            if known.contains(&name) {
                continue;
            }
            let (name, why) = refused.iter().find(|(refused, _)| *refused == name).ok_or(FieldError::Unknown)?;
            // Tools that write back every field that they have read send these too.
            if !["null", "false", "0", "\"\"", "[]", "{}"].contains(&raw.get()) {
                return Err(FieldError::Unsupported(name, why));
            }
        }
        Ok(Self(object))
    }

    fn raw(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).map(RawValue::get).filter(|raw| *raw != "null")
    }

    /// Reads a text of at most `most` bytes.
    pub fn text(&self, name: &'static str, most: usize) -> Result<Option<String>, FieldError> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let text: String = serde_json::from_str(raw).map_err(|_| FieldError::Must(name, "a text"))?;
        if text.len() > most { Err(FieldError::Must(name, "shorter")) } else { Ok(Some(text)) }
    }

    /// Reads a secret text.
    pub fn secret(&self, name: &'static str) -> Result<Option<SecretText>, FieldError> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        serde_json::from_str(raw).map(Some).map_err(|_| FieldError::Must(name, "a text"))
    }

    /// Reads a list of texts, or one text with commas. Spaces around a text and empty texts are dropped.
    pub fn list(&self, name: &'static str) -> Result<Option<Vec<String>>, FieldError> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let texts: Vec<String> = if raw.starts_with('"') {
            let text: String = serde_json::from_str(raw).map_err(|_| FieldError::Must(name, "a list of texts"))?;
            text.split(',').take(MAX_LIST + 1).map(str::to_owned).collect()
        } else {
            serde_json::from_str(raw).map_err(|_| FieldError::Must(name, "a list of texts"))?
        };
        let list: Vec<String> =
            texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty()).map(str::to_owned).collect();
        let clean = |text: &String| text.len() <= MAX_TEXT && !text.chars().any(char::is_control);
        if texts.len() > MAX_LIST || !list.iter().all(clean) {
            return Err(FieldError::Must(name, "at most 64 texts of 1024 bytes without control characters"));
        }
        Ok(Some(list))
    }

    /// Reads networks.
    pub fn networks(&self, name: &'static str) -> Result<Option<Vec<Cidr>>, FieldError> {
        let Some(list) = self.list(name)? else { return Ok(None) };
        if list.len() > MAX_CIDRS {
            return Err(FieldError::Must(name, "at most 64 networks"));
        }
        let networks: Result<Vec<_>, _> = list.iter().map(|text| Cidr::parse(text)).collect();
        networks.map(Some).map_err(|_| FieldError::Must(name, "networks such as 10.0.0.0/8 or fd00::/8"))
    }

    /// Reads a duration in seconds.
    pub fn seconds(&self, name: &'static str) -> Result<Option<u64>, FieldError> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        Ttl::parse_json(raw).map(|ttl| Some(ttl.0)).map_err(|_| FieldError::Must(name, "a duration such as 60 or 1h"))
    }

    /// Reads a number, which may be a text.
    pub fn count(&self, name: &'static str) -> Result<Option<u32>, FieldError> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let digits: String = if raw.starts_with('"') {
            serde_json::from_str(raw).map_err(|_| FieldError::Must(name, "a number"))?
        } else {
            raw.to_owned()
        };
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        let count = if plain { digits.parse().ok() } else { None };
        count.map(Some).ok_or(FieldError::Must(name, "a whole number from 0 to 4294967295"))
    }

    /// Reads a boolean, which may be a text.
    pub fn flag(&self, name: &'static str) -> Result<Option<bool>, FieldError> {
        match self.raw(name) {
            None => Ok(None),
            Some("true" | "\"true\"") => Ok(Some(true)),
            Some("false" | "\"false\"") => Ok(Some(false)),
            Some(_) => Err(FieldError::Must(name, "true or false")),
        }
    }

    /// Reads a small map of short texts.
    pub fn map(&self, name: &'static str) -> Result<Option<BTreeMap<String, String>>, FieldError> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let map: BTreeMap<String, String> =
            serde_json::from_str(raw).map_err(|_| FieldError::Must(name, "an object of texts"))?;
        let fits = |text: &String| text.len() <= MAX_TEXT && !text.chars().any(char::is_control);
        if map.len() > MAX_LIST || !map.iter().all(|(key, value)| fits(key) && fits(value)) {
            return Err(FieldError::Must(name, "at most 64 texts of 1024 bytes without control characters"));
        }
        Ok(Some(map))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn object(text: &str) -> Object<'_> {
        Object::parse(text.as_bytes()).expect("an object")
    }

    #[test]
    fn spellings_come_to_one_form() {
        let body = object(
            r#"{"a":"x, y,,","b":["x"," y "],"c":"5","d":7,"e":"true","f":"1h","g":60,"h":{"k":"v"},"i":null,"j":"10.0.0.0/8"}"#,
        );
        let known = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        let fields = Fields::new(&body, &known, &[]).unwrap();
        let xy = Some(vec!["x".to_owned(), "y".to_owned()]);
        assert_eq!((fields.list("a"), fields.list("b")), (Ok(xy.clone()), Ok(xy)));
        assert_eq!((fields.count("c"), fields.count("d")), (Ok(Some(5)), Ok(Some(7))));
        assert_eq!((fields.flag("e"), fields.flag("i")), (Ok(Some(true)), Ok(None)));
        assert_eq!((fields.seconds("f"), fields.seconds("g")), (Ok(Some(3600)), Ok(Some(60))));
        assert_eq!(fields.map("h").unwrap().unwrap().get("k").map(String::as_str), Some("v"));
        assert_eq!(fields.networks("j").unwrap().unwrap().len(), 1);
        for name in ["a", "h"] {
            assert!(fields.count(name).is_err() && fields.flag(name).is_err() && fields.seconds(name).is_err());
        }
        assert!(fields.text("a", 3).is_err() && fields.map("b").is_err() && fields.networks("a").is_err());
    }

    #[test]
    fn strange_fields_are_refused_unless_they_say_off() {
        let refused = [("ocsp", "no network")];
        assert_eq!(Fields::new(&object(r#"{"x":1}"#), &["a"], &refused).err(), Some(FieldError::Unknown));
        for off in ["null", "false", "0", "\"\"", "[]"] {
            assert!(Fields::new(&object(&format!(r#"{{"ocsp":{off}}}"#)), &["a"], &refused).is_ok(), "{off}");
        }
        let error = Fields::new(&object(r#"{"ocsp":true}"#), &["a"], &refused).err();
        assert_eq!(error, Some(FieldError::Unsupported("ocsp", "no network")));
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
                let body = format!(r#"{{"a":{raw}}}"#);
                let body = object(&body);
                let fields = Fields::new(&body, &["a"], &[]).unwrap();
                let _ = (fields.text("a", 9), fields.secret("a").is_ok(), fields.list("a"), fields.networks("a"));
                let _ = (fields.seconds("a"), fields.count("a"), fields.flag("a"), fields.map("a"));
            }
        }
    }
}
