//! Bodies of nodes, values and entries (`docs/format.md`, kinds 03, 04 and 06).

use std::collections::BTreeMap;

use crate::crypto::codec::{Reader, Writer};
use crate::crypto::envelope::{self, Kind};
use crate::crypto::{CryptoError, Key, SecretBytes};

use super::error::BarrierError;
use super::names::MAX_PATH_BYTES;

const BODY: u8 = 1;
/// Largest number of versions whose description a secret keeps.
pub const MAX_VERSIONS: usize = 1024;

/// Description of one version of a secret, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionMeta {
    /// Number, from 1.
    pub version: u64,
    /// Unix time in milliseconds.
    pub created_ms: u64,
    /// Time from which it counts as deleted, Unix time in milliseconds; 0 means never.
    pub deleted_ms: u64,
    /// Whether the content is gone for good.
    pub destroyed: bool,
}

/// Description of a secret, without its content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretMeta {
    /// Number of the newest version; 0 when there has never been one.
    pub current: u64,
    /// Number of the oldest version that is kept; 0 when none was ever dropped.
    pub oldest: u64,
    /// Number of versions to keep; 0 means the mount's setting.
    pub max_versions: u32,
    /// Whether writes must name the version that they replace.
    pub cas_required: bool,
    /// Milliseconds after which a new version counts as deleted; 0 means never.
    pub delete_after_ms: u64,
    /// Labels set by operators.
    pub custom: BTreeMap<String, String>,
    /// Versions in ascending order.
    pub versions: Vec<VersionMeta>,
}

/// A name in the tree: a secret, a folder, or both. Contains the keys of its versions, so it is neither `Clone` nor
/// `Debug`.
pub struct Node {
    /// Unix time in milliseconds at which the secret (for a pure folder: the folder) was created.
    pub created_ms: u64,
    /// Unix time in milliseconds of the last change of the secret.
    pub updated_ms: u64,
    /// Description of the secret; `None` for a pure folder.
    pub meta: Option<SecretMeta>,
    /// Key of each version that is not destroyed.
    pub(super) keys: BTreeMap<u64, Key>,
    /// Number of direct children.
    pub(super) child_count: u32,
}

impl Node {
    /// Creates an empty folder.
    pub(super) fn folder(now_ms: u64) -> Self {
        Self { created_ms: now_ms, updated_ms: now_ms, meta: None, keys: BTreeMap::new(), child_count: 0 }
    }

    /// Encodes the body of kind 03.
    ///
    /// # Errors
    /// [`BarrierError::Versions`] when versions do not ascend from 1, there are too many, or the keys do not match
    /// them.
    pub(super) fn encode(&self, segment: &str) -> Result<SecretBytes, BarrierError> {
        let mut out = Writer::new();
        out.u8(BODY).lp(segment.as_bytes()).u8(u8::from(self.meta.is_some())).u32(self.child_count);
        out.u64(self.created_ms).u64(self.updated_ms);
        let live = |version: &&VersionMeta| !version.destroyed;
        let wanted = self.meta.iter().flat_map(|meta| meta.versions.iter().filter(live));
        if !wanted.map(|version| &version.version).eq(self.keys.keys()) {
            return Err(BarrierError::Versions("a version without its key"));
        }
        if let Some(meta) = &self.meta {
            if meta.versions.len() > MAX_VERSIONS {
                return Err(BarrierError::Versions("more than 1024 versions"));
            }
            out.u64(meta.current).u64(meta.oldest).u32(meta.max_versions).u8(u8::from(meta.cas_required));
            out.u64(meta.delete_after_ms).u32(count(meta.custom.len())?);
            for (key, value) in &meta.custom {
                out.lp(key.as_bytes()).lp(value.as_bytes());
            }
            out.u32(count(meta.versions.len())?);
            let mut last = 0;
            for version in &meta.versions {
                if version.version <= last || version.version > meta.current {
                    return Err(BarrierError::Versions("numbers do not ascend up to the current one"));
                }
                last = version.version;
                out.u64(version.version).u64(version.created_ms).u64(version.deleted_ms);
                out.u8(u8::from(version.destroyed));
                match self.keys.get(&version.version) {
                    Some(key) => out.bytes(key.reveal()),
                    None => out.bytes(&[0; 32]),
                };
            }
        }
        Ok(out.into_secret())
    }

    /// Decodes a body of kind 03: the node and its segment.
    pub(super) fn decode(body: &[u8]) -> Result<(String, Self), CryptoError> {
        let mut reader = Reader::new(body);
        version_one(&mut reader)?;
        let segment = text(&mut reader)?;
        if segment.is_empty() || segment.len() > MAX_PATH_BYTES || segment.contains('/') {
            return Err(CryptoError::Malformed("segment"));
        }
        let has_secret = flag(&mut reader)?;
        let child_count = reader.u32()?;
        let (created_ms, updated_ms) = (reader.u64()?, reader.u64()?);
        let mut keys = BTreeMap::new();
        let meta = if has_secret { Some(decode_secret(&mut reader, &mut keys)?) } else { None };
        envelope::finish(Kind::Node, body, reader)?;
        if meta.is_none() && child_count == 0 {
            return Err(CryptoError::Malformed("a node without a secret and without children"));
        }
        Ok((segment, Self { created_ms, updated_ms, meta, keys, child_count }))
    }
}

