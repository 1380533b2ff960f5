//! Who may do what: policies, identities, authorities and approvals.

pub mod approvals;
pub mod ca;
pub mod can_i;
pub mod compromise;
pub mod enrollments;
pub mod identity;
pub mod policy;
