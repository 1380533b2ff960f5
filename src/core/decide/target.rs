//! The decision: one question to the caller's compiled policies, asked before anything in the store is read.
//!
//! A path that leads nowhere is decided like any other, with the capability that its verb requires. Only callers that
//! would be allowed learn that there is nothing. To all others, unknown, forbidden and missing look the same.

use std::sync::Arc;

use crate::api::path::Path;
use crate::api::request::{Body, Operation};
use crate::barrier::View;
use crate::engine::Requirements;
use crate::policy::{Ask, Capability, Decision};

use crate::core::error::VaultError;
use crate::core::pipeline::route::{Guard, Route, Tables, find_in};
use crate::core::state::mount::Mount;
use crate::core::state::snapshot::Snapshot;
use crate::core::state::subject::Subject;

/// What a request addresses.
pub(in crate::core) enum Target {
    /// One of the core's own routes.
    Sys(&'static Route),
    /// An engine.
    Mount {
        mount: Arc<Mount>,
        /// The path below the mount.
        relative: Path,
        plan: Requirements,
    },
    /// Nothing. The error is for callers that may know this.
    Nowhere(VaultError),
}

impl Target {
    /// Looks the path up in the route tables and the mount table.
    pub(in crate::core) fn of(tables: &Tables, snapshot: &Snapshot, operation: Operation, path: &Path) -> Self {
        match tables.of(path).map(|routes| find_in(routes, operation, path)) {
            Some(Ok(route)) => return Self::Sys(route),
            Some(Err(error)) => return Self::Nowhere(error),
            None => {}
        }
        let Some((mount, relative)) = snapshot.mounts.route(path) else {
            return Self::Nowhere(VaultError::NoRoute(path.as_str().to_owned()));
        };
        match mount.engine.plan(operation, &relative) {
            Ok(plan) => Self::Mount { mount: Arc::clone(mount), relative, plan },
            Err(error) => Self::Nowhere(error.into()),
        }
    }

    /// Type of the target, for the audit log.
    pub(in crate::core) fn kind(&self) -> Option<&'static str> {
        match self {
            Self::Sys(route) if route.pattern.starts_with("auth/cert/") => Some("cert"),
            Self::Sys(route) if route.pattern.starts_with("auth/token/") => Some("token"),
            Self::Sys(_) => Some("system"),
            Self::Mount { mount, .. } => Some(mount.kind),
            Self::Nowhere(_) => None,
        }
    }

    /// Whether only the certificate counts, so that a token is ignored.
    pub(in crate::core) fn logs_in(&self) -> bool {
        matches!(self, Self::Sys(route) if route.guard == Guard::Login)
    }

    /// Whether the request runs in the committer.
    pub(in crate::core) fn mutates(&self) -> bool {
        match self {
            Self::Sys(route) => route.mutates(),
            Self::Mount { plan, .. } => plan.mutates,
            Self::Nowhere(_) => false,
        }
    }
}

/// The decision in the words of the audit log, and the error if the request ends here.
pub(in crate::core) struct Verdict {
    /// `allow`, `deny`, or `open` for a route that checks by itself.
    pub decision: &'static str,
    /// The rule that allowed the request.
    pub rule: Option<String>,
    /// `Ok` means to continue.
    pub outcome: Result<(), VaultError>,
}

/// One question.
pub(in crate::core) struct Question<'a> {
    pub subject: &'a Subject,
    pub operation: Operation,
    pub path: &'a Path,
    pub body: &'a Body,
    pub wrap_ttl: Option<u64>,
}

