//! Who has power over the vault, and what power: the state that no single operator may change.
//!
//! The guard does not check which route is called, but what the call would change: it compares the records before and
//! after. This covers a policy that an administrator has, a group that makes one, and `default`, as well as routes that
//! are added later.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::auth::cert::RoleRecord;
use crate::barrier::{MountId, Point, Tx};
use crate::crypto::hash::sha256;
use crate::policy::{Acl, Policy};

use crate::core::error::VaultError;
use crate::core::state::guarded::ApprovalRules;
use crate::core::state::identity::{self, IDENTITIES, IdentityRecord, OUTSIDE, POLICIES, is_administrator, names_of};
use crate::core::state::outside_crls;

/// The state and rights of one identity.
#[derive(Clone, PartialEq, Eq)]
struct Standing {
    /// Hash over all of it.
    exact: [u8; 32],
    /// Hash over the parts that do not depend on the time of the change.
    lasting: [u8; 32],
}

/// All administrators and everybody who could approve, by path. Includes disabled ones, because enabling them gives them
/// power. A role of `auth/cert` that makes administrators is listed as `cert/<role>`.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Power(BTreeMap<String, Standing>);

/// Whose power to compare.
pub(super) enum Reach {
    /// Everybody's, because a policy, a group or a role was changed.
    Everybody,
    /// The power of these identities, by path, and of all roles.
    Only(BTreeSet<String>),
}

impl Reach {
    /// Those whose power the changes of `tx` since `point` may have altered, and `named`.
    ///
    /// # Errors
    /// The errors of the barrier when a record cannot be read.
    pub(super) fn since(tx: &mut Tx<'_>, point: &Point, named: Option<&String>) -> Result<Self, VaultError> {
        if [MountId::GROUPS, POLICIES, MountId::CERT_ROLES].iter().any(|mount| tx.has_changed(*mount, point)) {
            return Ok(Self::Everybody);
        }
        let mut paths = tx.entries_changed(IDENTITIES, point)?;
        paths.extend(named.cloned());
        Ok(Self::Only(paths))
    }
}

/// The combined policies of a set of names.
struct Granted {
    /// `None` when one of the texts cannot be parsed. Its holders have no rights.
    acl: Option<Acl>,
    digest: [u8; 32],
}

impl Power {
    /// Computes it from the records that `tx` sees, for those in `reach`.
    ///
    /// # Errors
    /// [`VaultError::Integrity`] for a record that cannot be parsed.
    pub(super) fn of(
        tx: &Tx<'_>,
        rules: &ApprovalRules,
        trust_domain: &str,
        reach: &Reach,
    ) -> Result<Self, VaultError> {
        let groups = identity::groups(&tx.view(MountId::GROUPS))?;
        let mut known: HashMap<BTreeSet<String>, Granted> = HashMap::new();
        let mut power = BTreeMap::new();
        let view = tx.view(IDENTITIES);
        let paths = match reach {
            Reach::Everybody => view.entries()?,
            Reach::Only(paths) => paths.iter().cloned().collect(),
        };
        for path in paths {
            // Missing: it is being created or removed, or nobody has this name.
            let Some(record) = identity::read(&view, &path)? else { continue };
            let names = names_of(&record, &groups, &path);
            if !known.contains_key(&names) {
                known.insert(names.clone(), granted(tx, &names)?);
            }
            let granted = known.get(&names).ok_or(VaultError::Internal)?;
            let administers = granted.acl.as_ref().is_some_and(|acl| is_administrator(|ask| acl.decide(ask), &path));
            if administers || rules.names_path(trust_domain, &path) {
                power.insert(path, standing(&record, &names, &granted.digest)?);
            }
        }
        let view = tx.view(MountId::CERT_ROLES);
        for name in view.entries()?.into_iter().filter(|key| outside_crls::is_role(key)) {
            let entry = view.entry(&name)?.ok_or(VaultError::Integrity)?;
            // A role that cannot be parsed admits nobody.
            let Ok(record) = RoleRecord::decode(entry.value.reveal()) else { continue };
            let names: BTreeSet<String> = record.token.effective_policies().into_iter().collect();
            if !known.contains_key(&names) {
                known.insert(names.clone(), granted(tx, &names)?);
            }
            let granted = known.get(&names).ok_or(VaultError::Internal)?;
            let path = format!("{OUTSIDE}{name}");
            if granted.acl.as_ref().is_some_and(|acl| is_administrator(|ask| acl.decide(ask), &path)) {
                let all = sha256(&[entry.value.reveal(), &granted.digest]);
                power.insert(path, Standing { exact: all, lasting: all });
            }
        }
        Ok(Self(power))
    }

    /// Whether the identity with this path has power. For [`OUTSIDE`] itself: whether any certificate of an outside PKI
    /// has.
    pub(super) fn holds(&self, path: &str) -> bool {
        self.0.contains_key(path) || (path == OUTSIDE && self.0.keys().any(|held| held.starts_with(OUTSIDE)))
    }

    /// Paths whose power differs in `after`, and a hash over their new power.
    pub(super) fn changes(&self, after: &Self) -> (Vec<String>, [u8; 32]) {
        let paths: BTreeSet<&String> = self.0.keys().chain(after.0.keys()).collect();
        let mut changed = Vec::new();
        let mut sum = [0; 32];
        for path in paths {
            let (old, new) = (self.0.get(path), after.0.get(path));
            if old == new {
                continue;
            }
            let (mark, digest) = new.map_or((b"-", [0; 32]), |new| (b"+", new.lasting));
            sum = sha256(&[&sum, mark, &length(path.as_bytes()), path.as_bytes(), &digest]);
            changed.push(path.clone());
        }
        (changed, sum)
    }
}

fn granted(tx: &Tx<'_>, names: &BTreeSet<String>) -> Result<Granted, VaultError> {
    let view = tx.view(POLICIES);
    let (mut parsed, mut readable, mut digest) = (Vec::new(), true, [0; 32]);
    for name in names {
        let Some(entry) = view.entry(name)? else { continue };
        let bytes = entry.value.reveal();
        digest = sha256(&[&digest, &length(name.as_bytes()), name.as_bytes(), &length(bytes), bytes]);
        match std::str::from_utf8(bytes).ok().and_then(|text| Policy::parse(text).ok()) {
            Some(policy) => parsed.push(policy),
            None => readable = false,
        }
    }
    Ok(Granted { acl: readable.then(|| Acl::merge(parsed.iter())), digest })
}

fn standing(record: &IdentityRecord, names: &BTreeSet<String>, granted: &[u8; 32]) -> Result<Standing, VaultError> {
    let all = serde_json::to_vec(&(record, names)).map_err(|_| VaultError::Internal)?;
    let shape = (record.disabled.is_some(), record.certificate_life_s, record.grace_s, names);
    let lasting = serde_json::to_vec(&shape).map_err(|_| VaultError::Internal)?;
    Ok(Standing { exact: sha256(&[&all, granted]), lasting: sha256(&[&lasting, granted]) })
}

fn length(bytes: &[u8]) -> [u8; 8] {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes()
}
