//! Compiled policies, kept from one snapshot to the next.
//!
//! All snapshots share one cache. An entry knows what it was compiled from, and a snapshot uses it only if it has those
//! very objects. So a change of one policy, group or identity recompiles only what depends on it. A request that still
//! uses an earlier snapshot can neither use nor leave behind stale entries.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::identity::{self, GroupRecord, IdentityRecord};
use crate::core::state::subject::Subject;
use crate::policy::{Acl, Policy};

/// Largest number of compiled sets of policies.
const MAX_SETS: usize = 4_096;

/// A policy as stored; `None` when this program cannot parse its text.
pub(super) type Parsed = Option<Arc<Policy>>;

/// The policies, and the groups that grant them to identities.
#[derive(Clone)]
pub(super) struct Grants {
    policies: Arc<BTreeMap<String, Parsed>>,
    groups: Arc<BTreeMap<String, GroupRecord>>,
    /// Changes with each change.
    version: u64,
}

impl Grants {
    pub(super) fn new(policies: BTreeMap<String, Parsed>, groups: BTreeMap<String, GroupRecord>) -> Self {
        Self { policies: Arc::new(policies), groups: Arc::new(groups), version: 1 }
    }

    /// All groups by name.
    pub(super) fn groups(&self) -> &BTreeMap<String, GroupRecord> {
        &self.groups
    }

    /// Replaces one policy, or removes it.
    pub(super) fn set_policy(&mut self, name: &str, policy: Option<Parsed>) {
        let policies = Arc::make_mut(&mut self.policies);
        match policy {
            Some(policy) => policies.insert(name.to_owned(), policy),
            None => policies.remove(name),
        };
        self.version += 1;
    }

    /// Replaces all groups.
    pub(super) fn set_groups(&mut self, groups: BTreeMap<String, GroupRecord>) {
        self.groups = Arc::new(groups);
        self.version += 1;
    }
}

/// The compiled policies for a set of names.
struct Set {
    subject: Arc<Subject>,
    /// The policy of each name, in the order of the subject's policies.
    sources: Vec<Option<Parsed>>,
    /// The last version of the grants with which it was compared and found to be current.
    version: AtomicU64,
}

impl Set {
    fn compile(grants: &Grants, names: &BTreeSet<String>) -> Self {
        let sources: Vec<Option<Parsed>> = names.iter().map(|name| grants.policies.get(name).cloned()).collect();
        let known: Vec<&Parsed> = sources.iter().flatten().collect();
        // A text that cannot be parsed may contain a deny. Omitting it would grant more, so its holders get nothing.
        let acl = if known.iter().any(|policy| policy.is_none()) {
            Acl::merge([])
        } else {
            Acl::merge(known.into_iter().flatten().map(Arc::as_ref))
        };
        let subject = Arc::new(Subject::new(names.iter().cloned().collect(), acl));
        Self { subject, sources, version: AtomicU64::new(grants.version) }
    }

    fn is_true_to(&self, grants: &Grants) -> bool {
        if self.version.load(Ordering::Relaxed) == grants.version {
            return true;
        }
        let mut named = self.subject.policies.iter().zip(&self.sources);
        let same = named.all(|(name, source)| same(source.as_ref(), grants.policies.get(name)));
        if same {
            self.version.store(grants.version, Ordering::Relaxed);
        }
        same
    }
}

fn same(a: Option<&Parsed>, b: Option<&Parsed>) -> bool {
    match (a, b) {
        (None, None) | (Some(None), Some(None)) => true,
        (Some(Some(a)), Some(Some(b))) => Arc::ptr_eq(a, b),
        _ => false,
    }
}

/// The compiled policies of one identity.
struct OfIdentity {
    record: Arc<IdentityRecord>,
    set: Arc<Set>,
    /// Same as in [`Set`].
    version: AtomicU64,
}

impl OfIdentity {
    fn is_true_to(&self, grants: &Grants, path: &str, record: &Arc<IdentityRecord>) -> bool {
        if !Arc::ptr_eq(&self.record, record) {
            return false;
        }
        if self.version.load(Ordering::Relaxed) == grants.version {
            return true;
        }
        let same = self.set.is_true_to(grants)
            && identity::names_of(record, &grants.groups, path).iter().eq(self.set.subject.policies.iter());
        if same {
            self.version.store(grants.version, Ordering::Relaxed);
        }
        same
    }
}

