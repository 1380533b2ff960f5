//! `sys/strongroom/ca`: the authorities, and moving from one to the next without a rejected request.
//!
//! Each step first checks facts. Clients send the id of their bundle with every request, so it is known what they
//! trust. The ledger tells which certificates an authority still vouches for. Clients that are not ready are named.

use serde::Serialize;

use crate::api::error::Reason;
use crate::api::hex::hex;
use crate::api::reply::Reply;
use crate::api::time::rfc3339_nano;
use crate::barrier::{MountId, Tx};
use crate::pki::{AUTHORITY_LIFE_S, AuthorityId};

use super::{Change, Inquiry, data, enrollments};
use crate::core::Origin;
use crate::core::certificates::revocations::list_of;
use crate::core::certificates::succession::{World, create, replace_all};
use crate::core::commit::change::{Done, Remark};
use crate::core::error::VaultError;
use crate::core::state::authorities::{self, AuthorityFacts, Stage};
use crate::core::state::identity::{self};
use crate::core::state::snapshot::{Snapshot, Touch};

/// Largest number of names shown of clients that are not ready.
const MAX_NAMED: usize = 20;
/// An identity that was not seen for this long does not delay a rotation, in milliseconds: its certificates have
/// expired or will, and it gets the current bundle with its next one.
const FORGOTTEN_MS: u64 = 7 * 86_400_000;

/// What clients must trust, and the stage of each authority. Every peer may read this.
pub(super) fn read(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    #[derive(Serialize)]
    struct Shown<'a> {
        id: String,
        state: &'a str,
        tainted: bool,
        created: String,
        changed: String,
        not_after: String,
    }
    #[derive(Serialize)]
    struct Ca<'a> {
        bundle: String,
        #[serde(skip_serializing_if = "String::is_empty")]
        server_ca: String,
        id: String,
        renew: bool,
        authorities: Vec<Shown<'a>>,
    }
    let known = &inquiry.snapshot.authorities;
    let shown = |facts: &AuthorityFacts| Shown {
        id: facts.id.hex(),
        state: facts.record.stage.as_str(),
        tainted: facts.record.tainted,
        created: rfc3339_nano(facts.record.created_ms),
        changed: rfc3339_nano(facts.record.changed_ms),
        not_after: rfc3339_nano(facts.not_after_ms),
    };
    // If it signs itself, a renewal would give another certificate of the same authority, again and again.
    let moves_on = |own: &AuthorityFacts| own.record.tainted && own.record.stage != Stage::Active;
    let bundle = inquiry.snapshot.bundle();
    data(&Ca {
        bundle: bundle.pem,
        server_ca: bundle.server_pem,
        id: hex(&bundle.id),
        renew: matches!(inquiry.caller.origin, Origin::Vault(id) if known.get(id).is_some_and(moves_on)),
        authorities: known.0.iter().map(shown).collect(),
    })
}

/// Names the clients that would lose access with the next step.
pub(super) fn stragglers(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    #[derive(Serialize)]
    struct Stragglers {
        bundle: String,
        identities: Vec<String>,
    }
    inquiry.looks_at_certificates()?;
    let identities = behind(inquiry.snapshot, &inquiry.live.sightings, inquiry.now_ms);
    data(&Stragglers { bundle: hex(&inquiry.snapshot.bundle().id), identities })
}

/// Creates the next authority: `{ttl?}`.
pub(super) fn prepare(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let life_s = change.body.only(&["ttl"])?.seconds("ttl")?.unwrap_or(AUTHORITY_LIFE_S);
    let known = authorities::current(tx, &change.caller.origin)?;
    if known.0.iter().any(|facts| matches!(facts.record.stage, Stage::Prepared | Stage::Trusted)) {
        return Err(bad("another authority is prepared already: activate or remove it first"));
    }
    let world = World { snapshot: change.snapshot, settings: change.settings, random: change.random };
    let id = create(tx, &known, &world, life_s, Stage::Prepared, change.now_ms)?;
    Ok(Done::touching(named(id)?, vec![Touch::Authorities]))
}

/// Starts an authority under an outside root. Returns `{csr}` for its owner to sign.
pub(super) fn request(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    #[derive(Serialize)]
    struct Csr {
        csr: String,
    }
    change.body.only(&[])?;
    authorities::current(tx, &change.caller.origin)?;
    let csr = authorities::request(tx, &change.settings.trust_domain, &**change.random)?;
    Ok(Done::of(data(&Csr { csr })?))
}

/// Imports the answer of the outside root's owner: `{chain}`, with the authority's certificate first and the root last.
/// Then the authority is prepared, like one of our own.
pub(super) fn import(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let fields = change.body.only(&["chain"])?;
    let known = authorities::current(tx, &change.caller.origin)?;
    if known.0.iter().any(|facts| matches!(facts.record.stage, Stage::Prepared | Stage::Trusted)) {
        return Err(bad("another authority is prepared already: activate or remove it first"));
    }
    authorities::forget_old(tx, &known, change.now_ms)?;
    let chain = fields.required("chain")?;
    let id = authorities::import(tx, &known, &change.settings.trust_domain, &chain, change.now_ms)?;
    Ok(Done::touching(named(id)?, vec![Touch::Authorities]))
}

