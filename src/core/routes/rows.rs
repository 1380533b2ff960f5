//! Builders for the rows of a table: `read("sys/mounts", mounts::table).sudo()`.

use crate::api::reply::Reply;
use crate::api::request::Operation::{self, Delete, List, Read, Write};
use crate::barrier::{MountId, Tx};
use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::live::poll::Poll;
use crate::core::pipeline::route::Guard::{AboutSelf, Login, Open, Policy};
use crate::core::pipeline::route::{Change, Concern, Effect, Inquiry, Named, Route, Run};
use crate::core::rotation::Order;

/// A `GET` on the published state.
pub(super) const fn read(pattern: &'static str, run: fn(&Inquiry<'_>) -> Result<Reply, VaultError>) -> Route {
    Route::new(Read, pattern, Run::Read(run, Effect::None))
}

/// A `LIST` on the published state.
pub(super) const fn list(pattern: &'static str, run: fn(&Inquiry<'_>) -> Result<Reply, VaultError>) -> Route {
    Route::new(List, pattern, Run::Read(run, Effect::None))
}

/// A `POST` in the committer.
pub(super) const fn write(
    pattern: &'static str,
    run: fn(&mut Tx<'_>, &Change<'_>) -> Result<Done, VaultError>,
) -> Route {
    Route::new(Write, pattern, Run::Write(run))
}

/// A `GET` that waits until something changes.
pub(super) const fn poll(pattern: &'static str, run: fn(&Inquiry<'_>) -> Result<Poll, VaultError>) -> Route {
    Route::new(Read, pattern, Run::Poll(run))
}

/// A `POST` that the keeper or the rotator executes; it needs `sudo`.
pub(super) const fn order(pattern: &'static str, run: fn(&Inquiry<'_>) -> Result<Order, VaultError>) -> Route {
    Route::new(Write, pattern, Run::Order(run)).sudo()
}

/// A `DELETE` in the committer.
pub(super) const fn delete(
    pattern: &'static str,
    run: fn(&mut Tx<'_>, &Change<'_>) -> Result<Done, VaultError>,
) -> Route {
    Route::new(Delete, pattern, Run::Write(run))
}

/// A `POST` that changes no record.
pub(super) const fn write_as_read(
    pattern: &'static str,
    run: fn(&Inquiry<'_>) -> Result<Reply, VaultError>,
    effect: Effect,
) -> Route {
    Route::new(Write, pattern, Run::Read(run, effect))
}

impl Route {
    /// A row that policies decide, without special properties.
    const fn new(operation: Operation, pattern: &'static str, run: Run) -> Self {
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

    /// Every peer with a certificate may use it.
    pub(super) const fn open(mut self) -> Self {
        self.guard = Open;
        self
    }

    /// Every registered and admitted identity may use it, about itself.
    pub(super) const fn about_self(mut self) -> Self {
        self.guard = AboutSelf;
        self
    }

    /// As [`Route::about_self`], by the certificate alone.
    pub(super) const fn login(mut self) -> Self {
        self.guard = Login;
        self
    }

    /// Keeps the fields of its body out of the audit log.
    pub(super) const fn secret(mut self) -> Self {
        self.secret_body = true;
        self
    }

    /// Its work grows with the records of these mounts.
    pub(super) const fn over(mut self, mounts: &'static [MountId]) -> Self {
        self.grows_with = mounts;
        self
    }

    /// It needs `sudo`.
    pub(super) const fn sudo(mut self) -> Self {
        self.sudo = true;
        self
    }

    /// Why several operators may have to approve it.
    pub(super) const fn concerns(mut self, concern: Concern) -> Self {
        self.concern = concern;
        self
    }

    /// Its last segment is a name that is stored in lower case.
    pub(super) const fn lower(mut self) -> Self {
        self.lower = true;
        self
    }
}
