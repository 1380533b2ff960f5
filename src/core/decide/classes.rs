//! The classes of a request that several operators may have to approve.

use crate::api::path::Path;
use crate::api::request::Body;
use crate::api::spiffe::SpiffeId;
use crate::core::Settings;
use crate::core::error::VaultError;
use crate::core::pipeline::route::{Concern, Guard, Named, Route, Run};
use crate::core::state::guarded::{ApprovalRules, Guarded};
use crate::core::state::identity::OUTSIDE;

/// What must be checked in a request.
pub(in crate::core) enum Looked {
    Nothing,
    /// The request has this class.
    Class(Guarded),
    /// Check whether it changes anybody's power, or gives somebody a certificate of this identity.
    Power(Option<String>),
}

/// The class of a request that does not run inside a commit, so that its approval is used up earlier. `None` for all
/// others and without rules.
pub(in crate::core) fn comes_before(settings: &Settings, route: &Route, body: &Body) -> Option<Guarded> {
    let rules = settings.approvals.as_deref()?;
    match route.run {
        Run::Write(_) => None,
        _ => fixed(route, body).iter().copied().find(|class| rules.guards(*class)),
    }
}

/// The classes that a request has in every state, the most dangerous first. One guarded class is enough.
fn fixed<'r>(route: &'r Route, body: &Body) -> &'r [Guarded] {
    match &route.concern {
        Concern::Class(class) => std::slice::from_ref(class),
        // With a compromised slot, all authorities end too. A body that cannot be parsed orders nothing.
        Concern::Rekey if body.object().get("compromised").is_some() => &[Guarded::CaCompromise, Guarded::SlotRemove],
        Concern::Rekey => &[Guarded::SlotRemove],
        // Any value except `false` counts: a malformed body fails before it is stored as a request.
        Concern::SlotChange if body.object().get("confirm").is_some_and(|value| value.raw() != "false") => {
            &[Guarded::SlotRemove]
        }
        Concern::SlotChange => &[],
        Concern::Nothing | Concern::AuthorityStep | Concern::Power(_) => &[],
    }
}

/// What must be checked in a request on one of the vault's own routes.
///
/// # Errors
/// [`VaultError::BadRequest`] for a field of the wrong type.
pub(in crate::core) fn of_route(
    rules: &ApprovalRules,
    route: &Route,
    path: &Path,
    body: &Body,
) -> Result<Looked, VaultError> {
    let classes = fixed(route, body);
    if let Some(gravest) = classes.first() {
        let guarded = classes.iter().find(|class| rules.guards(**class));
        return Ok(Looked::Class(*guarded.unwrap_or(gravest)));
    }
    // Everybody may renew what they have; this changes nobody's power.
    if route.guard != Guard::Policy {
        return Ok(Looked::Nothing);
    }
    let tail = route.tail(path);
    let named = match route.concern {
        Concern::AuthorityStep => {
            let cuts = tail.ends_with("/revoke") || body.fields().flag("force")?.unwrap_or(false);
            return Ok(if cuts { Looked::Class(Guarded::CaCompromise) } else { Looked::Nothing });
        }
        Concern::Power(Named::Nobody) => None,
        Concern::Power(Named::Tail) => Some(tail),
        Concern::Power(Named::Field(name)) => body.fields().text(name)?,
        Concern::Power(Named::Outside) => Some(OUTSIDE.to_owned()),
        Concern::Nothing | Concern::Class(_) | Concern::Rekey | Concern::SlotChange => return Ok(Looked::Nothing),
    };
    let path_of = |text: String| SpiffeId::parse(&text).map(|identity| identity.path().to_owned()).unwrap_or(text);
    Ok(Looked::Power(named.map(path_of)))
}