impl Question<'_> {
    /// Decides before the request is audited. A `POST` that may create or update passes if either is allowed.
    /// [`Question::settle`] decides which of them it is, on the state that the write applies to.
    pub(in crate::core) fn decide(&self, target: &mut Target) -> Verdict {
        if let Some(why) = self.subject.refused {
            return Verdict { decision: "deny", rule: Some(why.to_owned()), outcome: Err(VaultError::Forbidden) };
        }
        let (sudo, open, either) = match &*target {
            Target::Sys(route) => (route.sudo, route.guard == Guard::Open, false),
            Target::Mount { plan, .. } => (plan.sudo, false, plan.checks_existence),
            Target::Nowhere(_) => (false, false, false),
        };
        // Routes about the caller itself need no policy, only a registered identity.
        if matches!(&*target, Target::Sys(route) if route.guard.is_about_self()) {
            return match self.subject.known {
                true => Verdict { decision: "own", rule: None, outcome: self.offered(target) },
                false => Verdict { decision: "deny", rule: None, outcome: Err(self.subject.denial()) },
            };
        }
        if open {
            return Verdict { decision: "open", rule: None, outcome: self.offered(target) };
        }
        let wanted: &[Capability] = match self.operation {
            Operation::Read => &[Capability::Read],
            Operation::List => &[Capability::List],
            Operation::Write if either => &[Capability::Update, Capability::Create],
            Operation::Write => &[Capability::Update],
            Operation::Patch => &[Capability::Patch],
            Operation::Delete => &[Capability::Delete],
        };
        match wanted.iter().find_map(|capability| self.ask(*capability, sudo)) {
            Some(rule) => Verdict { decision: "allow", rule: Some(rule), outcome: self.offered(target) },
            None => Verdict { decision: "deny", rule: None, outcome: Err(self.subject.denial()) },
        }
    }

    /// Decides again inside the committer. Policies may have changed while the request waited, and only here is it
    /// known whether a `POST` creates or updates, because no other writer can interfere.
    ///
    /// # Errors
    /// [`VaultError::Forbidden`] or [`VaultError::NotAdmitted`] when it is not allowed, or not any more; the errors of
    /// [`crate::engine::Engine::exists`].
    pub(in crate::core) fn settle(&self, target: &Target, view: Option<&View<'_>>) -> Result<(), VaultError> {
        let (capability, sudo) = match (target, view) {
            (Target::Mount { mount, relative, plan }, Some(view)) => {
                let capability = match self.operation {
                    Operation::Write if plan.checks_existence => {
                        let (update, create) = (
                            self.ask(Capability::Update, plan.sudo).is_some(),
                            self.ask(Capability::Create, plan.sudo).is_some(),
                        );
                        // A caller that may do neither must not learn from the index whether the secret exists.
                        let allowed = match (update, create) {
                            (false, false) => false,
                            (true, true) => true,
                            _ => mount.engine.exists(view, relative)? == update,
                        };
                        return if allowed { Ok(()) } else { Err(self.subject.denial()) };
                    }
                    Operation::Write => Capability::Update,
                    Operation::Patch => Capability::Patch,
                    Operation::Delete => Capability::Delete,
                    Operation::Read => Capability::Read,
                    Operation::List => Capability::List,
                };
                (capability, plan.sudo)
            }
            // Routes about the caller itself need no policy, only an admitted identity.
            (Target::Sys(route), _) if route.guard.is_about_self() => {
                return if self.subject.known { Ok(()) } else { Err(self.subject.denial()) };
            }
            (Target::Sys(route), _) => {
                let capability = match self.operation {
                    Operation::Delete => Capability::Delete,
                    Operation::Patch => Capability::Patch,
                    Operation::Read => Capability::Read,
                    Operation::List => Capability::List,
                    Operation::Write => Capability::Update,
                };
                (capability, route.sudo)
            }
            _ => return Err(VaultError::Internal),
        };
        self.ask(capability, sudo).map(|_| ()).ok_or_else(|| self.subject.denial())
    }

    /// Returns the rule that allows it, if any.
    fn ask(&self, capability: Capability, sudo: bool) -> Option<String> {
        let entries = self.body.object().entries();
        let parameters: Vec<(&str, &[u8])> = entries.map(|(name, value)| (name, value.raw().as_bytes())).collect();
        let ask = Ask { path: self.path, capability, sudo, parameters: Some(&parameters), wrap_ttl: self.wrap_ttl };
        match self.subject.decide(&ask) {
            Decision::Allow { rule } => Some(rule.to_string()),
            Decision::Deny { .. } => None,
        }
    }

    /// Checks that the request is supported. Only an allowed caller learns the result.
    fn offered(&self, target: &mut Target) -> Result<(), VaultError> {
        if let Target::Nowhere(error) = target {
            return Err(std::mem::replace(error, VaultError::NotFound));
        }
        if self.wrap_ttl.is_some() {
            return Err(VaultError::BadRequest(
                "response wrapping is not supported: send the request without X-Vault-Wrap-TTL".to_owned(),
            ));
        }
        Ok(())
    }
}
