//! Issuing: every certificate of the vault's own authorities is made here.
//!
//! This runs inside a commit. The certificate, its row in the ledger and the mark on the certificate that it replaces
//! become durable together or not at all. Every issued certificate is in the audit log before the reply is sent.

use crate::api::hex::hex;
use crate::api::reply::Reply;
use crate::api::spiffe::SpiffeId;
use crate::api::sys::CertificateReply;
use crate::api::time::rfc3339_nano;
use crate::barrier::{MountId, Tx};
use crate::pki::{Bundle, PkiError};

use crate::core::commit::change::{Done, Remark};
use crate::core::error::VaultError;
use crate::core::state::authorities::{self, Authorities};
use crate::core::state::identity::{self, IdentityRecord, OPERATORS};
use crate::core::state::ledger::{self, Fingerprint, How, Row};
use crate::core::state::listener_roots::Told;
use crate::core::state::snapshot::{Snapshot, Touch};

/// Lifetime of a certificate, in seconds, when neither the request nor the identity sets one.
pub(in crate::core) const WORKLOAD_LIFE_S: u64 = 24 * 3600;
/// The same for identities below `operator/`.
pub(in crate::core) const OPERATOR_LIFE_S: u64 = 8 * 3600;

/// A certificate that becomes valid with the commit.
pub(in crate::core) struct Issued {
    pub fingerprint: Fingerprint,
    pub row: Row,
    /// Authorities that clients must trust.
    pub bundle: Told,
    pub touched: Vec<Touch>,
    pub remarks: Vec<Remark>,
}

impl Issued {
    /// Its expiry, in the format for clients.
    pub(in crate::core) fn not_after(&self) -> String {
        rfc3339_nano(self.row.not_after_ms)
    }

    /// Splits it into the reply for the holder and the effects of the change. The reply in [`Done`] is empty.
    pub(in crate::core) fn into_reply(self, identity: &SpiffeId) -> (CertificateReply, Done) {
        let reply = CertificateReply {
            identity: identity.uri().to_owned(),
            not_after: self.not_after(),
            certificate: self.row.pem,
            ca: self.bundle.pem,
        };
        (reply, Done { remarks: self.remarks, ..Done::touching(Reply::none(), self.touched) })
    }
}

/// Terms of a certificate.
pub(in crate::core) struct Order<'a> {
    pub identity: &'a SpiffeId,
    pub how: How,
    /// Lifetime in seconds; `None` means that of the identity's record, or the default.
    pub life_s: Option<u64>,
    /// Longest lifetime that may be requested, in seconds.
    pub longest_s: u64,
    /// The certificate that this one replaces.
    pub supersedes: Option<Fingerprint>,
    pub now_ms: u64,
}

impl<'a> Order<'a> {
    /// A first certificate with the default lifetime of the identity.
    pub(in crate::core) fn first(identity: &'a SpiffeId, longest_s: u64, now_ms: u64) -> Self {
        Self { identity, how: How::Issued, life_s: None, longest_s, supersedes: None, now_ms }
    }
}

/// Certifies the key of a request.
///
/// # Errors
/// [`VaultError::BadRequest`] for a request that is malformed, has a weak key or asks for too long a life; the errors
/// of the barrier.
pub(in crate::core) fn certify(
    tx: &mut Tx<'_>,
    snapshot: &Snapshot,
    order: &Order<'_>,
    csr_pem: &str,
) -> Result<Issued, VaultError> {
    let snapshot = &as_of_now(tx, snapshot)?;
    let record = identity::read(&tx.view(identity::IDENTITIES), order.identity.path())?;
    let life_s = life(order, record.as_ref())?;
    let authority = authorities::signing(&tx.view(MountId::CA), &snapshot.authorities)?;
    let pem = authority.sign_csr(csr_pem, order.identity, order.now_ms, life_s).map_err(refusal)?;
    enter(tx, snapshot, order, &pem)
}

/// Generates a key and a certificate for it.
///
/// # Errors
/// As [`certify`].
pub(in crate::core) fn client(
    tx: &mut Tx<'_>,
    snapshot: &Snapshot,
    order: &Order<'_>,
) -> Result<(Issued, Bundle), VaultError> {
    let snapshot = &as_of_now(tx, snapshot)?;
    let record = identity::read(&tx.view(identity::IDENTITIES), order.identity.path())?;
    let life_s = life(order, record.as_ref())?;
    let authority = authorities::signing(&tx.view(MountId::CA), &snapshot.authorities)?;
    let bundle = authority.issue_client(order.identity, order.now_ms, life_s).map_err(refusal)?;
    Ok((enter(tx, snapshot, order, &bundle.cert_pem)?, bundle))
}

