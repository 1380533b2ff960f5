//! Maps a path to one of the engine's endpoints.

use crate::api::path::Path;
use crate::api::request::Operation;
use crate::engine::{EngineError, Requirements};

const HINT: &str = "this is a versioned key-value mount (KV v2): secrets are read and written below data/, \
                    listed and described below metadata/";

/// A path of the engine with its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `config`
    Config,
    /// `data/<secret>`
    Data(Path),
    /// `delete/<secret>`
    Delete(Path),
    /// `undelete/<secret>`
    Undelete(Path),
    /// `destroy/<secret>`
    Destroy(Path),
    /// `subkeys/<secret>`
    Subkeys(Path),
    /// `metadata/<secret>`
    Metadata(Path),
    /// `metadata/<folder>/`
    Folder(Path),
}

impl Route {
    /// # Errors
    /// `NotFoundWith` a hint for a path with an unknown prefix, `NotFound` for a folder where a secret is required.
    pub(super) fn parse(path: &Path) -> Result<Self, EngineError> {
        if path.as_str() == "config" {
            return Ok(Self::Config);
        }
        let prefix = path.segments().next().unwrap_or_default();
        let below = || Path::parse(prefix).ok().and_then(|prefix| path.strip_prefix(&prefix.to_folder()));
        let route: fn(Path) -> Self = match prefix {
            "data" => Self::Data,
            "delete" => Self::Delete,
            "undelete" => Self::Undelete,
            "destroy" => Self::Destroy,
            "subkeys" => Self::Subkeys,
            "metadata" => Self::Metadata,
            _ => return Err(EngineError::NotFoundWith(HINT.to_owned())),
        };
        match below() {
            Some(secret) if !secret.is_folder() => Ok(route(secret)),
            Some(folder) if prefix == "metadata" => Ok(Self::Folder(folder)),
            Some(folder) if !folder.is_root() => Err(EngineError::NotFound),
            _ => Err(EngineError::NotFoundWith(HINT.to_owned())),
        }
    }

    /// The plan for `operation` on `path`.
    ///
    /// # Errors
    /// As [`Route::parse`], and `Unsupported` for a verb that the endpoint does not support.
    pub(super) fn plan(operation: Operation, path: &Path) -> Result<Requirements, EngineError> {
        use Operation::{Delete, List, Patch, Read, Write};
        let route = match Self::parse(path) {
            // A list always names a folder, and only metadata has folders.
            Err(EngineError::NotFound) if operation == List => return Err(EngineError::Unsupported),
            other => other?,
        };
        let (mutates, checks_existence) = match (&route, operation) {
            (Self::Config | Self::Data(_) | Self::Subkeys(_) | Self::Metadata(_), Read) => (false, false),
            (Self::Folder(_), List) => (false, false),
            (Self::Config | Self::Delete(_) | Self::Undelete(_) | Self::Destroy(_), Write) => (true, false),
            (Self::Data(_) | Self::Metadata(_), Write) => (true, true),
            (Self::Data(_) | Self::Metadata(_), Patch | Delete) => (true, false),
            (Self::Folder(_), Read | Write | Patch | Delete) => return Err(EngineError::NotFound),
            _ => return Err(EngineError::Unsupported),
        };
        Ok(Requirements { mutates, checks_existence, sudo: false })
    }
}
