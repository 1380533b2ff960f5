//! A route: a verb on a path pattern, who may use it, and what it runs. The tables are in `routes`.

use std::sync::Arc;

use crate::api::path::Path;
use crate::api::reply::Reply;
use crate::api::request::{Body, Operation};
use crate::barrier::{MountId, Tally, Tx, View};
use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::live::poll::Poll;
use crate::core::live::sightings::Sightings;
use crate::core::rotation::Order;
use crate::core::state::guarded::Guarded;
use crate::core::state::snapshot::Snapshot;
use crate::core::state::subject::Subject;
use crate::core::vault::Live;
use crate::core::{Caller, Sessions, Settings};
use crate::crypto::random::Random;

use Guard::{Login, Open, Own, Policy};
use Operation::{Delete, List, Read, Write};

/// The tables of the vault's own routes, one for each first path segment.
pub(in crate::core) struct Tables {
    pub sys: &'static [Route],
    pub auth: &'static [Route],
}

impl Tables {
    /// The table of a path; `None` for the path of a mount.
    pub(in crate::core) fn of(&self, path: &Path) -> Option<&'static [Route]> {
        match path.segments().next() {
            Some("sys") => Some(self.sys),
            Some("auth") => Some(self.auth),
            _ => None,
        }
    }
}

/// One row: a verb on a path pattern, who may use it, and what it runs.
pub(in crate::core) struct Route {
    /// The verb.
    pub operation: Operation,
    /// Segments. `+` stands for one segment, and `*` at the end for one or more.
    pub pattern: &'static str,
    /// Who may use it.
    pub guard: Guard,
    /// Whether it needs `sudo` in addition to the capability of the verb.
    pub sudo: bool,
    /// Whether the body contains secrets of the vault itself. Then not even a keyed hash of its fields goes into the
    /// audit log, because a passphrase can be guessed.
    pub secret_body: bool,
    /// Whether its last segment is a name that is stored in lower case, so that it is decided in lower case too.
    pub lower: bool,
    /// All records of these built-in mounts are read, or their forms in memory. If there are many, the request does not
    /// run on the threads that serve connections.
    pub grows_with: &'static [MountId],
    /// Whether several operators may have to approve it.
    pub concern: Concern,
    /// What it runs.
    pub run: Run,
}

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) enum Guard {
    /// Everybody to whom the policies grant the capability of the verb on the full path.
    Policy,
    /// Every peer with a certificate. The handler shows only what the caller's policies reach.
    Open,
    /// Every registered and admitted identity, about itself.
    Own,
    /// As `Own`, but by the certificate alone. A token is ignored.
    Login,
}

impl Guard {
    /// Whether it is enough to be admitted.
    pub(in crate::core) fn is_own(self) -> bool {
        matches!(self, Self::Own | Self::Login)
    }
}

/// Why several operators may have to approve a request on a route. Each row of a table has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) enum Concern {
    /// It changes nobody's power over the vault.
    Nothing,
    /// It always has this class, in every state.
    Class(Guarded),
    /// A change of a slot: it removes a share set when it confirms the new one.
    SlotChange,
    /// A new root key: it removes ways to open the vault, and with a compromised slot all authorities too.
    Rekey,
    /// A step of an authority: it invalidates certificates when it revokes or is forced.
    AuthorityStep,
    /// Only executing it shows whether it changes the power of an administrator or approver.
    Power(Named),
}

/// An identity that a request is also about. Its power counts even though it stays the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) enum Named {
    /// Nobody.
    Nobody,
    /// The identity at the end of the path.
    Tail,
    /// The identity in this field.
    Field(&'static str),
    /// The identities of outside PKIs.
    Outside,
}

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

    /// As [`Inquiry::looks_at`] for one pass over every certificate on record: ten of those in memory cost about what one record
    /// does that is opened.
    ///
    /// # Errors
    /// As there.
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

pub(in crate::core) const fn read(pattern: &'static str, run: fn(&Inquiry<'_>) -> Result<Reply, VaultError>) -> Route {
    Route::new(Read, pattern, Run::Read(run, Effect::None))
}

pub(in crate::core) const fn list(pattern: &'static str, run: fn(&Inquiry<'_>) -> Result<Reply, VaultError>) -> Route {
    Route::new(List, pattern, Run::Read(run, Effect::None))
}

