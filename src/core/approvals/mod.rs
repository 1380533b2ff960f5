//! Dangerous operations that several operators must approve.
//!
//! The first time, a guarded request is not executed. It becomes a record that others can approve, in a commit of its
//! own. Once enough have approved, the requester sends it again, and the commit that makes the change also marks the
//! record as used. For an order to the keeper and for a read, the record is marked one commit earlier: after a kill in
//! between, the approval is used up and nothing was done.
//!
//! A record is bound to the requester, the verb, the path, a keyed hash of the fields, and the resulting changes of
//! power over the vault (`power.rs`). The approvers must still be allowed to approve when the request is executed. So
//! an approval does not count if its giver was disabled or had the certificate revoked in the meantime.
//!
//! Without rules in the configuration none of this applies.

pub(in crate::core) mod guard;
pub(in crate::core) mod opinion;
mod power;
pub(in crate::core) mod record;
pub(in crate::core) mod view;
pub(in crate::core) mod voices;
