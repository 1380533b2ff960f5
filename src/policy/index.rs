//! Finds the one pattern that applies.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use super::rules::{Kind, Pattern};

/// Patterns by type of lookup, each with the number of its rule.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    exact: HashMap<Arc<str>, usize>,
    prefixes: Vec<Prefix>,
    /// In order of falling priority, so the first match is the best.
    wildcards: Vec<Wildcard>,
}

/// Patterns that only have `*` at the end, sorted by `start`.
#[derive(Clone, Debug)]
struct Prefix {
    start: Box<str>,
    /// The longest other prefix pattern that is a prefix of `start`.
    parent: Option<usize>,
    rule: usize,
}

#[derive(Clone, Debug)]
struct Wildcard {
    /// Without a final `*`.
    body: Box<str>,
    rank: Rank,
    rule: usize,
}

/// How specific a pattern is. Its parts are compared in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rank {
    /// Bytes before the first `+` or `*`; more take precedence.
    fixed: usize,
    /// Whether it ends in `*`; such a pattern yields.
    open: bool,
    /// Number of segments that are `+`; fewer take precedence.
    wild: usize,
    /// Length in bytes; longer takes precedence.
    length: usize,
}

impl Rank {
    fn cmp(&self, other: &Self) -> Ordering {
        self.fixed
            .cmp(&other.fixed)
            .then(other.open.cmp(&self.open))
            .then(other.wild.cmp(&self.wild))
            .then(self.length.cmp(&other.length))
    }
}

impl Index {
    pub(super) fn new<'a>(patterns: impl Iterator<Item = &'a Pattern>) -> Self {
        let mut index = Self::default();
        for (rule, pattern) in patterns.enumerate() {
            let text = &pattern.text;
            let body = text.strip_suffix('*');
            match pattern.kind {
                Kind::Exact => {
                    index.exact.insert(Arc::clone(text), rule);
                }
                Kind::Prefix => {
                    index.prefixes.push(Prefix { start: body.unwrap_or(text).into(), parent: None, rule });
                }
                Kind::Segments => {
                    let (open, body) = (body.is_some(), body.unwrap_or(text));
                    let wild = body.split('/').filter(|segment| *segment == "+").count();
                    let fixed = body.find('+').unwrap_or(body.len());
                    let rank = Rank { fixed, open, wild, length: body.len() };
                    index.wildcards.push(Wildcard { body: body.into(), rank, rule });
                }
            }
        }
        index.wildcards.sort_by(|a, b| b.rank.cmp(&a.rank).then_with(|| b.body.cmp(&a.body)));
        index.prefixes.sort_by(|a, b| a.start.cmp(&b.start));
        index.link();
        index
    }

    /// Sets the parents. In sorted order, a pattern's parent is the last one before it that is a prefix of it, and
    /// every candidate is in the chain of parents of its predecessor.
    fn link(&mut self) {
        for at in 1..self.prefixes.len() {
            let (before, rest) = self.prefixes.split_at_mut(at);
            let Some(own) = rest.first_mut() else { return };
            own.parent = climb(before, Some(at - 1), &own.start);
        }
    }

    pub(super) fn exact(&self, path: &str) -> Option<usize> {
        self.exact.get(path).copied()
    }

    /// The best pattern that is not exact.
    pub(super) fn other(&self, path: &str) -> Option<usize> {
        let prefix = self.longest(path);
        let wildcard = self.wildcards.iter().find(|wildcard| wildcard.matches(path));
        match (prefix, wildcard) {
            (Some(prefix), Some(wildcard)) => {
                let length = prefix.start.len();
                let rank = Rank { fixed: length, open: true, wild: 0, length };
                Some(if rank.cmp(&wildcard.rank).is_ge() { prefix.rule } else { wildcard.rule })
            }
            (Some(prefix), None) => Some(prefix.rule),
            (None, wildcard) => wildcard.map(|wildcard| wildcard.rule),
        }
    }

    /// The longest prefix pattern that matches `path`.
    fn longest(&self, path: &str) -> Option<&Prefix> {
        // Every prefix of `path` sorts at or before it, and only extensions follow the longest one.
        let upto = self.prefixes.partition_point(|prefix| *prefix.start <= *path);
        climb(&self.prefixes, upto.checked_sub(1), path).and_then(|at| self.prefixes.get(at))
    }

    /// Rules that can be the best match for something below `folder`.
    pub(super) fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = usize> + 'a {
        let exact = self.exact.iter().filter(move |(path, _)| path.starts_with(folder)).map(|(_, rule)| *rule);
        let prefixes = self.prefixes.iter().filter(move |p| p.start.starts_with(folder)).map(|p| p.rule);
        let above = self.longest(folder).map(|prefix| prefix.rule);
        exact
            .chain(above)
            .chain(prefixes)
            .chain(self.wildcards.iter().filter(move |w| w.reaches(folder)).map(|w| w.rule))
    }
}

/// The first of `at`, its parent, and so on, that is a prefix of `text`.
fn climb(prefixes: &[Prefix], mut at: Option<usize>, text: &str) -> Option<usize> {
    while let Some(prefix) = at.and_then(|at| prefixes.get(at)) {
        if text.starts_with(&*prefix.start) {
            return at;
        }
        at = prefix.parent;
    }
    None
}

impl Wildcard {
    fn matches(&self, path: &str) -> bool {
        let mut own = self.body.split('/').peekable();
        let mut names = path.split('/');
        while let Some(segment) = own.next() {
            let Some(name) = names.next() else { return false };
            let last = own.peek().is_none();
            let fits = segment == "+" || segment == name || (last && self.rank.open && name.starts_with(segment));
            if !fits {
                return false;
            }
        }
        self.rank.open || names.next().is_none()
    }

    /// Whether it may match something below `folder`.
    fn reaches(&self, folder: &str) -> bool {
        let names = folder.strip_suffix('/').unwrap_or(folder).split('/').filter(|name| !name.is_empty());
        let mut own = self.body.split('/').peekable();
        for name in names {
            match own.next() {
                None => return self.rank.open,
                Some("+") => {}
                Some(segment) if segment == name => {}
                Some(segment) => return own.peek().is_none() && self.rank.open && name.starts_with(segment),
            }
        }
        self.rank.open || own.peek().is_some()
    }
}
