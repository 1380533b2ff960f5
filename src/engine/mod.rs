//! Secrets engines: the code behind a mount.
//!
//! An engine is a plain object without state. Everything that it knows is in the records that it reads through a
//! [`View`] and writes through a [`Tx`], both limited to one mount. It never sees the store, a key, a policy or the
//! network. The core first asks what a request *is* ([`Engine::plan`]). Then it asks whether the object of the path
//! exists ([`Engine::exists`], which distinguishes create from update). Then it runs the request.

pub mod kv;

use crate::api::fields::FieldError;
use crate::api::path::Path;
use crate::api::reply::Reply;
use crate::api::request::{Body, Operation};
use crate::barrier::{BarrierError, MountId, Tx, View};

/// Largest number of records that the thread of a request reads itself. Requests that may read more run on threads of
/// their own.
pub const FEW: usize = 256;

/// Code behind a mount. Every method is a function of its arguments: no clock, no randomness, no memory between calls.
pub trait Engine: Send + Sync {
    /// Returns what `operation` on `path` (relative to the mount) would do. Reads no record.
    ///
    /// # Errors
    /// [`EngineError::Unsupported`] when the engine has the path but not with this operation. [`EngineError::NotFound`]
    /// or [`EngineError::NotFoundWith`] when the engine has no such path.
    fn plan(&self, operation: Operation, path: &Path) -> Result<Requirements, EngineError>;

    /// Whether the object that a write to `path` would change already exists. Called only when
    /// [`Requirements::checks_existence`] is set. The index answers this without opening a value.
    ///
    /// # Errors
    /// [`EngineError::Barrier`] when the index cannot be read.
    fn exists(&self, view: &View<'_>, path: &Path) -> Result<bool, EngineError>;

    /// The object that a write to `path` changes, as clients that watch it name it: relative to the mount, without the
    /// engine's own prefixes. `None` if it cannot be watched.
    fn watched(&self, path: &Path) -> Option<String> {
        let _ = path;
        None
    }

    /// Whether a request that changes something would make content permanently unreadable, now or with a later change
    /// that does not mention it.
    ///
    /// # Errors
    /// As [`Engine::exists`].
    fn destroys(&self, view: &View<'_>, request: &Request) -> Result<bool, EngineError> {
        let _ = (view, request);
        Ok(false)
    }

    /// Whether a request whose plan does not mutate may read more than [`FEW`] records. Answered from the index.
    fn is_long(&self, view: &View<'_>, request: &Request) -> bool {
        let _ = (view, request);
        false
    }

    /// Runs a request whose plan does not mutate.
    ///
    /// # Errors
    /// The [`EngineError`] that is the reply. Nothing has changed in any case.
    fn read(&self, view: &View<'_>, request: &Request, now_ms: u64) -> Result<Reply, EngineError>;

    /// Runs a request whose plan mutates, in the committer's group. On `Err` the caller takes back what this call put
    /// into `tx`. On `Ok` the change is durable once the group is.
    ///
    /// # Errors
    /// The [`EngineError`] that is the reply.
    fn write(&self, tx: &mut Tx<'_>, mount: MountId, request: &Request, now_ms: u64) -> Result<Reply, EngineError>;
}

/// One request from the engine's point of view. The path is relative to the mount.
pub struct Request {
    /// The operation.
    pub operation: Operation,
    /// Path below the mount.
    pub path: Path,
    /// Fields of the request.
    pub body: Body,
    /// The caller's `If-None-Match`, unchanged.
    pub if_none_match: Option<String>,
}

/// What a request does, according to the engine's path table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirements {
    /// Whether it goes through the committer. Otherwise it runs on a read view.
    pub mutates: bool,
    /// Whether a `POST` means "create" when [`Engine::exists`] says no and "update" when it says yes.
    pub checks_existence: bool,
    /// Whether it needs the `sudo` capability in addition to the normal one.
    pub sudo: bool,
}

/// Why an engine rejected a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The request is wrong. The text is static with field names only, never a value, because the caller sees it.
    #[error("{0}")]
    BadRequest(String),
    /// A write that knows another version than the current one, or does not say which one it knows.
    #[error("{0}")]
    CheckAndSet(&'static str),
    /// Nothing exists at the path.
    #[error("not found")]
    NotFound,
    /// Nothing exists at the path, with a hint for the caller (wrong KV v2 prefix).
    #[error("not found: {0}")]
    NotFoundWith(String),
    /// The path does not support this operation.
    #[error("unsupported operation")]
    Unsupported,
    /// The records could not be read or written.
    #[error("reading or writing records failed")]
    Barrier(#[from] BarrierError),
}

/// In the words of Vault's engines.
impl From<FieldError> for EngineError {
    fn from(error: FieldError) -> Self {
        Self::BadRequest(error.bare())
    }
}
