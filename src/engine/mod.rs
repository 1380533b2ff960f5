//! Secrets engines: the code behind a mount.
//!
//! An engine is a plain object without state of its own: everything it knows is in the records it reads through a
//! [`View`] and writes through a [`Tx`], both narrowed to one mount. It never sees the store, a key, a policy or the
//! network. The core asks it three things, in this order: what a request *is* ([`Engine::plan`]), whether the thing
//! named by the path exists ([`Engine::exists`], which separates create from update), and to run it.

pub mod kv;

use crate::api::fields::FieldError;
use crate::api::path::Path;
use crate::api::reply::Reply;
use crate::api::request::{Body, Operation};
use crate::barrier::{BarrierError, MountId, Tx, View};

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
    /// A write that knows another version than the current one, or does not say which one it knows.
    #[error("{0}")]
    CheckAndSet(&'static str),
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

/// In the words of Vault's engines.
impl From<FieldError> for EngineError {
    fn from(error: FieldError) -> Self {
        Self::BadRequest(error.bare())
    }
}
