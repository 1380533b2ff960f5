//! Moving from one authority to the next without a rejected request.
//!
//! Each step first checks what is known. Clients send the id of their bundle with every request, so it is known what
//! they trust. The ledger tells which certificates an authority still vouches for. Clients that are not ready are
//! named.

use crate::api::error::Reason;
use crate::api::reply::Reply;
use crate::barrier::Tx;
use crate::pki::AuthorityId;

use super::strings;
use crate::core::Origin;
use crate::core::commit::change::{Done, Remark};
use crate::core::error::VaultError;
use crate::core::live::sightings::Sightings;
use crate::core::pipeline::route::Change;
use crate::core::state::authorities::{self, Authorities, AuthorityFacts, Stage};
use crate::core::state::snapshot::{Snapshot, Touch};

/// Largest number of clients that are named as not ready.
const MAX_NAMED: usize = 20;
/// An identity that was not seen for this long does not delay a rotation, in milliseconds: its certificates have
/// expired or will, and it gets the current bundle with its next one.
const FORGOTTEN_MS: u64 = 7 * 86_400_000;

/// What an operator can do with one authority.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AuthorityStep {
    /// The listener accepts its certificates.
    Trust,
    /// It signs from now on, and the previous one retires.
    Activate,
    /// It ends normally.
    Remove,
    /// Its holders must move to another authority.
    Taint,
    /// It ends at once, because others may know its key.
    Revoke,
}

impl AuthorityStep {
    fn parse(verb: &str) -> Option<Self> {
        Some(match verb {
            "trust" => Self::Trust,
            "activate" => Self::Activate,
            "remove" => Self::Remove,
            "taint" => Self::Taint,
            "revoke" => Self::Revoke,
            _ => return None,
        })
    }

    /// The stage after the step. Does not check whether clients are ready for it.
    fn leads_to(self, stage: Stage) -> Result<Stage, VaultError> {
        match (self, stage) {
            (Self::Trust, Stage::Prepared) => Ok(Stage::Trusted),
            (Self::Activate, Stage::Trusted) => Ok(Stage::Active),
            (Self::Remove, Stage::Prepared | Stage::Trusted | Stage::Retiring) => Ok(Stage::Removed),
            (Self::Taint, Stage::Trusted | Stage::Active | Stage::Retiring) => Ok(stage),
            (Self::Revoke, Stage::Prepared | Stage::Trusted | Stage::Retiring) => Ok(Stage::Revoked),
            (Self::Revoke, Stage::Active) => {
                Err(bad("this authority is active: activate another one first, or use ca/compromise"))
            }
            _ => Err(bad(&format!("this step is not possible for an authority that is {}", stage.as_str()))),
        }
    }
}

/// Performs one step of the authority `id`: `trust`, `activate`, `remove`, `taint` or `revoke`. With `force`, clients
/// that are not ready lose access. The step and its alarm are in one commit, so neither exists without the other.
///
/// # Errors
/// [`VaultError::NotFound`] for an unknown authority or verb; [`VaultError::BadRequest`] for a step that its stage does
/// not allow; [`VaultError::Because`], with their names, when clients are not ready;
/// [`VaultError::Unavailable`] when the authorities have changed in this group; the errors of [`authorities::current`].
pub(in crate::core) fn take(
    tx: &mut Tx<'_>,
    change: &Change<'_>,
    id: AuthorityId,
    verb: &str,
    force: bool,
) -> Result<Done, VaultError> {
    let known = authorities::current(tx, &change.caller.origin)?;
    // The bundles and certificates of clients are counted on the published state.
    if known != change.snapshot.authorities {
        return Err(VaultError::Unavailable(
            "the authorities have just changed: check them (strongroom ca list) and try again",
        ));
    }
    let facts = known.get(id).ok_or(VaultError::NotFound)?;
    let step = AuthorityStep::parse(verb).ok_or(VaultError::NotFound)?;
    let next = step.leads_to(facts.record.stage)?;
    match step {
        AuthorityStep::Trust => everybody_has_the_bundle(change, force)?,
        AuthorityStep::Activate => {
            everybody_has_the_bundle(change, force)?;
            if let Some(active) = known.active() {
                nobody_waits_with_a_string(tx, change, active.id, force)?;
                authorities::advance(tx, active.id, Stage::Retiring, active.record.tainted, change.now_ms)?;
            }
        }
        AuthorityStep::Remove => nobody_needs(facts, change, force)?,
        AuthorityStep::Taint => {}
        AuthorityStep::Revoke => the_caller_does_not_need(id, change)?,
    }
    let tainted = facts.record.tainted || step == AuthorityStep::Taint;
    authorities::advance(tx, id, next, tainted, change.now_ms)?;
    let remarks = (step == AuthorityStep::Revoke).then_some(Remark::alarm("authority-revoked")).into_iter().collect();
    Ok(Done { remarks, restricts: true, ..Done::touching(Reply::none(), vec![Touch::Authorities]) })
}

