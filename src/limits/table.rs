//! All quotas of a vault, compiled: for each identity the rules that can apply, most specific first.

use std::cmp::Reverse;
use std::sync::Arc;

use parking_lot::Mutex;

use super::bucket::Bucket;
use super::quota::{Defaults, Identities, Paths, Per, Quota};
use super::{Class, Rate};

/// One limit in force.
pub struct Rule {
    /// The quota that it comes from. For a default limit the quota is named `default`.
    pub quota: Quota,
    /// The shared bucket of a rule with [`Per::All`].
    pub(super) shared: Mutex<Bucket>,
    fallback: bool,
}

impl Rule {
    fn new(quota: Quota, fallback: bool) -> Self {
        // The bucket starts full, so the time does not matter.
        let shared = Mutex::new(Bucket::full(&quota.rate, 0));
        Self { quota, shared, fallback }
    }

    /// The limit.
    #[must_use]
    pub fn rate(&self) -> &Rate {
        &self.quota.rate
    }
}

/// Rules that can apply to one identity, by class in the order of [`Class::BASIC`], most specific first.
#[derive(Default)]
pub(super) struct Applicable {
    per_identity: [Vec<Arc<Rule>>; 4],
    shared: [Vec<Arc<Rule>>; 4],
}

impl Applicable {
    /// Returns the rule with a bucket per identity and the rule with a shared bucket for a path.
    pub(super) fn rules(&self, class: Class, path: &str) -> [Option<&Arc<Rule>>; 2] {
        [&self.per_identity, &self.shared].map(|by_class| {
            let list = by_class.get(class.index())?;
            list.iter().find(|rule| rule.quota.paths.matches(path))
        })
    }

    /// Whether this plan contains `rule`.
    pub(super) fn holds(&self, rule: &Arc<Rule>) -> bool {
        self.per_identity.iter().flatten().any(|held| Arc::ptr_eq(held, rule))
    }
}

/// All rules.
#[derive(Default)]
pub struct Table {
    /// Distinguishes this table from others. 0 only before the first table.
    pub(super) version: u64,
    /// The rules, most specific first.
    rules: Vec<Arc<Rule>>,
    /// The plan of identities that no quota names, alone or through a folder.
    common: Arc<Applicable>,
}

impl Table {
    /// Compiles quotas and default limits. A rule that is unchanged since `previous` keeps its buckets.
    #[must_use]
    pub fn compile(quotas: Vec<Quota>, defaults: &Defaults, previous: &Self) -> Self {
        let fallback = Class::BASIC.into_iter().filter_map(|class| {
            let quota = Quota {
                name: "default".to_owned(),
                identities: Identities::Any,
                paths: Paths::Any,
                class,
                per: Per::Identity,
                rate: defaults.rate(class)?,
            };
            Some((quota, true))
        });
        let all = quotas.into_iter().map(|quota| (quota, false)).chain(fallback);
        let mut rules: Vec<Arc<Rule>> = all
            .map(|(quota, fallback)| {
                let same = previous.rules.iter().find(|rule| rule.quota == quota && rule.fallback == fallback);
                same.map_or_else(|| Arc::new(Rule::new(quota, fallback)), Arc::clone)
            })
            .collect();
        // The name comes last, so that the result does not depend on the order of the records.
        rules.sort_by_cached_key(|rule| (Reverse((!rule.fallback, rule.quota.weight())), rule.quota.name.clone()));
        let mut table = Self { version: previous.version + 1, rules, common: Arc::default() };
        table.common = Arc::new(table.filtered(|identities| *identities == Identities::Any));
        table
    }

    /// Returns the rules that can apply to this identity. `None` stands for a caller who is not admitted.
    pub(super) fn plan(&self, identity: Option<&str>) -> Arc<Applicable> {
        let special = |rule: &Arc<Rule>| {
            let identities = &rule.quota.identities;
            *identities != Identities::Any && identities.matches(identity)
        };
        if self.rules.iter().any(special) {
            Arc::new(self.filtered(|identities| identities.matches(identity)))
        } else {
            Arc::clone(&self.common)
        }
    }

    fn filtered(&self, wanted: impl Fn(&Identities) -> bool) -> Applicable {
        let mut plan = Applicable::default();
        for rule in self.rules.iter().filter(|rule| wanted(&rule.quota.identities)) {
            let by_class = match rule.quota.per {
                Per::Identity => &mut plan.per_identity,
                Per::All => &mut plan.shared,
            };
            for (list, class) in by_class.iter_mut().zip(Class::BASIC) {
                // A rule for every path hides all rules after it.
                let reached = list.last().is_none_or(|last| last.quota.paths != Paths::Any);
                if reached && rule.quota.class.covers(class) {
                    list.push(Arc::clone(rule));
                }
            }
        }
        plan
    }
}
