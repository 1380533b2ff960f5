//! Vault's ACL language, and the decision as a pure function.
//!
//! A [`Policy`] is a parsed document, and an [`Acl`] is the union of a caller's policies in a form that decides fast.
//! [`Acl::decide`] needs no clock and no storage. The semantics are exactly Vault's, because an existing
//! policy must never grant more here than it did there: only the most specific pattern counts, deny wins only within a
//! pattern, and no match means denied.

mod acl;
mod capability;
mod decision;
mod document;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod hcl;
mod index;
mod parameters;
mod parse;
mod rules;
#[cfg(test)]
mod tests;

pub use acl::Acl;
pub use capability::Capability;
#[cfg(any(test, feature = "testing"))]
pub use decision::DenyReason;
pub use decision::{Ask, Decision};
pub use rules::Policy;