/// Rejects a second new authority while one is being prepared.
///
/// # Errors
/// [`VaultError::BadRequest`] when an authority is prepared or trusted, but not active yet.
pub(in crate::core) fn none_is_prepared(known: &Authorities) -> Result<(), VaultError> {
    if known.0.iter().any(|facts| matches!(facts.record.stage, Stage::Prepared | Stage::Trusted)) {
        return Err(bad("another authority is already prepared: activate or remove it first"));
    }
    Ok(())
}

/// Identities that were seen recently and do not trust every authority in the current bundle. Whether they have the
/// roots of an outside listener is irrelevant here, because no step of an authority depends on it.
pub(in crate::core) fn behind(snapshot: &Snapshot, sightings: &Sightings, now_ms: u64) -> Vec<String> {
    let complete = snapshot.complete_bundles();
    let behind = snapshot.clients(now_ms).into_iter().filter(|path| {
        sightings
            .of(path)
            .is_none_or(|seen| !complete.contains(&seen.bundle) && now_ms.abs_diff(seen.at_ms) < FORGOTTEN_MS)
    });
    behind.collect()
}

fn everybody_has_the_bundle(change: &Change<'_>, force: bool) -> Result<(), VaultError> {
    let names = behind(change.snapshot, change.sightings, change.now_ms);
    if names.is_empty() || force {
        return Ok(());
    }
    Err(held_up(Reason::ForceNeeded, "not everybody has fetched the new authorities", &names))
}

/// Strings name the key of the active authority. Hosts that have not used theirs by then need a new one.
fn nobody_waits_with_a_string(
    tx: &Tx<'_>,
    change: &Change<'_>,
    active: AuthorityId,
    force: bool,
) -> Result<(), VaultError> {
    if force {
        return Ok(());
    }
    let names = strings::open_under(tx, active, change.now_ms)?;
    if names.is_empty() {
        return Ok(());
    }
    Err(held_up(Reason::EnrolmentsOpen, "open enrolment strings would become invalid", &names))
}

/// Rejects the end of an authority whose certificates are still in use.
fn nobody_needs(facts: &AuthorityFacts, change: &Change<'_>, force: bool) -> Result<(), VaultError> {
    if facts.record.stage != Stage::Retiring || force {
        return Ok(());
    }
    let holders = change.snapshot.holders(Some(facts.id), change.now_ms);
    if holders.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = holders.into_iter().collect();
    Err(held_up(Reason::ForceNeeded, "certificates of this authority are in use", &names))
}

/// An operator must not lock itself out.
fn the_caller_does_not_need(id: AuthorityId, change: &Change<'_>) -> Result<(), VaultError> {
    if change.caller.origin == Origin::Vault(id) {
        let text = "your own certificate comes from this authority: renew it first";
        return Err(VaultError::Because(Reason::OwnCertificate, text.to_owned()));
    }
    Ok(())
}

fn held_up(reason: Reason, what: &str, names: &[String]) -> VaultError {
    let more = names.len().saturating_sub(MAX_NAMED);
    let shown = names.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>().join(", ");
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let text = format!("{what}: {shown}{more}; wait for them, or send \"force\": they lose access");
    VaultError::Because(reason, text)
}

fn bad(text: &str) -> VaultError {
    VaultError::BadRequest(text.to_owned())
}
