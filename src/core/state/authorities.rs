//! The vault's own certificate authorities: records, states, and the allowed transitions.
//!
//! Records in built-in mount 6: `authority/<id>` is JSON (below), `authority-key/<id>` the private key in PKCS#8. The
//! key is opened for each use and wiped afterwards. At most one authority signs. The states of each:
//!
//! ```text
//! prepared -> trusted -> active -> retiring -> removed        tainted: a mark beside the state
//!     \__________\_________\__________\______-> revoked
//! ```
//!
//! `prepared`: in the bundle that clients fetch, but nobody trusts it yet. `trusted`: the listener accepts its
//! certificates. `active`: it signs. `retiring`: its certificates are accepted until they expire. `removed`, `revoked`:
//! the key is destroyed and its certificates are rejected. The conditions for each step are checked where the steps are
//! ordered (`certificates/authority_steps.rs`).

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};

use crate::api::identities::AuthorityInfo;
use crate::api::time::rfc3339_nano;
use crate::barrier::{MountId, Tx, View};
use crate::crypto::random::Random;
use crate::crypto::secret::SecretBytes;
use crate::pki::{Anchor, Authority, AuthorityId, Trust};

use crate::core::Origin;
use crate::core::error::VaultError;

/// Largest number of authorities on record. Old ones that can do no harm are forgotten to stay below it.
pub(in crate::core) const MAX_AUTHORITIES: usize = 64;

/// State of an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::core) enum Stage {
    /// Clients may fetch it.
    Prepared,
    /// The listener accepts its certificates.
    Trusted,
    /// It signs.
    Active,
    /// It no longer signs.
    Retiring,
    /// It was ended normally.
    Removed,
    /// It was ended because others may know its key.
    Revoked,
}

impl Stage {
    /// The name in records and replies.
    pub(in crate::core) fn as_str(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Trusted => "trusted",
            Self::Active => "active",
            Self::Retiring => "retiring",
            Self::Removed => "removed",
            Self::Revoked => "revoked",
        }
    }

    /// Whether its certificates are accepted.
    pub(in crate::core) fn verifies(self) -> bool {
        matches!(self, Self::Trusted | Self::Active | Self::Retiring)
    }

    /// Whether clients must trust it.
    pub(in crate::core) fn in_bundle(self) -> bool {
        matches!(self, Self::Prepared | Self::Trusted | Self::Active | Self::Retiring)
    }

    /// Whether it has ended.
    pub(in crate::core) fn ended(self) -> bool {
        matches!(self, Self::Removed | Self::Revoked)
    }
}

/// On-disk form of an authority, in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::core) struct AuthorityRecord {
    /// Format, 1.
    pub v: u8,
    pub stage: Stage,
    /// Its holders must move to another authority. Renewals are due at once.
    #[serde(default)]
    pub tainted: bool,
    /// Its certificate, PEM.
    pub certificate: String,
    /// Certificates between it and an outside root, with the root last, PEM. Empty for a root of our own.
    #[serde(default)]
    pub chain: String,
    /// The trust domain that it certifies. An outside root need not have put it into the certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// When it was created, and when it entered its stage.
    pub created_ms: u64,
    pub changed_ms: u64,
}

/// The facts of an authority that decisions and lists need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::core) struct AuthorityFacts {
    pub id: AuthorityId,
    pub record: AuthorityRecord,
    /// Its certificate, DER.
    pub der: Vec<u8>,
    pub not_after_ms: u64,
}

impl AuthorityFacts {
    fn of(record: AuthorityRecord) -> Result<Self, VaultError> {
        let der = Self::der_of(&record.certificate)?;
        let not_after_ms = crate::pki::not_after_ms(&der).ok_or(VaultError::Integrity)?;
        Ok(Self { id: AuthorityId::of(&der), record, der, not_after_ms })
    }

    /// What clients are told about it.
    pub(in crate::core) fn info(&self) -> AuthorityInfo {
        AuthorityInfo {
            id: self.id.hex(),
            state: self.record.stage.as_str().to_owned(),
            tainted: self.record.tainted,
            created: rfc3339_nano(self.record.created_ms),
            changed: rfc3339_nano(self.record.changed_ms),
            not_after: rfc3339_nano(self.not_after_ms),
        }
    }

    fn der_of(pem: &str) -> Result<Vec<u8>, VaultError> {
        CertificateDer::from_pem_slice(pem.as_bytes()).map(|der| der.to_vec()).map_err(|_| VaultError::Integrity)
    }
}

/// All authorities on record, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::core) struct Authorities(pub Arc<[AuthorityFacts]>);

impl Authorities {
    /// Reads all authorities.
    ///
    /// # Errors
    /// [`VaultError::Integrity`] for a record that cannot be parsed.
    pub(in crate::core) fn load(view: &View<'_>) -> Result<Self, VaultError> {
        let mut all = Vec::new();
        for name in view.entries()? {
            let Some(hex) = name.strip_prefix(RECORD) else { continue };
            let id = AuthorityId::parse(hex).ok_or(VaultError::Integrity)?;
            let facts = AuthorityFacts::of(read(view, id)?.ok_or(VaultError::Integrity)?)?;
            if facts.id != id {
                return Err(VaultError::Integrity);
            }
            all.push(facts);
        }
        all.sort_by_key(|facts| (facts.record.created_ms, facts.id));
        Ok(Self(all.into()))
    }

