//! The only module that uses both the record format and the store: it reads, writes and opens an authenticated tree.
//!
//! The store is not trusted. An index in memory, checked at the start against a sealed sum over all records, tells what
//! exists. Every record that is read must be the one that the index names. Writes come in groups: one engine
//! transaction with one state record, then the anchor, then the new state is shown to readers (`docs/format.md`,
//! "Commit order").

mod anchor;
mod error;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod group;
mod index;
mod lifecycle;
mod names;
mod node;
mod open;
mod overlay;
mod published;
mod read;
mod recovery;
mod state;
mod status;
mod tally;
mod terms;
#[cfg(test)]
mod tests;
mod tx;
mod view;

pub use error::BarrierError;
pub use group::{Durable, Group};
pub use lifecycle::Report;
pub use names::MountId;
pub use node::{Node, SecretMeta, VersionMeta};
pub use open::{Barrier, Parts};
pub use recovery::findings::{Bad, Part};
pub use recovery::loss::{Loss, Misfit};
pub use recovery::salvage::{Damage, Keeps, Rules};
pub use recovery::sweep::Sweep;
pub use status::{AuditHead, TermStatus};
#[cfg(any(test, feature = "testing"))]
pub use status::{Health, KeyStatus};
pub use tally::Tally;
pub use terms::drained::{Census, Drained};
pub use terms::rewrap::{Depth, Resealed, Stale, Walk};
pub use terms::ring::HeaderChange;
#[cfg(test)]
pub use terms::ring::KeyringEdit;
pub use tx::{Point, Tx};
#[cfg(test)]
pub use view::Child;
pub use view::{EntryValue, View};
