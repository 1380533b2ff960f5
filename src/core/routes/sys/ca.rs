//! `sys/strongroom/ca`: the authorities, and the steps from one to the next.

use serde::Serialize;

use crate::api::hex::hex;
use crate::api::identities::{AuthorityInfo, RevocationLists, Stragglers};
use crate::api::reply::Reply;
use crate::barrier::Tx;
use crate::pki::{AUTHORITY_LIFE_S, AuthorityId};

use super::{Change, Inquiry, data};
use crate::core::Caller;
use crate::core::certificates::authority_steps::{behind, none_is_prepared, take};
use crate::core::certificates::revocations::list_of;
use crate::core::certificates::succession::{World, create, replace_all};
use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::state::authorities::{self, AuthorityFacts, Stage};
use crate::core::state::snapshot::{Snapshot, Touch};

/// What a client must trust, and what it should know about the authorities.
#[derive(Serialize)]
struct Ca {
    bundle: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    server_ca: String,
    id: String,
    renew: bool,
    authorities: Vec<AuthorityInfo>,
}

#[derive(Serialize)]
struct Csr {
    csr: String,
}

#[derive(Serialize)]
struct NamedAuthority {
    id: String,
}

impl Ca {
    fn shown_to(caller: &Caller, snapshot: &Snapshot) -> Self {
        let (bundle, known) = (snapshot.bundle(), &snapshot.authorities);
        Self {
            bundle: bundle.pem,
            server_ca: bundle.server_pem,
            id: hex(&bundle.id),
            renew: known.is_left_by(&caller.origin),
            authorities: known.0.iter().map(AuthorityFacts::info).collect(),
        }
    }
}

/// What clients must trust, and the stage of each authority. Every peer may read this.
pub(super) fn read(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    data(&Ca::shown_to(inquiry.caller, inquiry.snapshot))
}

/// Names the clients that would lose access with the next step.
pub(super) fn stragglers(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    inquiry.looks_at_certificates()?;
    let identities = behind(inquiry.snapshot, &inquiry.live.sightings, inquiry.now_ms);
    data(&Stragglers { bundle: hex(&inquiry.snapshot.bundle().id), identities })
}

/// Creates the next authority: `{ttl?}`.
pub(super) fn prepare(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let life_s = change.body.only(&["ttl"])?.seconds("ttl")?.unwrap_or(AUTHORITY_LIFE_S);
    let known = authorities::current(tx, &change.caller.origin)?;
    none_is_prepared(&known)?;
    let world = World { snapshot: change.snapshot, settings: change.settings, random: change.random };
    prepared(create(tx, &known, &world, life_s, Stage::Prepared, change.now_ms)?)
}

/// Starts an authority under an outside root. Returns `{csr}` for its owner to sign.
pub(super) fn request(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
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
    none_is_prepared(&known)?;
    authorities::forget_old(tx, &known, change.now_ms)?;
    let chain = fields.required("chain")?;
    prepared(authorities::import(tx, &known, &change.settings.trust_domain, &chain, change.now_ms)?)
}

fn prepared(id: AuthorityId) -> Result<Done, VaultError> {
    Ok(Done::touching(data(&NamedAuthority { id: id.hex() })?, vec![Touch::Authorities]))
}

/// Performs one step of an authority: `ca/<id>/<trust|activate|remove|taint|revoke>`, `{force?}`.
pub(super) fn step(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let force = change.body.only(&["force"])?.flag("force")?.unwrap_or(false);
    let (id, verb) = change.tail.split_once('/').ok_or(VaultError::NotFound)?;
    take(tx, change, AuthorityId::parse(id).ok_or(VaultError::NotFound)?, verb, force)
}

/// For an authority whose key others may know: `{csr}`. A new authority signs at once, and every other one is revoked,
/// with all certificates except the one in the reply. So the caller is not locked out, but everybody else must enrol
/// again. Enrolment strings become invalid because they name the old authority, and so do all tokens.
pub(super) fn compromise(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let csr = change.body.only(&["csr"])?.required("csr")?;
    let world = World { snapshot: change.snapshot, settings: change.settings, random: change.random };
    let (reply, done) = replace_all(tx, &world, change.caller, &csr, change.now_ms)?;
    Ok(Done { reply: data(&reply)?, ..done })
}

/// The revocation lists of all authorities that still have a key, PEM.
pub(super) fn crl(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let (live, snapshot) = (inquiry.live, inquiry.snapshot);
    let all = snapshot.authorities.0.iter().filter(|facts| facts.record.stage.verifies());
    let lists = all.map(|facts| {
        inquiry.looks_at_certificates()?;
        list_of(live, snapshot, facts, inquiry.now_ms)
    });
    data(&RevocationLists { crl: lists.collect::<Result<String, VaultError>>()? })
}
