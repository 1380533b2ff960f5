//! `sys`: the core's own routes, as one table (those of `auth` stand in `core/routes/auth`). A route that is not in the table does not exist, and a row cannot be
//! written without saying who may use it.

mod approvals;
pub(in crate::core) mod ca;
mod capabilities;
mod certificates;
mod certs;
mod enrollments;
pub(in crate::core) mod health;
mod identities;
mod keys;
mod metrics;
mod mounts;
mod policies;
mod quotas;
pub(in crate::core) mod rotation;
pub(in crate::core) mod values;

use std::sync::Arc;

use serde::Serialize;
use zeroize::Zeroizing;

use crate::api::json::Object;
use crate::api::path::Path;
use crate::barrier::Tx;
use crate::crypto::random::Random;
use crate::engine::{Body, Operation, Reply};

use crate::core::commit::committer::Done;
use crate::core::decide::subject::Subject;
use crate::core::error::VaultError;
use crate::core::live::events::{self, Poll};
use crate::core::live::sightings::Sightings;
use crate::core::rotation::Order;
use crate::core::state::snapshot::Snapshot;
use crate::core::{Caller, Live, Sessions, Settings};

use Guard::{Login, Open, Own, Policy};
use Operation::{Delete, List, Read, Write};

/// One row: a verb on a path pattern, who may use it, what it runs.
pub(in crate::core) struct Route {
    /// The verb.
    pub operation: Operation,
    /// Segments; `+` stands for one segment, `*` at the end for one or more.
    pub pattern: &'static str,
    /// Who may use it.
    pub guard: Guard,
    /// Needs `sudo` besides the capability of the verb.
    pub sudo: bool,
    /// The body holds secrets of the vault itself: not even a keyed hash of its fields goes into the audit log, for a
    /// passphrase can be guessed.
    pub secret_body: bool,
    /// Its last segment is a name that is kept in lower case, so it is decided on in lower case, too.
    pub lower: bool,
    /// What it runs.
    pub run: Run,
}

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) enum Guard {
    /// Whoever the policies allow: the capability of the verb on the full path.
    Policy,
    /// Every peer with a certificate; the handler shows only what the caller's policies reach.
    Open,
    /// Every registered identity that is admitted, about itself.
    Own,
    /// As `Own`, by the certificate alone: whatever token comes along is not looked at.
    Login,
}

impl Guard {
    /// Whether being admitted is enough.
    pub(in crate::core) fn is_own(self) -> bool {
        matches!(self, Self::Own | Self::Login)
    }
}

