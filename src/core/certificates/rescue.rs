//! The way back in when an operator's certificate has expired or is lost: on the machine itself, with a secret that
//! opens the vault. Somebody with both could read the vault from its disk anyway, so this reveals nothing.
//!
//! The same is true for a disabled identity: a frozen identity may be the last administrator, and nobody else could
//! enable it.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::api::error::Reason;
use crate::api::spiffe::SpiffeId;
use crate::api::sys::CertificateReply;

use super::automatic;
use super::cascade;
use super::issue::{self, Order as IssueOrder};
use crate::core::commit::change::{Done, Remark};
use crate::core::error::VaultError;
use crate::core::lifecycle::secret::secret as secret_of;
use crate::core::pipeline::audited::Facts;
use crate::core::request::UnsealKey;
use crate::core::rotation::orders::{Errand, Key, Order, SlotOrder};
use crate::core::state::identity;
use crate::core::state::snapshot::Touch;
use crate::core::vault::Vault;

/// Name under which failures are counted.
const OPENER: &str = "rescue";

/// Certifies `csr` for a registered identity if `key` opens a slot. A disabled identity is enabled, and everything that
/// it had before is revoked. Blocking: key derivation takes a second by design.
///
/// # Errors
/// [`VaultError::Sealed`] while sealed; [`VaultError::TooMany`] during the delay after failures;
/// [`VaultError::WrongKey`] when the secret opens no slot; [`VaultError::BadRequest`] when the identity is not
/// registered or the request is malformed; the errors of a commit.
pub(in crate::core) fn certificate(
    vault: &Vault,
    key: &UnsealKey<'_>,
    path: &str,
    csr: &str,
) -> Result<CertificateReply, VaultError> {
    let bad = |text: &str| VaultError::BadRequest(text.to_owned());
    let trust_domain = &vault.settings.trust_domain;
    let identity = SpiffeId::new(trust_domain, path).map_err(|_| bad("write the identity as in operator/alice"))?;
    vault.gate.lock().check(OPENER, vault.ports.clock.now_ms())?;
    let secret =
        secret_of(vault, key)?.ok_or_else(|| bad("more shares are needed: run the command again with the next one"))?;
    let answer = {
        let live = vault.live().ok_or(VaultError::Sealed)?;
        let now_ms = vault.ports.clock.now_ms();
        let rule = format!("a certificate for {path} on the local socket");
        let facts = Facts::by_vault(trust_domain, "sys/strongroom/slots/test", rule, now_ms, &*vault.ports.random)?;
        // The keeper tries the secret, because it owns all key derivation while the vault is open.
        let (sender, answer) = oneshot::channel();
        let order = Order::Slot(SlotOrder::Test(Key { slot: None, secret }));
        live.keeper.submit(Errand { facts: Arc::new(facts), order, answer: sender })?;
        answer
    };
    if let Err(error) = answer.blocking_recv().unwrap_or(Err(VaultError::Sealed)) {
        if matches!(error, VaultError::WrongKey) {
            vault.gate.lock().failed(OPENER, vault.ports.clock.now_ms());
        }
        return Err(error);
    }
    let (csr, longest_s) = (csr.to_owned(), vault.settings.max_certificate_life_s);
    automatic::perform(vault, "sys/strongroom/certificates", "the local socket", move |tx, snapshot, now_ms| {
        let mut standing = identity::read(&tx.view(identity::IDENTITIES), identity.path())?.ok_or_else(|| {
            VaultError::Because(Reason::NotRegistered, format!("{} is not registered", identity.path()))
        })?;
        let mut touched = Vec::new();
        let was_disabled = standing.disabled.take().is_some();
        if was_disabled {
            // Whatever it was disabled for, such as a copied key, must stay invalid.
            standing.end_all(now_ms);
            identity::put(tx, identity.path(), &standing)?;
            touched = cascade::tokens(tx, &snapshot.tokens, &identity)?;
            touched.extend(cascade::strings(tx, &snapshot.strings, identity.path())?);
            touched.push(Touch::Identity(identity.path().to_owned()));
        }
        let order = IssueOrder::first(&identity, longest_s, now_ms);
        let mut issued = issue::certify(tx, snapshot, &order, &csr)?;
        if was_disabled {
            issued.remarks.push(Remark::alarm("identity-enabled-on-the-local-socket"));
        }
        issued.remarks.push(Remark::alarm("certificate-issued-on-the-local-socket"));
        issued.touched.append(&mut touched);
        let (reply, done) = issued.into_reply(&identity);
        Ok((reply, Done { restricts: was_disabled, ..done }))
    })
}