/// Does one step of one authority: `ca/<id>/<trust|activate|remove|taint|revoke>`, `{force?}`.
pub(super) fn step(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let force = change.body.only(&["force"])?.flag("force")?.unwrap_or(false);
    let (id, verb) = change.tail.split_once('/').ok_or(VaultError::NotFound)?;
    let id = AuthorityId::parse(id).ok_or(VaultError::NotFound)?;
    let known = authorities::current(tx, &change.caller.origin)?;
    // The bundles and certificates of clients are counted on the published state.
    if known != change.snapshot.authorities {
        return Err(VaultError::Unavailable("the authorities have just changed: check them and try again"));
    }
    let facts = known.get(id).ok_or(VaultError::NotFound)?;
    let (stage, tainted) = (facts.record.stage, facts.record.tainted);
    let wrong = || bad(&format!("this step is not possible for an authority that is {}", stage.as_str()));
    let (next, tainted) = match (verb, stage) {
        ("trust", Stage::Prepared) => {
            everybody_has_the_bundle(change, force)?;
            (Stage::Trusted, tainted)
        }
        ("activate", Stage::Trusted) => {
            everybody_has_the_bundle(change, force)?;
            if let Some(active) = known.active() {
                nobody_waits_with_a_string(tx, change, active.id, force)?;
                let tainted = active.record.tainted;
                authorities::advance(tx, active.id, Stage::Retiring, tainted, change.now_ms)?;
            }
            (Stage::Active, tainted)
        }
        ("remove", Stage::Prepared | Stage::Trusted) => (Stage::Removed, tainted),
        ("remove", Stage::Retiring) => {
            let holders = change.snapshot.holders(Some(id), change.now_ms);
            if !holders.is_empty() && !force {
                let names: Vec<String> = holders.into_iter().collect();
                return Err(held_up(Reason::ForceNeeded, "certificates of this authority are in use", &names));
            }
            (Stage::Removed, tainted)
        }
        ("taint", Stage::Trusted | Stage::Active | Stage::Retiring) => (stage, true),
        ("revoke", Stage::Active) => {
            return Err(bad("this authority is active: activate another one first, or use ca/compromise"));
        }
        ("revoke", Stage::Prepared | Stage::Trusted | Stage::Retiring) => {
            if change.caller.origin == Origin::Vault(id) {
                let text = "your own certificate is of this authority: renew it first";
                return Err(VaultError::Because(Reason::OwnCertificate, text.to_owned()));
            }
            (Stage::Revoked, tainted)
        }
        ("trust" | "activate" | "remove" | "taint" | "revoke", _) => return Err(wrong()),
        _ => return Err(VaultError::NotFound),
    };
    // The step and its alarm are in one commit, so neither exists without the other.
    authorities::advance(tx, id, next, tainted, change.now_ms)?;
    let remarks = (verb == "revoke").then_some(Remark::alarm("authority-revoked")).into_iter().collect();
    Ok(Done { remarks, restricts: true, ..Done::touching(Reply::none(), vec![Touch::Authorities]) })
}

/// Others may know the key of the authority. A new authority signs at once, and every other one is revoked with all
/// certificates except the one that this call returns: `{csr}`. So the caller is not locked out, but everybody else
/// must enrol again. Enrolment strings end because they name the old authority, and so do all tokens.
pub(super) fn compromise(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let csr = change.body.only(&["csr"])?.required("csr")?;
    let world = World { snapshot: change.snapshot, settings: change.settings, random: change.random };
    let (reply, done) = replace_all(tx, &world, change.caller, &csr, change.now_ms)?;
    Ok(Done { reply: data(&reply)?, ..done })
}

/// The revocation lists of all authorities that still have a key, PEM.
pub(super) fn crl(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    #[derive(Serialize)]
    struct Lists {
        crl: String,
    }
    let (live, snapshot) = (inquiry.live, inquiry.snapshot);
    let all = snapshot.authorities.0.iter().filter(|facts| facts.record.stage.verifies());
    let lists = all.map(|facts| {
        inquiry.looks_at_certificates()?;
        list_of(live, snapshot, facts, inquiry.now_ms)
    });
    data(&Lists { crl: lists.collect::<Result<String, VaultError>>()? })
}

fn named(id: AuthorityId) -> Result<Reply, VaultError> {
    #[derive(Serialize)]
    struct Named {
        id: String,
    }
    data(&Named { id: id.hex() })
}

/// Identities that were seen recently and do not trust every authority in the current bundle. Whether they have the
/// roots of an outside listener is irrelevant here, because no step of an authority depends on it.
pub(super) fn behind(
    snapshot: &Snapshot,
    sightings: &crate::core::live::sightings::Sightings,
    now_ms: u64,
) -> Vec<String> {
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

/// Strings contain the key of the active authority. Hosts that have not used theirs by then need another one.
fn nobody_waits_with_a_string(
    tx: &Tx<'_>,
    change: &Change<'_>,
    active: AuthorityId,
    force: bool,
) -> Result<(), VaultError> {
    if force {
        return Ok(());
    }
    let enabled = |path: &str| {
        Ok(identity::read(&tx.view(identity::IDENTITIES), path)?.is_some_and(|record| record.disabled.is_none()))
    };
    let names = enrollments::open_under(&tx.view(MountId::ENROLMENTS), active, enabled, change.now_ms)?;
    if names.is_empty() {
        return Ok(());
    }
    Err(held_up(Reason::EnrolmentsOpen, "enrolment strings that are open would be void", &names))
}

fn held_up(reason: Reason, what: &str, names: &[String]) -> VaultError {
    let more = names.len().saturating_sub(MAX_NAMED);
    let shown = names.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>().join(", ");
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let text = format!("{what}: {shown}{more}; wait for them, or send \"force\" to cut them off");
    VaultError::Because(reason, text)
}

fn bad(text: &str) -> VaultError {
    VaultError::BadRequest(text.to_owned())
}
