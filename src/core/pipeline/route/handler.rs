//! What a route runs, and what its handler is given.

use std::sync::Arc;

use crate::api::path::Path;
use crate::api::reply::Reply;
use crate::api::request::Body;
use crate::barrier::{MountId, Tally, Tx, View};
use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::live::poll::Poll;
use crate::core::live::sightings::Sightings;
use crate::core::rotation::Order;
use crate::core::state::snapshot::Snapshot;
use crate::core::state::subject::Subject;
use crate::core::vault::Live;
use crate::core::{Caller, Sessions, Settings};
use crate::crypto::random::Random;

use super::Tables;

/// What a route runs.
pub(in crate::core) enum Run {
    /// A reading handler on the published state, optionally followed by an effect on the vault itself.
    Read(fn(&Inquiry<'_>) -> Result<Reply, VaultError>, Effect),
    /// A changing handler in the committer.
    Write(fn(&mut Tx<'_>, &Change<'_>) -> Result<Done, VaultError>),
    /// An order for the keeper, which derives keys and lets the committer write the header.
    Order(fn(&Inquiry<'_>) -> Result<Order, VaultError>),
    /// A wait until something changes.
    Poll(fn(&Inquiry<'_>) -> Result<Poll, VaultError>),
}

/// What happens after a read was audited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) enum Effect {
    None,
    Seal,
}

/// The arguments of a reading handler.
pub(in crate::core) struct Inquiry<'a> {
    /// The part of the path that matches the wildcards of the pattern.
    pub tail: String,
    pub body: &'a Body,
    pub caller: &'a Caller,
    pub subject: &'a Subject,
    pub snapshot: &'a Snapshot,
    pub sessions: &'a Sessions,
    pub settings: &'a Settings,
    pub live: &'a Live,
    /// Counts what is read.
    pub tally: &'a Tally,
    /// All routes, for questions about paths.
    pub tables: &'static Tables,
    pub now_ms: u64,
}

impl<'a> Inquiry<'a> {
    /// The published records of a mount. Records opened for a list are counted.
    pub(in crate::core) fn view(&self, mount: MountId) -> View<'a> {
        self.live.barrier.view(mount).counted(self.tally)
    }

    /// Counts items in memory that are about to be read, and stops when the caller is gone.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] when the caller is gone.
    pub(in crate::core) fn looks_at(&self, things: usize) -> Result<(), VaultError> {
        Ok(self.tally.look_at(u64::try_from(things).unwrap_or(u64::MAX))?)
    }

    /// As [`Inquiry::looks_at`], for one pass over every certificate on record: ten of those in memory cost about as
    /// much as opening one record.
    ///
    /// # Errors
    /// As [`Inquiry::looks_at`].
    pub(in crate::core) fn looks_at_certificates(&self) -> Result<(), VaultError> {
        self.looks_at(self.snapshot.ledger.len() / 10)
    }
}

/// The arguments of a changing handler.
pub(in crate::core) struct Change<'a> {
    pub tail: String,
    pub body: &'a Body,
    /// The full path.
    pub path: &'a Path,
    pub caller: &'a Caller,
    pub subject: &'a Subject,
    pub settings: &'a Settings,
    pub snapshot: &'a Snapshot,
    pub sightings: &'a Sightings,
    pub random: &'a Arc<dyn Random>,
    pub now_ms: u64,
}