pub(in crate::core) const fn write(
    pattern: &'static str,
    run: fn(&mut Tx<'_>, &Change<'_>) -> Result<Done, VaultError>,
) -> Route {
    Route::new(Write, pattern, Run::Write(run))
}

pub(in crate::core) const fn poll(pattern: &'static str, run: fn(&Inquiry<'_>) -> Result<Poll, VaultError>) -> Route {
    Route::new(Read, pattern, Run::Poll(run))
}

pub(in crate::core) const fn order(pattern: &'static str, run: fn(&Inquiry<'_>) -> Result<Order, VaultError>) -> Route {
    Route::new(Write, pattern, Run::Order(run)).sudo()
}

pub(in crate::core) const fn delete(
    pattern: &'static str,
    run: fn(&mut Tx<'_>, &Change<'_>) -> Result<Done, VaultError>,
) -> Route {
    Route::new(Delete, pattern, Run::Write(run))
}

impl Route {
    /// A row that policies decide, without special properties.
    pub(in crate::core) const fn new(operation: Operation, pattern: &'static str, run: Run) -> Self {
        let concern = Concern::Power(Named::Nobody);
        Self {
            operation,
            pattern,
            guard: Policy,
            sudo: false,
            secret_body: false,
            lower: false,
            grows_with: &[],
            concern,
            run,
        }
    }

    pub(in crate::core) const fn open(mut self) -> Self {
        self.guard = Open;
        self
    }

    pub(in crate::core) const fn own(mut self) -> Self {
        self.guard = Own;
        self
    }

    pub(in crate::core) const fn login(mut self) -> Self {
        self.guard = Login;
        self
    }

    pub(in crate::core) const fn secret(mut self) -> Self {
        self.secret_body = true;
        self
    }

    pub(in crate::core) const fn over(mut self, mounts: &'static [MountId]) -> Self {
        self.grows_with = mounts;
        self
    }

    pub(in crate::core) const fn sudo(mut self) -> Self {
        self.sudo = true;
        self
    }

    pub(in crate::core) const fn concerns(mut self, concern: Concern) -> Self {
        self.concern = concern;
        self
    }

    pub(in crate::core) const fn lower(mut self) -> Self {
        self.lower = true;
        self
    }

    /// Whether the request runs in the committer.
    pub(in crate::core) fn mutates(&self) -> bool {
        matches!(self.run, Run::Write(_) | Run::Order(_))
    }

    /// The segments of `path` from the first wildcard of the pattern on, joined; empty without a wildcard.
    pub(in crate::core) fn tail(&self, path: &Path) -> String {
        let fixed = self.pattern.split('/').take_while(|segment| !matches!(*segment, "+" | "*")).count();
        path.segments().skip(fixed).collect::<Vec<_>>().join("/")
    }

    /// Compares segments. A slash at the end makes no difference, so paths must be in the form of
    /// [`crate::core::canonical`].
    pub(in crate::core) fn matches(&self, path: &Path) -> bool {
        let mut segments = path.segments();
        for want in self.pattern.split('/') {
            match (want, segments.next()) {
                ("*", Some(_)) => return true,
                ("+", Some(_)) => {}
                (want, Some(segment)) if want == segment => {}
                _ => return false,
            }
        }
        segments.next().is_none()
    }
}

/// A `POST` that changes no record.
pub(in crate::core) const fn write_as_read(
    pattern: &'static str,
    run: fn(&Inquiry<'_>) -> Result<Reply, VaultError>,
    effect: Effect,
) -> Route {
    Route::new(Write, pattern, Run::Read(run, effect))
}

/// Finds the row of a table for a request.
///
/// # Errors
/// [`VaultError::Unsupported`] when the path exists with another verb, otherwise [`VaultError::NoRoute`].
pub(in crate::core) fn find_in(
    routes: &'static [Route],
    operation: Operation,
    path: &Path,
) -> Result<&'static Route, VaultError> {
    let mut known = false;
    for route in routes.iter().filter(|route| route.matches(path)) {
        if route.operation == operation {
            return Ok(route);
        }
        known = true;
    }
    Err(if known { VaultError::Unsupported } else { VaultError::NoRoute(path.as_str().to_owned()) })
}
