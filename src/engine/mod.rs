//! Secrets engines: the code behind a mount.
//!
//! An engine is a plain object without state of its own: everything it knows is in the records it reads through a
//! [`View`] and writes through a [`Tx`], both narrowed to one mount. It never sees the store, a key, a policy or the
//! network. The core asks it three things, in this order: what a request *is* ([`Engine::plan`]), whether the thing
//! named by the path exists ([`Engine::exists`], which separates create from update), and to run it.

pub mod kv;
mod page;

use zeroize::Zeroizing;

use crate::api::json::{self, JsonError, Limits};
use crate::api::path::Path;
use crate::barrier::{BarrierError, MountId, Tx, View};

pub use page::Page;

/// So many records are looked at on the thread that took the request. What may look at more goes to threads of its own.
pub const FEW: usize = 256;

/// Code behind a mount. Every method is a function of its arguments: no clock, no randomness, no memory between calls.
pub trait Engine: Send + Sync {
    /// What `operation` on `path` (relative to the mount) would be. Touches no record.
    ///
    /// # Errors
    /// [`EngineError::Unsupported`] when the path exists in the engine's table but not with this operation,
    /// [`EngineError::NotFound`] or [`EngineError::NotFoundWith`] when the engine has no such path.
    fn plan(&self, operation: Operation, path: &Path) -> Result<Requirements, EngineError>;

    /// Whether the object that a write to `path` would change is there already. Called only when
    /// [`Requirements::checks_existence`] is set; answered from the index without opening a value.
    ///
    /// # Errors
    /// [`EngineError::Barrier`] when the index cannot be read.
    fn exists(&self, view: &View<'_>, path: &Path) -> Result<bool, EngineError>;

    /// The object that a write to `path` changes, as clients that watch it name it: relative to the mount, without the
    /// engine's own prefixes. `None` when it is none of the kind.
    fn watched(&self, path: &Path) -> Option<String> {
        let _ = path;
        None
    }

    /// Whether a request that is a change would make content unreadable for good, now or with a later change that says
    /// nothing of it.
    ///
    /// # Errors
    /// As [`Engine::exists`].
    fn destroys(&self, view: &View<'_>, request: &Request) -> Result<bool, EngineError> {
        let _ = (view, request);
        Ok(false)
    }

    /// Whether a request whose plan does not mutate may look at more than [`FEW`] records; told from the index.
    fn is_long(&self, view: &View<'_>, request: &Request) -> bool {
        let _ = (view, request);
        false
    }

    /// Runs a request whose plan does not mutate.
    ///
    /// # Errors
    /// Any [`EngineError`]; nothing has changed in any case.
    fn read(&self, view: &View<'_>, request: &Request, now_ms: u64) -> Result<Reply, EngineError>;

    /// Runs a request whose plan mutates, inside the committer's group. On `Err` the caller rolls back what this call
    /// put into `tx`; on `Ok` the change is durable once the group is.
    ///
    /// # Errors
    /// Any [`EngineError`].
    fn write(&self, tx: &mut Tx<'_>, mount: MountId, request: &Request, now_ms: u64) -> Result<Reply, EngineError>;
}

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

/// One request as an engine sees it: the path is relative to the mount.
pub struct Request {
    /// What is asked.
    pub operation: Operation,
    /// Path below the mount.
    pub path: Path,
    /// Fields of the request.
    pub body: Body,
    /// The caller's `If-None-Match`, as it came.
    pub if_none_match: Option<String>,
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
    /// [`EngineError::BadRequest`] when the bytes are not an object; [`Body::from_json`] has excluded that.
    pub fn object(&self) -> Result<json::Object<'_>, EngineError> {
        let text: &[u8] = if self.is_empty() { b"{}" } else { &self.0 };
        json::Object::parse(text).map_err(|_| EngineError::BadRequest("request body must be a JSON object".to_owned()))
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

/// What an engine answers.
pub struct Reply {
    /// Status class.
    pub status: ReplyStatus,
    /// Rendered JSON of the envelope's `data`; `None` means "no content" (204).
    pub data: Option<Zeroizing<Vec<u8>>>,
    /// Texts for the envelope's `warnings`.
    pub warnings: Vec<String>,
    /// A listing: an empty `keys` array is answered 404, as Vault does.
    pub lists_keys: bool,
    /// Rendered JSON of the envelope's `auth`: a token that was made or renewed.
    pub auth: Option<Zeroizing<Vec<u8>>>,
    /// Strong entity tag (RFC 9110, 8.8.3) of what is answered, without quotes.
    pub etag: Option<String>,
}

impl Reply {
    /// 204.
    #[must_use]
    pub fn none() -> Self {
        Self { status: ReplyStatus::Ok, data: None, warnings: Vec::new(), lists_keys: false, auth: None, etag: None }
    }

    /// 200 with rendered `data`.
    #[must_use]
    pub fn data(data: Zeroizing<Vec<u8>>) -> Self {
        Self { data: Some(data), ..Self::none() }
    }

    /// 200 with rendered `auth`.
    #[must_use]
    pub fn auth(auth: Zeroizing<Vec<u8>>) -> Self {
        Self { auth: Some(auth), ..Self::none() }
    }
}

impl Reply {
    /// 304 for what has this tag.
    #[must_use]
    pub fn not_modified(etag: String) -> Self {
        Self { status: ReplyStatus::NotModified, etag: Some(etag), ..Self::none() }
    }
}

/// Whether one of the tags of an `If-None-Match` field is `etag` (RFC 9110, 13.1.2: weak comparison). `*` is for the
/// caller to decide, who knows whether there is anything.
#[must_use]
pub fn none_match(field: &str, etag: &str) -> bool {
    field.split(',').any(|tag| {
        let tag = tag.trim().strip_prefix("W/").unwrap_or(tag.trim());
        tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')) == Some(etag)
    })
}

/// Status class of a [`Reply`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyStatus {
    /// 200, or 204 without data.
    Ok,
    /// 202 with the full envelope: what was asked for needs no answer.
    Accepted,
    /// 404 with the full envelope: a deleted or destroyed version (KV v2).
    NotFoundWithBody,
    /// 304: the caller has what would be answered.
    NotModified,
}

/// What a request is, as the engine's path table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirements {
    /// Goes through the committer; otherwise it runs on a read view.
    pub mutates: bool,
    /// A `POST` here is "create" when [`Engine::exists`] says no and "update" when it says yes.
    pub checks_existence: bool,
    /// Needs the `sudo` capability besides the normal one.
    pub sudo: bool,
}

/// Why an engine did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The request is wrong. Static text and field names only, never a value: it goes to the caller.
    #[error("{0}")]
    BadRequest(String),
    /// Nothing there.
    #[error("not found")]
    NotFound,
    /// Nothing there, and a hint for the caller (wrong KV v2 prefix).
    #[error("not found: {0}")]
    NotFoundWith(String),
    /// The path does not take this operation.
    #[error("unsupported operation")]
    Unsupported,
    /// The records could not be read or written.
    #[error("reading or writing records")]
    Barrier(#[from] BarrierError),
}
