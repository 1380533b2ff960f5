//! Requests and replies, independent of HTTP.

use serde::Serialize;
use zeroize::Zeroizing;

use crate::api::mark::Mark;
use crate::api::path::Path;
use crate::api::reply::Reply;
use crate::api::request::{Body, Operation};
use crate::api::secret::SecretText;
use crate::crypto::secret::SecretBytes;

use super::error::VaultError;
use crate::api::page::Page;

/// One request as it enters the pipeline.
pub struct Request {
    /// The operation.
    pub operation: Operation,
    /// The full canonical path after `/v1/`.
    pub path: Path,
    /// Fields of the request.
    pub body: Body,
    /// Seconds of the header `X-Vault-Wrap-TTL`, if present.
    pub wrap_ttl: Option<u64>,
    /// The header `If-None-Match`, if present.
    pub if_none_match: Option<String>,
    /// The mark that the client has seen, if sent. The request is rejected if the vault does not continue that history.
    pub seen: Option<Mark>,
}

/// The secret that unseals a vault, as typed. It is normalised here, so that all entry points agree.
pub enum UnsealKey<'a> {
    /// For a passphrase slot.
    Passphrase(&'a SecretText),
    /// The bytes of a key file or of a systemd credential.
    KeyFile(&'a [u8]),
    /// For a slot that needs both.
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

/// Returns the normal form of a passphrase, the only form that is used.
///
/// # Errors
/// [`VaultError::BadRequest`] for characters without a stable normal form.
pub(super) fn normalised(passphrase: &SecretText) -> Result<SecretBytes, VaultError> {
    crate::crypto::password::normalise(passphrase.reveal()).map_err(|_| {
        VaultError::BadRequest("the passphrase has characters without a stable Unicode form; use others".to_owned())
    })
}

/// 200 with `data`.
pub(super) fn data<T: Serialize>(value: &T) -> Result<Reply, VaultError> {
    let bytes = serde_json::to_vec(value).map_err(|_| VaultError::Internal)?;
    Ok(Reply::data(Zeroizing::new(bytes)))
}

/// A list of sorted names, or the page of it that `asked` requests.
pub(super) fn keys_of(asked: &Body, keys: &[String]) -> Result<Reply, VaultError> {
    #[derive(Serialize)]
    struct Keys<'a> {
        keys: &'a [String],
    }
    let keys = Page::of(asked)?.cut(keys);
    Ok(Reply { lists_keys: true, ..data(&Keys { keys })? })
}