    /// Returns the authority with this id.
    pub(in crate::core) fn get(&self, id: AuthorityId) -> Option<&AuthorityFacts> {
        self.0.iter().find(|facts| facts.id == id)
    }

    /// Returns the authority that signs.
    pub(in crate::core) fn active(&self) -> Option<&AuthorityFacts> {
        self.0.iter().find(|facts| facts.record.stage == Stage::Active)
    }

    /// Whether a caller with a certificate from `origin` must renew it now, because its authority is tainted.
    pub(in crate::core) fn is_left_by(&self, origin: &Origin) -> bool {
        // If it still signs, each renewal would return another certificate of the same authority.
        let moves_on = |own: &AuthorityFacts| own.record.tainted && own.record.stage != Stage::Active;
        matches!(origin, Origin::Vault(id) if self.get(*id).is_some_and(moves_on))
    }

    /// Returns the authorities that clients must trust.
    pub(in crate::core) fn bundle(&self) -> impl Iterator<Item = &AuthorityFacts> {
        self.0.iter().filter(|facts| facts.record.stage.in_bundle())
    }

    /// The same in PEM, with the signing one first.
    pub(in crate::core) fn bundle_pem(&self) -> String {
        let mut found: Vec<_> = self.bundle().collect();
        found.sort_by_key(|facts| facts.record.stage != Stage::Active);
        found.into_iter().map(|facts| with_newline(&facts.record.certificate)).collect()
    }

    /// What the listener accepts from our own authorities.
    pub(in crate::core) fn trust(&self) -> Trust {
        let accepted = self.0.iter().filter(|facts| facts.record.stage.verifies());
        Trust {
            authorities: accepted.map(|facts| Anchor { id: facts.id, der: facts.der.clone() }).collect(),
            signing: self.active().map(|facts| facts.id),
            ..Trust::default()
        }
    }
}

/// Returns the authorities as earlier changes in the same commit left them, for a caller whose certificate is from
/// `origin` and still valid by them. A commit decides on the state before it, and two changes in it must not contradict
/// each other.
///
/// # Errors
/// [`VaultError::Forbidden`] when that authority has ended in the meantime; the errors of the barrier.
pub(in crate::core) fn current(tx: &Tx<'_>, origin: &Origin) -> Result<Authorities, VaultError> {
    let known = Authorities::load(&tx.view(MountId::CA))?;
    match origin {
        Origin::Vault(id) if known.get(*id).is_some_and(|own| !own.record.stage.verifies()) => {
            Err(VaultError::Forbidden)
        }
        _ => Ok(known),
    }
}

/// Returns the authority that signs, with its key.
///
/// # Errors
/// [`VaultError::Integrity`] when the records are missing or do not match.
pub(in crate::core) fn signing(view: &View<'_>, authorities: &Authorities) -> Result<Authority, VaultError> {
    let facts = authorities.active().ok_or(VaultError::Integrity)?;
    with_key(view, facts)
}

/// Returns the authority of `facts` with its key.
///
/// # Errors
/// As [`signing`].
pub(in crate::core) fn with_key(view: &View<'_>, facts: &AuthorityFacts) -> Result<Authority, VaultError> {
    let key = view.entry(&key_name(facts.id))?.ok_or(VaultError::Integrity)?;
    let key = SecretBytes::from_vec(key.value.reveal().to_vec());
    let certificate = &facts.record.certificate;
    let authority = match &facts.record.domain {
        Some(domain) => Authority::of_domain(certificate, &key, domain),
        None => Authority::from_parts(certificate, &key),
    };
    authority.map_err(|_| VaultError::Integrity)
}

/// Writes a new authority and its key.
///
/// # Errors
/// The errors of the barrier when a record cannot be read or written.
pub(in crate::core) fn put(
    tx: &mut Tx<'_>,
    authority: &Authority,
    record: &AuthorityRecord,
) -> Result<AuthorityId, VaultError> {
    let facts = AuthorityFacts::of(record.clone())?;
    tx.put_entry(MountId::CA, &key_name(facts.id), authority.key_pkcs8().reveal(), 0)?;
    put_record(tx, facts.id, record)?;
    Ok(facts.id)
}

/// Creates the key of an authority that an outside root will sign, and the request for it. A pending request is returned
/// again.
///
/// # Errors
/// The errors of the barrier; [`VaultError::Internal`] when no key can be generated.
pub(in crate::core) fn request(tx: &mut Tx<'_>, trust_domain: &str, random: &dyn Random) -> Result<String, VaultError> {
    if let Some(entry) = tx.view(MountId::CA).entry(REQUEST)? {
        return std::str::from_utf8(entry.value.reveal()).map(str::to_owned).map_err(|_| VaultError::Integrity);
    }
    let (key, csr) = Authority::request(trust_domain, random).map_err(|_| VaultError::Internal)?;
    tx.put_entry(MountId::CA, REQUEST_KEY, key.reveal(), 0)?;
    tx.put_entry(MountId::CA, REQUEST, csr.as_bytes(), 0)?;
    Ok(csr)
}

