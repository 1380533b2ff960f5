//! `sys/strongroom/certificates`: client certificates from the vault's own authority.
//!
//! The authority's key is opened per use and wiped after it. Who may issue may become anybody in the trust domain, so
//! the route needs `sudo`, and every issue is a durable note in the audit log before the certificate leaves.

use crate::api::duration::Ttl;
use crate::api::spiffe::SpiffeId;
use crate::api::sys::CertificateReply;
use crate::audit::Note;
use crate::barrier::{Barrier, MountId};
use crate::crypto::secret::SecretBytes;
use crate::engine::Reply;
use crate::pki::{Authority, Bundle, PkiError, peer};

use super::super::Live;
use super::super::error::VaultError;
use super::{Inquiry, data, only_fields, text_field};

/// Where the certificate is kept.
pub(in crate::core) const CA_CERT: &str = "ca/cert";
/// Where the key is kept.
pub(in crate::core) const CA_KEY: &str = "ca/key";
/// Life of a client certificate when the request names none.
const DEFAULT_LIFE_S: u64 = 24 * 3600;

/// The vault's authority.
///
/// # Errors
/// [`VaultError::Integrity`] when its records are missing or do not fit.
pub(in crate::core) fn authority(barrier: &Barrier) -> Result<Authority, VaultError> {
    let view = barrier.view(MountId::CA);
    let cert = view.entry(CA_CERT)?.ok_or(VaultError::Integrity)?;
    let key = view.entry(CA_KEY)?.ok_or(VaultError::Integrity)?;
    let cert = std::str::from_utf8(cert.value.reveal()).map_err(|_| VaultError::Integrity)?;
    let key = SecretBytes::from_vec(key.value.reveal().to_vec());
    Authority::from_parts(cert, &key).map_err(|_| VaultError::Integrity)
}

pub(in crate::core) fn issue_client(
    live: &Live,
    identity: &SpiffeId,
    now_ms: u64,
    life_s: u64,
) -> Result<Bundle, VaultError> {
    let bundle = authority(&live.barrier)?.issue_client(identity, now_ms, life_s).map_err(refusal)?;
    note(live, identity, &bundle.cert_pem, now_ms)?;
    Ok(bundle)
}

pub(in crate::core) fn issue_server(
    live: &Live,
    names: &[String],
    now_ms: u64,
    life_s: u64,
) -> Result<Bundle, VaultError> {
    authority(&live.barrier)?.issue_server(names, now_ms, life_s).map_err(refusal)
}

/// Signs a certificate request: `{identity, csr, ttl?}` gives `{certificate, ca}`.
pub(super) fn sign(inquiry: &Inquiry<'_>) -> Result<Reply, VaultError> {
    let object = inquiry.body.object()?;
    only_fields(&object, &["identity", "csr", "ttl"])?;
    let required = |name: &'static str| -> Result<String, VaultError> {
        text_field(&object, name)?.ok_or_else(|| VaultError::BadRequest(format!("field \"{name}\" is required")))
    };
    let identity = identity_of(&required("identity")?, &inquiry.settings.trust_domain)?;
    let csr = required("csr")?;
    let life_s = match object.get("ttl") {
        Some(raw) => {
            Ttl::parse_json(raw.get())
                .map_err(|_| VaultError::BadRequest("field \"ttl\" must be a duration".to_owned()))?
                .0
        }
        None => DEFAULT_LIFE_S,
    };
    let longest_s = inquiry.settings.max_certificate_life_s;
    if life_s == 0 || life_s > longest_s {
        return Err(VaultError::BadRequest(format!("field \"ttl\" must be 1 to {longest_s} seconds")));
    }
    let authority = authority(&inquiry.live.barrier)?;
    let certificate = authority.sign_csr(&csr, &identity, inquiry.now_ms, life_s).map_err(refusal)?;
    note(inquiry.live, &identity, &certificate, inquiry.now_ms)?;
    data(&CertificateReply { certificate, ca: authority.cert_pem().to_owned() })
}

/// An identity path or a full identity of this trust domain.
fn identity_of(text: &str, trust_domain: &str) -> Result<SpiffeId, VaultError> {
    let wrong = |_| VaultError::BadRequest("field \"identity\" is not a SPIFFE identity".to_owned());
    let identity = if text.contains("://") {
        SpiffeId::parse(text).map_err(wrong)?
    } else {
        SpiffeId::new(trust_domain, text).map_err(wrong)?
    };
    if identity.trust_domain() != trust_domain {
        return Err(VaultError::BadRequest("field \"identity\" names another trust domain".to_owned()));
    }
    Ok(identity)
}

/// Notes an issue in the audit log, durable.
fn note(live: &Live, identity: &SpiffeId, pem: &str, now_ms: u64) -> Result<(), VaultError> {
    let der = der_of(pem).ok_or(VaultError::Internal)?;
    let peer = peer::inspect(&der, identity.trust_domain()).map_err(|_| VaultError::Internal)?;
    let issued = Note::Issued { identity, fingerprint: &peer.fingerprint, not_after_ms: peer.not_after_ms };
    live.audit.note(now_ms, &issued).map_err(|_| VaultError::AuditUnavailable)
}

/// The first certificate in PEM text of our own making.
fn der_of(pem: &str) -> Option<Vec<u8>> {
    use rustls_pki_types::{CertificateDer, pem::PemObject as _};
    CertificateDer::from_pem_slice(pem.as_bytes()).ok().map(|der| der.to_vec())
}

fn refusal(error: PkiError) -> VaultError {
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
