//! Damaged records with the names that users know: for replies, and for the permanent list after a salvage.

use super::mount::Mount;
use crate::api::hex::hex;
use crate::api::sys::BadRecord;
use crate::barrier::{Bad, MountId, Part, View};
use crate::core::error::VaultError;

/// Key prefix of entries that list records lost in a salvage.
const PREFIX: &str = "salvage/";
/// Approximate size of one such entry, in bytes.
const ENTRY_BYTES: usize = 256 * 1024;

/// Returns the mount of an entry of the mount table; `None` if the entry cannot be decoded.
pub(in crate::core) fn mount_of(key: &str, value: &[u8]) -> Option<MountId> {
    Mount::from_record(key, value).ok().map(|mount| mount.id)
}

/// Key prefix of the entries of one salvage.
fn prefix(epoch: u32) -> String {
    format!("{PREFIX}{epoch:010}/")
}

fn key(epoch: u32, n: u32) -> String {
    format!("{}{n:06}", prefix(epoch))
}

/// Returns keys and contents of the entries that list `bad` permanently, for a salvage that begins `epoch`. No entry is
/// larger than a record may be.
///
/// # Errors
/// [`VaultError::Internal`] when a record cannot be serialised, which does not happen for records from [`shown`].
pub(in crate::core) fn entries(bad: &[BadRecord], epoch: u32) -> Result<Vec<(String, Vec<u8>)>, VaultError> {
    let mut parts = Vec::new();
    let (mut part, mut bytes): (Vec<&BadRecord>, usize) = (Vec::new(), 0);
    let encoded = |part: &[&BadRecord]| serde_json::to_vec(part).map_err(|_| VaultError::Internal);
    for bad in bad {
        bytes += bad.path.len() + 300;
        part.push(bad);
        if bytes > ENTRY_BYTES {
            parts.push(encoded(&part)?);
            (part, bytes) = (Vec::new(), 0);
        }
    }
    if !part.is_empty() {
        parts.push(encoded(&part)?);
    }
    Ok((0..).map(|n: u32| key(epoch, n)).zip(parts).collect())
}

/// Returns the records that were lost in the salvage that began `epoch`.
///
/// # Errors
/// [`VaultError::Integrity`] when an entry cannot be parsed; the errors of the barrier.
pub(in crate::core) fn lost_in(view: &View<'_>, epoch: u32) -> Result<Vec<BadRecord>, VaultError> {
    let prefix = prefix(epoch);
    let mut parts: Vec<(u32, Vec<BadRecord>)> = Vec::new();
    view.each_entry(|name, entry| {
        if let Some(number) = name.strip_prefix(&prefix).and_then(|number| number.parse().ok()) {
            let part = serde_json::from_slice(entry.value.reveal()).map_err(|_| VaultError::Integrity)?;
            parts.push((number, part));
        }
        Ok::<(), VaultError>(())
    })?;
    parts.sort_by_key(|(number, _)| *number);
    let (mut lost, mut next) = (Vec::new(), 0);
    for (number, part) in parts {
        // A later salvage may have removed a part of this list.
        if number != next {
            let (what, why) = ("list".to_owned(), "a part of this list was lost".to_owned());
            lost.push(BadRecord { what, why, ..BadRecord::default() });
        }
        next = number.saturating_add(1);
        lost.extend(part);
    }
    Ok(lost)
}

/// Describes a bad record for callers who may read everything. `name_of` returns the name of a mount.
pub(in crate::core) fn shown<'a>(bad: &Bad, name_of: impl Fn(MountId) -> Option<&'a str>) -> BadRecord {
    let (what, version) = match bad.part {
        Part::Version(version) => ("version", version),
        Part::Name => ("name", 0),
        Part::Entry => ("entry", 0),
        Part::Stray => ("stray", 0),
    };
    let mount = bad.mount.map(|mount| name_of(mount).or_else(|| family(mount)).unwrap_or("?").to_owned());
    BadRecord {
        what: what.to_owned(),
        mount: mount.unwrap_or_default(),
        path: bad.path.clone(),
        version,
        behind: bad.behind,
        why: bad.why.to_owned(),
        record: hex(&bad.key),
    }
}

/// Returns what a built-in mount contains.
fn family(mount: MountId) -> Option<&'static str> {
    let names = [
        (MountId::MOUNTS, "the mount table"),
        (MountId::POLICIES, "policies"),
        (MountId::IDENTITIES, "identities"),
        (MountId::TOKENS, "tokens"),
        (MountId::CA, "authorities"),
        (MountId::ROTATION, "rotations"),
        (MountId::MISC, "notes of losses"),
        (MountId::CERTIFICATES, "certificates"),
        (MountId::ENROLMENTS, "enrolment strings"),
        (MountId::CERT_ROLES, "roles for outside certificates"),
        (MountId::LIMITS, "limits"),
        (MountId::APPROVALS, "approvals"),
        (MountId::SIGHTINGS, "sightings"),
        (MountId::GROUPS, "groups"),
    ];
    names.into_iter().find(|(id, _)| *id == mount).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::sys::AcceptedLoss;

    /// A record as a sweep finds it.
    fn found(mount: Option<MountId>, path: &str, part: Part, (why, behind): (&'static str, u64), key: Vec<u8>) -> Bad {
        Bad { mount, path: path.to_owned(), part, why, behind, key }
    }

    /// The permanent notes of a salvage, as `tests/formats/decode.py` reads them too. A difference is a new format, never a
    /// fix.
    #[test]
    fn the_notes_of_a_salvage_are_written_as_they_are_frozen() {
        let kv = MountId([9; 16]);
        let version = [b"v".as_slice(), &[0x22; 16], &3_u64.to_be_bytes()].concat();
        let node = [b"d".as_slice(), &[0x11; 16], &[0x22; 16]].concat();
        let entry = [b"e".as_slice(), &[0x33; 16], &[0x44; 16]].concat();
        let bad = [
            found(Some(kv), "app/db", Part::Version(3), ("a record does not open", 0), version),
            found(Some(kv), "app", Part::Name, ("a record cannot be decoded", 2), node),
            found(Some(MountId::LIMITS), "", Part::Entry, ("a record is missing", 0), entry),
            found(None, "", Part::Stray, ("it was restored from an earlier state", 0), b"xx".to_vec()),
        ];
        let bad = bad.map(|bad| shown(&bad, |mount| (mount == kv).then_some("secret/")));
        let frozen = include_bytes!("../../../tests/formats/v1/notes/salvage.json");
        let written = entries(&bad, 2).expect("JSON");
        assert_eq!(written, [("salvage/0000000002/000000".to_owned(), frozen.to_vec())]);
        let read: Vec<BadRecord> = serde_json::from_slice(frozen).expect("JSON");
        assert_eq!(read, bad);

        let frozen = include_bytes!("../../../tests/formats/v1/notes/loss.json");
        let loss: AcceptedLoss = serde_json::from_slice(frozen).expect("JSON");
        assert_eq!((loss.epoch, loss.salvaged, loss.slot.as_str()), (2, 4, "operator"));
        assert_eq!(serde_json::to_vec(&loss).expect("JSON"), frozen);
    }
}
