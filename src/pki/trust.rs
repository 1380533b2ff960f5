//! What TLS accepts from a client, as plain data. The core builds it and the listener uses it.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::api::hex::{hex, unhex};
use crate::crypto::hash::sha256;

/// Id of an authority: the first 16 bytes of the SHA-256 of its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AuthorityId(pub [u8; 16]);

impl AuthorityId {
    /// Returns the id of the authority with this certificate, DER.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        let mut id = [0; 16];
        id.copy_from_slice(&sha256(&[der])[..16]);
        Self(id)
    }

    /// 32 hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> String {
        hex(&self.0)
    }

    /// Reads [`hex`](Self::hex); `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        unhex(text).map(Self)
    }
}

/// Id of a set of authorities: the first 16 bytes of the SHA-256 over the sorted digests of their certificates. Client
/// and server compute it in the same way, so the server sees who still trusts an older set.
pub fn bundle_id<'a>(certificates: impl Iterator<Item = &'a [u8]>) -> [u8; 16] {
    bundle_id_of(certificates.map(|der| sha256(&[der])).collect())
}

/// As [`bundle_id`], from the SHA-256 digests of the certificates.
#[must_use]
pub fn bundle_id_of(mut digests: Vec<[u8; 32]>) -> [u8; 16] {
    digests.sort_unstable();
    digests.dedup();
    let mut id = [0; 16];
    id.copy_from_slice(&sha256(&[digests.concat().as_slice()])[..16]);
    id
}

/// Converts a certificate to PEM (RFC 7468).
#[must_use]
pub fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = String::with_capacity(text.len() + text.len() / 64 + 64);
    out.push_str("-----BEGIN CERTIFICATE-----\n");
    for (index, letter) in text.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            out.push('\n');
        }
        out.push(letter);
    }
    out.push_str("\n-----END CERTIFICATE-----\n");
    out
}

/// SHA-256 of a certificate's SubjectPublicKeyInfo; `None` when it cannot be parsed.
#[must_use]
pub fn key_fingerprint(der: &[u8]) -> Option<[u8; 32]> {
    X509Certificate::from_der(der).ok().map(|(_, parsed)| sha256(&[parsed.public_key().raw]))
}

/// Subject of a certificate, DER; `None` when it cannot be parsed.
#[must_use]
pub fn subject_of(der: &[u8]) -> Option<Vec<u8>> {
    X509Certificate::from_der(der).ok().map(|(_, parsed)| parsed.subject().as_raw().to_vec())
}

/// Facts of a listener's certificate that its successor is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// DNS names and addresses.
    pub names: Vec<String>,
    /// Subject of the authority that signed it, DER.
    pub authority_subject: Vec<u8>,
    /// Valid from, Unix milliseconds.
    pub not_before_ms: u64,
    /// Valid until, Unix milliseconds.
    pub not_after_ms: u64,
}

/// Reads the first certificate of a PEM file; `None` when it cannot be parsed.
#[must_use]
pub fn server_facts(pem: &[u8]) -> Option<ServerFacts> {
    let der = CertificateDer::from_pem_slice(pem).ok()?;
    let facts = super::peer::facts(&der).ok()?;
    let (_, parsed) = X509Certificate::from_der(&der).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
        },
        _ => None,
    };
    Some(ServerFacts {
        names: names.value.general_names.iter().filter_map(name).collect(),
        authority_subject: parsed.issuer().as_raw().to_vec(),
        not_before_ms: facts.not_before_ms,
        not_after_ms: facts.not_after_ms,
    })
}

/// Expiry of a certificate in Unix milliseconds; `None` when it cannot be parsed.
#[must_use]
pub fn not_after_ms(der: &[u8]) -> Option<u64> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    u64::try_from(parsed.validity().not_after.timestamp()).ok()?.checked_mul(1000)
}

/// One of our own authorities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Its id.
    pub id: AuthorityId,
    /// Its certificate, DER.
    pub der: Vec<u8>,
}

impl Anchor {
    /// Makes an anchor from the certificate of an authority.
    #[must_use]
    pub fn new(der: Vec<u8>) -> Self {
        Self { id: AuthorityId::of(&der), der }
    }
}

/// Everything that a client certificate may chain to.
///
/// The three kinds are kept separate. A certificate counts as ours only if it verifies under `authorities` alone, so an outside
/// root cannot issue names of our trust domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// The vault's own authorities.
    pub authorities: Vec<Anchor>,
    /// Roots of outside PKIs that a role of `auth/cert` names, DER.
    pub outside: Vec<Vec<u8>>,
    /// SHA-256 of single certificates that a role of `auth/cert` names.
    pub pinned: Vec<[u8; 32]>,
    /// The authority in `authorities` that signs now. It does not affect what is accepted. The listener's own certificate
    /// follows it.
    pub signing: Option<AuthorityId>,
}

impl Trust {
    /// Returns the own authority that signed `leaf` (DER), whatever the dates are. For a certificate that TLS has not
    /// verified.
    #[must_use]
    pub fn signer_of(&self, leaf: &[u8]) -> Option<AuthorityId> {
        let (_, leaf) = X509Certificate::from_der(leaf).ok()?;
        let found = self.authorities.iter().find(|anchor| {
            X509Certificate::from_der(&anchor.der).is_ok_and(|(_, anchor)| {
                anchor.subject().as_raw() == leaf.issuer().as_raw()
                    && leaf.verify_signature(Some(anchor.public_key())).is_ok()
            })
        })?;
        Some(found.id)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_survive_their_text(bytes: [u8; 16]) {
            let id = AuthorityId(bytes);
            prop_assert_eq!(AuthorityId::parse(&id.hex()), Some(id));
        }

        #[test]
        fn parsing_is_total(text in "\\PC{0,40}") {
            let _ = AuthorityId::parse(&text);
        }

        #[test]
        fn pem_is_read_back(bytes in proptest::collection::vec(any::<u8>(), 1..300)) {
            let text = pem(&bytes);
            prop_assert_eq!(&*CertificateDer::from_pem_slice(text.as_bytes()).expect("PEM"), &*bytes);
            prop_assert!(text.lines().all(|line| line.len() <= 64));
        }

        #[test]
        fn any_leaf_is_looked_at(bytes: Vec<u8>) {
            let trust = Trust { authorities: vec![Anchor::new(bytes.clone())], ..Trust::default() };
            prop_assert_eq!(trust.signer_of(&bytes), None);
        }
    }
}
