//! The record of a role, and the role with its parsed certificates.

use std::net::IpAddr;

use rustls_pki_types::pem::{PemObject, SectionKind};
use serde::{Deserialize, Serialize};

use super::super::cidr::{Cidr, admits};
use super::super::names::DEFAULT_POLICY;
use super::{MAX_CERTIFICATES, MAX_PEM_BYTES, RoleError};
use crate::pki::outside::{OutsideAuthority, OutsideFacts, is_authority, subject_and_key};

/// Version of the on-disk form.
const VERSION: u8 = 1;

/// Properties of a role's tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenSettings {
    /// Policies in addition to `default`: lower case, sorted.
    pub policies: Vec<String>,
    /// Default life in seconds; 0 uses the server's.
    pub ttl_s: u64,
    /// Maximum life with renewals in seconds; 0 uses the server's.
    pub max_ttl_s: u64,
    /// Life after each renewal in seconds, renewable for ever; 0 means not periodic.
    pub period_s: u64,
    /// Maximum life in seconds that also limits a periodic token; 0 means none.
    pub explicit_max_ttl_s: u64,
    /// Networks that the login and the token may come from; empty means any.
    pub bound_cidrs: Vec<Cidr>,
    /// Whether to leave out `default`.
    pub no_default_policy: bool,
    /// Number of requests that the token allows; 0 means unlimited.
    pub num_uses: u32,
}

impl TokenSettings {
    /// The policies of a token: these and `default`, unless it is left out. Sorted.
    #[must_use]
    pub fn effective_policies(&self) -> Vec<String> {
        let mut policies = self.policies.clone();
        if !self.no_default_policy {
            policies.push(DEFAULT_POLICY.to_owned());
        }
        policies.sort_unstable();
        policies.dedup();
        policies
    }
}

/// A role as stored, in JSON. Its patterns are those of [`glob`](super::super::glob).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleRecord {
    /// Version of this form: 1.
    v: u8,
    /// Certificates as they were sent, PEM.
    pub certificate: String,
    /// Name for people. The token's name is this with `cert-` in front.
    pub display_name: String,
    /// Patterns. One of them must match the common name, a DNS name or a mail address.
    pub allowed_names: Vec<String>,
    /// Patterns. One of them must match the common name.
    pub allowed_common_names: Vec<String>,
    /// Patterns. One of them must match a DNS name.
    pub allowed_dns_sans: Vec<String>,
    /// Patterns. One of them must match a mail address.
    pub allowed_email_sans: Vec<String>,
    /// Patterns. One of them must match a URI.
    pub allowed_uri_sans: Vec<String>,
    /// Patterns. One of them must match an organizational unit.
    pub allowed_organizational_units: Vec<String>,
    /// `oid:pattern` or `hex:oid:pattern`. Each of them must match that extension.
    pub required_extensions: Vec<String>,
    /// Properties of the tokens.
    pub token: TokenSettings,
}

impl RoleRecord {
    /// An empty role, which [`Role::load`] rejects.
    pub(super) fn empty(display_name: &str) -> Self {
        Self {
            v: VERSION,
            certificate: String::new(),
            display_name: display_name.to_owned(),
            allowed_names: Vec::new(),
            allowed_common_names: Vec::new(),
            allowed_dns_sans: Vec::new(),
            allowed_email_sans: Vec::new(),
            allowed_uri_sans: Vec::new(),
            allowed_organizational_units: Vec::new(),
            required_extensions: Vec::new(),
            token: TokenSettings::default(),
        }
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`RoleError::Record`] when the record is damaged or of a newer version.
    pub fn decode(bytes: &[u8]) -> Result<Self, RoleError> {
        let record: Self = serde_json::from_slice(bytes).map_err(|_| RoleError::Record)?;
        if record.v == VERSION { Ok(record) } else { Err(RoleError::Record) }
    }

    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers are always JSON")
    }

    fn is_constrained(&self) -> bool {
        [
            &self.allowed_names,
            &self.allowed_common_names,
            &self.allowed_dns_sans,
            &self.allowed_email_sans,
            &self.allowed_uri_sans,
            &self.allowed_organizational_units,
            &self.required_extensions,
        ]
        .into_iter()
        .any(|list| !list.is_empty())
    }
}

