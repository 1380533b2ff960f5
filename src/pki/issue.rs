//! Issuing server certificates, client certificates, and certificates for keys generated elsewhere.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};
use zeroize::Zeroizing;

use super::authority::{Authority, Pair, Validity, serial};
use super::csr::read_csr;
use super::error::PkiError;
use crate::api::secret::SecretText;
use crate::api::spiffe::SpiffeId;
use crate::wiped::Buffer;

/// How far certificates are backdated, in milliseconds, because the clocks of clients differ.
pub const BACKDATE_MS: u64 = 300_000;
/// Default life of a server certificate: 30 days, in seconds.
pub const SERVER_LIFE_S: u64 = 30 * 86_400;
/// Largest number of names in one server certificate.
const MAX_SERVER_NAMES: usize = 64;

/// A certificate with its private key, both in PEM. The key is wiped on drop.
pub struct Bundle {
    /// The certificate, which is public.
    pub cert_pem: String,
    /// The private key in PKCS#8.
    pub key_pem: SecretText,
}

impl Authority {
    /// Generates a server key and a certificate for `names` (DNS names and IP addresses), valid for `life_s` seconds
    /// ([`SERVER_LIFE_S`]) but not longer than the authority. The certificate also carries
    /// `spiffe://<trust-domain>/server`. Its only usage is serverAuth, so it never works as a client's.
    ///
    /// # Errors
    /// [`PkiError::ServerName`] for no name, more than 64, or one that is neither an address nor a plain DNS name
    /// (wildcards are rejected); [`PkiError::Life`] when the life is zero or the authority has expired;
    /// [`PkiError::Random`] or [`PkiError::Make`] when the system fails.
    pub fn issue_server(&self, names: &[String], now_ms: u64, life_s: u64) -> Result<Bundle, PkiError> {
        if names.is_empty() || names.len() > MAX_SERVER_NAMES {
            return Err(PkiError::ServerName);
        }
        let mut sans = names.iter().map(|name| server_name(name)).collect::<Result<Vec<_>, _>>()?;
        let own = SpiffeId::new(&self.trust_domain, "server").map_err(|_| PkiError::TrustDomain)?;
        sans.push(uri_name(&own)?);
        let pair = Pair::generate()?;
        let cert_pem = self.sign(&pair, sans, ExtendedKeyUsagePurpose::ServerAuth, now_ms, life_s)?;
        Ok(Bundle { cert_pem, key_pem: pem_key(&pair) })
    }

    /// Generates a client key and a certificate for `identity`: one URI name, empty subject, usage clientAuth, valid
    /// for `life_s` seconds but not longer than the authority.
    ///
    /// # Errors
    /// [`PkiError::ForeignIdentity`] if the identity belongs to another trust domain; the others as for
    /// [`issue_server`](Self::issue_server).
    pub fn issue_client(&self, identity: &SpiffeId, now_ms: u64, life_s: u64) -> Result<Bundle, PkiError> {
        let sans = self.client_names(identity)?;
        let pair = Pair::generate()?;
        let cert_pem = self.sign(&pair, sans, ExtendedKeyUsagePurpose::ClientAuth, now_ms, life_s)?;
        Ok(Bundle { cert_pem, key_pem: pem_key(&pair) })
    }

    /// Certifies the public key of a PKCS#10 request (RFC 2986) for `identity` and returns the certificate in PEM.
    ///
    /// Only the public key of the request is used. Its subject, names, usages and every other extension are ignored.
    /// Its signature proves that the requester holds the key.
    ///
    /// # Errors
    /// As [`read_csr`] for the request, and as [`issue_client`](Self::issue_client) for the certificate.
    pub fn sign_csr(&self, csr_pem: &str, identity: &SpiffeId, now_ms: u64, life_s: u64) -> Result<String, PkiError> {
        let sans = self.client_names(identity)?;
        let request = read_csr(csr_pem)?;
        let key = rcgen::SubjectPublicKeyInfo::from_der(&request.key).map_err(|_| PkiError::WeakKey)?;
        self.sign(&key, sans, ExtendedKeyUsagePurpose::ClientAuth, now_ms, life_s)
    }

    fn client_names(&self, identity: &SpiffeId) -> Result<Vec<SanType>, PkiError> {
        if identity.trust_domain() != self.trust_domain {
            return Err(PkiError::ForeignIdentity);
        }
        Ok(vec![uri_name(identity)?])
    }

    fn sign(
        &self,
        key: &impl rcgen::PublicKeyData,
        names: Vec<SanType>,
        usage: ExtendedKeyUsagePurpose,
        now_ms: u64,
        life_s: u64,
    ) -> Result<String, PkiError> {
        let mut params = CertificateParams::default();
        Validity::new(now_ms, life_s, self.not_after_ms)?.apply(&mut params);
        params.serial_number = Some(serial(&*self.random)?);
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        params.signed_by(key, &self.issuer).map(|certificate| certificate.pem()).map_err(|_| PkiError::Make)
    }
}

fn uri_name(identity: &SpiffeId) -> Result<SanType, PkiError> {
    identity.uri().try_into().map(SanType::URI).map_err(|_| PkiError::Make)
}

/// An IP address or a DNS name of letters, digits and inner hyphens (RFC 1123 section 2.1); no wildcard.
fn server_name(name: &str) -> Result<SanType, PkiError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let label_ok = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if name.len() > 253 || !name.split('.').all(label_ok) {
        return Err(PkiError::ServerName);
    }
    name.to_ascii_lowercase().try_into().map(SanType::DnsName).map_err(|_| PkiError::ServerName)
}

/// A certificate in PEM (RFC 7468 section 5).
pub(super) fn pem_certificate(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = String::with_capacity(text.len() + text.len() / 64 + 64);
    pem.push_str("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = tail;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// PKCS#8 in PEM (RFC 7468 section 10).
pub(super) fn pem_key(pair: &Pair) -> SecretText {
    let der = pair.key().serialized_der();
    let mut encoded = Zeroizing::new(vec![0u8; der.len().div_ceil(3) * 4]);
    let written = STANDARD.encode_slice(der, encoded.as_mut_slice()).expect("buffer holds the base64 form");
    let mut pem = Buffer::with_capacity(written + written / 64 + 64);
    pem.text("-----BEGIN PRIVATE KEY-----\n");
    for line in encoded.get(..written).unwrap_or_default().chunks(64) {
        pem.put(line).push(b'\n');
    }
    pem.text("-----END PRIVATE KEY-----\n");
    SecretText::from_utf8_lossy(&*pem)
}