/// Accepts the chain that answers the request, as a prepared authority.
///
/// # Errors
/// [`VaultError::BadRequest`] when there is no request, the chain does not answer it, or a role of `auth/cert` names
/// the same authority; the errors of the barrier.
pub(in crate::core) fn import(
    tx: &mut Tx<'_>,
    known: &Authorities,
    trust_domain: &str,
    chain_pem: &str,
    now_ms: u64,
) -> Result<AuthorityId, VaultError> {
    let bad = |text: String| VaultError::BadRequest(text);
    let entry = tx.view(MountId::CA).entry(REQUEST_KEY)?;
    let entry =
        entry.ok_or_else(|| bad("there is no pending request: run `strongroom ca request` first".to_owned()))?;
    let key = SecretBytes::from_vec(entry.value.reveal().to_vec());
    let (certificate, chain) =
        Authority::import(chain_pem, &key, now_ms).map_err(|error| bad(format!("field \"chain\": {error}")))?;
    let authority = Authority::of_domain(&certificate, &key, trust_domain)
        .map_err(|error| bad(format!("field \"chain\": {error}")))?;
    let subject = crate::pki::subject_of(&AuthorityFacts::der_of(&certificate)?);
    // The issuer's name tells which authority a leaf belongs to, so it must be unique.
    if known.0.iter().any(|facts| crate::pki::subject_of(&facts.der) == subject) {
        return Err(bad(
            "another authority has the subject that the root put into the certificate: sign it again with the subject of the request".to_owned(),
        ));
    }
    super::roles::refuse_authority(tx, &AuthorityFacts::der_of(&certificate)?)?;
    let domain = Some(trust_domain.to_owned());
    let record = AuthorityRecord {
        v: 1,
        stage: Stage::Prepared,
        tainted: false,
        certificate,
        chain,
        domain,
        created_ms: now_ms,
        changed_ms: now_ms,
    };
    let id = put(tx, &authority, &record)?;
    tx.remove_entry(MountId::CA, REQUEST)?;
    tx.remove_entry(MountId::CA, REQUEST_KEY)?;
    Ok(id)
}

/// Moves an authority to another stage. If it ends, its key is destroyed.
///
/// # Errors
/// [`VaultError::NotFound`] when there is no such authority; the errors of the barrier.
pub(in crate::core) fn advance(
    tx: &mut Tx<'_>,
    id: AuthorityId,
    stage: Stage,
    tainted: bool,
    now_ms: u64,
) -> Result<(), VaultError> {
    let mut record = read(&tx.view(MountId::CA), id)?.ok_or(VaultError::NotFound)?;
    record.stage = stage;
    record.tainted = tainted;
    record.changed_ms = now_ms;
    if stage.ended() {
        tx.remove_entry(MountId::CA, &key_name(id))?;
    }
    put_record(tx, id, &record)
}

/// Forgets authorities that have ended and whose certificates have all expired.
///
/// # Errors
/// The errors of the barrier when a record cannot be read or written.
pub(in crate::core) fn forget_old(tx: &mut Tx<'_>, known: &Authorities, now_ms: u64) -> Result<(), VaultError> {
    let mut left = known.0.len();
    for facts in known.0.iter().filter(|facts| facts.record.stage.ended()) {
        if facts.not_after_ms < now_ms || left >= MAX_AUTHORITIES {
            tx.remove_entry(MountId::CA, &format!("{RECORD}{}", facts.id.hex()))?;
            left -= 1;
        }
    }
    if left >= MAX_AUTHORITIES {
        return Err(VaultError::BadRequest(format!(
            "there are already {MAX_AUTHORITIES} authorities, the maximum: remove some first"
        )));
    }
    Ok(())
}

fn read(view: &View<'_>, id: AuthorityId) -> Result<Option<AuthorityRecord>, VaultError> {
    let Some(entry) = view.entry(&format!("{RECORD}{}", id.hex()))? else { return Ok(None) };
    let record: AuthorityRecord = serde_json::from_slice(entry.value.reveal()).map_err(|_| VaultError::Integrity)?;
    if record.v == 1 { Ok(Some(record)) } else { Err(VaultError::Integrity) }
}

fn put_record(tx: &mut Tx<'_>, id: AuthorityId, record: &AuthorityRecord) -> Result<(), VaultError> {
    let bytes = serde_json::to_vec(record).map_err(|_| VaultError::Internal)?;
    tx.put_entry(MountId::CA, &format!("{RECORD}{}", id.hex()), &bytes, 0)?;
    Ok(())
}

/// A request that the outside root has not answered yet, and its key.
const REQUEST: &str = "authority-request";
const REQUEST_KEY: &str = "authority-request-key";

/// Prefix of the records' names.
const RECORD: &str = "authority/";

fn key_name(id: AuthorityId) -> String {
    format!("authority-key/{}", id.hex())
}

fn with_newline(pem: &str) -> String {
    if pem.ends_with('\n') { pem.to_owned() } else { format!("{pem}\n") }
}
