//! The vault at its logical depth: everything real but the socket and the disk. The store is the one in memory, the
//! clock stands, and a spy between the vault and its store, anchor and audit device sees the order of events, fails
//! them on demand, and can hold one still.

mod approval_classes;
mod approvals;
mod authorities;
mod bytes;
mod canonical;
mod cascade;
pub(super) mod clock;
mod costs;
mod damage;
mod delivery;
mod generated;
mod groups;
mod history;
mod identities;
mod lifecycle;
mod limits;
mod listener_roots;
mod listings;
mod losses;
mod many;
mod outside_crls;
mod outsiders;
mod pipeline;
mod remarks;
mod renewals;
mod revocations;
mod roles;
mod rotation;
mod routes;
mod sessions;
mod share_sets;
mod spy;
mod strings;
mod succession;
mod support;
mod tokens;
mod values;
mod verify;
