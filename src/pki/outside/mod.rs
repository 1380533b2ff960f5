//! Certificates of outside PKIs: reads what they say, with limits and without ambiguity.
//!
//! Such a certificate never names an identity of this vault by itself. A role of `auth/cert` decides what its facts
//! allow. This module only reads them, and rejects certificates that are not clearly meant for clients.

mod chain;
#[cfg(feature = "testing")]
pub(crate) mod fuzz;
mod list;

use std::collections::BTreeMap;

use x509_parser::asn1_rs::{Any, Tag};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521, OID_PKCS1_RSAENCRYPTION,
    OID_SIG_ED25519,
};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

use super::peer::MAX_CERT_BYTES;
use crate::api::hex::hex;
use crate::crypto::hash::sha256;

pub use chain::{MAX_CHAIN, issued_under};
pub use list::{CertificateName, ListError, MAX_LIST_BYTES, RevocationList, decimal, signed_by};

/// Largest number of alternative names, organizational units or extensions of one certificate.
const MAX_ITEMS: usize = 64;
/// Longest text accepted from a certificate, in bytes.
const MAX_TEXT: usize = 2048;
/// Longest serial number in bytes (RFC 5280, 4.1.2.2: 20, and a zero that keeps it positive).
const MAX_SERIAL: usize = 21;

/// Why an outside certificate is rejected. Carries nothing from the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OutsideError {
    /// The bytes are not a certificate in DER, are larger than [`MAX_CERT_BYTES`], are followed by other bytes, or have
    /// a part that cannot be parsed or occurs twice.
    #[error("the certificate is malformed")]
    Malformed,
    /// It has more names, units, extensions or text than any honest certificate.
    #[error("the certificate has too many or too long parts")]
    TooMuch,
    /// A client's certificate must not be able to sign certificates.
    #[error("the certificate belongs to an authority, not to a client")]
    Authority,
    /// An authority's certificate must be able to sign certificates.
    #[error("the certificate does not belong to an authority")]
    NotAuthority,
    /// The key usage lacks digitalSignature, or the extended key usage lacks clientAuth.
    #[error("the certificate is not for client authentication")]
    Usage,
    /// An RSA key under 2,048 or over 8,192 bits, or a key that is neither RSA, P-256, P-384, P-521 nor Ed25519.
    #[error("the certificate's key is too weak or of an unknown kind")]
    Key,
    /// There are two common names, or a name has control characters.
    #[error("the certificate has ambiguous names")]
    Names,
    /// A critical extension is unknown here. RFC 5280, 4.2 requires to reject the certificate then.
    #[error("the certificate has an unknown critical extension")]
    Critical,
    /// The dates are before 1970 or in the wrong order.
    #[error("the certificate has invalid dates")]
    Dates,
}

/// Kind and strength of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// RSA with a modulus of this many bits, 2,048 to 8,192.
    Rsa(u32),
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// ECDSA on P-521.
    P521,
    /// Ed25519.
    Ed25519,
}

/// One extension of a certificate, in the two forms that a role can match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtensionValue {
    /// The content if the value is one ASN.1 string (UTF8String, PrintableString, IA5String, NumericString); otherwise
    /// empty.
    pub text: String,
    /// The whole value in lower-case hexadecimal.
    pub hex: String,
}

/// The facts of a client certificate of an outside PKI.
///
/// They are only what the certificate claims. [`issued_under`], or a comparison of [`der`](Self::der), proves that a
/// trusted authority issued it. TLS proves that the peer holds the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutsideFacts {
    /// Common name of the subject.
    pub common_name: Option<String>,
    /// Organizational units of the subject.
    pub organizational_units: Vec<String>,
    /// DNS names.
    pub dns_names: Vec<String>,
    /// Mail addresses.
    pub email_names: Vec<String>,
    /// URIs.
    pub uris: Vec<String>,
    /// Extensions by object identifier in dotted decimal form.
    pub extensions: BTreeMap<String, ExtensionValue>,
    /// Serial number in decimal digits, as Vault's login shows it.
    pub serial_number: String,
    /// Serial number as hexadecimal bytes with colons, as PKIs show it.
    pub serial_hex: String,
    /// Subject key identifier as hexadecimal bytes with colons; empty if absent.
    pub subject_key_id: String,
    /// Authority key identifier in the same form.
    pub authority_key_id: String,
    /// Kind and strength of the key.
    pub key: KeyKind,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub key_fingerprint: [u8; 32],
    /// SHA-256 of [`der`](Self::der).
    pub fingerprint: [u8; 32],
    /// Valid from, Unix milliseconds.
    pub not_before_ms: u64,
    /// Valid until, Unix milliseconds.
    pub not_after_ms: u64,
    /// The certificate, DER.
    pub der: Vec<u8>,
    /// The certificates that the client sent after it, in that order. Nothing in them is proved.
    pub chain: Vec<Vec<u8>>,
}

