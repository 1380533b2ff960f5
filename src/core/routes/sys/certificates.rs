//! `sys/strongroom/certificates` and `sys/strongroom/renew`: client certificates from the vault's own authority.
//!
//! An identity that may issue can become anybody in the trust domain, so that route needs `sudo`. Every registered
//! identity may renew: it gets what it has, for longer.

use crate::api::spiffe::SpiffeId;
use crate::api::sys::CertificateReply;
use crate::barrier::Tx;

use super::{Change, data};
use crate::core::certificates::issue::{self, Order};
use crate::core::certificates::renewal;
use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::state::authorities;
use crate::core::state::identity::OUTSIDE;
use crate::core::state::ledger::How;

/// Signs a certificate request: `{identity, csr, ttl?}` gives `{certificate, ca}`.
pub(super) fn sign(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let fields = change.body.only(&["identity", "csr", "ttl"])?;
    let identity = identity_of(&fields.required("identity")?, &change.settings.trust_domain)?;
    authorities::current(tx, &change.caller.origin)?;
    let order = Order {
        identity: &identity,
        how: How::Issued,
        life_s: fields.seconds("ttl")?,
        longest_s: change.settings.max_certificate_life_s,
        supersedes: None,
        now_ms: change.now_ms,
    };
    let issued = issue::certify(tx, change.snapshot, &order, &fields.required("csr")?)?;
    let reply = data(&CertificateReply {
        identity: identity.uri().to_owned(),
        not_after: issued.not_after(),
        certificate: issued.row.pem,
        ca: issued.bundle.pem,
    })?;
    Ok(Done { remarks: issued.remarks, ..Done::touching(reply, issued.touched) })
}

/// Renews the caller's own certificate: `{csr}` gives `{certificate, ca, identity, not_after}`.
pub(super) fn renew(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let fields = change.body.only(&["csr"])?;
    if !matches!(change.caller.origin, crate::core::Origin::Vault(_)) {
        return Err(VaultError::BadRequest("only certificates issued by this vault can be renewed".to_owned()));
    }
    authorities::current(tx, &change.caller.origin)?;
    let (csr, settings) = (fields.required("csr")?, change.settings);
    renewal::replace(tx, change.snapshot, change.caller, How::Renewed, &csr, settings, change.now_ms)
        .map(|outcome| outcome.done)
}

/// Parses an identity path, or a full identity of this trust domain that can be registered.
pub(super) fn identity_of(text: &str, trust_domain: &str) -> Result<SpiffeId, VaultError> {
    let wrong = |_| VaultError::BadRequest("field \"identity\" is not a SPIFFE identity".to_owned());
    let identity = if text.contains("://") {
        SpiffeId::parse(text).map_err(wrong)?
    } else {
        SpiffeId::new(trust_domain, text).map_err(wrong)?
    };
    if identity.trust_domain() != trust_domain {
        return Err(VaultError::BadRequest("field \"identity\" names another trust domain".to_owned()));
    }
    if identity.path().starts_with(OUTSIDE) {
        return Err(VaultError::BadRequest(
            "identities below cert/ stand for certificates of an outside PKI: choose another path".to_owned(),
        ));
    }
    Ok(identity)
}
