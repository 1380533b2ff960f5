//! `sys/strongroom/certificates` and `sys/strongroom/renew`: client certificates from the vault's own authority.
//!
//! An identity that may issue certificates can become anybody in the trust domain, so that route needs `sudo`. Every
//! registered identity may renew: it gets what it already has, for longer.

use crate::barrier::Tx;

use super::{Change, data};
use crate::core::certificates::issue::{self, Order};
use crate::core::certificates::renewal;
use crate::core::commit::change::Done;
use crate::core::error::VaultError;
use crate::core::state::authorities;
use crate::core::state::identity;
use crate::core::state::ledger::How;

/// Signs a certificate request: `{identity, csr, ttl?}` gives `{certificate, ca}`.
pub(super) fn sign(tx: &mut Tx<'_>, change: &Change<'_>) -> Result<Done, VaultError> {
    let fields = change.body.only(&["identity", "csr", "ttl"])?;
    let identity = identity::named(&fields.required("identity")?, &change.settings.trust_domain)?;
    authorities::current(tx, &change.caller.origin)?;
    let usual = Order::first(&identity, change.settings.max_certificate_life_s, change.now_ms);
    let order = Order { life_s: fields.seconds("ttl")?, ..usual };
    let issued = issue::certify(tx, change.snapshot, &order, &fields.required("csr")?)?;
    let (reply, done) = issued.into_reply(&identity);
    Ok(Done { reply: data(&reply)?, ..done })
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