/// The facts of an authority of an outside PKI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutsideAuthority {
    /// The subject's name, DER.
    pub subject: Vec<u8>,
    /// SHA-256 of the SubjectPublicKeyInfo.
    pub key_fingerprint: [u8; 32],
    /// Kind and strength of the key.
    pub key: KeyKind,
    /// Valid from, Unix milliseconds.
    pub not_before_ms: u64,
    /// Valid until, Unix milliseconds.
    pub not_after_ms: u64,
}

impl OutsideFacts {
    /// Reads the leaf `der`. `chain` holds what the client sent after it.
    ///
    /// Any bytes give facts or an error. Checks no date, signature or chain.
    ///
    /// # Errors
    /// See [`OutsideError`]. [`OutsideError::TooMuch`] also for a chain of more than [`MAX_CHAIN`] certificates, or
    /// with a certificate larger than [`MAX_CERT_BYTES`].
    pub fn read(der: &[u8], chain: &[&[u8]]) -> Result<Self, OutsideError> {
        // The client chose these bytes, so their number and size are limited before anything is parsed or copied.
        if chain.len() > MAX_CHAIN || chain.iter().any(|link| link.len() > MAX_CERT_BYTES) {
            return Err(OutsideError::TooMuch);
        }
        let parsed = parse(der)?;
        for_clients(&parsed)?;
        let key = key_kind(parsed.public_key())?;
        let (not_before_ms, not_after_ms) = dates(&parsed)?;
        let mut facts = Self {
            common_name: common_name(parsed.subject())?,
            organizational_units: units(parsed.subject())?,
            dns_names: Vec::new(),
            email_names: Vec::new(),
            uris: Vec::new(),
            extensions: extensions(&parsed)?,
            serial_number: parsed.serial.to_string(),
            serial_hex: colons(&parsed.serial.to_bytes_be()),
            subject_key_id: String::new(),
            authority_key_id: String::new(),
            key,
            key_fingerprint: sha256(&[parsed.public_key().raw]),
            fingerprint: sha256(&[der]),
            not_before_ms,
            not_after_ms,
            der: der.to_vec(),
            chain: chain.iter().map(|link| link.to_vec()).collect(),
        };
        facts.take_names(&parsed)?;
        for extension in parsed.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => facts.subject_key_id = key_id(id.0)?,
                ParsedExtension::AuthorityKeyIdentifier(id) => {
                    facts.authority_key_id =
                        id.key_identifier.as_ref().map_or_else(|| Ok(String::new()), |id| key_id(id.0))?;
                }
                _ => {}
            }
        }
        Ok(facts)
    }

    /// Whether the certificate is valid at `now_ms` (Unix milliseconds), by its dates alone.
    #[must_use]
    pub fn valid_at(&self, now_ms: u64) -> bool {
        (self.not_before_ms..=self.not_after_ms).contains(&now_ms)
    }

    fn take_names(&mut self, parsed: &X509Certificate<'_>) -> Result<(), OutsideError> {
        let Some(names) = parsed.subject_alternative_name().map_err(|_| OutsideError::Malformed)? else {
            return Ok(());
        };
        if names.value.general_names.len() > MAX_ITEMS {
            return Err(OutsideError::TooMuch);
        }
        for name in &names.value.general_names {
            match name {
                GeneralName::DNSName(text) => self.dns_names.push(ascii(text)?),
                GeneralName::RFC822Name(text) => self.email_names.push(ascii(text)?),
                GeneralName::URI(text) => self.uris.push(ascii(text)?),
                GeneralName::Invalid(..) => return Err(OutsideError::Malformed),
                // Addresses, directory names and other kinds: no role can match them.
                _ => {}
            }
        }
        Ok(())
    }
}

