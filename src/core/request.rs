//! What is asked and what is answered, free of HTTP.

use serde::Serialize;
use zeroize::Zeroizing;

use crate::api::path::Path;
use crate::api::secret::SecretText;

use super::error::VaultError;
use crate::engine::Page;

pub use crate::engine::{Body, Operation, Reply, ReplyStatus};

/// One request as it enters the pipeline.
pub struct Request {
    /// What is asked.
    pub operation: Operation,
    /// The full canonical path after `/v1/`.
    pub path: Path,
    /// Fields of the request.
    pub body: Body,
    /// Seconds of `X-Vault-Wrap-TTL`, if that header came.
    pub wrap_ttl: Option<u64>,
    /// `If-None-Match`, if that header came.
    pub if_none_match: Option<String>,
}

/// What opens a sealed vault. The text comes as typed; normalisation is done here, so that every entrance agrees.
pub enum UnsealKey<'a> {
    /// A passphrase slot.
    Passphrase(&'a SecretText),
    /// The bytes of a key file or of a systemd credential.
    KeyFile(&'a [u8]),
    /// A slot that needs both.
    Both {
        /// The passphrase, as typed.
        passphrase: &'a SecretText,
        /// The bytes of the key file.
        file: &'a [u8],
    },
    /// What a person typed or pasted: a passphrase, a printed recovery code (`srr1-…`), or one of several shares
    /// (`srs1-…`), which are kept until there are enough.
    Typed(&'a SecretText),
}

/// 200 with `data`.
pub(super) fn data<T: Serialize>(value: &T) -> Result<Reply, VaultError> {
    let bytes = serde_json::to_vec(value).map_err(|_| VaultError::Internal)?;
    Ok(Reply::data(Zeroizing::new(bytes)))
}

/// A listing of names, which are sorted, or the page of it that `asked` wants.
pub(super) fn keys_of(asked: &Body, keys: &[String]) -> Result<Reply, VaultError> {
    #[derive(Serialize)]
    struct Keys<'a> {
        keys: &'a [String],
    }
    let keys = Page::of(asked)?.cut(keys);
    Ok(Reply { lists_keys: true, ..data(&Keys { keys })? })
}
