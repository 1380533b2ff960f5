//! A route: a verb on a path pattern, who may use it, and what it runs. The tables are in `routes`.

mod handler;

use crate::api::path::Path;
use crate::api::request::Operation;
use crate::barrier::MountId;
use crate::core::error::VaultError;
use crate::core::state::guarded::Guarded;

pub(in crate::core) use handler::{Change, Effect, Inquiry, Run};

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
    /// The built-in mounts of which all records, or their copies in memory, are read. If there are many, the request
    /// does not run on the threads that serve connections.
    pub grows_with: &'static [MountId],
    /// Whether several operators may have to approve it.
    pub concern: Concern,
    /// What it runs.
    pub run: Run,
}

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) enum Guard {
    /// Every caller to whom the policies grant the capability of the verb on the full path.
    Policy,
    /// Every peer with a certificate. The handler shows only what the caller's policies allow.
    Open,
    /// Every registered and admitted identity, about itself.
    AboutSelf,
    /// As `AboutSelf`, but by the certificate alone. A token is ignored.
    Login,
}

impl Guard {
    /// Whether it is enough to be admitted.
    pub(in crate::core) fn is_about_self(self) -> bool {
        matches!(self, Self::AboutSelf | Self::Login)
    }
}

/// Why several operators may have to approve a request on a route. Each row of a table has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) enum Concern {
    /// It changes nobody's power over the vault.
    Nothing,
    /// It always has this class.
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

/// An identity that a request also concerns. Its power counts even if it stays the same.
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

impl Route {
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

/// Finds the row of a table for a request.
///
/// # Errors
/// [`VaultError::Unsupported`] when the path exists only with another verb; otherwise [`VaultError::NoRoute`].
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