/// Generates a key and a certificate for a listener of the vault.
///
/// # Errors
/// As [`certify`].
pub(in crate::core) fn server(
    tx: &mut Tx<'_>,
    snapshot: &Snapshot,
    order: &Order<'_>,
    names: &[String],
) -> Result<(Issued, Bundle), VaultError> {
    let snapshot = &as_of_now(tx, snapshot)?;
    let authority = authorities::signing(&tx.view(MountId::CA), &snapshot.authorities)?;
    let life_s = order.life_s.unwrap_or(order.longest_s);
    let mut bundle = authority.issue_server(names, order.now_ms, life_s).map_err(refusal)?;
    // A client that knows only an outside root needs the chain to it. The root itself is left out, because it proves
    // nothing here.
    if let Some(record) = snapshot.authorities.active().map(|facts| &facts.record).filter(|r| !r.chain.is_empty()) {
        let above: Vec<&str> = record.chain.split_inclusive("-----END CERTIFICATE-----\n").collect();
        bundle.cert_pem.push_str(&record.certificate);
        bundle.cert_pem.extend(above.iter().take(above.len().saturating_sub(1)).copied());
    }
    let mut issued = enter(tx, snapshot, order, &bundle.cert_pem)?;
    // The listener uses only one certificate. The older ones are superseded, so they do not delay the end of their
    // authority.
    for (fingerprint, facts) in snapshot.ledger.of(order.identity.path()) {
        if facts.how != How::Server || facts.superseded {
            continue;
        }
        if let Some(mut row) = ledger::read(&tx.view(MountId::CERTIFICATES), &fingerprint)? {
            row.superseded_by = Some(hex(&issued.fingerprint));
            ledger::put(tx, &fingerprint, &row)?;
            issued.touched.push(Touch::Certificate(fingerprint));
        }
    }
    Ok((issued, bundle))
}

/// Default lifetime of an identity's certificates, in seconds.
pub(in crate::core) fn own_life_s(identity: &SpiffeId, record: Option<&IdentityRecord>) -> u64 {
    let usual_s = if identity.path().starts_with(OPERATORS) { OPERATOR_LIFE_S } else { WORKLOAD_LIFE_S };
    record.and_then(|record| record.certificate_life_s).unwrap_or(usual_s)
}

/// Returns `snapshot` with the authorities as earlier changes in the same commit left them. The one that signs in the
/// snapshot may have retired since, or lost its key.
fn as_of_now(tx: &Tx<'_>, snapshot: &Snapshot) -> Result<Snapshot, VaultError> {
    Ok(snapshot.with_authorities(Authorities::load(&tx.view(MountId::CA))?))
}

/// Lifetime in seconds.
fn life(order: &Order<'_>, record: Option<&IdentityRecord>) -> Result<u64, VaultError> {
    let life_s = order.life_s.unwrap_or_else(|| own_life_s(order.identity, record));
    if life_s == 0 || life_s > order.longest_s {
        return Err(VaultError::BadRequest(format!("field \"ttl\" must be 1 to {} seconds", order.longest_s)));
    }
    Ok(life_s)
}

fn enter(tx: &mut Tx<'_>, snapshot: &Snapshot, order: &Order<'_>, pem: &str) -> Result<Issued, VaultError> {
    let authority = snapshot.authorities.active().ok_or(VaultError::Integrity)?.id;
    let (fingerprint, mut row) = Row::of(pem, order.identity, authority, order.now_ms, order.how)?;
    let standing = identity::read(&tx.view(identity::IDENTITIES), order.identity.path())?;
    row.mark_ms = Some(standing.map_or(0, |standing| standing.not_before_ms));
    let old_row = match &order.supersedes {
        Some(old) => ledger::read(&tx.view(MountId::CERTIFICATES), old)?,
        None => None,
    };
    row.life_s = match &order.supersedes {
        Some(_) => old_row.as_ref().and_then(|old| old.life_s),
        None => order.life_s.filter(|_| order.how != How::Server),
    };
    ledger::put(tx, &fingerprint, &row)?;
    let mut touched = vec![Touch::Certificate(fingerprint)];
    if let Some(old) = &order.supersedes {
        // A certificate from before the ledger existed has no row. It gets one now, marked as superseded.
        let mut old_row = match old_row {
            Some(row) => row,
            None => Row { issued_ms: 0, how: How::Init, mark_ms: None, pem: String::new(), ..row.clone() },
        };
        old_row.superseded_by = Some(hex(&fingerprint));
        ledger::put(tx, old, &old_row)?;
        touched.push(Touch::Certificate(*old));
    }
    touched.extend(ledger::sweep(tx, &snapshot.ledger, order.now_ms)?.into_iter().map(Touch::Certificate));
    let remarks =
        vec![Remark::Issued { identity: order.identity.clone(), fingerprint, not_after_ms: row.not_after_ms }];
    Ok(Issued { fingerprint, row, bundle: snapshot.bundle(), touched, remarks })
}

/// What the caller is told about a failure of the authority.
pub(in crate::core) fn refusal(error: PkiError) -> VaultError {
    match error {
        PkiError::Request(_)
        | PkiError::WeakKey
        | PkiError::ForeignIdentity
        | PkiError::Life
        | PkiError::ServerName => VaultError::BadRequest(error.to_string()),
        PkiError::Damaged(_) | PkiError::TrustDomain => VaultError::Integrity,
        _ => VaultError::Internal,
    }
}
