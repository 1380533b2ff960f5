//! Renewals: with a valid certificate, and with an expired one in the grace period of its identity.

use std::sync::Arc;

use crate::api::enroll::{Certified, GraceRequest};
use crate::api::hex::hex;
use crate::barrier::{MountId, Tx};
use crate::enroll::grace_message;
use crate::pki::{self, AuthorityId};

use super::enroll::{Channel, Outcome, Places, run};
use super::issue::{self, Order};
use crate::core::commit::change::Remark;
use crate::core::error::VaultError;
use crate::core::ports::Settings;
use crate::core::state::authorities;
use crate::core::state::barred::Barred;
use crate::core::state::identity;
use crate::core::state::ledger::{self, How};
use crate::core::state::snapshot::{Snapshot, Touch};
use crate::core::vault::Vault;
use crate::core::{Caller, Origin};

/// Handles a renewal with an expired certificate.
///
/// # Errors
/// As [`enroll`].
pub(in crate::core) async fn renew_expired(
    vault: &Vault,
    asked: GraceRequest,
    channel: Channel,
) -> Result<Certified, VaultError> {
    let settings = Arc::clone(&vault.settings);
    let live = vault.live().ok_or(VaultError::Sealed)?;
    let shown = shown(&live.snapshot.load(), &asked, &channel, &settings.trust_domain)?;
    drop(live);
    run(vault, "sys/strongroom/enroll/renew", channel.remote, move |tx, snapshot, now_ms| {
        let holder = expired(tx, snapshot, shown, channel.remote, &settings.trust_domain, now_ms)?;
        replace(tx, snapshot, &holder, How::Late, &asked.csr, &settings, now_ms)
    })
    .await
}

/// Renews the certificate of an admitted `holder`: issues a new one for the same identity and marks the old one as
/// replaced. The holder was admitted before this commit, so everything that decides is read again. `how` tells whether
/// the certificate had expired.
///
/// # Errors
/// [`VaultError::Forbidden`] for an identity that is not registered or is disabled, and for a certificate that was
/// revoked; [`VaultError::RenewedTooOften`] for one that is too young; the errors of [`issue::certify`].
pub(in crate::core) fn replace(
    tx: &mut Tx<'_>,
    snapshot: &Snapshot,
    holder: &Caller,
    how: How,
    csr: &str,
    settings: &Settings,
    now_ms: u64,
) -> Result<Outcome, VaultError> {
    // Tells a host, while its certificate is still valid, that the enrolment listener has moved.
    let places = Places { enroll: settings.enroll_addresses.clone(), ..Places::default() };
    let (identity, old) = (&*holder.identity, holder.fingerprint);
    let mut standing = identity::read(&tx.view(identity::IDENTITIES), identity.path())?
        .filter(|standing| standing.disabled.is_none())
        .ok_or(VaultError::Forbidden)?;
    let row = ledger::read(&tx.view(MountId::CERTIFICATES), &old)?;
    let mark_ms = row.as_ref().and_then(|row| row.mark_ms);
    if row.as_ref().is_some_and(|row| row.revoked.is_some())
        || standing.outlives(mark_ms, holder.not_before_ms.saturating_add(pki::BACKDATE_MS))
    {
        return Err(VaultError::Forbidden);
    }
    let grace_ms = standing.grace_s.saturating_mul(1_000);
    let is_over = |row: &ledger::Row| now_ms > row.not_after_ms.saturating_add(grace_ms);
    if how == How::Late {
        match &row {
            Some(row) if is_over(row) => return Err(VaultError::Forbidden),
            Some(_) => {}
            // The rows of renewed certificates are not kept for long, so this is one of those, or the vault never issued it.
            // Both are worth an alarm, but neither proves that a copy exists.
            None => return Ok(Outcome::refused(Vec::new(), "unknown-certificate-used-to-renew")),
        }
    }
    // Limited by the lifetime that was requested for the first certificate of the chain, and by the identity's own.
    let bound_s = row.as_ref().and_then(|row| row.life_s);
    let life_s = bound_s.map(|bound_s| bound_s.min(issue::own_life_s(identity, Some(&standing))));
    let request = pki::read_csr(csr).map_err(issue::refusal)?;
    if let Some(next) = row.as_ref().and_then(|row| row.superseded_by.as_ref()) {
        let next = ledger::parse_fingerprint(next).ok_or(VaultError::Integrity)?;
        let next = ledger::read(&tx.view(MountId::CERTIFICATES), &next)?;
        // The caller holds the key of the next certificate, so it was made for this caller and its reply was lost.
        if let Some(next) = next.filter(|next| next.key == hex(&request.key_fingerprint)) {
            return if next.revoked.is_none() && next.superseded_by.is_none() && next.not_after_ms > now_ms {
                Outcome::again(snapshot, next, identity, places)
            } else {
                Err(VaultError::Forbidden)
            };
        }
        // Two parties hold one certificate, and it is unknown which of them is legitimate.
        tracing::warn!(
            identity = identity.uri(),
            remote = holder.remote,
            "identity frozen: a certificate that was already renewed was used to renew again, so someone has a copy. Its \
             requests are rejected until an operator enables it (docs/identities.md)"
        );
        standing.disabled = Some(identity::Disabled::frozen(now_ms));
        identity::put(tx, identity.path(), &standing)?;
        let mut refused =
            Outcome::refused(vec![Touch::Identity(identity.path().to_owned())], "renewed-certificate-used-to-renew");
        refused.done.restricts = true;
        if how != How::Late {
            refused.done.refusal = Some(Barred::IdentityFrozen.denial());
        }
        return Ok(refused);
    }
    if let Some(row) = &row {
        snapshot.ledger.may_be_renewed(row, now_ms)?;
    }
    let longest_s = settings.max_certificate_life_s;
    let order = Order { identity, how, life_s, longest_s, supersedes: Some(old), now_ms };
    let mut issued = issue::certify(tx, snapshot, &order, csr)?;
    if how == How::Late {
        // An expired certificate became usable again, so an operator should see it.
        issued.remarks.push(Remark::alarm("certificate-renewed-after-its-end"));
    }
    Outcome::of(issued, identity, places)
}