/// The cache; see the head of this file.
#[derive(Default)]
pub(super) struct Compiled {
    by_identity: RwLock<HashMap<String, OfIdentity>>,
    sets: RwLock<HashMap<BTreeSet<String>, Arc<Set>>>,
}

impl Compiled {
    /// Returns the policies of a registered identity.
    pub(super) fn of_identity(&self, grants: &Grants, path: &str, record: &Arc<IdentityRecord>) -> Arc<Subject> {
        if let Some(known) = self.by_identity.read().get(path).filter(|known| known.is_true_to(grants, path, record)) {
            return Arc::clone(&known.set.subject);
        }
        let set = self.set(grants, identity::names_of(record, &grants.groups, path));
        let subject = Arc::clone(&set.subject);
        let known = OfIdentity { record: Arc::clone(record), set, version: AtomicU64::new(grants.version) };
        self.by_identity.write().insert(path.to_owned(), known);
        subject
    }

    /// Returns the policies with these names.
    pub(super) fn of_names(&self, grants: &Grants, names: BTreeSet<String>) -> Arc<Subject> {
        Arc::clone(&self.set(grants, names).subject)
    }

    /// Forgets an identity that was removed or replaced.
    pub(super) fn forget(&self, path: &str) {
        self.by_identity.write().remove(path);
    }

    fn set(&self, grants: &Grants, names: BTreeSet<String>) -> Arc<Set> {
        if let Some(set) = self.sets.read().get(&names).filter(|set| set.is_true_to(grants)) {
            return Arc::clone(set);
        }
        let set = Arc::new(Set::compile(grants, &names));
        let mut sets = self.sets.write();
        if sets.len() >= MAX_SETS {
            sets.clear();
        }
        sets.insert(names, Arc::clone(&set));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Parsed {
        Some(Arc::new(Policy::parse(text).expect("a policy")))
    }

    fn reader(path: &str) -> Parsed {
        parsed(&format!("path \"{path}\" {{ capabilities = [\"read\"] }}"))
    }

    fn record(policies: &[&str]) -> Arc<IdentityRecord> {
        let policies = policies.iter().map(|name| (*name).to_owned()).collect();
        Arc::new(IdentityRecord { policies, ..IdentityRecord::default() })
    }

    #[test]
    fn a_change_makes_anew_only_what_it_concerns() {
        let policies = [("a", reader("secret/a")), ("b", reader("secret/b"))];
        let policies = policies.into_iter().map(|(name, policy)| (name.to_owned(), policy)).collect();
        let (compiled, first) = (Compiled::default(), Grants::new(policies, BTreeMap::new()));
        let (a, b) = (record(&["a"]), record(&["b"]));
        let of = |grants: &Grants, path: &str, record: &_| compiled.of_identity(grants, path, record);
        let (was_a, was_b) = (of(&first, "app/a", &a), of(&first, "app/b", &b));
        assert!(Arc::ptr_eq(&was_a, &of(&first, "app/a", &a)));
        assert!(Arc::ptr_eq(&was_a, &of(&first, "app/other", &record(&["a"]))), "one set, compiled once");

        let mut second = first.clone();
        second.set_policy("a", Some(reader("secret/changed")));
        assert!(!Arc::ptr_eq(&was_a, &of(&second, "app/a", &a)), "a policy that it names has changed");
        assert!(Arc::ptr_eq(&was_b, &of(&second, "app/b", &b)), "none that it names has");

        let mut third = second.clone();
        let group = GroupRecord { policies: vec!["a".to_owned()], members: vec!["app/b".to_owned()] };
        third.set_groups(BTreeMap::from([("g".to_owned(), group)]));
        let kept = of(&second, "app/a", &a);
        assert!(Arc::ptr_eq(&kept, &of(&third, "app/a", &a)), "it is not in the group");
        assert_eq!(*of(&third, "app/b", &b).policies, ["a", "b", "default"].map(str::to_owned));

        // Somebody still works on an earlier state, between two of the newest.
        assert_eq!(*of(&first, "app/b", &b).policies, ["b", "default"].map(str::to_owned));
        assert_eq!(*of(&third, "app/b", &b).policies, ["a", "b", "default"].map(str::to_owned));

        let changed = record(&["b"]);
        assert!(Arc::ptr_eq(&was_b, &of(&second, "app/b", &changed)), "another record with the same policies");
        third.set_policy("a", None);
        assert!(!Arc::ptr_eq(&kept, &of(&third, "app/a", &a)), "a policy that it names is gone");
    }
}
