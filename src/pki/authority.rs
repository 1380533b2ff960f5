//! The certificate authority: created once, stored sealed in the vault, loaded after unseal.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    SerialNumber,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use zeroize::Zeroize;

use super::error::PkiError;
use super::issue::BACKDATE_MS;
use crate::api::hex::hex;
use crate::api::spiffe::SpiffeId;
use crate::crypto::random::{Random, SystemRandom};
use crate::crypto::secret::SecretBytes;

/// Default life of a new authority: ten years, in seconds.
pub const AUTHORITY_LIFE_S: u64 = 10 * 365 * 86_400;

/// Longest chain to an outside root, including the authority.
const MAX_CHAIN: usize = 8;

/// 9999-12-31T23:59:59Z, the last instant X.509 can express.
const LAST_S: u64 = 253_402_300_799;

/// A key pair whose encoded form is wiped on drop. No `Clone`, no `Debug`.
pub(super) struct Pair(KeyPair);

impl Pair {
    /// Generates a P-256 key with the operating system's random source.
    pub(super) fn generate() -> Result<Self, PkiError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self).map_err(|_| PkiError::Make)
    }

    /// Takes over a key of any kind, which will be wiped.
    pub(super) fn of(key: KeyPair) -> Self {
        Self(key)
    }

    /// Parses a P-256 key in PKCS#8.
    pub(super) fn from_pkcs8(der: &SecretBytes) -> Result<Self, PkiError> {
        let der = PrivatePkcs8KeyDer::from(der.reveal());
        KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)
            .map(Self)
            .map_err(|_| PkiError::Damaged("key"))
    }

    pub(super) fn key(&self) -> &KeyPair {
        &self.0
    }

    /// The private key in PKCS#8. This is a copy: keep it only briefly.
    pub(super) fn pkcs8(&self) -> SecretBytes {
        SecretBytes::from_vec(self.0.serialized_der().to_vec())
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The vault's certificate authority: ECDSA P-256, path length 0, one trust domain.
///
/// Holds the private key; wiped on drop. Has no `Debug` and no `Clone`.
pub struct Authority {
    pub(super) trust_domain: String,
    pub(super) not_after_ms: u64,
    pub(super) issuer: Issuer<'static, Pair>,
    pub(super) random: Arc<dyn Random>,
    cert_pem: String,
}

impl rcgen::PublicKeyData for Pair {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl rcgen::SigningKey for Pair {
    fn sign(&self, msg: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(msg)
    }
}

impl Authority {
    /// Creates an authority for `trust_domain`, valid from five minutes before `now_ms` for `life_s` seconds (usually
    /// [`AUTHORITY_LIFE_S`]). Nothing is stored: the caller must seal [`cert_pem`](Self::cert_pem) and
    /// [`key_pkcs8`](Self::key_pkcs8).
    ///
    /// The private key comes from the operating system's random source, serial numbers from `random`.
    ///
    /// # Errors
    /// [`PkiError::TrustDomain`] when the name is not a SPIFFE trust domain; [`PkiError::Life`] when the life is zero
    /// or ends after the year 9999; [`PkiError::Random`] or [`PkiError::Make`] when the system fails.
    pub fn create(trust_domain: &str, random: Arc<dyn Random>, now_ms: u64, life_s: u64) -> Result<Self, PkiError> {
        let validity = Validity::new(now_ms, life_s, u64::MAX)?;
        let pair = Pair::generate()?;
        let mut params = authority_params(trust_domain, &*random)?;
        validity.apply(&mut params);
        params.serial_number = Some(serial(&*random)?);
        let certificate = params.self_signed(pair.key()).map_err(|_| PkiError::Make)?;
        Ok(Self {
            trust_domain: trust_domain.to_owned(),
            not_after_ms: validity.end_ms(),
            cert_pem: certificate.pem(),
            issuer: Issuer::new(params, pair),
            random,
        })
    }

    /// Generates a key for an authority under an outside root, and the request (PKCS#10, PEM) for the owner of that
    /// root to sign. It asks for a certificate authority with path length 0 that may sign certificates and lists.
    ///
    /// # Errors
    /// [`PkiError::TrustDomain`] when the name is not a SPIFFE trust domain; [`PkiError::Random`] or [`PkiError::Make`]
    /// when the system fails.
    pub fn request(trust_domain: &str, random: &dyn Random) -> Result<(SecretBytes, String), PkiError> {
        let pair = Pair::generate()?;
        let request = authority_params(trust_domain, random)?.serialize_request(pair.key());
        let pem = request.and_then(|request| request.pem()).map_err(|_| PkiError::Make)?;
        Ok((pair.pkcs8(), pem))
    }

    /// Checks the answer to a [`request`](Self::request). `chain_pem` holds the authority's certificate, the
    /// intermediates and the root, in this order. Returns the authority's certificate and the rest of the chain, in
    /// PEM.
    ///
    /// # Errors
    /// [`PkiError::Chain`] says what is wrong: the text is not a chain, a signature does not verify, a link is not an
    /// authority or may not sign, a certificate is not valid at `now_ms`, or the first one is for another key.
    pub fn import(chain_pem: &str, key_der: &SecretBytes, now_ms: u64) -> Result<(String, String), PkiError> {
        let chain: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| PkiError::Chain("it must hold certificates in PEM"))?;
        if !(2..=MAX_CHAIN).contains(&chain.len()) {
            return Err(PkiError::Chain(
                "it must hold 2 to 8 certificates: the authority's, the intermediates and the root",
            ));
        }
        let mut parsed = Vec::with_capacity(chain.len());
        for (below, der) in (0u32..).zip(&chain) {
            let (rest, link) = X509Certificate::from_der(der).map_err(|_| PkiError::Chain("malformed certificate"))?;
            if !rest.is_empty() || !link.is_ca() {
                return Err(PkiError::Chain("a certificate in it is not a certificate authority"));
            }
            // RFC 5280 section 4.2.1.9: this many authorities may follow below it.
            let room = link.basic_constraints().ok().flatten().and_then(|found| found.value.path_len_constraint);
            if room.is_some_and(|room| room < below) {
                return Err(PkiError::Chain(
                    "the path length of a certificate in it allows no authority this far below",
                ));
            }
            let signs = link.key_usage().ok().flatten().is_some_and(|usage| usage.value.key_cert_sign());
            if !signs {
                return Err(PkiError::Chain("a certificate in it may not sign certificates"));
            }
            let (from, to) = (link.validity().not_before.timestamp(), link.validity().not_after.timestamp());
            let now_s = i64::try_from(now_ms / 1_000).unwrap_or(i64::MAX);
            if now_s < from || now_s >= to {
                return Err(PkiError::Chain("a certificate in it is not valid now"));
            }
            parsed.push(link);
        }
        // Checked before the root's owner is trusted any further: names alone can be copied.
        for pair in parsed.windows(2) {
            let [link, above] = pair else { continue };
            let signed = link.verify_signature(Some(above.public_key())).is_ok();
            if !signed || link.issuer().as_raw() != above.subject().as_raw() {
                return Err(PkiError::Chain("a certificate in it is not signed by the next one"));
            }
        }
        let own = Pair::from_pkcs8(key_der)?;
        // Whoever answers the request must certify our key, or the vault could not use the authority.
        let fits = parsed
            .first()
            .is_some_and(|first| first.public_key().subject_public_key.data.as_ref() == own.key().public_key_raw());
        if !fits {
            return Err(PkiError::Chain("the first certificate is not for the request that was made"));
        }
        let pem = |der: &CertificateDer<'_>| super::issue::pem_certificate(der);
        let above = chain.iter().skip(1).map(pem).collect();
        Ok((chain.first().map(pem).unwrap_or_default(), above))
    }

    /// Loads a stored authority. Serial numbers come from the operating system's random source.
    ///
    /// # Errors
    /// [`PkiError::Damaged`] if the certificate or the key cannot be parsed, the certificate is not an authority or
    /// names no trust domain, or the key belongs to another certificate.
    pub fn from_parts(cert_pem: &str, key_der: &SecretBytes) -> Result<Self, PkiError> {
        Self::load(cert_pem, key_der, None)
    }

    /// As [`from_parts`](Self::from_parts), for an authority of `trust_domain`. An outside root may have left that name
    /// out of the certificate.
    ///
    /// # Errors
    /// As [`from_parts`](Self::from_parts).
    pub fn of_domain(cert_pem: &str, key_der: &SecretBytes, trust_domain: &str) -> Result<Self, PkiError> {
        Self::load(cert_pem, key_der, Some(root_id(trust_domain).map(|_| trust_domain)?))
    }

    fn load(cert_pem: &str, key_der: &SecretBytes, trust_domain: Option<&str>) -> Result<Self, PkiError> {
        let der = CertificateDer::from_pem_slice(cert_pem.as_bytes()).map_err(|_| PkiError::Damaged("certificate"))?;
        let (rest, parsed) = X509Certificate::from_der(&der).map_err(|_| PkiError::Damaged("certificate"))?;
        if !rest.is_empty() || !parsed.is_ca() {
            return Err(PkiError::Damaged("certificate is not an authority"));
        }
        let trust_domain = trust_domain.map(str::to_owned).or_else(|| authority_domain(&parsed));
        let trust_domain = trust_domain.ok_or(PkiError::Damaged("certificate names no trust domain"))?;
        let pair = Pair::from_pkcs8(key_der)?;
        if parsed.public_key().subject_public_key.data.as_ref() != pair.key().public_key_raw() {
            return Err(PkiError::Damaged("key does not match the certificate"));
        }
        let not_after_ms = u64::try_from(parsed.validity().not_after.timestamp())
            .map_err(|_| PkiError::Damaged("certificate"))?
            .saturating_mul(1000);
        let issuer = Issuer::from_ca_cert_der(&der, pair).map_err(|_| PkiError::Damaged("certificate"))?;
        Ok(Self { trust_domain, not_after_ms, issuer, random: Arc::new(SystemRandom), cert_pem: cert_pem.to_owned() })
    }

    /// The authority's certificate in PEM, which is public.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The authority's private key in PKCS#8, for sealing.
    pub fn key_pkcs8(&self) -> SecretBytes {
        self.issuer.key().pkcs8()
    }

    /// The only trust domain that this authority certifies.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// Unix milliseconds at which the authority and all its certificates expire.
    pub fn not_after_ms(&self) -> u64 {
        self.not_after_ms
    }
}

/// The fields of an authority's certificate: names, usages, and a subject that no other authority has.
fn authority_params(trust_domain: &str, random: &dyn Random) -> Result<CertificateParams, PkiError> {
    let root = root_id(trust_domain)?;
    let mut params = CertificateParams::default();
    // A domain name may be longer than the 64 characters that X.520 allows for a common name. The URI name is exact.
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Strongroom");
    // Authorities of a vault never share a subject, so the issuer's name in a certificate identifies the authority.
    let mut unit = [0; 8];
    random.fill(&mut unit).map_err(|_| PkiError::Random)?;
    params.distinguished_name.push(DnType::OrganizationalUnitName, format!("authority {}", hex(&unit)));
    params.distinguished_name.push(DnType::CommonName, root.chars().take(64).collect::<String>());
    params.subject_alt_names = vec![rcgen::SanType::URI(root.as_str().try_into().map_err(|_| PkiError::TrustDomain)?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// `spiffe://<trust-domain>`, the name of the authority itself (SPIFFE X.509-SVID section 2: no path).
fn root_id(trust_domain: &str) -> Result<String, PkiError> {
    // The strict parser requires a path. With any path it checks the domain by the one rule that exists.
    match SpiffeId::new(trust_domain, "server") {
        Ok(id) if id.trust_domain() == trust_domain => Ok(format!("spiffe://{trust_domain}")),
        _ => Err(PkiError::TrustDomain),
    }
}

fn authority_domain(parsed: &X509Certificate<'_>) -> Option<String> {
    let names = parsed.subject_alternative_name().ok()??;
    match names.value.general_names.as_slice() {
        [GeneralName::URI(uri)] => {
            let domain = uri.strip_prefix("spiffe://")?;
            root_id(domain).ok()?;
            Some(domain.to_owned())
        }
        _ => None,
    }
}

/// 159 random bits: positive, never zero, at most 20 octets (RFC 5280 section 4.1.2.2).
pub(super) fn serial(random: &dyn Random) -> Result<SerialNumber, PkiError> {
    let mut bytes = [0u8; 20];
    random.fill(&mut bytes).map_err(|_| PkiError::Random)?;
    // A clear top bit keeps it positive. A set second bit gives all serials the same length.
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// Validity period of a certificate, in whole Unix seconds.
pub(super) struct Validity {
    start_s: u64,
    end_s: u64,
}

impl Validity {
    /// From five minutes before `now_ms` until `life_s` seconds after it, but not beyond `limit_ms`.
    pub(super) fn new(now_ms: u64, life_s: u64, limit_ms: u64) -> Result<Self, PkiError> {
        let end_s = (now_ms / 1000).checked_add(life_s).ok_or(PkiError::Life)?.min(limit_ms / 1000);
        if life_s == 0 || end_s > LAST_S || end_s * 1000 <= now_ms {
            return Err(PkiError::Life);
        }
        Ok(Self { start_s: now_ms.saturating_sub(BACKDATE_MS) / 1000, end_s })
    }

    pub(super) fn end_ms(&self) -> u64 {
        self.end_s * 1000
    }

    pub(super) fn apply(&self, params: &mut CertificateParams) {
        let epoch = rcgen::date_time_ymd(1970, 1, 1);
        params.not_before = epoch + Duration::from_secs(self.start_s);
        params.not_after = epoch + Duration::from_secs(self.end_s);
    }
}
