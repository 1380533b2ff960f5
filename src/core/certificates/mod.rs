//! The life cycle of a certificate: issued, enrolled, renewed, rescued, revoked.

pub(super) mod authority_steps;
pub(super) mod automatic;
pub(super) mod cascade;
pub(super) mod enroll;
pub(super) mod issue;
pub(super) mod renewal;
pub(super) mod rescue;
pub(super) mod revocations;
pub(super) mod schedule;
pub(super) mod strings;
pub(super) mod succession;
