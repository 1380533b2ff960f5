//! What is asked, free of HTTP: the verb and the fields.

use zeroize::Zeroizing;

use super::fields::{FieldError, Fields};
use super::json::{self, JsonCode, JsonError, Limits, Object};

/// The five operations that a client can request on a path. `POST` and `PUT` are both [`Operation::Write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `GET` or `HEAD`.
    Read,
    /// `LIST`, or `GET` with `list=true`. The path is a folder.
    List,
    /// `POST` or `PUT`.
    Write,
    /// `PATCH` with `application/merge-patch+json`.
    Patch,
    /// `DELETE`.
    Delete,
}

impl Operation {
    /// The name in audit entries: `read`, `list`, `write`, `patch`, `delete`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::List => "list",
            Self::Write => "write",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

/// The fields of a request: a JSON object that was checked once, with the places of its fields, or nothing.
///
/// Query parameters of reads, lists and deletes become an object of strings. Wiped on drop, because a body may contain
/// secrets. Deliberately without `Debug`.
///
/// ```
/// use strongroom::api::json::{JsonCode, Limits};
/// use strongroom::api::request::Body;
///
/// let read = |text: &str| Body::from_json(text.as_bytes().to_vec().into(), &Limits::default());
/// assert!(read("  ").unwrap().is_empty());
/// assert_eq!(read(r#"{"data":{"KEY":"value"}}"#).unwrap().bytes(), br#"{"data":{"KEY":"value"}}"#);
/// assert_eq!(read(r#"{"a":1"#).err().unwrap().code, JsonCode::Syntax);
/// ```
pub struct Body {
    text: Zeroizing<String>,
    layout: json::Layout,
}

impl Body {
    /// A request without fields.
    #[must_use]
    pub fn empty() -> Self {
        Self { text: Zeroizing::new(String::new()), layout: json::Layout::default() }
    }

    /// Takes JSON text from outside. Empty or blank text gives [`Body::empty`].
    ///
    /// # Errors
    /// [`JsonError`] when the text is not a JSON object within `limits`.
    pub fn from_json(mut bytes: Zeroizing<Vec<u8>>, limits: &Limits) -> Result<Self, JsonError> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::empty());
        }
        if bytes.len() > limits.max_bytes {
            return Err(JsonError { code: JsonCode::TooLong, at: limits.max_bytes });
        }
        let text = match String::from_utf8(std::mem::take(&mut *bytes)) {
            Ok(text) => Zeroizing::new(text),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                drop(Zeroizing::new(error.into_bytes()));
                return Err(JsonError { code: JsonCode::Utf8, at });
            }
        };
        let layout = json::scan_object(&text, limits)?;
        Ok(Self { text, layout })
    }

    /// A body of any size, for tests.
    #[cfg(test)]
    pub(crate) fn of(text: &str) -> Self {
        let layout = json::Parsed::of(text.as_bytes()).expect("an object");
        Self { text: Zeroizing::new(text.to_owned()), layout: layout.into_layout() }
    }

    /// The fields. An empty body gives an object without fields.
    #[must_use]
    pub fn object(&self) -> Object<'_> {
        Object::new(&self.text, &self.layout)
    }

    /// The fields. Unknown ones are accepted.
    #[must_use]
    pub fn fields(&self) -> Fields<'_> {
        Fields::any(self.object())
    }

    /// The fields. Those that are not in `known` are rejected.
    ///
    /// # Errors
    /// As [`Fields::only`].
    pub fn only(&self, known: &'static [&'static str]) -> Result<Fields<'_>, FieldError> {
        Fields::only(self.object(), known)
    }

    /// The JSON text.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// Whether the request has no fields (no body, or blank text).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }
}
