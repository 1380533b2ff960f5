//! A request that waits for approvals.
//!
//! Built-in mount 14 has one record per request under its id, and under `key` the random key with which bodies are
//! hashed. Of a body only the names of its fields and that hash are kept. Without opening the vault, a passphrase in it
//! cannot be guessed from either.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::api::hex::hex;
use crate::api::request::Body;
use crate::barrier::{MountId, Tx, View};
use crate::crypto::hash::MacKey;
use crate::crypto::random::Random;

use crate::core::error::VaultError;

/// Name of the hash key. Ids have 16 characters, so none is equal to it.
const HASH_KEY: &str = "key";
/// Largest number of field names on record, and largest length of one.
const MAX_FIELDS: usize = 64;
const MAX_FIELD_NAME: usize = 64;
/// Not part of the hash, because a certificate request has a new key each time. The certificate is for the requester, or
/// for what the request creates anyway.
const NOT_HASHED: &str = "csr";

/// On-disk form, in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::core) struct Pending {
    /// Format, 1.
    pub v: u8,
    /// Path of the identity that made the request.
    pub asker: String,
    /// Identifier of the request, as in the audit log.
    pub request: String,
    /// Class of the operation.
    pub operation: String,
    /// The verb as in the audit log.
    pub verb: String,
    /// Full path.
    pub path: String,
    /// Names of the fields.
    pub fields: Vec<String>,
    /// Keyed hash of the fields, hexadecimal.
    pub body: String,
    /// Identities whose power would change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub affects: Vec<String>,
    /// Hash over their new power, hexadecimal; empty when nobody's power would change.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub effect: String,
    pub asked_ms: u64,
    pub expires_ms: u64,
    pub approvals: Vec<Voice>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Voice>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<Used>,
}

/// One approval or rejection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::core) struct Voice {
    /// Path of the identity.
    pub identity: String,
    /// Fingerprint of its certificate, hexadecimal.
    pub certificate: String,
    pub at_ms: u64,
}

/// The request that was executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::core) struct Used {
    pub at_ms: u64,
    /// Its identifier, as in the audit log.
    pub request: String,
}

impl Pending {
    /// Whether it can still be approved or used.
    pub(in crate::core) fn is_open(&self, now_ms: u64) -> bool {
        self.used.is_none() && self.rejected.is_none() && now_ms < self.expires_ms
    }

    /// When it ended, if it has. A rejection is valid until the request would have expired. A requester who withdraws
    /// the request can ask again.
    pub(super) fn ended_ms(&self, now_ms: u64) -> Option<u64> {
        let withdrawn = self.rejected.as_ref().filter(|voice| voice.identity == self.asker);
        let used = self.used.as_ref().map(|used| used.at_ms);
        used.or(withdrawn.map(|voice| voice.at_ms)).or((now_ms >= self.expires_ms).then_some(self.expires_ms))
    }
}

/// Reads one record.
///
/// # Errors
/// [`VaultError::Integrity`] when it cannot be parsed.
pub(in crate::core) fn read(view: &View<'_>, id: &str) -> Result<Option<Pending>, VaultError> {
    if !is_id(id) {
        return Ok(None);
    }
    let Some(entry) = view.entry(id)? else { return Ok(None) };
    let record: Pending = serde_json::from_slice(entry.value.reveal()).map_err(|_| VaultError::Integrity)?;
    if record.v == 1 { Ok(Some(record)) } else { Err(VaultError::Integrity) }
}

/// All records with their ids, unordered.
///
/// # Errors
/// As [`read`].
pub(in crate::core) fn all(view: &View<'_>) -> Result<Vec<(String, Pending)>, VaultError> {
    let mut found = Vec::new();
    for id in view.entries()? {
        if let Some(record) = read(view, &id)? {
            found.push((id, record));
        }
    }
    Ok(found)
}

/// Writes a record.
///
/// # Errors
/// The errors of the barrier when a record cannot be read or written.
pub(in crate::core) fn put(tx: &mut Tx<'_>, id: &str, record: &Pending) -> Result<(), VaultError> {
    let bytes = serde_json::to_vec(record).map_err(|_| VaultError::Internal)?;
    tx.put_entry(MountId::APPROVALS, id, &bytes, 0)?;
    Ok(())
}

