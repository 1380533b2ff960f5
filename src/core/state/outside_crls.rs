//! Revocation lists of outside PKIs: which of their certificates are rejected.
//!
//! The record is in built-in mount 12, beside the roles, under `crl/` and the name of the list. Names of roles have no
//! slash. The upload proves that an authority of a role has signed the list. From then on it applies by itself, even if
//! that role is removed, and even if a newer list is long overdue.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::auth::cert::{Kind, Role, RoleError, decode_list, encode_list};
use crate::barrier::{MountId, Tx, View};
use crate::pki::outside::{CertificateName, ListError, OutsideFacts, RevocationList, signed_by};
use crate::pki::subject_of;

use super::roles::Roles;
use crate::core::error::VaultError;

/// Largest number of lists.
pub(in crate::core) const MAX_LISTS: usize = 64;
/// Prefix of a list's name, which distinguishes its record from a role's.
const PREFIX: &str = "crl/";

const UNKNOWN_ISSUER: &str =
    "no role of auth/cert names the authority that issued this list: write the role with its certificate first";
const OLDER: &str = "there is a newer list of this issuer under that name: delete it first if you want to replace it";
const OTHER: &str = "the list under that name belongs to another issuer or was signed with another key: choose another name, or delete it first";
const UNREADABLE: &str = "the list under that name cannot be read: delete it first";

/// The key of a list's record.
fn key_of(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// Whether a record in the mount belongs to a role.
pub(in crate::core) fn is_role(key: &str) -> bool {
    !key.starts_with(PREFIX)
}

/// The names of all lists, sorted.
///
/// # Errors
/// The errors of the barrier when a record cannot be read or written.
fn names(view: &View<'_>) -> Result<Vec<String>, VaultError> {
    let keys = view.entries()?;
    Ok(keys.iter().filter_map(|key| key.strip_prefix(PREFIX)).map(str::to_owned).collect())
}

/// Reads one list and its DER; `None` when there is no list of that name.
///
/// # Errors
/// [`VaultError::Integrity`] when it cannot be parsed; the errors of the barrier.
pub(in crate::core) fn read(view: &View<'_>, name: &str) -> Result<Option<(RevocationList, Vec<u8>)>, VaultError> {
    let Some(entry) = view.entry(&key_of(name))? else { return Ok(None) };
    decode_list(entry.value.reveal()).map(|(list, der)| Some((list, der.to_vec()))).map_err(|_| VaultError::Integrity)
}

/// Stores a list, DER, under a name, or replaces an older list of the same issuer.
///
/// # Errors
/// [`VaultError::BadRequest`] when no authority of a role signed it, when it does not succeed the list under that name,
/// and for too many lists; the errors of the barrier; [`VaultError::Integrity`] when a stored list cannot be parsed.
pub(in crate::core) fn put(tx: &mut Tx<'_>, name: &str, list: &RevocationList, der: &[u8]) -> Result<(), VaultError> {
    let view = tx.view(MountId::CERT_ROLES);
    let roles = Roles::load(&view)?;
    let authority = signer(&roles, list, der)?;
    let names = names(&view)?;
    if names.iter().filter(|other| *other != name).count() >= MAX_LISTS {
        return Err(VaultError::BadRequest(format!(
            "there are already {MAX_LISTS} revocation lists, the maximum: delete one first"
        )));
    }
    if names.iter().any(|other| other == name) {
        let old = match read(&view, name) {
            Ok(old) => old.ok_or(VaultError::Integrity)?,
            Err(VaultError::Integrity) => return Err(VaultError::BadRequest(UNREADABLE.to_owned())),
            Err(other) => return Err(other),
        };
        replaces(&old, list, authority)?;
    }
    tx.put_entry(MountId::CERT_ROLES, &key_of(name), &encode_list(der), 0)?;
    Ok(())
}

/// Rejects a list that does not succeed the one that it would replace. A caller that may upload lists must not be able
/// to take a certificate off a list, neither with an older list nor with one from an authority made for that purpose.
fn replaces(old: &(RevocationList, Vec<u8>), new: &RevocationList, authority: &[u8]) -> Result<(), VaultError> {
    let (old, old_der) = old;
    if old.issuer != new.issuer || signed_by(old_der, authority).is_err() {
        return Err(VaultError::BadRequest(OTHER.to_owned()));
    }
    if old.this_update_s > new.this_update_s {
        return Err(VaultError::BadRequest(OLDER.to_owned()));
    }
    Ok(())
}

/// Returns the authority of a role that signed the list.
fn signer<'r>(roles: &'r Roles, list: &RevocationList, der: &[u8]) -> Result<&'r [u8], VaultError> {
    let mut reason = None;
    for authority in roles.iter().flat_map(Role::certificates) {
        if subject_of(authority).as_deref() != Some(&list.issuer) {
            continue;
        }
        match signed_by(der, authority) {
            Ok(()) => return Ok(authority),
            // With two authorities of the same name, the error for the one that has the key is more useful.
            Err(error) if reason != Some(ListError::Usage) => reason = Some(error),
            Err(_) => {}
        }
    }
    Err(reason.map_or_else(|| VaultError::BadRequest(UNKNOWN_ISSUER.to_owned()), |error| RoleError::from(error).into()))
}