/// An expired certificate whose key signed the request, and its authority.
type ExpiredPeer = (pki::peer::Peer, AuthorityId);

/// Checks what an expired certificate and its key prove by themselves. This causes neither a commit nor a line in the
/// audit log, so that strangers cannot fill either.
fn shown(
    snapshot: &Snapshot,
    asked: &GraceRequest,
    channel: &Channel,
    trust_domain: &str,
) -> Result<ExpiredPeer, VaultError> {
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};
    let malformed = || VaultError::BadRequest("field \"certificate\" is not a certificate in PEM".to_owned());
    let der = CertificateDer::from_pem_slice(asked.certificate.as_bytes()).map_err(|_| malformed())?;
    let request = pki::read_csr(&asked.csr).map_err(issue::refusal)?;
    let peer = pki::peer::inspect(&der, trust_domain).map_err(|_| VaultError::Forbidden)?;
    let authority = snapshot.authorities.trust().signer_of(&der).ok_or(VaultError::Forbidden)?;
    let message = grace_message(&channel.exporter, &request.der);
    if !pki::verify_signature(&der, asked.scheme, &message, &asked.proof) {
        return Err(VaultError::Forbidden);
    }
    Ok((peer, authority))
}

/// Returns the holder of an expired certificate if it may still renew.
fn expired(
    tx: &Tx<'_>,
    snapshot: &Snapshot,
    (peer, authority): ExpiredPeer,
    remote: std::net::SocketAddr,
    trust_domain: &str,
    now_ms: u64,
) -> Result<Caller, VaultError> {
    let caller = Caller {
        identity: Arc::new(peer.identity.clone()),
        origin: Origin::Vault(authority),
        fingerprint: peer.fingerprint,
        not_before_ms: peer.not_before_ms,
        // Being expired is the only defect that is allowed.
        not_after_ms: u64::MAX,
        remote: remote.to_string(),
        request_id: String::new(),
        bundle: None,
        token: None,
    };
    // Its authority may have ended in the same commit.
    authorities::current(tx, &caller.origin)?;
    snapshot.admits_in(trust_domain, &caller, now_ms).map_err(|_| VaultError::Forbidden)?;
    let standing = snapshot.identity(peer.identity.path()).ok_or(VaultError::Forbidden)?;
    let end_ms = peer.not_after_ms.saturating_add(standing.grace_s.saturating_mul(1_000));
    if now_ms > end_ms {
        return Err(VaultError::Forbidden);
    }
    Ok(caller)
}