impl OutsideAuthority {
    /// Reads the certificate of an authority. Any bytes give facts or an error.
    ///
    /// # Errors
    /// [`OutsideError::NotAuthority`] without the CA flag, or with a key usage that lacks keyCertSign. Otherwise as
    /// [`OutsideFacts::read`].
    pub fn read(der: &[u8]) -> Result<Self, OutsideError> {
        let parsed = parse(der)?;
        let constraints = parsed.basic_constraints().map_err(|_| OutsideError::Malformed)?;
        let usage = parsed.key_usage().map_err(|_| OutsideError::Malformed)?;
        if !constraints.is_some_and(|found| found.value.ca) || usage.is_some_and(|found| !found.value.key_cert_sign()) {
            return Err(OutsideError::NotAuthority);
        }
        let (not_before_ms, not_after_ms) = dates(&parsed)?;
        // If the listener rejected one root, it could not accept any later change either.
        if !chain::is_root(der) {
            return Err(OutsideError::Malformed);
        }
        Ok(Self {
            subject: parsed.subject().as_raw().to_vec(),
            key_fingerprint: sha256(&[parsed.public_key().raw]),
            key: key_kind(parsed.public_key())?,
            not_before_ms,
            not_after_ms,
        })
    }
}

/// Returns subject (DER) and key fingerprint of any certificate, to compare it with an authority. `None` when it cannot
/// be parsed.
#[must_use]
pub fn subject_and_key(der: &[u8]) -> Option<(Vec<u8>, [u8; 32])> {
    let parsed = parse(der).ok()?;
    Some((parsed.subject().as_raw().to_vec(), sha256(&[parsed.public_key().raw])))
}

/// Whether a certificate has the CA flag; `None` when it cannot be parsed.
#[must_use]
pub fn is_authority(der: &[u8]) -> Option<bool> {
    let parsed = parse(der).ok()?;
    Some(parsed.basic_constraints().ok()?.is_some_and(|found| found.value.ca))
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, OutsideError> {
    if der.len() > MAX_CERT_BYTES {
        return Err(OutsideError::Malformed);
    }
    let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| OutsideError::Malformed)?;
    // One reader could use a second copy of an extension that another one skips (RFC 5280 section 4.2).
    if !rest.is_empty() || parsed.extensions_map().is_err() {
        return Err(OutsideError::Malformed);
    }
    let serial = parsed.raw_serial();
    let negative = serial.first().is_none_or(|byte| byte & 0x80 != 0);
    if negative || serial.len() > MAX_SERIAL {
        return Err(OutsideError::Malformed);
    }
    for extension in parsed.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::ParseError { .. } => return Err(OutsideError::Malformed),
            ParsedExtension::UnsupportedExtension { .. } | ParsedExtension::Unparsed if extension.critical => {
                return Err(OutsideError::Critical);
            }
            _ => {}
        }
    }
    Ok(parsed)
}

fn for_clients(parsed: &X509Certificate<'_>) -> Result<(), OutsideError> {
    let constraints = parsed.basic_constraints().map_err(|_| OutsideError::Malformed)?;
    if constraints.is_some_and(|found| found.value.ca) {
        return Err(OutsideError::Authority);
    }
    if let Some(usage) = parsed.key_usage().map_err(|_| OutsideError::Malformed)? {
        if usage.value.key_cert_sign() || usage.value.crl_sign() {
            return Err(OutsideError::Authority);
        }
        if !usage.value.digital_signature() {
            return Err(OutsideError::Usage);
        }
    }
    let extended = parsed.extended_key_usage().map_err(|_| OutsideError::Malformed)?;
    // anyExtendedKeyUsage does not count, as in webpki. It was never meant for this vault.
    if extended.is_some_and(|found| !found.value.client_auth) {
        return Err(OutsideError::Usage);
    }
    Ok(())
}