/// Removes a list. As for all routes, deleting something that does not exist is not an error.
///
/// # Errors
/// The errors of the barrier when a record cannot be read or written.
pub(in crate::core) fn remove(tx: &mut Tx<'_>, name: &str) -> Result<(), VaultError> {
    tx.remove_entry(MountId::CERT_ROLES, &key_of(name))?;
    Ok(())
}

/// All lists by name. `None` stands for one that cannot be parsed.
#[derive(Clone, Debug, Default)]
pub(in crate::core) struct OutsideCrls(BTreeMap<String, Option<Arc<RevocationList>>>);

impl OutsideCrls {
    /// Reads all lists.
    ///
    /// # Errors
    /// The errors of the barrier when a record cannot be read or written.
    pub(in crate::core) fn load(view: &View<'_>) -> Result<Self, VaultError> {
        let mut all = Self::default();
        for name in names(view)? {
            all.reread(view, &name)?;
        }
        Ok(all)
    }

    /// Updates one list from the store. It is unknown whom an unreadable list names, so all outside certificates are
    /// rejected until it is deleted.
    ///
    /// # Errors
    /// The errors of the barrier when a record cannot be read or written.
    pub(in crate::core) fn reread(&mut self, view: &View<'_>, name: &str) -> Result<(), VaultError> {
        match read(view, name) {
            Ok(Some((list, _))) => {
                self.0.insert(name.to_owned(), Some(Arc::new(list)));
            }
            Ok(None) => {
                self.0.remove(name);
            }
            Err(VaultError::Integrity) if view.entry(&key_of(name))?.is_some() => {
                tracing::error!(
                    list = name,
                    "a stored revocation list cannot be read, so all certificates of outside PKIs are rejected; delete it and upload it again"
                );
                self.0.insert(name.to_owned(), None);
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The sorted names of all lists, including those that cannot be parsed.
    pub(in crate::core) fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// Whether there are no lists, so that nothing has to be looked up.
    pub(in crate::core) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a certificate is on a list of its issuer. A certificate that no list could name counts as listed.
    pub(in crate::core) fn has(&self, certificate: Option<&CertificateName>) -> bool {
        let Some(CertificateName { issuer, serial }) = certificate else { return !self.is_empty() };
        self.0.values().any(|list| list.as_ref().is_none_or(|list| list.issuer == *issuer && list.names(serial)))
    }

    /// Whether a certificate that a role names is on a list.
    fn has_any_of(&self, role: &Role) -> bool {
        matches!(role.kind, Kind::Authorities(_))
            && role.certificates().any(|der| self.has(CertificateName::of(der).as_ref()))
    }

    /// Whether an authority of some role is on a list.
    pub(in crate::core) fn has_authority(&self, roles: &Roles) -> bool {
        !self.is_empty() && roles.iter().any(|role| self.has_any_of(role))
    }

    /// Returns the facts of a peer without those certificates of its chain that are on a list. Anything that cannot be
    /// proved without them is not proved.
    pub(in crate::core) fn purge(&self, facts: &OutsideFacts) -> OutsideFacts {
        let mut facts = facts.clone();
        facts.chain.retain(|der| !self.has(CertificateName::of(der).as_ref()));
        facts
    }
}