fn decode_secret(reader: &mut Reader<'_>, keys: &mut BTreeMap<u64, Key>) -> Result<SecretMeta, CryptoError> {
    let (current, oldest, max_versions) = (reader.u64()?, reader.u64()?, reader.u32()?);
    let (cas_required, delete_after_ms) = (flag(reader)?, reader.u64()?);
    let mut custom: BTreeMap<String, String> = BTreeMap::new();
    for _ in 0..reader.u32()? {
        let (key, value) = (text(reader)?, text(reader)?);
        if custom.last_key_value().is_some_and(|(last, _)| *last >= key) {
            return Err(CryptoError::Malformed("labels are not sorted"));
        }
        custom.insert(key, value);
    }
    let count = reader.u32()?;
    if usize::try_from(count).map_or(true, |count| count > MAX_VERSIONS) {
        return Err(CryptoError::Malformed("too many versions"));
    }
    let mut versions: Vec<VersionMeta> = Vec::new();
    for _ in 0..count {
        let (version, created_ms, deleted_ms) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let destroyed = flag(reader)?;
        let key: &[u8; 32] = reader.array()?;
        let last = versions.last().map_or(0, |last| last.version);
        if version <= last || version > current {
            return Err(CryptoError::Malformed("versions do not ascend"));
        }
        if destroyed != (key == &[0; 32]) {
            return Err(CryptoError::Malformed("a key does not fit its version"));
        }
        if !destroyed {
            keys.insert(version, Key::fill_with(|out| out.copy_from_slice(key)));
        }
        versions.push(VersionMeta { version, created_ms, deleted_ms, destroyed });
    }
    Ok(SecretMeta { current, oldest, max_versions, cas_required, delete_after_ms, custom, versions })
}

/// Encodes the body of kind 04.
pub(super) fn encode_value(created_ms: u64, value: &[u8]) -> SecretBytes {
    let mut out = Writer::with_capacity(value.len().saturating_add(13));
    out.u8(BODY).u64(created_ms).lp(value);
    out.into_secret()
}

/// Decodes the value in a body of kind 04.
pub(super) fn decode_value(body: &[u8]) -> Result<SecretBytes, CryptoError> {
    let mut reader = Reader::new(body);
    version_one(&mut reader)?;
    reader.u64()?;
    let value = SecretBytes::from_vec(reader.lp()?.to_vec());
    envelope::finish(Kind::Value, body, reader)?;
    Ok(value)
}

/// Encodes the body of kind 06.
pub(super) fn encode_entry(key: &str, value: &[u8], not_after_ms: u64) -> SecretBytes {
    let mut out = Writer::with_capacity(value.len().saturating_add(key.len()).saturating_add(17));
    out.u8(BODY).lp(key.as_bytes()).u64(not_after_ms).lp(value);
    out.into_secret()
}

/// Decodes a body of kind 06: view key, expiry, value.
pub(super) fn decode_entry(body: &[u8]) -> Result<(String, u64, SecretBytes), CryptoError> {
    let mut reader = Reader::new(body);
    version_one(&mut reader)?;
    let key = text(&mut reader)?;
    if key.is_empty() || key.len() > MAX_PATH_BYTES {
        return Err(CryptoError::Malformed("view key"));
    }
    let not_after_ms = reader.u64()?;
    let value = SecretBytes::from_vec(reader.lp()?.to_vec());
    envelope::finish(Kind::Entry, body, reader)?;
    Ok((key, not_after_ms, value))
}

fn version_one(reader: &mut Reader<'_>) -> Result<(), CryptoError> {
    if reader.u8()? == BODY { Ok(()) } else { Err(CryptoError::Unsupported("body version")) }
}

fn flag(reader: &mut Reader<'_>) -> Result<bool, CryptoError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(CryptoError::Malformed("flag")),
    }
}

fn text(reader: &mut Reader<'_>) -> Result<String, CryptoError> {
    let bytes = reader.lp()?;
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| CryptoError::Malformed("text is not utf-8"))
}

fn count(n: usize) -> Result<u32, BarrierError> {
    u32::try_from(n).map_err(|_| BarrierError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Node {
        let version = |version, destroyed| VersionMeta { version, created_ms: 3, deleted_ms: 0, destroyed };
        let meta = SecretMeta {
            current: 7,
            oldest: 5,
            max_versions: 3,
            cas_required: true,
            delete_after_ms: 9,
            custom: BTreeMap::from([("a".to_owned(), "1".to_owned()), ("b".to_owned(), String::new())]),
            versions: vec![version(5, true), version(7, false)],
        };
        let keys = BTreeMap::from([(7, Key::fill_with(|out| out.fill(4)))]);
        Node { created_ms: 1, updated_ms: 2, meta: Some(meta), keys, child_count: 6 }
    }

    #[test]
    fn a_node_reads_back_and_a_version_without_its_key_is_refused() {
        let body = sample().encode("name").unwrap();
        let (name, node) = Node::decode(body.reveal()).unwrap();
        assert_eq!((name.as_str(), node.child_count, &node.meta), ("name", 6, &sample().meta));
        assert_eq!(node.encode("name").unwrap().reveal(), body.reveal());
        let mut broken = sample();
        broken.keys.clear();
        assert!(matches!(broken.encode("name"), Err(BarrierError::Versions(_))));
    }

    proptest! {
        #[test]
        fn every_accepted_body_is_canonical(at in 0usize..300, bit in 0u8..8, cut in 0usize..300) {
            let mut body = sample().encode("name").unwrap().reveal().to_vec();
            let at = at % body.len();
            body[at] ^= 1 << bit;
            if let Ok((name, node)) = Node::decode(&body) {
                let again = node.encode(&name).unwrap();
                prop_assert_eq!(again.reveal(), &body[..again.len()]);
            }
            let _ = Node::decode(&body[..cut.min(body.len())]);
        }

        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = (Node::decode(&bytes), decode_value(&bytes), decode_entry(&bytes));
        }
    }
}
