//! A new authority that follows another one, or replaces all others.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::api::reply::Reply;
use crate::api::spiffe::SpiffeId;
use crate::api::sys::CertificateReply;
use crate::barrier::{MountId, Tx};
use crate::crypto::random::Random;
use crate::pki::{AUTHORITY_LIFE_S, Authority, AuthorityId};

use super::issue::{self, Order, refusal};
use crate::core::commit::change::{Done, Remark};
use crate::core::error::VaultError;
use crate::core::state::authorities::{self, Authorities, AuthorityRecord, Stage};
use crate::core::state::identity::OUTSIDE;
use crate::core::state::snapshot::{Snapshot, Touch};
use crate::core::{Caller, Settings};

/// What is needed to create an authority.
pub(in crate::core) struct World<'a> {
    pub snapshot: &'a Snapshot,
    pub settings: &'a Settings,
    pub random: &'a Arc<dyn Random>,
}

/// Creates an authority, ends all others, and issues a certificate from the new one to `caller`. The reply in [`Done`]
/// is empty.
///
/// # Errors
/// The errors of [`authorities::current`] and of [`issue::certify`].
pub(in crate::core) fn replace_all(
    tx: &mut Tx<'_>,
    world: &World<'_>,
    caller: &Caller,
    csr: &str,
    now_ms: u64,
) -> Result<(CertificateReply, Done), VaultError> {
    let identity: &SpiffeId = &caller.identity;
    if identity.path().starts_with(OUTSIDE) {
        return Err(VaultError::BadRequest(
            "your certificate comes from an outside PKI: call as an identity of this vault".to_owned(),
        ));
    }
    let known = authorities::current(tx, &caller.origin)?;
    let ended = end_all(tx, world, &known, now_ms)?;
    let order = Order::first(identity, world.settings.max_certificate_life_s, now_ms);
    let issued = issue::certify(tx, world.snapshot, &order, csr)?;
    let (reply, mut done) = issued.into_reply(identity);
    done.touched.extend(ended.touched);
    done.remarks.extend(ended.remarks);
    Ok((reply, Done { restricts: true, ..done }))
}

/// Creates an authority and ends all others, every token and every enrolment string. Nobody gets a certificate. Without
/// one from [`replace_all`] the way back in is `strongroomd admin operator`.
///
/// # Errors
/// The errors of [`create`]. Nothing changes unless the transaction is committed.
pub(in crate::core) fn end_all(
    tx: &mut Tx<'_>,
    world: &World<'_>,
    known: &Authorities,
    now_ms: u64,
) -> Result<Done, VaultError> {
    let id = create(tx, known, world, AUTHORITY_LIFE_S, Stage::Active, now_ms)?;
    for facts in known.0.iter().filter(|facts| !facts.record.stage.ended()) {
        authorities::advance(tx, facts.id, Stage::Revoked, true, now_ms)?;
    }
    let strings = tx.view(MountId::ENROLMENTS).entries()?;
    for id in &strings {
        tx.remove_entry(MountId::ENROLMENTS, id)?;
    }
    let mut touched = vec![Touch::Authorities, crate::core::state::tokens::remove_all(tx)?];
    touched.extend(strings.into_iter().map(Touch::Enrolment));
    let remarks = vec![Remark::alarm("authority-compromised")];
    tracing::warn!(
        authority = id.hex(),
        "every earlier authority is revoked: all hosts and operators must enrol again"
    );
    Ok(Done { remarks, restricts: true, ..Done::touching(Reply::none(), touched) })
}

/// Creates an authority in this stage and returns its id.
pub(in crate::core) fn create(
    tx: &mut Tx<'_>,
    known: &Authorities,
    world: &World<'_>,
    life_s: u64,
    stage: Stage,
    now_ms: u64,
) -> Result<AuthorityId, VaultError> {
    authorities::forget_old(tx, known, now_ms)?;
    let random = Arc::clone(world.random);
    let authority = Authority::create(&world.settings.trust_domain, random, now_ms, life_s).map_err(refusal)?;
    let der = CertificateDer::from_pem_slice(authority.cert_pem().as_bytes()).map_err(|_| VaultError::Internal)?;
    crate::core::state::roles::refuse_authority(tx, &der)?;
    let record = AuthorityRecord {
        v: 1,
        stage,
        tainted: false,
        certificate: authority.cert_pem().to_owned(),
        chain: String::new(),
        domain: None,
        created_ms: now_ms,
        changed_ms: now_ms,
    };
    authorities::put(tx, &authority, &record)
}
