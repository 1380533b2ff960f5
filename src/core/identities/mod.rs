//! What operators do with identities: registering them, showing them, ending what they have, and giving them tokens.
//!
//! The records belong to `state`. All changes run inside a commit. A change of rights is complete only after
//! `require_administrator`, which its caller runs last.

pub(super) mod groups;
pub(super) mod login;
pub(super) mod register;
pub(super) mod revocation;
pub(super) mod tokens;
pub(super) mod view;
