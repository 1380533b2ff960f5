//! Vault's ACL language and the one pure decision.
//!
//! A [`Policy`] is a parsed document, an [`Acl`] the union of a caller's policies in the form that decides fast, and
//! [`Acl::decide`] the decision: no clock, no storage, no allocation. Semantics are Vault's to the letter, because a
//! policy that operators bring along must never grant more here than it did there: the most specific pattern alone
//! counts, deny wins within a pattern only, nothing matching is a denial.

mod acl;
mod capability;
mod decision;
mod document;
mod hcl;
mod index;
mod parameters;
mod parse;
mod rules;

pub use acl::Acl;
pub use capability::Capability;
pub use decision::{Ask, Decision, DenyReason};
pub use document::PolicyError;
pub use rules::{Policy, RuleId};