/// What a route runs.
pub(in crate::core) enum Run {
    /// On the published state, then perhaps an effect on the vault itself.
    Read(fn(&Inquiry<'_>) -> Result<Reply, VaultError>, Effect),
    /// In the committer.
    Write(fn(&mut Tx<'_>, &Change<'_>) -> Result<Done, VaultError>),
    /// In the keeper, which derives keys and has the committer write the header.
    Order(fn(&Inquiry<'_>) -> Result<Order, VaultError>),
    /// Until something changes.
    Poll(fn(&Inquiry<'_>) -> Result<Poll, VaultError>),
}

/// What happens after a read was audited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) enum Effect {
    None,
    Seal,
}

/// What a reading handler gets.
pub(in crate::core) struct Inquiry<'a> {
    /// The part of the path that the pattern leaves open.
    pub tail: String,
    pub body: &'a Body,
    pub caller: &'a Caller,
    pub subject: &'a Subject,
    pub snapshot: &'a Snapshot,
    pub sessions: &'a Sessions,
    pub settings: &'a Settings,
    pub live: &'a Live,
    pub now_ms: u64,
}

/// What a changing handler gets.
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

const fn poll(pattern: &'static str, run: fn(&Inquiry<'_>) -> Result<Poll, VaultError>) -> Route {
    Route::new(Read, pattern, Run::Poll(run))
}

const fn order(pattern: &'static str, run: fn(&Inquiry<'_>) -> Result<Order, VaultError>) -> Route {
    Route::new(Write, pattern, Run::Order(run)).sudo()
}

pub(in crate::core) const fn delete(
    pattern: &'static str,
    run: fn(&mut Tx<'_>, &Change<'_>) -> Result<Done, VaultError>,
) -> Route {
    Route::new(Delete, pattern, Run::Write(run))
}

impl Route {
    /// A row that policies decide on, with nothing special about it.
    const fn new(operation: Operation, pattern: &'static str, run: Run) -> Self {
        Self { operation, pattern, guard: Policy, sudo: false, secret_body: false, lower: false, run }
    }

    const fn open(mut self) -> Self {
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

    const fn secret(mut self) -> Self {
        self.secret_body = true;
        self
    }

    pub(in crate::core) const fn sudo(mut self) -> Self {
        self.sudo = true;
        self
    }

    pub(in crate::core) const fn lower(mut self) -> Self {
        self.lower = true;
        self
    }

    /// Whether it runs in the committer.
    pub(in crate::core) fn mutates(&self) -> bool {
        matches!(self.run, Run::Write(_) | Run::Order(_))
    }

    /// The segments of `path` from the first wildcard of the pattern on, joined; empty without wildcard.
    pub(in crate::core) fn tail(&self, path: &Path) -> String {
        let fixed = self.pattern.split('/').take_while(|segment| !matches!(*segment, "+" | "*")).count();
        path.segments().skip(fixed).collect::<Vec<_>>().join("/")
    }

    /// By segments: a slash at the end makes no difference, so paths come here in the form of [`crate::core::canonical`].
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

/// Every route. The raw ones (`health`, `init`, `leader`, `seal-status`, `unseal`) answer while sealed and are methods
/// of [`crate::core::Vault`]; behind them stands no data.
pub(in crate::core) static ROUTES: &[Route] = &[
    list("sys/policies/acl", policies::list_acl),
    read("sys/policies/acl", policies::list_acl),
    read("sys/policies/acl/+", policies::read_acl).lower(),
    write("sys/policies/acl/+", policies::write_acl).lower(),
    delete("sys/policies/acl/+", policies::delete_acl).lower(),
    list("sys/policy", policies::list_legacy),
    read("sys/policy", policies::list_legacy),
    read("sys/policy/+", policies::read_legacy).lower(),
    write("sys/policy/+", policies::write_acl).lower(),
    delete("sys/policy/+", policies::delete_acl).lower(),
    read("sys/mounts", mounts::table),
    read("sys/mounts/*", mounts::one),
    read("sys/internal/ui/mounts", mounts::visible).open(),
    read("sys/internal/ui/mounts/*", mounts::preflight).open(),
    read("sys/auth", mounts::auth),
    read("sys/audit", mounts::audit).sudo(),
    write_as_read("sys/capabilities-self", capabilities::of_caller, Effect::None),
    read("sys/key-status", keys::status),
    read("sys/metrics", metrics::read),
    order("sys/rotate", rotation::rotate),
    read("sys/rotate/config", rotation::read_config),
    write("sys/rotate/config", rotation::write_config).sudo(),
    read("sys/strongroom/terms", rotation::terms),
    list("sys/strongroom/rotations", rotation::list),
    read("sys/strongroom/rotations", rotation::list),
    read("sys/strongroom/rotations/+", rotation::one),
    order("sys/strongroom/rotations/+/+", rotation::steer),
    poll("sys/strongroom/events", events::parse),
    list("sys/strongroom/values", values::list),
    read("sys/strongroom/values", values::list),
    read("sys/strongroom/values/*", values::one),
    Route { sudo: false, ..order("sys/strongroom/values/*", values::order) },
    read("sys/strongroom/slots", rotation::slots).sudo(),
    order("sys/strongroom/slots/test", rotation::test).secret(),
    order("sys/strongroom/slots/add", rotation::add).secret(),
    order("sys/strongroom/slots/change", rotation::change).secret(),
    order("sys/strongroom/slots/remove", rotation::remove).secret(),
    order("sys/strongroom/rekey", rotation::rekey).secret(),
    write_as_read("sys/seal", keys::seal, Effect::Seal).sudo(),
    list("sys/strongroom/identities", identities::list),
    list("sys/strongroom/identities/*", identities::list),
    read("sys/strongroom/identities/*", identities::read),
    write("sys/strongroom/identities/*", identities::write),
    delete("sys/strongroom/identities/*", identities::delete),
    read("sys/strongroom/identity-report", identities::report),
    write("sys/strongroom/disable/*", identities::disable),
    write("sys/strongroom/enable/*", identities::enable),
    write("sys/strongroom/revoke/*", identities::revoke),
    list("sys/strongroom/groups", identities::list_groups),
    read("sys/strongroom/groups", identities::list_groups),
    read("sys/strongroom/groups/+", identities::read_group),
    write("sys/strongroom/groups/+", identities::write_group),
    delete("sys/strongroom/groups/+", identities::delete_group),
    list("sys/strongroom/enrollments", enrollments::list),
    read("sys/strongroom/enrollments", enrollments::list),
    write("sys/strongroom/enrollments/*", enrollments::create).sudo(),
    delete("sys/strongroom/enrollments/+", enrollments::delete),
    write("sys/strongroom/renew", certificates::renew).own(),
    read("sys/strongroom/ca", ca::read).open(),
    read("sys/strongroom/ca/stragglers", ca::stragglers),
    write("sys/strongroom/ca/prepare", ca::prepare).sudo(),
    write("sys/strongroom/ca/compromise", ca::compromise).sudo(),
    write("sys/strongroom/ca/request", ca::request).sudo(),
    write("sys/strongroom/ca/import", ca::import).sudo(),
    write("sys/strongroom/ca/+/+", ca::step).sudo(),
    read("sys/strongroom/crl", ca::crl).open(),
    write("sys/strongroom/certificates", certificates::sign).sudo(),
    list("sys/strongroom/approvals", approvals::list),
    read("sys/strongroom/approvals", approvals::list),
    read("sys/strongroom/approvals/+", approvals::read),
    write("sys/strongroom/approvals/+/+", approvals::decide),
    list("sys/quotas/rate-limit", quotas::list),
    read("sys/quotas/rate-limit", quotas::list),
    read("sys/quotas/rate-limit/+", quotas::read),
    write("sys/quotas/rate-limit/+", quotas::write),
    delete("sys/quotas/rate-limit/+", quotas::delete),
    read("sys/quotas/config", quotas::config),
    read("sys/strongroom/audit-head", keys::audit_head).sudo(),
    read("sys/strongroom/audit-key", keys::audit_key).sudo(),
    read("sys/strongroom/audit-public-key", keys::audit_public_key),
];

/// A `POST` that changes no record.
pub(in crate::core) const fn write_as_read(
    pattern: &'static str,
    run: fn(&Inquiry<'_>) -> Result<Reply, VaultError>,
    effect: Effect,
) -> Route {
    Route::new(Write, pattern, Run::Read(run, effect))
}

/// The row for a request.
///
/// # Errors
/// [`VaultError::Unsupported`] when the path exists with another verb, else [`VaultError::NoRoute`].
pub(in crate::core) fn find(operation: Operation, path: &Path) -> Result<&'static Route, VaultError> {
    find_in(ROUTES, operation, path)
}

/// As [`find`], in any table.
///
/// # Errors
/// As there.
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

/// 200 with `data`.
pub(in crate::core) fn data<T: Serialize>(value: &T) -> Result<Reply, VaultError> {
    let bytes = serde_json::to_vec(value).map_err(|_| VaultError::Internal)?;
    Ok(Reply::data(Zeroizing::new(bytes)))
}

/// A listing.
pub(in crate::core) fn keys_of(keys: &[String]) -> Result<Reply, VaultError> {
    #[derive(Serialize)]
    struct Keys<'a> {
        keys: &'a [String],
    }
    Ok(Reply { lists_keys: true, ..data(&Keys { keys })? })
}

/// One text field of a body.
///
/// # Errors
/// [`VaultError::BadRequest`] naming the field, when it is there and no string.
pub(in crate::core) fn text_field(object: &Object<'_>, name: &'static str) -> Result<Option<String>, VaultError> {
    match object.get(name) {
        None => Ok(None),
        Some(raw) if raw.get() == "null" => Ok(None),
        Some(raw) => serde_json::from_str(raw.get())
            .map(Some)
            .map_err(|_| VaultError::BadRequest(format!("field \"{name}\" must be a string"))),
    }
}

/// One number of a body, also as text.
///
/// # Errors
/// As [`text_field`].
pub(in crate::core) fn number_field(object: &Object<'_>, name: &'static str) -> Result<Option<u64>, VaultError> {
    let Some(raw) = object.get(name).map(|raw| raw.get()).filter(|raw| *raw != "null") else { return Ok(None) };
    let wrong = |_| VaultError::BadRequest(format!("field \"{name}\" must be a whole number"));
    raw.trim_matches('"').parse().map(Some).map_err(wrong)
}

/// One truth value of a body; absent is `false`.
///
/// # Errors
/// As [`text_field`].
pub(in crate::core) fn flag_field(object: &Object<'_>, name: &'static str) -> Result<bool, VaultError> {
    match object.get(name).map(|raw| raw.get().trim_matches('"')) {
        None | Some("null" | "false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(VaultError::BadRequest(format!("field \"{name}\" must be true or false"))),
    }
}

/// A list of texts, or one text with commas.
///
/// # Errors
/// As [`text_field`].
pub(in crate::core) fn texts_field(object: &Object<'_>, name: &'static str) -> Result<Option<Vec<String>>, VaultError> {
    let Some(raw) = object.get(name) else { return Ok(None) };
    if let Ok(list) = serde_json::from_str::<Vec<String>>(raw.get()) {
        return Ok(Some(list));
    }
    match serde_json::from_str::<String>(raw.get()) {
        Ok(text) => {
            Ok(Some(text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()))
        }
        Err(_) => Err(VaultError::BadRequest(format!("field \"{name}\" must be a list of strings"))),
    }
}

/// Refuses fields that the route does not know: a misspelt field must not be a silent default.
pub(in crate::core) fn only_fields(object: &Object<'_>, known: &[&str]) -> Result<(), VaultError> {
    if object.entries().all(|(name, _)| known.contains(&name)) {
        return Ok(());
    }
    Err(VaultError::BadRequest(format!("unknown field; known: {}", known.join(", "))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_are_reachable_and_unique() {
        for (n, route) in ROUTES.iter().enumerate() {
            let path = Path::parse(&route.pattern.replace('+', "a").replace('*', "a/b")).expect("canonical");
            let Ok(found) = find(route.operation, &path) else { panic!("{} is not found", route.pattern) };
            assert!(std::ptr::eq(found, route), "{} is hidden by {}", route.pattern, found.pattern);
            let twins = ROUTES.iter().skip(n + 1);
            assert!(
                twins.into_iter().all(|other| (other.operation, other.pattern) != (route.operation, route.pattern))
            );
        }
    }

    #[test]
    fn few_routes_are_open_to_everybody() {
        let open: Vec<_> = ROUTES.iter().filter(|route| route.guard == Open).map(|route| route.pattern).collect();
        let public = ["sys/internal/ui/mounts", "sys/internal/ui/mounts/*", "sys/strongroom/ca", "sys/strongroom/crl"];
        assert_eq!(open, public);
        assert!(ROUTES.iter().all(|route| route.guard != Open || !route.mutates()));
        let own: Vec<_> = ROUTES.iter().filter(|route| route.guard == Own).map(|route| route.pattern).collect();
        assert_eq!(own, ["sys/strongroom/renew"]);
    }

    proptest! {
        #[test]
        fn a_tail_is_what_the_pattern_leaves_open(tail in "[a-z]{1,5}(/[a-z]{1,5}){0,4}") {
            let path = Path::parse(&format!("sys/strongroom/identities/{tail}")).expect("canonical");
            let Ok(route) = find(Read, &path) else { panic!("no route for {path}") };
            prop_assert_eq!(route.tail(&path), tail);
        }
    }
}