fn key_kind(spki: &SubjectPublicKeyInfo<'_>) -> Result<KeyKind, OutsideError> {
    let kind = &spki.algorithm.algorithm;
    if *kind == OID_SIG_ED25519 {
        return Ok(KeyKind::Ed25519);
    }
    if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve =
            spki.algorithm.parameters.as_ref().and_then(|found| found.as_oid().ok()).ok_or(OutsideError::Key)?;
        return [(OID_EC_P256, KeyKind::P256), (OID_NIST_EC_P384, KeyKind::P384), (OID_NIST_EC_P521, KeyKind::P521)]
            .into_iter()
            .find_map(|(oid, kind)| (oid == curve).then_some(kind))
            .ok_or(OutsideError::Key);
    }
    if *kind == OID_PKCS1_RSAENCRYPTION
        && let Ok(PublicKey::RSA(key)) = spki.parsed()
    {
        let significant = key.modulus.iter().skip_while(|byte| **byte == 0);
        let bits = significant.clone().next().map_or(0, |first| 8 - first.leading_zeros())
            + 8 * u32::try_from(significant.count().saturating_sub(1)).unwrap_or(u32::MAX / 8 - 1);
        if (2048..=8192).contains(&bits) {
            return Ok(KeyKind::Rsa(bits));
        }
    }
    Err(OutsideError::Key)
}

fn dates(parsed: &X509Certificate<'_>) -> Result<(u64, u64), OutsideError> {
    let ms = |seconds: i64| u64::try_from(seconds).ok().and_then(|s| s.checked_mul(1000)).ok_or(OutsideError::Dates);
    let from = ms(parsed.validity().not_before.timestamp())?;
    let until = ms(parsed.validity().not_after.timestamp())?;
    if until < from { Err(OutsideError::Dates) } else { Ok((from, until)) }
}

fn common_name(subject: &X509Name<'_>) -> Result<Option<String>, OutsideError> {
    let mut found = subject.iter_common_name();
    let first = found.next();
    if found.next().is_some() {
        // Libraries differ in which of several common names they use.
        return Err(OutsideError::Names);
    }
    first.map(|name| name.as_str().map_err(|_| OutsideError::Names).and_then(plain)).transpose()
}

fn units(subject: &X509Name<'_>) -> Result<Vec<String>, OutsideError> {
    let mut units = Vec::new();
    for unit in subject.iter_organizational_unit() {
        if units.len() == MAX_ITEMS {
            return Err(OutsideError::TooMuch);
        }
        units.push(unit.as_str().map_err(|_| OutsideError::Names).and_then(plain)?);
    }
    Ok(units)
}

fn extensions(parsed: &X509Certificate<'_>) -> Result<BTreeMap<String, ExtensionValue>, OutsideError> {
    if parsed.extensions().len() > MAX_ITEMS {
        return Err(OutsideError::TooMuch);
    }
    let values = parsed.extensions().iter().map(|extension| {
        let hex = hex(extension.value);
        (extension.oid.to_id_string(), ExtensionValue { text: string_value(extension.value).unwrap_or_default(), hex })
    });
    Ok(values.collect())
}

/// Returns the content of the one DER string that fills `value`.
fn string_value(value: &[u8]) -> Option<String> {
    let (rest, any) = Any::from_der(value).ok()?;
    let text = [Tag::Utf8String, Tag::PrintableString, Tag::Ia5String, Tag::NumericString].contains(&any.tag());
    // Requires universal class and primitive form. A context tag with the same number means something else.
    let plain_tag = any.header.is_universal() && !any.header.is_constructed();
    if !rest.is_empty() || !text || !plain_tag {
        return None;
    }
    std::str::from_utf8(any.data).ok().map(str::to_owned)
}

fn plain(text: &str) -> Result<String, OutsideError> {
    if text.len() > MAX_TEXT {
        return Err(OutsideError::TooMuch);
    }
    if text.chars().any(char::is_control) { Err(OutsideError::Names) } else { Ok(text.to_owned()) }
}

fn ascii(text: &str) -> Result<String, OutsideError> {
    if text.is_ascii() { plain(text) } else { Err(OutsideError::Names) }
}

fn key_id(bytes: &[u8]) -> Result<String, OutsideError> {
    if bytes.len() > MAX_ITEMS { Err(OutsideError::TooMuch) } else { Ok(colons(bytes)) }
}

fn colons(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| hex(&[*byte])).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests;
