//! The life of a certificate: issued, enrolled, renewed, rescued, ended.

pub(super) mod endings;
pub(super) mod enroll;
pub(super) mod issue;
pub(super) mod own;
pub(super) mod renewal;
pub(super) mod rescue;
pub(super) mod revocations;
pub(super) mod succession;
