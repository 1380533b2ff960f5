//! What is known while the vault is open, by record family. Each file owns one kind of record and its form in memory.
//! [`snapshot`] combines all of them at one generation.

pub(super) mod administrators;
pub(super) mod authorities;
pub(super) mod bad_records;
pub(super) mod barred;
mod compiled;
pub(super) mod enrolment;
pub(super) mod guarded;
pub(super) mod identity;
pub(super) mod ledger;
pub(super) mod limits;
pub(super) mod listener_roots;
pub(super) mod mount;
pub(super) mod outside_crls;
pub(super) mod roles;
mod sharded;
pub(super) mod snapshot;
pub(super) mod strings;
pub(super) mod subject;
pub(super) mod tokens;
