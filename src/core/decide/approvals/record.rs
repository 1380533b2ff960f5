//! A request that waits for others.
//!
//! Built-in mount 14: one record for each request, key = its id, and under `key` the random key that bodies are hashed
//! with. Of a body nothing is on record but the names of its fields and that hash: a passphrase in it can be guessed from
//! neither without opening the vault.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::barrier::{MountId, Tx, View};
use crate::crypto::hash::MacKey;
use crate::crypto::random::Random;
use crate::engine::Body;

use crate::core::error::VaultError;
use crate::core::state::mount::hex;

/// Key of the hash key. Ids have 16 characters, so that none is like it.
const HASH_KEY: &str = "key";
/// Most field names on record, and their longest.
const MAX_FIELDS: usize = 64;
const MAX_FIELD_NAME: usize = 64;
/// A certificate request is a fresh key each time, for the asker itself or for what it asks for anyhow.
const NOT_HASHED: &str = "csr";

/// On-disk form, JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::core) struct Pending {
    /// Format, 1.
    pub v: u8,
    /// Path of the identity that asked.
    pub asker: String,
    /// Identifier of the request that asked, as in the audit log.
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
    /// Hash over what their power would be, hexadecimal; empty when nobody's would change.
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

/// What somebody said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::core) struct Voice {
    /// Path of the identity.
    pub identity: String,
    /// Fingerprint of its certificate, hexadecimal.
    pub certificate: String,
    pub at_ms: u64,
}

/// The request that was done.
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

    /// When it ended, if it did. A rejection stands until the request would have expired; who withdraws what it asked may
    /// ask again.
    pub(super) fn ended_ms(&self, now_ms: u64) -> Option<u64> {
        let withdrawn = self.rejected.as_ref().filter(|voice| voice.identity == self.asker);
        let used = self.used.as_ref().map(|used| used.at_ms);
        used.or(withdrawn.map(|voice| voice.at_ms)).or((now_ms >= self.expires_ms).then_some(self.expires_ms))
    }
}

/// One record.
///
/// # Errors
/// [`VaultError::Integrity`] when it cannot be understood.
pub(in crate::core) fn read(view: &View<'_>, id: &str) -> Result<Option<Pending>, VaultError> {
    if !is_id(id) {
        return Ok(None);
    }
    let Some(entry) = view.entry(id)? else { return Ok(None) };
    let record: Pending = serde_json::from_slice(entry.value.reveal()).map_err(|_| VaultError::Integrity)?;
    if record.v == 1 { Ok(Some(record)) } else { Err(VaultError::Integrity) }
}

/// All records with their ids, in no order.
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
/// Those of the barrier.
pub(in crate::core) fn put(tx: &mut Tx<'_>, id: &str, record: &Pending) -> Result<(), VaultError> {
    let bytes = serde_json::to_vec(record).map_err(|_| VaultError::Internal)?;
    tx.put_entry(MountId::APPROVALS, id, &bytes, 0)?;
    Ok(())
}

/// A new id.
///
/// # Errors
/// [`VaultError::Internal`] without randomness.
pub(super) fn new_id(random: &Arc<dyn Random>) -> Result<String, VaultError> {
    let mut id = [0; 8];
    random.fill(&mut id).map_err(|_| VaultError::Internal)?;
    Ok(hex(&id))
}

fn is_id(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The key that bodies are hashed with; `None` before the first request.
///
/// # Errors
/// Those of the barrier.
pub(super) fn hash_key(view: &View<'_>) -> Result<Option<MacKey>, VaultError> {
    Ok(view.entry(HASH_KEY)?.map(|entry| MacKey::from_bytes(entry.value.reveal())))
}

/// As [`hash_key`]; makes it if there is none.
///
/// # Errors
/// As [`hash_key`]; [`VaultError::Internal`] without randomness.
pub(super) fn make_hash_key(tx: &mut Tx<'_>, random: &Arc<dyn Random>) -> Result<MacKey, VaultError> {
    if let Some(key) = hash_key(&tx.view(MountId::APPROVALS))? {
        return Ok(key);
    }
    let mut key = Zeroizing::new([0; 32]);
    random.fill(&mut *key).map_err(|_| VaultError::Internal)?;
    tx.put_entry(MountId::APPROVALS, HASH_KEY, &*key, 0)?;
    Ok(MacKey::from_bytes(&*key))
}

/// The keyed hash of a body: its fields by name, whatever order they came in.
///
/// # Errors
/// [`VaultError::BadRequest`] when the body is no object.
pub(super) fn hash(key: &MacKey, body: &Body) -> Result<[u8; 32], VaultError> {
    let object = body.object()?;
    let mut fields: Vec<(&str, &str)> = object.entries().map(|(name, raw)| (name, raw.get())).collect();
    fields.retain(|(name, _)| *name != NOT_HASHED);
    fields.sort_unstable_by_key(|(name, _)| *name);
    let texts = fields.iter().flat_map(|(name, raw)| [name.as_bytes(), raw.as_bytes()]);
    let texts: Vec<([u8; 8], &[u8])> = texts.map(|text| (length(text), text)).collect();
    let mut parts: Vec<&[u8]> = vec![b"strongroom approval v1"];
    parts.extend(texts.iter().flat_map(|(length, text)| [length.as_slice(), text]));
    Ok(key.mac(&parts))
}

fn length(bytes: &[u8]) -> [u8; 8] {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes()
}

/// The names of a body's fields, fit for a terminal.
///
/// # Errors
/// As [`hash`].
pub(super) fn field_names(body: &Body) -> Result<Vec<String>, VaultError> {
    let object = body.object()?;
    let legal = |name: &str| name.len() <= MAX_FIELD_NAME && name.bytes().all(|byte| byte.is_ascii_graphic());
    let shown = object.keys().map(|name| if legal(name) { name.to_owned() } else { "?".to_owned() });
    Ok(shown.take(MAX_FIELDS).collect())
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
        let of = |text: &str| hash(&key, &body(text)).expect("an object");
        assert_eq!(of(r#"{"a":1,"b":"x"}"#), of(r#"{"b":"x","a":1}"#));
        assert_eq!(of(""), of("{}"));
        assert_eq!(of(r#"{"a":1,"csr":"one"}"#), of(r#"{"a":1,"csr":"two"}"#));
        assert_ne!(of(r#"{"a":1}"#), of(r#"{"a":2}"#));
        assert_ne!(of(r#"{"a":"b","c":"d"}"#), of(r#"{"a":"bc","d":""}"#));
        assert_ne!(of("{}"), hash(&MacKey::from_bytes(&[8; 32]), &body("")).expect("an object"));
    }

    proptest! {
        #[test]
        fn names_are_fit_for_a_terminal(name in "\\PC{0,80}|[\\x00-\\x1f]{1,3}") {
            let text = serde_json::json!({ name: 1 }).to_string();
            for shown in field_names(&body(&text)).expect("an object") {
                prop_assert!(shown.len() <= MAX_FIELD_NAME && shown.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
