//! What is asked, free of HTTP: the verb and the fields.

use zeroize::Zeroizing;

use super::json::{self, JsonError, Limits};

/// The five things the wire can ask of a path. `POST` and `PUT` are both [`Operation::Write`].
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
    /// The word for audit entries: `read`, `list`, `write`, `patch`, `delete`.
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

/// The fields of a request: a JSON object that has passed [`json::check`], or nothing.
///
/// Query parameters of reads, lists and deletes come as an object of strings. Wiped on drop, for a body may hold
/// secrets; deliberately without `Debug`.
pub struct Body(Zeroizing<Vec<u8>>);

impl Body {
    /// A request without fields.
    #[must_use]
    pub fn empty() -> Self {
        Self(Zeroizing::new(Vec::new()))
    }

    /// Takes JSON text from outside; empty or all-blank text is [`Body::empty`].
    ///
    /// # Errors
    /// [`JsonError`] when the text is not a JSON object within `limits`.
    pub fn from_json(bytes: Zeroizing<Vec<u8>>, limits: &Limits) -> Result<Self, JsonError> {
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::empty());
        }
        json::check(&bytes, limits)?;
        json::Object::parse(&bytes)?;
        Ok(Self(bytes))
    }

    /// The fields. An empty body gives an object without any.
    ///
    /// # Errors
    /// [`JsonError`] when the bytes are not an object; [`Body::from_json`] has excluded that.
    pub fn object(&self) -> Result<json::Object<'_>, JsonError> {
        json::Object::parse(if self.is_empty() { b"{}" } else { &self.0 })
    }

    /// The JSON text.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether the request came without fields (no body, or blank text).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