/// Whom a role trusts. Certificates are in DER and compared byte by byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Exactly this client certificate.
    Pinned(Vec<u8>),
    /// Clients of any of these authorities.
    Authorities(Vec<Vec<u8>>),
}

/// A role that can be matched against certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Name in canonical form.
    pub name: String,
    /// What was stored.
    pub record: RoleRecord,
    /// Its certificates.
    pub kind: Kind,
}

impl Role {
    /// Parses the certificates of a record. Every rule that does not depend on the vault's own authorities is checked
    /// here, so a stored role is never laxer than a new one.
    ///
    /// # Errors
    /// [`RoleError::Pem`] when the text is not certificates in PEM; [`RoleError::Certificate`] for a certificate that
    /// is rejected; [`RoleError::Mixed`] for a client's certificate beside others; [`RoleError::Unconstrained`] for
    /// authorities without a constraint.
    pub fn load(name: &str, record: RoleRecord) -> Result<Self, RoleError> {
        let kind = kind_of(&record.certificate)?;
        if matches!(kind, Kind::Authorities(_)) && !record.is_constrained() {
            return Err(RoleError::Unconstrained);
        }
        Ok(Self { name: name.to_owned(), record, kind })
    }

    /// The certificates, DER.
    pub fn certificates(&self) -> impl Iterator<Item = &[u8]> {
        match &self.kind {
            Kind::Pinned(der) => std::slice::from_ref(der),
            Kind::Authorities(ders) => ders.as_slice(),
        }
        .iter()
        .map(Vec::as_slice)
    }

    /// Rejects a role that trusts something that looks like an authority of this vault, with the same name or the same
    /// key. `authorities` holds the certificates of those authorities, DER.
    ///
    /// # Errors
    /// [`RoleError::VaultAuthority`] for such a role.
    pub fn refuse_vault_authorities(&self, authorities: &[&[u8]]) -> Result<(), RoleError> {
        let ours: Vec<_> = authorities.iter().filter_map(|der| subject_and_key(der)).collect();
        let alike = |der: &[u8]| {
            subject_and_key(der).is_none_or(|(subject, key)| {
                ours.iter().any(|(our_subject, our_key)| *our_subject == subject || *our_key == key)
            })
        };
        if self.certificates().any(alike) { Err(RoleError::VaultAuthority) } else { Ok(()) }
    }

    /// Whether a login may come from `remote`.
    #[must_use]
    pub fn admits_from(&self, remote: Option<IpAddr>) -> bool {
        admits(&self.record.token.bound_cidrs, remote)
    }

    /// Whether the role still grants exactly these policies. A token is not renewed if its role has changed since.
    #[must_use]
    pub fn still_gives(&self, policies: &[String]) -> bool {
        self.record.token.effective_policies() == policies
    }
}

fn kind_of(pem: &str) -> Result<Kind, RoleError> {
    let mut ders = certificates(pem)?;
    let mut authorities = 0;
    for der in &ders {
        if is_authority(der).unwrap_or(false) {
            OutsideAuthority::read(der).map_err(RoleError::Certificate)?;
            authorities += 1;
        } else {
            OutsideFacts::read(der, &[]).map_err(RoleError::Certificate)?;
        }
    }
    match (ders.len(), authorities) {
        (count, authorities) if count == authorities => Ok(Kind::Authorities(ders)),
        (1, _) => ders.pop().map(Kind::Pinned).ok_or(RoleError::Pem),
        _ => Err(RoleError::Mixed),
    }
}

fn certificates(pem: &str) -> Result<Vec<Vec<u8>>, RoleError> {
    if pem.len() > MAX_PEM_BYTES {
        return Err(RoleError::Pem);
    }
    let mut found: Vec<Vec<u8>> = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem.as_bytes()) {
        let (SectionKind::Certificate, der) = section.map_err(|_| RoleError::Pem)? else {
            return Err(RoleError::Pem);
        };
        if found.len() == MAX_CERTIFICATES {
            return Err(RoleError::Pem);
        }
        found.push(der);
    }
    // The PEM reader skips sections that it does not know. A private key in such a section must not be stored and
    // shown.
    let sections = pem.matches("-----BEGIN ").count();
    if found.is_empty() || sections != found.len() {
        return Err(RoleError::Pem);
    }
    Ok(found)
}
