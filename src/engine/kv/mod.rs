//! KV version 2: secrets with versions, soft deletion, check-and-set and labels, as in Vault's protocol.
//!
//! A secret is stored as the raw JSON text of its `data` object and copied unchanged into replies. So numbers keep
//! their digits, and no secret is spread over many small allocations.

mod config;
mod data;
mod fields;
mod metadata;
mod reply;
mod route;

use crate::api::page::Page;
use crate::api::path::Path;
use crate::api::reply::Reply;
use crate::api::request::Operation;
use crate::barrier::{MountId, Tx, View};
use crate::engine::{Engine, EngineError, FEW, Request, Requirements};

use route::Route;

/// The engine. It has no state of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kv;

impl Kv {
    /// Makes the engine.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl Engine for Kv {
    fn plan(&self, operation: Operation, path: &Path) -> Result<Requirements, EngineError> {
        Route::plan(operation, path)
    }

    fn exists(&self, view: &View<'_>, path: &Path) -> Result<bool, EngineError> {
        match Route::parse(path)? {
            Route::Data(secret) | Route::Metadata(secret) => Ok(view.exists(secret.as_str())),
            _ => Ok(true),
        }
    }

    fn watched(&self, path: &Path) -> Option<String> {
        match Route::parse(path).ok()? {
            Route::Data(secret)
            | Route::Delete(secret)
            | Route::Undelete(secret)
            | Route::Destroy(secret)
            | Route::Metadata(secret) => Some(secret.as_str().to_owned()),
            _ => None,
        }
    }

    fn destroys(&self, view: &View<'_>, request: &Request) -> Result<bool, EngineError> {
        use Operation::{Delete, Patch, Write};
        // Fewer versions, or an expiry, destroy content at the next write or later.
        let sheds =
            || ["max_versions", "delete_version_after"].iter().any(|name| request.body.object().get(name).is_some());
        Ok(match (Route::parse(&request.path)?, request.operation) {
            (Route::Destroy(_), Write) | (Route::Metadata(_), Delete) => true,
            (Route::Config, Write) => sheds(),
            (Route::Metadata(secret), Write | Patch) => view.exists(secret.as_str()) && sheds(),
            _ => false,
        })
    }

    fn is_long(&self, view: &View<'_>, request: &Request) -> bool {
        match (Route::parse(&request.path), request.operation) {
            (Ok(Route::Folder(folder)), Operation::List) => view.has_more_children(folder.leaf_str(), FEW),
            _ => false,
        }
    }

    fn read(&self, view: &View<'_>, request: &Request, now_ms: u64) -> Result<Reply, EngineError> {
        match (Route::parse(&request.path)?, request.operation) {
            (Route::Config, Operation::Read) => config::read(view),
            (Route::Data(path), Operation::Read) => data::read(view, &path, request, now_ms),
            (Route::Subkeys(path), Operation::Read) => data::subkeys(view, &path, request, now_ms),
            (Route::Metadata(path), Operation::Read) => metadata::read(view, &path),
            (Route::Folder(folder), Operation::List) => metadata::list(view, &folder, &Page::of(&request.body)?),
            _ => Err(EngineError::Unsupported),
        }
    }

    fn write(&self, tx: &mut Tx<'_>, mount: MountId, request: &Request, now_ms: u64) -> Result<Reply, EngineError> {
        use Operation::{Delete, Patch, Write};
        match (Route::parse(&request.path)?, request.operation) {
            (Route::Config, Write) => config::write(tx, mount, request),
            (Route::Data(path), Write) => data::write(tx, mount, &path, request, now_ms),
            (Route::Data(path), Patch) => data::patch(tx, mount, &path, request, now_ms),
            (Route::Data(path), Delete) => data::delete_latest(tx, mount, &path, now_ms),
            (Route::Delete(path), Write) => data::delete_versions(tx, mount, &path, request, now_ms),
            (Route::Undelete(path), Write) => data::undelete(tx, mount, &path, request, now_ms),
            (Route::Destroy(path), Write) => data::destroy(tx, mount, &path, request, now_ms),
            (Route::Metadata(path), Write) => metadata::write(tx, mount, &path, request, now_ms),
            (Route::Metadata(path), Patch) => metadata::patch(tx, mount, &path, request, now_ms),
            (Route::Metadata(path), Delete) => metadata::remove(tx, mount, &path),
            _ => Err(EngineError::Unsupported),
        }
    }
}