/// Generates an id.
///
/// # Errors
/// [`VaultError::Internal`] when the random source fails.
pub(super) fn new_id(random: &Arc<dyn Random>) -> Result<String, VaultError> {
    let mut id = [0; 8];
    random.fill(&mut id).map_err(|_| VaultError::Internal)?;
    Ok(hex(&id))
}

fn is_id(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The key with which bodies are hashed; `None` before the first request.
///
/// # Errors
/// The errors of the barrier when a record cannot be read or written.
pub(super) fn hash_key(view: &View<'_>) -> Result<Option<MacKey>, VaultError> {
    Ok(view.entry(HASH_KEY)?.map(|entry| MacKey::from_bytes(entry.value.reveal())))
}

/// As [`hash_key`]. Generates the key if there is none.
///
/// # Errors
/// As [`hash_key`]; [`VaultError::Internal`] when the random source fails.
pub(super) fn make_hash_key(tx: &mut Tx<'_>, random: &Arc<dyn Random>) -> Result<MacKey, VaultError> {
    if let Some(key) = hash_key(&tx.view(MountId::APPROVALS))? {
        return Ok(key);
    }
    let mut key = Zeroizing::new([0; 32]);
    random.fill(&mut *key).map_err(|_| VaultError::Internal)?;
    tx.put_entry(MountId::APPROVALS, HASH_KEY, &*key, 0)?;
    Ok(MacKey::from_bytes(&*key))
}

/// The keyed hash of a body: of its fields by name, whatever their order.
pub(super) fn hash(key: &MacKey, body: &Body) -> [u8; 32] {
    let mut fields: Vec<(&str, &str)> = body.object().entries().map(|(name, value)| (name, value.raw())).collect();
    fields.retain(|(name, _)| *name != NOT_HASHED);
    fields.sort_unstable_by_key(|(name, _)| *name);
    let texts = fields.iter().flat_map(|(name, raw)| [name.as_bytes(), raw.as_bytes()]);
    let texts: Vec<([u8; 8], &[u8])> = texts.map(|text| (length(text), text)).collect();
    let mut parts: Vec<&[u8]> = vec![b"strongroom approval v1"];
    parts.extend(texts.iter().flat_map(|(length, text)| [length.as_slice(), text]));
    key.mac(&parts)
}

fn length(bytes: &[u8]) -> [u8; 8] {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes()
}

/// The names of a body's fields, safe for a terminal.
pub(super) fn field_names(body: &Body) -> Vec<String> {
    let legal = |name: &str| name.len() <= MAX_FIELD_NAME && name.bytes().all(|byte| byte.is_ascii_graphic());
    let shown = body.object().keys().map(|name| if legal(name) { name.to_owned() } else { "?".to_owned() });
    shown.take(MAX_FIELDS).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::api::json::Limits;

    use super::*;

    fn body(text: &str) -> Body {
        Body::from_json(Zeroizing::new(text.as_bytes().to_vec()), &Limits::default()).expect("JSON")
    }

    #[test]
    fn the_hash_is_over_fields_not_their_order() {
        let key = MacKey::from_bytes(&[7; 32]);
        let of = |text: &str| hash(&key, &body(text));
        assert_eq!(of(r#"{"a":1,"b":"x"}"#), of(r#"{"b":"x","a":1}"#));
        assert_eq!(of(""), of("{}"));
        assert_eq!(of(r#"{"a":1,"csr":"one"}"#), of(r#"{"a":1,"csr":"two"}"#));
        assert_ne!(of(r#"{"a":1}"#), of(r#"{"a":2}"#));
        assert_ne!(of(r#"{"a":"b","c":"d"}"#), of(r#"{"a":"bc","d":""}"#));
        assert_ne!(of("{}"), hash(&MacKey::from_bytes(&[8; 32]), &body("")));
    }

    proptest! {
        #[test]
        fn names_are_fit_for_a_terminal(name in "\\PC{0,80}|[\\x00-\\x1f]{1,3}") {
            let text = serde_json::json!({ name: 1 }).to_string();
            for shown in field_names(&body(&text)) {
                prop_assert!(shown.len() <= MAX_FIELD_NAME && shown.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
